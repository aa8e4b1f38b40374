"""A small ONNX network that knows pictures by heart: of each it gives the points and the mask it was told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_teacher(
    path: Path, canvases: Sequence[np.ndarray], points: np.ndarray, masks: np.ndarray, *, batch: int | None = None
) -> Path:
    """Write it: the nearest of the canvases that it knows decides.

    Args:
        path: of the ONNX file.
        canvases: (H, W, 3) uint8 each; it takes them in NCHW divided by 255.
        points: (N, ...) output ``points``.
        masks: (N, ...) output ``masks``.
        batch: pictures at a time; None: any number.
    """
    known = np.stack(canvases).transpose(0, 3, 1, 2).reshape(len(canvases), -1).astype(np.float32) / 255
    height, width = canvases[0].shape[:2]
    values = {
        "known": known.T, "half": (known**2).sum(1) / 2, "told_points": points.astype(np.float32),
        "told_masks": masks.astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Flatten", ["pictures"], ["flat"]),
        helper.make_node("MatMul", ["flat", "known"], ["likeness"]),
        helper.make_node("Sub", ["likeness", "half"], ["nearness"]),
        helper.make_node("ArgMax", ["nearness"], ["nearest"], axis=1, keepdims=0),
        helper.make_node("Gather", ["told_points", "nearest"], ["points"]),
        helper.make_node("Gather", ["told_masks", "nearest"], ["masks"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch or "B", *told.shape[1:]])
        for name, told in (("points", points), ("masks", masks))
    ]
    pictures = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, [batch or "B", 3, height, width])
    graph = helper.make_graph(
        nodes, "teacher", [pictures], outputs,
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
