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
from regard.metrics.feature_set import FeatureSet, as_ids, as_pids
from regard.structures import DISTRACTOR, JUNK, MatchLists

__all__ = ["Pairs", "Protocol", "read_protocol"]

_STEP = 256

ONE_LIST = "leave-one-out compares a list with itself, but query and gallery differ; give the same list twice"


class Pairs(NamedTuple):
    """(query, gallery) index pairs, ordered by query, then by gallery.

    Attributes:
        rows: (M,) int64 query rows.
        columns: (M,) int64 gallery rows.
    """

    rows: np.ndarray
    columns: np.ndarray


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


def read_protocol(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    ignore_cameras: bool = False,
    leave_one_out: bool = False,
    lists: MatchLists | None = None,
) -> Protocol:
    """Check and convert what a caller gave.

    Args:
        query, gallery: Q and G descriptors with identities, and cameras of both or of neither.
        ignore_cameras: images of a person by one camera count as right.
        leave_one_out: query and gallery are one list, and an image is not asked about itself.
        lists: what is right and what is junk for each query, in place of identities and cameras.

    Raises:
        ConfigError: lists together with an option that changes what identities and cameras say.
        DataError: lists that do not fit the queries and the gallery, not one integer per row, a pid below -1,
            identities or cameras of one side only, or nothing but junk.
    """
    if query.pids is None or gallery.pids is None:
        side = "query" if query.pids is None else "gallery"
        raise DataError(f"{side}_pids is missing: give the identities of both sides")
    if (query.camids is None) != (gallery.camids is None):
        side = "query" if query.camids is None else "gallery"
        raise DataError(f"{side}_camids is missing: give the cameras of both sides, or None for both if there are none")
    sizes = (query, len(query), "query"), (gallery, len(gallery), "gallery")
    pids = [as_pids(side.pids, count, f"{name}_pids") for side, count, name in sizes]
    camids: list[np.ndarray | None] = [None, None]
    if query.camids is not None:
        camids = [as_ids(side.camids, count, f"{name}_camids") for side, count, name in sizes]
    same = [np.array_equal(a, b) for a, b in (pids, camids) if a is not None and b is not None]
    if leave_one_out and not all(same):
        raise DataError(ONE_LIST)
    if ignore_cameras:
        camids = [None, None]
    if lists is not None:
        for name, chosen in (("ignored cameras", ignore_cameras), ("leave-one-out", leave_one_out)):
            if chosen:
                raise ConfigError(f"lists of right images do not go with {name}; leave one of them out")
        lists = _checked(lists, len(query), len(gallery))
    own = np.arange(len(query)) if leave_one_out else None
    return Protocol(pids[0], pids[1], camids[0], camids[1], own, lists)


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
