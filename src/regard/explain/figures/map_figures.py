"""Figures of maps: pictures in cells with captions, and any figure as the bytes of a file.

Sizes are in inches, fonts in points. Colors and fonts are those of the charts; the heat scale is that of
:func:`~regard.explain.figures.overlay.heat_over`. The same figure gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from regard.errors import ConfigError
from regard.explain.figures.overlay import Picture, heat_over, open_picture
from regard.explain.figures.svg import INK, MUTED, SURFACE, plain_text, text_width
from regard.explain.rounding import NOTHING, varies

__all__ = [
    "FORMATS",
    "Drawing",
    "Format",
    "canvas",
    "caption",
    "figure_bytes",
    "heat_cell",
    "label_left",
    "leveled",
    "place",
    "range_of",
    "say_if_empty",
    "scaled",
    "show",
    "wrapped",
]

Format = Literal["png", "svg", "pdf"]
FORMATS = ("png", "svg", "pdf")
SMALL, FONT = 7, 8

FLAT = 0.02
"""Attention that varies by less than this share of itself is drawn as what it is: the same everywhere."""

CLOCKS = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
"""Metadata that would make two files of one figure differ."""

MAX_PIXELS = 1 << 28
"""Of a figure; they take a gigabyte while it is drawn."""


def figure_bytes(figure: Figure, form: str = "png", dpi: int = 160) -> bytes:
    """A figure as the content of a file; SVG and PDF keep text as text.

    Args:
        figure: drawn with matplotlib's object interface.
        form: ``"png"``, ``"svg"`` or ``"pdf"``.
        dpi: pixels per inch of the PNG, and of pictures inside the others.

    Raises:
        ConfigError: no such form, a dpi below 1, or more pixels than ``MAX_PIXELS``.
    """
    if form not in FORMATS:
        raise ConfigError(f"got the file form {form!r}, wanted one of {', '.join(FORMATS)}")
    if dpi < 1:
        raise ConfigError(f"dpi is {dpi}, wanted 1 or more, as 300 for print")
    width, height = figure.get_size_inches()
    if width * height * dpi**2 > MAX_PIXELS:
        raise ConfigError(
            f"a figure of {width:.0f} x {height:.0f} inches at {dpi} dpi has more than {MAX_PIXELS:,} pixels; "
            "choose a smaller dpi, or fewer pictures"
        )
    buffer = io.BytesIO()
    with plain_text(figure, **{"svg.fonttype": "none", "svg.hashsalt": "regard", "pdf.fonttype": 42}):
        figure.savefig(buffer, format=form, dpi=dpi, facecolor=SURFACE, metadata=CLOCKS[form])
    return buffer.getvalue()


class Drawing(Figure):
    """A figure that a notebook shows where it stands last in a cell, whatever backend matplotlib has there."""

    def _repr_png_(self) -> bytes:
        return figure_bytes(self, "png")


def canvas(width: float, height: float) -> Drawing:
    """An empty figure of that many inches."""
    return Drawing(figsize=(width, height), facecolor=SURFACE)


def place(
    figure: Figure, left: float, top: float, width: float, height: float, *, image: Image.Image | None = None
) -> Axes:
    """Axes without frame at a place counted in inches from the left and from the top, filled by a picture if any."""
    whole_width, whole_height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if image is not None:
        show(axes, image)
    return axes


def show(axes: Axes, image: Image.Image) -> None:
    """A picture that fills its axes."""
    axes.imshow(np.asarray(image), aspect="auto", interpolation="lanczos")


def caption(axes: Axes, above: str = "", below: str = "") -> None:
    """A name above a cell, and what its numbers are below it."""
    axes.set_title(above, fontsize=FONT, color=INK, pad=3)
    if below:
        axes.text(0.5, -0.02, below, transform=axes.transAxes, ha="center", va="top", fontsize=SMALL, color=MUTED)


def label_left(axes: Axes, text: str, x: float = -0.08, **look: Any) -> None:
    """A name to the left of a cell."""
    look = {"fontsize": FONT, "va": "center", **look}
    axes.text(x, 0.5, text, transform=axes.transAxes, ha="right", color=INK, **look)


def scaled(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Values brought to [0, 1] from [low, high] and clipped.

    By default from their own lowest and highest, and all zero where these differ by no more than rounding.
    """
    flat = low is None and high is None and not varies(values)
    low, high = float(values.min()) if low is None else low, float(values.max()) if high is None else high
    if flat or high <= low:
        return np.zeros_like(values, dtype=np.float32)
    return ((values - low) / (high - low)).clip(0, 1).astype(np.float32)


def leveled(values: np.ndarray) -> np.ndarray:
    """Attention brought to [0, 1] from its own lowest to its own highest value; all zero where it is ``FLAT``."""
    return np.zeros_like(values, dtype=np.float32) if _flat(values) else scaled(values)


def _flat(values: np.ndarray) -> bool:
    low, high = float(values.min()), float(values.max())
    return high - low <= FLAT * max(abs(low), abs(high))


def range_of(values: np.ndarray, *, flat: bool | None = None) -> str:
    """A map's numbers in words: lowest and highest; its mean where it is flat, or does not vary; that there is none."""
    if not values.any():
        return NOTHING
    if not varies(values) if flat is None else flat:
        return f"{values.mean():.3g} all over"
    return f"{values.min():.3g} – {values.max():.3g}"


def heat_cell(axes: Axes, picture: Picture, values: np.ndarray, above: str, height: int = 256) -> None:
    """A map over its picture, from its own lowest to its own highest value, which are written below it."""
    show(axes, heat_over(picture, leveled(values), height=height))
    caption(axes, above, range_of(values, flat=_flat(values)))


def say_if_empty(axes: Axes, values: np.ndarray) -> None:
    """Write into a cell whose map is all zero that there is nothing to see in it."""
    if not values.any():
        text = NOTHING.replace(" above ", "\nabove\n")
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=SMALL, color=INK,
                  bbox={"facecolor": SURFACE, "edgecolor": "none", "alpha": 0.85, "pad": 2})  # fmt: skip


def wrapped(text: str, width: float, size: float) -> list[str]:
    """A text as the lines that fit into that many inches, broken at spaces, and inside a word that fits in none."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if text_width(longer, size) <= width:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = lines[-1] or word
        while text_width(lines[-1], size) > width and len(lines[-1]) > 1:
            whole = lines[-1]
            fits = max((n for n in range(1, len(whole)) if text_width(whole[:n], size) <= width), default=1)
            lines[-1:] = [whole[:fits], whole[fits:]]
    return lines


def proportions(pictures: Sequence[Picture]) -> float:
    """Width of the widest picture for a height of 1."""
    return max(image.width / image.height for image in map(open_picture, pictures))
