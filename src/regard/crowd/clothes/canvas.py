"""The texture of one body part while it is being painted, and the patterns and prints that may be on it.

Shapes: (R, C) texels along and around the part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regard.crowd.color import linear
from regard.crowd.identity_types import Pattern
from regard.crowd.rng import Rng, value_noise

__all__ = ["LABELS", "WOVEN", "Canvas", "bump", "pattern_weight", "stamp"]

LABELS = {
    part: value
    for value, part in enumerate(["background", "face", "hair", "upper", "arm", "lower", "leg", "shoe", "bag"])
}
"""Values of the person masks: 0 is nobody, everything else the person, split by part; a hat counts as hair."""
WOVEN = frozenset({"hstripes", "vstripes", "plaid", "dots", "camo"})
"""Patterns that cover a garment evenly."""

FONT = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 30, 17, 17, 17, 30),
    "E": (31, 16, 30, 16, 16, 16, 31),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "K": (17, 18, 20, 24, 20, 18, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "S": (15, 16, 14, 1, 1, 17, 14),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "X": (17, 10, 4, 4, 4, 10, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "7": (31, 1, 2, 4, 4, 8, 8),
    "3": (30, 1, 14, 1, 1, 17, 14),
    "9": (14, 17, 17, 15, 1, 17, 14),
    "M": (17, 27, 21, 17, 17, 17, 17),
}
"""Letters as rows of five bits."""
LETTERS = sorted(FONT)


class Canvas:
    """A texture in linear reflectance, its labels, and which of it is there at all.

    Args:
        rng: stream of the fabric's grain.
        rows, columns: texels along the part and around it.
        side: 1 for a part on the left, -1 for one on the right.

    Attributes:
        v: (R, 1) place along the part, 0 to 1.
        angle: (1, C) place around it in radians: 0 in front, positive to the left.
        away: absolute value of ``angle``.
        color: (3, R, C) float32.
        labels: (R, C) uint8.
        alive: (R, C) bool.
    """

    def __init__(self, rng: Rng, rows: int, columns: int, side: int = 1):
        self.rng, self.side = rng, side
        turn = (np.arange(columns, dtype=np.float32) + np.float32(0.5)) / np.float32(columns)
        self.v = ((np.arange(rows, dtype=np.float32) + np.float32(0.5)) / np.float32(rows))[:, None]
        self.angle = (np.where(turn > 0.5, turn - 1, turn) * np.float32(2 * np.pi))[None]
        self.away = np.abs(self.angle)
        self.color = np.empty((3, rows, columns), np.float32)
        self.labels = np.zeros((rows, columns), np.uint8)
        self.alive = np.ones((rows, columns), bool)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (R, C), texels along and around the part."""
        return self.labels.shape[0], self.labels.shape[1]

    def fill(self, color: np.ndarray | Sequence[float], label: str) -> None:
        """Cover everything with one linear color."""
        self.color[:] = np.asarray(color, np.float32)[:, None, None]
        self.labels[:] = LABELS[label]

    def put(self, where: np.ndarray, color: np.ndarray | Sequence[float], label: str | None = None) -> None:
        """Cover a region with one linear color."""
        where = np.broadcast_to(where, self.shape)
        for channel, value in zip(self.color, np.asarray(color, np.float32)):
            np.copyto(channel, value, where=where)
        if label is not None:
            self.labels[where] = LABELS[label]

    def blend(self, weight: np.ndarray, color: np.ndarray | Sequence[float]) -> None:
        """Mix in one linear color by a weight from 0 to 1."""
        weight = np.asarray(weight, np.float32)
        for channel, value in zip(self.color, np.asarray(color, np.float32)):
            channel += weight * (value - channel)

    def shade(self, factor: np.ndarray | float, where: np.ndarray | None = None) -> None:
        """Make everything, or a region, darker or lighter by a factor."""
        factor = np.asarray(factor, np.float32)
        self.color *= factor if where is None else np.where(where, factor, np.float32(1))

    def weave(self, amount: float = 0.05) -> None:
        """Give the fabric its grain."""
        rows, columns = self.shape
        grain = value_noise(self.rng, self.shape, (max(2, rows // 6), max(2, columns // 6)), 2)
        grain *= np.float32(amount)
        grain += np.float32(0.025) * (self.rng.array(rows, columns) - np.float32(0.5)) + 1
        self.color *= grain

    def put_srgb(self, where: np.ndarray, rgb: Sequence[float], label: str | None = None) -> None:
        """Cover a region with one sRGB color."""
        self.put(where, linear(rgb), label)


def bump(x: np.ndarray, center: float, width: float) -> np.ndarray:
    """Return a tent that is 1 at ``center`` and 0 beyond ``width``."""
    return np.clip(1 - np.abs(x - center) / width, 0, 1)


def fraction(x: np.ndarray) -> np.ndarray:
    """Return the fractional parts."""
    return x - np.floor(x)


def pattern_weight(pattern: Pattern, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the share of the second color at ``x`` around the garment (1, C) and height ``y`` (R, 1); meters."""
    period = pattern.period
    if pattern.kind == "hstripes":
        return fraction(y / period + pattern.phase) < pattern.duty
    if pattern.kind == "vstripes":
        return fraction(x / (period * 0.8) + 0.5 * pattern.duty) < pattern.duty
    if pattern.kind == "plaid":
        rows, columns = fraction(y / period + pattern.phase) < 0.45, fraction(x / period + 0.22) < 0.45
        return 0.5 * rows + 0.5 * columns
    if pattern.kind == "dots":
        size = period * 0.9
        shift = 0.5 * (np.floor(y / size) % 2)
        a, b = fraction(x / size + shift) - 0.5, fraction(y / size) - 0.5
        return a * a + b * b < (0.16 + 0.2 * pattern.duty) ** 2
    blotches = value_noise(Rng("camo", pattern.key), (64, 64), (9, 9), 2)
    row, column = (np.floor(a * (64 / 0.62)).astype(np.intp) % 64 for a in (y, x))
    depth = blotches[row, column]
    return np.where(depth > 0.12, 1.0, np.where(depth < -0.22, 0.45, 0.0))


def stamp(kind: str, shape: int, key: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a print that fills the unit square around the origin.

    Args:
        kind: ``"text"``, ``"photo"`` or a plain shape.
        shape: which plain shape, 0 to 5.
        key: names the stream of letters and blotches.
        x, y: places, in multiples of the print's size.

    Returns:
        Where its first and its second color are, bool.
    """
    inside = (np.abs(x) < 0.5) & (np.abs(y) < 0.5)
    rng = Rng("stamp", key)
    if kind == "text":
        return inside & lettering(rng, x + 0.5, y + 0.5), inside & False
    if kind == "photo":
        row, column = (np.clip(((a + 0.5) * 7).astype(np.intp), 0, 6) for a in (y, x))
        return inside & (rng.array(7, 7) > 0.5)[row, column], inside & (rng.array(7, 7) > 0.62)[row, column]
    radius = x * x + y * y
    shapes = (
        (radius < 0.25, radius < 0.078),
        (inside, inside & (np.abs(y) < 0.16)),
        (inside & (np.abs(x) < 0.5 * (0.5 - y)), inside & False),
        (np.abs(x) + np.abs(y) < 0.5, np.abs(x) + np.abs(y) < 0.25),
        (inside & ((np.abs(x) < 0.15) | (np.abs(y) < 0.15)), inside & False),
        (inside & (np.floor((y + 0.5) * 5) % 2 == 0), inside & False),
    )
    return shapes[shape]


def lettering(rng: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a word of two to four letters that fills the unit square."""
    word = [FONT[rng.choice(LETTERS)] for _ in range(2 + rng.below(3))]
    bits = np.array([[[(row >> (4 - column)) & 1 for column in range(5)] + [0] for row in letter] for letter in word])
    place = x * len(word)
    letter = np.clip(np.floor(place), 0, len(word) - 1).astype(np.intp)
    column = np.clip(np.floor((place - letter) * 6), 0, 5).astype(np.intp)
    row = np.clip(np.floor((1 - y) * 7), 0, 6).astype(np.intp)
    return bits[letter, row, column] > 0
