"""The file formats: ONNX, also in int8, OpenVINO's, and PyTorch's own.

ONNX is the common one: ONNX Runtime and OpenVINO both read it, and OpenVINO's own files are made of it. In int8 weights
are rounded per channel, activations by the ranges that calibration pictures reach: ONNX Runtime's static quantization
writes these into the file as pairs of QuantizeLinear and DequantizeLinear, which OpenVINO reads too: one file for both.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.export import ExportedProgram

from regard.errors import ConfigError, UnknownNameError
from regard.export.manifest import Card
from regard.export.packages import install
from regard.wording import one_line

__all__ = [
    "FORMATS",
    "PLANS",
    "Plan",
    "check_format",
    "load_program",
    "quantize",
    "to_onnx",
    "to_openvino",
    "to_torch_export",
]

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
"""Name of a format -> how its file names end."""


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

LOWEST = 18
"""Opset that PyTorch's exporter writes at least; lower ones are converted."""


def check_format(name: str, *, int8: bool = False) -> None:
    """Check that there is a format, and that what it takes is installed.

    Raises:
        UnknownNameError: there is no such format.
        ConfigError: it has no int8, or a package is missing.
    """
    if name == "torchscript":
        raise ConfigError("torchscript is left out: PyTorch has deprecated it; export --to torch-export, or onnx")
    if name not in FORMATS:
        raise UnknownNameError("format", name, FORMATS)
    if name == "torch-export":
        if int8:
            raise ConfigError("torch-export has no int8 here; export --to onnx or openvino")
        return
    for package in ("onnx", "onnxscript", *(["openvino"] if name == "openvino" else [])):
        install(package)
    if int8:
        install("onnxruntime")


def to_onnx(program: ExportedProgram, card: Card) -> bytes:
    """A program as an ONNX file; the card is in its metadata, under the key ``regard``.

    Raises:
        ConfigError: it holds an operation that ONNX has not, or that of its opset has not.
    """
    onnx = install("onnx")
    install("onnxscript")
    buffer = io.BytesIO()
    try:
        with _quiet():
            made: Any = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=[card.input], output_names=[card.output],
                opset_version=card.opset and max(card.opset, LOWEST),
            )  # fmt: skip
            made.save(buffer)
    except torch.onnx.OnnxExporterError as error:
        raise ConfigError(
            f"{card.system} cannot be written as ONNX ({one_line(error)}); try --to torch-export"
        ) from error
    model = _of_opset(onnx, onnx.load_from_string(buffer.getvalue()), card)
    for value in (*model.graph.input, *model.graph.output) if card.batch is None else ():
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if card.precision == "fp16":
        model = _halved(model)
    onnx.helper.set_model_props(model, {"regard": card.to_json()})
    return model.SerializeToString()


def _of_opset(onnx: Any, model: Any, card: Card) -> Any:
    """The model in the opset that is asked for.

    Raises:
        ConfigError: it cannot be had.
    """
    found = next(each.version for each in model.opset_import if not each.domain)
    if card.opset in (None, found):
        return model
    try:
        from onnx import version_converter

        turned = version_converter.convert_version(model, card.opset)
        for node in turned.graph.node if card.opset < LOWEST else ():  # what the converter leaves behind
            kept = [each for each in node.attribute if each.name != "noop_with_empty_axes"]
            del node.attribute[:]
            node.attribute.extend(kept)
        onnx.checker.check_model(turned)
    except Exception as error:  # the converter and its adapters raise types of their own
        raise ConfigError(
            f"{card.system} cannot be written in opset {card.opset} ({one_line(error)}); leave out --opset, "
            f"or ask for {found}"
        ) from error
    turned.ir_version = min(turned.ir_version, 8 if card.opset < LOWEST else turned.ir_version)
    return turned


def _halved(model: Any) -> Any:
    """The model with weights and products in half precision; what goes in and comes out stays as it is."""
    halves = install("onnxruntime.transformers.float16")
    with _quiet():
        return halves.convert_float_to_float16(model, keep_io_types=True)


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
    with _hushed(logging.getLogger()), tempfile.TemporaryDirectory() as folder:  # it advises at length, on the root
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(onnx)
        quantization.quantize_static(
            source, target, _Portions(pictures, card),
            quant_format=quantization.QuantFormat.QDQ, per_channel=True, weight_type=quantization.QuantType.QInt8,
            activation_type=getattr(quantization.QuantType, "QInt8" if card.symmetric else "QUInt8"),
            extra_options={"ActivationSymmetric": True, "QuantizeBias": False} if card.symmetric else None,
            op_types_to_quantize=[*OPERATIONS, *(["Add"] if plan.sums else [])],
            nodes_to_exclude=_small_products(onnx_package.load_from_string(onnx), plan.small),
        )  # fmt: skip
        model = onnx_package.load(target)
    onnx_package.helper.set_model_props(model, {"regard": card.to_json()})
    return model.SerializeToString()


def _small_products(model: Any, part: float) -> list[str]:
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

    def __init__(self, pictures: np.ndarray, card: Card):
        step = card.batch or PORTION
        if card.batch:  # a whole number of times, some pictures twice
            pictures = pictures[np.arange(len(pictures) + -len(pictures) % step) % len(pictures)]
        self._portions: Iterator[dict[str, Any]] = iter(
            {card.input: card.prepared(pictures[start : start + step])} for start in range(0, len(pictures), step)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next portion, None at the end."""
        return next(self._portions, None)

    def __len__(self) -> int:
        return 0


def to_openvino(onnx: bytes, card: Card) -> tuple[bytes, bytes]:
    """An ONNX file as OpenVINO's XML and weights, none of them rounded; the card is in ``rt_info``, as ``regard``."""
    openvino = install("openvino")
    model = openvino.Core().read_model(io.BytesIO(onnx))
    model.set_rt_info(card.to_json(), ["regard"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def to_torch_export(program: ExportedProgram, card: Card) -> bytes:
    """A program as a ``.pt2`` file; the card is in it as the extra file ``regard.json``."""
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files={"regard.json": card.to_json()})
    return buffer.getvalue()


def load_program(data: bytes) -> ExportedProgram:
    """Read the content of a ``.pt2`` file."""
    with _quiet():
        return torch.export.load(io.BytesIO(data))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' chatter about themselves from the user."""
    with _hushed(logging.getLogger("onnxscript")), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _hushed(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
