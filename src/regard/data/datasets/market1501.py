"""Market-1501, and every data set that keeps its layout.

Zheng, Shen, Tian, Wang, Wang, Tian: "Scalable Person Re-identification: A Benchmark", ICCV 2015.
1,501 people seen by 6 cameras in front of a supermarket in Tsinghua University; boxes by a DPM detector.

=================  ======  ===  ==========================================================================
split              images  ids  folder
=================  ======  ===  ==========================================================================
train              12,936  751  ``bounding_box_train``
query               3,368  750  ``query``
gallery            15,913  750  ``bounding_box_test``; 2,798 of the images are distractors (pid 0)
gallery with junk  19,732       the same folder, with 3,819 junk detections (pid -1) that evaluation drops
hand-drawn         25,259       ``gt_bbox``, in place of it with ``gallery=gt_bbox``: people of both splits
=================  ======  ===  ==========================================================================

With ``distractors=false`` the 2,798 distractors are left out of the gallery: some published figures were measured so,
and are higher for it.

A file is named ``0002_c1s1_000451_03.jpg``: person 2, camera 1, sequence 1 of that camera, frame 451, box 3 of the
frame. Junk starts with ``-1_``, distractors with ``0000_``. Numbers are kept as published (cameras from 1).

``gt_query`` says for every query which pictures of the gallery are right and which are junk. Two MATLAB files for each,
``0001_c1s1_001051_00_good.mat`` and ``..._junk.mat``, hold numbers of pictures in the order of their names in
``bounding_box_test``, the first being 1. The evaluation published with the data set takes the good ones as right,
passes over the junk ones, and takes all others as wrong. Good are pictures of the query's person by another camera;
junk are those by its own, and detections of pid -1: where the lists follow this rule, scores are those of identities
and cameras.

Shapes: Q queries, G gallery pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from regard.data.datasets.layout import FOLDERS, Counts, Naming, choice, dataset, list_images
from regard.data.mat_file import read_numbers
from regard.errors import ConfigError, DataError
from regard.structures import DISTRACTOR, JUNK, MatchLists, Sample, Splits

__all__ = ["HAND_DRAWN", "KINDS", "LISTS", "NAMING", "departures", "find_lists", "market1501"]

HAND_DRAWN = "gt_bbox"
"""Folder of the boxes that people drew, of which the detector's were judged."""

LISTS = "gt_query"
"""Folder of the lists."""

KINDS = ("good", "junk")

NAMING = Naming(
    re.compile(r"(?P<pid>-1|\d+)_c(?P<camid>\d+)(?:s(?P<sequence>\d+))?(?:_(?P<frame>\d+))?(?=[_.])", re.ASCII),
    "0002_c1s1_000451_03.jpg",
    "person and camera",
)


def published(*, distractors: bool = True, gallery: str = FOLDERS["gallery"]) -> Counts:
    """Counts with and without distractors, and of the hand-drawn gallery."""
    if gallery == HAND_DRAWN:
        return Counts(12_936, 751, 3_368, 750, 25_259)
    false = 2_798 if distractors else 0
    return Counts(12_936, 751, 3_368, 750, 16_934 + false, false, 3_819)


@dataset(
    "market1501",
    requires=tuple(FOLDERS.values()),
    folders=("Market-1501-v15.09.15", "Market-1501", "market1501", "market"),
    published=published,
)
def market1501(root: Path, /, *, distractors: bool = True, gallery: str = FOLDERS["gallery"]) -> Splits:
    """Read Market-1501 as published; junk stays in the gallery with pid -1.

    Args:
        root: the folder with ``bounding_box_train``, or the one above it.
        distractors: false leaves the pictures of pid 0 out of the gallery.
        gallery: ``bounding_box_test``, or ``gt_bbox`` for the hand-drawn boxes, among which are those of the people
            trained on, as wrong matches.

    Raises:
        ConfigError: an option has another value, or both are given, of which the hand-drawn boxes have no distractors.
    """
    choice("market1501", "distractors", distractors, (True, False))
    choice("market1501", "gallery", gallery, (FOLDERS["gallery"], HAND_DRAWN))
    if gallery == HAND_DRAWN and not distractors:
        raise ConfigError(f"market1501: gallery={HAND_DRAWN} has no distractors to leave out; drop distractors=false")
    if not (root / gallery).is_dir():
        raise DataError(f"market1501 in '{root}' has no folder {gallery}; unpack it there, or leave the option gallery")
    parts = {split: NAMING.read_folder(root / folder) for split, folder in (FOLDERS | {"gallery": gallery}).items()}
    if not distractors:
        parts["gallery"] = [sample for sample in parts["gallery"] if sample.pid != DISTRACTOR]
    return Splits.of("market1501", root, parts)


def find_lists(splits: Splits) -> MatchLists:
    """The lists of a data set's queries, as rows of its gallery; listed pictures that are not in it are left out.

    Raises:
        ConfigError: the data set has no such lists, or they are of another gallery.
        DataError: a list is missing, damaged, names a picture that the folder lacks, or one twice.
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
    rows = {sample.path.name: row for row, sample in enumerate(splits.gallery)}
    listed = np.array([rows.get(path.name, -1) for path in list_images(whole)], np.int64)
    files = [[home / f"{sample.path.stem}_{kind}.mat" for kind in KINDS] for sample in splits.query]
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


def departures(lists: MatchLists, query: Sequence[Sample], gallery: Sequence[Sample]) -> Iterator[str]:
    """The queries whose lists depart from the rule of identity and camera, in their order.

    Such as ``0101_c1s1_000001_00.jpg (good +1 -0)``: a picture is listed against the rule, and none missing by it.
    """
    pids = np.array([sample.pid for sample in gallery], np.int64)
    camids = np.array([sample.camid for sample in gallery], np.int64)
    for sample, good, junk in zip(query, lists.good, lists.junk, strict=True):
        same, own, parts = pids == sample.pid, camids == sample.camid, []
        for kind, listed, rule in zip(KINDS, (good, junk), (same & ~own, (same & own) | (pids == JUNK))):
            named = np.zeros(len(gallery), bool)
            named[listed] = True
            more, less = (named & ~rule).sum(), (rule & ~named).sum()
            if more or less:
                parts.append(f"{kind} +{more} -{less}")
        if parts:
            yield f"{sample.path.name} ({', '.join(parts)})"
