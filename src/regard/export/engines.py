"""Engines: what computes descriptors of decoded pictures, here in ONNX Runtime and OpenVINO, without torch.

Shapes: B pictures in a batch, H x W pixels, D descriptor length.

All of them, and PyTorch's (:mod:`regard.export.torch_engine`), compute the same graph
(:mod:`regard.export.graph`). In fp32 their descriptors differ by rounding, some
1e-7 of the largest value, so that one stands for another; bf16 and int8 are numbers of their own.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from regard.errors import CheckpointError, ConfigError, RegardError
from regard.export.manifest import Card, Precision
from regard.export.packages import install
from regard.models.graph_file import onnx_session
from regard.threads import usable_threads
from regard.wording import one_line

__all__ = ["ENGINES", "RUNS", "Engine", "EngineName", "open_runtime"]

EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]

ENGINES: tuple[str, ...] = ("openvino", "onnxruntime", "torch")
"""Fastest first, on a CPU."""

RUNS = {".onnx": ("openvino", "onnxruntime"), ".xml": ("openvino",), ".pt2": ("torch",)}
"""How a file name ends -> the engines that take it, fastest first."""


class Engine:
    """Computes descriptors. Made by :func:`~regard.export.open_engine`.

    Attributes:
        name: "torch", "onnxruntime" or "openvino".
        precision: "fp32", "bf16", "fp16" or "int8".
        card: what the network is.
        note: what could not be had, and what is done instead; empty where all is as asked for.
    """

    def __init__(
        self, name: str, precision: Precision, card: Card, run: Callable[[np.ndarray], np.ndarray], note: str = ""
    ):
        self.name = name
        self.precision: Precision = precision
        self.card = card
        self.note = note
        self._run = run

    def __repr__(self) -> str:
        card = self.card
        return f"Engine({self.name}, {self.precision}, {card.system} at {card.height}x{card.width}, {self.fingerprint})"

    @property
    def dim(self) -> int:
        """D."""
        return self.card.embed_dim

    @property
    def fingerprint(self) -> str:
        """Changes where descriptors change by more than rounding: the same for all engines in fp32."""
        return self.fingerprint_with(self.card.weights)

    def fingerprint_with(self, weights: str) -> str:
        """The fingerprint where the weights are known by another digest."""
        own = replace(self.card, weights=weights).fingerprint
        return own if self.precision == "fp32" else f"{own}-{self.name}-{self.precision}"

    def embed(self, images: np.ndarray, *, flip: bool = False) -> np.ndarray:
        """Descriptors of pictures.

        Args:
            images: (B, H, W, 3) uint8, RGB, of the engine's size.
            flip: average with the descriptors of the mirrored pictures, where the graph does not.

        Returns:
            (B, D) float32, not of length 1 unless the card says so.

        Raises:
            ConfigError: the pictures are of another size or type.
        """
        wanted = (self.card.height, self.card.width, 3)
        if images.ndim != 4 or images.shape[1:] != wanted or images.dtype != np.uint8:
            raise ConfigError(
                f"got pictures {images.shape} {images.dtype}, the network takes (B, {', '.join(map(str, wanted))}) "
                "uint8; resize them first, or export it for another size"
            )
        if not len(images):
            return np.empty((0, self.dim), np.float32)
        out = self._batches(images)
        if flip and not self.card.flip_averaged:
            out = (out + self._batches(images[:, :, ::-1])) / 2
        return out

    def _batches(self, images: np.ndarray) -> np.ndarray:
        """Descriptors as the graph has them; where it takes a fixed number, the last are filled up with black."""
        x, step = self.card.prepared(images), self.card.batch
        if step is None:
            return self._run(x)
        missing = -len(x) % step
        x = np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x
        return np.concatenate([self._run(x[at : at + step]) for at in range(0, len(x), step)])[: len(images)]


def open_runtime(
    name: str, files: tuple[bytes, ...], card: Card, precision: Precision | None = None, threads: int | None = None
) -> Engine:
    """The engine onnxruntime or openvino for the content of an exported file, or of OpenVINO's two.

    Raises:
        CheckpointError: the engine does not take it.
    """
    try:
        open_it = {"onnxruntime": onnx_engine, "openvino": openvino_engine}[name]
        return open_it(files, card, precision or card.precision, threads)
    except RegardError:
        raise
    except Exception as error:  # the runtimes raise types of their own
        raise not_taken(name, card, error) from error


def not_taken(name: str, card: Card, error: Exception) -> CheckpointError:
    """What to say of a file that a runtime does not take."""
    return CheckpointError(
        f"{name} does not take {card.system} at {card.height} x {card.width} ({one_line(error)}); "
        "export it again, or use another engine"
    )


def onnx_engine(files: tuple[bytes, ...], card: Card, precision: Precision, threads: int | None = None) -> Engine:
    """An ONNX file run by ONNX Runtime, on the CPU."""
    if precision == "bf16":
        raise ConfigError("the engine onnxruntime has no bf16 on a CPU; use --engine openvino or torch")
    runtime = install("onnxruntime")
    session = onnx_session(runtime, files[0], threads)
    return Engine("onnxruntime", precision, card, lambda images: session.run(None, {card.input: images})[0])


def openvino_engine(files: tuple[bytes, ...], card: Card, precision: Precision, threads: int | None = None) -> Engine:
    """An ONNX file, or OpenVINO's XML and weights, run by OpenVINO, on the CPU."""
    core = install("openvino").Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ConfigError("this CPU does not multiply in bf16, so it would only be slower; leave out --precision")
    model = core.read_model(*files) if len(files) == 2 else core.read_model(io.BytesIO(files[0]))
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads or usable_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    network = core.compile_model(model, "CPU", settings)
    return Engine("openvino", precision, card, lambda images: np.array(network(images)[0]))
