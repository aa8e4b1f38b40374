"""The hardest failures of an evaluation: which queries, and in which way each of them failed.

Shapes: Q queries, K ranks kept per query.

Two kinds are worth looking at. A query is *buried* where its right answers come late: its average precision is low. It
is *fooled* where somebody else comes first at a small distance: the network is wrong and sure of it, which is what
hurts where a threshold decides.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from regard.errors import ConfigError
from regard.metrics import RankingReport
from regard.structures import Ranking

__all__ = ["Failure", "FailureKind", "hardest"]

FailureKind = Literal["buried", "fooled"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A query that went wrong, and how.

    Attributes:
        query: its index.
        kinds: in which ways it is among the hardest: ``"buried"`` (low average precision), ``"fooled"`` (a wrong
            answer at a small distance comes first), or both.
        ap: average precision, a fraction.
        first_right: rank of the first right answer, from 1.
        wrong: gallery index of the wrong answer that comes first; None where the first answer is right.
        wrong_distance: its distance; None where the first answer is right.
        right_distance: of the first right answer; None where the ranking ends before it.
    """

    query: int
    kinds: tuple[FailureKind, ...]
    ap: float
    first_right: int
    wrong: int | None
    wrong_distance: float | None
    right_distance: float | None

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON."""
        return asdict(self) | {"kinds": list(self.kinds)}

    def __str__(self) -> str:
        buried = f"average precision {100 * self.ap:.1f} %, first right answer at rank {self.first_right:,}"
        if self.wrong_distance is None:
            return buried
        right = "" if self.right_distance is None else f", the right one at {self.right_distance:.2f}"
        return f"somebody else comes first at distance {self.wrong_distance:.2f}{right}; {buried}"


def hardest(
    ranking: Ranking, report: RankingReport, count: int = 5, kinds: tuple[FailureKind, ...] = ("buried", "fooled")
) -> list[Failure]:
    """The hardest failures of an evaluation.

    Queries without a match did not fail and are never among them, nor are those whose average precision is 1. Equal
    ones are ordered by index, so the same scores give the same failures.

    Args:
        ranking: of the Q queries, with matches.
        report: of the same evaluation.
        count: failures of each kind at most.
        kinds: which of them, the first kind first; a query that is in both is listed once, where it comes first.

    Returns:
        Worst first within each kind; empty where nothing failed.

    Raises:
        ConfigError: ``count`` is less than one, or ranking and report do not belong together.
    """
    if count < 1:
        raise ConfigError(f"got count={count}, wanted at least one failure to look for")
    if ranking.matches is None or len(ranking) != report.num_queries:
        known = "no matches" if ranking.matches is None else f"{len(ranking)} queries"
        raise ConfigError(
            f"got a ranking with {known} and a report of {report.num_queries} queries; pass both of one evaluation"
        )
    orders = {"buried": _buried(report), "fooled": _fooled(ranking, report)}
    chosen: dict[int, list[FailureKind]] = {}
    for kind in kinds:
        for query in orders[kind][:count].tolist():
            chosen.setdefault(query, []).append(kind)
    return [_failure(ranking, report, query, tuple(found)) for query, found in chosen.items()]


def _buried(report: RankingReport) -> np.ndarray:
    """Queries with an average precision below 1, lowest first."""
    failed = np.flatnonzero(report.ap < 1)  # NaN is not below 1
    return failed[np.argsort(report.ap[failed], kind="stable")]


def _fooled(ranking: Ranking, report: RankingReport) -> np.ndarray:
    """Queries whose first answer is wrong although there is a right one, nearest first."""
    failed = np.flatnonzero(report.first_hit > 1)
    return failed[np.argsort(ranking.distances[failed, 0], kind="stable")]


def _failure(ranking: Ranking, report: RankingReport, query: int, kinds: tuple[FailureKind, ...]) -> Failure:
    first = int(report.first_hit[query])
    distances = ranking.distances[query]
    wrong = first > 1
    return Failure(
        query=query,
        kinds=kinds,
        ap=float(report.ap[query]),
        first_right=first,
        wrong=int(ranking.indices[query, 0]) if wrong else None,
        wrong_distance=float(distances[0]) if wrong else None,
        right_distance=float(distances[first - 1]) if first <= len(distances) else None,
    )
