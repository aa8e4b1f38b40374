"""What the pages have in common: templates, photographs as text, numbers in percent."""

from __future__ import annotations

from typing import Any

import jinja2
import numpy as np

from regard.explain.figures.overlay import data_uri
from regard.explain.figures.svg import PALETTE
from regard.report.ranked import RankedList, distance_text
from regard.structures import JUNK, Sample
from regard.version import __version__
from regard.wording import count

__all__ = ["CROP_HEIGHT", "list_content", "percent", "render_page"]

CROP_HEIGHT = 192
"""Pixels a person crop keeps in a page at most; shown at half of it, so sharp on fine screens."""


def render_page(template: str, **content: Any) -> str:
    """A page as HTML; the same content gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("regard.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["distance"] = distance_text
    environment.globals["count"] = count
    return environment.get_template(template).render(version=__version__, palette=PALETTE, **content)


def list_content(ranked: RankedList) -> dict[str, Any]:
    """A ranked list as the templates take it."""
    known = [hit.kind == "right" for hit in ranked.hits if hit.kind in ("right", "wrong")]
    return {
        "ap": ranked.ap,
        "found": sum(known) if known else None,
        "counted": len(known),
        "hits": [
            {
                "uri": data_uri(hit.sample.path, CROP_HEIGHT), "kind": hit.kind, "rank": hit.rank,
                "distance": hit.distance, "sample": hit.sample, "who": _who(hit.sample),
            }
            for hit in ranked.hits
        ],
    }  # fmt: skip


def _who(sample: Sample) -> str:
    if sample.pid == JUNK:
        return "no person, or part of one"
    return f"person {sample.pid}" if sample.pid > 0 else "somebody else"


def percent(fraction: float | None, decimals: int = 1) -> str:
    """A fraction in percent without the sign, a dash where there is none."""
    return "–" if fraction is None or np.isnan(fraction) else f"{100 * fraction:.{decimals}f}"
