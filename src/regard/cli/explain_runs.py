"""What the actions of ``regard explain`` share: runs as they are opened, pictures as they are fed, files as written."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from regard.cli.arguments import parse_size
from regard.evaluation.run import Run, open_run, open_runs
from regard.explain.figures.map_figures import figure_bytes
from regard.storage import plain_text, write_atomic
from regard.wording import distinct

__all__ = ["described", "names_of", "opened_runs", "write_arrays", "write_figure", "write_json"]


def opened_runs(paths: Sequence[Path], size: str | None = None, *, transposed: bool = False) -> list[Run]:
    """Open runs, each with its own input size unless told.

    Args:
        paths: run folders or model folders.
        size: input size as HxW.
        transposed: feed pictures as high as the input is wide and as wide as it is high, which squeezes them.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: the size is none or neither given nor known, or a run is given twice.
    """
    runs = open_runs(paths, size=parse_size(size))
    if not transposed:
        return runs
    return [open_run(run.folder, size=(run.input.width, run.input.height), label=run.label) for run in runs]


def described(run: Run) -> dict[str, Any]:
    """What the JSON says of a run."""
    return {"run": run.label, "system": run.system, "height": run.input.height, "width": run.input.width}


def names_of(paths: Sequence[Path]) -> list[str]:
    """A file name for each picture: its own without ending, numbered where several have the same."""
    stems = [plain_text(path.stem) for path in paths]
    numbered = [stem if stems.count(stem) == 1 else f"{number}_{stem}" for number, stem in enumerate(stems)]
    return distinct(numbered, paths, "{name}")


def write_figure(figure: Figure, stem: Path, arguments: argparse.Namespace) -> None:
    """Write a figure in every form that was asked for, and say where."""
    for form in dict.fromkeys(arguments.forms or ["png"]):
        path = stem.with_name(f"{stem.name}.{form}")
        write_atomic(path, figure_bytes(figure, form, arguments.dpi))
        print(path)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray] | np.ndarray) -> None:
    """Write arrays by name as ``.npz``, or one as ``.npy``."""
    buffer = io.BytesIO()
    if isinstance(arrays, np.ndarray):
        np.save(buffer, arrays)
    else:
        np.savez_compressed(buffer, **dict(arrays))  # pyright: ignore[reportArgumentType]
    write_atomic(path, buffer.getvalue())


def write_json(path: Path, content: Any) -> None:
    """Write what was found; numbers that are none become null."""
    write_atomic(path, (json.dumps(_plain(content), indent=2) + "\n").encode())


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, np.ndarray | np.generic):
        return _plain(content.tolist())
    return None if isinstance(content, float) and not np.isfinite(content) else content
