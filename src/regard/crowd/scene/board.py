"""A picture of a thing that stands on the ground, while it is being painted."""

from __future__ import annotations

import numpy as np

from regard.crowd.color import Rgb, linear
from regard.crowd.rng import Rng, value_noise

__all__ = ["Board"]


class Board:
    """A picture of a thing: premultiplied linear RGB and coverage, its base in the middle of the lower edge.

    Args:
        rng: stream of everything on it.
        width, height: meters.
        density: pixels per meter.

    Attributes:
        picture: (4, rows, columns) float32, row 0 at the top.
        x, y: (1, columns) and (rows, 1) meters from the middle and from the ground.
    """

    def __init__(self, rng: Rng, width: float, height: float, density: float):
        self.rng, self.width, self.height = rng, width, height
        columns, rows = max(3, int(width * density)), max(3, int(height * density))
        self.x = (((np.arange(columns, dtype=np.float32) + np.float32(0.5)) / columns - np.float32(0.5)) * width)[None]
        self.y = ((1 - (np.arange(rows, dtype=np.float32) + np.float32(0.5)) / rows) * height)[:, None]
        self.picture = np.zeros((4, rows, columns), np.float32)

    def put(self, where: np.ndarray, rgb: Rgb, shade: np.ndarray | float = 1.0) -> None:
        """Cover a region with an sRGB color."""
        where = np.broadcast_to(where, self.picture.shape[1:])
        for channel, value in zip(self.picture, linear(rgb)):
            np.copyto(channel, value * shade, where=where)
        self.picture[3][where] = 1

    def noise(self, tall: int, wide: int) -> np.ndarray:
        """Return a pattern of leaves."""
        return value_noise(self.rng, self.picture.shape[1:], (tall, wide), 4)

    def bar(self, ends: tuple[float, float, float, float], half: float, rgb: Rgb) -> None:
        """Return where a bar of a half thickness is, from (x, y) to (x, y)."""
        ax, ay, bx, by = ends
        dx, dy = bx - ax, by - ay
        t = np.clip(((self.x - ax) * dx + (self.y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
        self.put((self.x - ax - t * dx) ** 2 + (self.y - ay - t * dy) ** 2 < half * half, rgb)
