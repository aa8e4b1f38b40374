"""Runs and saved models, scored: on their own data, on another set, on many, to see how far a model carries.

On many it is the protocol of domain generalization: the model as it is, nothing of the other data sets is used but
query and gallery.

Shapes: Q queries, G gallery images, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from regard.data.datasets import detect
from regard.data.sources import Source, find_source, place_of, same_pictures, split_options
from regard.errors import ConfigError, RegardError
from regard.evaluation.embed import embed_run, run_options
from regard.evaluation.run import Run, open_run
from regard.evaluation.scoring import Detail, Queries, score_sets, with_options
from regard.metrics import RankingReport
from regard.metrics.ranking_report import option_lines
from regard.run_folder.opened_data import CROWD, find_data
from regard.structures import Splits
from regard.wording import distinct, table

__all__ = [
    "Score", "evaluate_on", "labels_of", "mean_of_targets", "open_sources", "places_of", "score_each", "transfer_dict",
    "transfer_table",
]  # fmt: skip

Place = tuple[str, Path | None]
"""Name of a data set, and the table or the folder that it was read from; None where that is gone."""


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

    @property
    def place(self) -> Path:
        """The table or the folder that was read."""
        return place_of(self.source, self.splits)[1]

    def to_dict(self) -> dict[str, Any]:
        """The figures in plain Python types, ready for JSON, with the data set they are of."""
        return {
            "data": str(self.splits),
            "name": self.source.name,
            "root": str(self.place),
            "options_of_data": self.source.options,
            "trained_on": self.seen,
            **self.report.to_dict(),
            **{name: figure.to_dict() for name, figure in self.details.items()},
        }


def evaluate_on(
    folder: Path,
    data: Sequence[str] = (),
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    size: tuple[int, int] | None = None,
    queries: Queries = "single",
    details: Sequence[Detail] = (),
    leave_one_out: bool = False,
    quiet: bool = False,
) -> list[Score]:
    """Score a run, or a saved model, on data sets, as it is.

    Args:
        folder: run folder or model folder.
        data: data sets as :func:`~regard.data.sources.find_source` reads them; none takes what lies in ``root``, or
            the run's own.
        root: folder of those that are bare names; None: the run's.
        changes: settings of the ``eval`` section that differ from the run's.
        size: height and width of the network's input, where they differ from the run's.
        queries: "single", or the "mean" or "max" of a person's queries by one camera.
        details: figures to add: "open_set", "cameras", "averages".
        leave_one_out: query and gallery become one list, of which every picture asks all others.
        quiet: no progress bars.

    Returns:
        A score per data set, in the order given. All of them are found and read before the first is scored. Under
        torchrun the ranks share the work, and each gets the scores.

    Raises:
        ConfigError: a model folder alone does not say which data to use, a data set is named twice, or options do not
            go together.
        DataError: a data set is not there or not complete.
    """
    run = open_run(folder, None, root, changes, size=size, quiet=quiet)
    try:
        run.model.eval()  # what cannot be loaded is said before anything is read
        opened = open_sources(run, data)
        how: dict[str, Any] = {"queries": queries, "details": details, "leave_one_out": leave_one_out}
        scores = score_each(run, opened, places_of(run, opened), how)
        return run.runtime.broadcast(scores)
    finally:
        run.runtime.close()


def open_sources(run: Run, data: Sequence[str]) -> list[tuple[Source, Splits]]:
    """Find and read the data sets that :func:`evaluate_on` is asked for; none takes the one the run is scored on.

    Raises:
        ConfigError: two of them are the same, or nothing says which.
        DataError: one is not there or not complete.
    """
    if not data:
        run.check_data()
    own = run.config.data
    opened: list[tuple[Source, Splits]] = []
    for source in [find_data(text, own.root, run.config, run.runtime, quiet=run.quiet) for text in data or [own.name]]:
        splits = source.read()
        for other, first in opened:  # however their folder is spelled
            if place_of(other, first) == place_of(source, splits) and same_pictures(first, splits):
                raise ConfigError(f"{source} in '{source.root}' is named twice; name each data set once")
        opened.append((source, splits))
    return opened


def score_each(
    run: Run, opened: Sequence[tuple[Source, Splits]], trained: Collection[Place], how: Mapping[str, Any]
) -> list[Score]:
    """Score a run on data sets that were read, as :func:`evaluate_on` does; every rank embeds a part of the pictures.

    Args:
        run: with its settings.
        opened: the data sets.
        trained: names and places of those it was trained on, see :func:`places_of`.
        how: ``queries``, ``details`` and ``leave_one_out`` of :func:`evaluate_on`.

    Returns:
        A score for each on rank 0, nothing on others.
    """
    scores = []
    for source, splits in opened:
        query, gallery = embed_run(run.model, splits, run.config, run.runtime, quiet=run.quiet)
        if not run.runtime.is_main:
            continue
        if how["leave_one_out"]:
            query = gallery = query + gallery
        report, further = score_sets(query, gallery, run.config.eval, splits=splits, **how)
        report = with_options(report, run_options(run.config, run.runtime))
        seen = place_of(source, splits) in trained or (source.name, None) in trained
        scores.append(Score(source, splits, report, seen, further))
    return scores


def places_of(run: Run, opened: Sequence[tuple[Source, Splits]]) -> set[Place]:
    """The places of those a run was trained on that bear the name of one that is opened."""
    if run.own is None:
        return set()
    data = run.own.data
    texts: Sequence[str] = data.train or (data.name or "crowd",)
    if not data.train and data.name is None and data.root is not None:
        texts = [detect(data.root)] if data.root.exists() else []
    read = {(source.name, source.root): place_of(source, splits) for source, splits in opened}
    names = {name for name, _ in read}
    found: set[Place] = set()
    for text in texts:
        name = split_options(text)[0].partition("=")[0]
        try:
            made = text == "crowd" and data.root is None
            source = Source("crowd", CROWD) if made else find_source(text, data.root, data.options)
            name = source.name
            if name in names:
                found.add(read.get((name, source.root)) or place_of(source, source.read()))
        except RegardError:
            found.add((name, None))
    return found


def mean_of_targets(scores: Sequence[Score]) -> dict[str, float] | None:
    """Each figure's mean over the data sets the model was not trained on; None where there is none."""
    rows = [score.report.figures() for score in scores if not score.seen]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else None


def transfer_table(scores: Sequence[Score]) -> str:
    """One row per data set and the mean of the targets, in percent; where each lies stands at the end of its row."""
    labels = labels_of(scores)
    rows = [
        (f"{label}{' *' if score.seen else ''}", score.report.figures(), str(score.place))
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


def transfer_dict(scores: Sequence[Score]) -> dict[str, Any]:
    """All of it in plain Python types, ready for JSON; figures are fractions."""
    return {
        "data": {label: score.to_dict() for label, score in zip(labels_of(scores), scores)},
        "mean_of_targets": mean_of_targets(scores),
    }


def labels_of(opened: Iterable[tuple[Any, ...]]) -> list[str]:
    """What data sets are called, no two alike: each a source and what was read of it, as a :class:`Score` begins."""
    pairs = [(str(source), place_of(source, splits)[1]) for source, splits, *_ in opened]
    return distinct([name for name, _ in pairs], [place for _, place in pairs])
