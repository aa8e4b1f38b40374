"""COCO person keypoints, one JSON for a whole data set.

``images[]`` hold ``id`` and ``file_name`` (relative to the data set's root), ``annotations[]`` hold ``image_id`` and
``keypoints``: 51 numbers, (x, y, visibility) of 17 joints in pixels of the stored image.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

from regard.errors import DataError
from regard.parsing import parse_json
from regard.storage import read_regular

__all__ = ["NUM_JOINTS", "Keypoints", "read_keypoints"]

NUM_JOINTS = 17

Keypoints: TypeAlias = tuple[tuple[float, float, int], ...]
"""(x, y, visibility) of each joint; visibility 0 absent, 1 occluded, 2 visible."""


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
