"""An ONNX network in int8: weights per channel, activations by the ranges that calibration pictures reach.

ONNX Runtime's static quantization writes the ranges into the file as pairs of QuantizeLinear and DequantizeLinear,
which OpenVINO reads too: one file for both.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from regard.export.formats import install
from regard.export.manifest import Card

__all__ = ["PLANS", "Plan", "quantize"]

OPERATIONS = ["Conv", "Gemm", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool"]
"""What computes in int8 at least. Products of two activations (attention's) never do."""


class Plan(NamedTuple):
    """What stays in float32.

    Attributes:
        sums: whether sums of two maps compute in int8: with them a residual network never leaves it.
        small: part of all multiplications below which a product stays in float32: gates cost little, forgive little.
    """

    sums: bool
    small: float


PLANS = (Plan(sums=True, small=0.001), Plan(sums=False, small=0.01))
"""Faster first; the other is for networks that do not stand the first."""

PORTION = 8


def quantize(onnx: bytes, pictures: np.ndarray, card: Card, plan: Plan = PLANS[0]) -> bytes:
    """A float32 ONNX file as an int8 one, with that card in it.

    Args:
        onnx: the file.
        pictures: (N, H, W, 3) uint8 to take the ranges of; a hundred of the kind to be embedded are enough.
        card: of the int8 file.
        plan: what stays in float32.
    """
    onnx_package = install("onnx")
    quantization = install("onnxruntime.quantization")
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises at length, on the root logger
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(onnx)
            quantization.quantize_static(
                source,
                target,
                _Portions(pictures, card.input),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=[*OPERATIONS, *(["Add"] if plan.sums else [])],
                nodes_to_exclude=small_products(onnx_package.load_from_string(onnx), plan.small),
            )
            model = onnx_package.load(target)
    finally:
        logger.setLevel(level)
    onnx_package.helper.set_model_props(model, {"regard": card.to_json()})
    return model.SerializeToString()


def small_products(model: Any, part: float) -> list[str]:
    """Names of the convolutions and linear layers that do less than that part of a network's multiplications."""
    inferred = install("onnx").shape_inference.infer_shapes(model).graph
    maps = {each.name: each.type.tensor_type.shape.dim for each in (*inferred.value_info, *inferred.output)}
    weights = {each.name: math.prod(each.dims) for each in inferred.initializer}
    work = {
        node.name: weights.get(node.input[1], 0) * math.prod(dim.dim_value for dim in maps[node.output[0]][2:])
        for node in inferred.node
        if node.op_type in ("Conv", "Gemm")
    }
    return [name for name, count in work.items() if count < part * sum(work.values())]


class _Portions:
    """The pictures, as the quantizer asks for them."""

    def __init__(self, pictures: np.ndarray, name: str):
        self._portions: Iterator[dict[str, Any]] = iter(
            {name: pictures[start : start + PORTION]} for start in range(0, len(pictures), PORTION)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next portion, None at the end."""
        return next(self._portions, None)

    def __len__(self) -> int:
        return 0
