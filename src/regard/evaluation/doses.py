"""Runs scored on a crowd at doses of one cause at a time, paired query by query.

Shapes: Q queries, S seeds, N pictures whose attention is looked at.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.datasets.synthetic import Dose, asked_for, dose_sets
from regard.errors import ConfigError, DataError, nearest
from regard.evaluation.compare_runs import score_runs
from regard.evaluation.dose_study import FIGURES, Curve, DoseStudy, Point
from regard.evaluation.groups import group_labels, seed_groups, settings_apart
from regard.evaluation.run import Run, open_runs, run_labels
from regard.metrics.grouped import group_difference, group_interval
from regard.metrics.ranking_report import option_lines
from regard.metrics.significance import Interval, query_scores

__all__ = ["Attend", "measure_doses"]

Attend = Callable[[Run], tuple[dict[str, np.ndarray], np.ndarray]]
"""What a run's attention lies on: name of a map -> (N,) share on the person, and (N,) whom the pictures show."""

Scores = dict[str, dict[str, np.ndarray]]
"""Label of a run -> figure -> what each query, or picture, scored."""

WORSE = {
    "both": "queries and gallery have the cause",
    "query": "queries have the cause, the gallery does not",
    "gallery": "the gallery has the cause, queries do not",
}
"""What has the cause -> how to say it."""


def measure_doses(
    folders: Sequence[Path],
    root: Path,
    *,
    baseline: Path | None = None,
    causes: Sequence[str] = (),
    worse: str = "both",
    changes: Mapping[str, Any] | None = None,
    attend: Attend | None = None,
    quiet: bool = False,
) -> DoseStudy:
    """Score runs on the sets that ``regard data doses`` makes, and compare what causes take from each.

    What each query scored is kept beside the runs, as :func:`regard.evaluation.compare_runs.compare_runs` does.

    Args:
        folders: run folders or model folders; those that differ in their seed alone count as one.
        root: folder of the sets.
        baseline: the run with whose group others are compared; None takes the first.
        causes: some of those that are there; none for all.
        worse: what has the cause, a key of ``WORSE``.
        changes: settings of the ``eval`` section for all.
        attend: measures attention; None for none.
        quiet: no progress bars.

    Raises:
        ConfigError: no runs, the same twice, or a cause that is not there.
        CheckpointError: a folder without a model.
        DataError: the sets are not there, not whole, or are no pairs.
    """
    sets = _chosen(dose_sets(root), causes, root)
    labels, none = run_labels(folders, baseline), Dose("", 0.0)
    how = {"ap": "step"} | dict(changes or {})
    scores, watched = dict[Dose, Scores](), dict[Dose, Scores]()
    pids, people, plain = np.empty(0, np.int64), np.empty(0, np.int64), list[Run]()
    lines = list[str]()
    for dose, place in sets.items():
        runs = open_runs(labels, "crowd", place, how, quiet=quiet)
        if dose == none:
            plain, pids = runs, np.array([sample.pid for sample in runs[0].splits.query], np.int64)
        else:
            runs[0].splits = _paired(plain[0], runs[0], worse)
        found = score_runs(runs)
        scores[dose] = {label: query_scores(report) for label, (report, _) in found.items()}
        lines = lines or option_lines(list(found), [report.options for report, _ in found.values()])
        for run in runs if attend else ():
            assert attend is not None
            maps, people = attend(run)
            watched.setdefault(dose, {})[run.label] = maps
            run.release()
    start = next(run for run in plain if baseline is None or run.folder == Path(baseline))
    parts = seed_groups(plain, start)
    groups = {label: [run.label for run in part] for label, part in zip(group_labels(parts), parts)}
    curves = [
        _curve(cause, label, groups, {dose: found for dose, found in scores.items() if dose.cause in ("", cause)}, pids)
        for cause in dict.fromkeys(dose.cause for dose in sets if dose.cause)
        for label in groups
    ]
    if attend:
        curves = [_with_attention(curve, groups[curve.label], watched, people) for curve in curves]
    apart = [
        f"{label} against {next(iter(groups))}: {', '.join(settings)}"
        for label, part in zip(groups, parts)
        if (settings := settings_apart(start, part[0]))
    ]
    splits = plain[0].splits
    return DoseStudy(
        data=f"{splits}; {root}, {len(sets)} sets",
        worse=WORSE[worse],
        seeds={label: len(members) for label, members in groups.items()},
        baseline=next(iter(groups)),
        curves=tuple(curves),
        options=(*lines, *apart),
        warnings=tuple(_overlaps(plain, sets[none])),
    )


