"""Data sets of hidden and cut-off people, for tests only: Occluded-REID, Partial-REID and Partial-iLIDS.

Networks are trained elsewhere, usually on Market-1501. The query shows a part of a person, the gallery the whole one.
None of the three names cameras; as in published evaluations the query is camera 0 and the gallery camera 1, so that no
picture is left out.

=============  ===  ==========================================  ========================================
data set       ids  query                                       gallery
=============  ===  ==========================================  ========================================
Occluded-REID  200  1,000: ``occluded_body_images/001/*.tif``   1,000: ``whole_body_images/001/*.tif``
Partial-REID    60  300: ``partial_body_images/001_001.jpg``    300: ``whole_body_images/001_001.jpg``
Partial-iLIDS  119  119: ``Probe/001.jpg``                      119: ``Gallery/001.jpg``
=============  ===  ==========================================  ========================================

Zhuo, Chen, Lai, Wang: "Occluded Person Re-identification", ICME 2018. Zheng, Li, Xiang, Liao, Lai, Gong: "Partial
Person Re-identification", ICCV 2015. He, Liang, Li, Sun: "Deep Spatial Feature Reconstruction for Partial Person
Re-identification", CVPR 2018.
"""

from __future__ import annotations

import re
from pathlib import Path

from regard.data.datasets.layout import dataset, first_image, list_folders, list_images
from regard.data.datasets.paths_check import Counts
from regard.errors import DataError
from regard.structures import Sample, Splits

__all__ = ["occluded_reid", "partial_ilids", "partial_reid"]

QUERY_CAMERA, GALLERY_CAMERA = 0, 1

NAME = re.compile(r"(\d+)(?=[_.])", re.ASCII)


def searched(query: int, ids: int, gallery: int) -> Counts:
    """Counts of a data set without training part."""
    return Counts(0, 0, query, ids, gallery, 0, 0)


@dataset(
    "occluded_reid",
    requires=("occluded_body_images", "whole_body_images"),
    folders=("Occluded_REID", "Occluded-REID", "OccludedREID"),
    published=searched(1_000, 200, 1_000),
    fits=lambda root: not (root / "partial_body_images").exists(),
    test_only=True,
)
def occluded_reid(root: Path, /) -> Splits:
    """Read Occluded-REID: one folder per person within each part.

    Raises:
        DataError: the folder is not Occluded-REID, a part of it is missing or empty, or a name is not understood.
    """
    return read_parts("occluded_reid", root, "occluded_body_images", "whole_body_images")


@dataset(
    "partial_reid",
    requires=("partial_body_images", "whole_body_images"),
    folders=("Partial_REID", "Partial-REID", "PartialREID", "Partial-REID_Dataset"),
    published=searched(300, 60, 300),
    test_only=True,
)
def partial_reid(root: Path, /) -> Splits:
    """Read Partial-REID; its ``occluded_body_images``, where they came along, are no part of the protocol.

    Raises:
        DataError: the folder is not Partial-REID, a part of it is missing or empty, or a name is not understood.
    """
    return read_parts("partial_reid", root, "partial_body_images", "whole_body_images")


@dataset(
    "partial_ilids",
    requires=("Probe", "Gallery"),
    folders=("Partial_iLIDS", "Partial-iLIDS", "PartialiLIDS"),
    published=searched(119, 119, 119),
    fits=lambda root: re.match(r"\d+\.", first_image(root / "Probe"), re.ASCII) is not None,
    test_only=True,
)
def partial_ilids(root: Path, /) -> Splits:
    """Read Partial-iLIDS: one picture per person in each part.

    Raises:
        DataError: the folder is not Partial-iLIDS, a part of it is missing or empty, or a name is not understood.
    """
    return read_parts("partial_ilids", root, "Probe", "Gallery")


def read_parts(name: str, root: Path, query: str, gallery: str) -> Splits:
    """Query and gallery folder, with the pictures in them or in one folder per person below.

    Raises:
        DataError: a folder cannot be listed, or a file does not start with a person's number.
    """
    return Splits(
        name,
        root,
        train=[],
        query=[parse_name(path, QUERY_CAMERA) for path in list_tree(root / query)],
        gallery=[parse_name(path, GALLERY_CAMERA) for path in list_tree(root / gallery)],
    )


def list_tree(folder: Path) -> list[Path]:
    """Images in a folder and one level below it, the ones above first."""
    return list_images(folder) + [path for name in list_folders(folder) for path in list_images(folder / name)]


def parse_name(path: Path, camid: int) -> Sample:
    """Read the person off a file name.

    Raises:
        DataError: the name does not start with a number.
    """
    match = NAME.match(path.name)
    if match is None:
        raise DataError(
            f"cannot tell the person from the name of '{path}', expected one like 001_001.jpg; "
            "rename the file or take it out of the folder"
        )
    return Sample(path, int(match[1]), camid)
