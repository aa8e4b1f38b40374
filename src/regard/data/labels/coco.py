"""COCO person keypoints, one JSON for a whole data set, with masks if there are any.

``images[]`` hold ``id``, ``file_name`` (relative to the data set's root), ``width`` and ``height``; ``annotations[]``
hold ``image_id`` and any of ``keypoints`` (51 numbers: x, y, visibility of 17 joints in pixels of the photo),
``keypoint_scores`` (17 numbers from 0 to 1) and ``segmentation`` (polygons, or runs plain or compressed).

What pose estimators write, COCO's format of results, is read too: ``keypoints`` with a score from 0 to 1 in the third
place of every joint, and a file that is the list of annotations alone, whose ``image_id`` is then the ``file_name``.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from regard.data.datasets.synthetic import NUM_JOINTS, Keypoints, parse_keypoints
from regard.data.image import MAX_PIXELS
from regard.data.labels.joints import JOINTS, SKELETON, level_of
from regard.data.labels.labeled import Outline
from regard.errors import DataError
from regard.parsing import parse_json
from regard.storage import read_regular, write_atomic

__all__ = ["Person", "read_coco", "write_coco"]


class Person(NamedTuple):
    """What a COCO file says of one photo.

    Attributes:
        height, width: of the photo; 0 where the file does not say.
        keypoints: None where there are none.
        scores: how sure each keypoint is, from 0 to 1; None where the file does not say.
        outline: the mask; None where there is none.
    """

    height: int = 0
    width: int = 0
    keypoints: Keypoints | None = None
    scores: tuple[float, ...] | None = None
    outline: Outline | None = None


def read_coco(path: Path) -> tuple[dict[str, Person], list[str]]:
    """The person of every annotated photo, by ``file_name``.

    Of several annotations of a photo the largest counts, and of equally large ones the most central.

    Returns:
        The persons, and the names of photos that had several annotations.

    Raises:
        DataError: the file is no COCO JSON, or an annotation is malformed or belongs to no photo.
    """
    try:
        content = parse_json(read_regular(path))
        if isinstance(content, list):
            content = with_photos(content, path)
        photos = {image["id"]: image for image in content["images"]}
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            photo = photos[annotation["image_id"]]
            found[photo["file_name"]].append({**annotation, "photo": photo})
    except DataError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise DataError(f"cannot read labels from '{path}' ({reason}), expected COCO JSON; make it again") from error
    if not all(isinstance(name, str) for name in found):
        raise DataError(f"a file_name in '{path}' is no text, expected a path below the data set's root; correct it")
    persons = {name: parse(most_prominent(entries), name, path) for name, entries in found.items()}
    return persons, sorted(name for name, entries in found.items() if len(entries) > 1)


def with_photos(results: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    """A list of results as a file with photos, which they name.

    Raises:
        DataError: they name them by number.
        ValueError, TypeError, KeyError: they are no results.
    """
    names = list(dict.fromkeys(result["image_id"] for result in results))
    if not names:
        raise ValueError("it is an empty list")
    if not all(isinstance(name, str) for name in names):
        raise DataError(
            f"'{path}' is a list of results by number of image, which does not say what photos these are; put it "
            'under "annotations" beside the "images" it was made from, or write file names as image_id'
        )
    return {"images": [{"id": name, "file_name": name} for name in names], "annotations": results}


def most_prominent(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest of several annotations, of equally large ones the most central, of those the surest."""

    def prominence(annotation: dict[str, Any]) -> tuple[float, float, float]:
        score = annotation.get("score")
        sure = float(score) if isinstance(score, int | float) else 0.0
        match annotation.get("bbox"):
            case [int() | float() as x, int() | float() as y, int() | float() as width, int() | float() as height]:
                off = math.hypot(
                    x + width / 2 - side(annotation["photo"], "width") / 2,
                    y + height / 2 - side(annotation["photo"], "height") / 2,
                )
                return width * height, -off, sure
        return 0.0, 0.0, sure

    return max(annotations, key=prominence) if len(annotations) > 1 else annotations[0]


