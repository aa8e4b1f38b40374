"""A published score, trained for and measured again: what ``regard reproduce`` does, for Python too.

>>> from regard.reproduce import reproduce                                                  # doctest: +SKIP
>>> found = reproduce("apnet", "market1501", Path("runs/again"), root=Path("data"))         # doctest: +SKIP
>>> found.figures[0].verdict                                                                # doctest: +SKIP
'worse'
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from regard.config import Config, load_config, override
from regard.data.crowd import make_crowd
from regard.data.datasets import Counts, count_differences, published_counts
from regard.engine.log import read_history
from regard.engine.run import open_data, start_run
from regard.engine.run_identity import flat_settings, is_free
from regard.engine.stopping import Interrupted
from regard.engine.training_state import read_progress
from regard.errors import ConfigError, DataError
from regard.evaluation.compare_runs import compare_runs
from regard.evaluation.comparison import Row
from regard.metrics.significance import over_seeds
from regard.recipes import About, Recipe, list_recipes, read_recipe
from regard.report.reproduction import Compared, Departure, Reproduction, SeedRun
from regard.runtime.fabric import Runtime
from regard.structures import Splits
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


def find_recipe(system: str, data: str | None, released: bool = False) -> Recipe:
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
        ConfigError: no such recipe, no published score, no root, fewer than one seed, or a setting that is not the
            caller's to give.
        DataError: the data set is not complete, or its counts are not those of the publication.
        Interrupted: it was asked to stop; what is done is saved.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}, expected 1 or more")
    recipe = find_recipe(system, data, released)
    config = _configure(recipe, root, folder, overrides, quiet)
    splits = open_data(config, quiet=quiet)
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
    found = [_seed_run(seed, run, row) for seed, (run, row) in enumerate(zip(runs, compared.rows))]
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


def _configure(recipe: Recipe, root: Path | None, folder: Path, overrides: Sequence[str], quiet: bool) -> Config:
    """The recipe's configuration as its row was measured, on the data set in ``root``."""
    given = override({}, overrides)
    for (section, key), instead in FIXED.items():
        if key in (given.get(section) or {}):
            raise ConfigError(f"{section}.{key} is not a setting of reproduce; {instead}")
    data = recipe.config([*_about(recipe).settings, *overrides]).data.name  # settings are checked before data is made
    if root is None and data == CROWD:
        root = folder / CROWD
        train_ids, test_ids = _about(recipe).people or (200, 200)
        make_crowd(root, train_ids=train_ids, test_ids=test_ids, progress=not quiet)
    if root is None:
        raise ConfigError(f"where {data} lies is not said; give --root FOLDER")
    return recipe.config([*_about(recipe).settings, f"data.root={root}", *overrides])


def _count_faults(recipe: Recipe, config: Config, splits: Splits) -> list[str]:
    """Counts of the data set that are not those the score was published for."""
    published = published_counts(splits.name, **config.data.options)
    if published is None and _about(recipe).counts:
        published = Counts(**_about(recipe).counts)
    return count_differences(splits, published) if published else []


def _seed_run(seed: int, run: Path, row: Row) -> SeedRun:
    figures = {name: (found.value, found.low, found.high) for name, found in row.figures.items()}
    return SeedRun(f"seed {seed}", str(run), figures, read_progress(run).seconds)


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
    if len(runs) > 1:
        return figures, f"95 % interval of Student's t over {count(len(runs), 'seed')}"
    return figures, f"one seed, so how far seeds vary is not known; {bootstrap}"


def _departures(recipe: Recipe, config: Config, counts: Sequence[str], seeds: int) -> Iterator[Departure]:
    """Everything known in which ours is not what was published."""
    yield from (Departure("published score", text) for text in _about(recipe).against)
    yield from (Departure("recipe", text) for text in _about(recipe).changes)
    yield from (Departure("data", text) for text in counts)
    own = dict(flat_settings(recipe.config([*_about(recipe).settings, f"data.root={config.data.root}"]).to_dict()))
    for key, value in flat_settings(config.to_dict()):
        if own.get(key) != value and not is_free(key):
            yield Departure("settings", f"{key} is {value!r}, the recipe has {own.get(key)!r}")
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


def _facts(config: Config, runs: Sequence[SeedRun], row: Row, data: str) -> dict[str, object]:
    """What it cost, and where."""
    seconds = [run.seconds for run in runs]
    return {
        "training": " + ".join(f"{s:,.0f} s" for s in seconds),
        "epochs": config.train.epochs,
        "parameters at test": f"{row.cost.inference_parameters:,}",
        "GFLOPs an image": f"{row.cost.gflops:.3g}",
        "data": data,
        "versions": f"regard {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
        "machine": platform.machine(),
    }
