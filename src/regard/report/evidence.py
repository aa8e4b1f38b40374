"""Charts that commands write beside their numbers: intervals, probabilities, worse pictures, epochs.

Plain numbers in, a :class:`~regard.explain.figures.svg.Chart` out, drawn like those of :mod:`regard.report.charts`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from regard.calibration.reliability import Reliability
from regard.calibration.similarity import Calibration
from regard.explain.figures import draw
from regard.explain.figures.svg import INK, MUTED, SERIES, SURFACE, Chart, plain_text

__all__ = ["epochs_chart", "interval_chart", "reliability_chart", "robustness_chart"]

SURE = 0.05
"""p below which a difference is drawn as one."""

Ends = tuple[float, ...]
"""A value and the ends of its interval: (value, low, high), fractions."""

Figures = Mapping[str, float]
"""By name, as fractions."""

Curve = Sequence[tuple[int, Figures]]
"""Epochs, ascending, with their figures."""

WORSE, BY_EPOCH = ("mAP", "rank-1", "mINP"), ("mAP", "rank-1", "rank-5", "rank-10")
"""Figures that are drawn of worse pictures, and over epochs."""

HEAT = LinearSegmentedColormap.from_list("heat", [SURFACE, SERIES[0]])
CURVES = {"resolution": "height of the stored picture in pixels", "occlusion": "share of the picture covered"}
TITLE = 34
"""Letters of a line above a plot of intervals."""

ROW, CELL, NAMES, CURVE = 0.21, 0.52, 1.45, 0.85 * draw.WIDTH  # inches


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
    panels = [(figures, "", False)] + ([(differences, f" minus {baseline}", True)] if differences else [])
    rows = [max(len(part), 1) for part, _, _ in panels]
    drawing = Figure(figsize=(2.1 + 2.3 * len(names), 0.62 * len(panels) + 0.3 * sum(rows) + 0.25))
    grid = drawing.subplots(len(panels), len(names), squeeze=False, sharey="row", height_ratios=rows)
    for line, (part, rest, signed) in zip(grid, panels):
        for axes, name in zip(line, names):
            ends = {label: found[name] for label, found in part.items()}
            solid = {
                label: not signed or (chances[label][name] < SURE if chances else low > 0 or high < 0)
                for label, (_, low, high) in ends.items()
            }
            _forest(axes, ends, solid, signed=signed)
            axes.set_title(textwrap.fill(name + rest, TITLE), loc="left", fontsize=draw.FONT, color=INK, pad=6)
    if differences:
        rule = f"p < {SURE:g} in the table" if chances else "the interval leaves zero out"
        grid[-1, 0].set_xlabel(f"solid: {rule}", loc="left", fontsize=draw.FONT, color=MUTED)
    with plain_text(drawing):
        drawing.tight_layout(w_pad=1.6, h_pad=1.2)
    best = {name: max(found[name][0] for found in figures.values()) for name in names}
    holders = {name: [label for label in figures if figures[label][name][0] == best[name]] for name in names}
    parts = [f"{name} is highest for {' and '.join(holders[name])} ({100 * best[name]:.1f} %)" for name in names]
    return Chart("intervals", "Figures with their intervals", "; ".join(parts) + ".", drawing)


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
    draw.plain_axes(axes, "x")
    axes.tick_params(axis="y", labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    if signed:
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:+g}" if x else "0")
    else:
        draw.percent_ticks(axes.xaxis)


def reliability_chart(found: Reliability, calibration: Calibration) -> Chart:
    """Left, probabilities beside what happened; right, the curve they come from, at two priors.

    Args:
        found: bins with intervals.
        calibration: the curve, and its thresholds.
    """
    drawing = Figure(figsize=(2 * draw.WIDTH - 2.6, draw.HEIGHT))
    left, right = drawing.subplots(1, 2, width_ratios=[1, 1.15])
    left.plot([0, 100], [0, 100], color=MUTED, lw=1, ls=draw.DOTTED)
    predicted = 100 * found.predicted
    left.vlines(predicted, 100 * found.low, 100 * found.high, color=SERIES[0], lw=1.5)
    left.plot(predicted, 100 * found.observed, "o", ms=5, color=SERIES[0], clip_on=False, zorder=5)
    draw.dress(left, "pairs that show one person", "probability given")
    draw.percent_ticks(left.xaxis)
    left.set_xlim(0, 100)
    left.set_xticks([20, 40, 60, 80, 100])
    left.annotate(f"ECE {100 * found.ece:.1f} %", (0.05, 0.92), xycoords="axes fraction", fontsize=draw.FONT, color=INK)
    lowest, highest = calibration.knots[[0, -1], 0]
    similarity = np.linspace(lowest, highest, 300)
    for i, prior in enumerate((calibration.prior, calibration.prior / 50)):
        probability = 100 * calibration.probability(similarity, prior=prior)
        right.plot(similarity, probability, color=SERIES[i], lw=2, ls=draw.DASHES[i], label=f"prior {prior:g}")
    named = -np.inf
    for threshold in sorted(calibration.thresholds, key=lambda one: one.similarity):
        right.axvline(threshold.similarity, color=MUTED, lw=1, ls=draw.DOTTED)
        if threshold.similarity - named > 0.11 * (highest - lowest):
            named = threshold.similarity
            right.annotate(f"{100 * threshold.rate:g} %", (named, 1.02), xycoords=("data", "axes fraction"),
                           ha="center", fontsize=draw.FONT - 1, color=MUTED)  # fmt: skip
    draw.dress(right, "", "similarity (dotted: thresholds by false-alarm rate)")
    right.legend(loc="upper left", frameon=False, fontsize=draw.FONT, labelcolor=INK)
    for axes in (left, right):
        axes.set_ylim(0, 100)
        draw.percent_ticks(axes.yaxis)
    drawing.subplots_adjust(left=0.08, right=0.97, top=0.89, bottom=0.17, wspace=0.22)
    summary = (
        f"Probabilities are off by {100 * found.ece:.1f} points on average (95 % interval {100 * found.ece_low:.1f} to "
        f"{100 * found.ece_high:.1f}) for people left out of the fit, at a prior of {found.prior:g}."
    )
    return Chart("reliability", "Probabilities beside what happened, and the curve they come from", summary, drawing)


def robustness_chart(found: Mapping[str, Any], clean: Figures) -> Chart | None:
    """What one side made worse does to accuracy.

    Args:
        found: ``kinds`` (kind -> severity -> figures) and their ``mean``, ``resolution`` (pixels -> figures),
            ``occlusion`` (share -> figures), each where it was measured; keys of levels are texts.
        clean: of the pictures as they are.

    Returns:
        The chart, None where nothing was measured that it could show.
    """
    kinds = found.get("kinds", {})
    curves = {name: found[name] for name in CURVES if name in found}
    if not kinds and not curves:
        return None
    table = NAMES + CELL * len(next(iter(kinds.values()))) + 0.3 if kinds else 0.0
    below = ROW * len(kinds) + 0.65 if kinds else 0.0
    stacked = len(curves) if curves and below > 1.4 * draw.HEIGHT else 1
    tall = max(below, 0.75 * draw.HEIGHT * stacked if stacked > 1 else draw.HEIGHT * bool(curves))
    wide = table + CURVE * -(-len(curves) // stacked)
    drawing = Figure(figsize=(wide, tall))
    said = [] if kinds else [f"mAP is {100 * clean['mAP']:.1f} % on pictures as they are"]
    if kinds:
        left, bottom = NAMES / wide, 1 - (0.5 + ROW * len(kinds)) / tall
        room = (left, bottom, (table - NAMES - 0.3) / wide, ROW * len(kinds) / tall)
        _heat(drawing.add_axes(room), kinds, clean)
        mean = found["mean"]["mAP"]
        turn = "falls" if mean < clean["mAP"] else "goes"
        said.append(f"mAP {turn} from {100 * clean['mAP']:.1f} % to {100 * mean:.1f} % on average")
    each = min(draw.HEIGHT, tall / stacked)
    for place, (name, points) in enumerate(curves.items()):
        column, line = divmod(place, stacked)
        start, top = table + CURVE * column + 0.6, tall - each * line - 0.5
        room = (start / wide, (top - each + 1) / tall, (CURVE - 0.8) / wide, (each - 1) / tall)
        _curve(drawing.add_axes(room), name, points, clean)
        level, last = list(points.items())[-1]
        unit = f"{level} pixels" if name == "resolution" else f"{100 * float(level):.12g} % covered"
        said.append(f"with {unit} it is {100 * last['mAP']:.1f} %")
    return Chart("robustness", "Accuracy on worse pictures", "; ".join(said) + ".", drawing)


def _heat(axes: Axes, kinds: Mapping[str, Mapping[str, Figures]], clean: Figures) -> None:
    """mAP of kinds by severities, in %, colored by the share of the clean one that is left."""
    values = np.array([[one["mAP"] for one in levels.values()] for levels in kinds.values()])
    axes.imshow(values, cmap=HEAT, vmin=0, vmax=max(clean["mAP"], 1e-9), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = value > 0.55 * clean["mAP"]
        axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center_baseline", fontsize=draw.FONT - 1,
                  color=SURFACE if dark else INK)  # fmt: skip
    axes.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    axes.set_xticks(range(values.shape[1]), list(next(iter(kinds.values()))))
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=draw.FONT)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.spines[:].set_visible(False)
    start = -(NAMES - 0.1) / (CELL * values.shape[1])
    title = f"mAP by severity, clean {100 * clean['mAP']:.1f} %"
    axes.set_title(title, loc="left", x=start, fontsize=draw.FONT, color=MUTED)


def _curve(axes: Axes, name: str, points: Mapping[str, Figures], clean: Figures) -> None:
    """mAP, rank-1 and mINP over the levels of a sweep; dotted, the clean ones."""
    levels = [float(level) for level in points]
    for i, figure in enumerate(WORSE):
        values = [100 * one[figure] for one in points.values()]
        axes.axhline(100 * clean[figure], color=SERIES[i], lw=1, ls=draw.DOTTED)
        axes.plot(
            levels, values, color=SERIES[i], lw=2, ls=draw.DASHES[i], marker="o", ms=3.5, label=figure, clip_on=False
        )
    draw.dress(axes, "dotted: clean", CURVES[name])
    axes.set_ylim(0, 100)
    draw.percent_ticks(axes.yaxis)
    if name == "resolution":
        axes.set_xscale("log", base=2)
        axes.set_xticks(levels, list(points))
        axes.minorticks_off()
        axes.invert_xaxis()
    else:
        draw.percent_ticks(axes.xaxis, whole=1)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=len(WORSE), frameon=False, fontsize=draw.FONT,
                labelcolor=INK, borderaxespad=0, columnspacing=1.2, handlelength=1.8)  # fmt: skip


def epochs_chart(curves: Mapping[str, Curve]) -> Chart:
    """mAP, rank-1, rank-5 and rank-10 over epochs, one plot for each data set, all to one scale.

    Args:
        curves: what a data set is called -> what was found on it, at least one epoch.
    """
    figure = Figure(figsize=(1.3 * draw.WIDTH, draw.HEIGHT * len(curves)))
    plots = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
    lowest = min(row[name] for curve in curves.values() for _, row in curve for name in BY_EPOCH)
    floor = 20 * max(0, int(100 * lowest - 5) // 20)
    labels = list(curves) if len(curves) > 1 else [""]
    ends = [_draw(axes, label, curve, floor) for axes, label, curve in zip(plots, labels, curves.values())]
    inch = 1 / figure.get_figheight()
    right = min(draw.beside(figure, each) for each in ends)
    figure.subplots_adjust(left=0.08, right=right, top=1 - 0.35 * inch, bottom=0.52 * inch, hspace=0.45)
    for axes, each in zip(plots, ends):
        draw.label_ends(axes, each)
    said = []
    for label, curve in curves.items():
        epoch, row = max(curve, key=lambda point: point[1]["mAP"])
        whose = f" on {label}" if len(curves) > 1 else ""
        said.append(f"mAP{whose} is highest after epoch {epoch}: {100 * row['mAP']:.1f} %")
    return Chart("epochs", "Accuracy of the networks kept, by epoch", "; ".join(said) + ".", figure)


def _draw(axes: Axes, label: str, curve: Curve, floor: int) -> list[tuple[float, str, str]]:
    """Draw one data set; returns what its curves end with: the value, its name, the color."""
    epochs = np.array([epoch for epoch, _ in curve])
    ends = []
    for i, name in enumerate(BY_EPOCH):
        values = np.array([100 * row[name] for _, row in curve])
        draw.line(axes, epochs, values, i, marker="o")
        ends.append((float(values[-1]), f"{name} {values[-1]:.1f} %", SERIES[i]))
    draw.dress(axes, label, "epoch")
    axes.set_ylim(floor, 100)
    apart = max(int(epochs[-1] - epochs[0]), 1)
    axes.set_xlim(epochs[0] - 0.02 * apart, epochs[-1] + 0.01 * apart)
    draw.percent_ticks(axes.yaxis)
    locator = FixedLocator([curve[0][0]]) if len(curve) == 1 else MaxNLocator(8, integer=True, steps=[1, 2, 5, 10])
    axes.xaxis.set_major_locator(locator)
    return ends
