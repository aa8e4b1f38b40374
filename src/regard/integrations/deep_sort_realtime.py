"""deep-sort-realtime (1.3): detections with the descriptors that ``DeepSort.update_tracks`` takes as ``embeds``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from regard.integrations.encoder import Color, Encoder

__all__ = ["with_embeds"]


def with_embeds(
    encoder: Encoder, frame: np.ndarray, detections: Sequence[Any], color: Color = "bgr"
) -> tuple[list[Any], list[np.ndarray]]:
    """Return the detections that a descriptor can be had of, and the descriptors, row for row.

    Boxes without a pixel in the frame are left out: the tracker drops some of them itself, after which its rows and
    those of ``embeds`` would no longer be the same people's, and the cosine to nothing is no distance.

    Args:
        encoder: of any run, model or file.
        frame: (h, w, 3) uint8.
        detections: ([left, top, width, height], confidence, class) each.
        color: order of the frame's channels.

    >>> tracker.update_tracks(*with_embeds(encoder, frame, detections))                      # doctest: +SKIP
    """
    corners = [(left, top, left + width, top + height) for (left, top, width, height), *_ in detections]
    rows = encoder(frame, corners, color)
    kept = [index for index, row in enumerate(rows) if row.any()]
    return [detections[index] for index in kept], [rows[index] for index in kept]
