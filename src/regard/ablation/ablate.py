"""A plan, carried out: what ``regard ablate`` does, for Python too.

>>> from regard.ablation.ablate import ablate                                               # doctest: +SKIP
>>> print(ablate(Path("plan.yaml"), Path("runs/plan")).to_markdown())                       # doctest: +SKIP
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.ablation.cell import LOCK, cpu_seconds
from regard.ablation.outcome import Outcome, OutcomeRow, shown_figures
from regard.ablation.plan import Plan, PlannedRow, read_plan
from regard.ablation.running import Cell, train_cells
from regard.config import Config, Overrides, load_config
from regard.crowd import make_crowd
from regard.data.sources import Source, find_source
from regard.engine.checks import check_pictures, check_settings, picture_digests
from regard.engine.run import standing
from regard.errors import ConfigError, RegardError
from regard.evaluation.compare_runs import score_runs
from regard.evaluation.run import open_runs
from regard.metrics.grouped import group_difference, group_interval
from regard.metrics.significance import query_scores
from regard.models.cost import Cost
from regard.models.saved import WEIGHTS
from regard.run_folder.folders import read_history
from regard.run_folder.opened_data import find_data, open_data, tested_on
from regard.run_folder.saved_state import PICTURES, has_state, read_saved
from regard.storage import encode_text, write_atomic
from regard.threads import allowed_cores, check_processes
from regard.wording import count

__all__ = ["ablate", "describe_plan"]


def ablate(
    path: Path,
    folder: Path,
    *,
    root: Path | None = None,
    overrides: Overrides = (),
    at_once: int | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train every row of a plan from every seed, score all, and set them side by side.

    What is done already in ``folder`` is not done again, what was begun goes on, so that a second call goes on where
    the first was ended, however it was.

    Args:
        path: of the plan.
        folder: receives a folder per row with a run per seed, the rows as recipes, and a crowd where one is wanted.
        root: of the data set, for rows that do not say theirs.
        overrides: settings of all rows, over the plan's.
        at_once: trainings side by side; None: one for each core, on a GPU one.
        quiet: say nothing.

    Raises:
        ConfigError: the plan is wrong, or the folder holds other runs, or is at work already.
        RegardError: a training failed; the others are done.
        Interrupted: it was asked to stop; what is done is saved.
    """
    if standing(folder):
        raise ConfigError(f"{folder} is the folder of a run, wanted one for the runs of a plan; name another with -o")
    at_once = None if at_once is None else check_processes(at_once, "--jobs")
    crowd = folder / "crowd"
    plan, people = read_plan(path, root=root, crowd=crowd.absolute(), overrides=overrides)
    for _, source in _data_of(plan, crowd.absolute()):
        source().read()  # so that what is not there is said before anything is trained
    with _alone(folder):
        cells = {(row.label, seed): _cell(plan, row, seed, folder) for seed in plan.seeds for row in plan.rows}
        left = [cells[row.label, seed] for seed in plan.seeds for row in plan.rows if not _complete(row, seed, cells)]
        if plan.rows[0].config.data.root == crowd.absolute():
            train_ids, test_ids = people.train_ids, people.test_ids
            make_crowd(crowd, train_ids=train_ids, test_ids=test_ids, workers=allowed_cores(), progress=not quiet)
        for row in plan.rows:
            text = f"# {' '.join(row.label.split())}\n{row.config.to_yaml()}"
            write_atomic(cells[row.label, plan.seeds[0]].settings, encode_text(text))
        if left:
            _train(plan, left, at_once, len(cells), quiet=quiet)
        return _outcome(plan, cells, quiet=quiet)


def describe_plan(plan: Plan, crowd: Path) -> str:
    """The rows with what each differs in from the baseline, what its network costs, and which data cannot be read.

    Args:
        plan: read.
        crowd: the folder of one that is made where it is not there.
    """
    start = next(row for row in plan.rows if row.label == plan.baseline)
    lines = [f"{plan.title}: {count(len(plan.rows), 'row')} x {count(len(plan.seeds), 'seed')}"]
    for row in plan.rows:
        cost = f"{row.cost.parameters:,} parameters for 100 identities, {row.cost.gflops:.3g} GFLOPs"
        lines.append(f"  {row.label} ({cost}): {', '.join(_differs(start, row)) or 'what others are compared with'}")
    for name, source in _data_of(plan, crowd):
        try:
            source().read()
        except RegardError as error:
            lines.append(f"  data of {name} cannot be read yet: {error}")
    return "\n".join(lines)


def _data_of(plan: Plan, crowd: Path) -> Iterator[tuple[str, Callable[[], Source]]]:
    """Everything that is read to train and to score, each once: what it is called in the plan, and how to find it.

    A crowd that is still to be made is left out.
    """
    seen = set[str]()
    for row in plan.rows:
        data = row.config.data
        for text in (tested_on(row.config), *data.train):
            key = f"{text} {data.root} {data.options}"
            made = text in (None, "crowd") and (data.root is None or (data.root == crowd and not crowd.exists()))
            if key not in seen and not made:
                seen.add(key)
                yield f"row {row.label!r}", partial(find_data, text, data.root, row.config, quiet=True)
    for name, text in plan.tests.items():
        yield f"test {name!r}", partial(find_source, text)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else works in the folder while inside."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another 'regard ablate' is at work in {folder}; wait for it, or name another with -o"
            ) from None
        yield


