"""The report page: one HTML file that shows what a run learned, and needs nothing else.

A :class:`Report` says what is to be shown, everything but its title optional; :func:`write_report` makes the page.
What is not there has no section. Pictures are embedded, charts are inline SVG, no other host is ever asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regard.explain.figures.overlay import Picture, data_uri, heat_colors, heat_over
from regard.explain.rounding import NOTHING
from regard.metrics import RankingReport
from regard.report.charts import accuracy_chart, ap_histogram, cmc_chart, distance_histogram, loss_chart
from regard.report.ranked import RankedList
from regard.report.score_table import FIGURES
from regard.report.templating import CROP_HEIGHT, list_content, render_page
from regard.storage import encode_text, write_atomic

__all__ = ["Command", "Evaluation", "HeatMaps", "Report", "render_report", "write_report"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One method, measured.

    Attributes:
        label: what it is called in tables and charts ("color histogram", "trained").
        report: what ``evaluate_ranking`` found.
    """

    label: str
    report: RankingReport


@dataclass(frozen=True, slots=True)
class HeatMaps:
    """Where the network looked in one picture.

    Attributes:
        picture: what it saw.
        maps: name of a layer -> (h, w) in [0, 1], in the order to show them.
        caption: one line below.
        partner: the picture it was compared with, if any.
    """

    picture: Picture
    maps: Mapping[str, np.ndarray]
    caption: str = ""
    partner: Picture | None = None


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
class Report:
    """What the page shows.

    Attributes:
        title: headline of the page.
        lead: a sentence or two below it.
        evaluations: from the simplest method to the one the page is about, which comes last; the first is what it is
            compared with.
        history: records of ``metrics.jsonl``, in order: ``{"event": "step", "epoch": 1, "step": 12, "lr": ..., "loss":
            ..., "loss/id": ...}`` and ``{"event": "eval", "epoch": 4, "step": 260, "mAP": ..., "rank1": ...}``.
        distances: of pairs showing one person, and of pairs showing two.
        ranked: ranked lists, in the order to show them.
        heat: heat maps, in the order to show them.
        levels: name of a layer in ``heat`` -> what it is, in a few words.
        facts: what was run, on what, how long; name -> value.
        command: the command line that made it.
        next_commands: what to try next.
    """

    title: str
    lead: str = ""
    evaluations: Sequence[Evaluation] = ()
    history: Sequence[Mapping[str, Any]] = ()
    distances: tuple[np.ndarray, np.ndarray] | None = None
    ranked: Sequence[RankedList] = ()
    heat: Sequence[HeatMaps] = ()
    levels: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    next_commands: Sequence[Command] = ()


def write_report(report: Report, path: Path | str) -> Path:
    """Write the page, whole or not at all.

    Returns:
        Where it is.

    Raises:
        DataError: a picture cannot be read or a map is no map.
        StorageError: the disk refused; a page that was there before is intact.
    """
    path = Path(path)
    write_atomic(path, encode_text(render_report(report)))
    return path


def render_report(report: Report) -> str:
    """The page as HTML; the same report gives the same text.

    Raises:
        DataError: a picture cannot be read or a map is no map.
    """
    charts = {
        "finding": [
            cmc_chart({found.label: found.report.cmc for found in report.evaluations}),
            ap_histogram({found.label: found.report.ap for found in report.evaluations}),
        ],
        "learning": [
            loss_chart(report.history),
            accuracy_chart(report.history, {found.label: found.report.mAP for found in report.evaluations[:-1][:1]}),
        ],
        "distances": [distance_histogram(*report.distances) if report.distances else None],
    }
    return render_page(
        "report.html",
        figures=FIGURES,
        report=report,
        rows=[_row(found) for found in report.evaluations],
        lists=[list_content(ranked) for ranked in report.ranked],
        heat=[_heat(maps) for maps in report.heat],
        heat_colors=heat_colors(),
        widest=max((1 + len(maps.maps) + (maps.partner is not None) for maps in report.heat), default=0),
        **{name: [chart for chart in group if chart] for name, group in charts.items()},
    )


def _row(evaluation: Evaluation) -> dict[str, Any]:
    """A line of the table: fractions, None where the curve ends before."""
    found = evaluation.report
    figures = dict.fromkeys(FIGURES) | found.figures()
    return {"label": evaluation.label, **figures, "queries": found.num_valid}


def _heat(heat: HeatMaps) -> dict[str, Any]:
    return {
        "caption": heat.caption,
        "picture": data_uri(heat.picture, 2 * CROP_HEIGHT),
        "partner": None if heat.partner is None else data_uri(heat.partner, 2 * CROP_HEIGHT),
        "maps": {
            name: (data_uri(heat_over(heat.picture, heat_map)), "" if heat_map.any() else NOTHING)
            for name, heat_map in heat.maps.items()
        },
    }
