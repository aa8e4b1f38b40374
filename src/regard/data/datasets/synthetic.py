"""The synthetic crowd as `regard data make` writes it: Market-1501's layout with masks and keypoints.

::

    dataset.json                             every generation parameter
    bounding_box_train|query|bounding_box_test/0002_c1s1_000451_03.jpg
    masks/<one of these folders>/0002_c1s1_000451_03.png      0 = background
    keypoints.json                           COCO keypoints, file names relative to the root

In the JSON ``images[]`` hold ``id`` and ``file_name``, ``annotations[]`` hold ``image_id`` and ``keypoints``: 51
numbers, (x, y, visibility) of 17 joints in pixels of the stored image. A picture without mask or keypoints is read
without.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from regard.data.datasets.layout import FOLDERS, dataset, list_images
from regard.data.datasets.market1501 import NAMING
from regard.errors import DataError
from regard.parsing import parse_json
from regard.storage import read_regular
from regard.structures import Sample, Splits

__all__ = ["NUM_JOINTS", "Keypoints", "crowd", "parse_keypoints", "read_keypoints"]

NUM_JOINTS = 17

Keypoints: TypeAlias = tuple[tuple[float, float, int], ...]
"""(x, y, visibility) of each joint; visibility 0 absent, 1 occluded, 2 visible."""


@dataset("crowd", requires=("dataset.json", *FOLDERS.values()), folders=("crowd",))
def crowd(root: Path, /) -> Splits:
    """Read a synthetic crowd with its masks and keypoints.

    Args:
        root: the folder with ``dataset.json``, or the one above it when that folder is called ``crowd``.
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
        for sample in NAMING.read_folder(root / folder)
    ]


def read_keypoints(path: Path) -> dict[str, Keypoints]:
    """Keypoints of every annotated image, by its ``file_name``.

    Raises:
        DataError: the file is no COCO keypoints JSON, an annotation is malformed or belongs to no image, or an
            image has two.
    """
    try:
        content = parse_json(read_regular(path))
        names = {image["id"]: image["file_name"] for image in content["images"]}
        annotations = [(names[entry["image_id"]], entry["keypoints"]) for entry in content["annotations"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise DataError(f"cannot read keypoints from '{path}' ({reason}), expected COCO JSON; make it again") from error
    keypoints: dict[str, Keypoints] = {}
    for name, flat in annotations:
        if name in keypoints:
            raise DataError(f"'{path}' has two annotations for '{name}', expected one person per image; remove one")
        keypoints[name] = parse_keypoints(flat, name, path)
    return keypoints


def parse_keypoints(flat: Any, name: str, path: Path) -> Keypoints:
    """Group 51 numbers by joint.

    Raises:
        DataError: they are not 51 finite numbers.
    """
    try:
        valid = len(flat) == 3 * NUM_JOINTS and all(map(math.isfinite, flat))
    except TypeError:
        valid = False
    if not valid:
        raise DataError(
            f"keypoints of '{name}' in '{path}' are not {3 * NUM_JOINTS} finite numbers; make or correct the file"
        )
    return tuple((float(x), float(y), int(v)) for x, y, v in zip(flat[0::3], flat[1::3], flat[2::3]))
