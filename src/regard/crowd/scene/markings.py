"""What is on the ground of the places of ``scenes.FURTHER``: colors, lines, stripes, kerbs, covers and patches.

Shapes: P places on the ground.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regard.crowd.color import linear
from regard.crowd.rng import Rng

__all__ = ["mark"]

LINES = ((226, 224, 214), (226, 190, 50), (190, 188, 180))
"""Colors of what is painted on roads."""


def mark(color: np.ndarray, along: np.ndarray, across: np.ndarray, rng: Rng) -> None:
    """Paint over a ground, in place.

    Args:
        color: (3, P) reflectance.
        along, across: (P,) meters along people's path and beside its middle.
        rng: stream of everything on it.
    """
    tint = [rng.uniform(0.75, 1.3) for _ in range(3)]
    level = rng.uniform(0.7, 1.8)
    color *= np.array([level * (0.5 + 0.5 * channel) for channel in tint], np.float32)[:, None]
    for paint, chance in KINDS:
        if rng.chance(chance):
            paint(color, along, across, rng)
    np.clip(color, 0.003, 0.95, out=color)


def put(color: np.ndarray, where: np.ndarray, rgb: tuple[float, float, float], strength: float) -> None:
    """Mix an sRGB color in where something is painted."""
    color[:, where] += np.float32(strength) * (linear(rgb)[:, None] - color[:, where])


def lines(color: np.ndarray, along: np.ndarray, across: np.ndarray, rng: Rng) -> None:
    """Paint one or two lines beside the path, at any angle to it."""
    slant, shift, rgb = rng.normal(0, 0.35), rng.uniform(-2.5, 2.5), rng.choice(LINES)
    place, wide = across + np.float32(slant) * along - np.float32(shift), rng.uniform(0.04, 0.09)
    for offset in (0.0, 0.24)[: 1 + rng.below(2)]:
        put(color, np.abs(place - np.float32(offset)) < wide, rgb, rng.uniform(0.5, 1.0))


def crossing(color: np.ndarray, along: np.ndarray, across: np.ndarray, rng: Rng) -> None:
    """Paint the stripes of a crossing."""
    start, deep, period = rng.uniform(-3, 1), rng.uniform(2.0, 3.5), rng.uniform(0.8, 1.2)
    first, second = (along, across) if rng.chance(0.5) else (across, along)
    place = second / np.float32(period)
    stripe = (place - np.floor(place) < 0.5) & (first > start) & (first < start + deep)
    put(color, stripe, LINES[0], rng.uniform(0.5, 0.95))


def kerb(color: np.ndarray, along: np.ndarray, across: np.ndarray, rng: Rng) -> None:
    """Paint a kerb and the other pavement beyond it."""
    place = across + np.float32(rng.normal(0, 0.25)) * along - np.float32(rng.sign() * rng.uniform(0.3, 2.5))
    color[:, place > 0] *= np.array([rng.uniform(0.55, 1.6)] * 3, np.float32)[:, None]
    put(color, np.abs(place) < rng.uniform(0.06, 0.15), (186, 182, 172), 0.8)
    color[:, np.abs(place - 0.16) < 0.03] *= np.float32(0.5)


def verge(color: np.ndarray, along: np.ndarray, across: np.ndarray, rng: Rng) -> None:
    """Paint a lawn or bare earth on one side of a line."""
    place = across + np.float32(rng.normal(0, 0.5)) * along - np.float32(rng.sign() * rng.uniform(0.2, 2.0))
    rgb = rng.choice(((74, 104, 40), (92, 118, 52), (104, 110, 56), (128, 104, 76), (70, 92, 34)))
    grass = place > 0
    noise = rng.array(64, 64)
    row, column = (np.floor(v[grass] * np.float32(13)).astype(np.intp) % 64 for v in (along, across))
    color[:, grass] = linear(rgb)[:, None] * (np.float32(0.6) + np.float32(0.8) * noise[row, column])


def slabs(color: np.ndarray, along: np.ndarray, across: np.ndarray, rng: Rng) -> None:
    """Paint a grid of dark joints or of bright bands over everything."""
    size, wide, factor = rng.uniform(0.4, 2.5), rng.uniform(0.02, 0.06), rng.choice((0.6, 0.75, 1.4))
    for axis in (along, across):
        place = axis / np.float32(size)
        color[:, np.abs(place - np.round(place)) < wide / size] *= np.float32(factor)


def covers(color: np.ndarray, along: np.ndarray, across: np.ndarray, rng: Rng) -> None:
    """Paint manhole covers, patches and puddles."""
    for _ in range(1 + rng.below(5)):
        x, z, size, factor = rng.uniform(-3, 3), rng.uniform(-5, 5), rng.uniform(0.2, 1.1), rng.uniform(0.4, 1.5)
        if rng.chance(0.5):
            where = (across - x) ** 2 + (along - z) ** 2 < size * size
        else:
            where = (np.abs(across - x) < size) & (np.abs(along - z) < 1.4 * size)
        color[:, where] *= np.float32(factor)


Paint = Callable[[np.ndarray, np.ndarray, np.ndarray, Rng], None]
KINDS: tuple[tuple[Paint, float], ...] = (
    (slabs, 0.2), (kerb, 0.45), (verge, 0.35), (covers, 0.5), (crossing, 0.2), (lines, 0.45), (lines, 0.3),
)  # fmt: skip
"""What may be there, in this order, and how often."""
