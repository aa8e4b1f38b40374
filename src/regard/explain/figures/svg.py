"""A chart as inline SVG that follows the colors of the page around it.

Charts are drawn by matplotlib with the colors of ``PALETTE``. On the way into a page each of them becomes the CSS
variable of its name, ids become unique, text stays text, points get their tooltips, and photographs become JPEGs.
"""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from PIL import Image

__all__ = ["INK", "LINE", "MUTED", "PALETTE", "SERIES", "SURFACE", "Chart", "jpeg_uri", "plain_text", "text_width"]

PALETTE = {
    "ink": "#1b1d22",
    "muted": "#686d76",
    "line": "#e2e1dc",
    "surface": "#fffffe",
    "series-1": "#2557d6",
    "series-2": "#a85c0a",
    "series-3": "#6a707c",
    "series-4": "#0f766e",
    "series-5": "#9348b3",
    "right": "#1a7f4e",
    "wrong": "#c5352c",
}
"""Name of a CSS variable -> its color in light mode, no color twice."""

INK, MUTED, LINE, SURFACE = (PALETTE[name] for name in ("ink", "muted", "line", "surface"))
SERIES = [PALETTE[f"series-{i}"] for i in range(1, 6)]

IMAGE_DPI = 150
"""Pixels per inch of pictures inside a chart: enough for a fine screen at the size they are shown at."""

_XLINK = "{http://www.w3.org/1999/xlink}href"
_PNG = "data:image/png;base64,"


@dataclass(slots=True)
class Chart:
    """A figure, and what it says in words.

    Attributes:
        name: unique on its page; ids inside the SVG start with it.
        title: what is shown.
        summary: what is to be seen in it, for those who do not see it and for the caption.
        figure: drawn with the colors of ``PALETTE``; ``figure.savefig`` makes the PNG or PDF of it.
        tips: gid of a scatter -> one tooltip per point.
    """

    name: str
    title: str
    summary: str
    figure: Figure
    tips: dict[str, list[str]] = field(default_factory=dict)

    def svg(self) -> str:
        """The chart as an ``<svg>`` element for an HTML page; the same chart gives the same text."""
        buffer = io.BytesIO()
        with plain_text(self.figure, **{"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.figure.savefig(
                buffer, format="svg", dpi=IMAGE_DPI, transparent=True, metadata={"Date": None, "Creator": None}
            )
        root = ET.fromstring(buffer.getvalue())
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        root.set("xmlns", "http://www.w3.org/2000/svg")
        self._add_tips(root)
        self._shed(root)
        self._own_ids(root)
        for element in root.iter():
            if "style" in element.attrib:
                element.set("style", _page_style(element.attrib["style"]))
        self._describe(root)
        return ET.tostring(root, encoding="unicode")

    def _add_tips(self, root: ET.Element) -> None:
        for gid, texts in self.tips.items():
            group = root.find(f".//g[@id='{gid}']")
            points = [] if group is None else list(group.iter("use"))
            assert len(points) == len(texts), f"chart {self.name!r}: {len(points)} points, {len(texts)} tooltips"
            for point, text in zip(points, texts):
                point.set("class", "tip")
                ET.SubElement(point, "title").text = text

    def _shed(self, root: ET.Element) -> None:
        """Drop what would leak into the page or says nothing there."""
        for parent, tag in ((root, "metadata"), *((defs, "style") for defs in root.findall("defs"))):
            for element in parent.findall(tag):
                parent.remove(element)
        for attribute in ("width", "height", "version"):
            root.attrib.pop(attribute, None)
        for element in root.iter():
            if re.match(r"rotate\(-?0 ", element.attrib.get("transform", "")):
                del element.attrib["transform"]
            element.tail = None
            if element.text and not element.text.strip():
                element.text = None
            if "d" in element.attrib:
                element.set("d", _shorter(element.attrib["d"]))

    def _own_ids(self, root: ET.Element) -> None:
        used = set()
        for element in root.iter():
            href = element.attrib.pop(_XLINK, None)
            if href and element.tag == "image":
                element.set("href", _photograph("".join(href.split())))
            elif href:
                element.set("href", f"#{self.name}-{href[1:]}")
                used.add(href[1:])
            clip = element.attrib.get("clip-path")
            if clip:
                used.add(clip[5:-1])
                element.set("clip-path", f"url(#{self.name}-{clip[5:-1]})")
        for element in root.iter():
            identity = element.attrib.pop("id", None)
            if identity in used:
                element.set("id", f"{self.name}-{identity}")

    def _describe(self, root: ET.Element) -> None:
        title, summary = ET.Element("title"), ET.Element("desc")
        title.text, summary.text = self.title, self.summary
        title.set("id", f"{self.name}-title")
        summary.set("id", f"{self.name}-desc")
        root[:0] = [title, summary]
        root.set("role", "img")
        root.set("class", "chart")
        root.set("aria-labelledby", f"{self.name}-title {self.name}-desc")


@contextmanager
def plain_text(figure: Figure, **settings: Any) -> Iterator[None]:
    """While a figure is saved: names are drawn as they are, dollar signs too, and not as formulas."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    plain: dict[Any, Any] = {"text.parse_math": False, **settings}
    with matplotlib.rc_context(plain):
        yield


def text_width(text: str, size: float) -> float:
    """Inches that a line of text takes at most, in points of that size: pixels of a screen widen letters a little."""
    return 1.06 * TextPath((0, 0), text.replace("$", "S"), size=size).get_extents().x1 / 72 if text.strip() else 0.0


def _page_style(style: str) -> str:
    """Page font and page colors instead of matplotlib's."""
    style = re.sub(r"font-family:[^;]*;?\s*", "", style)
    for name, color in PALETTE.items():
        style = style.replace(color, f"var(--{name}, {color})")
    return style.strip()


def _photograph(uri: str) -> str:
    """A picture without transparent parts as a JPEG: a tenth of its PNG."""
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(_PNG)))) as image:
        if image.mode == "RGBA" and np.asarray(image)[..., 3].min() < 255:
            return uri
        return jpeg_uri(image.convert("RGB"), 82)


def jpeg_uri(image: Image.Image, quality: int) -> str:
    """A picture as a JPEG in a ``data:`` URI."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _shorter(path: str) -> str:
    """Two decimals of a point are enough for any screen."""
    path = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), path)
    return " ".join(path.split())
