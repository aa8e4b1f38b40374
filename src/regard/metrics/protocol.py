"""Who is right for whom: the Market-1501 protocol for single queries.

Shapes: Q queries, G gallery images, M pairs.

Gallery images of pid -1 (junk) are left out altogether. For each query, images of its pid taken by its own camera are
removed; those taken by another camera are its positives; all others, distractors (pid 0) among them, are wrong.

Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from regard.errors import DataError
from regard.metrics.distance import as_array
from regard.structures import DISTRACTOR, JUNK

__all__ = ["Ids", "Pairs", "Protocol", "read_protocol"]

_STEP = 256

MOST = np.iinfo(np.int64).max

Ids = np.ndarray | Tensor | list[int]


class Pairs(NamedTuple):
    """(query, gallery) index pairs, ordered by query, then by gallery.

    Attributes:
        rows: (M,) int64 query rows.
        columns: (M,) int64 gallery rows.
    """

    rows: np.ndarray
    columns: np.ndarray


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


@dataclass(frozen=True)
class Protocol:
    """Identities and cameras of a query set and a gallery, and the pairs they make.

    Args:
        query_pids, query_camids: (Q,) int64.
        gallery_pids, gallery_camids: (G,) int64, junk included. Without cameras give None for both ``camids``: nothing
            but junk is removed then.

    Attributes:
        kept: (G',) gallery rows that are not junk, ascending; the columns of every pair count in these.

    Raises:
        DataError: the whole gallery is junk.
    """

    query_pids: np.ndarray
    gallery_pids: np.ndarray
    query_camids: np.ndarray | None = None
    gallery_camids: np.ndarray | None = None
    kept: np.ndarray = field(init=False)
    _pids: np.ndarray = field(init=False, repr=False)
    _by_pid: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kept = np.flatnonzero(self.gallery_pids != JUNK)
        if not len(kept):
            raise DataError(f"all {len(self.gallery_pids)} gallery images are junk (pid -1): check the gallery's pids")
        by_pid = np.argsort(self.gallery_pids[kept], kind="stable")
        for name, value in (("kept", kept), ("_by_pid", by_pid), ("_pids", self.gallery_pids[kept][by_pid])):
            object.__setattr__(self, name, value)

    def without_junk(self, gallery: Tensor) -> Tensor:
        """(G', D) gallery features without junk; no copy where there is none."""
        if len(self.kept) == len(gallery):
            return gallery
        return gallery[torch.from_numpy(self.kept).to(gallery.device)]

    def of_queries(self, rows: np.ndarray) -> Protocol:
        """The same gallery with some of the queries only."""
        camids = None if self.query_camids is None else self.query_camids[rows]
        return replace(self, query_pids=self.query_pids[rows], query_camids=camids)

    def pairs(self, rows: slice) -> tuple[Pairs, Pairs]:
        """Positives and removed pairs of some consecutive queries, which are counted from 0 in the result."""
        pids = self.query_pids[rows]
        first = np.searchsorted(self._pids, pids, "left")
        count = np.searchsorted(self._pids, pids, "right") - first
        count[(pids == JUNK) | (pids == DISTRACTOR)] = 0
        row = np.repeat(np.arange(len(pids)), count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        column = self._by_pid[first[row] + within]
        if self.query_camids is None or self.gallery_camids is None:
            same_camera = np.zeros(len(row), bool)
        else:
            same_camera = self.query_camids[rows][row] == self.gallery_camids[self.kept[column]]
        return Pairs(row[~same_camera], column[~same_camera]), Pairs(row[same_camera], column[same_camera])

    def any_match(self) -> bool:
        """Whether any query has a positive."""
        count = len(self.query_pids)
        return any(len(self.pairs(slice(row, row + _STEP))[0].rows) for row in range(0, count, _STEP))

    def is_match(self, indices: np.ndarray) -> np.ndarray:
        """Whether ranked images show the query's person.

        Args:
            indices: (Q, K) rows of the gallery as given, -1 where it ran out.

        Returns:
            (Q, K) bool.
        """
        person = (self.query_pids != JUNK) & (self.query_pids != DISTRACTOR)
        return (indices >= 0) & person[:, None] & (self.gallery_pids[indices] == self.query_pids[:, None])

    def explain_no_match(self) -> str:
        """One line on why no query has a positive: the identities or the cameras, and what to do about it."""
        query, gallery = np.unique(self.query_pids), np.unique(self.gallery_pids)
        shared = np.intersect1d(query, gallery)
        if not np.any((shared != JUNK) & (shared != DISTRACTOR)):
            return (
                f"no query has a match: the {len(query)} query ids ({_some(query)}) and the {len(gallery)} gallery ids "
                f"({_some(gallery)}) share none but junk (-1) and distractors (0); number persons from 1, alike in both"
            )
        cameras = np.unique(np.asarray(self.query_camids))
        return (
            f"no query has a match: all gallery images of the {len(shared)} shared ids were taken by the query's own "
            f"camera (query camids {_some(cameras)}) and so are removed; give the true camera numbers, or None for "
            f"both camids if there are no cameras"
        )


def read_protocol(
    num_queries: int,
    num_gallery: int,
    query_pids: Ids,
    gallery_pids: Ids,
    query_camids: Ids | None,
    gallery_camids: Ids | None,
) -> Protocol:
    """Check and convert what a caller gave.

    Raises:
        DataError: not one integer per row, a pid below -1, cameras of one side only, or nothing but junk.
    """
    if (query_camids is None) != (gallery_camids is None):
        missing = "query_camids" if query_camids is None else "gallery_camids"
        raise DataError(f"{missing} is missing: give the cameras of both sides, or None for both if there are none")
    return Protocol(
        as_pids(query_pids, num_queries, "query_pids"),
        as_pids(gallery_pids, num_gallery, "gallery_pids"),
        None if query_camids is None else as_ids(query_camids, num_queries, "query_camids"),
        None if gallery_camids is None else as_ids(gallery_camids, num_gallery, "gallery_camids"),
    )


def _some(values: np.ndarray) -> str:
    """The first three values, and whether there are more."""
    return ", ".join(map(str, values[:3].tolist())) + (", ..." if len(values) > 3 else "")
