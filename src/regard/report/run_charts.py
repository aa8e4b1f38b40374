"""Charts of several runs side by side: how each of them learned.

Each run has its own color and dashes, the same in every chart of a page: :func:`run_mark` says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from regard.explain.figures.svg import Chart
from regard.explain.figures.ticks import number_ticks, percent_ticks, short_number
from regard.report.charts import (
    DASHES,
    HEIGHT,
    SERIES,
    WIDTH,
    Record,
    _beside,
    _binned,
    _column,
    _dress,
    _epochs,
    _events,
    _finite,
    _label_ends,
    _line,
    shortened,
)

__all__ = ["run_mark", "training_charts"]

SMALL = (3.7, 2.5)
"""Inches of charts that are shown three in a row."""

FEW = 40
"""Points of a curve up to which each is marked."""


def run_mark(number: int) -> tuple[str, str]:
    """Color and dashes of a run, as CSS custom property and ``stroke-dasharray``."""
    dash = DASHES[number % len(DASHES)]
    lengths = "none" if isinstance(dash, str) else " ".join(f"{2 * length:g}" for length in dash[1])
    return f"series-{number % len(SERIES) + 1}", lengths


def training_charts(histories: Mapping[str, Sequence[Record]]) -> list[Chart]:
    """How several runs learned, side by side: total loss, accuracy, learning rate, then every term of the losses.

    Each run has its own color and dashes, the same in every chart. Totals are drawn on a logarithmic axis where they
    differ much, as those of systems with other losses do.

    Args:
        histories: label -> records of a run, as for :func:`loss_chart`.

    Returns:
        The charts that there are records for.
    """
    steps = {label: _events(history, "step") for label, history in histories.items()}
    evals = {label: _events(history, "eval") for label, history in histories.items()}
    terms = sorted({key for found in steps.values() for record in found for key in record if key.startswith("loss/")})
    charts = [_run_curves("run-loss", "Training loss, total", "loss", steps, steps, key="loss", ends=True)]
    charts.append(
        _run_curves(
            "run-accuracy", "mAP on people never trained on", "mAP", steps, evals, key="mAP", ends=True, scale=100
        )
    )
    charts.append(_run_curves("run-rate", "Learning rate", "learning rate", steps, steps, key="lr"))
    for number, term in enumerate(terms):
        name = term.removeprefix("loss/")
        charts.append(_run_curves(f"run-term-{number}", f"Loss term: {name}", name, steps, steps, key=term))
    return [chart for chart in charts if chart]


def _run_curves(
    name: str,
    title: str,
    unit: str,
    steps: Mapping[str, Sequence[Record]],
    records: Mapping[str, Sequence[Record]],
    *,
    key: str,
    ends: bool = False,
    scale: float = 1,
) -> Chart | None:
    """One figure of every run over epochs; None where no run has it."""
    curves = {}
    for i, (label, found) in enumerate(records.items()):
        if found:
            epochs = _epochs(steps[label] or found, [record["step"] for record in found])
            curve = epochs, scale * _column(found, key)
            x, y = _finite(*curve) if scale == 100 else _binned(*curve)
            if len(y):
                curves[label] = i, x, y
    if not curves:
        return None
    figure = Figure(figsize=(WIDTH, HEIGHT) if ends else SMALL)
    axes = figure.subplots()
    say = "{:.1f} %".format if scale == 100 else short_number
    marks, tips, short = [], {}, shortened(records)
    for label, (i, x, y) in curves.items():
        few = len(y) <= 40
        _line(axes, x, y, i, f"{name}-{i}", marker="o" if few else "")
        tips[f"{name}-{i}"] = [f"{label}, epoch {e:.0f}: {say(v)}" for e, v in zip(x, y)]
        marks.append((y[-1], short[label], SERIES[i % len(SERIES)]))
    lowest, peaks = min(y.min() for _, _, y in curves.values()), [y.max() for _, _, y in curves.values()]
    if scale == 100:
        axes.set_ylim(0, 100)
        percent_ticks(axes.yaxis)
    elif max(peaks) > 4 * min(peaks) and lowest > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        number_ticks(axes.yaxis)
        unit += " (logarithmic)"
    else:
        axes.set_ylim(min(0, 1.05 * lowest), 1.05 * max(peaks) or 1)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        number_ticks(axes.yaxis)
    _dress(axes, unit, "epoch")
    axes.minorticks_off()
    axes.set_xlim(0, max(x[-1] for _, x, _ in curves.values()) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if ends:
        figure.subplots_adjust(left=0.13, right=_beside(figure, marks), top=0.9, bottom=0.16)
        _label_ends(axes, marks)
    else:
        figure.subplots_adjust(left=0.17, right=0.96, top=0.87, bottom=0.22)
    values = {
        label: np.nanmax(_column(records[label], key)) if key == "lr" else y[-1] for label, (_, _, y) in curves.items()
    }
    said = ", ".join(f"{say(value)} ({label})" for label, value in values.items())
    return Chart(name, title, f"{'At most' if key == 'lr' else 'At the end'}: {said}.", figure, tips)
