"""Figures of maps over pictures: two that match, layers of networks, sheets for papers; and one map as pictures.

In a sheet the names are in the margins: a line per picture; a column for the picture itself, then one group of columns
per system with one column per level. As PNG, SVG or PDF (:func:`~regard.explain.figures.map_figures.figure_bytes`),
names are text and maps are pictures of the dpi asked for, so that nothing is blurred by enlarging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from regard.errors import DataError
from regard.explain.features import gray_levels
from regard.explain.figures.map_figures import (
    FONT,
    SMALL,
    canvas,
    caption,
    label_left,
    leveled,
    place,
    proportions,
    range_of,
    say_if_empty,
    scaled,
    wrapped,
)
from regard.explain.figures.overlay import COLORMAP, Picture, heat_over, open_picture, sheet
from regard.explain.figures.svg import INK, LINE, MUTED
from regard.explain.heads import PairHeat

__all__ = ["MapRow", "feature_grid", "feature_pictures", "pair_figure", "paper_sheet"]

CELL, PAIRED, GAP, ABOVE, BELOW, LINE_HEIGHT = 1.7, 1.9, 0.1, 0.26, 0.17, 0.16  # inches
LETTER = 0.075
"""Width of a letter of a label, in inches."""

HEAD, CLOSE, BETWEEN = 0.42, 0.05, 0.16  # inches of a sheet
COLUMNS = 8


class MapRow(NamedTuple):
    """One line of a grid.

    Attributes:
        label: which model and which picture.
        picture: what it saw.
        maps: layer or head -> (h, w).
        notes: layer or head -> what to write above the range of its values.
    """

    label: str
    picture: Picture
    maps: Mapping[str, np.ndarray]
    notes: Mapping[str, str] = {}


def feature_pictures(
    picture: Picture, values: np.ndarray, limits: tuple[float, float] | None = None, height: int = 384
) -> dict[str, Image.Image]:
    """One map as pictures of four kinds.

    Args:
        picture: what the network saw.
        values: (h, w).
        limits: values drawn darkest and brightest; the map's own lowest and highest unless told.
        height: of heat, overlay and panels in pixels.

    Returns:
        ``"gray"`` (one pixel per position), ``"heat"``, ``"overlay"``, and ``"panels"``: picture, heat, overlay.
    """
    low, high = limits or (None, None)
    heat = scaled(values, low, high)
    image = open_picture(picture)
    size = (max(1, round(image.width * height / image.height)), height)
    smooth = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    colors = Image.fromarray((255 * matplotlib.colormaps[COLORMAP](smooth)[..., :3] + 0.5).astype(np.uint8))
    overlay = heat_over(image, heat, height=height)
    panels = sheet([[image.resize(size, Image.Resampling.LANCZOS), colors, overlay]])
    return {"gray": Image.fromarray(gray_levels(values, limits)), "heat": colors, "overlay": overlay, "panels": panels}


def feature_grid(rows: Sequence[MapRow], limits: tuple[float, float] | None = None) -> Figure:
    """A grid: a line per model and picture, a column per layer; the range of values is written below each map.

    Args:
        rows: lines, from the top.
        limits: values drawn darkest and brightest; each map's own lowest and highest unless told.
    """
    places = _columns([layer for row in rows for layer in row.maps])
    width = CELL * proportions([row.picture for row in rows])
    line = ABOVE + CELL + BELOW * (2 if any(row.notes for row in rows) else 1)
    margin = 0.15 + LETTER * max(len(line) for row in rows for line in row.label.split("\n"))
    figure = canvas(margin + (2 + max(places.values())) * (width + GAP), 0.05 + len(rows) * line)
    low, high = limits or (None, None)
    for number, row in enumerate(rows):
        top = number * line + ABOVE
        label_left(place(figure, margin, top, width, CELL, image=open_picture(row.picture)), row.label)
        for layer, values in row.maps.items():
            heat = heat_over(row.picture, scaled(values, low, high))
            axes = place(figure, margin + (1 + places[layer]) * (width + GAP), top, width, CELL, image=heat)
            caption(axes, layer, f"{row.notes.get(layer, '')}\n{range_of(values)}".strip())
    return figure


def _columns(layers: Sequence[str]) -> dict[str, int]:
    """Layer -> its column: a map that no attention follows stands under those of other models before attention."""
    keys = {layer: f"{layer}.before" if f"{layer}.before" in layers else layer for layer in layers}
    stems = {key: key.removesuffix(".after").removesuffix(".before") for key in keys.values()}
    found = list(stems.values())
    order = sorted(stems, key=lambda key: (found.index(stems[key]), key.endswith(".after")))
    return {layer: order.index(key) for layer, key in keys.items()}


def pair_figure(first: Picture, second: Picture, found: Mapping[str, PairHeat], title: str = "") -> Figure:
    """Draw what :func:`~regard.explain.heads.pair_heat` found.

    Args:
        first, second: the pictures.
        found: name of a layer or head -> heat on both.
        title: a line above; who is compared and how similar they are.
    """
    width = PAIRED * proportions([first, second])
    rows = -(-len(found) // (COLUMNS - 1))
    columns = 1 + -(-len(found) // rows)
    blocks = [list(found)[start : start + columns - 1] for start in range(0, len(found), columns - 1)]
    block = ABOVE + 2 * PAIRED + 2 * GAP + 0.14
    across = max(GAP + columns * (width + GAP), 3.2)
    lines = wrapped(title, across - 2 * GAP, FONT + 1)
    head = 0.18 + LINE_HEIGHT * len(lines)
    figure = canvas(across, head + len(blocks) * block)
    left, top = GAP / across, 1 - 0.08 / figure.get_figheight()
    figure.text(left, top, "\n".join(lines), va="top", fontsize=FONT + 1, color=INK)
    several = len({heat.similarity for heat in found.values()}) > 1
    for row, names in enumerate(blocks):
        for line, picture in enumerate((first, second)):
            y = head + row * block + ABOVE + line * (PAIRED + GAP)
            place(figure, GAP, y, width, PAIRED, image=open_picture(picture))
            for column, name in enumerate(names, start=1):
                heat = found[name].second if line else found[name].first
                axes = place(figure, GAP + column * (width + GAP), y, width, PAIRED, image=heat_over(picture, heat))
                say_if_empty(axes, heat)
                if line == 0:
                    caption(axes, name)
                elif several:
                    caption(axes, below=f"cosine {found[name].similarity:.2f}")
    note = "heat: what makes each like the other, divided by its maximum"
    y = 0.03 / figure.get_figheight()
    figure.text(1 - GAP / across, y, note, ha="right", fontsize=SMALL - 1, color=MUTED)
    return figure


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
    room = width - margin - 0.03 - BETWEEN * len(systems) - CLOSE * (len(levels) - len(systems))
    cell = room / (1 + len(levels))
    tall = cell / proportions(pictures)
    notes = wrapped(note, width - margin - 0.03, SMALL - 1) if note else []
    figure = canvas(width, HEAD + len(pictures) * (tall + CLOSE) + (0.07 + 0.13 * len(notes) if note else 0.03))
    pixels = max(1, round(tall * dpi))
    left = margin + cell
    for row, picture in enumerate(pictures):
        axes = place(figure, margin, HEAD + row * (tall + CLOSE), cell, tall, image=open_picture(picture))
        if labels:
            label_left(axes, labels[row], rotation=90, fontsize=SMALL)
    for system, found in systems.items():
        left += BETWEEN
        _head(figure, left, len(found) * (cell + CLOSE) - CLOSE, system)
        for level, maps in found.items():
            for row, picture in enumerate(pictures):
                image = heat_over(picture, leveled(maps[row]), height=pixels)
                axes = place(figure, left, HEAD + row * (tall + CLOSE), cell, tall, image=image)
                say_if_empty(axes, maps[row])
                if row == 0:
                    axes.set_title(level, fontsize=SMALL, color=INK, pad=2)
            left += cell + CLOSE
        left -= CLOSE
    text = "\n".join(notes)
    figure.text(margin / width, 0.05 / figure.get_figheight(), text, va="bottom", fontsize=SMALL - 1, color=MUTED)
    return figure


def _head(figure: Figure, left: float, width: float, name: str) -> None:
    """A system's name above its columns, with a line below it."""
    axes = place(figure, left, 0.02, width, HEAD - 0.2)
    axes.text(0.5, 0.62, name, ha="center", va="center", fontsize=FONT, color=INK, transform=axes.transAxes)
    axes.spines["bottom"].set(visible=True, color=LINE)
