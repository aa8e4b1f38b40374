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

import numpy as np

from regard.data.datasets.synthetic import NUM_JOINTS, Keypoints, parse_keypoints
from regard.data.image import MAX_PIXELS
from regard.data.labels.joints import JOINTS, PRESENT, SKELETON, VISIBLE, level_of
from regard.errors import ConfigError, DataError
from regard.parsing import parse_json
from regard.storage import read_regular, write_atomic

__all__ = ["Outline", "Person", "draw_segmentation", "read_coco", "runs_of", "write_coco"]


EDGES = 4096
"""Edges of a polygon that are looked at together: with them, memory is bounded."""


class Outline(NamedTuple):
    """A mask within a COCO file.

    Attributes:
        segmentation: polygons, or runs.
        height, width: of the photo it was made for.
    """

    segmentation: Any
    height: int
    width: int


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
        thirds = annotation["keypoints"][2::3]
        if any(third % 1 for third in thirds):  # one that is no whole number shows that they are scores
            scores = parse_scores(thirds, name, path)
            keypoints = keypoints_of((x, y, score) for (x, y, _), score in zip(keypoints, scores))
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


def keypoints_of(
    joints: Iterable[tuple[float, float, float]], visible: float = VISIBLE, present: float = PRESENT
) -> Keypoints:
    """Keypoints from x, y and score of every joint; zeros for an absent one."""
    leveled = ((x, y, level_of(score, visible, present)) for x, y, score in joints)
    return tuple(joint if joint[2] else (0.0, 0.0, 0) for joint in leveled)


def check_thresholds(visible: float, present: float) -> None:
    """Check the lowest scores of a joint that is seen and of one that is there.

    Raises:
        ConfigError: they are out of order.
    """
    if not 0 <= present <= visible <= 1:
        raise ConfigError(f"thresholds are {present} and {visible}, expected 0 <= present <= visible <= 1; order them")


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


def draw_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """A mask from what COCO's ``segmentation`` holds: polygons, or runs plain or compressed.

    Args:
        segmentation: list of [x, y, x, y, ...], or {"size": [h, w], "counts": list or text}.
        height, width: h and w of the photo.

    Returns:
        (h, w) uint8, 255 on the person and 0 elsewhere.

    Raises:
        ValueError: it is neither, or does not fit the photo.
    """
    match segmentation:
        case {"size": [rows, columns], "counts": list() | str() as counts}:
            if (rows, columns) != (height, width):
                raise ValueError(f"runs of {rows} x {columns} for a photo of {height} x {width}")
            return draw_runs(unpack_runs(counts) if isinstance(counts, str) else counts, height, width)
        case list():
            return draw_polygons(segmentation, height, width)
    raise ValueError("neither polygons nor runs")


def draw_runs(runs: list[int], height: int, width: int) -> np.ndarray:
    """A mask from run lengths, column by column, the first of them background.

    Returns:
        (h, w) uint8, 255 on the person and 0 elsewhere.

    Raises:
        ValueError: a run is no length, or they do not add up to the photo.
    """
    if not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("a run is not a whole number from 0 up")
    if sum(runs) != height * width:
        raise ValueError(f"runs add up to {sum(runs)}, a photo of {height} x {width} has {height * width}")
    values = np.zeros(len(runs), np.uint8)
    values[1::2] = 255
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths of an (h, w) mask, as :func:`draw_runs` reads them."""
    flat = np.concatenate([[False], mask.T.ravel() > 0])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def unpack_runs(text: str) -> list[int]:
    """Run lengths from COCO's compressed text.

    Every character holds five bits, low ones first, and a sixth that says whether the number goes on; from the fourth
    number on, it is the difference to the one before the last.

    Raises:
        ValueError: another character, or the text ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"compressed runs hold {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift > 60:
                raise ValueError("compressed runs hold a number without end")
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("compressed runs end within a number")
    return runs


def draw_polygons(polygons: list[Any], height: int, width: int) -> np.ndarray:
    """A mask of the pixels whose centers, half way between whole numbers, lie in a polygon.

    Args:
        polygons: lists of x, y, x, y, ...; their union is drawn, each by the even-odd rule.
        height, width: h and w.

    Returns:
        (h, w) uint8, 255 on the person and 0 elsewhere.

    Raises:
        ValueError: a polygon is no list of at least three points.
    """
    mask = np.zeros((height, width), bool)
    for polygon in polygons:
        try:
            points = np.array(polygon, np.float64).reshape(-1, 2)
        except (TypeError, ValueError, OverflowError):
            points = np.empty((0, 2))
        if len(points) < 3 or not np.isfinite(points).all():
            raise ValueError("a polygon is not three or more points of finite numbers")
        mask |= polygon_inside(points, height, width)
    return mask.view(np.uint8) * np.uint8(255)


def polygon_inside(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) bool: the pixel centers with an odd number of the edges of (n, 2) points to their left."""
    crossings = np.zeros((height, width + 1), np.uint8)  # only whether they are odd counts
    centers = np.arange(height)[:, None] + 0.5
    ends = np.roll(points, -1, 0)
    for some in range(0, len(points), EDGES):
        (x1, y1), (x2, y2) = points[some : some + EDGES].T, ends[some : some + EDGES].T
        rows, edges = np.nonzero((centers >= np.minimum(y1, y2)) & (centers < np.maximum(y1, y2)))
        x = x1[edges] + (rows + 0.5 - y1[edges]) * ((x2 - x1)[edges] / (y2 - y1)[edges])
        np.add.at(crossings, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)), 1)
    return np.cumsum(crossings[:, :width], 1, np.uint8) % 2 == 1
