"""What the actions of ``regard explain`` share: runs as they are opened, pictures as they are fed, files as written."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from regard.cli.search_verb import parse_size
from regard.data.image import read_image
from regard.data.transforms import TestTransform, normalize
from regard.errors import ConfigError
from regard.explain.figures.map_figures import figure_bytes
from regard.export.exporting import input_of
from regard.models import ReIDModel, load
from regard.models.saved import model_config, model_folder
from regard.naming import distinct
from regard.storage import plain_text, write_atomic

__all__ = ["OpenRun", "file_name", "labels_of", "names_of", "open_runs", "write_arrays", "write_figure", "write_json"]


class OpenRun(NamedTuple):
    """A trained model and how its pictures are made.

    Attributes:
        label: the run's name in figures.
        system: name of the model.
        model: as loaded.
        transform: resizes to its input.
    """

    label: str
    system: str
    model: ReIDModel
    transform: TestTransform

    def input(self, paths: Sequence[Path]) -> Tensor:
        """Pictures as normalized network input, (B, 3, H, W)."""
        pictures = [np.ascontiguousarray(self.transform(read_image(path))) for path in paths]
        return normalize(torch.from_numpy(np.stack(pictures)))

    def describe(self) -> dict[str, Any]:
        """What the JSON says of it."""
        return {
            "run": self.label,
            "system": self.system,
            "height": self.transform.height,
            "width": self.transform.width,
        }


def open_runs(paths: Sequence[Path], size: str | None = None, *, transposed: bool = False) -> list[OpenRun]:
    """Load runs, each with its own input size unless told.

    Args:
        paths: run folders or model folders.
        size: input size as HxW.
        transposed: feed pictures as high as the input is wide and as wide as it is high, which squeezes them.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: the size is none, or a run is given twice.
    """
    runs = []
    for path, label in zip(paths, labels_of(paths)):
        folder = model_folder(path)
        model, seen = load(folder), input_of(folder).resized(parse_size(size))
        height, width = seen.size
        height, width = (width, height) if transposed else (height, width)
        transform = TestTransform(height, width, seen.interpolation)
        runs.append(OpenRun(label, str(model_config(model)["model"]), model, transform))
    return runs


def labels_of(paths: Sequence[Path]) -> list[str]:
    """What runs are called in figures: the name of the folder, with as much of its path as tells it from others.

    Raises:
        ConfigError: a run is given twice.
    """
    places = [path.resolve() for path in paths]
    if len(set(places)) < len(places):
        raise ConfigError(f"a run is given twice among {', '.join(map(str, paths))}; give each once")
    labels = [place.parent.name if place.name in ("final", "best") else place.name for place in places]
    labels = [plain_text(label) for label in distinct(labels, places, "{place}")]
    files = [file_name(label).lower() for label in labels]
    return [label if files.count(file) == 1 else f"{number} {label}"
            for number, (label, file) in enumerate(zip(labels, files), start=1)]  # fmt: skip


def file_name(label: str) -> str:
    """A label as the name of one file or folder."""
    return "_".join(part for part in Path(label).parts if part not in ("/", "..", "."))


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
    if isinstance(content, float | np.floating):
        return float(content) if np.isfinite(content) else None
    return content.item() if isinstance(content, np.generic) else content
