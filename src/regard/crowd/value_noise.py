"""Value noise: the grain of cloth, leaves, stains and walls."""

from __future__ import annotations

import numpy as np

from regard.crowd.rng import Rng

__all__ = ["value_noise"]


def value_noise(rng: Rng, height: int, width: int, cells_y: int, cells_x: int, octaves: int = 3) -> np.ndarray:
    """Tileable noise in about [-1, 1], (height, width) float32.

    Args:
        rng: the stream to draw from, one draw per octave.
        height, width: size in texels.
        cells_y, cells_x: bumps of the coarsest octave; each further one has twice as many and half the strength.
        octaves: layers.
    """
    total = np.zeros((height, width), np.float32)
    strength = 1.0
    for octave in range(octaves):
        rows = max(1, min(cells_y << octave, height))
        columns = max(1, min(cells_x << octave, width))
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
    """Cell of each texel and its smoothed place within the cell, 0 to 1."""
    place = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / count)
    cell = np.minimum(np.floor(place), cells - 1)
    f = place - cell
    return cell.astype(np.intp), f * f * (3 - 2 * f)
