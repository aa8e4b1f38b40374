"""Ultralytics (8.4): its own loader for a file of ``regard export --for ultralytics``; its trackers need no adapter.

Its crops are 2 % and 10 pixels larger than the boxes, which is its way and no part of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from regard.integrations.programs import program

__all__ = ["by_loader"]


def by_loader(path: Path) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, list[np.ndarray]]]:
    """What Ultralytics makes of a file: (BGR frame, boxes) -> descriptors and the BGR crops that they are of."""
    network = program("ultralytics.trackers.utils.reid").ReID(str(path), device="cpu")
    cut = program("ultralytics.utils.plotting").save_one_box

    def compute(frame: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        middles = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        found = network(frame, middles.astype(np.float32))
        return np.stack(found).astype(np.float32), [cut(box, frame, save=False, BGR=True) for box in boxes]

    return compute
