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
and are higher for it. What the publisher says of every query, which pictures are right for it and which are neither,
lies in ``gt_query``; :mod:`regard.data.datasets.gt_query` reads it.

A file is named ``0002_c1s1_000451_03.jpg``: person 2, camera 1, sequence 1 of that camera, frame 451, box 3 of the
frame. Junk starts with ``-1_``, distractors with ``0000_``. Numbers are kept as published (cameras from 1).
"""

from __future__ import annotations

import re
from pathlib import Path

from regard.data.datasets.layout import dataset, list_images
from regard.data.datasets.paths_check import Counts
from regard.data.datasets.random_splits import choice
from regard.errors import ConfigError, DataError
from regard.structures import DISTRACTOR, Sample, Splits

__all__ = ["FOLDERS", "HAND_DRAWN", "market1501", "parse_name", "read_split"]

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""Split -> its folder."""

HAND_DRAWN = "gt_bbox"
"""Folder of the boxes that people drew, of which the detector's were judged."""

NAME = re.compile(r"(?P<pid>-1|\d+)_c(?P<camid>\d+)(?:s(?P<sequence>\d+))?(?:_(?P<frame>\d+))?(?=[_.])", re.ASCII)


def published(*, distractors: bool = True, gallery: str = FOLDERS["gallery"]) -> Counts:
    """Counts with and without distractors, and of the hand-drawn gallery."""
    detected = gallery == FOLDERS["gallery"]
    false = 2_798 if detected and distractors else 0
    return Counts(
        train_images=12_936,
        train_ids=751,
        query_images=3_368,
        query_ids=750,
        gallery_images=16_934 + false if detected else 25_259,
        distractors=false,
        junk=3_819 if detected else 0,
    )


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
        DataError: the folder is not Market-1501, a part of it is missing or empty, or a file name is not understood.
        ConfigError: an option has another value, or both are given, of which the hand-drawn boxes have no distractors.
    """
    choice("market1501", "distractors", distractors, (True, False))
    choice("market1501", "gallery", gallery, (FOLDERS["gallery"], HAND_DRAWN))
    if gallery == HAND_DRAWN and not distractors:
        raise ConfigError(f"market1501: gallery={HAND_DRAWN} has no distractors to leave out; drop distractors=false")
    if not (root / gallery).is_dir():
        raise DataError(f"market1501 in '{root}' has no folder {gallery}; unpack it there, or leave the option gallery")
    parts = {split: read_split(root / folder) for split, folder in (FOLDERS | {"gallery": gallery}).items()}
    if not distractors:
        parts["gallery"] = [sample for sample in parts["gallery"] if sample.pid != DISTRACTOR]
    return Splits.of("market1501", root, parts)


def read_split(folder: Path) -> list[Sample]:
    """Every image of a folder in Market-1501's naming, sorted by file name.

    Raises:
        DataError: the folder cannot be listed or a name is not understood.
    """
    return [parse_name(path) for path in list_images(folder)]


def parse_name(path: Path) -> Sample:
    """Read person, camera, sequence and frame off a file name; the last two may be missing.

    Raises:
        DataError: the name does not start with a person and a camera.
    """
    match = NAME.match(path.name)
    if match is None:
        raise DataError(
            f"cannot tell person and camera from the name of '{path}', expected one like 0002_c1s1_000451_03.jpg; "
            "rename the file or take it out of the folder"
        )
    pid, camid, sequence, frame = match.groups()
    return Sample(path, int(pid), int(camid), int(sequence) if sequence else None, int(frame) if frame else None)
