"""Engines: what computes descriptors of decoded pictures, in PyTorch, ONNX Runtime or OpenVINO.

Shapes: B pictures in a batch, H x W pixels, D descriptor length.

All of them compute the same graph (:mod:`regard.export.graph`). In fp32 their descriptors differ by rounding, some
1e-7 of the largest value, so that one stands for another; bf16 and int8 are numbers of their own.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import fx, nn

from regard.device import choose_device, preferred_device
from regard.errors import CheckpointError, ConfigError, RegardError, UnknownNameError
from regard.export.formats import install, is_installed, load_program
from regard.export.graph import one_line, program_module, trace
from regard.export.manifest import Card, Precision, read_export
from regard.models import ReIDModel
from regard.precision import Products
from regard.threads import usable_threads

__all__ = ["ENGINES", "Engine", "EngineName", "fastest_engine", "open_engine"]

EngineName = Literal["auto", "torch", "onnxruntime", "openvino"]
ENGINES: tuple[str, ...] = ("openvino", "onnxruntime", "torch")
"""Fastest first, on a CPU."""

RUNS = {".onnx": ("openvino", "onnxruntime"), ".xml": ("openvino",), ".pt2": ("torch",)}
"""How a file name ends -> the engines that take it, fastest first."""

UNTRUSTED = (
    "{} is PyTorch's own format, and what reads it can run code that is in the file; regard does not open it. "
    "Give the run it was made of"
)


class Engine:
    """Computes descriptors. Made by :func:`open_engine`.

    Attributes:
        name: "torch", "onnxruntime" or "openvino".
        precision: "fp32", "bf16" or "int8".
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
        size = f"{self.card.height}x{self.card.width}"
        return f"Engine({self.name}, {self.precision}, {self.card.system} at {size}, {self.fingerprint})"

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
            flip: average with the descriptors of the mirrored pictures.

        Returns:
            (B, D) float32, not of length 1.

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
        out = self._run(np.ascontiguousarray(images))
        if flip:
            out = (out + self._run(np.ascontiguousarray(images[:, :, ::-1]))) / 2
        return out


def fastest_engine() -> str:
    """The fastest engine that is installed: on a GPU PyTorch, else the first of ``ENGINES``."""
    if preferred_device() not in (None, "cpu") or choose_device("auto", "device").type == "cuda":
        return "torch"
    return next(name for name in ENGINES if name == "torch" or is_installed(name))


def open_engine(
    source: ReIDModel | Path | str,
    engine: EngineName = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    *,
    size: tuple[int, int] | None = None,
    device: str | None = None,
    compile: bool = False,
) -> Engine:
    """An engine for a network.

    Args:
        source: a model, the folder of a run or of a saved model, or an exported file. A run's export is kept in its
            ``exports`` folder and made where there is none.
        engine: what computes; "auto" takes the fastest that is installed and takes the source.
        precision: of the products. "int8" wants a file that ``regard export --int8`` made.
        threads: CPU threads; None takes as many as PyTorch (``OMP_NUM_THREADS``).
        size: height and width of the pictures; None takes the model's own, else 256 x 128.
        device: of the engine torch; None takes a GPU where there is one.
        compile: let ``torch.compile`` generate the engine torch's code; takes minutes, and a C++ compiler.

    Raises:
        ConfigError: the engine is not installed, or does not go with source or precision.
        CheckpointError: there is no model, or it is damaged.
    """
    if engine not in get_args(EngineName):
        raise UnknownNameError("engine", engine, get_args(EngineName))
    if precision not in get_args(Precision):
        raise UnknownNameError("precision", precision, get_args(Precision))
    path = None if isinstance(source, ReIDModel) else Path(source)
    if path is not None and path.suffix in RUNS and not path.is_dir():
        return _of_file(path, engine, precision, threads)
    name = fastest_engine() if engine == "auto" else engine
    if name != "torch":
        install(name)
        if preferred_device() not in (None, "cpu"):
            raise ConfigError(f"{name} computes on the processor, not on {preferred_device()}; use the engine torch")
    from regard.export import exporting as make

    if name == "torch":
        if precision == "int8":
            raise ConfigError("the engine torch has no int8; use --engine openvino or onnxruntime")
        place = choose_device(device, "device")
        model, card = make.describe(source, size)
        module = program_module(trace(model.to(place), card.height, card.width))
        return torch_engine(module, card, precision, threads=threads, device=place, compile=compile)
    data, card = make.exported_onnx(source, size, precision)
    if precision == "int8":
        name = _right_in_int8(card, engine, [each for each in RUNS[".onnx"] if is_installed(each)], source)
    return open_files(name, (data,), card, precision, threads)


