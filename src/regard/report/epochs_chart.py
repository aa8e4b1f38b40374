"""A picture of what the networks of a training reach, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from regard.explain.figures.svg import SERIES, Chart
from regard.explain.figures.ticks import percent_ticks
from regard.report.charts import DASHES, FONT, HEIGHT, WIDTH, _beside, _dress, _label_ends

__all__ = ["epochs_chart"]

DRAWN = ("mAP", "rank-1", "rank-5", "rank-10")

Curve = Sequence[tuple[int, Mapping[str, float]]]
"""Epochs, ascending, with figures by name, as fractions."""


def epochs_chart(curves: Mapping[str, Curve]) -> Chart:
    """mAP, rank-1, rank-5 and rank-10 over epochs, one plot for each data set, all to one scale.

    Args:
        curves: what a data set is called -> what was found on it, at least one epoch.
    """
    figure = Figure(figsize=(1.3 * WIDTH, HEIGHT * len(curves)))
    plots = figure.subplots(len(curves), 1, squeeze=False)[:, 0]
    lowest = min(row[name] for curve in curves.values() for _, row in curve for name in DRAWN)
    floor = 20 * max(0, int(100 * lowest - 5) // 20)
    ends = [
        _draw(axes, label if len(curves) > 1 else "", curve, floor)
        for axes, (label, curve) in zip(plots, curves.items())
    ]
    inch = 1 / figure.get_figheight()
    right = min(_beside(figure, each) for each in ends)
    figure.subplots_adjust(left=0.08, right=right, top=1 - 0.35 * inch, bottom=0.52 * inch, hspace=0.45)
    for axes, each in zip(plots, ends):
        _label_ends(axes, each)
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
    for i, name in enumerate(DRAWN):
        values = np.array([100 * row[name] for _, row in curve])
        axes.plot(epochs, values, color=SERIES[i], lw=2.2 if i == 0 else 1.5, ls=DASHES[i], marker="o", ms=3.5,
                  clip_on=False, zorder=5 - i)  # fmt: skip
        ends.append((float(values[-1]), f"{name} {values[-1]:.1f} %", SERIES[i]))
    _dress(axes, label, "epoch")
    axes.set_ylim(floor, 100)
    apart = max(int(epochs[-1] - epochs[0]), 1)
    axes.set_xlim(epochs[0] - 0.02 * apart, epochs[-1] + 0.01 * apart)
    percent_ticks(axes.yaxis)
    locator = FixedLocator([curve[0][0]]) if len(curve) == 1 else MaxNLocator(8, integer=True, steps=[1, 2, 5, 10])
    axes.xaxis.set_major_locator(locator)
    axes.tick_params(labelsize=FONT)
    return ends
