"""Random numbers that are a pure function of a name.

Every draw of the crowd comes from a stream keyed by a path such as ``("image", seed, "p17", camera, shot)``. No stream
is shared, so nothing depends on the order in which pictures are made or on the process that makes them.

What keeps the bytes the same on other machines and library versions:

- streams are SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014) in integer
  arithmetic, keyed by BLAKE2b; NumPy's and Python's generators are not used;
- normal deviates are sums of uniforms, which needs no logarithm;
- sines and other library functions are rounded to 2^-30 (:func:`rounded`), which hides the last bit, the only one in
  which mathematical libraries differ;
- matrix products whose order of additions a library may choose are avoided, or run on numbers for which every order
  is exact (:mod:`regard.crowd.camera.camera_pipeline`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

__all__ = ["Rng", "cos", "cosine", "rounded", "sin", "sine", "tabulate", "value_noise"]

T = TypeVar("T")

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
UNIT = 1.0 / (1 << 53)
GRID = 1073741824.0  # 2^30


class Rng:
    """A SplitMix64 stream named by a path of strings and integers.

    Args:
        path: the name; equal names give equal streams.
    """

    __slots__ = ("state",)

    def __init__(self, *path: str | int):
        name = "/".join(str(part) for part in path).encode(errors="surrogatepass")
        self.state = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")

    def bits(self) -> int:
        """Return the next 64 random bits."""
        self.state = (self.state + GOLDEN) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * MIX_1) & MASK
        z = ((z ^ (z >> 27)) * MIX_2) & MASK
        return z ^ (z >> 31)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * ((self.bits() >> 11) * UNIT)

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Return a roughly normal number: the sum of twelve uniforms, never more than six deviations off."""
        total = -6.0
        for _ in range(12):
            total += (self.bits() >> 11) * UNIT
        return mean + deviation * total

    def below(self, n: int) -> int:
        """Return an integer in [0, n)."""
        return int(self.uniform() * n)

    def chance(self, probability: float) -> bool:
        """Return true with the given probability."""
        return self.uniform() < probability

    def sign(self) -> int:
        """Return -1 or 1."""
        return self.choice((-1, 1))

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options, all alike."""
        return options[self.below(len(options))]

    def weighted(self, table: Sequence[tuple[T, float]]) -> T:
        """Return one value of a table of (value, weight)."""
        left = self.uniform() * sum(weight for _, weight in table)
        for value, weight in table:
            left -= weight
            if left < 0:
                return value
        return table[-1][0]

    def shuffled(self, items: Iterable[T]) -> list[T]:
        """Return the items in random order."""
        order = list(items)
        for i in range(len(order) - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order

    def hashes(self, count: int) -> np.ndarray:
        """Return (count,) uint64 of random bits; takes one draw from the stream."""
        z = np.arange(1, count + 1, dtype=np.uint64)
        z *= np.uint64(GOLDEN)
        z += np.uint64(self.bits())
        z ^= z >> np.uint64(30)
        z *= np.uint64(MIX_1)
        z ^= z >> np.uint64(27)
        z *= np.uint64(MIX_2)
        z ^= z >> np.uint64(31)
        return z

    def array(self, *shape: int) -> np.ndarray:
        """Return uniform float32 numbers in [0, 1)."""
        top = (self.hashes(math.prod(shape)) >> np.uint64(40)).astype(np.float32)
        return (top * np.float32(1.0 / (1 << 24))).reshape(shape)

    def grain(self, *shape: int) -> np.ndarray:
        """Return noise with a triangular distribution, mean 0 and variance 1, float32.

        Each number takes two bytes of a hash, so that a picture's worth of noise costs little.
        """
        count = math.prod(shape)
        pairs = self.hashes(-(-count // 4)).astype("<u8").view(np.uint8).reshape(-1, 2)[:count]
        total = pairs[:, 0].astype(np.float32) + pairs[:, 1]
        return ((total - np.float32(255.0)) * np.float32(1.0 / 104.5)).reshape(shape)


def rounded(value: float) -> float:
    """Round the result of a library function to a grid of 2^-30."""
    return math.floor(value * GRID + 0.5) / GRID


def sine(angle: float) -> float:
    """Return the sine of a number, rounded."""
    return rounded(math.sin(angle))


def cosine(angle: float) -> float:
    """Return the cosine of a number, rounded."""
    return rounded(math.cos(angle))


def tabulate(function: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Apply a library function to an array, each result rounded like :func:`rounded`; float64."""
    return np.floor(function(np.asarray(values, np.float64)) * GRID + 0.5) / GRID


def sin(angles: np.ndarray) -> np.ndarray:
    """Return the sines of an array, rounded."""
    return tabulate(np.sin, angles)


def cos(angles: np.ndarray) -> np.ndarray:
    """Return the cosines of an array, rounded."""
    return tabulate(np.cos, angles)


def value_noise(rng: Rng, size: tuple[int, int], cells: tuple[int, int], octaves: int) -> np.ndarray:
    """Return tileable noise in about [-1, 1], (height, width) float32.

    Args:
        rng: the stream to draw from, one draw per octave.
        size: height and width in texels.
        cells: bumps of the coarsest octave down and across; each further one has twice as many and half the strength.
        octaves: layers.
    """
    height, width = size
    total = np.zeros(size, np.float32)
    strength = 1.0
    for octave in range(octaves):
        rows, columns = (max(1, min(count << octave, side)) for count, side in zip(cells, size))
        knots = (rng.array(rows, columns) * 2 - 1) * np.float32(strength)
        y0, fy = positions(height, rows)
        x0, fx = positions(width, columns)
        left, right = knots[:, x0], knots[:, (x0 + 1) % columns]
        bands = left + (right - left) * fx
        top, bottom = bands[y0], bands[(y0 + 1) % rows]
        total += top + (bottom - top) * fy[:, None]
        strength *= 0.5
    return total / np.float32(2 - 2 * strength)


def positions(count: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each texel and its smoothed place within the cell, 0 to 1."""
    place = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / count)
    cell = np.minimum(np.floor(place), cells - 1)
    f = place - cell
    return cell.astype(np.intp), f * f * (3 - 2 * f)