def _right_in_int8(card: Card, engine: str, installed: list[str], source: Any) -> str:
    """The engine asked for, or the fastest, among those that an int8 file was found right on."""
    right = [name for name in installed if name in card.parity]
    if engine not in right and not (engine == "auto" and right):
        raise ConfigError(
            f"the int8 export of {source} was not found right on {'any engine here' if engine == 'auto' else engine}, "
            f"but on {', '.join(card.parity)}; use one of those"
        )
    return right[0] if engine == "auto" else engine


def _of_file(path: Path, engine: str, precision: Precision, threads: int | None) -> Engine:
    """The engine for an exported file."""
    if path.suffix == ".pt2":
        raise ConfigError(UNTRUSTED.format(path))
    if not path.is_file():
        raise ConfigError(f"there is no {path}; make it with 'regard export'")
    (card, contents), takers = read_export(path), RUNS[path.suffix]
    if (card.precision == "int8") != (precision == "int8"):
        raise ConfigError(f"{path} is {card.precision}, asked for was {precision}; give the file that is it")
    if engine != "auto" and engine not in takers:
        raise ConfigError(f"{engine} does not read {path}; use {' or '.join(takers)}")
    if precision == "int8":
        engine = _right_in_int8(card, engine, [name for name in takers if is_installed(name)], path)
    elif engine == "auto":
        engine = next((name for name in takers if is_installed(name)), takers[0])
    return open_files(engine, contents, card, precision, threads)


def open_files(
    name: str, files: tuple[bytes, ...], card: Card, precision: Precision | None = None, threads: int | None = None
) -> Engine:
    """The engine of that name for the content of an exported file, or of OpenVINO's two.

    Whoever calls it with a ``.pt2`` trusts it: see ``UNTRUSTED``.

    Raises:
        CheckpointError: the engine does not take it.
    """
    precision = precision or card.precision
    try:
        if name == "torch":
            return torch_engine(program_module(load_program(files[0])), card, precision, threads=threads)
        return {"onnxruntime": onnx_engine, "openvino": openvino_engine}[name](files, card, precision, threads)
    except RegardError:
        raise
    except Exception as error:  # the runtimes raise types of their own
        raise CheckpointError(
            f"{name} does not take {card.system} at {card.height} x {card.width} ({one_line(error)}); "
            "export it again, or use another engine"
        ) from error


def torch_engine(
    module: fx.GraphModule,
    card: Card,
    precision: Precision,
    *,
    threads: int | None = None,
    device: torch.device | None = None,
    compile: bool = False,
) -> Engine:
    """A graph run by PyTorch; ``threads`` is the whole process's number of them."""
    place = device or torch.device("cpu")
    if threads:
        torch.set_num_threads(threads)
    module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if precision == "bf16":
        _halve_products(module)

    def compute(network: Any, images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), Products("bf16" if precision == "bf16" else "fp32", place):
            return network(images).float()

    network, note = _compiled(module, card, place, compute) if compile else (module, "")

    def run(images: np.ndarray) -> np.ndarray:
        return compute(network, torch.from_numpy(images).to(place)).cpu().numpy()

    return Engine("torch", precision, card, run, note)


def _halve_products(module: fx.GraphModule) -> None:
    """Keep weights that only products use in bfloat16, in which autocast would turn them for every batch."""
    products = {torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default, torch.ops.aten.linear.default}
    for node in module.graph.nodes:
        if node.op == "get_attr" and all(user.target in products for user in node.users):
            owner, _, name = node.target.rpartition(".")
            place: Any = module.get_submodule(owner)
            value = getattr(place, name)
            if isinstance(value, nn.Parameter):
                value.data = value.data.bfloat16()
            else:
                setattr(place, name, value.bfloat16())


def _compiled(module: nn.Module, card: Card, device: torch.device, compute: Any) -> tuple[Any, str]:
    """The module compiled, tried on two batches; or the module itself, and why."""
    compiled: Any = torch.compile(module, dynamic=True)
    try:
        for count in (2, 3):
            compute(compiled, torch.zeros(count, card.height, card.width, 3, dtype=torch.uint8, device=device))
    except Exception as error:  # the compiler raises what its tools do
        return module, f"torch.compile does not work here ({one_line(error)}); computing without it"
    return compiled, ""


def onnx_engine(files: tuple[bytes, ...], card: Card, precision: Precision, threads: int | None = None) -> Engine:
    """An ONNX file run by ONNX Runtime, on the CPU."""
    if precision == "bf16":
        raise ConfigError("the engine onnxruntime has no bf16 on a CPU; use --engine openvino or torch")
    runtime = install("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or usable_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
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
