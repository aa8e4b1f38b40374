"""Which recipe a run comes from: found by a name when it begins, kept beside its settings in ``recipe.json``.

The settings of a run stand in ``config.yaml`` and decide what it is. That they are those of a published recipe, or what
differs from it, cannot be seen there; it is said by the recipe as it was when the run began.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from regard.config import Config, Overrides, lay_over, load_config, override, plugins_of
from regard.data.datasets import detect
from regard.data.sources import source_name
from regard.errors import CheckpointError, ConfigError, RegardError, UnknownNameError
from regard.parsing import parse_json
from regard.plugins import load_plugins
from regard.recipes import FILES, UNSAID, About, Recipe, has_recipe, list_recipes, read_recipe
from regard.registry import MODELS
from regard.storage import encode_text, read_regular, write_atomic

__all__ = ["BASE", "Origin", "Resolved", "changed_settings", "keep_recipe", "read_origin", "recipe_for", "resolve"]

FILE = "recipe.json"

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
    load_plugins(plugins_of(override({}, overrides)) or ())
    if has_recipe(name, installed=False) or name not in MODELS or has_recipe(name, installed=False):
        return _resolved(name, _read(name), overrides)
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


def _read(name: str) -> Recipe:
    """The recipe of that name or file; where there is none, systems are among the names that may have been meant."""
    if Path(name).suffix not in FILES and not has_recipe(name):
        raise UnknownNameError("recipe", name, list_recipes(), MODELS)
    return read_recipe(name)


def recipe_for(system: str, data: str = BASE) -> Recipe:
    """The recipe that a system takes for a data set: its own for that one or for Market-1501, or the baseline's.

    Args:
        system: name of a registered model.
        data: name of the data set.
    """
    names = (f"{one}_{kind}" for one in (system, PLAIN) for kind in (data, BASE))
    return read_recipe(next(filter(has_recipe, names)))


def _resolved(called: str, recipe: Recipe, overrides: Overrides, note: str = "") -> Resolved:
    config = recipe.config(overrides)
    changes = changed_settings(recipe, config)
    lines = (f"recipe {recipe.name} ({recipe.kind}){note}", *([f"changed: {', '.join(changes)}"] if changes else ()))
    return Resolved(Path(called).stem, config, recipe, lines)


def _data_of(overrides: Overrides) -> str:
    """Name of the data set that overrides point at: ``data.name``, the first of ``data.train``, or what is in root."""
    data = override({}, overrides).get("data")
    data = data if isinstance(data, dict) else {}
    train = data.get("train")
    if named := data.get("name") or (train[0] if isinstance(train, list) and train else None):
        return source_name(str(named))
    return detect(Path(str(data["root"])).expanduser()) if data.get("root") else "crowd"


@dataclass(frozen=True)
class Origin:
    """The recipe that a run came from.

    Attributes:
        name: the recipe's.
        title: its first line.
        about: what was known of it; None where it did not say.
        changed: in what the run differs from it, each ``KEY=VALUE``, or ``without KEY``.
    """

    name: str
    title: str
    about: About | None
    changed: tuple[str, ...]

    def __str__(self) -> str:
        """Name and kind in one line, with what was changed."""
        kind = self.about.kind if self.about else UNSAID
        return f"{self.name} ({kind})" + (f", changed: {', '.join(self.changed)}" if self.changed else "")


def changed_settings(recipe: Recipe, config: Config) -> list[str]:
    """The settings that differ from the recipe's; none where the recipe alone, without overrides, is faulty."""
    try:
        return _changes(recipe.config(), config)
    except ConfigError:
        return []


def keep_recipe(folder: Path, recipe: Recipe | None) -> None:
    """Write down which recipe the run in ``folder`` came from; with None, that this is not known.

    Raises:
        StorageError: the disk refused.
    """
    if recipe is None:
        (folder / FILE).unlink(missing_ok=True)
        return
    try:
        settings = recipe.config().to_dict()
    except ConfigError:  # it can be faulty alone and whole with overrides
        settings = None
    about = recipe.about.model_dump(mode="json") if recipe.about else None
    content = {"name": recipe.name, "title": recipe.title, "about": about, "settings": settings}
    write_atomic(folder / FILE, encode_text(json.dumps(content, indent=1)))


def read_origin(folder: Path, config: Config) -> Origin | None:
    """The recipe that the run in ``folder`` came from; None where that was not kept.

    Args:
        folder: a run's.
        config: its settings.

    Raises:
        CheckpointError: what was kept cannot be read.
    """
    try:
        content = parse_json(read_regular(folder / FILE))
        about, settings = content["about"], content["settings"]
        changes = _changes(load_config(settings, source="settings"), config) if settings is not None else []
        kept = None if about is None else About.model_validate(about)
        return Origin(str(content["name"]), str(content["title"]), kept, tuple(changes))
    except FileNotFoundError:
        return None
    except (RegardError, OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot read {folder / FILE} ({reason}); delete it, the run can do without") from None


def _changes(own: Config, config: Config) -> list[str]:
    """What differs, in the order of the settings; a loss term that is gone is named once."""
    before, after = own.flat(), config.flat()
    gone = [f"losses.{name}" for name in own.losses if name not in config.losses]
    lost = [key for key in before if key not in after and not key.startswith(tuple(f"{name}." for name in gone))]
    unsaid = {f"losses.{name}.{key}" for name, term in config.losses.items() for key in term.unsaid()}
    changed = (
        (key, value) for key, value in after.items() if (before[key] != value if key in before else key not in unsaid)
    )
    told = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changed)
    return [*(f"without {key}" for key in (*gone, *lost)), *told]