def _chosen(sets: dict[Dose, Path], causes: Sequence[str], root: Path) -> dict[Dose, Path]:
    """The sets of some causes, and that of none."""
    known = list(dict.fromkeys(dose.cause for dose in sets if dose.cause))
    for cause in causes:
        if cause not in known:
            raise ConfigError(f"no set in '{root}' has the cause {cause!r}{nearest(cause, known)}; there are: "
                              f"{', '.join(known)}")  # fmt: skip
    return {dose: place for dose, place in sets.items() if dose.cause in ("", *(causes or known))}


def _paired(plain: Run, run: Run, worse: str) -> Any:
    """The splits in which queries, gallery or both have the cause.

    Raises:
        DataError: pictures are not those of the set without it.
    """
    splits = run.splits
    for split in ("query", "gallery"):
        before, after = (
            [(sample.path.name, sample.pid, sample.camid) for sample in getattr(one, split)]
            for one in (plain.splits, splits)
        )
        if before != after:
            raise DataError(
                f"'{splits.root}' has other pictures in {split} than '{plain.splits.root}', so scores cannot be "
                "paired; make both with regard data doses"
            )
    clean = {"query": "gallery", "gallery": "query"}.get(worse)
    return replace(splits, **{clean: getattr(plain.splits, clean)}) if clean else splits


def _curve(
    cause: str, label: str, groups: Mapping[str, list[str]], scores: Mapping[Dose, Scores], pids: np.ndarray
) -> Curve:
    """What one group scores over the doses of a cause, beside the first group."""
    first, own = next(iter(groups.values())), groups[label]
    compared = label != next(iter(groups))

    def of(members: list[str], dose: Dose, name: str) -> list[np.ndarray]:
        return [scores[dose][member][name] for member in members]

    def kept(members: list[str], name: str) -> list[np.ndarray]:
        """(Q,) of each seed, whose mean is the mean over doses as a share of the score at no dose, linearized."""
        worse = [of(members, dose, name) for dose in scores if dose.cause]
        shares = []
        for before, after in zip(of(members, Dose("", 0.0), name), (np.mean(found, 0) for found in zip(*worse))):
            start = float(np.nanmean(before))
            share = float(np.nanmean(after)) / start
            shares.append((after - share * before) / start + share)
        return shares

    points = tuple(
        Point(
            dose.dose,
            {name: group_interval(of(own, dose, name), pids) for name in FIGURES},
            {name: group_difference(of(first, dose, name), of(own, dose, name), pids) for name in FIGURES}
            if compared
            else {},
        )
        for dose in scores
    )
    plain = Dose("", 0.0)  # a score of 0 there has no share that is kept
    there = [name for name in FIGURES if all(np.nansum(found) for found in of(own, plain, name))]
    tested = [name for name in there if compared and all(np.nansum(found) for found in of(first, plain, name))]
    held = {name: _mean_of(kept(own, name), pids) for name in there}
    spared = {name: group_difference(kept(first, name), kept(own, name), pids, furthest=math.inf) for name in tested}
    return Curve(cause, label, points, held, spared)


def _mean_of(shares: list[np.ndarray], pids: np.ndarray) -> Interval:
    """The mean over seeds of what may be above 1, as a difference from nothing."""
    return group_difference([0 * shares[0]], shares, pids, furthest=math.inf)[0]


def _with_attention(curve: Curve, members: list[str], watched: Mapping[Dose, Scores], people: np.ndarray) -> Curve:
    """The curve with the share of attention on the person at every dose."""
    points = []
    for point in curve.points:
        maps = [watched[Dose(curve.cause if point.dose else "", point.dose)][member] for member in members]
        more = {}
        for name in maps[0]:
            values = np.stack([found[name] for found in maps])
            there = np.isfinite(values).all(0)  # a map of zeros throughout has no share
            with contextlib.suppress(DataError):  # fewer than two people have one
                more[name] = group_interval(list(values[:, there]), people[there])
        points.append(replace(point, figures=point.figures | more))
    return replace(curve, points=tuple(points))


def _overlaps(runs: Sequence[Run], plain: Path) -> list[str]:
    """Runs that may have been trained on people whom the sets ask for: on another crowd of the same seed."""
    asked, found = asked_for(plain), list[str]()
    for run in runs:
        place = run.own.data.root if run.own else None
        try:
            trained = asked_for(Path(str(place))) if place else asked
        except (OSError, ValueError):
            continue
        who = ("train_ids", "test_ids", "knobs")
        if trained.get("seed") == asked.get("seed") and any(trained.get(name) != asked.get(name) for name in who):
            found.append(run.label)
    said = "trained on another crowd of this seed, so perhaps on people who are asked for here: "
    return [said + ", ".join(found)] if found else []
