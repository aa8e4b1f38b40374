"""The synthetic crowd as `regard data make` writes it: Market-1501's layout with masks and keypoints.

::

    dataset.json                             every generation parameter
    bounding_box_train|query|bounding_box_test/0002_c1s1_000451_03.jpg
    masks/<one of these folders>/0002_c1s1_000451_03.png      0 = background
    keypoints.json                           COCO keypoints, file names relative to the root

A picture without mask or keypoints is read without.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from regard.data.datasets.keypoints import Keypoints, read_keypoints
from regard.data.datasets.layout import dataset, list_images
from regard.data.datasets.market1501 import FOLDERS, read_split
from regard.structures import Sample, Splits

__all__ = ["crowd"]


@dataset("crowd", requires=("dataset.json", *FOLDERS.values()), folders=("crowd",))
def crowd(root: Path, /) -> Splits:
    """Read a synthetic crowd with its masks and keypoints.

    Args:
        root: the folder with ``dataset.json``, or the one above it when that folder is called ``crowd``.

    Raises:
        DataError: the folder is no crowd, a part of it is missing, empty or damaged.
    """
    file = root / "keypoints.json"
    keypoints = read_keypoints(file) if file.exists() else {}
    return Splits.of("crowd", root, {split: read_labeled(root, folder, keypoints) for split, folder in FOLDERS.items()})


def read_labeled(root: Path, folder: str, keypoints: dict[str, Keypoints]) -> list[Sample]:
    """Read one split, each picture with its mask and keypoints where there are any."""
    folder_of_masks = root / "masks" / folder
    masks = {path.stem: path for path in list_images(folder_of_masks)} if folder_of_masks.is_dir() else {}
    return [
        replace(sample, mask=masks.get(sample.path.stem), keypoints=keypoints.get(f"{folder}/{sample.path.name}"))
        for sample in read_split(root / folder)
    ]
