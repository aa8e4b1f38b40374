"""Axes of charts: one base line, curves named where they end, and numbers that say their place to the last digit.

Of one axis all numbers are written alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter

from regard.explain.figures.svg import INK, LINE, MUTED, SERIES, text_width

__all__ = [
    "DASHES",
    "DOTTED",
    "FONT",
    "HEIGHT",
    "LEFT",
    "WIDTH",
    "Ends",
    "beside",
    "dress",
    "label_ends",
    "legend",
    "line",
    "name_ends",
    "number_ticks",
    "percent_ticks",
    "plain_axes",
    "plot",
    "short_number",
    "tips_at",
]

WIDTH, HEIGHT = 5.0, 3.2  # inches; 360 x 230 units of the SVG, about the pixels of a phone
FONT, LEFT = 9.5, 0.105
DASHES = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (8, 2))]
DOTTED: Any = (0, (1, 2))

Ends = Sequence[tuple[float, str, str]]
"""What curves end with: the value, its name, the color."""

EXACT = 1e-6
"""What a label may be off by, as a share of the largest one: rounding of floats, nothing that is seen."""


def plot(size: tuple[float, float] = (WIDTH, HEIGHT)) -> tuple[Figure, Axes]:
    """A figure of that many inches with one plot in it."""
    figure = Figure(figsize=size)
    return figure, figure.subplots()


def plain_axes(axes: Axes, grid: str, size: float = FONT) -> None:
    """Grid lines across one axis, a base line, and no other frame."""
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis=grid, color=LINE, lw=0.8)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=size)


def dress(axes: Axes, unit: str, below: str = "", *, bottom: bool = True) -> None:
    """Horizontal grid, one base line, the unit above the axis instead of along it."""
    plain_axes(axes, "y")
    axes.tick_params(labelbottom=bottom)
    axes.set_title(unit, loc="left", fontsize=FONT, color=MUTED, pad=8)
    if below:
        axes.set_xlabel(below, color=MUTED, fontsize=FONT)


def line(axes: Axes, x: np.ndarray, y: np.ndarray, i: int, gid: str = "", *, marker: str = "") -> None:
    """The i-th series of a chart, the first one strongest; with a gid, a tooltip target at every point."""
    color = SERIES[i % len(SERIES)]
    axes.plot(x, y, color=color, lw=2.2 if i == 0 else 1.5, ls=DASHES[i % len(DASHES)], marker=marker, ms=3.5,
              clip_on=False, zorder=5 - i)  # fmt: skip
    if gid:
        tips_at(axes, x, y, gid, color)


def tips_at(axes: Axes, x: np.ndarray, y: np.ndarray, gid: str, color: str) -> None:
    """Invisible disks that the page shows when they are pointed at."""
    axes.scatter(x, y, s=60, color=color, alpha=0, lw=0, gid=gid, clip_on=False, zorder=9)


def legend(axes: Axes, handles: list[tuple[Any, str]]) -> None:
    """Areas and their names above the plot."""
    artists, labels = zip(*handles)
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.legend(artists, labels, loc="upper left", frameon=False, fontsize=FONT, labelcolor=INK,
                  ncols=min(2, len(labels)), bbox_to_anchor=(LEFT * WIDTH / figure.get_figwidth(), 0.99),
                  handlelength=1.7, columnspacing=1.6, borderaxespad=0, borderpad=0)  # fmt: skip


def name_ends(axes: Axes, ends: Ends, left: float = LEFT, **room: float) -> None:
    """Lay the figure out so that its curves' names have room behind them, and write these."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.subplots_adjust(left=left, right=beside(figure, ends), top=0.9, bottom=0.16, **room)
    label_ends(axes, ends)


def beside(figure: Figure, ends: Ends) -> float:
    """Where curves have to end, as a share of the width, so that their names have room behind them."""
    wide = max((text_width(text, FONT) for _, text, _ in ends), default=0.0)
    return min(0.83, 1 - (wide + 0.13) / figure.get_figwidth())


def label_ends(axes: Axes, ends: Ends) -> None:
    """Name each curve where it ends, moved apart where they would overlap."""
    gap = 12 / (axes.get_window_extent().height * 72 / axes.figure.dpi)
    to_axes = axes.transData + axes.transAxes.inverted()
    places = []
    for value, text, color in sorted(ends):
        y = float(to_axes.transform((1, value))[1])
        places.append([max(y, places[-1][0] + gap) if places else y, text, color])
    ceiling = min(places[-1][0], 1)
    for place in reversed(places):
        place[0] = ceiling = min(place[0], ceiling)
        ceiling -= gap
    for y, text, color in places:
        axes.annotate(text, (1, y), xycoords="axes fraction", xytext=(7, 0), textcoords="offset points",
                      va="center_baseline", fontsize=FONT, color=color, annotation_clip=False)  # fmt: skip


class _Ticks(Formatter):
    """Labels that are decided together: told all places of the axis before each is written."""

    places: Sequence[float] = ()

    def set_locs(self, locs: Any) -> None:
        """Take the places of the axis."""
        self.places = [float(place) for place in locs]


class _Percent(_Ticks):
    """Percent with as many decimals as the ticks need."""

    def __init__(self, whole: float):
        self.scale = 100 / whole

    def __call__(self, x: float, pos: int | None = None) -> str:
        values = [self.scale * place for place in self.places or [x]]
        return f"{self.scale * x + 0.0:.{_decimals(values)}f} %"


class _Number(_Ticks):
    """Numbers, all of them as powers of ten where the smallest would have many zeros."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        sizes = [abs(place) for place in self.places or [x] if place]
        return _power(x) if min(sizes, default=1) < 0.001 else f"{x + 0.0:.10g}"


def percent_ticks(axis: Axis, whole: float = 100) -> None:
    """Label an axis in percent.

    Args:
        axis: ``axes.xaxis`` or ``axes.yaxis``.
        whole: what 100 % is on it.
    """
    axis.set_major_formatter(_Percent(whole))


def number_ticks(axis: Axis) -> None:
    """Label an axis with plain numbers, such as learning rates, in one way of writing."""
    axis.set_major_formatter(_Number())


def short_number(value: float) -> str:
    """A number in at most three digits, small ones as powers of ten."""
    return _power(float(f"{value:.2e}")) if 0 < abs(value) < 0.001 else f"{value:.3g}"


def _power(value: float) -> str:
    if not value:
        return "0"
    digits, _, exponent = f"{value:.9e}".partition("e")
    return f"{float(digits):.10g}e{int(exponent)}"


def _decimals(values: list[float]) -> int:
    """The fewest decimals, up to six, that say all the values."""
    allowed = EXACT * max(map(abs, values))
    exact = (decimals for decimals in range(6) if all(abs(round(v, decimals) - v) <= allowed for v in values))
    return next(exact, 6)
