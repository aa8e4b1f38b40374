"""The plan of an ablation: what is varied, over which seeds. Read from YAML, and checked before anything runs.

    title: Does it pay?
    base: {recipe: apnet_crowd, train: {epochs: 50}}     # of all runs; settings by section or dotted name
    vary:
      model.gate_start: [released, identity]             # an axis: a setting and its values,
      attention:                                         # or names and what each stands for
        as it is: {}
        off: {model.attention_control: off}
    seeds: [1, 2, 3]
    baseline: gate_start=released, as it is              # the row that others are compared with; else the first

Every combination of one choice from each axis is a row, every row is trained from every seed. ``recipe`` may stand in
``base`` or in any choice, and so may ``equal``: {row: apnet, option: model.head_dim, in: gflops} gives the option the
value with which the network costs what that of the other row does. ``tests: {PETS: table=data/pets/table.csv}`` names
further data sets that all runs are scored on.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from regard.config import (
    Config,
    Overrides,
    Positive,
    Section,
    SourceText,
    describe_fault,
    lay_over,
    override,
    read_settings,
)
from regard.errors import ConfigError, RegardError, nearest
from regard.models import create_model
from regard.models.contract import ReIDModel
from regard.models.cost import Cost, Measure, constant_weights, equal_option, inference_cost
from regard.parsing import parse_yaml
from regard.run_folder.origin import resolve
from regard.wording import count

__all__ = ["People", "Plan", "PlannedRow", "read_plan"]

MOST_RUNS = 10_000
"""Trainings of a plan; more are not meant."""

FIXED = {
    ("train", "seed"): "say it in the plan's seeds",
    ("eval", "ap"): "all rows are scored by the step form of AP; 'regard compare --ap' takes the other for all",
}
"""Settings that are not a row's to give."""

TAKEN = ("crowd", "lock", "recipes")
"""What lies in a plan's folder besides the folders of its rows."""

Seed = Annotated[int, Field(ge=0, lt=2**62)]


class People(Section):
    """The crowd that is made where no folder of a data set is given."""

    train_ids: Positive = 200
    test_ids: Positive = 200


class Equal(Section):
    """A network that is made as large as another row's."""

    row: str
    option: str
    measure: Measure = Field("inference_parameters", alias="in")


def _choices_of(said: Any) -> list[Any] | dict[str, dict[str, Any]]:
    """The choices of an axis, in either form."""
    if isinstance(said, list):
        return said
    if not isinstance(said, dict):
        raise ConfigError(f"got {said!r}, wanted a list of values, or names and the settings that each stands for")
    for name, settings in said.items():
        if not isinstance(name, str):
            raise ConfigError(f"the name {name!r} is no text; write it in quotes")
        if not isinstance(settings, dict):
            raise ConfigError(
                f"{name!r} stands for {settings!r}, wanted settings such as {{optim.lr: 0.001}}, {{}} for none"
            )
    return said


class PlanFile(Section):
    """What a plan's file may say."""

    title: str = ""
    base: dict[str, Any] = Field(default_factory=dict)
    vary: dict[str, Annotated[Any, AfterValidator(_choices_of)]]
    seeds: tuple[Seed, ...] = (1,)
    baseline: str | None = None
    tests: dict[str, SourceText] = Field(default_factory=dict)
    crowd: People = People()


@dataclass(frozen=True)
class PlannedRow:
    """One combination: a row of the table.

    Attributes:
        label: its choices in words.
        folder: name of the folder of its runs.
        config: all of its settings; the seed is not its own.
        cost: of its network, for a hundred identities.
    """

    label: str
    folder: str
    config: Config
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """A whole plan.

    Attributes:
        title: what it asks.
        rows: in the order of the table.
        seeds: of every row.
        baseline: label of the row that others are compared with.
        tests: further data sets that all runs are scored on, by what the table calls them.
    """

    title: str
    rows: tuple[PlannedRow, ...]
    seeds: tuple[int, ...]
    baseline: str
    tests: Mapping[str, str]


