"""From a name to a configuration: a recipe's, or that of a system for the data set it is pointed at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from regard.config import Config, Overrides, lay_over, override
from regard.data.datasets import detect
from regard.data.sources import source_name
from regard.recipes import Recipe, list_recipes, read_recipe
from regard.registry import MODELS
from regard.run_folder.origin import changed_settings

__all__ = ["Resolved", "resolve"]

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
    called, note, on_board = name, "", list_recipes()
    if name in MODELS and name not in on_board:
        data, system = _data_of(overrides), name
        called = f"{system}_{data}"
        own, plain = ([f"{one}_{kind}" for kind in (data, BASE)] for one in (system, PLAIN))
        name = next(one for one in (*own, *plain) if one in on_board)
        if name != called:
            whose = "that" if name in own else f"{PLAIN}'s"
            note = f"{system} has no recipe for {data} and takes {whose} for {name.rpartition('_')[2]}"
            given = override({}, overrides)
            called_so = None if given.get("data", {}).get("train") else data
            model = {} if name in own else {"model": {"name": system}}
            if isinstance(overrides, Mapping):
                overrides = lay_over({**model, "data": {"name": called_so}}, given)
            else:
                texts = [f"model={{name: {system}}}"] if model else []
                overrides = (*texts, f"data.name={called_so or 'null'}", *overrides)
    recipe = read_recipe(name)
    config = recipe.config(overrides)
    said = f"recipe {name} ({recipe.kind})" + (f": {note}" if note else "")
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
