"""Runs and saved models, scored: on their own data, on another set, on many.

Shapes: Q queries, G gallery images, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.config import Config, load_config
from regard.data.datasets import detect
from regard.data.sources import source_name
from regard.engine.extract import embed_run
from regard.engine.run import find_data, resolve, tested_on
from regard.engine.runtime import Runtime
from regard.engine.scoring import Detail, Queries, as_feature_sets, score_sets
from regard.engine.transfer import Score
from regard.errors import ConfigError
from regard.metrics import RankingReport
from regard.models import ReIDModel, load
from regard.models.checkpoint import model_config, model_folder, saved_system
from regard.structures import Splits

__all__ = ["evaluate_on", "evaluate_run", "run_config", "run_home"]

DATALESS = "{} is a model without a run, so it names no data set; say --root FOLDER"


def evaluate_run(
    folder: Path,
    name: str | None = None,
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
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
    queries: Queries = "single",
    details: Sequence[Detail] = (),
    quiet: bool = False,
) -> list[Score]:
    """Score a run, or a saved model, on data sets, as it is.

    Args:
        folder: run folder or model folder.
        data: data sets as :func:`~regard.data.sources.find_source` reads them; none takes what lies in ``root``, or
            the run's own.
        root: folder of those that are bare names; None: the run's.
        changes: settings of the ``eval`` section that differ from the run's.
        queries: "single", or the "mean" or "max" of a person's queries by one camera.
        details: figures to add: "open_set", "cameras", "averages".
        quiet: no progress bars.

    Returns:
        A score per data set, in the order given. All of them are found and read before the first is scored. Under
        torchrun the ranks share the work, and each gets the scores.

    Raises:
        ConfigError: a model folder alone does not say which data to use, or a data set is named twice.
        DataError: a data set is not there or not complete.
    """
    model = load(folder)
    own = own_config(folder)
    if own is None and root is None and not data:
        raise ConfigError(DATALESS.format(folder))
    config = own or resolve(f"{model_config(model)['model']}_market1501").config
    config = load_config(config.to_dict() | {"eval": config.eval.model_dump() | dict(changes or {})})
    runtime = Runtime(config.train.model_copy(update={"devices": 1}))
    try:
        return runtime.broadcast(_scores(model, config, own, data, root, runtime, queries, details, quiet))
    finally:
        runtime.close()


def _scores(
    model: ReIDModel,
    config: Config,
    own: Config | None,
    data: Sequence[str],
    root: Path | None,
    runtime: Runtime,
    queries: Queries,
    details: Sequence[Detail],
    quiet: bool,
) -> list[Score]:
    """The scores of :func:`evaluate_on`, on rank 0; every rank embeds a part of the pictures."""
    texts = list(data) or [tested_on(config) if root is None else None]
    sources = [find_data(text, root or (own and own.data.root), config, runtime, quiet) for text in texts]
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigError(f"{source} in '{source.root}' is named twice; name each data set once")
    seen = trained_on(own) if own else set()
    opened = [source.read() for source in sources]
    model.to(runtime.device)
    scores = []
    for source, splits in zip(sources, opened):
        features = embed_run(model, splits, config, runtime, quiet)
        if not runtime.is_main:
            continue
        sets = as_feature_sets(*features, splits)
        report, further = score_sets(*sets, config.eval, queries=queries, details=details)
        scores.append(Score(source, splits, report, source.name in seen, further))
    return scores


def run_config(
    folder: Path, name: str | None = None, root: Path | None = None, changes: Mapping[str, Any] | None = None
) -> Config:
    """The settings to evaluate a run or a model folder with, on one data set.

    Args:
        folder: run folder (or the ``final`` or ``best`` in it), or model folder, which takes its system's recipe for
            Market-1501.
        name, root: data set, as :func:`regard.data.sources.find_source` reads it; both None takes the run's own, and a
            name alone is looked for where that lies.
        changes: settings of the ``eval`` section that differ.

    Raises:
        CheckpointError: no such run and no such model.
        ConfigError: a model folder alone does not say which data to use.
    """
    own = own_config(folder)
    if own is None:
        system = saved_system(model_folder(folder))
        if root is None:
            raise ConfigError(DATALESS.format(folder))
        own = resolve(f"{system}_market1501").config
    tree = own.to_dict()
    data = tree["data"]
    if root or name:
        data["name"] = name
        data["root"] = str(root) if root else data["root"]
    else:
        data["name"] = tested_on(own)
    data["train"], data["labels"] = [], []  # only what is tested on is read
    tree["eval"] |= changes or {}
    return load_config(tree)


def run_home(folder: Path) -> Path:
    """The run folder that a folder is, or is a part of; a model folder is its own."""
    inside = folder.name in ("final", "best") and (folder.parent / "config.yaml").is_file()
    return folder.parent if inside else folder


def own_config(folder: Path) -> Config | None:
    """The configuration a run was trained with; None for the folder of a model alone."""
    settings = run_home(folder) / "config.yaml"
    return load_config(settings.read_text(encoding="utf-8"), source=str(settings)) if settings.is_file() else None


def trained_on(config: Config) -> set[str]:
    """Names of the data sets a run was trained on, as far as that can still be told."""
    data = config.data
    if not data.train and data.name is None:
        return {detect(data.root)} if data.root and data.root.exists() else {"crowd"} if data.root is None else set()
    return {source_name(text) for text in data.train or (data.name or "",)}
