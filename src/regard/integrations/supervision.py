"""supervision (0.31): detections with their descriptors in ``data["embedding"]``, which slices and merges carry on."""

from __future__ import annotations

from typing import Any

import numpy as np

from regard.integrations.encoder import Color, Encoder

__all__ = ["with_embeddings"]


def with_embeddings(encoder: Encoder, frame: np.ndarray, detections: Any, color: Color = "bgr") -> Any:
    """Put the (N, D) descriptors of ``detections.xyxy`` into ``detections.data["embedding"]``, and return it."""
    detections.data["embedding"] = encoder(frame, detections.xyxy, color)
    return detections
