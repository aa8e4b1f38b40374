"""Runs that differ in nothing but their seed, as one: what a system reaches, and not what a training of it did."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regard.config import is_free
from regard.evaluation.run import Run
from regard.metrics.grouped import group_difference, group_interval
from regard.metrics.significance import Interval
from regard.places import run_home
from regard.run_folder.saved_state import pictures_of
from regard.wording import count

__all__ = ["Group", "group_labels", "group_runs", "seed_groups", "settings_apart"]

SEED = "train.seed"


@dataclass(frozen=True)
class Group:
    """Runs of one training from several seeds, or one run that has no such companion.

    Attributes:
        label: what their labels begin with, and how many there are.
        runs: their labels.
        figures: name -> mean over seeds, with its interval over seeds and people, fractions.
        gaps: name -> the difference from the first group, and p of none; empty for the first, and where the groups
            were asked other queries.
        differs: settings in which it differs from the first group, ``KEY=VALUE``.
    """

    label: str
    runs: tuple[str, ...]
    figures: dict[str, Interval]
    gaps: dict[str, tuple[Interval, float]]
    differs: tuple[str, ...]


def group_runs(
    runs: Sequence[Run], queries: Mapping[str, Mapping[str, np.ndarray]], pids: np.ndarray, start: Run, *, paired: bool
) -> list[Group]:
    """The groups, that of ``start`` first; none where no two runs differ in their seed alone.

    Args:
        runs: to be grouped.
        queries: label -> figure -> (Q,) what each query scored.
        pids: (Q,) whom the queries show.
        start: the run that others are compared with, whose group the other groups are compared with.
        paired: whether all were asked the same queries.
    """
    parts = seed_groups(runs, start)
    if not paired or all(len(part) == 1 for part in parts):
        return []
    names = [name for name in queries[start.label] if all(name in queries[run.label] for run in runs)]
    first, groups = parts[0], list[Group]()
    for part, label in zip(parts, group_labels(parts)):
        scores = {name: [queries[run.label][name] for run in part] for name in names}
        gaps = {
            name: group_difference([queries[run.label][name] for run in first], scores[name], pids)
            for name in (names if part is not first else ())
        }
        figures = {name: group_interval(scores[name], pids) for name in names}
        apart = settings_apart(first[0], part[0])
        groups.append(Group(label, tuple(run.label for run in part), figures, gaps, apart))
    return groups


def seed_groups(runs: Sequence[Run], start: Run) -> list[list[Run]]:
    """Runs whose settings are the same but for the seed, together; the group of ``start`` first.

    Where a data set lies is no setting, so runs that were trained on other pictures are told apart by these, as far as
    their states say them.
    """
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(json.dumps(_settings(run)) if run.own else run.label, []).append(run)
    parts = [part for together in alike.values() for same in _same_pictures(together) for part in _apart(same)]
    return sorted(parts, key=lambda part: start not in part)


def _same_pictures(runs: list[Run]) -> list[list[Run]]:
    """Runs that were trained on the same pictures, together; those that do not say it belong to all, if all are one."""
    said: dict[bytes, list[Run]] = {}
    for run in runs:
        said.setdefault(pictures_of(run_home(run.folder)), []).append(run)
    return [runs] if len(said.keys() - {b""}) < 2 else [*said.values()]


def _settings(run: Run) -> dict[str, object]:
    """What makes a training what it is, but for its seed."""
    assert run.own is not None
    return {key: value for key, value in run.own.flat().items() if key != SEED and not is_free(key)}


def _apart(runs: list[Run]) -> list[list[Run]]:
    """Runs of the same settings as one group, or each by itself where a seed comes twice."""
    seeds = [run.own.train.seed for run in runs if run.own]
    return [runs] if len(set(seeds)) == len(runs) else [[run] for run in runs]


def group_labels(parts: Sequence[Sequence[Run]]) -> list[str]:
    """What the labels of each group begin with, or all of them where two begin alike, and the number of its seeds."""
    short = [_shared([run.label for run in part]) for part in parts]
    whole = ["; ".join(run.label for run in part) for part in parts]
    taken = [name for name in short if short.count(name) == 1]
    names = [name if name in taken else every for name, every in zip(short, whole)]
    return [f"{name} ({count(len(part), 'seed')})" if len(part) > 1 else name for name, part in zip(names, parts)]


def _shared(labels: Sequence[str]) -> str:
    """What all labels begin with but for the number of a seed; all of them where that is nothing."""
    if len(labels) == 1:
        return labels[0]
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*labels))
    shared = "".join(letters[0] for letters in alike).rstrip("0123456789/_- ").removesuffix("seed").rstrip("/_-, ")
    return shared or "; ".join(labels)


def settings_apart(first: Run, other: Run) -> tuple[str, ...]:
    """Settings of the second that are other than the first's."""
    if first.own is None or other.own is None:
        return ()
    before, after = _settings(first), _settings(other)
    own = pictures_of(run_home(first.folder)), pictures_of(run_home(other.folder))
    more = ("trained on other pictures",) if all(own) and own[0] != own[1] else ()
    changed = {key: after.get(key, "left out") for key in {**before, **after} if before.get(key) != after.get(key)}
    return more + tuple(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changed.items()
    )
