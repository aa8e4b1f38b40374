"""Curves of what runs score over the doses of causes: a row for each cause.

Plain numbers in, a :class:`~regard.explain.figures.svg.Chart` out, drawn like those of :mod:`regard.report.charts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regard.explain.figures import draw
from regard.explain.figures.svg import INK, MUTED, SERIES, Chart

__all__ = ["DoseLine", "dose_chart"]

Ends = tuple[float, ...]
"""A value and the ends of its interval: (value, low, high), fractions."""

PANEL = (2.5, 1.75)  # inches
ATTENTION = "attention"


class DoseLine(NamedTuple):
    """One group of runs over the doses of a cause.

    Attributes:
        label: of the group.
        doses: from 0.
        figures: name -> its ends at each dose; "mAP" and "rank-1", and "attention" with "chance" where there is any.
        gap: ends of the mAP minus the baseline's at each dose; empty for the baseline.
    """

    label: str
    doses: Sequence[float]
    figures: Mapping[str, Sequence[Ends]]
    gap: Sequence[Ends]


def dose_chart(causes: Mapping[str, Sequence[DoseLine]], baseline: str, said: Sequence[str]) -> Chart:
    """mAP, rank-1, the difference from the baseline and attention, each with the band of its intervals.

    Args:
        causes: name -> the lines of its groups, in one order, at least one.
        baseline: label of the group that others are compared with.
        said: sentences below the chart for those who do not see it.
    """
    first = next(iter(causes.values()))
    panels = ["mAP", "rank-1"]
    panels += [f"mAP minus {baseline}"] if any(line.gap for line in first) else []
    looked = any(ATTENTION in line.figures for lines in causes.values() for line in lines)
    panels += ["attention on the person"] if looked else []
    names = [line.label for line in first]
    key = 0.2 * -(-len(names) // 3) + 0.25
    height = PANEL[1] * len(causes) + key + 0.45
    figure = Figure(figsize=(PANEL[0] * len(panels) + 0.75, height))
    grid = figure.subplots(len(causes), len(panels), squeeze=False, sharex=True, sharey="col")
    for row, (cause, lines) in zip(grid, causes.items()):
        for axes, panel in zip(row, panels):
            _panel(axes, panel, lines)
        row[0].set_ylabel(cause, fontsize=draw.FONT + 1, color=INK)
    for axes, panel in zip(grid[0], panels):
        axes.set_title(panel, loc="left", fontsize=draw.FONT, color=MUTED, pad=6)
    for axes in grid[-1]:
        axes.set_xlabel("dose", fontsize=draw.FONT, color=MUTED)
    for axes, panel in zip(grid[0], panels):
        if "minus" in panel:
            axes.yaxis.set_major_formatter(lambda y, _: f"{y:+g}" if y else "0")
        else:
            draw.percent_ticks(axes.yaxis)
    handles = [grid[0, 0].get_lines()[place] for place in range(len(names))]
    figure.legend(handles, names, loc="lower left", ncols=3, frameon=False, fontsize=draw.FONT, labelcolor=INK,
                  bbox_to_anchor=(0.01, 0.0), borderaxespad=0.3)  # fmt: skip
    figure.subplots_adjust(left=0.75 / figure.get_figwidth(), right=0.985, bottom=(key + 0.4) / height,
                           top=1 - 0.3 / height, wspace=0.28, hspace=0.16)  # fmt: skip
    return Chart("doses", "What causes take, dose by dose", " ".join(f"{line}." for line in said), figure)


def _panel(axes: Axes, panel: str, lines: Sequence[DoseLine]) -> None:
    """One figure of one cause, every group's."""
    for place, line in enumerate(lines):
        minus, looked = "minus" in panel, panel.startswith(ATTENTION)
        ends = line.gap if minus else line.figures.get(ATTENTION if looked else panel, ())
        if minus and not ends:
            axes.axhline(0, color=SERIES[0], lw=2.2)
        if len(ends):
            _curve(axes, line.doses, ends, place, band=minus or len(lines) < 4)
        if looked and "chance" in line.figures and place == len(lines) - 1:
            axes.plot(line.doses, [100 * end[0] for end in line.figures["chance"]], color=MUTED, lw=1, ls=draw.DOTTED)
    draw.plain_axes(axes, "y")
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))


def _curve(axes: Axes, doses: Sequence[float], ends: Sequence[Ends], place: int, *, band: bool) -> None:
    """One line, in % or points, with the band of its intervals where that can be told apart."""
    value, low, high = 100 * np.array(ends, float).T
    draw.line(axes, np.asarray(doses), value, place)
    if band:
        axes.fill_between(doses, low, high, color=SERIES[place % len(SERIES)], alpha=0.12, lw=0)
