"""Small data sets of two folders, of which the people of one are searched for in the other.

VIPeR, GRID and PRID 2011 are people seen by two cameras once each. Half of them are for training, and results are means
over ten random halves: ``split=0`` to ``split=9``. Ours are drawn from a hash, so that they are the same on every
machine and with every version of every library. They are exact halves, as published, of data sets that do not grow;
people's own folders are divided against a threshold (:mod:`regard.data.datasets.own_pictures`).

=========  =====================================  ==============  ========================================
data set   pictures                               train, per cut  test, per cut
=========  =====================================  ==============  ========================================
VIPeR      ``cam_a``, ``cam_b``: 632 people       316 people      316 queries, 316 in the gallery
GRID       ``probe``, ``gallery``: 250 people     125 people      125 queries, 900 in the gallery (775 of
           and 775 pictures of others (0000)                      them distractors)
PRID 2011  ``single_shot``: 385 in ``cam_a``,     100 people      100 queries, 649 in the gallery (549 of
           749 in ``cam_b``, the first 200 both                   them people the other camera never saw)
=========  =====================================  ==============  ========================================

Occluded-REID, Partial-REID and Partial-iLIDS are people hidden and cut off, for tests only: networks are trained
elsewhere, usually on Market-1501. The query shows a part of a person, the gallery the whole one. None of the three
names cameras; as in published evaluations the query is camera 0 and the gallery camera 1, so that no picture is left
out.

=============  ===  ==========================================  ========================================
data set       ids  query                                       gallery
=============  ===  ==========================================  ========================================
Occluded-REID  200  1,000: ``occluded_body_images/001/*.tif``   1,000: ``whole_body_images/001/*.tif``
Partial-REID    60  300: ``partial_body_images/001_001.jpg``    300: ``whole_body_images/001_001.jpg``
Partial-iLIDS  119  119: ``Probe/001.jpg``                      119: ``Gallery/001.jpg``
=============  ===  ==========================================  ========================================

Gray, Brennan, Tao: "Evaluating Appearance Models for Recognition, Reacquisition, and Tracking", PETS 2007. Loy, Xiang,
Gong: "Multi-Camera Activity Correlation Analysis", CVPR 2009. Hirzer, Beleznai, Roth, Bischof: "Person
Re-Identification by Descriptive and Discriminative Classification", SCIA 2011. Zhuo, Chen, Lai, Wang: "Occluded Person
Re-identification", ICME 2018. Zheng, Li, Xiang, Liao, Lai, Gong: "Partial Person Re-identification", ICCV 2015. He,
Liang, Li, Sun: "Deep Spatial Feature Reconstruction for Partial Person Re-identification", CVPR 2018.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from regard.data.datasets.layout import Counts, Naming, choice, dataset, first_image, list_folders
from regard.errors import DataError
from regard.structures import DISTRACTOR, Sample, Splits

__all__ = ["grid", "occluded_reid", "partial_ilids", "partial_reid", "pick_training_ids", "prid", "viper"]

VIPER = Naming(re.compile(r"(?P<pid>\d+)_\d+(?=[_.])", re.ASCII), "000_45.bmp")
GRID = Naming(re.compile(r"(?P<pid>\d+)_(?P<camid>\d+)_\d+", re.ASCII), "0001_1_25004_107_32_106_221.jpeg")
PRID = Naming(re.compile(r"person_(?P<pid>\d+)(?=\.)", re.ASCII), "person_0001.png")
PARTIAL = Naming(re.compile(r"(?P<pid>\d+)(?=[_.])", re.ASCII), "001_001.jpg")

PRID_PAIRS = 200
"""People of PRID 2011 seen by both cameras; the numbers after them mean other people in each camera."""

NUM_SPLITS = 10
"""Random splits over which results are averaged."""


@dataset(
    "viper",
    requires=("cam_a", "cam_b"),
    folders=("VIPeR", "VIPeR.v1.0"),
    published=Counts(632, 316, 316, 316, 316),
    fits=lambda root: VIPER.fits(root / "cam_a"),
)
def viper(root: Path, /, *, split: int = 0) -> Splits:
    """Read VIPeR: ``cam_a/000_45.bmp`` is person 0 at 45 degrees.

    Numbers start at 0, which here means a distractor: person 0 is read as 1, and so on. Queries are of camera 1.

    Args:
        root: the folder with ``cam_a``, or one above it.
        split: random half, 0..9.
    """
    first, second = (VIPER.read_folder(root / f"cam_{letter}", camid, 1) for camid, letter in enumerate("ab", start=1))
    paired = {s.pid for s in first} & {s.pid for s in second}
    return divide("viper", root, first, second, pick_training_ids("viper", paired, split))


@dataset(
    "grid",
    requires=("probe", "gallery"),
    folders=("underground_reid", "GRID"),
    published=Counts(250, 125, 125, 125, 900, 775),
    fits=lambda root: GRID.fits(root / "probe"),
)
def grid(root: Path, /, *, split: int = 0) -> Splits:
    """Read GRID: ``probe/0001_1_25004_107_32_106_221.jpeg`` is person 1 in camera 1 of 8.

    Args:
        root: the folder with ``probe``, or one above it.
        split: the published partition, 0..9, where ``features_and_partitions.mat`` lies beside the folders; else a
            random half of ours.
    """
    probe, gallery = (GRID.read_folder(root / folder) for folder in ("probe", "gallery"))
    partitions = root / "features_and_partitions.mat"
    if partitions.exists():
        chosen = read_partition(partitions, choice("grid", "split", split, range(NUM_SPLITS)))
    else:
        chosen = pick_training_ids("grid", (s.pid for s in probe if s.pid != DISTRACTOR), split)
    return divide("grid", root, probe, gallery, chosen)


@dataset(
    "prid",
    variants=(("single_shot/cam_a", "single_shot/cam_b"), ("cam_a", "cam_b")),
    folders=("prid_2011", "prid2011", "prid"),
    published=Counts(200, 100, 100, 100, 649),
    fits=lambda root: PRID.fits(single_shot(root) / "cam_a"),
)
def prid(root: Path, /, *, split: int = 0) -> Splits:
    """Read PRID 2011, single-shot: ``single_shot/cam_a/person_0001.png`` is person 1.

    The first 200 numbers are the same person in both cameras; of the others only camera 2's are used, as gallery.

    Args:
        root: the folder with ``single_shot``, or one above it.
        split: random half of the 200, 0..9.
    """
    home = single_shot(root)
    first, second = (PRID.read_folder(home / f"cam_{letter}", camid) for camid, letter in enumerate("ab", start=1))
    first = [sample for sample in first if sample.pid <= PRID_PAIRS]
    return divide("prid", root, first, second, pick_training_ids("prid", (s.pid for s in first), split))


def single_shot(root: Path) -> Path:
    """The folder with PRID 2011's two cameras."""
    return root / "single_shot" if (root / "single_shot").is_dir() else root


