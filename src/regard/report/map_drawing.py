"""The embedding map as the page draws it: a point per picture, joined to the middle of its person, and thumbnails.

Shapes: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from regard.explain.figures.overlay import data_uri, open_picture
from regard.explain.figures.svg import SERIES
from regard.report.embedding_map import EmbeddingMap
from regard.structures import Sample

__all__ = ["map_content", "thumbnails"]

WIDTH, MARGIN = 1000, 40
"""Of the drawing, in its own units."""

SHAPES = 4
"""Forms of points; with the colors they tell neighbors on the map apart, not people from each other."""

THUMB_WIDTH, THUMB_HEIGHT, THUMB_COLUMNS = 48, 96, 20


def map_content(label: str, found: EmbeddingMap, samples: Sequence[Sample], number: int) -> dict[str, Any]:
    """A map as the template takes it.

    Args:
        label: whose it is.
        found: places of the pictures.
        samples: the pictures, N of them.
        number: of the map on the page.
    """
    places = found.places * (WIDTH / 2 - MARGIN)
    tall = float(np.abs(places[:, 1]).max()) + MARGIN
    x, y = places[:, 0] + WIDTH / 2, tall - places[:, 1]
    pids = np.array([sample.pid for sample in samples])
    people = []
    for order, pid in enumerate(dict.fromkeys(pids.tolist())):
        members = np.flatnonzero(pids == pid).tolist()
        people.append(
            {
                "pid": pid,
                "series": order % len(SERIES) + 1,
                "shape": order // len(SERIES) % SHAPES,
                "middle": (round(float(np.median(x[members])), 1), round(float(np.median(y[members])), 1)),
                "dots": [(i, round(float(x[i]), 1), round(float(y[i]), 1), samples[i].camid) for i in members],
            }
        )
    return {
        "label": label,
        "number": number,
        "method": found.method,
        "on_map": found.on_map,
        "in_full": found.in_full,
        "size": (WIDTH, round(2 * tall)),
        "pictures": len(samples),
        "people": people,
    }


def thumbnails(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """All pictures small, on one sheet; None where there is none."""
    if not samples:
        return None
    columns = min(THUMB_COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * THUMB_WIDTH, rows * THUMB_HEIGHT))
    for place, sample in enumerate(samples):
        row, column = divmod(place, columns)
        thumb = open_picture(sample.path).resize((THUMB_WIDTH, THUMB_HEIGHT), Image.Resampling.LANCZOS)
        sheet.paste(thumb, (column * THUMB_WIDTH, row * THUMB_HEIGHT))
    return {"uri": data_uri(sheet, quality=72), "columns": columns, "rows": rows}
