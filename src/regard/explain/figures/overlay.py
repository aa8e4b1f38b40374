"""Pictures for people: heat over a photograph, frames that say right or wrong, sheets, data URIs.

Shapes: h x w a map in [0, 1], any size; H x W the picture it is drawn over.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from regard.data.image import Picture, read_picture
from regard.errors import DataError, check_choice
from regard.explain.figures.svg import PALETTE, jpeg_uri

__all__ = ["Picture", "data_uri", "framed", "heat_over", "open_picture", "png_bytes", "sheet"]

FrameKind = Literal["query", "right", "wrong", "junk", "unknown"]
"""What a framed picture is, as far as it is known."""

COLORMAP = "inferno"
"""Perceptually uniform, readable without color vision and on paper."""


def open_picture(picture: Picture) -> Image.Image:
    """Return the picture as RGB, as a network sees it (:func:`~regard.data.image.read_picture`).

    Raises:
        DataError: it is no picture, or cannot be read.
    """
    return Image.fromarray(read_picture(picture))


def heat_over(picture: Picture, heat: np.ndarray, strength: float = 0.75, height: int = 256) -> Image.Image:
    """Attention over the picture it belongs to: the more, the brighter and the less transparent.

    The picture is drained of half its color, so that no garment is mistaken for heat.

    Args:
        picture: what the network saw.
        heat: (h, w) in [0, 1]; values outside are clipped.
        strength: opacity where the heat is 1.
        height: of the result in pixels; the width keeps the picture's proportions.

    Returns:
        An RGB image.

    Raises:
        DataError: ``heat`` is not a finite two-dimensional map, or the picture cannot be read.
    """
    heat = np.asarray(heat, dtype=np.float32)
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise DataError(f"got a heat map of shape {heat.shape}, wanted (h, w) finite numbers; pass one map per picture")
    image = _of_height(open_picture(picture), height)
    gray = ImageOps.grayscale(image).convert("RGB")
    smooth = Image.fromarray(heat).resize(image.size, Image.Resampling.BICUBIC)
    level = np.asarray(smooth).clip(0, 1)[..., None]
    alpha = strength * level**0.7
    base = np.asarray(Image.blend(image, gray, 0.5), dtype=np.float32)
    color = 255 * matplotlib.colormaps[COLORMAP](level[..., 0])[..., :3]
    return Image.fromarray((alpha * color + (1 - alpha) * base + 0.5).astype(np.uint8))


def framed(picture: Picture, kind: FrameKind, height: int = 192, width: int = 5) -> Image.Image:
    """The picture in a frame that is told apart by color and by form.

    Right answers have a solid green frame and a check mark, wrong ones a dashed red frame and a cross, junk a dashed
    gray frame, the query a solid dark one; whoever may be anybody ("unknown") has a plain pale one.

    Args:
        picture: what to frame.
        kind: what it is.
        height: of the picture in pixels, without frame.
        width: of the frame in pixels.

    Raises:
        ConfigError: there is no such kind.
        DataError: the picture cannot be read.
    """
    check_choice("the kind of a frame", kind, FrameKind)
    color = PALETTE[{"query": "ink", "junk": "muted", "unknown": "line"}.get(kind, kind)]
    image = ImageOps.expand(_of_height(open_picture(picture), height), width, color)
    draw = ImageDraw.Draw(image)
    w, h = image.size
    if kind in ("wrong", "junk"):
        for start in range(2 * width, max(w, h), 5 * width):
            for y in (0, h - width):
                draw.rectangle((start, y, start + 2 * width - 1, y + width - 1), fill="white")
            for x in (0, w - width):
                draw.rectangle((x, start, x + width - 1, start + 2 * width - 1), fill="white")
    if kind in ("right", "wrong"):
        _badge(draw, w - 2.6 * width, 2.6 * width, 2.6 * width, right=kind == "right", color=color)
    return image


def sheet(rows: Sequence[Sequence[Image.Image | None]], gap: int = 8, background: str = "white") -> Image.Image:
    """Pictures in rows, on one canvas; cells of a column are as wide as the widest, ``None`` leaves a hole.

    Raises:
        DataError: there is no picture at all.
    """
    if not any(image for row in rows for image in row):
        raise DataError("got no picture, wanted at least one to lay out")
    widths = [max((image.width for image in column if image), default=0) for column in zip_longest(*rows)]
    heights = [max((image.height for image in row if image), default=0) for row in rows]
    canvas = Image.new("RGB", (sum(widths) + gap * (len(widths) + 1), sum(heights) + gap * (len(rows) + 1)), background)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            if image:
                canvas.paste(image, (sum(widths[:c]) + gap * (c + 1), sum(heights[:r]) + gap * (r + 1)))
    return canvas


def data_uri(picture: Picture, max_height: int | None = None, quality: int = 85) -> str:
    """The picture as a JPEG in a ``data:`` URI, shrunk to ``max_height`` pixels where it is taller."""
    image = open_picture(picture)
    if max_height and image.height > max_height:
        image = _of_height(image, max_height)
    return jpeg_uri(image, quality)


def png_bytes(image: Image.Image) -> bytes:
    """A picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _of_height(image: Image.Image, height: int) -> Image.Image:
    return image.resize((max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS)


def _badge(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, *, right: bool, color: str) -> None:
    """A disk with a check mark or a cross, centered at (x, y)."""
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    r, pen = radius * 0.45, max(2, round(radius / 5))
    if right:
        draw.line([(x - r, y), (x - r / 4, y + r * 0.8), (x + r, y - r * 0.8)], fill="white", width=pen, joint="curve")
    else:
        draw.line([(x - r, y - r), (x + r, y + r)], fill="white", width=pen)
        draw.line([(x - r, y + r), (x + r, y - r)], fill="white", width=pen)
