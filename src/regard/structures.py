"""The nouns that cross folder boundaries.

Shapes: B images in a batch, H x W pixels, D descriptor length, N identities, Q queries, G gallery images,
K ranks kept per query.

A :class:`Sample` is a picture on disk, a :class:`Batch` what the loader yields, an :class:`Output` what every model
returns, a :class:`Ranking` what every search and evaluation speaks of. :class:`Splits` is what a data set reads to.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from regard.errors import ConfigError, is_whole, require, shown
from regard.wording import count, named_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from torch import Tensor

__all__ = [
    "Batch", "HasSplits", "MatchLists", "Output", "Ranking", "Sample", "Splits",
]  # fmt: skip

JUNK = -1
"""pid of a detection that is neither right nor wrong: never ranked (Market-1501 protocol)."""

RANKS = (1, 5, 10, 15, 20)
"""Where the CMC curve is read, wherever it is printed, written or drawn as figures."""

DISTRACTOR = 0
"""pid of a picture of nobody in the query set: always a wrong match."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One person crop on disk and what the data set knows about it.

    Attributes:
        path: the image file.
        pid: person identity as published; -1 is junk, 0 a distractor (see ``JUNK``, ``DISTRACTOR``).
        camid: camera number as published.
        sequence: recording of that camera, where the data set says.
        frame: frame number within the sequence, where the data set says.
        mask: person mask (PNG, 0 = background), where there is one.
        keypoints: 17 COCO keypoints as (x, y, visibility) in pixels of the stored image, where there are any.
        extra: whatever else it knows, by name, such as the remaining columns of a table.
    """

    path: Path
    pid: int
    camid: int
    sequence: int | None = None
    frame: int | None = None
    mask: Path | None = None
    keypoints: tuple[tuple[float, float, int], ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set as read from disk.

    Attributes:
        name: name of the data set in the registry.
        root: the folder it was read from.
        train, query, gallery: samples, each in sorted file order.
        options: the data set's own with which it was read, such as ``{"boxes": "labeled"}``.
    """

    name: str
    root: Path
    train: list[Sample] = field(repr=False)
    query: list[Sample] = field(repr=False)
    gallery: list[Sample] = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, root: Path, parts: Mapping[str, list[Sample]]) -> Splits:
        """The data set of three splits by name."""
        return cls(name, root, parts["train"], parts["query"], parts["gallery"])

    @property
    def label(self) -> str:
        """Its name, with the options it was read with: what figures on it are called."""
        return named_with(self.name, self.options)

    @property
    def num_ids(self) -> int:
        """Number of identities to train on."""
        return len({sample.pid for sample in self.train})

    def __str__(self) -> str:
        parts = []
        for split in ("train", "query", "gallery"):
            samples: list[Sample] = getattr(self, split)
            ids = len({s.pid for s in samples if s.pid > 0})
            parts.append(f"{split} {count(len(samples), 'image')} of {count(ids, 'id')}")
        cameras = len({s.camid for s in (*self.train, *self.query, *self.gallery)})
        return f"{self.label}: {', '.join(parts)}; {count(cameras, 'camera')}"


class HasSplits(Protocol):
    """Something opened on a data set, such as a run."""

    @property
    def splits(self) -> Splits:
        """The data set."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MatchLists:
    """What is right for every query, told picture by picture instead of by identity and camera.

    Attributes:
        good: for each of the Q queries, the gallery rows that are right, ascending.
        junk: the same for those that are neither right nor wrong; all others are wrong.
    """

    good: Sequence[np.ndarray]
    junk: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.good)


class Batch(NamedTuple):
    """What a loader yields.

    Attributes:
        images: (B, 3, H, W), uint8 as decoded or float32 normalised; the engine normalises uint8 on the device.
        pids: (B,) int64: in training the class label 0..N-1 (rank of the pid among the sorted training pids),
            else the published pid.
        camids: (B,) int64.
        extra: what a system needs besides (masks, heat maps, each with validity flags), by name.
    """

    images: Tensor
    pids: Tensor
    camids: Tensor
    extra: dict[str, Any]


class Output(NamedTuple):
    """What every model returns, in training and in evaluation alike.

    Attributes:
        embedding: (B, D) retrieval descriptor before any L2 normalisation.
        features: name -> (B, Di) vectors for metric losses.
        logits: name -> (B, N) identity scores; empty once the model is stripped.
        maps: name -> (B, ., H, W) attention gates and predicted maps.
    """

    embedding: Tensor
    features: dict[str, Tensor]
    logits: dict[str, Tensor]
    maps: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Ranking:
    """For every query the gallery in order of distance, junk already removed.

    Attributes:
        indices: (Q, K) int64 gallery indices, nearest first, -1 where the gallery ran out.
        distances: (Q, K) float32, +inf where the gallery ran out.
        matches: (Q, K) bool, whether that gallery image shows the query's person; None where identities are unknown.
        query_names, gallery_names: what Q and G images are called; None where they have no names.
    """

    indices: np.ndarray
    distances: np.ndarray
    matches: np.ndarray | None = None
    query_names: Sequence[str] | None = None
    gallery_names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def top(self, k: int) -> Ranking:
        """The same ranking cut after the first ``k``.

        Raises:
            ConfigError: it does not hold as many, or ``k`` is no number from 1 on.
        """
        held = self.indices.shape[1]
        if not is_whole(k) or not 1 <= k <= held:
            further = f", or rank with k={k}" if is_whole(k) and k > held else ""
            raise ConfigError(f"top {shown(k)} asked of a ranking of {held} ranks; ask for 1 to {held}{further}")
        matches = None if self.matches is None else self.matches[:, :k]
        return replace(self, indices=self.indices[:, :k], distances=self.distances[:, :k], matches=matches)

    def to_pandas(self) -> DataFrame:
        """One row per query and gallery image, nearest first, without the places where the gallery ran out.

        Returns:
            The columns ``query`` and ``gallery`` (row numbers), ``rank`` from 1, ``distance``, and where they are known
            ``match``, ``query_name`` and ``gallery_name``.

        Raises:
            ConfigError: pandas is not installed.
        """
        pandas = require("pandas", "Ranking.to_pandas", "pandas", "read indices and distances")
        query, place = np.nonzero(self.indices >= 0)
        gallery = self.indices[query, place]
        columns = {"query": query, "rank": place + 1, "gallery": gallery, "distance": self.distances[query, place]}
        if self.matches is not None:
            columns["match"] = self.matches[query, place]
        for side, names, rows in (("query", self.query_names, query), ("gallery", self.gallery_names, gallery)):
            if names is not None:
                columns[f"{side}_name"] = np.asarray(names, object)[rows]
        return pandas.DataFrame(columns)

    def plot(self, samples: Splits | HasSplits, queries: Iterable[int] | None = None, depth: int = 10) -> Figure:
        """Draw the answers to some queries.

        Where the ranking has names, the pictures are those of these names, so that parts and other orders of the query
        and the gallery can be drawn, too. A side without names has to be the data set's own, whole and in its order.

        Args:
            samples: the data set that was ranked, or a run that is opened on it.
            queries: row numbers of the ranking; None draws the first three.
            depth: pictures per query.

        Returns:
            A Matplotlib figure.

        Raises:
            ConfigError: the ranking is of another data set, there is no such query, or an argument is of another kind.
            DataError: a picture cannot be read.
        """
        figures = importlib.import_module("regard.report.ranked_figure")  # by name, as a registry finds its rooms
        return figures.plot_ranking(self, samples, queries, depth)
