"""Norfair (2.3): detections with ``embedding``, and the distance by which its tracker finds people again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from regard.integrations.encoder import Color, Encoder
from regard.integrations.programs import program

__all__ = ["detections", "distance"]


def detections(
    encoder: Encoder, frame: np.ndarray, boxes: Any, scores: Sequence[float] | None = None, color: Color = "bgr"
) -> list[Any]:
    """Return Norfair's detections of boxes, each with its descriptor; None where a box has no pixel in the frame.

    Args:
        encoder: of any run, model or file.
        frame: (h, w, 3) uint8.
        boxes: (N, 4), x0, y0, x1, y1.
        scores: of the boxes, N.
        color: order of the frame's channels.
    """
    kind = program("norfair").Detection
    rows, found = encoder(frame, boxes, color), []
    for number, (box, row) in enumerate(zip(np.asarray(boxes, float).reshape(-1, 4), rows)):
        sure = None if scores is None else np.full(2, scores[number], float)
        found.append(kind(box.reshape(2, 2), scores=sure, embedding=row if row.any() else None))
    return found


def distance(new: Any, lost: Any) -> float:
    """Cosine distance of two tracked objects, the least of what is remembered of them; 1 where nothing is.

    For ``Tracker(reid_distance_function=distance, past_detections_length=...)``.
    """
    ours, theirs = ([*one.past_detections, one.last_detection] for one in (new, lost))
    first, second = (
        [each.embedding for each in some if each is not None and each.embedding is not None] for some in (ours, theirs)
    )
    return float(1 - (np.stack(first) @ np.stack(second).T).max()) if first and second else 1.0
