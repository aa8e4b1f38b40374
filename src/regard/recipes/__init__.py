"""Recipes: trainings by name, what is known of them, and who has published what with them.

A recipe is a YAML file of settings (:mod:`regard.config`), which says only what differs from the defaults. Its first
line is a comment, the title. Two keys beside the settings belong to the recipe alone, and are no part of a run:

``base: NAME``
    another recipe, or a YAML file beside this one: read first, and this one's keys go over it. Mappings are joined key
    by key, everything else is replaced; ``null`` takes a term out of ``losses``.
``about: {kind: ...}``
    what is known of it, see :class:`About`. It is not taken over from ``base``.

A plug-in brings recipes of its own, a folder of such files, with :func:`add_recipes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from regard.config import Config, Overrides, describe_fault, lay_over, load_config, read_settings, without_terms
from regard.errors import ConfigError, UnknownNameError
from regard.parsing import parse_yaml
from regard.plugins import load_installed, load_plugins, undo_on_failure

__all__ = ["UNSAID", "About", "Recipe", "add_recipes", "has_recipe", "list_recipes", "read_recipe"]

ON_BOARD = resources.files("regard.recipes")

FILES = (".yaml", ".yml")
"""Endings by which a text means a file instead of a recipe on board."""

_added: dict[str, Path] = {}
"""Name -> file of the recipes that plug-ins bring."""

UNSAID = "yours"
"""Kind of a recipe that says nothing of itself."""


def _line(text: Any) -> Any:
    return " ".join(text.split()) if isinstance(text, str) else text


Line = Annotated[str, BeforeValidator(_line), Field(min_length=1)]
Percent = Annotated[float, Field(ge=1, le=100)]


class About(BaseModel):
    """What is known of a recipe.

    Attributes:
        kind: ``released``: the authors' code to the letter, its faults included; ``published``: as a paper or its page
            describes it, without code to compare with; ``ours``: the one that we think works.
        published: scores in percent, such as ``{mAP: 90.5, rank-1: 96.2}``.
        protocol: how these were measured.
        source: where these were published.
        reach: half of the interval of a published score, where it came with one.
        settings: overrides that the scores were measured with, where those are not the recipe's own.
        people: of the crowd that they were measured on, to train and to test on.
        counts: of that data set, as :class:`regard.data.datasets.Counts` has them, where its kind has none published.
        against: what is known against comparing with them.
        changes: what differs from the authors' training, each ``KEY, KEY: what and why; KEY: ...``. Keys are dotted
            settings; of a recipe that has a released twin, they are all in which the two differ.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    kind: Literal["released", "published", "ours"]
    published: dict[str, Percent] = {}
    protocol: Line | None = None
    source: Line | None = None
    reach: dict[str, float] = {}
    settings: tuple[str, ...] = ()
    people: tuple[int, int] | None = None
    counts: dict[str, int] = {}
    against: tuple[Line, ...] = ()
    changes: tuple[Line, ...] = ()

    @field_validator("published", mode="before")
    @classmethod
    def _known_scores(cls, published: Any) -> Any:
        for key in published if isinstance(published, dict) else ():
            if not re.fullmatch(r"mAP|rank-[1-9]\d?", str(key)):
                raise ConfigError(f"got the score {key!r}; it wants mAP or rank-1, rank-5 ...")
        return published

    @model_validator(mode="after")
    def _scores_with_their_source(self) -> About:
        missing = [key for key in ("protocol", "source") if self.published and not getattr(self, key)]
        if missing:
            raise ConfigError(f"published has scores, but {' and '.join(missing)} is missing; say how and where")
        return self


