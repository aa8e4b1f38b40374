"""What Market-1501 brings besides its splits, as ``regard data check`` says it: hand-drawn boxes, and match lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from regard.data.datasets import published_counts
from regard.data.datasets.gt_query import KINDS, LISTS, departures, find_lists
from regard.data.datasets.market1501 import HAND_DRAWN, read_split
from regard.data.listing import noting
from regard.errors import ConfigError, DataError
from regard.structures import Splits
from regard.wording import count

__all__ = ["Said", "supplements"]


class Said(NamedTuple):
    """Something to report.

    Attributes:
        kind: "notes", "warnings" or "faults".
        text: what it is.
        files: those it is about, if any.
    """

    kind: str
    text: str
    files: list[str]


def supplements(splits: Splits) -> Iterator[Said]:
    """What can be said of a data set's folders ``gt_bbox`` and ``gt_query``, as far as they are there."""
    if splits.options.get("gallery") == HAND_DRAWN:
        return  # read and counted as the gallery, of which the lists do not speak
    if splits.name == "market1501" and (splits.root / HAND_DRAWN).is_dir():
        yield from hand_drawn(splits)
    if (splits.root / LISTS).is_dir():
        yield from match_lists(splits)


def hand_drawn(splits: Splits) -> Iterator[Said]:
    """Names and number of the hand-drawn boxes."""
    try:
        with noting():
            boxes = read_split(splits.root / HAND_DRAWN)
    except DataError as error:
        yield Said("warnings", str(error), [])
        return
    text = f"{count(len(boxes), 'hand-drawn box')} of {count(len({box.pid for box in boxes}), 'id')}"
    yield Said("notes", f"{HAND_DRAWN}: {text}; a gallery with gallery={HAND_DRAWN}", [])
    wanted = published_counts(splits.name, gallery=HAND_DRAWN)
    if wanted is not None and len(boxes) != wanted.gallery_images:
        yield Said("warnings", f"{HAND_DRAWN} images: {len(boxes):,} found, {wanted.gallery_images:,} published", [])


def match_lists(splits: Splits) -> Iterator[Said]:
    """Whether every query has its lists, they can be read, and they say what identities and cameras say."""
    home = splits.root / LISTS
    files = sorted(path.name for path in home.glob("[!.]*.mat"))
    asked = {f"{sample.path.stem}_{kind}.mat" for sample in splits.query for kind in KINDS}
    if unasked := [f"{LISTS}/{name}" for name in files if name not in asked]:
        yield Said("warnings", f"{LISTS}: {count(len(unasked), 'list')} of no query", unasked)
    try:
        lists = find_lists(splits)
    except (ConfigError, DataError) as error:
        yield Said("faults", str(error), [])
        return
    found = [str(departure) for departure in departures(lists, splits.query, splits.gallery)]
    total = count(len(splits.query), "query")
    agree = f"those of {len(splits.query) - len(found):,} as" if found else "all as"
    text = f"{count(2 * len(splits.query), 'list')} for {total}, {agree} identity and camera say"
    yield Said("notes", f"{LISTS}: {text}; scores go by them with eval.protocol=lists", [])
    if found:
        text = f"{LISTS}: the lists of {count(len(found), 'query')} depart from identity and camera"
        yield Said("warnings", text, found)
