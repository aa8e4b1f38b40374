"""The texture of one body part while it is being painted.

Shapes: (R, C) texels along and around the part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regard.crowd.color import linear
from regard.crowd.rng import Rng, value_noise

__all__ = ["LABELS", "Canvas", "bump"]

LABELS = {
    "background": 0,
    "face": 1,
    "hair": 2,
    "upper": 3,
    "arm": 4,
    "lower": 5,
    "leg": 6,
    "shoe": 7,
    "bag": 8,
}
"""Values of the person masks: 0 is nobody, everything else the person, split by part; a hat counts as hair."""


class Canvas:
    """A texture in linear reflectance, its labels, and which of it is there at all.

    Args:
        rng: stream of the fabric's grain.
        rows, columns: texels along the part and around it.

    Attributes:
        v: (R, 1) place along the part, 0 to 1.
        angle: (1, C) place around it in radians: 0 in front, positive to the left.
        away: absolute value of ``angle``.
        color: (3, R, C) float32.
        labels: (R, C) uint8.
        alive: (R, C) bool.
    """

    def __init__(self, rng: Rng, rows: int, columns: int):
        self.rng = rng
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
