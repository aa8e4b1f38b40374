"""The actions of ``regard explain`` that look at what runs find: ranked lists, camera pairs, curves."""

from __future__ import annotations

import argparse
import re
from typing import Any

from regard.cli.explain_runs import write_figure, write_json
from regard.errors import ConfigError
from regard.evaluation.run import Run, open_runs, run_labels
from regard.evaluation.scoring import further_figures
from regard.explain.figures.draw import FONT
from regard.explain.figures.svg import INK, Chart, text_width
from regard.metrics.pair_sampling import sample_pairs
from regard.places import run_home
from regard.report.answers import run_answers, run_lists
from regard.report.camera_pairs import camera_pair_table
from regard.report.charts import PairHistogram, cmc_chart, histogram_chart, pair_histogram
from regard.report.learning import training_charts
from regard.report.ranked import find_queries, hardest, random_queries, titled_queries
from regard.report.ranked_figure import ranked_figure
from regard.run_folder.folders import read_history
from regard.wording import file_name

__all__ = ["cameras", "curves", "ranked"]

DEEP = 100
"""Ranks that are kept, so that a failure can say how far away the right answer was."""


def search_runs(arguments: argparse.Namespace, changes: dict[str, Any]) -> dict[str, Run]:
    """Embed and score runs on their own data or the one that was asked for: label -> run.

    Raises:
        CheckpointError: no such run and no such model.
        ConfigError: a model folder alone does not say which data to use.
        DataError: the data set is not there or not complete.
    """
    runs = open_runs(arguments.runs, arguments.data, arguments.root, changes, quiet=arguments.quiet)
    for run in runs:
        run.report()
        vars(run).pop("model")  # figures alone are looked at
    return {run.label: run for run in runs}


def ranked(arguments: argparse.Namespace) -> None:
    """Ranked lists of the same queries, as a figure and as JSON."""
    changes = {"rerank": True} if arguments.rerank else {}
    found = search_runs(arguments, changes | ({"junk": "query"} if arguments.junk else {}))
    first = next(iter(found.values()))
    for label, other in found.items():
        if (other.splits.query, other.splits.gallery) != (first.splits.query, first.splits.gallery):
            raise ConfigError(f"{label} is tested on other pictures than the first run; give all the same with --root")
    picks, notes = _picks(arguments, first)
    lists = {label: run_lists(run, arguments.depth, picks, junk=arguments.junk) for label, run in found.items()}
    write_figure(ranked_figure(lists, notes), arguments.output / "ranked", arguments)
    content = {
        "queries": [
            {"index": index, "title": title, "note": note}
            for (index, title), note in zip(picks.items(), notes or [""] * len(picks))
        ],
        "runs": {
            label: {"options": run.report().options, "lists": [one.to_dict() for one in lists[label]]}
            for label, run in found.items()
        },
    }
    write_json(arguments.output / "ranked.json", content)


def _picks(arguments: argparse.Namespace, run: Run) -> tuple[dict[int, str], list[str]]:
    """Index of a query -> what it is shown for; and a note on each, where there are any."""
    picks = dict.fromkeys(find_queries(arguments.query, run.splits.query), "")
    notes: dict[int, str] = {}
    if arguments.hardest:
        depth = min(max(DEEP, arguments.depth), len(run.features("gallery")))
        for failure in hardest(run_answers(run, depth), run.report(), arguments.hardest):
            picks[failure.query] = " and ".join(failure.kinds)
            notes[failure.query] = str(failure)
    if arguments.random:
        chosen = random_queries(run.report().ap, arguments.random, arguments.seed)
        picks |= {index: "at random" for index in chosen if index not in picks}
    if not picks and arguments.hardest:
        raise ConfigError("no query failed: every one has its right answers first; leave --hardest out")
    picks = picks or titled_queries(run.report().ap, arguments.count)
    titles = {index: f"query {index}" + (f", {why}" if why else "") for index, why in picks.items()}
    return titles, [notes.get(index, "") for index in picks] if notes else []


def cameras(arguments: argparse.Namespace) -> None:
    """Rank-1 and mAP by query and gallery camera, as a figure, as JSON and as text."""
    found = {}
    for label, run in search_runs(arguments, {}).items():
        sides = run.features("query"), run.features("gallery")
        found[label] = further_figures(*sides, run.config.eval, run.report(), ["cameras"])["cameras"]
        print(f"{label}\n{found[label]}\n")
    chart = camera_pair_table(found)
    assert chart is not None  # scoring has found a match
    write_figure(chart.figure, arguments.output / "cameras", arguments)
    content = {"summary": chart.summary, "runs": {label: pairs.to_dict() for label, pairs in found.items()}}
    write_json(arguments.output / "cameras.json", content)


def curves(arguments: argparse.Namespace) -> None:
    """How runs learned, the CMC curves, and distances within and between people: a figure each, and JSON of all."""
    histories = {label: read_history(run_home(folder)) for label, folder in run_labels(arguments.runs).items()}
    labels = list(histories)
    charts = training_charts(histories)
    scored = {label: [one for one in records if one.get("event") == "eval"] for label, records in histories.items()}
    content: dict[str, Any] = {
        label: {"evaluations": [{key: value for key, value in one.items() if key != "event"} for one in found]}
        for label, found in scored.items()
    }
    if not arguments.no_eval:
        found = search_runs(arguments, {})
        charts += filter(None, [cmc_chart({label: run.report().cmc for label, run in found.items()})])
        for label, run in found.items():
            counted = _distances(run)
            content[label] |= run.report().to_dict() | {"distances": counted._asdict()}
            charts.append(histogram_chart(counted, title=f"Distances, {file_name(label)}"))
    if not charts:
        raise ConfigError("none of these is a run with metrics.jsonl, so there is no curve; leave --no-eval out")
    names = ["-".join(re.findall(r"\w+", chart.title.lower())) for chart in charts]
    for number, (chart, name) in enumerate(zip(charts, names)):
        _name_runs(chart, labels)
        name = name if names.count(name) == 1 else f"{name}-{number}"  # names that differ in signs alone
        write_figure(chart.figure, arguments.output / name, arguments)
    write_json(arguments.output / "curves.json", content)


def _name_runs(chart: Chart, labels: list[str]) -> None:
    """Runs' names on the right of a chart that leaves them to the page around it."""
    if not chart.name.startswith(("run-rate", "run-term")):
        return
    figure, axes = chart.figure, chart.figure.axes[0]
    names = [labels[int(str(points.get_gid()).rpartition("-")[2])] for points in axes.collections]
    width, side = figure.get_figwidth(), 0.55 + max(text_width(name, FONT) for name in names)
    room, shrunk = figure.subplotpars, width / (width + side)
    figure.set_figwidth(width + side)
    figure.subplots_adjust(left=room.left * shrunk, right=room.right * shrunk)
    axes.legend(axes.lines, names, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=FONT,
                labelcolor=INK)  # fmt: skip


def _distances(run: Run) -> PairHistogram:
    """Distances of all pairs of one person, and of a sample of the pairs of two."""
    pairs = sample_pairs(run.features("query"), run.features("gallery"), metric=run.config.eval.metric)
    distances = (run.config.eval.metric == "cosine") - pairs.similarity
    counted = pair_histogram(distances[pairs.same], distances[~pairs.same])
    assert counted is not None  # sample_pairs has found both kinds
    return counted
