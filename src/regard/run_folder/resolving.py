"""From a name to a configuration: a recipe's, or that of a system for the data set it is pointed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from regard.config import Config, Overrides, lay_over, override
from regard.data.datasets import detect
from regard.data.sources import source_name
from regard.recipes import Recipe, list_recipes, read_recipe
from regard.registry import MODELS
from regard.run_folder.origin import changed_settings

__all__ = ["BASE", "Resolved", "recipe_for", "resolve"]

BASE = "market1501"
"""Data set whose recipe a system takes for data sets that it has none for."""

PLAIN = "baseline"
"""System whose recipes one takes that has none, as those of plug-ins have."""


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


def resolve(name: str, overrides: Overrides = ()) -> Resolved:
    """The recipe meant by ``name`` and its configuration.

    A bare system name takes its recipe for the data set that the overrides point at (``data.name=``, or what is found
    in ``data.root=``), or its recipe for the crowd where they point at none. Where it has none for that data set, its
    recipe for Market-1501 serves, and for a system without recipes that of the baseline; ``lines`` says so.

    Raises:
        ConfigError: there is no such recipe, or it or an override is wrong.
    """
    if name not in MODELS or name in list_recipes():
        return _resolved(name, read_recipe(name), overrides)
    data = _data_of(overrides)
    recipe = recipe_for(name, data)
    if recipe.name == f"{name}_{data}":
        return _resolved(recipe.name, recipe, overrides)
    own, _, base = recipe.name.rpartition("_")
    note = f": {name} has no recipe for {data} and takes {'that' if own == name else f'that of {PLAIN}'} for {base}"
    if own != name:  # and what is known of that one's scores says nothing of this
        recipe = replace(recipe, about=None, settings={**recipe.settings, "model": {"name": name}})
    given = override({}, overrides)
    called = None if given.get("data", {}).get("train") else data
    if isinstance(overrides, Mapping):
        overrides = lay_over({"data": {"name": called}}, given)
    else:
        overrides = (f"data.name={called or 'null'}", *overrides)
    return _resolved(f"{name}_{data}", recipe, overrides, note)


def recipe_for(system: str, data: str = BASE) -> Recipe:
    """The recipe that a system takes for a data set: its own for that one or for Market-1501, or the baseline's.

    Args:
        system: name of a registered model.
        data: name of the data set.
    """
    on_board = list_recipes()
    names = (f"{one}_{kind}" for one in (system, PLAIN) for kind in (data, BASE))
    return read_recipe(next(name for name in names if name in on_board))


def _resolved(called: str, recipe: Recipe, overrides: Overrides, note: str = "") -> Resolved:
    config = recipe.config(overrides)
    said = f"recipe {recipe.name} ({recipe.kind}){note}"
    changes = changed_settings(recipe, config)
    return Resolved(Path(called).stem, config, recipe, (said, *([f"changed: {', '.join(changes)}"] if changes else ())))


def _data_of(overrides: Overrides) -> str:
    """Name of the data set that overrides point at: ``data.name``, the first of ``data.train``, or what is in root."""
    data = override({}, overrides).get("data")
    data = data if isinstance(data, dict) else {}
    if data.get("name"):
        return source_name(str(data["name"]))
    train = data.get("train")
    if isinstance(train, list) and train:
        return source_name(str(train[0]))
    return detect(Path(str(data["root"])).expanduser()) if data.get("root") else "crowd"
