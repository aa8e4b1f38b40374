"""Trained on one data set, tested on many: how far a model carries.

The protocol of domain generalization: the model as it is, nothing of the other data sets is used but query and
gallery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from regard.data.sources import Source, place_of
from regard.metrics import RankingReport
from regard.metrics.score_options import option_lines
from regard.structures import Splits
from regard.wording import distinct, table

__all__ = ["Score", "in_place", "labels_of", "mean_of_targets", "score_dict", "transfer_dict", "transfer_table"]


class Score(NamedTuple):
    """What a model reaches on a data set.

    Attributes:
        source: the data set.
        splits: what was read of it.
        report: its figures.
        seen: whether the model was trained on this data set's training split.
        details: further figures by name, see :func:`regard.evaluation.scoring.further_figures`.
    """

    source: Source
    splits: Splits
    report: RankingReport
    seen: bool
    details: Mapping[str, Any] = {}


def mean_of_targets(scores: Sequence[Score]) -> dict[str, float] | None:
    """Each figure's mean over the data sets the model was not trained on; None where there is none."""
    rows = [score.report.figures() for score in scores if not score.seen]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else None


def transfer_table(scores: Sequence[Score]) -> str:
    """One row per data set and the mean of the targets, in percent; where each lies stands at the end of its row."""
    labels = labels_of(scores)
    rows = [
        (f"{label}{' *' if score.seen else ''}", score.report.figures(), str(_place(score)))
        for label, score in zip(labels, scores)
    ]
    if mean := mean_of_targets(scores):
        rows.append((f"mean of {sum(not score.seen for score in scores)} targets", mean, ""))
    names = list(rows[0][1])
    cells = ((label, *(f"{100 * row[name]:.2f}" for name in names), place) for label, row, place in rows)
    lines = table([("", *names, ""), *cells], left=(0, len(names) + 1))
    first, *own = option_lines(labels, [score.report.options for score in scores])
    marked = "; * trained on its training split" if any(score.seen for score in scores) else ""
    return "\n".join([*lines, f"  in %{marked}; {first}", *(f"  {line}" for line in own)])


def score_dict(score: Score) -> dict[str, Any]:
    """A score's figures in plain Python types, ready for JSON, with the data set they are of."""
    source = score.source
    about = {
        "data": str(score.splits),
        "name": source.name,
        "root": str(_place(score)),
        "options_of_data": source.options,
    }
    return {
        **about,
        "trained_on": score.seen,
        **score.report.to_dict(),
        **{name: figure.to_dict() for name, figure in score.details.items()},
    }


def transfer_dict(scores: Sequence[Score]) -> dict[str, Any]:
    """All of it in plain Python types, ready for JSON; figures are fractions."""
    return {
        "data": {label: score_dict(score) for label, score in zip(labels_of(scores), scores)},
        "mean_of_targets": mean_of_targets(scores),
    }


def in_place(score: Score) -> str:
    """What was read, in words, and where."""
    return f"{score.splits}; {_place(score)}"


def _place(score: Score) -> Path:
    """The table or the folder that was read."""
    return place_of(score.source, score.splits)[1]


def labels_of(scores: Sequence[Score]) -> list[str]:
    """What the data sets are called: no two alike."""
    return distinct([str(score.source) for score in scores], [_place(score) for score in scores])