@dataclass(frozen=True)
class Recipe:
    """A training by name.

    Attributes:
        name: as it was asked for: of a recipe on board, or a file's path.
        text: its own YAML.
        bases: the recipes that it is laid over, nearest first.
        about: what is known of it; None where it does not say.
        settings: its settings and those of its bases, unchecked.
    """

    name: str
    text: str
    bases: tuple[str, ...]
    about: About | None
    settings: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The comment in its first line."""
        first = self.text.lstrip("\ufeff").split("\n", 1)[0]
        return first.lstrip("# ").strip() if first.startswith("#") else ""

    @property
    def kind(self) -> str:
        """Its ``about.kind``; :data:`UNSAID` where it does not say."""
        return self.about.kind if self.about else UNSAID

    def config(self, overrides: Overrides = ()) -> Config:
        """The checked configuration; of a released training, scored in fp32 unless it says otherwise.

        Args:
            overrides: see :func:`regard.config.load_config`.

        Raises:
            ConfigError: everything that is wrong, in one message.
        """
        settings = self.settings
        if self.kind == "released" and isinstance(settings.get("eval", {}), Mapping):
            settings = lay_over({"eval": {"precision": "fp32"}}, settings)
        return load_config(settings, overrides, source=self.name)


def add_recipes(folder: str | Path) -> None:
    """Make the recipes in a folder known by the names of their files without ``.yaml``; what a plug-in calls.

    Args:
        folder: of YAML files, absolute or from the current folder: ``Path(__file__).parent / "recipes"``.

    Raises:
        ConfigError: there is no such folder, it holds no recipe, or another recipe has the name of one.
    """
    folder = Path(folder).absolute()
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not files:
        raise ConfigError(f"add_recipes: no file *.yaml in {folder}; give the folder that recipes lie in")
    for name, path in files.items():
        if name in _on_board() or _added.get(name, path) != path:
            raise ConfigError(f"recipe {name!r} of {path} is there already, {_added.get(name, 'on board')}; rename it")
    for name, path in files.items():
        if name not in _added:
            _added[name] = path
            undo_on_failure(lambda name=name: _added.pop(name))


@cache
def _on_board() -> tuple[str, ...]:
    return tuple(sorted(one.name.removesuffix(".yaml") for one in ON_BOARD.iterdir() if one.name.endswith(".yaml")))


def list_recipes() -> list[str]:
    """Names of the recipes that ship with regard, and of those that plug-ins bring."""
    load_plugins()
    load_installed()
    return sorted([*_on_board(), *_added])


def has_recipe(name: str, *, installed: bool = True) -> bool:
    """Whether a recipe has that name.

    Args:
        name: of a recipe, no file.
        installed: whether to look at what installed packages bring, where it is neither on board nor of a plug-in
            that was named.
    """
    load_plugins()
    if installed and name not in _on_board() and name not in _added:
        load_installed()
    return name in _on_board() or name in _added


def read_recipe(name: str | Path) -> Recipe:
    """Read a recipe and those it is laid over.

    Args:
        name: of a recipe on board or of a plug-in, or the path of a YAML file.

    Raises:
        ConfigError: there is no such recipe or file, or it, its ``about`` or its ``base`` is wrong.
    """
    return _read_file(Path(name), str(name)) if Path(name).suffix in FILES else _read_named(str(name))


def _read_named(name: str) -> Recipe:
    if not has_recipe(name):
        raise UnknownNameError("recipe", name, list_recipes())
    return _read_on_board(name) if name in _on_board() else _read_file(_added[name], name)


@cache
def _read_on_board(name: str) -> Recipe:
    return _assemble(name, (ON_BOARD / f"{name}.yaml").read_text(encoding="utf-8"))


def _read_file(path: Path, name: str, seen: tuple[Path, ...] = ()) -> Recipe:
    """Read a file, which is called ``name``; ``seen`` are those whose ``base`` leads here."""
    if path.resolve() in seen:
        way = " -> ".join(map(str, (*seen, path.resolve())))
        raise ConfigError(f"base goes round in a circle ({way}); take one of them out")
    text = read_settings(path)
    return _assemble(name, text, path.parent, (*seen, path.resolve()))


def _assemble(name: str, text: str, folder: Path | None = None, seen: tuple[Path, ...] = ()) -> Recipe:
    """The recipe of a text; ``folder`` is its file's, None for a recipe on board."""
    tree = parse_yaml(text, name)
    if not isinstance(tree, dict):
        raise ConfigError(f"{name} holds {type(tree).__name__}, not a mapping of sections; see 'regard recipes NAME'")
    about = _read_about(tree.pop("about"), name) if "about" in tree else None
    if "base" not in tree:
        return Recipe(name, text, (), about, without_terms(tree, {}, name))
    said = tree.pop("base")
    if not isinstance(said, str) or not said:
        raise ConfigError(f"{name}: base is {said!r}; it wants the name of a recipe, or a YAML file beside this one")
    try:
        if folder is not None and Path(said).suffix in FILES:
            place = folder / Path(said).expanduser()
            base = _read_file(place, str(place), seen)
        else:
            base = _read_named(said)
    except ConfigError as error:
        raise ConfigError(f"{name}: base: {error}") from None
    settings = without_terms(lay_over(base.settings, tree), base.settings, name)
    return Recipe(name, text, (base.name, *base.bases), about, settings)


def _read_about(about: Any, name: str) -> About:
    if not isinstance(about, dict):
        raise ConfigError(f"{name}: about holds {type(about).__name__}, not a mapping; it wants at least a kind")
    try:
        return About.model_validate(about)
    except ValidationError as error:
        faults = [describe_fault(fault, About, "about") for fault in error.errors()]
        raise ConfigError(f"{name}: {'; '.join(faults)}") from None
