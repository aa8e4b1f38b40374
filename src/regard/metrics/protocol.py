"""Who is right for whom: the Market-1501 protocol for single queries.

Shapes: Q queries, G gallery images, M pairs.

Gallery images of pid -1 (junk) are left out altogether. For each query, images of its pid taken by its own camera are
removed; those taken by another camera are its positives; all others, distractors (pid 0) among them, are wrong. Without
cameras, or where they are ignored, nothing is removed for a query but, leaving one out within one list, itself.

Where a data set tells picture by picture what is right for a query and what is neither (:class:`MatchLists`), these
lists take the place of identities, cameras and junk alike, and a picture on neither list is wrong.

Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from regard.errors import ConfigError, DataError
from regard.metrics.distance import as_array
from regard.structures import DISTRACTOR, JUNK, MatchLists

__all__ = ["Ids", "Pairs", "Protocol", "read_protocol"]

_STEP = 256

MOST = np.iinfo(np.int64).max

ONE_LIST = "leave-one-out compares a list with itself, but query and gallery differ; give the same list twice"

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
        own: (Q,) gallery row that each query is itself and that is removed for it; None where queries are no part of
            the gallery.
        lists: what is right and what is junk for each query, in place of identities and cameras.

    Attributes:
        kept: (G',) gallery rows that are not junk (for some query, where there are lists), ascending; the columns of
            every pair count in these.

    Raises:
        DataError: the whole gallery is junk.
    """

    query_pids: np.ndarray
    gallery_pids: np.ndarray
    query_camids: np.ndarray | None = None
    gallery_camids: np.ndarray | None = None
    own: np.ndarray | None = None
    lists: MatchLists | None = None
    kept: np.ndarray = field(init=False)
    _pids: np.ndarray = field(init=False, repr=False)
    _by_pid: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kept = np.flatnonzero(self.gallery_pids != JUNK) if self.lists is None else self._of_some_use(self.lists)
        if not len(kept):
            why = "(pid -1): check the gallery's pids" if self.lists is None else "on every list: check the lists"
            raise DataError(f"all {len(self.gallery_pids)} gallery images are junk {why}")
        by_pid = np.argsort(self.gallery_pids[kept], kind="stable")
        for name, value in (("kept", kept), ("_by_pid", by_pid), ("_pids", self.gallery_pids[kept][by_pid])):
            object.__setattr__(self, name, value)

    def _of_some_use(self, lists: MatchLists) -> np.ndarray:
        """Gallery rows that are not on the junk list of every query."""
        times = np.zeros(len(self.gallery_pids), np.int64)
        for rows in lists.junk:
            times[rows] += 1
        return np.flatnonzero((times < len(lists)) | (times == 0))

    def without_junk(self, gallery: Tensor) -> Tensor:
        """(G', D) gallery features without junk; no copy where there is none."""
        if len(self.kept) == len(gallery):
            return gallery
        return gallery[torch.from_numpy(self.kept).to(gallery.device)]

    def of_queries(self, rows: np.ndarray) -> Protocol:
        """The same gallery with some of the queries only."""
        camids = None if self.query_camids is None else self.query_camids[rows]
        own = None if self.own is None else self.own[rows]
        lists = self.lists and MatchLists(*([part[row] for row in rows] for part in (self.lists.good, self.lists.junk)))
        return replace(self, query_pids=self.query_pids[rows], query_camids=camids, own=own, lists=lists)

    def pairs(self, rows: slice) -> tuple[Pairs, Pairs]:
        """Positives and removed pairs of some consecutive queries, which are counted from 0 in the result."""
        if self.lists is not None:
            return self._listed(self.lists.good[rows]), self._listed(self.lists.junk[rows])
        pids = self.query_pids[rows]
        first = np.searchsorted(self._pids, pids, "left")
        count = np.searchsorted(self._pids, pids, "right") - first
        count[(pids == JUNK) | (pids == DISTRACTOR)] = 0
        row = np.repeat(np.arange(len(pids)), count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        column = self._by_pid[first[row] + within]
        if self.query_camids is None or self.gallery_camids is None:
            removed = np.zeros(len(row), bool)
        else:
            removed = self.query_camids[rows][row] == self.gallery_camids[self.kept[column]]
        if self.own is None:
            return Pairs(row[~removed], column[~removed]), Pairs(row[removed], column[removed])
        own = self.own[rows]
        removed |= own[row] == self.kept[column]
        itself = np.searchsorted(self.kept, own).clip(max=len(self.kept) - 1)
        there = np.flatnonzero((self.kept[itself] == own) & (count == 0))  # nobody's pictures are left out, too
        leave = np.concatenate([row[removed], there]), np.concatenate([column[removed], itself[there]])
        order = np.lexsort(leave[::-1])
        return Pairs(row[~removed], column[~removed]), Pairs(*(index[order] for index in leave))

    def _listed(self, lists: Sequence[np.ndarray]) -> Pairs:
        """The pairs of some queries with what is on their lists, as far as it is compared at all."""
        place = np.full(len(self.gallery_pids), -1)
        place[self.kept] = np.arange(len(self.kept))
        row = np.repeat(np.arange(len(lists)), [len(listed) for listed in lists])
        column = place[np.concatenate([np.empty(0, np.int64), *lists])]
        return Pairs(row[column >= 0], column[column >= 0])

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
        if self.lists is not None:
            return np.stack([np.isin(some, good) for some, good in zip(indices, self.lists.good, strict=True)])
        person = (self.query_pids != JUNK) & (self.query_pids != DISTRACTOR)
        return (indices >= 0) & person[:, None] & (self.gallery_pids[indices] == self.query_pids[:, None])

    def explain_no_match(self) -> str:
        """One line on why no query has a positive: the identities or the cameras, and what to do about it."""
        if self.lists is not None:
            return f"no query has a match: all {len(self.lists)} lists of right images are empty; check the lists"
        query, gallery = np.unique(self.query_pids), np.unique(self.gallery_pids)
        shared = np.intersect1d(query, gallery)
        if not np.any((shared != JUNK) & (shared != DISTRACTOR)):
            return (
                f"no query has a match: the {len(query)} query ids ({_some(query)}) and the {len(gallery)} gallery ids "
                f"({_some(gallery)}) share none but junk (-1) and distractors (0); number persons from 1, alike in both"
            )
        if self.query_camids is None:
            return (
                f"no query has a match: none of the {len(shared)} persons has a second image in the list; give at "
                "least two images of a person"
            )
        cameras = np.unique(self.query_camids)
        return (
            f"no query has a match: all gallery images of the {len(shared)} shared ids were taken by the query's own "
            f"camera (query camids {_some(cameras)}) and so are removed; give the true camera numbers, or None for "
            f"both camids if there are no cameras, or ignore cameras"
        )


def read_protocol(  # noqa: PLR0917
    num_queries: int,
    num_gallery: int,
    query_pids: Ids,
    gallery_pids: Ids,
    query_camids: Ids | None,
    gallery_camids: Ids | None,
    *,
    ignore_cameras: bool = False,
    leave_one_out: bool = False,
    lists: MatchLists | None = None,
) -> Protocol:
    """Check and convert what a caller gave.

    Args:
        num_queries, num_gallery: rows of descriptors.
        query_pids, gallery_pids, query_camids, gallery_camids: as for :class:`Protocol`.
        ignore_cameras: images of a person by one camera count as right.
        leave_one_out: query and gallery are one list, and an image is not asked about itself.
        lists: what is right and what is junk for each query, in place of identities and cameras.

    Raises:
        ConfigError: lists together with an option that changes what identities and cameras say.
        DataError: lists that do not fit the queries and the gallery, not one integer per row, a pid below -1, cameras
            of one side only, or nothing but junk.
    """
    if (query_camids is None) != (gallery_camids is None):
        missing = "query_camids" if query_camids is None else "gallery_camids"
        raise DataError(f"{missing} is missing: give the cameras of both sides, or None for both if there are none")
    pids = as_pids(query_pids, num_queries, "query_pids"), as_pids(gallery_pids, num_gallery, "gallery_pids")
    camids = None, None
    if query_camids is not None and gallery_camids is not None:
        camids = (
            as_ids(query_camids, num_queries, "query_camids"),
            as_ids(gallery_camids, num_gallery, "gallery_camids"),
        )
    if leave_one_out and not all(np.array_equal(*pair) for pair in (pids, camids) if pair[0] is not None):
        raise DataError(ONE_LIST)
    if ignore_cameras:
        camids = None, None
    if lists is not None:
        for name, chosen in (("ignored cameras", ignore_cameras), ("leave-one-out", leave_one_out)):
            if chosen:
                raise ConfigError(f"lists of right images do not go with {name}; leave one of them out")
        lists = _checked(lists, num_queries, num_gallery)
    return Protocol(*pids, *camids, np.arange(num_queries) if leave_one_out else None, lists)


def _checked(lists: MatchLists, num_queries: int, num_gallery: int) -> MatchLists:
    """The lists with their rows ascending.

    Raises:
        DataError: not one of each per query, a row that the gallery lacks, or one that is listed twice.
    """
    if len(lists.good) != num_queries or len(lists.junk) != num_queries:
        raise DataError(f"{len(lists.good)} and {len(lists.junk)} lists for {num_queries} queries: give each one both")
    parts = [[np.sort(np.asarray(rows, np.int64)) for rows in part] for part in (lists.good, lists.junk)]
    for number, (good, junk) in enumerate(zip(*parts)):
        both = np.concatenate([good, junk])
        if len(both) and not 0 <= both.min() <= both.max() < num_gallery:
            raise DataError(f"the lists of query {number} name a row that no gallery of {num_gallery} has: check them")
        if len(np.unique(both)) < len(both):
            raise DataError(f"the lists of query {number} name an image twice, or as right and as junk: correct them")
    return MatchLists(*parts)


def _some(values: np.ndarray) -> str:
    """The first three values, and whether there are more."""
    return ", ".join(map(str, values[:3].tolist())) + (", ..." if len(values) > 3 else "")
