"""The synthetic crowd as `regard data make` writes it: Market-1501's layout with masks and keypoints.

::

    dataset.json                             every generation parameter
    bounding_box_train|query|bounding_box_test/0002_c1s1_000451_03.jpg
    masks/<one of these folders>/0002_c1s1_000451_03.png      0 = background
    keypoints.json                           COCO keypoints, file names relative to the root

In the JSON ``images[]`` hold ``id`` and ``file_name``, ``annotations[]`` hold ``image_id`` and ``keypoints``: 51
numbers, (x, y, visibility) of 17 joints in pixels of the stored image. A picture without mask or keypoints is read
without. A crowd that was made to test on alone has nothing to train on.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from regard.data.datasets.layout import FOLDERS, dataset, list_images
from regard.data.datasets.market1501 import NAMING
from regard.errors import DataError
from regard.parsing import parse_json
from regard.storage import read_regular
from regard.structures import Sample, Splits

__all__ = ["NUM_JOINTS", "Dose", "Keypoints", "crowd", "dose_sets", "parse_keypoints", "read_keypoints"]

NUM_JOINTS = 17

Keypoints: TypeAlias = tuple[tuple[float, float, int], ...]
"""(x, y, visibility) of each joint; visibility 0 absent, 1 occluded, 2 visible."""


class Dose(NamedTuple):
    """How much, 0 to 1, of which cause a crowd has; no cause is ("", 0)."""

    cause: str
    dose: float


@dataset("crowd", requires=("dataset.json", *FOLDERS.values()), folders=("crowd",), may_lack_train=True)
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


def dose_sets(root: Path) -> dict[Dose, Path]:
    """The crowds in a folder that differ in nothing but their cause and its dose, by these; that of none first.

    Raises:
        DataError: the folder cannot be read, no crowd in it has no cause, or two differ otherwise.
    """
    try:
        folders = [file.parent for file in sorted(root.glob("*/dataset.json"))]
        read = {folder: asked_for(folder) for folder in folders}
        found = {Dose(str(asked.pop("cause", "")), float(asked.pop("dose", 0))): (place, asked)
                 for place, asked in read.items()}  # fmt: skip
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot read the sets in '{root}' ({error}); make them with regard data doses") from error
    none = Dose("", 0.0)
    if none not in found or len(found) < 2:
        raise DataError(
            f"'{root}' holds no crowd without a cause beside some that have one; make them with regard data doses "
            f"CROWD {root}"
        )
    for dose, (place, asked) in found.items():
        if asked != found[none][1]:
            names = sorted(name for name in asked if asked[name] != found[none][1].get(name))
            raise DataError(
                f"'{place}' and '{found[none][0]}' differ in more than their cause ({', '.join(names)}), so they "
                "cannot be paired; make both with regard data doses"
            )
        if not 0 <= dose.dose <= 1:
            raise DataError(f"'{place}' says that its dose is {dose.dose}, wanted 0 to 1; make it again")
    return {dose: found[dose][0] for dose in sorted(found)}


def asked_for(root: Path) -> dict[str, Any]:
    """The parameters in a crowd's ``dataset.json``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else.
    """
    content = parse_json(read_regular(root / "dataset.json"))
    asked = content.get("parameters") if isinstance(content, dict) else None
    if not isinstance(asked, dict):
        raise ValueError(f"'{root / 'dataset.json'}' has no parameters")
    return {name: value for name, value in asked.items() if name != "test_only"}
