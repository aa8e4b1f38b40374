"""Market-1501's ``gt_query``: for every query, which pictures of the gallery are right and which are junk.

Two MATLAB files for each query, ``0001_c1s1_001051_00_good.mat`` and ``..._junk.mat``, hold numbers of pictures in the
order of their names in ``bounding_box_test``, the first being 1. The evaluation published with the data set takes the
good ones as right, passes over the junk ones, and takes all others as wrong. Good are pictures of the query's person by
another camera; junk are those by its own, and detections of pid -1: where the lists follow this rule, scores are those
of identities and cameras.

Shapes: Q queries, G gallery pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regard.data.datasets.market1501 import FOLDERS
from regard.data.listing import list_images
from regard.data.mat_file import read_numbers
from regard.errors import ConfigError, DataError
from regard.structures import JUNK, MatchLists, Sample, Splits

__all__ = ["KINDS", "LISTS", "Departure", "departures", "find_lists", "read_lists"]

LISTS = "gt_query"
"""Folder of the lists."""

KINDS = ("good", "junk")


class Departure(NamedTuple):
    """A query whose lists are not what identities and cameras say.

    Attributes:
        query: its file name.
        more, less: how many pictures are listed against the rule, and missing by it, good then junk.
    """

    query: str
    more: tuple[int, int]
    less: tuple[int, int]

    def __str__(self) -> str:
        parts = [f"{kind} +{m} -{n}" for kind, m, n in zip(KINDS, self.more, self.less) if m or n]
        return f"{self.query} ({', '.join(parts)})"


def find_lists(splits: Splits) -> MatchLists:
    """The lists of a data set's queries, for its gallery.

    Raises:
        ConfigError: the data set has no such lists, or they are of another gallery.
        DataError: see :func:`read_lists`.
    """
    home = splits.root / LISTS
    if not home.is_dir():
        raise ConfigError(
            f"eval.protocol=lists wants good and junk lists, but {splits.label} in '{splits.root}' has no folder "
            f"{LISTS}, as Market-1501 comes with; unpack it there, or take protocol=rule"
        )
    whole = splits.root / FOLDERS["gallery"]
    other = next((sample.path for sample in splits.gallery if sample.path.parent != whole), None)
    if other is not None:
        raise ConfigError(
            f"eval.protocol=lists speaks of the pictures in {FOLDERS['gallery']}, but the gallery of {splits.label} "
            f"has '{other}'; take protocol=rule, or the gallery {FOLDERS['gallery']}"
        )
    return read_lists(home, splits.query, splits.gallery, whole)


def read_lists(home: Path, query: Sequence[Sample], gallery: Sequence[Sample], whole: Path) -> MatchLists:
    """Good and junk lists of queries, as rows of a gallery.

    Args:
        home: the folder with the lists.
        query: Q samples.
        gallery: G samples of the folder ``whole``; listed pictures that are not among them are left out.
        whole: the folder in whose order pictures are numbered.

    Raises:
        DataError: a list is missing, damaged, names a picture that the folder lacks, or one twice.
    """
    rows = {sample.path.name: row for row, sample in enumerate(gallery)}
    listed = np.array([rows.get(path.name, -1) for path in list_images(whole)], np.int64)
    files = [[home / f"{sample.path.stem}_{kind}.mat" for kind in KINDS] for sample in query]
    missing = [file for pair in files for file in pair if not file.exists()]
    if missing:
        raise DataError(
            f"{len(missing):,} of {2 * len(files):,} lists are missing in '{home}', the first is '{missing[0].name}'; "
            "unpack the folder again"
        )
    found: list[list[np.ndarray]] = []
    for pair in files:
        numbers = [read_numbers(file, f"{kind}_index") for file, kind in zip(pair, KINDS)]
        check_numbers(numbers, pair, len(listed))
        chosen = [listed[part - 1] for part in numbers]
        found.append([np.sort(part[part >= 0]).astype(np.int32) for part in chosen])
    return MatchLists(*([lists[kind] for lists in found] for kind in range(2)))


def check_numbers(numbers: Sequence[np.ndarray], files: Sequence[Path], size: int) -> None:
    """Check the two lists of a query.

    Raises:
        DataError: a number is none of a picture, or is there twice.
    """
    for part, file in zip(numbers, files):
        outside = part[(part < 1) | (part > size)]
        if len(outside):
            raise DataError(
                f"'{file}' names picture {outside[0]}, but '{FOLDERS['gallery']}' has 1 to {size:,}; unpack both again"
            )
    both = np.sort(np.concatenate(numbers))
    if twice := both[:-1][both[1:] == both[:-1]].tolist():
        raise DataError(f"'{files[0]}' and '{files[1].name}' name picture {twice[0]} twice; correct the lists")


def departures(lists: MatchLists, query: Sequence[Sample], gallery: Sequence[Sample]) -> Iterator[Departure]:
    """The queries whose lists depart from the rule of identity and camera, in their order."""
    pids = np.array([sample.pid for sample in gallery], np.int64)
    camids = np.array([sample.camid for sample in gallery], np.int64)
    for sample, good, junk in zip(query, lists.good, lists.junk, strict=True):
        same, own = pids == sample.pid, camids == sample.camid
        more, less = [], []
        for listed, rule in ((good, same & ~own), (junk, (same & own) | (pids == JUNK))):
            named = np.zeros(len(gallery), bool)
            named[listed] = True
            more.append(int((named & ~rule).sum()))
            less.append(int((rule & ~named).sum()))
        if any(more) or any(less):
            yield Departure(sample.path.name, (more[0], more[1]), (less[0], less[1]))
