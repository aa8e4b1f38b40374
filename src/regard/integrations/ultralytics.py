"""Ultralytics (8.4): an encoder for its trackers, and its own loader for a file of ``regard export --for ultralytics``.

Crops of its loader are 2 % and 10 pixels larger than the boxes, which is its way and no part of the file.

Shapes: N boxes, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from regard.errors import ConfigError
from regard.integrations.encoder import Encoder
from regard.integrations.programs import program

__all__ = ["attach", "by_loader", "embedder"]


def attach(tracker: Any, encoder: Encoder) -> None:
    """Let a tracker tell people by regard's descriptors: set its encoder, and the settings that make it ask one.

    With ``model: auto`` a tracker without features of a detector would pass its encoder over, and say nothing.

    Args:
        tracker: a ``BOTSORT``, ``DeepOCSORT`` or ``TRACKTRACK``.
        encoder: of any run, model or file.
    """
    tracker.encoder = embedder(encoder)
    tracker.args.with_reid, tracker.args.model = True, "regard"


def embedder(encoder: Encoder) -> Callable[[np.ndarray, np.ndarray], list[np.ndarray | None]]:
    """Return what :func:`attach` makes the ``encoder`` of a tracker, computed by regard, resizing included.

    The callable: (BGR frame, boxes (N, 4 or 5): middle, width, height, number) -> a (D,) float32 row of length 1 a box,
    None for a box without a pixel in the frame. Crops are the boxes, without the margin of Ultralytics' own.

    Args:
        encoder: of any run, model or file.

    Raises:
        ConfigError: boxes are turned, when it is called.
    """

    def embed(image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray | None]:
        rows = np.asarray(boxes, np.float64)
        if rows.ndim != 2 or rows.shape[1] not in (4, 5):
            raise ConfigError(f"got boxes {rows.shape}, wanted upright ones (N, 4 or 5), as turned ones have no crop")
        middle, half = rows[:, :2], rows[:, 2:4] / 2
        found = encoder(image, np.concatenate([middle - half, middle + half], 1), color="bgr")
        return [row if row.any() else None for row in found]

    return embed


def by_loader(path: Path) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, list[np.ndarray]]]:
    """What Ultralytics makes of a file: (BGR frame, boxes) -> descriptors and the BGR crops that they are of."""
    network = program("ultralytics.trackers.utils.reid").ReID(str(path), device="cpu")
    cut = program("ultralytics.utils.plotting").save_one_box

    def compute(frame: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        middles = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        found = network(frame, middles.astype(np.float32))
        return np.stack(found).astype(np.float32), [cut(box, frame, save=False, BGR=True) for box in boxes]

    return compute
