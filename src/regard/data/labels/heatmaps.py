"""Joints as heat maps.

Shapes: J joints, h x w pixels of the maps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["draw_heatmaps", "gaussian_size"]

REFERENCE = (256, 128)
SIGMA = (5.6, 3.7)
"""Standard deviation down and across at the reference size, in pixels: that of the pose network (Chen et al.:
Cascaded Pyramid Network, CVPR 2018) whose maps DAAF was trained on, brought from its output to 256 x 128."""

REACH = 3.0


def gaussian_size(height: int, width: int) -> tuple[float, float]:
    """Standard deviation down and across, in pixels of maps of that size."""
    return SIGMA[0] * height / REFERENCE[0], SIGMA[1] * width / REFERENCE[1]


def draw_heatmaps(
    points: np.ndarray,
    height: int,
    width: int,
    sigma: tuple[float, float] | None = None,
    dtype: npt.DTypeLike = np.float32,
) -> np.ndarray:
    """A Gaussian of height 1 around every joint, nothing beyond three standard deviations either way.

    exp(-(x - m_x)² / (2 s_x²) - (y - m_y)² / (2 s_y²)); of a joint outside, the part that reaches in is drawn.

    Args:
        points: (J, 2) x and y in pixels of the maps, whole numbers being pixel centers.
        height, width: h and w.
        sigma: s_y and s_x in pixels; None is :func:`gaussian_size`.
        dtype: floating type of the result.

    Returns:
        (J, h, w) from 0 to 1.
    """
    down, across = sigma or gaussian_size(height, width)
    columns = bell(points[:, 0], width, across)
    rows = bell(points[:, 1], height, down)
    maps = np.zeros((len(points), height, width), dtype)
    for heat, row, column in zip(maps, rows, columns):
        y, x = extent(row), extent(column)
        heat[y, x] = row[y, None] * column[x]
    return maps


def bell(centers: np.ndarray, length: int, sigma: float) -> np.ndarray:
    """(J, length) float32: a Gaussian along one axis for each of (J,) centers, cut off at three sigma."""
    away = (np.arange(length) - centers[:, None]) / sigma
    return np.where(np.abs(away) <= REACH, np.exp(-(away**2) / 2), 0).astype(np.float32)


def extent(values: np.ndarray) -> slice:
    """Where (length,) values that are not 0 begin and end."""
    reached = np.flatnonzero(values)
    return slice(reached[0], reached[-1] + 1) if len(reached) else slice(0)
