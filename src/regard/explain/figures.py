"""Figures of maps: pictures in cells with captions, and any figure as the bytes of a file.

Sizes are in inches, fonts in points. Colors and fonts are those of the charts; the heat scale is that of
:func:`~regard.explain.overlay.heat_over`. The same figure gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from regard.errors import ConfigError
from regard.explain.overlay import Picture, heat_over, open_picture
from regard.explain.svg import PALETTE

__all__ = ["FORMATS", "Format", "canvas", "caption", "figure_bytes", "heat_cell", "place", "scaled", "show"]

Format = Literal["png", "svg", "pdf"]
FORMATS = ("png", "svg", "pdf")
INK, MUTED, LINE, SURFACE = (PALETTE[name] for name in ("ink", "muted", "line", "surface"))
SMALL, FONT = 7, 8

FLAT = 0.02

CLOCKS = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
"""Metadata that would make two files of one figure differ."""


def figure_bytes(figure: Figure, form: str = "png", dpi: int = 160) -> bytes:
    """A figure as the content of a file; SVG and PDF keep text as text.

    Args:
        figure: drawn with matplotlib's object interface.
        form: ``"png"``, ``"svg"`` or ``"pdf"``.
        dpi: pixels per inch of the PNG, and of pictures inside the others.

    Raises:
        ConfigError: no such form, or a dpi below 1.
    """
    if form not in FORMATS:
        raise ConfigError(f"got the file form {form!r}, wanted one of {', '.join(FORMATS)}")
    if dpi < 1:
        raise ConfigError(f"dpi is {dpi}, wanted 1 or more, as 300 for print")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "regard", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=form, dpi=dpi, facecolor=SURFACE, metadata=CLOCKS[form])
    return buffer.getvalue()


def canvas(width: float, height: float) -> Figure:
    """An empty figure of that many inches."""
    return Figure(figsize=(width, height), facecolor=SURFACE)


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes without frame at a place counted in inches from the left and from the top."""
    whole_width, whole_height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes


def show(axes: Axes, image: Image.Image) -> None:
    """A picture that fills its axes."""
    axes.imshow(np.asarray(image), aspect="auto", interpolation="lanczos")


def caption(axes: Axes, above: str = "", below: str = "") -> None:
    """A name above a cell, and what its numbers are below it."""
    axes.set_title(above, fontsize=FONT, color=INK, pad=3)
    if below:
        axes.text(0.5, -0.02, below, transform=axes.transAxes, ha="center", va="top", fontsize=SMALL, color=MUTED)


def scaled(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Values brought to [0, 1] from [low, high], by default their own; clipped, and all zero where they do not vary."""
    low, high = float(values.min()) if low is None else low, float(values.max()) if high is None else high
    if high <= low:
        return np.zeros_like(values, dtype=np.float32)
    return ((values - low) / (high - low)).clip(0, 1).astype(np.float32)


def heat_cell(axes: Axes, picture: Picture, values: np.ndarray, above: str, height: int = 256) -> None:
    """A map over its picture, from its own lowest to its own highest value, which are written below it.

    What varies by less than ``FLAT`` of itself is drawn as what it is: the same everywhere.
    """
    low, high = float(values.min()), float(values.max())
    flat = high - low <= FLAT * max(abs(low), abs(high))
    heat = np.zeros_like(values) if flat else scaled(values)
    show(axes, heat_over(picture, heat, height=height))
    caption(axes, above, f"{values.mean():.3g} all over" if flat else f"{low:.3g} – {high:.3g}")


def proportions(pictures: Sequence[Picture]) -> float:
    """Width of the widest picture for a height of 1."""
    return max(image.width / image.height for image in map(open_picture, pictures))
