"""Charts of how sure a figure is: intervals of several runs, and how far probabilities can be trusted.

Plain numbers in, a :class:`~regard.explain.figures.svg.Chart` out, drawn like those of :mod:`regard.report.charts`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regard.calibration.reliability import Reliability
from regard.calibration.similarity import Calibration
from regard.explain.figures.svg import Chart, plain_text
from regard.explain.figures.ticks import percent_ticks
from regard.report.charts import DASHES, FONT, HEIGHT, INK, LINE, MUTED, SERIES, SURFACE, WIDTH, _dress

__all__ = ["interval_chart", "png", "reliability_chart"]

SURE = 0.05
"""p below which a difference is drawn as one."""

Ends = tuple[float, ...]
"""A value and the ends of its interval: (value, low, high), fractions."""


def interval_chart(
    figures: Mapping[str, Mapping[str, Ends]],
    differences: Mapping[str, Mapping[str, Ends]] | None = None,
    baseline: str = "",
    chances: Mapping[str, Mapping[str, float]] | None = None,
) -> Chart | None:
    """Every run's figures with their intervals, and below them the differences to one of the runs.

    Args:
        figures: run -> figure -> (value, low, high).
        differences: run -> figure -> (value, low, high) of the run minus the baseline.
        baseline: what the differences are to.
        chances: run -> figure -> p of the difference, as the table says it; a difference is drawn solid where p is
            below ``SURE``. None takes those for sure whose interval leaves zero out.

    Returns:
        The chart, None where there is no run.
    """
    if not figures:
        return None
    names = list(next(iter(figures.values())))
    sure = {
        label: {
            name: chances[label][name] < SURE if chances else ends[1] > 0 or ends[2] < 0 for name, ends in found.items()
        }
        for label, found in (differences or {}).items()
    }
    panels = [(figures, "{}", False)]
    if differences:
        panels.append((differences, "{} minus " + baseline, True))
    rows = [max(len(part), 1) for part, _, _ in panels]
    drawing = Figure(figsize=(2.1 + 2.3 * len(names), 0.62 * len(panels) + 0.3 * sum(rows) + 0.25))
    grid = drawing.subplots(len(panels), len(names), squeeze=False, sharey="row", height_ratios=rows)
    for line, (part, title, signed) in zip(grid, panels):
        for axes, name in zip(line, names):
            solid = {label: not signed or sure[label][name] for label in part}
            _forest(axes, {label: found[name] for label, found in part.items()}, solid, signed=signed)
            axes.set_title(title.format(name), loc="left", fontsize=FONT, color=INK, pad=6)
    if differences:
        rule = f"p < {SURE:g} in the table" if chances else "the interval leaves zero out"
        grid[-1, 0].set_xlabel(f"solid: {rule}", loc="left", fontsize=FONT, color=MUTED)
    drawing.tight_layout(w_pad=1.6, h_pad=1.2)
    best = {name: max(found[name][0] for found in figures.values()) for name in names}
    holders = {name: [label for label in figures if figures[label][name][0] == best[name]] for name in names}
    parts = [f"{name} is highest for {' and '.join(holders[name])} ({100 * best[name]:.1f} %)" for name in names]
    return Chart("intervals", "Figures with their intervals", "; ".join(parts) + ".", drawing)


def png(chart: Chart) -> bytes:
    """The chart as a PNG file on a light ground."""
    buffer = io.BytesIO()
    with plain_text(chart.figure):
        chart.figure.savefig(buffer, format="png", dpi=160, facecolor=SURFACE, metadata={"Software": None})
    return buffer.getvalue()


def _forest(axes: Axes, rows: Mapping[str, Ends], solid: Mapping[str, bool], *, signed: bool) -> None:
    """One line per run, the first on top: a bar from low to high and a point at the value, in % or points."""
    for place, (label, (value, low, high)) in enumerate(rows.items()):
        color = SERIES[0] if solid[label] else MUTED
        axes.plot([100 * low, 100 * high], [place, place], color=color, lw=2, solid_capstyle="butt")
        axes.plot(100 * value, place, "o", ms=6, color=color, mfc=color if solid[label] else SURFACE)
    if signed:
        axes.axvline(0, color=INK, lw=1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="x", color=LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=FONT)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    if signed:
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:+g}" if x else "0")
    else:
        percent_ticks(axes.xaxis)


def reliability_chart(found: Reliability, calibration: Calibration) -> Chart:
    """Left, probabilities beside what happened; right, the curve they come from, at two priors.

    Args:
        found: bins with intervals.
        calibration: the curve, and its thresholds.
    """
    drawing = Figure(figsize=(2 * WIDTH - 2.6, HEIGHT))
    left, right = drawing.subplots(1, 2, width_ratios=[1, 1.15])
    left.plot([0, 100], [0, 100], color=MUTED, lw=1, ls=(0, (1, 2)))
    predicted, observed, low, high = (
        100 * values for values in (found.predicted, found.observed, found.low, found.high)
    )
    left.vlines(predicted, low, high, color=SERIES[0], lw=1.5)
    left.plot(predicted, observed, "o", ms=5, color=SERIES[0], clip_on=False, zorder=5)
    _dress(left, "pairs that show one person", "probability given")
    percent_ticks(left.xaxis)
    left.set_xlim(0, 100)
    left.set_xticks([20, 40, 60, 80, 100])
    left.annotate(f"ECE {100 * found.ece:.1f} %", (0.05, 0.92), xycoords="axes fraction", fontsize=FONT, color=INK)
    lowest, highest = calibration.knots[[0, -1], 0]
    similarity = np.linspace(lowest, highest, 300)
    for i, prior in enumerate((calibration.prior, calibration.prior / 50)):
        probability = 100 * calibration.probability(similarity, prior=prior)
        right.plot(similarity, probability, color=SERIES[i], lw=2, ls=DASHES[i], label=f"prior {prior:g}")
    named = -np.inf
    for threshold in sorted(calibration.thresholds, key=lambda one: one.similarity):
        right.axvline(threshold.similarity, color=MUTED, lw=1, ls=(0, (1, 2)))
        if threshold.similarity - named > 0.11 * (highest - lowest):
            named = threshold.similarity
            right.annotate(f"{100 * threshold.rate:g} %", (named, 1.02), xycoords=("data", "axes fraction"),
                           ha="center", fontsize=FONT - 1, color=MUTED)  # fmt: skip
    _dress(right, "", "similarity (dotted: thresholds by false-alarm rate)")
    right.legend(loc="upper left", frameon=False, fontsize=FONT, labelcolor=INK)
    for axes in (left, right):
        axes.set_ylim(0, 100)
        percent_ticks(axes.yaxis)
    drawing.subplots_adjust(left=0.08, right=0.97, top=0.89, bottom=0.17, wspace=0.22)
    summary = (
        f"Probabilities are off by {100 * found.ece:.1f} points on average (95 % interval {100 * found.ece_low:.1f} to "
        f"{100 * found.ece_high:.1f}) for people left out of the fit, at a prior of {found.prior:g}."
    )
    return Chart("reliability", "Probabilities beside what happened, and the curve they come from", summary, drawing)
