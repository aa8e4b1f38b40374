"""Descriptors with what is known of their images: of a network here, or from files, of other people's models.

Shapes: N images, D descriptor length, P groups.

A ``.npz`` holds the arrays ``embeddings`` (N, D), ``pids`` (N,) and, if there are any, ``camids`` and ``tracklets``
(N,). A ``.parquet`` file holds one row per image with a list of D numbers in the column ``embedding`` (or
``embeddings``) and integers in ``pid`` and ``camid`` (or ``pids`` and ``camids``), likewise ``tracklet``.

Many images can be asked or stored as one. Multi-query (Market-1501): all images of a person by one camera become one
query. Tracklets: all images of one track become one descriptor. Both pool descriptors over groups of equal keys.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regard.errors import ConfigError, DataError, check_kind, nearest, shown
from regard.metrics.distance import Array, as_array, as_features, check_lengths, inverse_lengths
from regard.structures import DISTRACTOR, JUNK, Sample

__all__ = [
    "POOLINGS",
    "FeatureSet",
    "Ids",
    "Pooled",
    "as_ids",
    "as_pids",
    "check_sets",
    "pool_features",
    "read_features",
    "side_of",
]

Ids = np.ndarray | Tensor | Sequence[int]

MOST = np.iinfo(np.int64).max

POOLINGS = ("mean", "max")

_REQUIRED = ("embeddings", "pids")
_OPTIONAL = ("camids", "tracklets")


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSet:
    """Descriptors with what is known of their images.

    Attributes:
        embeddings: (N, D) numbers.
        pids: (N,) identities: -1 is junk, 0 a distractor; None where they are unknown.
        camids, tracklets: (N,) numbers; None where there are none.
        names: what N images are called, such as their files; None where they have no names.

    Raises:
        DataError: there is not one integer, or one name, for each image.
    """

    embeddings: Any
    pids: Any = None
    camids: Any = None
    tracklets: Any = None
    names: Any = None

    def __post_init__(self) -> None:
        try:
            count = len(self.embeddings)
        except TypeError:
            raise DataError(
                f"embeddings are {shown(self.embeddings)}: give an (N, D) array, one row per image"
            ) from None
        for name in ("pids", "camids", "tracklets"):
            if getattr(self, name) is not None:
                as_ids(getattr(self, name), count, name)
        if self.names is not None and (shape := as_array(self.names, "names").shape) != (count,):
            raise DataError(f"names has shape {shape} for {count} feature rows: give one name per row, or None")

    @classmethod
    def of(cls, embeddings: Array, samples: Sequence[Sample]) -> FeatureSet:
        """The descriptors (N, D) of N samples."""
        pids, camids = (np.array([getattr(one, key) for one in samples], np.int64) for key in ("pid", "camid"))
        return cls(embeddings, pids, camids, names=[str(one.path) for one in samples])

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, rows: Any) -> FeatureSet:
        """Some of the images: a slice, a mask, row numbers (n,), or one row number, which makes a set of one image.

        Raises:
            IndexError: there is no such row.
        """
        chosen = np.arange(len(self))[rows].reshape(-1)
        parts = [None if part is None else _on_cpu(part)[chosen] for part in self._parts()]
        return FeatureSet(*parts)

    def __add__(self, other: FeatureSet) -> FeatureSet:
        """The images of both, one set behind the other; what one of them lacks, all lack.

        Raises:
            ConfigError: the other is no set.
            DataError: they differ in columns.
        """
        check_kind("what to join with a FeatureSet", other, FeatureSet, "another FeatureSet")
        widths = [_on_cpu(side.embeddings).shape[1:] for side in (self, other)]
        if widths[0] != widths[1]:
            said = " and ".join(" x ".join(map(str, width)) or "no" for width in widths)
            raise DataError(f"the sets to join have {said} columns: extract both with the same model")
        both = zip(self._parts(), other._parts(), strict=True)
        joined = (None if a is None or b is None else np.concatenate([_on_cpu(a), _on_cpu(b)]) for a, b in both)
        return FeatureSet(*joined)

    def __radd__(self, other: int) -> FeatureSet:
        """What :func:`sum` begins with, 0, and the set: the set itself."""
        return self if other == 0 and not isinstance(other, FeatureSet) else self.__add__(other)  # pyright: ignore[reportArgumentType]

    def _parts(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]


def _on_cpu(part: Any) -> np.ndarray:
    return part.detach().cpu().numpy() if isinstance(part, Tensor) else np.asarray(part)


def check_sets(query: FeatureSet, gallery: FeatureSet) -> None:
    """Raise ConfigError for a side that is no set of descriptors, such as an array of them alone, or a whole run."""
    for name, side in (("query", query), ("gallery", gallery)):
        wanted = f"a set of descriptors: regard.FeatureSet(embeddings, pids, camids) or run.features({name!r})"
        check_kind(name, side, FeatureSet, wanted)


def side_of(side: str, embeddings: Array, pids: Ids | None, camids: Ids | None) -> FeatureSet:
    """A set of descriptors that were checked already, whose faults are told with the name of the side.

    Raises:
        DataError: as of :func:`as_pids`.
    """
    count = len(embeddings)
    people = None if pids is None else as_pids(pids, count, f"{side}_pids")
    return FeatureSet(embeddings, people, None if camids is None else as_ids(camids, count, f"{side}_camids"))


def as_ids(ids: Ids, count: int, name: str) -> np.ndarray:
    """(count,) int64 identities or cameras.

    Raises:
        DataError: not one integer per row, or one that int64 does not hold.
    """
    if isinstance(ids, Tensor):
        values = ids.detach().cpu()
        values = values.double().numpy() if values.is_floating_point() else values.numpy()
    else:
        values = as_array(ids, name)
    if values.shape != (count,):
        raise DataError(f"{name} has shape {values.shape} for {count} feature rows: give one integer per row")
    if values.dtype.kind not in "iu":
        raise DataError(
            f"{name} is of type {values.dtype}: give integers from -2^63 to 2^63 - 1, for example "
            f"numpy.asarray(ids, int)"
        )
    if values.dtype.kind == "u" and count and values.max() > MOST:
        raise DataError(f"{name} holds {values.max()}, wanted integers up to 2^63 - 1: number them anew, from 1")
    return values.astype(np.int64)


def as_pids(ids: Ids, count: int, name: str) -> np.ndarray:
    """(count,) int64 identities.

    Raises:
        DataError: as of :func:`as_ids`, or one below -1, which is neither a person nor junk.
    """
    values = as_ids(ids, count, name)
    low = values < JUNK
    if low.any():
        raise DataError(
            f"{name} holds {values.min()} ({low.sum()} of {count} below {JUNK}), wanted {JUNK} for junk, {DISTRACTOR} "
            f"for distractors, persons from 1: number persons from 1"
        )
    return values


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


class Pooled(NamedTuple):
    """One descriptor per group, in the order of (pid, camid, tracklet).

    Attributes:
        features: (P, D) float32.
        pids, camids: (P,) int64; camids None if there are no cameras.
        sizes: (P,) int64 images pooled.
    """

    features: np.ndarray
    pids: np.ndarray
    camids: np.ndarray | None
    sizes: np.ndarray


def pool_features(
    features: Array,
    pids: Ids,
    camids: Ids | None = None,
    tracklets: Ids | None = None,
    *,
    how: str = "mean",
    normalize: bool = True,
) -> Pooled:
    """Pool descriptors over images of the same person by the same camera, and of the same tracklet if given.

    Args:
        features: (N, D) descriptors.
        pids: (N,) identities.
        camids: (N,) cameras, or None.
        tracklets: (N,) track numbers, or None.
        how: "mean" or "max", the largest value of each column.
        normalize: bring descriptors to unit length first, as for the cosine distance.

    Raises:
        ConfigError: the pooling is unknown.
        DataError: the arrays do not fit each other or are not finite.
    """
    if how not in POOLINGS:
        raise ConfigError(f"unknown pooling {how!r}{nearest(how, POOLINGS)}; known: {', '.join(POOLINGS)}")
    values = as_features(features, "pooled")
    check_lengths(values, "pooled", "cosine" if normalize else "euclidean")
    count = len(values)
    keys = [as_pids(pids, count, "pids")]
    keys += [
        as_ids(ids, count, name) for ids, name in ((camids, "camids"), (tracklets, "tracklets")) if ids is not None
    ]
    groups, index, sizes = np.unique(np.stack(keys, 1), axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(index.ravel(), kind="stable")
    pooled = values.new_empty((len(groups), values.shape[1]))
    scale = inverse_lengths(values) if normalize else values.new_ones(count)
    for row, members in enumerate(np.split(order, np.cumsum(sizes)[:-1])):
        which = torch.from_numpy(members).to(values.device)
        part = values[which] * scale[which, None]
        pooled[row] = part.mean(0) if how == "mean" else part.amax(0)
    return Pooled(pooled.cpu().numpy(), groups[:, 0], None if camids is None else groups[:, 1], sizes)
