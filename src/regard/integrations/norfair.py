"""Norfair (2.3): detections with ``embedding``, and distances for its tracker by look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from regard.integrations.encoder import Color, Encoder
from regard.integrations.programs import program

__all__ = ["detections", "distance", "near_and_alike"]


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
    return _apart([*new.past_detections, new.last_detection], lost)


def near_and_alike(detection: Any, tracked: Any) -> float:
    """How far a detection is from a tracked object: 1 less the overlap of their boxes, and twice the cosine distance.

    For ``Tracker(distance_function=near_and_alike, distance_threshold=1.0, past_detections_length=...)``.
    """
    a, b = np.asarray(detection.points, float), np.asarray(tracked.estimate, float)
    shared = (np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])).clip(0).prod()
    together = (a[1] - a[0]).clip(0).prod() + (b[1] - b[0]).clip(0).prod() - shared
    return float(1 - shared / max(together, 1e-9)) + 2 * _apart([detection], tracked)


def _apart(some: Sequence[Any], tracked: Any) -> float:
    """The least cosine distance of detections to those that are remembered of an object; 1 where there are none."""
    first, second = (
        [each.embedding for each in group if each is not None and each.embedding is not None]
        for group in (some, [*tracked.past_detections, tracked.last_detection])
    )
    return float(1 - (np.stack(first) @ np.stack(second).T).max()) if first and second else 1.0
