"""Charts of how runs learned: one alone, or several side by side.

Each run has its own color and dashes, the same in every chart of a page: :func:`run_mark` says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from regard.explain.figures import draw
from regard.explain.figures.svg import INK, MUTED, SERIES, Chart
from regard.report.charts import shortened
from regard.wording import count

__all__ = ["SMALL", "accuracy_chart", "loss_chart", "run_mark", "training_charts"]

Record = Mapping[str, Any]

SMALL = (3.7, 2.5)
"""Inches of charts that are shown three in a row."""

FEW = 40
"""Points of a curve up to which each is marked."""


def loss_chart(history: Sequence[Record]) -> Chart | None:
    """Loss and its terms, and the learning rate below them, over epochs.

    Args:
        history: records of a run; those with ``"event": "step"`` count. ``loss`` is the total, ``loss/...`` its terms.

    Returns:
        The chart, None where fewer than two steps have a loss that is a number.
    """
    steps = _events(history, "step")
    if np.isfinite(_column(steps, "loss")).sum() < 2:
        return None
    epochs = _epochs(steps, [record["step"] for record in steps])
    terms = _terms(steps)
    curves = {name: _binned(epochs, _column(steps, name)) for name in ("loss", *(terms if len(terms) > 1 else ()))}
    curves = {name: curve for name, curve in curves.items() if len(curve[0])}
    rate_epochs, rate = _finite(epochs, _column(steps, "lr"))
    rows = 2 if len(rate) else 1
    figure = Figure(figsize=(draw.WIDTH, draw.HEIGHT))
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[4, 1][:rows])[:, 0]
    ends = []
    for i, (name, (x, y)) in enumerate(curves.items()):
        color = INK if name == "loss" else SERIES[(i - 1) % len(SERIES)]
        axes[0].plot(x, y, color=color, lw=2 if name == "loss" else 1.5, ls=draw.DASHES[i % len(draw.DASHES)])
        ends.append((y[-1], "total" if name == "loss" else name.removeprefix("loss/"), color))
    draw.dress(axes[0], "loss", bottom=rows == 1)
    axes[0].set_ylim(bottom=min(0, *(y.min() for _, y in curves.values())))
    axes[0].set_xlim(0, max(epochs[-1], 1e-9))
    if rows == 2:
        axes[1].plot(rate_epochs, rate, color=MUTED, lw=1.5)
        draw.dress(axes[1], "learning rate")
        axes[1].set_ylim(0, 1.15 * rate.max() or 1)
        axes[1].set_yticks([0, rate.max()], ["0", draw.short_number(rate.max())])
    axes[-1].set_xlabel("epoch", color=MUTED, fontsize=draw.FONT)
    axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    draw.name_ends(axes[0], ends, hspace=0.42)
    total = curves["loss"][1]
    duration = f"{count(round(epochs[-1]), 'epoch')} ({count(steps[-1]['step'], 'step')})"
    summary = f"The loss goes from {total[0]:.2f} to {total[-1]:.2f} in {duration}."
    return Chart("loss", "Training loss and learning rate over epochs", summary, figure)


def accuracy_chart(history: Sequence[Record], references: Mapping[str, float] | None = None) -> Chart | None:
    """Retrieval accuracy on people never trained on, over epochs.

    Args:
        history: records of a run; those with ``"event": "eval"`` count, ``mAP``, ``rank1`` and ``mINP`` as fractions.
        references: label -> mAP as a fraction, drawn as horizontal lines (a method that does not learn).

    Returns:
        The chart, None where nothing was evaluated.
    """
    evals = [record for record in _events(history, "eval") if np.isfinite(_column([record], "mAP")).all()]
    if not evals:
        return None
    epochs = _epochs(_events(history, "step") or evals, [record["step"] for record in evals])
    figure, axes = draw.plot()
    ends, tips = [], {}
    last = epochs[-1] or 1
    for i, (key, label) in enumerate((("mAP", "mAP"), ("rank1", "rank-1"), ("mINP", "mINP"))):
        known, values = _finite(epochs, 100 * _column(evals, key))
        if not len(values):
            continue
        draw.line(axes, known, values, i, f"accuracy-{key}", marker="o")
        tips[f"accuracy-{key}"] = [f"epoch {e:.0f}: {label} {v:.1f} %" for e, v in zip(known, values)]
        ends.append((values[-1], f"{label} {values[-1]:.1f} %", SERIES[i]))
    references = {label: value for label, value in (references or {}).items() if np.isfinite(value)}
    for label, value in references.items():
        axes.axhline(100 * value, color=MUTED, lw=1, ls=draw.DOTTED)
        ends.append((100 * value, label, MUTED))
    draw.dress(axes, "on people never trained on", "epoch")
    axes.set_ylim(0, 100)
    axes.set_xlim(0, last * 1.01)
    draw.percent_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    draw.name_ends(axes, ends)
    end = f"{100 * evals[-1]['mAP']:.1f} % at epoch {epochs[-1]:.0f}."
    start = f"goes from {100 * evals[0]['mAP']:.1f} % at epoch {epochs[0]:.0f} to" if len(evals) > 1 else "is"
    dotted = "".join(f" Dotted: mAP of {label}." for label in references)
    summary = f"mAP {start} {end}{dotted}"
    return Chart("accuracy", "Retrieval accuracy over epochs", summary, figure, tips)


def run_mark(number: int) -> tuple[str, str]:
    """Color and dashes of a run, as CSS custom property and ``stroke-dasharray``."""
    dash = draw.DASHES[number % len(draw.DASHES)]
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
    steps, evals = (
        {label: _events(history, event) for label, history in histories.items()} for event in ("step", "eval")
    )
    terms = [term.removeprefix("loss/") for term in _terms([record for found in steps.values() for record in found])]
    charts = [
        _run_curves("run-loss", "Training loss, total", "loss", steps, steps, key="loss", ends=True),
        _run_curves("run-accuracy", "mAP on people never trained on", "mAP", steps, evals, key="mAP", ends=True),
        _run_curves("run-rate", "Learning rate", "learning rate", steps, steps, key="lr"),
    ]
    for number, term in enumerate(terms):
        title = f"Loss term: {term}"
        charts.append(_run_curves(f"run-term-{number}", title, term, steps, steps, key=f"loss/{term}"))
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
) -> Chart | None:
    """One figure of every run over epochs; None where no run has it."""
    curves, percent = {}, key == "mAP"
    for i, (label, found) in enumerate(records.items()):
        if found:
            epochs, values = _epochs(steps[label] or found, [record["step"] for record in found]), _column(found, key)
            x, y = _finite(epochs, 100 * values) if percent else _binned(epochs, values)
            if len(y):
                curves[label] = i, x, y
    if not curves:
        return None
    figure, axes = draw.plot((draw.WIDTH, draw.HEIGHT) if ends else SMALL)
    say = "{:.1f} %".format if percent else draw.short_number
    marks, tips, short = [], {}, shortened(records)
    for label, (i, x, y) in curves.items():
        draw.line(axes, x, y, i, f"{name}-{i}", marker="o" if len(y) <= FEW else "")
        tips[f"{name}-{i}"] = [f"{label}, epoch {e:.0f}: {say(v)}" for e, v in zip(x, y)]
        marks.append((y[-1], short[label], SERIES[i % len(SERIES)]))
    lowest, peaks = min(y.min() for _, _, y in curves.values()), [y.max() for _, _, y in curves.values()]
    if percent:
        axes.set_ylim(0, 100)
    elif max(peaks) > 4 * min(peaks) and lowest > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        unit += " (logarithmic)"
    else:
        axes.set_ylim(min(0, 1.05 * lowest), 1.05 * max(peaks) or 1)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    (draw.percent_ticks if percent else draw.number_ticks)(axes.yaxis)
    draw.dress(axes, unit, "epoch")
    axes.minorticks_off()
    axes.set_xlim(0, max(x[-1] for _, x, _ in curves.values()) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if ends:
        draw.name_ends(axes, marks, left=0.13)
    else:
        figure.subplots_adjust(left=0.17, right=0.96, top=0.87, bottom=0.22)
    values = {
        label: np.nanmax(_column(records[label], key)) if key == "lr" else y[-1] for label, (_, _, y) in curves.items()
    }
    said = ", ".join(f"{say(value)} ({label})" for label, value in values.items())
    return Chart(name, title, f"{'At most' if key == 'lr' else 'At the end'}: {said}.", figure, tips)


def _events(history: Sequence[Record], event: str) -> list[Record]:
    """Records of one kind in order of steps; where a resumed run wrote a step twice, the later one."""
    return [r for _, r in sorted({r["step"]: r for r in history if r.get("event") == event}.items())]


def _terms(records: Sequence[Record]) -> list[str]:
    return sorted({key for record in records for key in record if key.startswith("loss/")})


def _epochs(records: Sequence[Record], steps: Sequence[int]) -> np.ndarray:
    """Steps as a fraction of epochs; the length of an epoch is read from the steps at which recorded epochs begin."""
    begins: dict[int, int] = {}
    for record in records:
        begins.setdefault(record["epoch"], record["step"])
    (first, start), (last, end) = min(begins.items()), max(begins.items())
    length = (end - start) / (last - first) if last > first else max(records[-1]["step"], 1) / max(last, 1)
    return np.asarray(steps, dtype=np.float64) / max(length, 1)


def _column(records: Sequence[Record], key: str) -> np.ndarray:
    return np.array([np.nan if record.get(key) is None else record[key] for record in records], dtype=np.float64)


def _finite(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points whose value is a number: a run that diverged, or left a score out, still has a curve."""
    keep = np.isfinite(y)
    return x[keep], y[keep]


def _binned(x: np.ndarray, y: np.ndarray, bins: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Means over at most ``bins`` runs of neighbors: a noisy curve that can be read."""
    x, y = _finite(x, y)
    parts = np.array_split(np.arange(len(x)), min(bins, len(x))) if len(x) else []
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])
