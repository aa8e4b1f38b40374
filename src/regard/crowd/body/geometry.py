"""Vectors, frames and tubes.

Shapes: F frames (poses computed at once), R rings of a tube, C points around a ring. Vectors keep their three
components first, (3, F) or (3, F, R), in meters; x is the person's left, y up, z forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from regard.crowd.rng import cos, sin, tabulate

__all__ = ["axis", "cross", "dot", "profile", "puff", "ring", "ring_offsets", "tilt", "turn", "unit"]


def axis(x: float, y: float, z: float) -> np.ndarray:
    """Return a constant vector; (3, 1)."""
    return np.array([[x], [y], [z]])


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the scalar product; (3, ...) and (3, ...) to (...)."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the vector product; (3, ...) and (3, ...) to (3, ...)."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def unit(a: np.ndarray) -> np.ndarray:
    """Return the vector at length 1."""
    return a / np.sqrt(dot(a, a) + 1e-18)


def tilt(angle: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Turn about the x axis, forward for a positive angle; angle (F,), v (3, F) or (3, 1)."""
    c, s = cos(angle), sin(angle)
    return np.stack(np.broadcast_arrays(v[0], c * v[1] - s * v[2], s * v[1] + c * v[2]))


def turn(angle: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Turn about the y axis, to the left for a positive angle; angle (F,), v (3, F) or (3, 1)."""
    c, s = cos(angle), sin(angle)
    return np.stack(np.broadcast_arrays(c * v[0] + s * v[2], v[1], -s * v[0] + c * v[2]))


def profile(at: np.ndarray, knots: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return a piecewise linear curve through (place, value) knots."""
    return np.interp(at, [place for place, _ in knots], [value for _, value in knots])


@cache
def ring(columns: int, exponent: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a superellipse of half axes 1, in points that lie equally far apart; x (C,) and z (C,).

    An exponent of 2 is a circle, larger ones come closer to a square.
    """
    angles = 2 * np.pi * np.arange(721) / 720
    x, z = (np.sign(a) * tabulate(lambda v: np.abs(v) ** (2 / exponent), a) for a in (sin(angles), cos(angles)))
    x[0] = x[-1] = 0.0
    length = np.concatenate([[0.0], np.cumsum(np.sqrt(np.diff(x) ** 2 + np.diff(z) ** 2))])
    places = np.arange(columns) * (length[-1] / columns)
    return tabulate(lambda p: np.interp(p, length, x), places), tabulate(lambda p: np.interp(p, length, z), places)


def ring_offsets(
    side: np.ndarray, front: np.ndarray, back: np.ndarray, columns: int, exponent: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return points of rings about their centers: to the left and to the front, each (..., R, C).

    Args:
        side, front, back: (..., R) half axes in meters.
        columns: C.
        exponent: see :func:`ring`.
    """
    x, z = ring(columns, exponent)
    return side[..., None] * x, np.where(z > 0, front[..., None], back[..., None]) * z


def puff(offsets: tuple[np.ndarray, np.ndarray], amount: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move ring points outward by ``amount`` (..., R, C) meters: folds of cloth."""
    left, front = offsets
    stretch = 1 + amount / np.sqrt(left * left + front * front + 1e-18)
    return left * stretch, front * stretch
