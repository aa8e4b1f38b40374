"""OpenVINO's own runtime for a file of ``regard export --for openvino-bgr``, fed as Intel's re-ID networks are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from regard.data.boxes import crops
from regard.export.packages import install
from regard.export.parity import plainly_resized

__all__ = ["by_loader"]


def by_loader(path: Path) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, list[np.ndarray]]]:
    """What OpenVINO makes of a file: (BGR frame, boxes) -> descriptors and the BGR crops that they are of."""
    network = install("openvino").Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    _, _, height, width = network.inputs[0].partial_shape.get_max_shape()
    fixed = network.inputs[0].partial_shape[0]

    def compute(frame: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        cut = crops(frame, boxes)
        x = np.stack([plainly_resized(crop, height, width).transpose(2, 0, 1) for crop in cut]).astype(np.float32)
        step = fixed.get_length() if fixed.is_static else len(x)
        filled = np.concatenate([x, np.zeros((-len(x) % step, *x.shape[1:]), np.float32)])
        found = [np.array(network(filled[at : at + step])[0]) for at in range(0, len(filled), step)]
        return np.concatenate(found)[: len(x)], cut

    return compute
