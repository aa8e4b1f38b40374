"""Runs: from a recipe's name to a folder with a trained, scored model.

A run folder holds config.yaml, recipe.json (where that came from), metrics.jsonl, tensorboard/, last.safetensors (to
resume from), best/ (the weights of the best evaluation) and final/ (the weights training ended with: what papers
report, and what ``regard.load`` takes).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from regard.config import Config, LabelFilesConfig, load_config, override, read_settings
from regard.data.datasets import detect
from regard.data.labels import LabelRoots, label_training
from regard.data.sources import Source, find_source, merge_sources, no_training, source_name
from regard.engine.run_identity import check_settings
from regard.engine.train import train
from regard.errors import ConfigError, DataError, StorageError
from regard.evaluation.embed import products_of
from regard.models import ReIDModel
from regard.models.saved import WEIGHTS
from regard.recipes import Recipe, list_recipes, read_recipe
from regard.registry import MODELS
from regard.run_folder.origin import changed_settings, keep_recipe
from regard.run_folder.saved_state import Saved, has_state, read_saved
from regard.runtime.fabric import Runtime
from regard.storage import check_text
from regard.structures import Splits

__all__ = ["Resolved", "find_data", "label_roots", "open_data", "resolve", "resume_run", "start_run", "tested_on"]

CROWD = Path("runs") / "crowd"


BASE = "market1501"
"""Data set whose recipe a system takes for data sets that it has none for."""


class Resolved(NamedTuple):
    """What ``regard train NAME`` stands for.

    Attributes:
        name: what the run is called by default.
        config: the checked configuration.
        recipe: where it comes from.
        lines: which recipe that is, and what differs from it.
    """

    name: str
    config: Config
    recipe: Recipe
    lines: tuple[str, ...]


def resolve(name: str, overrides: Sequence[str] = ()) -> Resolved:
    """The recipe meant by ``name`` and its configuration.

    A bare system name takes its recipe for the data set that the overrides point at (``data.name=``, or what is found
    in ``data.root=``), or its recipe for the crowd where they point at none. Where it has none for that data set, its
    recipe for Market-1501 serves, and ``lines`` says so.

    Raises:
        ConfigError: there is no such recipe, or it or an override is wrong.
    """
    called, note, on_board = name, "", list_recipes()
    if name in MODELS and name not in on_board:
        data = _data_of(overrides)
        called, base = f"{name}_{data}", f"{name}_{BASE}"
        name = called
        if called not in on_board and base in on_board:
            name, note = base, f"{called.removesuffix(f'_{data}')} has no recipe for {data} and takes that for {BASE}"
            several = override({}, overrides).get("data", {}).get("train")
            overrides = (f"data.name={'null' if several else data}", *overrides)
    recipe = read_recipe(name)
    config = recipe.config(overrides)
    said = f"recipe {name} ({recipe.kind})" + (f": {note}" if note else "")
    changes = changed_settings(recipe, config)
    return Resolved(Path(called).stem, config, recipe, (said, *([f"changed: {', '.join(changes)}"] if changes else ())))


def _data_of(overrides: Sequence[str]) -> str:
    """Name of the data set that overrides point at: ``data.name``, the first of ``data.train``, or what is in root."""
    data = override({}, overrides).get("data")
    data = data if isinstance(data, dict) else {}
    if data.get("name"):
        return source_name(str(data["name"]))
    train = data.get("train")
    if isinstance(train, list) and train:
        return source_name(str(train[0]))
    return detect(Path(str(data["root"])).expanduser()) if data.get("root") else "crowd"


def open_data(config: Config, runtime: Runtime | None = None, quiet: bool = False) -> Splits:
    """Read the data of a configuration: the data set itself, or the training splits of all in ``data.train``.

    Without a root, a crowd is made under runs/crowd first (once).

    Raises:
        DataError: a data set is not there or not complete.
        ConfigError: a data set is named twice.
    """
    data = config.data
    home = find_data(tested_on(config), data.root, config, runtime, quiet)
    if not data.train:
        return _labeled(home.read(), config, runtime, quiet)
    splits = home.read()
    sources = [find_data(text, data.root, config, runtime, quiet) for text in data.train]
    parts = [splits if source == home else source.read() for source in sources]
    for name in data.label_files if data.labels else ():
        places = [str(part.root) for part in parts if part.name == name]
        if len(places) > 1:
            raise ConfigError(
                f"data.label_files says where labels of {name} are, but there are {len(places)}: {', '.join(places)}; "
                "keep each one's labels in its own folder (regard data labels), and leave label_files out"
            )
    return merge_sources(splits, [_labeled(part, config, runtime, quiet) for part in parts])


def _labeled(splits: Splits, config: Config, runtime: Runtime | None, quiet: bool) -> Splits:
    """The data set with the labels the configuration trains on; one rank packs them, where they are to be packed."""
    if not config.data.labels or not splits.train:
        return splits
    files = config.data.label_files.get(splits.name)
    roots = label_roots(files) if files else None
    if runtime and not runtime.is_main:
        runtime.barrier()
    labeled = label_training(splits, roots, files.pack if files else None, progress=not quiet)
    if runtime and runtime.is_main:
        runtime.barrier()
    return labeled


def label_roots(files: LabelFilesConfig, **others: Any) -> LabelRoots:
    """Return where a run's settings say that labels are; the usual threshold is of the masks in ``mask_root`` alone.

    Args:
        files: the settings.
        others: what is to be otherwise.
    """
    said = files.model_dump(exclude={"pack"})
    if not files.mask_root and files.mask_threshold == LabelFilesConfig().mask_threshold:
        said["mask_threshold"] = None
    return LabelRoots(**said | others)


def tested_on(config: Config) -> str | None:
    """What a configuration tests on, as a text; None is whatever lies in its root."""
    return config.data.name or (config.data.train[0] if config.data.train else None)


def find_data(
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


def start_run(
    config: Config,
    folder: Path,
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
        kind = runtime.broadcast(_standing(folder))
        if kind == "run" and not go_on:
            raise ConfigError(
                f"{folder} holds a run already; go on with it (--resume {folder}), or name another folder with -o"
            )
        if kind == "run":
            saved = read_saved(folder)
            check_settings(saved.config, config, saved.progress, str(folder))
            return _train(config, folder, runtime, quiet, saved, about)
        if kind == "failed":
            _say_again(folder, runtime)
        return _train(config, folder, runtime, quiet, about=about, begin=lambda: keep_recipe(folder, recipe))
    finally:
        runtime.close()


def resume_run(folder: Path, overrides: Sequence[str] = (), quiet: bool = False) -> ReIDModel:
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
    if _standing(folder) == "failed":
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
        return _train(config, folder, runtime, quiet, saved)
    finally:
        runtime.close()


def _train(
    config: Config,
    folder: Path,
    runtime: Runtime,
    quiet: bool,
    resume: Saved | None = None,
    about: Sequence[str] = (),
    begin: Callable[[], None] | None = None,
) -> ReIDModel:
    splits = open_data(config, runtime, quiet)
    if not splits.train:
        raise DataError(no_training(splits.name))
    _announce(config, splits, folder, runtime, quiet, about)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"could not make the run folder {folder}: {error.strerror or error}; choose another with -o"
        ) from None
    runtime.on_main(begin or (lambda: None))
    try:
        return train(config, splits, folder, runtime, resume=resume, quiet=quiet)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        saved = "what was saved last goes on with --resume" if has_state(folder) else "nothing was saved yet"
        raise ConfigError(
            f"memory ran out while training; set train.checkpointing=true, train.accumulate=2 or a smaller "
            f"data.ids_per_batch ({saved}; of these only train.checkpointing may change then)"
        ) from error


def _standing(folder: Path) -> str:
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


def _announce(
    config: Config, splits: Splits, folder: Path, runtime: Runtime, quiet: bool, about: Sequence[str]
) -> None:
    if runtime.is_main and not quiet:
        where = f"{runtime.world_size} x {runtime.device.type}" if runtime.world_size > 1 else runtime.device.type
        print(*about, splits, sep="\n")
        scored = products_of(config, runtime.device).precision
        how = runtime.precision + (f" (scored in {scored})" if scored != runtime.precision else "")
        print(f"{config.model.name} on {where} in {how}, run folder {folder} (config.yaml: all settings)")
