"""Runs: from a recipe's name to a folder with a trained, scored model, and back from the folder.

A run folder holds config.yaml, metrics.jsonl, tensorboard/, last.safetensors (to resume from), best/ (the weights of
the best evaluation) and final/ (the weights training ended with: what papers report, and what ``regard.load`` takes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from regard.config import Config, load_config, read_recipe, recipe_names
from regard.data.datasets import detect
from regard.data.sources import Source, find_source, merge_sources, no_training, source_name
from regard.engine.checkpoint import read_config
from regard.engine.extract import evaluate_model
from regard.engine.runtime import Runtime
from regard.engine.train import train
from regard.engine.transfer import Score
from regard.errors import ConfigError, DataError
from regard.metrics import RankingReport
from regard.models import ReIDModel, load
from regard.models.checkpoint import model_config
from regard.registry import MODELS
from regard.structures import Splits

__all__ = ["evaluate_on", "evaluate_run", "open_data", "resolve", "resume_run", "start_run"]

CROWD = Path("runs") / "crowd"


def resolve(name: str, overrides: Sequence[str] = ()) -> tuple[str, Config]:
    """The recipe meant by ``name`` and its configuration.

    A bare system name takes its recipe for the data set that the overrides point at (``data.name=``, or what is found
    in ``data.root=``), or its recipe for the crowd where they point at none.

    Returns:
        The recipe's name and the checked configuration.

    Raises:
        ConfigError: there is no such recipe, or it or an override is wrong.
    """
    if name in MODELS and name not in recipe_names():
        name = f"{name}_{_data_of(overrides)}"
    return Path(name).stem, load_config(read_recipe(name), overrides, source=name)


def _data_of(overrides: Sequence[str]) -> str:
    """Name of the data set that overrides point at: ``data.name``, the first of ``data.train``, or what is in root."""
    given = {key: value for key, _, value in (text.partition("=") for text in overrides)}
    if given.get("data.name"):
        return source_name(given["data.name"])
    train = yaml.safe_load(given.get("data.train", "[]"))
    if isinstance(train, list) and train:
        return source_name(str(train[0]))
    return detect(given["data.root"]) if "data.root" in given else "crowd"


def open_data(config: Config, runtime: Runtime | None = None, quiet: bool = False) -> Splits:
    """Read the data of a configuration: the data set itself, or the training splits of all in ``data.train``.

    Without a root, a crowd is made under runs/crowd first (once).

    Raises:
        DataError: a data set is not there or not complete.
        ConfigError: a data set is named twice.
    """
    data = config.data
    home = _find(_home(config), data.root, config, runtime, quiet)
    splits = home.read()
    if not data.train:
        return splits
    sources = [_find(text, data.root, config, runtime, quiet) for text in data.train]
    return merge_sources(splits, [splits if source == home else source.read() for source in sources])


def _home(config: Config) -> str | None:
    """What a configuration tests on, as a text; None is whatever lies in its root."""
    return config.data.name or (config.data.train[0] if config.data.train else None)


def _find(
    text: str | None, root: Path | None, config: Config, runtime: Runtime | None = None, quiet: bool = False
) -> Source:
    """The source of a text; None is whatever lies in ``root``, and the crowd needs none, it is made."""
    if root is None and text in (None, "crowd"):
        from regard.data.crowd import make_crowd

        if runtime is None or runtime.is_main:
            make_crowd(CROWD, progress=not quiet)
        if runtime:
            runtime.barrier()
        text, root = "crowd", CROWD
    return find_source(text or detect(root or CROWD), root, config.data.options)


def start_run(config: Config, folder: Path, quiet: bool = False) -> ReIDModel:
    """Train a new run in ``folder``.

    Raises:
        ConfigError: the folder holds a run already.
        DataError: the data set is for testing only.
    """
    runtime = Runtime(config.train)
    try:
        if runtime.broadcast((folder / "config.yaml").exists()):
            raise ConfigError(
                f"{folder} holds a run already; go on with it (--resume {folder}), or name another folder with -o"
            )
        splits = open_data(config, runtime, quiet)
        if not splits.train:
            raise DataError(no_training(splits.name))
        _announce(config, splits, folder, runtime, quiet)
        folder.mkdir(parents=True, exist_ok=True)
        runtime.barrier()
        return train(config, splits, folder, runtime, quiet=quiet)
    finally:
        runtime.close()


def resume_run(folder: Path, quiet: bool = False) -> ReIDModel:
    """Go on with the run in ``folder`` from its last checkpoint."""
    config = read_config(folder)
    runtime = Runtime(config.train)
    try:
        splits = open_data(config, runtime, quiet)
        _announce(config, splits, folder, runtime, quiet)
        return train(config, splits, folder, runtime, resume=True, quiet=quiet)
    finally:
        runtime.close()


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
    score = evaluate_on(folder, [name] if name else [], root, changes, quiet)[0]
    return score.splits, score.report


def evaluate_on(
    folder: Path,
    data: Sequence[str] = (),
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> list[Score]:
    """Score a run, or a saved model, on data sets, as it is.

    Args:
        folder: run folder or model folder.
        data: data sets as :func:`~regard.data.sources.find_source` reads them; none takes what lies in ``root``, or
            the run's own.
        root: folder of those that are bare names; None: the run's.
        changes: settings of the ``eval`` section that differ from the run's.
        quiet: no progress bars.

    Returns:
        A score per data set, in the order given. All of them are found and read before the first is scored.

    Raises:
        ConfigError: a model folder alone does not say which data to use, or a data set is named twice.
        DataError: a data set is not there or not complete.
    """
    model = load(folder)
    own = _run_config(folder)
    if own is None and root is None and not data:
        raise ConfigError(f"{folder} is a model without a run, so it names no data set; say --root FOLDER")
    config = own or resolve(f"{model_config(model)['model']}_market1501")[1]
    config = load_config(config.to_dict() | {"eval": config.eval.model_dump() | dict(changes or {})})
    texts = list(data) or [_home(config) if root is None else None]
    sources = [_find(text, root or (own and own.data.root), config, quiet=quiet) for text in texts]
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigError(f"{source} in '{source.root}' is named twice; name each data set once")
    seen = _trained_on(own) if own else set()
    opened = [source.read() for source in sources]
    runtime = Runtime(config.train.model_copy(update={"devices": 1}))
    model.to(runtime.device)
    scores = []
    for source, splits in zip(sources, opened):
        report, _, _ = evaluate_model(
            model, splits, config.eval, height=config.data.height, width=config.data.width,
            interpolation=config.data.interpolation, workers=config.data.workers, autocast=runtime.autocast(),
            quiet=quiet,
        )  # fmt: skip
        scores.append(Score(source, splits, report, source.name in seen))
    return scores


def _run_config(folder: Path) -> Config | None:
    """The configuration a run was trained with; None for the folder of a model alone."""
    settings = folder / "config.yaml"
    return load_config(settings.read_text(encoding="utf-8"), source=str(settings)) if settings.is_file() else None


def _trained_on(config: Config) -> set[str]:
    """Names of the data sets a run was trained on, as far as that can still be told."""
    data = config.data
    if not data.train and data.name is None:
        return {detect(data.root)} if data.root and data.root.exists() else {"crowd"} if data.root is None else set()
    return {source_name(text) for text in data.train or (data.name or "",)}


def _announce(config: Config, splits: Splits, folder: Path, runtime: Runtime, quiet: bool) -> None:
    if runtime.is_main and not quiet:
        where = f"{runtime.world_size} x {runtime.device.type}" if runtime.world_size > 1 else runtime.device.type
        print(config.to_yaml())
        print(splits)
        print(f"{config.model.name} on {where} in {runtime.precision}, run folder {folder}")
