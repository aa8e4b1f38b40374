"""Runs and saved models, scored: on their own data, on another set, on many.

Shapes: Q queries, G gallery images, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.config import Config, load_config
from regard.data.datasets import detect
from regard.data.sources import Source, find_source, place_of, same_pictures, split_options
from regard.errors import ConfigError, RegardError
from regard.evaluation.embed import embed_run, run_options
from regard.evaluation.scoring import Detail, Queries, as_feature_sets, as_one_list, score_sets, with_options
from regard.evaluation.transfer import Score
from regard.metrics import RankingReport
from regard.models import ReIDModel, load
from regard.models.saved import model_folder, saved_input, saved_system, was_imported
from regard.run_folder.folders import own_config
from regard.run_folder.opened_data import CROWD, find_data, tested_on
from regard.run_folder.resolving import recipe_for
from regard.runtime.fabric import Runtime
from regard.structures import Splits

__all__ = [
    "evaluate_on",
    "evaluate_run",
    "open_sources",
    "places_of",
    "run_config",
    "score_each",
    "settings_of",
    "trained_on",
]

DATALESS = "{} is a model without a run, so it names no data set; say --root FOLDER"


def evaluate_run(
    folder: Path,
    name: str | None = None,
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    *,
    quiet: bool = False,
) -> tuple[Splits, RankingReport]:
    """Score a run, or a saved model, on its own data set or another: :func:`evaluate_on` for one.

    Args:
        folder: run folder or model folder.
        name, root: data set; both None takes the run's own.
        changes: settings of the ``eval`` section that differ from the run's.
        quiet: no progress bars.
    """
    score = evaluate_on(folder, [name] if name else [], root, changes, quiet=quiet)[0]
    return score.splits, score.report


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
    model = load(folder)
    own = own_config(folder)
    if own is None and root is None and not data:
        raise ConfigError(DATALESS.format(folder))
    config = settings_of(folder, own, changes, size)
    runtime = Runtime.for_scoring(config)
    try:
        opened = open_sources(config, own, data, root, runtime, quiet=quiet)
        how: dict[str, Any] = {"queries": queries, "details": details, "leave_one_out": leave_one_out}
        seen = places_of(trained_on(own) if own else [], opened)
        scores = score_each(model.to(runtime.device), config, opened, seen, runtime, quiet=quiet, how=how)
        return runtime.broadcast(scores)
    finally:
        runtime.close()


def open_sources(
    config: Config, own: Config | None, data: Sequence[str], root: Path | None, runtime: Runtime, *, quiet: bool
) -> list[tuple[Source, Splits]]:
    """Find and read the data sets that :func:`evaluate_on` is asked for.

    Raises:
        ConfigError: two of them are the same.
        DataError: one is not there or not complete.
    """
    texts = list(data) or [tested_on(config) if root is None else None]
    sources = [find_data(text, root or (own and own.data.root), config, runtime, quiet=quiet) for text in texts]
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
    model: ReIDModel,
    config: Config,
    opened: Sequence[tuple[Source, Splits]],
    trained: Collection[tuple[str, Path | None]],
    runtime: Runtime,
    *,
    quiet: bool,
    how: Mapping[str, Any],
) -> list[Score]:
    """Score a model on data sets that were read, as :func:`evaluate_on` does.

    Args:
        model: on its device.
        config: settings to score by, see :func:`settings_of`.
        opened: the data sets.
        trained: names and places of those it was trained on, see :func:`places_of`.
        runtime: every rank embeds a part of the pictures.
        quiet: no progress bars.
        how: ``queries``, ``details`` and ``leave_one_out`` of :func:`evaluate_on`.

    Returns:
        A score for each on rank 0, nothing on others.
    """
    scores = []
    for source, splits in opened:
        features = embed_run(model, splits, config, runtime, quiet=quiet)
        if not runtime.is_main:
            continue
        query, gallery = as_feature_sets(*features, splits)
        if how["leave_one_out"]:
            query = gallery = as_one_list(query, gallery)
        report, further = score_sets(query, gallery, config.eval, splits=splits, **how)
        report = with_options(report, run_options(config, runtime))
        seen = place_of(source, splits) in trained or (source.name, None) in trained
        scores.append(Score(source, splits, report, seen, further))
    return scores


def run_config(
    folder: Path,
    name: str | None = None,
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
) -> Config:
    """The settings to evaluate a run or a model folder with, on one data set.

    Args:
        folder: run folder (or the ``final`` or ``best`` in it), or model folder, which takes its system's recipe for
            Market-1501.
        name, root: data set, as :func:`regard.data.sources.find_source` reads it; both None takes the run's own, and a
            name alone is looked for where that lies.
        changes: settings of the ``eval`` section that differ.
        size: height and width of the network's input, where they differ.

    Raises:
        CheckpointError: no such run and no such model.
        ConfigError: a model folder alone does not say which data to use.
    """
    own = own_config(folder)
    if own is None and root is None:
        model_folder(folder)
        raise ConfigError(DATALESS.format(folder))
    tree = settings_of(folder, own, changes, size).to_dict()
    data = tree["data"]
    if root or name:
        data["name"] = name
        data["root"] = str(root) if root else data["root"]
    else:
        assert own is not None
        data["name"] = tested_on(own)
    data["train"], data["labels"], data["val_ids"] = [], [], None  # only what is tested on is read
    return load_config(tree)


def settings_of(
    folder: Path, own: Config | None, changes: Mapping[str, Any] | None = None, size: tuple[int, int] | None = None
) -> Config:
    """The settings to score a model by.

    Args:
        folder: run folder or model folder.
        own: the run's configuration. Without one, they are those of its system's recipe for Market-1501, or of the
            baseline's, with pictures of the size the model was saved with.
        changes: settings of the ``eval`` section that differ. What then leaves the precision open means fp32 for a
            model without a run, and for one that was imported.
        size: height and width of the network's input, where they differ.
    """
    place = model_folder(folder)
    tree = (own or recipe_for(saved_system(place)).config()).to_dict()
    seen = saved_input(place)
    if own is None and seen is not None:
        tree["data"] |= seen.to_dict()
    tree["eval"] |= dict(changes or {})
    if size is not None:
        tree["data"]["height"], tree["data"]["width"] = size
    if tree["eval"]["precision"] == "auto" and (own is None or was_imported(place)):
        tree["eval"]["precision"] = "fp32"
    return load_config(tree)


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


def places_of(trained: Sequence[Source | str], opened: Sequence[tuple[Source, Splits]]) -> set[tuple[str, Path | None]]:
    """Name and place of those trained on that bear the name of one that is opened; None where the place is gone."""
    read = {(source.name, source.root): place_of(source, splits) for source, splits in opened}
    names = {name for name, _ in read}
    found: set[tuple[str, Path | None]] = set()
    for source in trained:
        if isinstance(source, str):
            found.add((source, None))
        elif source.name in names:
            try:
                found.add(read.get((source.name, source.root)) or place_of(source, source.read()))
            except RegardError:
                found.add((source.name, None))
    return found