@dataset(
    "occluded_reid",
    requires=("occluded_body_images", "whole_body_images"),
    folders=("Occluded_REID", "Occluded-REID", "OccludedREID"),
    published=Counts(0, 0, 1_000, 200, 1_000),
    fits=lambda root: not (root / "partial_body_images").exists(),
    test_only=True,
)
def occluded_reid(root: Path, /) -> Splits:
    """Read Occluded-REID: one folder per person within each part."""
    return read_parts("occluded_reid", root, "occluded_body_images", "whole_body_images")


@dataset(
    "partial_reid",
    requires=("partial_body_images", "whole_body_images"),
    folders=("Partial_REID", "Partial-REID", "PartialREID", "Partial-REID_Dataset"),
    published=Counts(0, 0, 300, 60, 300),
    test_only=True,
)
def partial_reid(root: Path, /) -> Splits:
    """Read Partial-REID; its ``occluded_body_images``, where they came along, are no part of the protocol."""
    return read_parts("partial_reid", root, "partial_body_images", "whole_body_images")


@dataset(
    "partial_ilids",
    requires=("Probe", "Gallery"),
    folders=("Partial_iLIDS", "Partial-iLIDS", "PartialiLIDS"),
    published=Counts(0, 0, 119, 119, 119),
    fits=lambda root: re.match(r"\d+\.", first_image(root / "Probe"), re.ASCII) is not None,
    test_only=True,
)
def partial_ilids(root: Path, /) -> Splits:
    """Read Partial-iLIDS: one picture per person in each part."""
    return read_parts("partial_ilids", root, "Probe", "Gallery")


def read_parts(name: str, root: Path, *folders: str) -> Splits:
    """Query and gallery folder: the pictures in them, and after these those in one folder per person below."""
    query, gallery = (
        [
            sample
            for place in (root / folder, *(root / folder / person for person in list_folders(root / folder)))
            for sample in PARTIAL.read_folder(place, camid)
        ]
        for camid, folder in enumerate(folders)
    )
    return divide(name, root, query, gallery)


def divide(
    name: str, root: Path, first: list[Sample], second: list[Sample], chosen: Collection[int] = frozenset()
) -> Splits:
    """Train on both pictures of the chosen people; search the first camera's others among the second's."""
    return Splits(
        name,
        root,
        train=[sample for sample in (*first, *second) if sample.pid in chosen],
        query=[sample for sample in first if sample.pid not in chosen],
        gallery=[sample for sample in second if sample.pid not in chosen],
    )


def pick_training_ids(name: str, pids: Iterable[int], split: int) -> set[int]:
    """The half of the identities to train on in random split ``split``; with an odd number the smaller half.

    Raises:
        ConfigError: ``split`` is not 0..9.
    """
    choice(name, "split", split, range(NUM_SPLITS))
    drawn = sorted(set(pids), key=lambda pid: hashlib.sha256(f"{name} {split} {pid}".encode()).digest())
    return set(drawn[: len(drawn) // 2])


def read_partition(file: Path, split: int) -> set[int]:
    """Training people of one of GRID's ten published partitions.

    The file holds a cell ``trainIdxAll`` with one structure per partition, whose third field lists the people.

    Raises:
        DataError: the file is not that.
    """
    from scipy.io import loadmat

    try:
        record: Any = loadmat(file)["trainIdxAll"].flatten()[split].flatten()[0]
        return {int(pid) for pid in record[2].flatten()}
    except Exception as error:  # scipy raises whatever a damaged file makes it stumble over
        raise DataError(
            f"cannot read partition {split} from '{file}' ({error!r:.80}), expected GRID's trainIdxAll; "
            "restore the file, or remove it to use our random halves"
        ) from error
