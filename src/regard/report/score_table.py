"""The table of scores of several runs: figures with intervals, the best of each marked, and what is as good as it.

Shapes: Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from regard.metrics import RankingReport
from regard.metrics.average_precision import RANKS
from regard.metrics.significance import Interval, holm, intervals, paired_differences, query_scores

__all__ = ["FIGURES", "Mark", "ScoreCell", "score_cells"]

FIGURES = ("mAP", *(f"rank-{k}" for k in RANKS), "mINP")
LEVEL = 0.05

Mark = Literal["best", "close", ""]


class ScoreCell(NamedTuple):
    """One figure of one run.

    Attributes:
        value: a fraction; None where the evaluation has no such figure.
        low, high: ends of the 95 % interval; None where there are too few people for one.
        mark: ``"best"`` of all runs, or ``"close"``: not told apart from the best.
    """

    value: float | None
    low: float | None
    high: float | None
    mark: Mark


def score_cells(
    reports: Mapping[str, RankingReport], pids: np.ndarray, resamples: int = 10_000
) -> dict[str, dict[str, ScoreCell]]:
    """Figures of runs that were asked the same queries.

    The best is the highest figure. Others are tested against it by flipping signs of people, two-sided, with Holm's
    correction for the number of others; those with p of 5 % or more are close to it.

    Args:
        reports: label -> what was found.
        pids: (Q,) who the queries show; with fewer than two people that have a match there are no intervals, and
            nothing but the best is marked.
        resamples: of people, behind intervals and tests.

    Returns:
        Label -> figure -> its cell; a single run has no marks.
    """
    scores = {label: query_scores(report) for label, report in reports.items()}
    people = min(len(np.unique(pids[report.first_hit > 0])) for report in reports.values())
    ends = {label: intervals(found, pids, resamples=resamples) for label, found in scores.items()} if people > 1 else {}
    values = {label: {name: _value(report, name) for name in FIGURES} for label, report in reports.items()}
    marks = _marks(values, scores, pids, resamples if ends else 0)
    return {
        label: {name: _cell(found[name], ends.get(label, {}).get(name), marks[label][name]) for name in FIGURES}
        for label, found in values.items()
    }


def _value(report: RankingReport, name: str) -> float | None:
    if not name.startswith("rank-"):
        return float(getattr(report, name))
    rank = int(name.removeprefix("rank-"))
    return report.rank(rank) if rank <= len(report.cmc) else None


def _cell(value: float | None, ends: Interval | None, mark: Mark) -> ScoreCell:
    return ScoreCell(value, ends.low if ends else None, ends.high if ends else None, mark)


def _marks(
    values: Mapping[str, Mapping[str, float | None]],
    scores: Mapping[str, Mapping[str, np.ndarray]],
    pids: np.ndarray,
    resamples: int,
) -> dict[str, dict[str, Mark]]:
    """The best of each figure, and what is not told apart from it."""
    marks: dict[str, dict[str, Mark]] = {label: dict.fromkeys(FIGURES, "") for label in values}
    if len(values) < 2:
        return marks
    for name in FIGURES:
        known = {label: found[name] for label, found in values.items()}
        numbers = {label: value for label, value in known.items() if value is not None}
        if not numbers:
            continue
        best = max(numbers, key=numbers.__getitem__)
        others = [label for label in numbers if label != best]
        tied = [label for label in others if numbers[label] == numbers[best]]
        for label in (best, *tied):
            marks[label][name] = "best"
        if resamples and name in scores[best]:
            for label in _close(
                best, [label for label in others if label not in tied], name, scores, pids, resamples=resamples
            ):
                marks[label][name] = "close"
    return marks


def _close(
    best: str,
    others: Sequence[str],
    name: str,
    scores: Mapping[str, Mapping[str, np.ndarray]],
    pids: np.ndarray,
    *,
    resamples: int,
) -> list[str]:
    chances = [
        paired_differences({name: scores[best][name]}, {name: scores[label][name]}, pids, resamples=resamples)[name].p
        for label in others
    ]
    return [label for label, p in zip(others, holm(chances)) if p >= LEVEL] if others else []
