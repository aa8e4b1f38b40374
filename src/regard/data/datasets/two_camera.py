"""Small data sets of people seen by two cameras once each: VIPeR, GRID and PRID 2011.

Half of the people are for training, and results are means over ten random halves: ``split=0`` to ``split=9``.

=========  =====================================  ==============  ========================================
data set   pictures                               train, per cut  test, per cut
=========  =====================================  ==============  ========================================
VIPeR      ``cam_a``, ``cam_b``: 632 people       316 people      316 queries, 316 in the gallery
GRID       ``probe``, ``gallery``: 250 people     125 people      125 queries, 900 in the gallery (775 of
           and 775 pictures of others (0000)                      them distractors)
PRID 2011  ``single_shot``: 385 in ``cam_a``,     100 people      100 queries, 649 in the gallery (549 of
           749 in ``cam_b``, the first 200 both                   them people the other camera never saw)
=========  =====================================  ==============  ========================================

Gray, Brennan, Tao: "Evaluating Appearance Models for Recognition, Reacquisition, and Tracking", PETS 2007. Loy, Xiang,
Gong: "Multi-Camera Activity Correlation Analysis", CVPR 2009. Hirzer, Beleznai, Roth, Bischof: "Person
Re-Identification by Descriptive and Discriminative Classification", SCIA 2011.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regard.data.datasets.layout import dataset, first_image, list_images
from regard.data.datasets.paths_check import Counts
from regard.data.datasets.random_splits import NUM_SPLITS, choice, pick_training_ids
from regard.errors import DataError
from regard.structures import DISTRACTOR, Sample, Splits

__all__ = ["grid", "prid", "viper"]

VIPER = re.compile(r"(\d+)_(\d+)(?=[_.])", re.ASCII)
GRID = re.compile(r"(\d+)_(\d+)_\d+", re.ASCII)
PRID = re.compile(r"person_(\d+)(?=\.)", re.ASCII)

PRID_PAIRS = 200
"""People of PRID 2011 seen by both cameras; the numbers after them mean other people in each camera."""


@dataset(
    "viper",
    requires=("cam_a", "cam_b"),
    folders=("VIPeR", "VIPeR.v1.0"),
    published=Counts(632, 316, 316, 316, 316, 0, 0),
    fits=lambda root: VIPER.match(first_image(root / "cam_a")) is not None,
)
def viper(root: Path, /, *, split: int = 0) -> Splits:
    """Read VIPeR: ``cam_a/000_45.bmp`` is person 0 at 45 degrees.

    Numbers start at 0, which here means a distractor: person 0 is read as 1, and so on. Queries are of camera 1.

    Args:
        root: the folder with ``cam_a``, or one above it.
        split: random half, 0..9.

    Raises:
        DataError: the folder is not VIPeR, a part of it is missing or empty, or a name is not understood.
    """
    first, second = (
        [
            Sample(path, int(parse(path, VIPER, "000_45.bmp")[1]) + 1, camera)
            for path in list_images(root / f"cam_{letter}")
        ]
        for camera, letter in enumerate("ab", start=1)
    )
    paired = {s.pid for s in first} & {s.pid for s in second}
    return divide("viper", root, first, second, pick_training_ids("viper", paired, split))


@dataset(
    "grid",
    requires=("probe", "gallery"),
    folders=("underground_reid", "GRID"),
    published=Counts(250, 125, 125, 125, 900, 775, 0),
    fits=lambda root: GRID.match(first_image(root / "probe")) is not None,
)
def grid(root: Path, /, *, split: int = 0) -> Splits:
    """Read GRID: ``probe/0001_1_25004_107_32_106_221.jpeg`` is person 1 in camera 1 of 8.

    Args:
        root: the folder with ``probe``, or one above it.
        split: the published partition, 0..9, where ``features_and_partitions.mat`` lies beside the folders; else a
            random half of ours.

    Raises:
        DataError: the folder is not GRID, a part of it is missing or empty, or a name is not understood.
    """
    probe, gallery = ([parse_grid(path) for path in list_images(root / folder)] for folder in ("probe", "gallery"))
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
    published=Counts(200, 100, 100, 100, 649, 0, 0),
    fits=lambda root: PRID.match(first_image(single_shot(root) / "cam_a")) is not None,
)
def prid(root: Path, /, *, split: int = 0) -> Splits:
    """Read PRID 2011, single-shot: ``single_shot/cam_a/person_0001.png`` is person 1.

    The first 200 numbers are the same person in both cameras; of the others only camera 2's are used, as gallery.

    Args:
        root: the folder with ``single_shot``, or one above it.
        split: random half of the 200, 0..9.

    Raises:
        DataError: the folder is not PRID 2011, a part of it is missing or empty, or a name is not understood.
    """
    first, second = (
        [
            Sample(path, int(parse(path, PRID, "person_0001.png")[1]), camera)
            for path in list_images(single_shot(root) / f"cam_{letter}")
        ]
        for camera, letter in enumerate("ab", start=1)
    )
    first = [sample for sample in first if sample.pid <= PRID_PAIRS]
    return divide("prid", root, first, second, pick_training_ids("prid", (s.pid for s in first), split))


def single_shot(root: Path) -> Path:
    """The folder with PRID 2011's two cameras."""
    return root / "single_shot" if (root / "single_shot").is_dir() else root


def parse_grid(path: Path) -> Sample:
    """Read person and camera off one of GRID's file names.

    Raises:
        DataError: the name is not GRID's.
    """
    match = parse(path, GRID, "0001_1_25004_107_32_106_221.jpeg")
    return Sample(path, int(match[1]), int(match[2]))


def divide(name: str, root: Path, first: list[Sample], second: list[Sample], chosen: set[int]) -> Splits:
    """Train on both pictures of the chosen people; search the first camera's others among the second's."""
    return Splits(
        name,
        root,
        train=[sample for sample in (*first, *second) if sample.pid in chosen],
        query=[sample for sample in first if sample.pid not in chosen],
        gallery=[sample for sample in second if sample.pid not in chosen],
    )


def parse(path: Path, pattern: re.Pattern[str], example: str) -> re.Match[str]:
    """Match a file name.

    Raises:
        DataError: it does not match.
    """
    match = pattern.match(path.name)
    if match is None:
        raise DataError(
            f"cannot tell the person from the name of '{path}', expected one like {example}; "
            "rename the file or take it out of the folder"
        )
    return match


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
