"""The file formats: ONNX, OpenVINO's, and PyTorch's own.

ONNX is the common one: ONNX Runtime and OpenVINO both read it, and OpenVINO's own files are made of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.export import ExportedProgram

from regard.errors import ConfigError, UnknownNameError, require
from regard.export.graph import one_line
from regard.export.manifest import Card

__all__ = [
    "FORMATS",
    "check_format",
    "install",
    "is_installed",
    "load_program",
    "to_onnx",
    "to_openvino",
    "to_torch_export",
]

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
"""Name of a format -> how its file names end."""


def check_format(name: str, *, int8: bool = False) -> None:
    """Check that there is a format, and that what it takes is installed.

    Raises:
        UnknownNameError: there is no such format.
        ConfigError: it has no int8, or a package is missing.
    """
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


def install(name: str) -> ModuleType:
    """Import a package of the ``export`` extra.

    Raises:
        ConfigError: it is not installed.
    """
    return require(name, "this format", "export")


def is_installed(name: str) -> bool:
    """Whether a package of the ``export`` extra can be imported."""
    try:
        install(name)
    except ConfigError:
        return False
    return True


def to_onnx(program: ExportedProgram, card: Card) -> bytes:
    """A program as an ONNX file; the card is in its metadata, under the key ``regard``.

    Raises:
        ConfigError: it holds an operation that ONNX has not.
    """
    onnx = install("onnx")
    install("onnxscript")
    buffer = io.BytesIO()
    try:
        with _quiet():
            made: Any = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=[card.input], output_names=[card.output]
            )
            made.save(buffer)
    except torch.onnx.OnnxExporterError as error:
        raise ConfigError(
            f"{card.system} cannot be written as ONNX ({one_line(error)}); try --to torch-export"
        ) from error
    model = onnx.load_from_string(buffer.getvalue())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(model, {"regard": card.to_json()})
    return model.SerializeToString()


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
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
