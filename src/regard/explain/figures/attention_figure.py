"""One picture and all the attention a network has to show for it, as a figure.

On top the picture with every map over it, each from its own lowest to its own highest value, which are written below
it; then gates over channels as strips of bars, one bar per channel; then the matrices that mix channels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regard.explain.attention import Attention, spatial_map
from regard.explain.figures.map_figures import (
    FONT,
    SMALL,
    canvas,
    caption,
    heat_cell,
    leveled,
    place,
    proportions,
    show,
)
from regard.explain.figures.overlay import COLORMAP, Picture, open_picture
from regard.explain.figures.svg import INK, LINE, MUTED, SERIES
from regard.wording import count

__all__ = ["attention_figure"]

WIDTH = 9.0
CELL = 1.9
GAP, ABOVE, BELOW = 0.12, 0.24, 0.2
STRIP, LABEL, RANGE = 0.42, 1.25, 0.95
MATRIX = 2.6
BLOCKS = 256
"""Rows and columns of a matrix that are drawn at most; larger ones are averaged in blocks."""


def attention_figure(picture: Picture, found: Mapping[str, Attention], index: int = 0) -> Figure:
    """Draw what :func:`~regard.explain.attention.attention_of` found.

    Args:
        picture: what the network saw.
        found: name -> attention.
        index: which picture of the batch it is.
    """
    shown = {name: spatial_map(attention) for name, attention in found.items()}
    maps = {"picture": None} | {name: values[index] for name, values in shown.items() if values is not None}
    points, strips, matrices = (
        {name: attention.values[index] for name, attention in found.items() if attention.over in kinds}
        for kinds in (("points",), ("channels", "strips"), ("mixing",))
    )
    width = CELL * proportions([picture])
    cells = len(maps) + len(points)
    rows = -(-cells // max(1, int((WIDTH - GAP) // (width + GAP))))
    columns = -(-cells // rows)
    block, line = ABOVE + CELL + BELOW + GAP, MATRIX + ABOVE + 0.45
    high = GAP + rows * block + len(strips) * (STRIP + GAP) + line * -(-len(matrices) // 3) + 0.1
    figure = canvas(WIDTH if strips or matrices else GAP + columns * (width + GAP), high)
    for number, (name, values) in enumerate([*maps.items(), *points.items()]):
        row, column = divmod(number, columns)
        left, top = GAP + column * (width + GAP), GAP + row * block + ABOVE
        axes = place(figure, left, top, width, CELL)
        if name in points:
            _points(axes, picture, points[name], name)
        elif values is None:
            show(axes, open_picture(picture))
            caption(axes, name)
        else:
            heat_cell(axes, picture, values, name)
    top = GAP + rows * block
    for name, values in strips.items():
        _strip(figure, top, name, values)
        top += STRIP + GAP
    for number, (name, values) in enumerate(matrices.items()):
        row, column = divmod(number, 3)
        _matrix(figure, 0.45 + column * (MATRIX + 0.35), top + ABOVE + row * line, name, values)
    return figure


def _points(axes: Axes, picture: Picture, values: np.ndarray, name: str) -> None:
    """Peaks over the picture; the higher, the larger."""
    image = open_picture(picture)
    show(axes, image)
    peak = values[:, 2].clip(0)
    size = 4 + 30 * peak / peak.max() if peak.max() > 0 else np.full(len(peak), 4.0)
    x, y = values[:, 0] * image.width - 0.5, values[:, 1] * image.height - 0.5
    axes.scatter(x, y, s=size, color=SERIES[0], edgecolors="white", lw=0.6)
    axes.set_xlim(-0.5, image.width - 0.5)
    axes.set_ylim(image.height - 0.5, -0.5)
    caption(axes, name, "size: peak")


def _strip(figure: Figure, top: float, name: str, values: np.ndarray) -> None:
    """Bars over channels, (C,), or colors over channels and rows of the map, (C, h)."""
    axes = place(figure, LABEL, top, WIDTH - LABEL - RANGE, STRIP)
    low, high = float(values.min()), float(values.max())
    if values.ndim == 1:
        edges = np.arange(len(values) + 1) - 0.5
        axes.stairs(values, edges, fill=True, color=SERIES[0], lw=0)
        axes.axhline(float(values.mean()), color=MUTED, lw=0.8, ls=(0, (1, 2)))
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.set_ylim(min(0, 1.04 * low), 1.04 * high if high > 0 else 1)
        axes.spines["bottom"].set(visible=True, color=LINE)
        shape = count(len(values), "channel")
    else:
        axes.imshow(leveled(values.T), aspect="auto", cmap=COLORMAP, interpolation="nearest", vmin=0, vmax=1)
        shape = f"{count(values.shape[0], 'channel')} x {count(values.shape[1], 'row')}"
    axes.text(-0.01, 0.68, name, transform=axes.transAxes, ha="right", va="center", fontsize=FONT, color=INK)
    axes.text(-0.01, 0.25, shape, transform=axes.transAxes, ha="right", va="center", fontsize=SMALL - 1.5, color=MUTED)
    text = f"{low:.3g} – {high:.3g}\nmean {values.mean():.3g}"
    axes.text(1.01, 0.5, text, transform=axes.transAxes, ha="left", va="center", fontsize=SMALL, color=MUTED)


def _matrix(figure: Figure, left: float, top: float, name: str, values: np.ndarray) -> None:
    """What goes into each channel: the square root, so that small shares are seen."""
    axes = place(figure, left, top, MATRIX, MATRIX)
    axes.imshow(np.sqrt(in_blocks(values)), cmap=COLORMAP, interpolation="nearest", aspect="auto", vmin=0)
    axes.spines[:].set(visible=True, color=LINE)
    caption(axes, name)
    axes.set_ylabel(f"into channel (of {len(values)})", fontsize=SMALL, color=MUTED, labelpad=3)
    axes.set_xlabel(f"from channel; brightest: {values.max():.3g}", fontsize=SMALL, color=MUTED, labelpad=3)


def in_blocks(values: np.ndarray, most: int = BLOCKS) -> np.ndarray:
    """A matrix averaged in blocks so that it has at most ``most`` rows and columns."""
    for axis in (0, 1):
        if values.shape[axis] > most:
            starts = np.linspace(0, values.shape[axis], most, endpoint=False).astype(int)
            counts = np.diff([*starts, values.shape[axis]])
            values = np.add.reduceat(values, starts, axis=axis) / np.expand_dims(counts, 1 - axis)
    return values
