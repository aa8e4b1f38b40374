"""Opening an engine for a network: for a model, a folder or an exported file, the one asked for or the fastest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from regard.device import choose_device, preferred_device
from regard.errors import ConfigError, UnknownNameError
from regard.export.engines import ENGINES, RUNS, Engine, EngineName
from regard.export.exporting import describe, exported_onnx
from regard.export.graph import program_module, trace
from regard.export.manifest import Card, Precision, read_export
from regard.export.packages import install, is_installed
from regard.export.torch_engine import open_files, torch_engine
from regard.models import ReIDModel
from regard.storage import as_path

__all__ = ["fastest_engine", "open_engine"]

REDUCED = {"int8", "fp16"}
"""Precisions of files."""

UNTRUSTED = (
    "{} is PyTorch's own format, and what reads it can run code that is in the file; regard does not open it. "
    "Give the run it was made of"
)


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
        precision: of the products. "int8" and "fp16" want a file that ``regard export --int8`` or ``--fp16`` made.
        threads: CPU threads; None takes as many as PyTorch (``OMP_NUM_THREADS``).
        size: height and width of the pictures; None takes the model's own.
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
    wanted = "a model, the folder of one or of a run, or an exported file"
    path = None if isinstance(source, ReIDModel) else as_path("source", source, wanted)
    if path is not None and path.suffix in RUNS and not path.is_dir():
        return _of_file(path, engine, precision, threads)
    name = fastest_engine() if engine == "auto" else engine
    if name != "torch":
        install(name)
        if preferred_device() not in (None, "cpu"):
            raise ConfigError(f"{name} computes on the processor, not on {preferred_device()}; use the engine torch")
    if name == "torch":
        if precision in REDUCED:
            raise ConfigError(f"the engine torch has no {precision}; use --engine openvino or onnxruntime")
        place = choose_device(device, "device")
        model, card = describe(source, size)
        module = program_module(trace(model.to(place), card.height, card.width))
        return torch_engine(module, card, precision, threads=threads, device=place, compile=compile)
    data, card = exported_onnx(source, size, precision)
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
    if card.precision != precision and {card.precision, precision} & REDUCED:
        raise ConfigError(f"{path} is {card.precision}, asked for was {precision}; give the file that is it")
    if engine != "auto" and engine not in takers:
        raise ConfigError(f"{engine} does not read {path}; use {' or '.join(takers)}")
    if precision == "int8":
        engine = _right_in_int8(card, engine, [name for name in takers if is_installed(name)], path)
    elif engine == "auto":
        engine = next((name for name in takers if is_installed(name)), takers[0])
    return open_files(engine, contents, card, precision, threads)
