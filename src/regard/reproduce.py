"""A published score, trained for and measured again: what ``regard reproduce`` does, for Python too.

>>> from regard.reproduce import reproduce                                                  # doctest: +SKIP
>>> found = reproduce("apnet", "market1501", Path("runs/again"), root=Path("data"))         # doctest: +SKIP
>>> found.figures[0].verdict                                                                # doctest: +SKIP
'worse'
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from regard.config import Config, is_free, load_config, override
from regard.crowd import make_crowd
from regard.data.datasets import Counts, count_differences, judging_counts, published_counts
from regard.engine.run import standing, start_run
from regard.engine.train import Interrupted
from regard.errors import ConfigError, DataError
from regard.evaluation.compare_runs import compare_runs
from regard.evaluation.comparison import Row
from regard.metrics.significance import over_seeds
from regard.recipes import About, Recipe, list_recipes, read_recipe
from regard.report.reproduction import Compared, Departure, Reproduction, SeedRun
from regard.run_folder.folders import read_history
from regard.run_folder.opened_data import open_data
from regard.run_folder.saved_state import read_saved
from regard.runtime.fabric import Runtime
from regard.structures import Splits
from regard.threads import allowed_cores
from regard.version import __version__
from regard.wording import count

__all__ = ["find_recipe", "reproduce"]

RELEASED = "_released"
CROWD = "crowd"
FIXED = {
    ("data", "name"): "name the row's data set behind the system",
    ("data", "root"): "give --root FOLDER",
    ("train", "seed"): "seeds run from 0 on, give --seeds N",
}


def find_recipe(system: str, data: str | None, *, released: bool = False) -> Recipe:
    """The recipe of a published row.

    Args:
        system: a system, or what stands before the data set in a recipe's name ("daaf_trinet", "msea_2023").
        data: name of the data set; None where ``system`` is the whole name of a recipe.
        released: the recipe that follows the authors' code to the letter.

    Raises:
        ConfigError: there is none, or no published score is known for it.
    """
    name = system if data is None else f"{system}_{data}"
    if released and not (name in list_recipes() and read_recipe(name).kind == "released"):
        name += RELEASED
    if name not in list_recipes():
        known = [other for other in list_recipes() if other.startswith(f"{system.partition('_')[0]}_")]
        there = f"there are {', '.join(known)}" if known else "'regard recipes' lists all"
        raise ConfigError(f"there is no recipe {name}; {there}")
    recipe = read_recipe(name)
    if not _about(recipe).published:
        raise ConfigError(f"recipe {name} names no published score to compare with; train it with: regard train {name}")
    return recipe


def _about(recipe: Recipe) -> About:
    return recipe.about or About(kind="ours")


@judging_counts()
def reproduce(
    system: str,
    data: str | None,
    folder: Path,
    *,
    root: Path | None = None,
    released: bool = False,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    other_data: bool = False,
    command: str = "",
    quiet: bool = False,
) -> Reproduction | None:
    """Check the data, train, score by the published protocol, and set both rows side by side.

    What is done already in ``folder`` is not done again, so a second call goes on where the first was ended.

    Args:
        system, data, released: the row, see :func:`find_recipe`.
        folder: receives a run folder per seed.
        root: of the data set; the crowd needs none, it is made.
        seeds: trainings, from seed 0 on.
        overrides: settings that differ from the recipe's; each is named among what differed.
        other_data: go on where the data set's counts are not those of the publication; they are named then.
        command: to print under the result.
        quiet: no progress bars.

    Returns:
        What came out; None on ranks that do not print.

    Raises:
        ConfigError: no such recipe, no published score, no root, fewer than one seed, a setting that is not the
            caller's to give, or the folder is that of a run.
        DataError: the data set is not complete, or its counts are not those of the publication.
        Interrupted: it was asked to stop; what is done is saved.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}, expected 1 or more")
    recipe = find_recipe(system, data, released=released)
    if standing(folder):
        raise ConfigError(f"{folder} is the folder of a run, wanted one for a run per seed; name another with -o")
    config = _configure(recipe, root, folder, overrides, quiet=quiet)
    splits = open_data(load_config(config.to_dict(), ["data.val_ids=null"]), quiet=quiet)
    differing = _count_faults(recipe, config, splits)
    if differing and not other_data:
        raise DataError(
            f"{splits.name} in {splits.root} is not what the score was published for ({'; '.join(differing)}); "
            f"mend it ('regard data check'), or say --other-data to compare all the same"
        )
    runs = [folder / f"seed_{seed}" for seed in range(seeds)]
    for seed, run in enumerate(runs):
        about = (f"seed {seed}, {seed + 1} of {seeds}",)
        try:
            start_run(load_config(config.to_dict(), [f"train.seed={seed}"]), run, quiet=quiet, go_on=True, about=about)
        except Interrupted as stopped:
            raise Interrupted(f"stopped in seed {seed}, {seed + 1} of {seeds}; the same command goes on") from stopped
    if not Runtime(config.train).is_main:
        return None
    compared = compare_runs(runs, changes={"ap": config.eval.ap}, speed=False, quiet=quiet)
    found = []
    for seed, (run, row) in enumerate(zip(runs, compared.rows)):
        reached = {name: (figure.value, figure.low, figure.high) for name, figure in row.figures.items()}
        found.append(SeedRun(f"seed {seed}", str(run), reached, read_saved(run).progress.seconds))
    figures, interval = _figures(recipe, found, compared.intervals)
    return Reproduction(
        recipe=recipe.name,
        kind=recipe.kind,
        title=recipe.title,
        source=_about(recipe).source or "",
        protocol=_about(recipe).protocol or "",
        data=compared.data[0],
        figures=figures,
        runs=found,
        interval=interval,
        departures=list(_departures(recipe, config, differing, seeds)),
        facts=_facts(config, found, compared.rows[0], compared.data[0]),
        options=compared.rows[0].options,
        history=read_history(runs[0]),
        command=command,
    )


