"""Training from Python: what ``regard train`` does, with settings as values instead of texts.

>>> import regard                                                                           # doctest: +SKIP
>>> run = regard.train("apnet", data={"root": "data/market1501"}, train={"epochs": 60})     # doctest: +SKIP
>>> run = regard.train("apnet", **{"train.epochs": 60, "losses.center": None})              # doctest: +SKIP
>>> run.model.embed_dim                                                                     # doctest: +SKIP
2048
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from regard.config import Config, load_config
from regard.engine.run import start_run
from regard.errors import ConfigError
from regard.evaluation.run import Run, open_run
from regard.recipes import Recipe
from regard.run_folder.resolving import resolve

__all__ = ["train"]


def train(
    recipe: str | Path | Config | Mapping[str, Any],
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
    lines: tuple[str, ...] = ()
    origin: Recipe | None = None
    if isinstance(recipe, Config | Mapping):
        if folder is None:
            raise ConfigError("settings have no name to call their run by; give folder=")
        settings = recipe.to_dict() if isinstance(recipe, Config) else recipe
        config = load_config(settings, overrides, source="settings")
    else:
        name, config, origin, lines = resolve(str(recipe), overrides)
        folder = Path("runs") / name if folder is None else folder
    place = Path(folder).expanduser()
    model = start_run(config, place, quiet=quiet, go_on=go_on, about=lines, recipe=origin)
    run = open_run(place, quiet=quiet)
    run.model = model
    return run
