"""Ranked lists as a figure: the query, then its answers, each framed by what it is; several runs one below the other.

Right answers have a solid green frame and a check mark, wrong ones a dashed red frame and a cross, junk a dashed gray
frame: what is right can be told without color.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regard.errors import ConfigError, check_kind, is_whole, shown
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
from regard.report.ranked import RankedList, distance_text, pictures_of, ranked_lists
from regard.structures import HasSplits, Ranking, Splits
from regard.wording import count

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


def plot_ranking(
    ranking: Ranking, samples: Splits | HasSplits, queries: Iterable[int] | None = None, depth: int = 10
) -> Figure:
    """Draw the answers to some queries; see :meth:`regard.Ranking.plot`.

    Raises:
        ConfigError: the ranking is of another data set, there is no such query, or an argument is of another kind.
    """
    splits = _splits_of(samples)
    if not is_whole(depth) or depth < 1:
        raise ConfigError(f"depth is {shown(depth)}, wanted a whole number of pictures per query, from 1 on")
    picks = {row: f"query {row}" for row in _rows(queries, len(ranking))}
    if ranking.query_names is None and len(ranking) != len(splits.query):
        raise ConfigError(
            f"the ranking has {count(len(ranking), 'query')} without names, {splits.label} has {len(splits.query):,}; "
            "pass the data set that was ranked, or rank a FeatureSet with names"
        )
    everything = [*splits.train, *splits.gallery, *splits.query]
    query = pictures_of(ranking.query_names, splits.query, "query", everything)
    gallery = pictures_of(ranking.gallery_names, splits.gallery, "gallery", everything)
    lists = ranked_lists(ranking, query, gallery, np.full(len(ranking), np.nan), depth=depth, picks=picks)
    return ranked_figure({"": [replace(one, ap=None) for one in lists]})


def _splits_of(samples: Any) -> Splits:
    splits = getattr(samples, "splits", samples)
    check_kind("samples", splits, Splits, "the data set that was ranked: run.splits, or regard.load_dataset(...)")
    return splits


def _rows(queries: Iterable[int] | None, there: int) -> list[int]:
    """Row numbers of the queries to draw, each once.

    Raises:
        ConfigError: there is no such query, or they are no row numbers.
    """
    if queries is None:
        return list(range(min(3, there)))
    given = list(queries) if isinstance(queries, Iterable) and not isinstance(queries, str | bytes) else [None]
    rows = [int(row) for row in given if is_whole(row)]
    if len(rows) < len(given):
        raise ConfigError(f"queries is {shown(queries)}, wanted row numbers of the ranking, such as [0, 5]")
    if wrong := [row for row in rows if not 0 <= row < there]:
        raise ConfigError(f"there is no query {wrong[0]}, the ranking has {there}, counted from 0")
    return rows


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