def _configure(recipe: Recipe, root: Path | None, folder: Path, overrides: Sequence[str], *, quiet: bool) -> Config:
    """The recipe's configuration as its row was measured, on the data set in ``root``."""
    given = override({}, overrides)
    for (section, key), instead in FIXED.items():
        if key in (given.get(section) or {}):
            raise ConfigError(f"{section}.{key} is not a setting of reproduce; {instead}")
    data = recipe.config([*_about(recipe).settings, *overrides]).data.name  # settings are checked before data is made
    if root is None and data == CROWD:
        root = folder / CROWD
        train_ids, test_ids = _about(recipe).people or (200, 200)
        make_crowd(root, train_ids=train_ids, test_ids=test_ids, workers=allowed_cores(), progress=not quiet)
    if root is None:
        raise ConfigError(f"where {data} lies is not said; give --root FOLDER")
    return recipe.config([*_about(recipe).settings, f"data.root={root}", *overrides])


def _count_faults(recipe: Recipe, config: Config, splits: Splits) -> list[str]:
    """Counts of the data set that are not those the score was published for."""
    published = published_counts(splits.name, **splits.options)
    if published is None and _about(recipe).counts:
        published = Counts(**_about(recipe).counts)
    return count_differences(splits, published) if published else []


def _figures(recipe: Recipe, runs: Sequence[SeedRun], bootstrap: str) -> tuple[list[Compared], str]:
    """Published figures beside ours, and how our interval was made.

    One seed has the interval of a bootstrap over identities; several have that of Student's t over seeds.
    """
    figures = []
    for name, published in _about(recipe).published.items():
        if name not in runs[0].figures:
            continue
        values = [run.figures[name][0] for run in runs]
        ours = over_seeds(values) if len(values) > 1 else runs[0].figures[name]
        figures.append(Compared(name, published / 100, _about(recipe).reach.get(name, 0.0) / 100, ours))
    one = f"one seed, so how far seeds vary is not known; {bootstrap}"
    return figures, f"95 % interval of Student's t over {count(len(runs), 'seed')}" if len(runs) > 1 else one


