"""A picture on the canvas that a network sees, and what the network found there back on the picture.

Shapes: h x w pixels of the picture, H x W of the canvas, g x v of what a network makes of it, K points.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from regard.data.resizing import resize
from regard.input_spec import Interpolation

__all__ = ["Canvas", "Fit", "lay_out"]

Fit = Literal["stretch", "letterbox", "edge"]
"""How a picture of another shape fills a canvas: stretched, inside a border of one gray, or of its own edge."""


class Canvas(NamedTuple):
    """Where a picture lies.

    Attributes:
        picture: h and w.
        size: H and W.
        place: top, left, height and width of the picture on the canvas.
    """

    picture: tuple[int, int]
    size: tuple[int, int]
    place: tuple[int, int, int, int]

    def points_back(self, points: np.ndarray) -> np.ndarray:
        """Points of the canvas on the picture.

        Args:
            points: (K, 2) x and y in pixels of the canvas, counted from its edge.

        Returns:
            (K, 2) x and y in pixels of the picture, whole numbers being pixel centers; possibly outside of it.
        """
        top, left, height, width = self.place
        moved = points - np.array([left, top], float)
        return moved * (np.array(self.picture[::-1]) / np.array([width, height])) - 0.5

    def map_back(self, found: np.ndarray) -> np.ndarray:
        """What is known of every place of the canvas, for every pixel of the picture.

        Args:
            found: (g, v) numbers that cover the canvas.

        Returns:
            (h, w) float32, interpolated at the pixels' centers, linear down and across.
        """
        top, left, height, width = self.place
        parts = zip(self.picture, (top, left), (height, width), self.size, found.shape)
        down, across = (_between(*part) for part in parts)
        rows = _mixed(np.asarray(found, np.float32), *down)
        return _mixed(rows.T, *across).T


def _between(pixels: int, start: int, length: int, canvas: int, known: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel along an axis: the last of the known numbers not behind its center, and the share of the next."""
    place = ((np.arange(pixels) + 0.5) * (length / pixels) + start) * (known / canvas) - 0.5
    place = place.clip(0, known - 1)
    first = np.minimum(place.astype(int), max(known - 2, 0))
    return first, (place - first).astype(np.float32)[:, None]


def _mixed(numbers: np.ndarray, first: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Rows of (g, v) numbers, and between them."""
    following = np.minimum(first + 1, len(numbers) - 1)
    return numbers[first] * (1 - share) + numbers[following] * share


def lay_out(
    picture: np.ndarray,
    size: tuple[int, int],
    fit: Fit,
    *,
    margin: float = 1.0,
    fill: int = 0,
    interpolation: Interpolation = "bilinear",
) -> tuple[np.ndarray, Canvas]:
    """Put a picture on a canvas.

    Args:
        picture: (h, w, 3) uint8.
        size: H and W.
        fit: how it is made to fill it.
        margin: how many times larger than the picture the canvas is where it is tightest; 1 where it is stretched.
        fill: gray level of the border of a letterbox.
        interpolation: how it is resized.

    Returns:
        The canvas (H, W, 3) uint8, and where the picture lies on it.
    """
    height, width = size
    h, w = picture.shape[:2]
    if fit == "stretch":
        return resize(picture, height, width, interpolation=interpolation), Canvas((h, w), size, (0, 0, height, width))
    scale = min(height / h, width / w) / margin
    rows, columns = max(1, round(h * scale)), max(1, round(w * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    border = ((top, height - rows - top), (left, width - columns - left), (0, 0))
    inner = resize(picture, rows, columns, interpolation=interpolation)
    made = np.pad(inner, border, "edge") if fit == "edge" else np.pad(inner, border, constant_values=fill)
    return made, Canvas((h, w), size, (top, left, rows, columns))
