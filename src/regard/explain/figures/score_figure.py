"""Explanation scores as a figure: a row per network, curves on the left, bars with intervals on the right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regard.explain.figures.draw import DASHES, DOTTED, plain_axes
from regard.explain.figures.map_figures import FONT, SMALL, canvas
from regard.explain.figures.svg import INK, MUTED, SERIES
from regard.explain.heat_methods import CONTROLS, METHODS
from regard.explain.perturbation import FILLS, FRACTIONS
from regard.explain.scores import ExplanationScores

__all__ = ["score_figure"]

ROW, WIDTH, HEAD = 2.9, 13.0, 0.3  # inches
COLORS = [SERIES[place] for place in (0, 1, 3, 4)]
"""Without the gray, which is that of the controls."""
CURVES = {"insertion": "inserted", "deletion": "deleted"}
LEAST = 0.02
"""Gain that axes reach at least, up and down: ticks of smaller ones have more digits than there is room for."""

BARS = (
    ("insertion", "deletion", "area to random, x 100"),
    ("share", "hit", "% on the person"),
    ("twins share", "twins hit", "% on what twins differ in"),
)
"""Figure drawn strong, figure drawn pale, and what they are."""


def score_figure(scores: Sequence[ExplanationScores]) -> Figure:
    """Draw what :func:`~regard.explain.scores.score_explanations` found, of one or several networks."""
    figure = canvas(WIDTH, HEAD + ROW * len(scores))
    for row, one in enumerate(scores):
        names, looks = list(one.methods), {name: _look(name) for name in one.methods}
        bottom = (figure.get_figheight() - HEAD - ROW * (row + 1) + 0.5) / figure.get_figheight()
        height = (ROW - 1.0) / figure.get_figheight()
        lefts = (0.03, 0.21, 0.465, 0.65, 0.835)
        rooms = [figure.add_axes((left, bottom, 0.15, height)) for left in lefts]
        above = bottom + 1.17 * height
        figure.text(0.012, above, one.label, va="bottom", fontsize=FONT + 2, color=INK, weight="bold")
        for axes, (figure_name, side) in zip(rooms, CURVES.items()):
            _gain(axes, one, side, 1 if side == "inserted" else -1, looks)
            axes.set_title(f"{figure_name}: gain on random orders", loc="left", fontsize=SMALL, color=MUTED)
        for place, (axes, (strong, pale, title)) in enumerate(zip(rooms[2:], BARS)):
            chance = one.chance.get({1: "person", 2: "twins"}.get(place, ""))
            _bars(axes, one, (strong, pale), looks, chance.value if chance else 0.0)
            axes.set_title(title, loc="left", fontsize=SMALL, color=MUTED)
            axes.set_yticks(range(len(names)), [_named(one, name) for name in names] if place == 0 else [])
            for label, name in zip(axes.get_yticklabels(), names):
                label.set(color=looks[name][0], fontsize=SMALL)
    note = (
        "dark bar: insertion, share; pale bar: deletion, hit; whiskers: 95 % interval; dotted: chance; "
        "✗ fails the sanity checks; center and edges are controls"
    )
    figure.text(0.012, 1 - 0.12 / figure.get_figheight(), note, va="top", fontsize=SMALL, color=MUTED)
    return figure


def _look(name: str) -> tuple[str, str]:
    """Color and dash of a method, the same wherever it is drawn."""
    if name in CONTROLS:
        return MUTED, DASHES[list(CONTROLS).index(name)]
    place = list(METHODS).index(name)
    return COLORS[place % len(COLORS)], DASHES[place // len(COLORS)]


def _named(one: ExplanationScores, name: str) -> str:
    return f"✗ {name}" if one.methods[name].faults else name


def _gain(axes: Axes, one: ExplanationScores, side: str, sign: int, looks: dict[str, tuple[str, str]]) -> None:
    """Curves of the similarity against those of random orders, the mean of both fills; the score is the area."""
    axes.axhline(0, color=MUTED, lw=1, ls=DOTTED)
    for name, method in one.methods.items():
        rows = [method.curves[f"{side} {fill}"] - method.curves[f"random {side} {fill}"] for fill in FILLS]
        color, dash = looks[name]
        axes.plot(100 * np.array(FRACTIONS), sign * np.mean(rows, axis=0), color=color, ls=dash, lw=1.5)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -LEAST), max(high, LEAST))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    plain_axes(axes, "y", SMALL)
    axes.set_xlabel(f"% of the pixels {side}", fontsize=SMALL, color=MUTED)


def _bars(
    axes: Axes, one: ExplanationScores, pair: tuple[str, str], looks: dict[str, tuple[str, str]], chance: float
) -> None:
    """Two bars a method, each with its interval."""
    for line, (name, method) in enumerate(one.methods.items()):
        for offset, figure, alpha in ((-0.2, pair[0], 0.9), (0.2, pair[1], 0.4)):
            found = method.figures.get(figure)
            if found is None:
                continue
            axes.barh(line + offset, 100 * found.value, 0.36, color=looks[name][0], alpha=alpha, lw=0)
            axes.plot([100 * found.low, 100 * found.high], [line + offset] * 2, color=INK, lw=0.8)
    if chance:
        axes.axvline(100 * chance, color=INK, lw=1, ls=DOTTED)
    axes.set_ylim(len(one.methods) - 0.5, -0.5)
    plain_axes(axes, "x", SMALL)
