"""Laying pictures over and into one another.

Pictures are (C, h, w) float32 in linear light; those with four channels are premultiplied RGB and coverage.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["lay_over", "sample"]

Rectangle = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


def sample(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sample a picture between its pixels; places in pixels from the middle of the first, cut to the picture.

    Args:
        picture: (C, H, W).
        rows, columns: (h,) and (w,), increasing.

    Returns:
        (C, h, w) float32.
    """
    top, below = neighbors(rows, picture.shape[1])
    left, beside = neighbors(columns, picture.shape[2])
    cut = picture[:, top[0] : top[-1] + 2, left[0] : left[-1] + 2]
    top, left = top - top[0], left - left[0]
    lower, right = np.minimum(top + 1, cut.shape[1] - 1), np.minimum(left + 1, cut.shape[2] - 1)
    lines = cut[:, top]
    lines += (cut[:, lower] - lines) * below[:, None]
    found = lines[:, :, left]
    found += (lines[:, :, right] - found) * beside
    return found


def neighbors(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel before each place and the share of the one after it."""
    places = np.clip(places, 0, size - 1)
    first = np.minimum(places.astype(np.intp), max(size - 2, 0))
    return first, (places - first).astype(np.float32)


def lay_over(picture: np.ndarray, sprite: np.ndarray, rectangle: Rectangle, cover: np.ndarray | None = None) -> None:
    """Lay a sprite (4, H, W) over a picture (3, h, w) within a rectangle.

    Args:
        picture: changed in place.
        sprite: premultiplied RGB and coverage.
        rectangle: where it goes; may lie partly outside.
        cover: (h, w) that takes the greatest coverage so far.
    """
    x0, y0, x1, y1 = rectangle
    left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
    right, bottom = min(picture.shape[2], math.ceil(x1)), min(picture.shape[1], math.ceil(y1))
    if right <= left or bottom <= top or x1 - x0 < 0.5 or y1 - y0 < 0.5:
        return
    columns = (np.arange(left, right) + 0.5 - x0) * (sprite.shape[2] / (x1 - x0)) - 0.5
    rows = (np.arange(top, bottom) + 0.5 - y0) * (sprite.shape[1] / (y1 - y0)) - 0.5
    found = sample(sprite, rows, columns)
    target = picture[:, top:bottom, left:right]
    target *= 1 - found[3]
    target += found[:3]
    if cover is not None:
        part = cover[top:bottom, left:right]
        np.maximum(part, found[3], out=part)
