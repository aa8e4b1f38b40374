"""Runs and saved models, scored: on their own data, on another set, on many.

Shapes: Q queries, G gallery images, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.config import Config
from regard.data.datasets import detect
from regard.data.sources import Source, find_source, place_of, same_pictures, split_options
from regard.errors import ConfigError, RegardError
from regard.evaluation.embed import embed_run, run_options
from regard.evaluation.run import Run, open_run
from regard.evaluation.scoring import Detail, Queries, score_sets, with_options
from regard.evaluation.transfer import Score
from regard.run_folder.opened_data import CROWD, find_data
from regard.structures import Splits

__all__ = ["evaluate_on", "open_sources", "places_of", "score_each", "trained_on"]


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
    sources = [find_data(text, own.root, run.config, run.runtime, quiet=run.quiet) for text in list(data) or [own.name]]
    return list(zip(sources, _read_each(sources)))


def _read_each(sources: Sequence[Source]) -> list[Splits]:
    """Read data sets.

    Raises:
        ConfigError: two of them are the same, however their folder is spelled.
    """
    opened: list[Splits] = []
    for number, source in enumerate(sources):
        splits = source.read()
        for other, first in zip(sources[:number], opened):
            if place_of(other, first) == place_of(source, splits) and same_pictures(first, splits):
                raise ConfigError(f"{source} in '{source.root}' is named twice; name each data set once")
        opened.append(splits)
    return opened


def score_each(
    run: Run,
    opened: Sequence[tuple[Source, Splits]],
    trained: Collection[tuple[str, Path | None]],
    how: Mapping[str, Any],
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


def trained_on(config: Config) -> list[Source | str]:
    """The data sets a run was trained on; the name alone of one that is no longer where it was."""
    data = config.data
    if not data.train and data.name is None and data.root is not None:
        return [Source(detect(data.root), data.root)] if data.root.exists() else []
    found: list[Source | str] = []
    for text in data.train or (data.name or "crowd",):
        if text == "crowd" and data.root is None:
            found.append(Source("crowd", CROWD))
            continue
        try:
            found.append(find_source(text, data.root, data.options))
        except RegardError:
            found.append(split_options(text)[0].partition("=")[0])
    return found


def places_of(run: Run, opened: Sequence[tuple[Source, Splits]]) -> set[tuple[str, Path | None]]:
    """Name and place of those a run was trained on that bear the name of one that is opened.

    The place is None where it is gone.
    """
    read = {(source.name, source.root): place_of(source, splits) for source, splits in opened}
    names = {name for name, _ in read}
    found: set[tuple[str, Path | None]] = set()
    for source in trained_on(run.own) if run.own else ():
        if isinstance(source, str):
            found.add((source, None))
        elif source.name in names:
            try:
                found.add(read.get((source.name, source.root)) or place_of(source, source.read()))
            except RegardError:
                found.add((source.name, None))
    return found