def _departures(recipe: Recipe, config: Config, counts: Sequence[str], seeds: int) -> Iterator[Departure]:
    """Everything known in which ours is not what was published."""
    yield from (Departure("published score", text) for text in _about(recipe).against)
    yield from _changes(recipe, config)
    yield from (Departure("data", text) for text in counts)
    runtime = Runtime(config.train)
    if config.data.name == CROWD:
        if runtime.device.type != "cpu":
            yield Departure("computation", "trained on a GPU, ours on a processor; sums are rounded differently")
        return
    if runtime.precision != "fp32":
        yield Departure("computation", f"trained in {runtime.precision}; authors' code computes in fp32")
    if runtime.device.type == "cpu":
        yield Departure("computation", "trained on a processor, not on a GPU; sums are rounded differently")
    if seeds == 1:
        yield Departure("computation", "one seed; what was published is of an unknown number of them")


def _changes(recipe: Recipe, config: Config) -> Iterator[Departure]:
    """What the recipe changes, as far as no override has undone it, and what overrides change besides.

    A recipe's text is told as long as one of its settings is as the recipe has it; those that are not are named behind
    it. An override that gives a setting back the value of the released twin is no departure.
    """
    recipes = _as_it_is(recipe, config)
    own, ours = _flat(recipes, config), _flat(config, recipes)
    released = f"{recipe.name}{RELEASED}"
    theirs = _flat(_as_it_is(read_recipe(released), config), config) if released in list_recipes() else None
    differ = [key for key in {**own, **ours} if own.get(key) != ours.get(key)]
    told: set[str] = set()
    for text in _about(recipe).changes:
        keys = [key for clause in text.split("; ") if ": " in clause for key in clause.partition(": ")[0].split(", ")]
        touched = {key: [other for other in differ if f"{other}.".startswith(f"{key}.")] for key in keys}
        told.update(*touched.values())
        if not keys or not all(touched.values()):
            here = [f"here {other} is {_said(ours, other)}" for others in touched.values() for other in others]
            yield Departure("recipe", f"{text} ({', '.join(here)})" if here else text)
    for key in differ:
        undone = theirs is not None and ours.get(key) == theirs.get(key)
        if not undone and (key in told or not is_free(key)):
            yield Departure("settings", f"{key} is {_said(ours, key)}, the recipe has {_said(own, key)}")


def _flat(settings: Config, others: Config) -> dict[str, Any]:
    """Settings by dotted name; a loss term that others lack is one of them as a whole."""
    flat = settings.flat()
    own = [f"losses.{name}" for name in settings.losses.keys() - others.losses.keys()]
    kept = {key: value for key, value in flat.items() if not key.startswith(tuple(f"{name}." for name in own))}
    return kept | dict.fromkeys(own, "a term")


def _said(settings: Mapping[str, Any], key: str) -> str:
    """A value as a recipe writes it."""
    value = settings.get(key, "none")
    return value if isinstance(value, str) else json.dumps(value)


def _as_it_is(recipe: Recipe, config: Config) -> Config:
    """A recipe's configuration on the same data, as its score was measured."""
    return recipe.config([*_about(recipe).settings, f"data.root={config.data.root}"])


def _facts(config: Config, runs: Sequence[SeedRun], row: Row, data: str) -> dict[str, object]:
    """What it cost, and where."""
    return {
        "training": " + ".join(f"{run.seconds:,.0f} s" for run in runs),
        "epochs": config.train.epochs,
        "parameters at test": f"{row.cost.inference_parameters:,}" if row.cost else "unknown",
        "GFLOPs an image": f"{row.cost.gflops:.3g}" if row.cost else "unknown",
        "data": data,
        "versions": f"regard {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": platform.machine(),
    }
