"""Boxes in a picture, and the crops they cut out of it: one rule for detectors, tables and trackers.

Shapes: N boxes (x0, y0, x1, y1) in pixels of a picture of H x W, the corners at (x0, y0) and beyond the last pixel.

A corner goes to the nearest border between pixels, halves up, and what lies over the picture's edge is cut off. A box
of which no pixel is left is empty: one outside the picture, thinner than a pixel, with its corners reversed, or with
NaN in it. An empty one stays in its place and has no pixels; who has asked says what becomes of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regard.errors import DataError

__all__ = ["as_boxes", "clip_boxes", "crops", "in_fractions"]


def as_boxes(boxes: Any, columns: tuple[int, ...] = (4,)) -> np.ndarray:
    """Return boxes as an array of real numbers, none of anything as (0, 4).

    Args:
        boxes: rows of numbers: an array, a tensor on the processor, lists.
        columns: numbers that a row may have.

    Returns:
        (N, one of ``columns``) float64.

    Raises:
        DataError: they are something else.
    """
    wanted = " or ".join(f"(N, {number})" for number in columns)
    try:
        found = np.asarray(boxes)
        if found.dtype.kind not in "iuf":
            raise TypeError(f"got {found.dtype}")
        found = found.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"boxes are no numbers ({reason}), wanted {wanted}: x0, y0, x1, y1 in pixels") from None
    if found.size == 0 and found.ndim <= 2:
        return np.empty((0, columns[0]))
    if found.ndim != 2 or found.shape[1] not in columns:
        raise DataError(f"boxes are of shape {found.shape}, wanted {wanted}: x0, y0, x1, y1 in pixels")
    return found


def in_fractions(boxes: np.ndarray) -> bool:
    """Whether boxes (N, 4 or more) are fractions of a picture, not pixels: all corners lie from 0 to 1, some between.

    As pixels they would be one pixel each, cut out without an error.
    """
    corners = boxes[:, :4]
    inside = (corners >= 0) & (corners <= 1)
    return bool(corners.size and inside.all() and (corners % 1 > 0).any())


def clip_boxes(boxes: Any, height: int, width: int) -> np.ndarray:
    """Return what boxes cover of a picture, by the rule of this module.

    Args:
        boxes: (N, 4).
        height: H.
        width: W.

    Returns:
        (N, 4) int64, 0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H; four zeros for an empty box.

    Raises:
        DataError: as of :func:`as_boxes`.
    """
    exact = as_boxes(boxes)
    known = np.where(np.isnan(exact), -1, exact)
    placed = np.floor(known.clip(-1, max(height, width) + 1) + 0.5).astype(np.int64)
    placed = placed.clip(0, [width, height, width, height])
    empty = np.isnan(exact).any(1) | (placed[:, 2:] <= placed[:, :2]).any(1)
    placed[empty] = 0
    return placed


def crops(frame: np.ndarray, boxes: Any) -> list[np.ndarray]:
    """Cut boxes out of a picture.

    Args:
        frame: (H, W, 3) uint8, the colors in any order.
        boxes: (N, 4).

    Returns:
        N views of the frame, in the order of the boxes; of an empty box (0, 0, 3), whose ``size`` is 0.

    Raises:
        DataError: the frame or the boxes are of another shape or kind.
    """
    if not isinstance(frame, np.ndarray) or frame.shape[2:] != (3,) or frame.dtype != np.uint8:
        shape = f" of shape {frame.shape}" if hasattr(frame, "shape") else ""
        raise DataError(
            f"the frame is {getattr(frame, 'dtype', type(frame).__name__)}{shape}, wanted (H, W, 3) uint8; convert it"
        )
    height, width, _ = frame.shape
    return [frame[y0:y1, x0:x1] for x0, y0, x1, y1 in clip_boxes(boxes, height, width).tolist()]
