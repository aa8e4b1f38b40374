"""Descriptors from files, so that other people's models can be scored.

A ``.npz`` holds the arrays ``embeddings`` (N, D), ``pids`` (N,) and, if there are any, ``camids`` and ``tracklets``
(N,). A ``.parquet`` file holds one row per image with a list of D numbers in the column ``embedding`` (or
``embeddings``) and integers in ``pid`` and ``camid`` (or ``pids`` and ``camids``), likewise ``tracklet``.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regard.errors import ConfigError, DataError
from regard.metrics.distance import as_features
from regard.metrics.protocol import as_ids, as_pids

__all__ = ["FeatureSet", "read_features"]

_REQUIRED = ("embeddings", "pids")
_OPTIONAL = ("camids", "tracklets")


class FeatureSet(NamedTuple):
    """Descriptors with what is known of their images.

    Attributes:
        embeddings: (N, D) float32.
        pids: (N,) int64.
        camids, tracklets: (N,) int64, None where the file has none.
    """

    embeddings: np.ndarray
    pids: np.ndarray
    camids: np.ndarray | None = None
    tracklets: np.ndarray | None = None


def read_features(path: str | Path) -> FeatureSet:
    """Read a ``.npz`` or ``.parquet`` file of descriptors.

    Raises:
        ConfigError: the kind of file is unknown.
        DataError: the file is missing, damaged, lacks an array, or the arrays do not fit each other.
    """
    path = Path(path)
    readers = {".npz": _from_npz, ".parquet": _from_parquet}
    if path.suffix.lower() not in readers:
        raise ConfigError(
            f"{path.name}: features are read from .npz or .parquet files, not {path.suffix or 'this one'}"
        )
    if not path.is_file():
        raise DataError(f"no file {path}: give a file of features with {', '.join(_REQUIRED)} and {_OPTIONAL[0]}")
    arrays = readers[path.suffix.lower()](path)
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        raise DataError(f"{path.name} lacks {' and '.join(missing)}, it holds {', '.join(arrays) or 'nothing'}")
    embeddings = as_features(arrays["embeddings"], path.name).numpy()
    ids = {
        name: (as_pids if name == "pids" else as_ids)(arrays[name], len(embeddings), f"{path.name}: {name}")
        for name in ("pids", *_OPTIONAL)
        if name in arrays
    }
    return FeatureSet(embeddings, **ids)


def _from_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:  # TypeError: a .npy file
        raise DataError(f"{path.name} cannot be read as .npz ({error}): write it with numpy.savez") from error


def _from_parquet(path: Path) -> dict[str, np.ndarray]:
    """The columns of a Parquet file by name in the plural."""
    from pyarrow import ArrowInvalid, parquet

    wanted = {name: (name, name.removesuffix("s")) for name in (*_REQUIRED, *_OPTIONAL)}
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowInvalid) as error:
        raise DataError(f"{path.name} cannot be read as Parquet ({error}): write it with pyarrow or pandas") from error
    arrays = {}
    for plural, names in wanted.items():
        name = next((name for name in names if name in table.column_names), None)
        if name is None:
            continue
        column = table[name].combine_chunks()
        if column.null_count:
            raise DataError(f"{path.name}: column {name} has {column.null_count} empty rows: fill or drop them")
        arrays[plural] = (
            _matrix(column, path, name) if plural == "embeddings" else column.to_numpy(zero_copy_only=False)
        )
    return arrays


def _matrix(column, path: Path, name: str) -> np.ndarray:  # a pyarrow list array
    """(N, D) of a column of lists."""
    if not hasattr(column, "flatten"):
        raise DataError(f"{path.name}: column {name} is of type {column.type}: give a list of numbers per row")
    values = column.flatten().to_numpy(zero_copy_only=False)
    lengths = np.unique(np.asarray(column.value_lengths())) if len(column) else np.zeros(1, int)
    if len(lengths) > 1:
        raise DataError(f"{path.name}: lists in column {name} differ in length, {lengths[0]} to {lengths[-1]}")
    return values.reshape(len(column), int(lengths[0]))