def read_plan(
    path: Path, *, root: Path | None = None, crowd: Path | None = None, overrides: Overrides = ()
) -> tuple[Plan, People]:
    """Read and check a plan, every network of it included.

    Args:
        path: of the YAML file.
        root: of the data set, for rows that do not say theirs.
        crowd: where a crowd is to lie, for rows that say no folder and train on it.
        overrides: settings of all rows, over the plan's.

    Returns:
        The plan, and the people of the crowd that it wants.

    Raises:
        ConfigError: everything that is wrong with it, in one line.
    """
    source = str(path)
    tree = parse_yaml(read_settings(path), source)
    if not isinstance(tree, Mapping):
        held = "nothing" if tree is None else type(tree).__name__
        raise ConfigError(f"{source} holds {held}, wanted base, vary and seeds; see 'regard ablate --help'")
    try:
        file = PlanFile.model_validate(dict(tree))
    except ValidationError as error:
        faults = "; ".join(describe_fault(fault, PlanFile) for fault in error.errors())
        raise ConfigError(f"{source}: {faults}") from None
    _check(file, source)
    given = [(label, override(settings, overrides)) for label, settings in _combinations(file, source)]
    made: dict[int, PlannedRow] = {}
    faults = []
    for place in sorted(range(len(given)), key=lambda place: "equal" in given[place][1]):  # what they equal comes first
        label, settings = given[place]
        try:
            made[place] = _row(label, settings, root, crowd, {row.label: row for row in made.values()})
        except RegardError as error:
            faults.append(f"row {label!r}: {error}")
    rows = [made[place] for place in sorted(made)]
    if faults:
        more = f" (and {count(len(faults) - 1, 'more row')})" if len(faults) > 1 else ""
        raise ConfigError(f"{source}: {faults[0]}{more}")
    _check_rows(rows, source)
    labels = [row.label for row in rows]
    baseline = labels[0] if file.baseline is None else file.baseline
    if baseline not in labels:
        raise ConfigError(
            f"{source}: baseline {baseline!r} is no row{nearest(baseline, labels)}; rows: {'; '.join(labels)}"
        )
    return Plan(" ".join(file.title.split()) or path.stem, tuple(rows), file.seeds, baseline, file.tests), file.crowd


def _check(file: PlanFile, source: str) -> None:
    """Refuse axes without choices, seeds that are none, and more than anybody trains."""
    if not file.vary or not all(file.vary.values()):
        empty = next((axis for axis, choices in file.vary.items() if not choices), "vary")
        raise ConfigError(f"{source}: {empty} holds nothing; give values of a setting, or names and their settings")
    if not file.seeds or len(set(file.seeds)) < len(file.seeds):
        raise ConfigError(f"{source}: seeds is {list(file.seeds)}, wanted one or more, each once")
    if not all(name.strip() for name in file.tests):
        raise ConfigError(
            f"{source}: tests has a data set without a name; write NAME: SOURCE, as in PETS: table=pets.csv"
        )
    for axis, choices in file.vary.items():
        if isinstance(choices, dict) and not all(name.strip() for name in choices):
            raise ConfigError(f"{source}: {axis} has a choice without a name; write NAME: SETTINGS")
    for name in file.tests:
        _check_name(name, source)
    runs = len(file.seeds)
    for choices in file.vary.values():
        runs *= len(choices)
    if runs > MOST_RUNS:
        raise ConfigError(f"{source} is {runs:,} trainings, more than {MOST_RUNS:,}; vary less")


def _check_name(name: str, source: str) -> None:
    """Refuse what no table can show on a line."""
    if not name.isprintable():
        raise ConfigError(f"{source}: the name {name!r} has line breaks or signs that cannot be seen; leave them out")