def side(photo: dict[str, Any], name: str) -> int:
    """Width or height of a photo; 0 where it is not a whole number above 0."""
    length = photo.get(name)
    return length if type(length) is int and 0 < length < 1 << 16 else 0


def parse(annotation: dict[str, Any], name: str, path: Path) -> Person:
    """Check one annotation.

    Raises:
        DataError: a part of it is malformed.
    """
    height, width = side(annotation["photo"], "height"), side(annotation["photo"], "width")
    keypoints = scores = outline = None
    if annotation.get("keypoints"):
        try:
            keypoints = parse_keypoints(annotation["keypoints"], name, path)
        except OverflowError as error:
            raise DataError(f"keypoints of '{name}' in '{path}' are too large ({error}); correct the file") from error
        if given := scores_within(annotation["keypoints"]):
            scores = parse_scores(given, name, path)
            leveled = [(x, y, level_of(score)) for (x, y, _), score in zip(keypoints, scores)]
            keypoints = tuple(joint if joint[2] else (0.0, 0.0, 0) for joint in leveled)
        elif not {level for _, _, level in keypoints} <= {0, 1, 2}:
            raise DataError(
                f"the third numbers of the keypoints of '{name}' in '{path}' are neither visibility (0, 1, 2) nor "
                "scores from 0 to 1; correct the file"
            )
    if annotation.get("keypoint_scores"):
        scores = parse_scores(annotation["keypoint_scores"], name, path)
    if annotation.get("segmentation"):
        if not 0 < height * width <= MAX_PIXELS:
            raise DataError(
                f"the photo '{name}' in '{path}' has no width and height of a person crop, which its mask needs; "
                "correct images[]"
            )
        outline = Outline(annotation["segmentation"], height, width)
    return Person(height, width, keypoints, scores, outline)


def scores_within(flat: list[float]) -> list[float]:
    """The third numbers of 17 joints where they are scores, which one that is no whole number shows; else none."""
    thirds = flat[2::3]
    return thirds if any(third % 1 for third in thirds) else []


def parse_scores(scores: Any, name: str, path: Path) -> tuple[float, ...]:
    """Check scores.

    Raises:
        DataError: they are not 17 numbers from 0 to 1.
    """
    numbers = isinstance(scores, list) and all(isinstance(score, int | float) for score in scores)
    if not numbers or len(scores) != NUM_JOINTS or not all(0 <= score <= 1 for score in scores):
        raise DataError(
            f"keypoint_scores of '{name}' in '{path}' are not {NUM_JOINTS} numbers from 0 to 1; correct the file"
        )
    return tuple(map(float, scores))


def write_coco(path: Path, persons: Iterable[tuple[str, Person]], description: str) -> None:
    """Write persons with the names of their photos as COCO JSON.

    Raises:
        StorageError: the disk refused.
    """
    images, annotations = [], []
    for number, (name, person) in enumerate(persons, 1):
        images.append({"id": number, "file_name": name, "width": person.width, "height": person.height})
        annotations.append(entry(number, person))
    category = {
        "id": 1, "name": "person", "keypoints": JOINTS, "skeleton": [[a + 1, b + 1] for a, b in SKELETON],
    }  # fmt: skip
    content = {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": [category],
    }
    write_atomic(path, json.dumps(content, separators=(",", ":")).encode())


def entry(number: int, person: Person) -> dict[str, Any]:
    """An ``annotations[]`` entry whose box is the whole photo."""
    annotation: dict[str, Any] = {
        "id": number, "image_id": number, "category_id": 1, "iscrowd": 0,
        "bbox": [0, 0, person.width, person.height], "area": person.width * person.height,
    }  # fmt: skip
    if person.keypoints is not None:
        annotation["keypoints"] = [round(value, 2) for keypoint in person.keypoints for value in keypoint]
        annotation["num_keypoints"] = sum(v > 0 for _, _, v in person.keypoints)
    if person.scores is not None:
        annotation["keypoint_scores"] = [round(score, 4) for score in person.scores]
    if person.outline is not None:
        annotation["segmentation"] = person.outline.segmentation
    return annotation
