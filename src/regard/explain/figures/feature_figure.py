"""Feature maps as pictures: gray, heat, overlay, three panels, and grids of several images, models and layers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from regard.explain.features import gray_levels
from regard.explain.figures.map_figures import FONT, INK, canvas, caption, place, proportions, range_of, scaled, show
from regard.explain.figures.overlay import COLORMAP, Picture, heat_over, open_picture, sheet

__all__ = ["MapRow", "feature_grid", "feature_pictures", "png_bytes"]

CELL, GAP, ABOVE, BELOW = 1.7, 0.1, 0.26, 0.17
LETTER = 0.075
"""Width of a letter of a label, in inches."""


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
        axes = place(figure, margin, top, width, CELL)
        show(axes, open_picture(row.picture))
        axes.text(-0.08, 0.5, row.label, transform=axes.transAxes, ha="right", va="center", fontsize=FONT, color=INK)
        for layer, values in row.maps.items():
            axes = place(figure, margin + (1 + places[layer]) * (width + GAP), top, width, CELL)
            show(axes, heat_over(row.picture, scaled(values, low, high)))
            caption(axes, layer, f"{row.notes.get(layer, '')}\n{range_of(values)}".strip())
    return figure


def _columns(layers: Sequence[str]) -> dict[str, int]:
    """Layer -> its column: a map that no attention follows stands under those of other models before attention."""
    named = set(layers)
    keys = {layer: f"{layer}.before" if f"{layer}.before" in named else layer for layer in layers}
    stems = list(dict.fromkeys(key.removesuffix(".after").removesuffix(".before") for key in keys.values()))
    order = sorted(
        dict.fromkeys(keys.values()),
        key=lambda key: (stems.index(key.removesuffix(".after").removesuffix(".before")), key.endswith(".after")),
    )
    return {layer: order.index(key) for layer, key in keys.items()}


def png_bytes(image: Image.Image) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