def _combinations(file: PlanFile, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Label and settings of every row, unchecked."""
    axes = [[*_choices(axis, choices)] for axis, choices in file.vary.items()]
    base = override({}, file.base)
    for chosen in itertools.product(*axes):
        varied: dict[str, Any] = {}
        for _, settings in chosen:
            try:
                varied = lay_over(varied, override({}, settings), once=True)
            except ConfigError as error:
                raise ConfigError(f"{source}: {error}, of all that is varied") from None
        label = ", ".join(label for label, _ in chosen)
        _check_name(label, source)
        yield label, lay_over(base, varied)


def _choices(axis: str, choices: list[Any] | dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Label and settings of each choice of an axis."""
    if isinstance(choices, dict):
        yield from choices.items()
        return
    for value in choices:
        yield f"{axis.rpartition('.')[2]}={_said(value)}", {axis: value}


def _said(value: Any) -> str:
    """A value as a row's label has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _row(
    label: str, settings: dict[str, Any], root: Path | None, crowd: Path | None, others: Mapping[str, PlannedRow]
) -> PlannedRow:
    recipe, equal = settings.pop("recipe", None), settings.pop("equal", None)
    if not isinstance(recipe, str):
        raise ConfigError(f"recipe is {recipe!r}, wanted the name of a system or of a recipe, or a YAML file")
    for (section, key), instead in FIXED.items():
        if key in (settings.get(section) or {}):
            raise ConfigError(f"{section}.{key} is not a setting of a row; {instead}")
    data = settings.get("data") or {}
    if root is not None and not data.get("root"):
        settings = lay_over(settings, {"data": {"root": str(root)}})
    config = resolve(recipe, settings).config
    if crowd is not None and config.data.name in (None, "crowd") and not config.data.root and not config.data.train:
        config = resolve(recipe, lay_over(settings, {"data": {"name": "crowd", "root": str(crowd)}})).config
    if equal is not None:
        option, value = _equal_value(equal, config, others)
        config = resolve(recipe, lay_over(settings, override({}, {option: value}))).config
    with constant_weights():
        model = _build(config)
    cost = inference_cost(model, config.data.height, config.data.width)
    folder = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:100]
    return PlannedRow(label, f"row-{folder}".rstrip("-") if folder in ("", *TAKEN) else folder, config, cost)


def _build(config: Config, **options: Any) -> ReIDModel:
    """The network of settings, with some of its options replaced."""
    return create_model(config.model.name, config.model.num_ids or 100, **config.model.options | options)


def _equal_value(said: Any, config: Config, others: Mapping[str, PlannedRow]) -> tuple[str, int]:
    """The option that ``equal`` names, and the value with which a network costs what the other row's does."""
    try:
        equal = Equal.model_validate(said)
    except ValidationError as error:
        faults = "; ".join(describe_fault(fault, Equal) for fault in error.errors())
        raise ConfigError(
            f"equal: {faults}; wanted such as {{row: apnet, option: model.head_dim, in: gflops}}"
        ) from None
    if equal.row not in others:
        raise ConfigError(
            f"equal.row {equal.row!r} is no row of a size of its own{nearest(equal.row, others)}; "
            f"those are: {'; '.join(others) or 'none'}"
        )
    section, _, key = equal.option.partition(".")
    if section != "model" or not key or "." in key:
        raise ConfigError(f"equal.option is {equal.option!r}, wanted an option of the network, such as model.head_dim")
    wanted = getattr(others[equal.row].cost, equal.measure)
    size = (config.data.height, config.data.width)
    value = equal_option(lambda value: _build(config, **{key: value}), wanted, measure=equal.measure, size=size)
    return equal.option, value


def _check_rows(rows: list[PlannedRow], source: str) -> None:
    """Refuse rows that are the same training, that would lie in one folder, or that are scored on different data."""
    seen: dict[str, PlannedRow] = {}
    for row in rows:
        for what, key, more in (
            ("settings", row.config.to_yaml(), "; change one"),
            ("folder", row.folder, f" {row.folder!r}, made of the first hundred letters a-z and digits; rename one"),
        ):
            if other := seen.get(f"{what} {key}"):
                raise ConfigError(f"{source}: rows {other.label!r} and {row.label!r} have the same {what}{more}")
            seen[f"{what} {key}"] = row
    first = rows[0].config.data
    for row in rows[1:]:
        data = row.config.data
        if (data.name, data.root, data.options) != (first.name, first.root, first.options):
            raise ConfigError(
                f"{source}: row {row.label!r} is scored on {data.name} in {data.root}, {rows[0].label!r} on "
                f"{first.name} in {first.root}, so they cannot be compared; give all the same data set"
            )
