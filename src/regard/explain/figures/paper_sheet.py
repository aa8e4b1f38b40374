"""Sheets for papers: a grid of pictures, systems and levels, with the names in the margins.

A line per picture; a column for the picture itself, then one group of columns per system with one column per level. As
PNG, SVG or PDF (:func:`~regard.explain.figures.map_figures.figure_bytes`), names are text and maps are pictures of the
dpi asked for, so that nothing is blurred by enlarging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from regard.errors import DataError
from regard.explain.figures.map_figures import (
    FONT,
    INK,
    LINE,
    MUTED,
    SMALL,
    canvas,
    leveled,
    place,
    proportions,
    say_if_empty,
    show,
    wrapped,
)
from regard.explain.figures.overlay import Picture, heat_over, open_picture

__all__ = ["paper_sheet"]

HEAD, GAP, BETWEEN = 0.42, 0.05, 0.16


def paper_sheet(
    pictures: Sequence[Picture],
    systems: Mapping[str, Mapping[str, np.ndarray]],
    *,
    width: float = 7.0,
    dpi: int = 300,
    labels: Sequence[str] | None = None,
    note: str = "",
) -> Figure:
    """Lay out maps of several systems over several pictures.

    Args:
        pictures: B of them, one line each.
        systems: name of a system -> level -> maps (B, h, w); each is drawn from its lowest to its highest value.
        width: of the sheet in inches; 7 is a page's text, 3.4 a column.
        dpi: dots per inch it will be written with; maps get as many pixels as they have dots.
        labels: what to write before each line.
        note: what to write below, such as what the maps are.

    Raises:
        DataError: no picture or no map, or maps of another number of pictures.
    """
    levels = [(system, level, maps) for system, found in systems.items() for level, maps in found.items()]
    if not pictures or not levels:
        raise DataError("got no picture or no map, wanted at least one of each to lay out")
    for system, level, maps in levels:
        if len(maps) != len(pictures):
            raise DataError(f"{system} {level} has maps of {len(maps)} pictures, the sheet has {len(pictures)}")
    margin = 0.3 if labels else 0.03
    room = width - margin - 0.03 - BETWEEN * len(systems) - GAP * (len(levels) - len(systems))
    cell = room / (1 + len(levels))
    tall = cell / proportions(pictures)
    notes = wrapped(note, width - margin - 0.03, SMALL - 1) if note else []
    figure = canvas(width, HEAD + len(pictures) * (tall + GAP) + (0.07 + 0.13 * len(notes) if note else 0.03))
    pixels = max(1, round(tall * dpi))
    left = margin + cell
    for row, picture in enumerate(pictures):
        axes = place(figure, margin, HEAD + row * (tall + GAP), cell, tall)
        show(axes, open_picture(picture))
        if labels:
            axes.text(-0.08, 0.5, labels[row], transform=axes.transAxes, ha="right", va="center", rotation=90,
                      fontsize=SMALL, color=INK)  # fmt: skip
    for system, found in systems.items():
        left += BETWEEN
        _head(figure, left, len(found) * (cell + GAP) - GAP, system)
        for level, maps in found.items():
            for row, picture in enumerate(pictures):
                axes = place(figure, left, HEAD + row * (tall + GAP), cell, tall)
                show(axes, heat_over(picture, leveled(maps[row]), height=pixels))
                say_if_empty(axes, maps[row])
                if row == 0:
                    axes.set_title(level, fontsize=SMALL, color=INK, pad=2)
            left += cell + GAP
        left -= GAP
    text = "\n".join(notes)
    figure.text(margin / width, 0.05 / figure.get_figheight(), text, va="bottom", fontsize=SMALL - 1, color=MUTED)
    return figure


def _head(figure: Figure, left: float, width: float, name: str) -> None:
    """A system's name above its columns, with a line below it."""
    axes = place(figure, left, 0.02, width, HEAD - 0.2)
    axes.text(0.5, 0.62, name, ha="center", va="center", fontsize=FONT, color=INK, transform=axes.transAxes)
    axes.spines["bottom"].set(visible=True, color=LINE)
