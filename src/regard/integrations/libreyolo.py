"""LibreYOLO (1.6): the callable that its appearance trackers take as ``embedder``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from regard.data.boxes import crops
from regard.integrations.encoder import Encoder

__all__ = ["by_loader", "embedder"]


def embedder(encoder: Encoder) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the callable: (RGB frame, boxes (N, 4 or more)) -> (N, D) float32 of length 1."""

    def embed(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        rows = np.asarray(boxes, np.float64)
        return encoder(image, rows[:, :4] if rows.size else [], color="rgb")

    return embed


def by_loader(path: Path) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, list[np.ndarray]]]:
    """What LibreYOLO is given of a file: (BGR frame, boxes) -> descriptors and the BGR crops that they are of."""
    embed = embedder(Encoder(path))
    return lambda frame, boxes: (embed(np.ascontiguousarray(frame[..., ::-1]), boxes), crops(frame, boxes))
