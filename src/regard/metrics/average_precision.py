"""From the ranks of the right images to AP, INP and the first hit.

Shapes: Q queries, P positives of one query, M positives of all of them.

A query whose P positives stand at the ranks r_1 < r_2 < ... < r_P (counted from 1) has

    AP (step)       1/P  sum_j  j / r_j                                             the mean precision at the hits
    AP (trapezoid)  1/P  sum_j  (j / r_j + (j - 1) / (r_j - 1)) / 2                 with 0/0 = 1 at r_1 = 1
    INP             P / r_P                                                         how far down the last one is
    CMC at k        1 if r_1 <= k, else 0                                           market1501
    CMC, all shots  1/P  sum_j [r_j - j < k]                                        the share of hits with fewer than
                                                                                    k wrong images before them

Sources: step, most toolkits; trapezoid, the evaluation code published with Market-1501; INP, Ye et al., Deep Learning
for Person Re-identification: A Survey and Outlook, TPAMI 2021.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["AP_FORMS", "CMC_FLAVORS", "RANKS", "Scores", "all_shots", "cmc_curve", "score_ranks"]

AP_FORMS = ("step", "trapezoid")

CMC_FLAVORS = ("market1501", "cuhk03", "allshots")
"""Any right image counts; one image per person, drawn at random (single_shot.py); every right image counts."""


RANKS = (1, 5, 10, 15, 20)
"""Where the CMC curve is read, wherever it is printed, written or drawn as figures."""


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
