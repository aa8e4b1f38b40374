"""Runs: from a recipe's name to a folder with a trained, scored model.

A run folder holds config.yaml, recipe.json (where that came from), held_out.json (the people it was validated on, where
there are such), metrics.jsonl, tensorboard/, last.safetensors (to resume from), best/ (the weights of the best
evaluation) and final/ (the weights training ended with: what papers report, and what ``regard.load`` takes).

From Python, :func:`train` does what ``regard train`` does, with settings as values instead of texts:

>>> import regard                                                                           # doctest: +SKIP
>>> run = regard.train("apnet", data={"root": "data/market1501"}, train={"epochs": 60})     # doctest: +SKIP
>>> run = regard.train("apnet", **{"train.epochs": 60, "losses.center": None})              # doctest: +SKIP
>>> run.model.embed_dim                                                                     # doctest: +SKIP
2048
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from regard.config import Config, load_config, read_settings
from regard.data.sources import no_training
from regard.engine import train as loop
from regard.engine.build import check_training
from regard.engine.checks import check_settings
from regard.engine.loggers import require_loggers
from regard.errors import ConfigError, DataError, StorageError
from regard.evaluation.embed import products_of
from regard.evaluation.run import Run, open_run
from regard.models import ReIDModel
from regard.models.backbone import backbone_plugin
from regard.models.folder import WEIGHTS
from regard.recipes import Recipe
from regard.registry import DATASETS, LOGGERS, LOSSES, MODELS
from regard.run_folder.opened_data import open_data
from regard.run_folder.origin import keep_recipe, resolve
from regard.run_folder.saved_state import Saved, has_state, read_saved
from regard.runtime.fabric import Runtime
from regard.storage import as_path, check_text, encode_text, write_atomic
from regard.structures import Splits

__all__ = ["resume_run", "standing", "start_run", "train"]


def train(
    recipe: str | PathLike[str] | Config | Mapping[str, Any],
    *,
    folder: str | PathLike[str] | None = None,
    go_on: bool = False,
    quiet: bool = False,
    **overrides: Any,
) -> Run:
    """Train a system in a new run folder.

    Args:
        recipe: name of a system or of a recipe, path of a YAML file, or settings: a :class:`regard.config.Config` or
            the mapping of its sections.
        folder: where the run is kept; None: ``runs/NAME``, as ``regard train`` has it, for what has a name.
        go_on: where the folder holds this very run already, go on from its last checkpoint.
        quiet: no progress bars.
        overrides: settings that differ, by section (``train={"epochs": 60}``) or by dotted name
            (``**{"train.epochs": 60}``). Mappings are joined key by key with the recipe's, everything else replaces;
            None takes a term out of ``losses``.

    Returns:
        The opened run: the trained ``model`` on its device, in evaluation mode, and ``own``, every setting.

    Raises:
        ConfigError: there is no such recipe, a setting is wrong or given twice, or the folder is not said or holds
            another run.
        DataError: the data set is not there, not complete, or for testing only.
    """
    place = None if folder is None else as_path("folder", folder, "a folder to keep the run in")
    if not isinstance(recipe, Config | Mapping):
        path = as_path("recipe", recipe, "the name of a system or of a recipe, a YAML file, or settings")
        name, config, origin, lines = resolve(recipe if isinstance(recipe, str) else str(path), overrides)
        place = place or Path("runs") / name
    elif place is None:
        raise ConfigError("settings have no name to call their run by; give folder=")
    else:
        settings = recipe.to_dict() if isinstance(recipe, Config) else recipe
        config, origin, lines = load_config(settings, overrides, source="settings"), None, ()
    place = place.expanduser()
    model = start_run(config, place, quiet=quiet, go_on=go_on, about=lines, recipe=origin)
    run = open_run(place, quiet=quiet)
    run.model = model
    return run


def start_run(
    config: Config,
    folder: Path,
    *,
    quiet: bool = False,
    go_on: bool = False,
    about: Sequence[str] = (),
    recipe: Recipe | None = None,
) -> ReIDModel:
    """Train a new run in ``folder``.

    A folder in which a run failed before its first checkpoint holds nothing yet, and is started again.

    Args:
        config: everything that decides the result.
        folder: where the run is kept.
        quiet: no progress bars.
        go_on: where the folder holds this very run already, go on from its last checkpoint: what is wanted of a
            command that is started again whenever it has been ended.
        about: lines to begin with, see :class:`Resolved`.
        recipe: where the configuration comes from, which the folder then says too.

    Raises:
        ConfigError: the folder holds a run already; with ``go_on``, one of other settings.
        CheckpointError: with ``go_on``, the run was trained on other pictures, or its checkpoint is damaged.
        DataError: the data set is for testing only.
        StorageError: the folder's name is no text.
    """
    check_text(folder)
    runtime = Runtime(config.train)
    try:
        kind = runtime.broadcast(standing(folder))
        if kind == "run" and not go_on:
            raise ConfigError(
                f"{folder} holds a run already; go on with it (--resume {folder}, from Python go_on=True), or name "
                "another folder (-o, folder=)"
            )
        if kind == "run":
            saved = read_saved(folder)
            check_settings(saved.config, config, saved.progress, str(folder))
            return _train(config, folder, runtime, quiet=quiet, resume=saved, about=about)
        if kind == "failed":
            _say_again(folder, runtime)
        return _train(config, folder, runtime, quiet=quiet, about=about, begin=lambda: keep_recipe(folder, recipe))
    finally:
        runtime.close()


def resume_run(folder: Path, overrides: Sequence[str] = (), *, quiet: bool = False) -> ReIDModel:
    """Go on with the run in ``folder`` from its last checkpoint.

    Args:
        folder: the run's.
        overrides: settings that differ from now on, as far as they change no step done so far.
        quiet: no progress bars.

    Raises:
        ConfigError: an override would make another run of it.
        CheckpointError: there is nothing to go on from, or the training pictures are not those it was trained on.
    """
    saved = None
    if standing(folder) == "failed":
        settings = folder / "config.yaml"
        config = load_config(read_settings(settings), overrides, source=str(settings))
    else:
        saved = read_saved(folder)
        config = load_config(saved.config.to_dict(), overrides, source=str(folder))
        check_settings(saved.config, config, saved.progress, str(folder))
    runtime = Runtime(config.train)
    try:
        if not saved:
            _say_again(folder, runtime)
        return _train(config, folder, runtime, quiet=quiet, resume=saved)
    finally:
        runtime.close()


def _train(
    config: Config,
    folder: Path,
    runtime: Runtime,
    *,
    quiet: bool,
    resume: Saved | None = None,
    about: Sequence[str] = (),
    begin: Callable[[], None] | None = None,
) -> ReIDModel:
    require_loggers(config.train.loggers or ())
    splits = open_data(config, runtime, quiet=quiet)
    if not splits.train:
        raise DataError(no_training(splits.name))
    config = config.model_copy(update={"plugins": tuple(dict.fromkeys([*config.plugins, *_used(config, splits)]))})
    if runtime.is_main and not quiet:
        print(*about, splits, sep="\n")
        _announce(config, folder, runtime)
    if not resume:
        runtime.on_main(lambda: check_training(config, splits, runtime.world_size))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"could not make the run folder {folder}: {error.strerror or error}; choose another with -o"
        ) from None
    runtime.on_main(begin or (lambda: None))
    if config.data.val_ids:
        people = {"data": splits.label, "people": sorted({sample.pid for sample in splits.query})}
        runtime.on_main(lambda: write_atomic(folder / "held_out.json", encode_text(json.dumps(people, indent=1))))
    try:
        return loop.train(config, splits, folder, runtime, resume=resume, quiet=quiet)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        saved = (
            "what was saved last goes on with --resume, or go_on=True" if has_state(folder) else "nothing was saved yet"
        )
        raise ConfigError(
            f"memory ran out while training; set train.checkpointing=true, train.accumulate=2 or a smaller "
            f"data.ids_per_batch ({saved}; of these only train.checkpointing may change then)"
        ) from error


def _used(config: Config, splits: Splits) -> list[str]:
    """The plug-ins that what a run names is of, as they are to be kept; nobody has named those of packages."""
    texts = [splits.name, *filter(None, [config.data.name, *(config.data.train or ())])]
    names = {text.partition(",")[0].partition("=")[0] for text in texts} & set(DATASETS.loaded())
    found = [MODELS.plugin_of(config.model.name), *(LOSSES.plugin_of(term.loss) for term in config.losses.values())]
    found += [*map(DATASETS.plugin_of, sorted(names)), *map(LOGGERS.plugin_of, config.train.loggers or ())]
    backbone = config.model.options.get("backbone")
    return [plugin for plugin in (*found, backbone_plugin(backbone) if isinstance(backbone, str) else None) if plugin]


def standing(folder: Path) -> str:
    """What a folder is to a new run: "run" where weights lie in it, "failed" where one ended before, else empty."""
    models = (folder, folder / "best", folder / "final")
    if has_state(folder) or any((place / WEIGHTS).is_file() for place in models):
        return "run"
    return "failed" if (folder / "config.yaml").is_file() else ""


def _say_again(folder: Path, runtime: Runtime) -> None:
    if runtime.is_main:
        print(
            f"regard: {folder} holds a start that ended before its first checkpoint; starting again from the beginning",
            file=sys.stderr,
        )


def _announce(config: Config, folder: Path, runtime: Runtime) -> None:
    where = f"{runtime.world_size} x {runtime.device.type}" if runtime.world_size > 1 else runtime.device.type
    scored = products_of(config, runtime.device).precision
    how = runtime.precision + (f" (scored in {scored})" if scored != runtime.precision else "")
    print(f"{config.model.name} on {where} in {how}, run folder {folder} (config.yaml: all settings)")
