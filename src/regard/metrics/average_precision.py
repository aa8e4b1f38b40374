"""From the ranks of the right images to AP, INP and the CMC curve.

Shapes: Q queries, G gallery images, n queries of one block, I identities, P positives of one query, M positives of all
of them, R ranks of the curve.

A query whose P positives stand at the ranks r_1 < r_2 < ... < r_P (counted from 1) has

    AP (step)       1/P  sum_j  j / r_j                                             the mean precision at the hits
    AP (trapezoid)  1/P  sum_j  (j / r_j + (j - 1) / (r_j - 1)) / 2                 with 0/0 = 1 at r_1 = 1
    INP             P / r_P                                                         how far down the last one is
    CMC at k        1 if r_1 <= k, else 0                                           market1501
    CMC, all shots  1/P  sum_j [r_j - j < k]                                        the share of hits with fewer than
                                                                                    k wrong images before them

CMC as of CUHK03 shows every person of the gallery once. Images by the query's own camera are left out altogether, one
image of each person is drawn from the rest, and the rank of the right one among them counts; the mean over many draws
is the curve. A draw gives every gallery image a random priority, and the image of highest priority that a query may see
stands for its person: all queries of a camera meet the same persons in the same pictures, and the block size changes
nothing. Distractors count as one more person.

Sources: step, most toolkits; trapezoid, the evaluation code published with Market-1501; INP, Ye et al., Deep Learning
for Person Re-identification: A Survey and Outlook, TPAMI 2021; CUHK03, Li et al., DeepReID: Deep Filter Pairing Neural
Network for Person Re-identification, CVPR 2014.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from regard.metrics.protocol import Protocol
from regard.structures import RANKS

__all__ = ["AP_FORMS", "CMC_FLAVORS", "RANKS", "Scores", "SingleShot", "all_shots", "cmc_curve", "score_ranks"]

AP_FORMS = ("step", "trapezoid")

CMC_FLAVORS = ("market1501", "cuhk03", "allshots")
"""Any right image counts; one image per person, drawn at random (SingleShot); every right image counts."""


class Scores(NamedTuple):
    """How well each query did.

    Attributes:
        ap: (Q,) float64 average precision, NaN without positives.
        inp: (Q,) float64 inverse negative penalty, NaN without positives.
        first_hit: (Q,) int64 rank of the first positive, from 1; -1 without positives.
    """

    ap: np.ndarray
    inp: np.ndarray
    first_hit: np.ndarray

    @classmethod
    def unmatched(cls, count: int) -> Scores:
        """The scores of ``count`` queries without positives."""
        return cls(np.full(count, np.nan), np.full(count, np.nan), np.full(count, -1, np.int64))

    def fill(self, rows: slice, some: Scores) -> None:
        """Set the scores of some queries."""
        for mine, theirs in zip(self, some):
            mine[rows] = theirs


def score_ranks(ranks: np.ndarray, counts: np.ndarray, ap: str = "step") -> Scores:
    """Score every query by the ranks of its positives.

    Args:
        ranks: (M,) ranks from 1, query after query, ascending within each.
        counts: (Q,) number of positives of each query; they sum to M.
        ap: ``"step"`` or ``"trapezoid"``.
    """
    starts = np.cumsum(counts) - counts
    hit = np.arange(1, len(ranks) + 1) - np.repeat(starts, counts)
    precision = hit / ranks
    if ap == "trapezoid":
        before = np.where(ranks > 1, (hit - 1) / np.maximum(ranks - 1, 1), 1.0)
        precision = (precision + before) / 2

    matched = counts > 0
    starts, found = starts[matched], counts[matched]
    scores = Scores.unmatched(len(counts))
    if len(found):
        scores.ap[matched] = np.add.reduceat(precision, starts) / found
        scores.inp[matched] = found / ranks[starts + found - 1]
        scores.first_hit[matched] = ranks[starts]
    return scores


def cmc_curve(first_hit: np.ndarray, max_rank: int) -> np.ndarray:
    """(max_rank,) share of queries with a hit at rank 1, 2, ...; a first hit of -1 never counts."""
    found = first_hit[(first_hit > 0) & (first_hit <= max_rank)]
    return np.cumsum(np.bincount(found - 1, minlength=max_rank)) / len(first_hit)


def all_shots(ranks: np.ndarray, counts: np.ndarray, max_rank: int) -> np.ndarray:
    """(max_rank,) sum over queries of the share of hits with fewer than 1, 2, ... wrong images before them.

    Args:
        ranks, counts: as for :func:`score_ranks`.
        max_rank: length of the curve.
    """
    before = np.repeat(np.cumsum(counts) - counts, counts)
    wrong = ranks - (np.arange(1, len(ranks) + 1) - before)
    share = 1 / np.repeat(counts, counts)
    near = wrong < max_rank
    return np.bincount(wrong[near], share[near], minlength=max_rank).cumsum()


class SingleShot:
    """Ranks of the right images over repeated draws, gathered while distances go by.

    Args:
        protocol: who is right for whom.
        draws: how many times the gallery is drawn.
        seed: of the draws.
    """

    def __init__(self, protocol: Protocol, draws: int = 100, seed: int = 0):
        self._protocol = protocol
        self._pids, identity = np.unique(protocol.gallery_pids[protocol.kept], return_inverse=True)
        cameras = protocol.gallery_camids
        self._gallery_cameras = None if cameras is None else cameras[protocol.kept]
        self._identity = identity
        rng = np.random.default_rng(seed)
        self._priorities = [rng.permutation(len(identity)) for _ in range(draws)]
        self._shown: dict[int, Tensor] = {}
        self.ranks = np.full((draws, len(protocol.query_pids)), -1)
        """(draws, Q) int64 rank of the right person's image, from 1; -1 without one."""

    def watch(self, blocks: Iterable[tuple[slice, Tensor]]) -> Iterator[tuple[slice, Tensor]]:
        """Pass (n, G) distances to the gallery without junk on, and take the ranks on the way."""
        for rows, block in blocks:
            asked = self._protocol.query_camids
            cameras = np.zeros(rows.stop - rows.start, int) if asked is None else asked[rows]
            for camera in np.unique(cameras):
                which = np.flatnonzero(cameras == camera)
                self._rank(rows.start + which, block[torch.from_numpy(which).to(block.device)], int(camera))
            yield rows, block

    def curve(self, max_rank: int, unmatched: str = "skip") -> np.ndarray:
        """(max_rank,) mean over draws and queries; queries without a match are skipped or count as failures."""
        matched = np.all(self.ranks > 0, axis=0)
        ranks = self.ranks[:, matched]
        asked = ranks.shape[1] if unmatched == "skip" else len(matched)
        hits = np.bincount(ranks[ranks <= max_rank] - 1, minlength=max_rank).cumsum()
        return hits / max(1, len(self.ranks) * asked)

    def _rank(self, queries: np.ndarray, distances: Tensor, camera: int) -> None:
        """Rank the right images of some queries by one camera on their (n, G) distances."""
        if camera not in self._shown:
            self._shown[camera] = torch.from_numpy(self._draw(camera)).to(distances.device)
        pids = self._protocol.query_pids[queries]
        for draw, shown in enumerate(self._shown[camera]):
            shown = shown[shown >= 0]
            column = shown.sort().values  # in gallery order, for ties
            person = torch.from_numpy(self._pids[self._identity[column.cpu().numpy()]])
            right = (person == torch.from_numpy(pids)[:, None]) & (person > 0)
            found = right.any(1).nonzero().flatten()
            if not len(found):
                continue
            place = right[found].int().argmax(1).to(distances.device)
            seen = distances[found.to(distances.device)][:, column]
            own = seen.gather(1, place[:, None])
            before = torch.arange(len(column), device=distances.device) < place[:, None]
            rank = 1 + (seen < own).sum(1) + ((seen == own) & before).sum(1)
            self.ranks[draw, queries[found.numpy()]] = rank.cpu().numpy()

    def _draw(self, camera: int) -> np.ndarray:
        """(draws, I) gallery columns shown to queries by one camera, -1 where a person has none."""
        seen = np.ones(len(self._identity), bool)
        if self._gallery_cameras is not None:
            seen = self._gallery_cameras != camera
        shown = np.full((len(self._priorities), len(self._pids)), -1)
        for row, priority in zip(shown, self._priorities):
            order = np.argsort(priority)
            order = order[seen[order]]
            row[self._identity[order]] = order  # the last of each person, which has the highest priority, stays
        return shown
