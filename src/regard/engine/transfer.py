"""Trained on one data set, tested on many: how far a model carries.

The protocol of domain generalization: the model as it is, nothing of the other data sets is used but query and
gallery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from regard.data.sources import Source
from regard.metrics import RankingReport
from regard.structures import Splits

__all__ = ["Score", "mean_of_targets", "score_dict", "transfer_dict", "transfer_table"]

RANKS = (1, 5, 10)


class Score(NamedTuple):
    """What a model reaches on a data set.

    Attributes:
        source: the data set.
        splits: what was read of it.
        report: its figures.
        seen: whether the model was trained on this data set's training split.
        details: further figures by name, see :func:`regard.engine.scoring.further_figures`.
    """

    source: Source
    splits: Splits
    report: RankingReport
    seen: bool
    details: Mapping[str, Any] = {}


def figures(report: RankingReport) -> dict[str, float]:
    """The figures of the table, as fractions."""
    return {"mAP": report.mAP, "mINP": report.mINP, **{f"rank-{k}": report.rank(k) for k in RANKS}}


def mean_of_targets(scores: Sequence[Score]) -> dict[str, float] | None:
    """Each figure's mean over the data sets the model was not trained on; None where there is none."""
    rows = [figures(score.report) for score in scores if not score.seen]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else None


def transfer_table(scores: Sequence[Score]) -> str:
    """One row per data set and the mean of the targets, in percent."""
    rows = {f"{score.source}{' *' if score.seen else ''}": figures(score.report) for score in scores}
    if mean := mean_of_targets(scores):
        rows[f"mean of {sum(not score.seen for score in scores)} targets"] = mean
    names, left = list(next(iter(rows.values()))), max(map(len, rows))
    lines = [" " * left + "".join(f"{name:>9}" for name in names)]
    lines += [f"{label:<{left}}" + "".join(f"{100 * row[name]:>9.2f}" for name in names) for label, row in rows.items()]
    options = ", ".join(f"{name} {value}" for name, value in scores[0].report.options.items())
    marked = "; * trained on its training split" if any(score.seen for score in scores) else ""
    return "\n".join([*lines, f"  in %{marked}; {options}"])


def score_dict(score: Score) -> dict[str, Any]:
    """A score's figures in plain Python types, ready for JSON."""
    return score.report.to_dict() | {name: figure.to_dict() for name, figure in score.details.items()}


def transfer_dict(scores: Sequence[Score]) -> dict[str, Any]:
    """All of it in plain Python types, ready for JSON; figures are fractions."""
    return {
        "data": {
            str(score.source): {"trained_on": score.seen, "data": str(score.splits), **score_dict(score)}
            for score in scores
        },
        "mean_of_targets": mean_of_targets(scores),
    }
