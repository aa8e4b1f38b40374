"""The report page of trained runs: one HTML file that shows how one or several runs learned, find, fail and attend.

Shapes: Q queries, N pictures.

A :class:`RunsReport` holds what was found as plain data, one :class:`RunFindings` a run; :func:`write_runs` makes the
page. What is not there has no section. ``regard.report.gather`` finds it all out from run folders. The page opens from
the file, asks no other host, and says everything without JavaScript, which adds the pointing at the embedding map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from regard.explain.attention import Attention
from regard.explain.attention_precision import PrecisionRow, precision_figure
from regard.explain.correlation import Correlation, correlation_figure
from regard.explain.figures.attention_figure import attention_figure
from regard.explain.figures.draw import HEIGHT, WIDTH
from regard.explain.figures.map_grids import pair_figure
from regard.explain.figures.overlay import data_uri
from regard.explain.figures.svg import Chart
from regard.explain.heads import PairHeat
from regard.metrics import RankingReport
from regard.metrics.by_camera import CameraPairs
from regard.metrics.significance import query_scores
from regard.report.camera_pairs import camera_pair_table
from regard.report.charts import PairHistogram, ap_histogram, cmc_chart, histogram_chart
from regard.report.embedding_map import EmbeddingMap, map_content, thumbnails
from regard.report.learning import SMALL, accuracy_chart, loss_chart, run_mark, training_charts
from regard.report.ranked import RankedList
from regard.report.score_table import FIGURES, score_cells
from regard.report.templating import CROP_HEIGHT, list_content, render_page
from regard.storage import encode_text, write_atomic
from regard.structures import Sample
from regard.wording import count

__all__ = ["Command", "Match", "RunFindings", "RunsReport", "ShownQuery", "render_runs", "write_runs"]

CMC_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Command:
    """Something to type next.

    Attributes:
        line: the command line.
        purpose: what it does, a short sentence.
    """

    line: str
    purpose: str


@dataclass(frozen=True, slots=True)
class ShownQuery:
    """A query whose ranked lists are shown.

    Attributes:
        sample: the picture asked for.
        why: how it was chosen: ``"random"``, or what went wrong.
    """

    sample: Sample
    why: str


@dataclass(frozen=True, slots=True)
class Match:
    """A picture and the nearest right answer, and why they match.

    Attributes:
        partner: the answer.
        heat: layer -> heat on both.
    """

    partner: Sample
    heat: Mapping[str, PairHeat]


@dataclass(frozen=True, slots=True)
class RunFindings:
    """What was found of one run.

    Attributes:
        label: what it is called.
        report: its scores.
        parameters: of the network as it searches.
        gflops: of one picture.
        history: records of its ``metrics.jsonl``, in order: ``{"event": "step", "epoch": 1, "step": 12, "lr": ...,
            "loss": ..., "loss/id": ...}`` and ``{"event": "eval", "epoch": 4, "step": 260, "mAP": ..., "rank1": ...}``.
        pairs: how alike pairs of one person and of two are.
        cameras: scores by query camera and gallery camera.
        places: embedding map of ``RunsReport.mapped``.
        lists: a ranked list for each of ``RunsReport.queries``.
        attention: what it attends to in ``RunsReport.pictures``, as ``attention_of`` finds it.
        matches: for each of the pictures its nearest right match; None where there is none.
        correlation: layer -> feature correlation of the first picture.
        precision: share of its attention that lies on people, map by map.
        faults: method -> why its heat fails the sanity checks, as ``regard explain score`` left them in the run's
            folder; empty where it passes, nothing of methods that were not scored.
        facts: how it was made, name -> value.
        settings: everything it was trained with, as YAML.
    """

    label: str
    report: RankingReport
    parameters: int | None = None
    gflops: float | None = None
    history: Sequence[Mapping[str, Any]] = ()
    pairs: PairHistogram | None = None
    cameras: CameraPairs | None = None
    places: EmbeddingMap | None = None
    lists: Sequence[RankedList] = ()
    attention: Mapping[str, Attention] = field(default_factory=dict)
    matches: Sequence[Match | None] = ()
    correlation: Mapping[str, Correlation] = field(default_factory=dict)
    precision: Sequence[PrecisionRow] = ()
    faults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    settings: str = ""


@dataclass(frozen=True, slots=True)
class RunsReport:
    """What the page shows; all arrays behind its figures are in here.

    Attributes:
        title: headline of the page.
        lead: a sentence or two below it.
        runs: in the order to show them; the same color and dashes stand for a run all over the page.
        query_pids: (Q,) who the queries show.
        baselines: what the runs are compared with: label of another method -> its scores; the first one foremost.
        queries: those whose ranked lists are shown.
        mapped: pictures of the embedding maps.
        pictures: those that attention is shown for.
        facts: what was measured, on what, with which versions.
        command: the command line that made the page.
        next_commands: what to try next.
    """

    title: str
    runs: Sequence[RunFindings]
    query_pids: np.ndarray
    baselines: Mapping[str, RankingReport] = field(default_factory=dict)
    lead: str = ""
    queries: Sequence[ShownQuery] = ()
    mapped: Sequence[Sample] = ()
    pictures: Sequence[Sample] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    next_commands: Sequence[Command] = ()


def write_runs(report: RunsReport, path: Path | str) -> Path:
    """Write the page, whole or not at all.

    Returns:
        Where it is.

    Raises:
        DataError: a picture cannot be read.
        StorageError: the disk refused; a page that was there before is intact.
    """
    path = Path(path)
    write_atomic(path, encode_text(render_runs(report)))
    return path


def render_runs(report: RunsReport) -> str:
    """The page as HTML; the same report gives the same text.

    Raises:
        DataError: a picture cannot be read.
    """
    runs = report.runs
    scores = {run.label: run.report for run in runs} | dict(report.baselines)
    best = max(range(len(runs)), key=lambda number: runs[number].report.mAP)
    return render_page(
        "runs.html",
        report=report,
        figures=FIGURES,
        scores=scores,
        cells=score_cells(scores, report.query_pids),
        marks=dict(zip(scores, map(run_mark, range(len(scores))))),
        best=runs[best],
        costs=_costs(runs),
        training=_training(runs, report.baselines),
        finding=_drawn(
            cmc_chart({label: found.cmc for label, found in scores.items()}, CMC_DEPTH),
            ap_histogram({label: query_scores(found)["mAP"] for label, found in scores.items()}),
        ),
        histograms=_histograms(runs),
        cameras=_cameras(runs),
        maps=[map_content(run.label, run.places, report.mapped) for run in runs if run.places is not None],
        sprite=thumbnails(report.mapped),
        lists=_lists(report),
        looks=_looks(report),
        correlations=[_correlation(run, number) for number, run in enumerate(runs) if run.correlation],
        precision=_precision(runs),
        warnings=_warnings(runs),
        fact_names=list(dict.fromkeys(name for run in runs for name in run.facts)),
    )


def _drawn(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart]


def _costs(runs: Sequence[RunFindings]) -> dict[str, list[tuple[str, bool]]]:
    """Label -> parameters and GFLOPs as written, and whether they are the least, where not all are written alike."""
    costs: dict[str, list[tuple[str, bool]]] = {run.label: [] for run in runs}
    for name, form in (("parameters", "{:,}"), ("gflops", "{:.3g}")):
        values = {run.label: getattr(run, name) for run in runs}
        texts = {label: "–" if value is None else form.format(value) for label, value in values.items()}
        known = [value for value in values.values() if value is not None]
        least = form.format(min(known)) if len({*texts.values()} - {"–"}) > 1 else None
        for label, text in texts.items():
            costs[label].append((text, text == least))
    return costs


def _training(runs: Sequence[RunFindings], baselines: Mapping[str, RankingReport]) -> dict[str, list[Chart]]:
    """Charts of learning: the main ones, and small ones of every term."""
    if len(runs) == 1:
        foremost = {label: found.mAP for label, found in [*baselines.items()][:1]}
        return {"main": _drawn(loss_chart(runs[0].history), accuracy_chart(runs[0].history, foremost)), "terms": []}
    charts = training_charts({run.label: run.history for run in runs})
    main = [chart for chart in charts if chart.name in ("run-loss", "run-accuracy")]
    return {"main": main, "terms": [chart for chart in charts if chart not in main]}


def _histograms(runs: Sequence[RunFindings]) -> list[Chart]:
    known = [(number, run.label, run.pairs) for number, run in enumerate(runs) if run.pairs is not None]
    top = max((float(max(pairs.same.max(), pairs.different.max())) for _, _, pairs in known), default=None)
    size = SMALL if len(known) > 2 else (WIDTH, HEIGHT)
    return [histogram_chart(pairs, f"pairs-{number}", label, top, size) for number, label, pairs in known]


def _cameras(runs: Sequence[RunFindings]) -> list[Chart]:
    known = [(number, run.label, run.cameras) for number, run in enumerate(runs) if run.cameras is not None]
    charts = ((label, camera_pair_table({label: found}, f"cameras-{number}")) for number, label, found in known)
    return [replace(chart, title=label) for label, chart in charts if chart]


def _lists(report: RunsReport) -> list[dict[str, Any]]:
    """Every query with the answers of every run."""
    return [
        {
            "query": {"uri": data_uri(query.sample.path, CROP_HEIGHT), "sample": query.sample},
            "why": query.why,
            "answers": [(run.label, list_content(run.lists[place])) for run in report.runs if run.lists],
        }
        for place, query in enumerate(report.queries)
        if any(run.lists for run in report.runs)
    ]


def _looks(report: RunsReport) -> list[dict[str, Any]]:
    """Every picture with the attention of every run, and why it matches its nearest right answer."""
    looks = []
    for place, sample in enumerate(report.pictures):
        found = []
        for number, run in enumerate(report.runs):
            charts = []
            if run.attention:
                figure = attention_figure(sample.path, run.attention, place)
                said = _attention_summary(run.attention)
                chart = Chart(f"attention-{number}-{place}", "What it attends to", said, figure)
                shown = "last map" if set(run.attention) == {"holistic"} else "attention"
                charts.append((chart, warning(run.faults, shown)))
            match = run.matches[place] if run.matches else None
            if match is not None:
                partner, similarity = match.partner, next(iter(match.heat.values())).similarity
                figure = pair_figure(sample.path, partner.path, match.heat)
                said = f"Camera {partner.camid} shows person {partner.pid} too; cosine of the two {similarity:.2f}."
                chart = Chart(f"pair-{number}-{place}", "Why it finds its nearest right answer", said, figure)
                charts.append((chart, warning(run.faults, "gradcam")))
            if charts:
                found.append((run.label, charts))
        if found:
            looks.append({"sample": sample, "runs": found})
    return looks


def warning(faults: Mapping[str, Sequence[str]], method: str) -> str:
    """What stands beside a picture of heat whose method fails the sanity checks; empty where it does not."""
    found = faults.get(method)
    return f"Do not trust this picture: {'; '.join(found)}." if found else ""


def _warnings(runs: Sequence[RunFindings]) -> list[str]:
    """What stands below attention precision: the maps in it that fail."""
    maps = {"attention": "its own attention", "last map": "the last map", "gradcam": "Grad-CAM"}
    return [
        f"{run.label}: {name} fails the sanity checks: {'; '.join(run.faults[method])}."
        for run in runs
        for method, name in maps.items()
        if run.precision and run.faults.get(method)
    ]


def _attention_summary(attention: Mapping[str, Attention]) -> str:
    kinds: dict[str, list[str]] = {}
    for name, found in attention.items():
        kinds.setdefault(found.meaning, []).append(name)
    return "; ".join(f"{', '.join(names)}: {meaning}" for meaning, names in kinds.items()) + "."


def _correlation(run: RunFindings, number: int) -> Chart:
    parts = [f"{layer} {found.mean_off_diagonal:.2f}" for layer, found in run.correlation.items()]
    summary = f"Mean correlation of two positions: {', '.join(parts)}."
    return Chart(f"correlation-{number}", run.label, summary, correlation_figure(run.correlation))


def _precision(runs: Sequence[RunFindings]) -> Chart | None:
    rows = [row for run in runs for row in run.precision if np.isfinite(row.trained)]
    if not rows:
        return None
    top = max(rows, key=lambda row: row.trained)
    measured = count(max(row.images for row in rows), "picture")
    summary = (
        f"Highest for {top.map} of {top.system}: {100 * top.trained:.1f} % of its mass lies on the person; "
        f"chance is {100 * np.mean([row.chance for row in rows]):.1f} %; {measured}."
    )
    return Chart("precision", "Attention on the person, before and after training", summary, precision_figure(rows))
