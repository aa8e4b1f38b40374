"""Runs: from a recipe's name to a folder with a trained, scored model, and back from the folder.

A run folder holds config.yaml, metrics.jsonl, tensorboard/, last.safetensors (to resume from), best/ (the weights of
the best evaluation) and final/ (the weights training ended with: what papers report, and what ``regard.load`` takes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regard.config import Config, load_config, read_recipe, recipe_names
from regard.data import load_dataset
from regard.data.datasets import detect
from regard.engine.checkpoint import read_config
from regard.engine.extract import evaluate_model
from regard.engine.runtime import Runtime
from regard.engine.train import train
from regard.errors import ConfigError, DataError
from regard.metrics import RankingReport
from regard.models import ReIDModel, load
from regard.models.checkpoint import model_config
from regard.registry import MODELS
from regard.structures import Splits

__all__ = ["evaluate_run", "open_data", "resolve", "resume_run", "start_run"]

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
        given = {key: value for key, _, value in (text.partition("=") for text in overrides)}
        data = given.get("data.name") or (detect(given["data.root"]) if "data.root" in given else "crowd")
        name = f"{name}_{data}"
    return Path(name).stem, load_config(read_recipe(name), overrides, source=name)


def open_data(config: Config, runtime: Runtime | None = None, quiet: bool = False) -> Splits:
    """Read the data set of a configuration; without a root, make a crowd under runs/crowd first (once).

    Raises:
        DataError: the data set is not there or not complete.
    """
    name, root = config.data.name, config.data.root
    if root is None:
        if name not in (None, "crowd"):
            raise DataError(f"data.root is not given; say where {name} lies: data.root=FOLDER")
        from regard.data.crowd import make_crowd

        name, root = "crowd", CROWD
        if runtime is None or runtime.is_main:
            make_crowd(root, progress=not quiet)
        if runtime:
            runtime.barrier()
    return load_dataset(name or detect(root), root)


def start_run(config: Config, folder: Path, quiet: bool = False) -> ReIDModel:
    """Train a new run in ``folder``.

    Raises:
        ConfigError: the folder holds a run already.
    """
    runtime = Runtime(config.train)
    try:
        if runtime.broadcast((folder / "config.yaml").exists()):
            raise ConfigError(
                f"{folder} holds a run already; go on with it (--resume {folder}), or name another folder with -o"
            )
        splits = open_data(config, runtime, quiet)
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
    """Score a run, or a saved model, on its own data set or another.

    Args:
        folder: run folder or model folder.
        name, root: data set; both None takes the run's own.
        changes: settings of the ``eval`` section that differ from the run's.
        quiet: no progress bars.

    Raises:
        ConfigError: a model folder alone does not say which data to use.
    """
    settings = folder / "config.yaml"
    model = load(folder)
    if settings.is_file():
        tree = load_config(settings.read_text(encoding="utf-8"), source=str(settings)).to_dict()
    elif root is None:
        raise ConfigError(f"{folder} is a model without a run, so it names no data set; say --root FOLDER")
    else:
        _, config = resolve(f"{model_config(model)['model']}_market1501")
        tree = config.to_dict()
    if name or root:
        tree["data"] |= {"name": name, "root": str(root) if root else None}
    tree["eval"] |= changes or {}
    config = load_config(tree)
    splits = open_data(config, quiet=quiet)
    runtime = Runtime(config.train.model_copy(update={"devices": 1}))
    report, _, _ = evaluate_model(
        model.to(runtime.device), splits, config.eval, height=config.data.height, width=config.data.width,
        workers=config.data.workers, autocast=runtime.autocast(), quiet=quiet,
    )  # fmt: skip
    return splits, report


def _announce(config: Config, splits: Splits, folder: Path, runtime: Runtime, quiet: bool) -> None:
    if runtime.is_main and not quiet:
        where = f"{runtime.world_size} x {runtime.device.type}" if runtime.world_size > 1 else runtime.device.type
        print(config.to_yaml())
        print(splits)
        print(f"{config.model.name} on {where} in {runtime.precision}, run folder {folder}")
