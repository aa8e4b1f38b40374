"""Ranked lists as a figure: the query, then its answers, each framed by what it is; several runs one below the other.

Right answers have a solid green frame and a check mark, wrong ones a dashed red frame and a cross, junk a dashed gray
frame: what is right can be told without color.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regard.errors import ConfigError
from regard.explain.figures.map_figures import (
    FONT,
    SMALL,
    canvas,
    caption,
    label_left,
    place,
    proportions,
    wrapped,
)
from regard.explain.figures.overlay import FrameKind, framed
from regard.explain.figures.svg import INK, MUTED
from regard.report.ranked import RankedList, distance_text, ranked_lists
from regard.structures import Ranking, Splits

__all__ = ["plot_ranking", "ranked_figure"]

CELL, GAP, ABOVE, BELOW, HEAD, FOOT = 1.25, 0.07, 0.2, 0.3, 0.36, 0.24  # inches
MARGIN, LETTER = 0.62, 0.075
PIXELS = 256
KEY = "green, check: the same person    red dashes, cross: somebody else"
JUNK_KEY = "gray dashes: junk, which does not count"
UNKNOWN_KEY = "pale: nobody said who it is"


def ranked_figure(found: Mapping[str, Sequence[RankedList]], notes: Sequence[str] = ()) -> Figure:
    """Draw ranked lists.

    Args:
        found: label of a run -> its lists; all runs have lists of the same queries. The label of a single run is not
            written.
        notes: one per query, written below its title; none are needed.

    Raises:
        ConfigError: there is no list, or the runs show different queries.
    """
    runs = list(found.values())
    queries = [[ranked.query for ranked in lists] for lists in runs]
    if not runs or not runs[0]:
        raise ConfigError("got no ranked list, wanted at least one to draw")
    if any(asked != queries[0] for asked in queries):
        raise ConfigError("got ranked lists of different queries side by side; pick the same queries for every run")
    rows = [ranked for lists in runs for ranked in lists]
    hits = [hit for ranked in rows for hit in ranked.hits]
    width = CELL * proportions([sample.path for sample in queries[0]] + [hit.sample.path for hit in hits]) + GAP
    margin = max(MARGIN, 0.2 + LETTER * max(map(len, found))) if len(runs) > 1 else MARGIN
    line = ABOVE + CELL + BELOW
    across = max(margin + (1 + max(len(ranked.hits) for ranked in rows)) * width + 2 * GAP, 4.6)
    titles = [_title(first, notes[number] if notes else "", across - 2 * GAP) for number, first in enumerate(runs[0])]
    block = HEAD + 0.15 * (max(map(len, titles)) - 1) + len(runs) * line
    figure = canvas(across, len(runs[0]) * block + FOOT)
    for number, said in enumerate(titles):
        top = number * block
        for line_number, (text, size, color) in enumerate(said):
            y = 1 - (top + 0.22 + 0.15 * line_number) / figure.get_figheight()
            figure.text(GAP / across, y, text, fontsize=size, color=color)
        for row, (label, lists) in enumerate(found.items()):
            start = top + block - (len(runs) - row) * line + ABOVE
            _row(figure, start, margin, width, lists[number], label=label if len(runs) > 1 else "")
    kinds = {hit.kind for hit in hits}
    keys = {KEY: kinds & {"right", "wrong"}, JUNK_KEY: kinds & {"junk"}, UNKNOWN_KEY: kinds & {"unknown"}}
    key = "    ".join(text for text, there in keys.items() if there)
    figure.text(GAP / figure.get_figwidth(), 0.07 / figure.get_figheight(), key, fontsize=SMALL, color=MUTED)
    return figure


def plot_ranking(ranking: Ranking, samples: Splits, queries: Sequence[int] | None = None, depth: int = 10) -> Figure:
    """Draw the answers to some queries; see :meth:`regard.Ranking.plot`.

    Raises:
        ConfigError: the ranking is of another data set, or there is no such query.
    """
    rows = range(min(3, len(ranking))) if queries is None else queries
    if wrong := [row for row in rows if row not in range(len(ranking))]:
        raise ConfigError(f"there is no query {wrong[0]}, the ranking has {len(ranking)}, counted from 0")
    picks = {row: f"query {row}" for row in rows}
    unknown = np.full(len(ranking), np.nan)
    lists = ranked_lists(ranking, samples.query, samples.gallery, unknown, depth=depth, picks=picks)
    return ranked_figure({"": [replace(one, ap=None) for one in lists]})


def _title(ranked: RankedList, note: str, width: float) -> list[tuple[str, int, str]]:
    """What the list is an example of, whom it asks for, what there is to say of it: lines, their sizes and colors."""
    text = f"{ranked.title}: person {ranked.query.pid}, camera {ranked.query.camid}"
    lines = [(line, FONT + 1, INK) for line in wrapped(text, width, FONT + 1)]
    return lines + [(line, SMALL, MUTED) for line in wrapped(note, width, SMALL) if line]


def _row(figure: Figure, top: float, margin: float, width: float, ranked: RankedList, *, label: str) -> None:
    """A run's name and precision, the query, and the answers."""
    said = ([label] if label else []) + ([] if ranked.ap is None else ["AP", f"{100 * ranked.ap:.1f} %"])
    axes = _picture(figure, margin, top, ranked.query.path, "query")
    caption(axes, "query")
    label_left(axes, "\n".join(said), -0.12)
    for number, hit in enumerate(ranked.hits, start=1):
        axes = _picture(figure, margin + number * width + GAP, top, hit.sample.path, hit.kind)
        below = f"{distance_text(hit.distance, 3)}\ncamera {hit.sample.camid}"
        caption(axes, "junk" if hit.rank is None else str(hit.rank), below)


def _picture(figure: Figure, left: float, top: float, path: Path, kind: FrameKind) -> Axes:
    image = framed(path, kind, PIXELS)
    return place(figure, left, top, CELL * image.width / image.height, CELL, image=image)