def _cell(plan: Plan, row: PlannedRow, seed: int, folder: Path) -> Cell:
    return Cell(
        f"{row.label}, seed {seed}",
        folder / "recipes" / f"{row.folder}.yaml",
        folder / row.folder / f"seed_{seed}",
        seed,
        tuple(plan.tests.values()),
    )


def _complete(row: PlannedRow, seed: int, cells: dict[tuple[str, int], Cell]) -> bool:
    """Whether a cell's run is there, whole and evaluated.

    Raises:
        ConfigError: it is one of other settings.
        CheckpointError: it was trained on other pictures than those that are now where the plan says.
    """
    place = cells[row.label, seed].folder
    if not has_state(place):
        return False
    saved = read_saved(place)
    wanted = load_config(row.config.to_dict(), [f"train.seed={seed}"])
    check_settings(saved.config, wanted, saved.progress, str(place), "name another folder with -o")
    if PICTURES in saved.tensors and _places(saved.config) != _places(wanted):
        now = open_data(wanted, quiet=True).train
        check_pictures(saved.tensors[PICTURES], picture_digests(now), now, str(place))
    ended = min(saved.progress.epoch, saved.progress.evaluated) >= row.config.train.epochs
    return ended and (place / "final" / WEIGHTS).is_file()


def _places(config: Config) -> tuple[Any, ...]:
    """Where the data of a training lies."""
    return config.data.name, config.data.root, config.data.train


def _train(plan: Plan, left: Sequence[Cell], at_once: int | None, total: int, *, quiet: bool) -> None:
    """Train what is left, saying how far it has come."""
    wanted = [row.config.train.accelerator for row in plan.rows]
    gpu = torch.cuda.is_available() and any(name != "cpu" for name in wanted)
    at_once = min(at_once or (1 if gpu else allowed_cores()), len(left))
    threads = max(1, allowed_cores() // at_once)
    done = total - len(left)
    if not quiet:
        there = f", {done:,} done before" if done else ""
        print(f"{plan.title}: {count(total, 'training')}{there}; {at_once} at once, {count(threads, 'thread')} each")

    def tell(cell: Cell) -> None:
        nonlocal done
        done += 1
        if not quiet:
            last = [record for record in read_history(cell.folder) if record["event"] == "eval"][-1]
            print(
                f"{done} of {total}: {cell.label}: mAP {100 * last['mAP']:.1f} ({cpu_seconds(cell.folder):,.0f} CPU s)",
                flush=True,
            )

    train_cells(left, at_once=at_once, threads=threads, done=tell)


def _outcome(plan: Plan, cells: dict[tuple[str, int], Cell], *, quiet: bool) -> Outcome:
    """Score all runs, or read what they scored, and group them by row."""
    queries: dict[str, dict[str, np.ndarray]] = {cell.label: {} for cell in cells.values()}
    pids: dict[str, np.ndarray] = {}
    costs: dict[str, Cost] = {}
    data: list[str] = []
    first = plan.rows[0].config
    places = {"": (tested_on(first), first.data.root), **{name: (text,) for name, text in plan.tests.items()}}
    for test, place in places.items():
        runs = open_runs(
            {cell.label: cell.folder for cell in cells.values()}, *place, changes={"ap": "step"}, quiet=quiet
        )
        scored = score_runs(runs)
        splits = runs[0].splits
        data.append(f"{test}: {splits}" if test else f"{splits}; {splits.root}")
        people = np.array([sample.pid for sample in splits.query], np.int64)
        for label, (report, cost) in scored.items():
            assert cost is not None  # what was trained here is no file of another maker
            costs[label] = cost
            for figure, scores in shown_figures(query_scores(report)).items():
                name = f"{test} {figure}".lstrip()
                queries[label][name], pids[name] = scores, people
    start = next(row for row in plan.rows if row.label == plan.baseline)

    def of(row: PlannedRow, name: str) -> list[np.ndarray]:
        return [queries[cells[row.label, seed].label][name] for seed in plan.seeds]

    rows = []
    for row in plan.rows:
        own = [cells[row.label, seed] for seed in plan.seeds]
        compared = () if row is start else pids
        rows.append(
            OutcomeRow(
                row.label,
                {cell.seed: {name: float(np.nanmean(queries[cell.label][name])) for name in pids} for cell in own},
                {name: group_interval(of(row, name), pids[name]) for name in pids},
                {name: group_difference(of(start, name), of(row, name), pids[name]) for name in compared},
                tuple(_differs(start, row)),
                costs[own[0].label],
                sum(cpu_seconds(cell.folder) for cell in own) / 3600,
            )
        )
    return Outcome(plan.title, "; ".join(data), tuple(rows), plan.baseline)


def _differs(start: PlannedRow, row: PlannedRow) -> Iterator[str]:
    """Settings that are other than the baseline's, in their order."""
    before, after = start.config.flat(), row.config.flat()
    for key in {**before, **after}:
        if before.get(key) != after.get(key) and key != "eval.ap":  # which is one for all
            value = after.get(key, "left out")
            yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"
