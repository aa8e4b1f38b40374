"""Teachers: whatever finds joints, a mask or both on pictures of one person.

Shapes: h x w pixels of a picture, K joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from regard.data.labels.joints import BLAZEPOSE, JOINTS
from regard.data.labels.labeled import person_of
from regard.errors import DataError

__all__ = ["Found", "Pose", "Silhouette", "Teacher", "by_function", "combined", "in_fractions", "in_our_order"]

Pose = Callable[[np.ndarray], np.ndarray]
"""(h, w, 3) uint8 -> (17, 3): x and y in pixels of the picture, and a score from 0 to 1."""

Silhouette = Callable[[np.ndarray], np.ndarray]
"""(h, w, 3) uint8 -> (h, w) uint8: 255 on the person and 0 elsewhere."""


FAR, TINY = 2.0, 8
"""Sides of a picture that fractions of it may lie away, and pixels of one in which two pixels are not nothing."""


class Found(NamedTuple):
    """What was found on a picture.

    Attributes:
        joints: (17, 3) x and y in pixels of the picture, and a score from 0 to 1; None where nobody looked.
        mask: (h, w) uint8, 255 on the person and 0 elsewhere; None where nobody looked.
    """

    joints: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Teacher:
    """Finds joints, masks or both.

    Attributes:
        find: pictures, each (h, w, 3) uint8 RGB -> what is on each.
        batch: pictures it likes to be given at a time.
        workers: threads that may ask it at the same time.
    """

    find: Callable[[Sequence[np.ndarray]], list[Found]]
    batch: int = 1
    workers: int = 1


def combined(pose: Pose | Teacher | None, silhouette: Silhouette | Teacher | None) -> Teacher:
    """One teacher of two: joints by the first, masks by the second.

    Args:
        pose: one that is asked alone gives the mask, too, where it finds one.
        silhouette: the same as ``pose`` is asked once.
    """
    if isinstance(pose, Teacher) and (silhouette is None or silhouette is pose):
        return pose
    first = pose if isinstance(pose, Teacher) or pose is None else _alone(pose, "joints")
    second = silhouette if isinstance(silhouette, Teacher) or silhouette is None else _alone(silhouette, "mask")
    asked = [teacher for teacher in (first, second) if teacher]

    def find(pictures: Sequence[np.ndarray]) -> list[Found]:
        joints = [found.joints for found in first.find(pictures)] if first else [None] * len(pictures)
        masks = [found.mask for found in second.find(pictures)] if second else [None] * len(pictures)
        return [Found(*pair) for pair in zip(joints, masks)]

    return Teacher(find, max(each.batch for each in asked), min(each.workers for each in asked))


def _alone(function: Pose | Silhouette, what: str) -> Teacher:
    """A function of a picture that finds one thing, as a teacher."""
    return Teacher(lambda pictures: [Found(**{what: function(picture)}) for picture in pictures])


def by_function(function: Callable[[np.ndarray], Any], name: str, *, masks: bool) -> Teacher:
    """A function of somebody else's as a teacher.

    Args:
        function: (h, w, 3) uint8 RGB -> (K, 3) joints or an (h, w) mask, whichever it is asked for, or a pair of both,
            of which one may be None. Joints are COCO's 17 or MediaPipe's 33: x, y in pixels and a score from 0 to 1.
        name: what to call it in an error.
        masks: what it makes is a mask where it is not a pair; else joints.
    """

    def look(picture: np.ndarray) -> Found:
        made = function(picture.copy())
        joints, mask = made if isinstance(made, tuple) and len(made) == 2 else (None, made) if masks else (made, None)
        if joints is None and mask is None:
            raise DataError(f"{name} made nothing of it, wanted joints (17, 3), a mask or a pair of both")
        return Found(
            None if joints is None else _checked_joints(joints, name, picture.shape[:2]),
            None if mask is None else _checked_mask(mask, name, picture.shape[:2]),
        )

    return Teacher(lambda pictures: [look(picture) for picture in pictures])


def in_fractions(points: np.ndarray, size: tuple[int, ...]) -> bool:
    """Whether points (K, 2) are fractions of a picture or canvas of ``size``, not pixels: all within a pixel or two.

    As pixels they would all lie in the upper left corner, without an error.
    """
    return min(size) > TINY and len(points) > 1 and bool((abs(points) <= FAR).all() and (points % 1 > 0).any())


def _checked_joints(made: Any, name: str, size: tuple[int, ...]) -> np.ndarray:
    """(17, 3) of what somebody calls joints.

    Raises:
        DataError: it is something else.
    """
    try:
        joints = np.asarray(made, np.float64)
    except (TypeError, ValueError):
        joints = np.empty((0, 0))
    orders = {len(order): order for order in (JOINTS, BLAZEPOSE)}
    if joints.ndim != 2 or joints.shape[1] != 3 or len(joints) not in orders:
        got = joints.shape if joints.size else type(made).__name__
        raise DataError(f"{name} made joints of {got}, wanted (17, 3) or (33, 3): x, y, score")
    if in_fractions(joints[joints[:, 2] > 0, :2], size):
        raise DataError(
            f"{name} made joints in fractions of the picture, wanted pixels; multiply x by its width and y by its "
            "height"
        )
    return in_our_order(joints, orders[len(joints)])


def in_our_order(joints: np.ndarray, order: Sequence[str | None]) -> np.ndarray:
    """(17, 3) of (K, 3) joints by their names; zeros for one that is not among them."""
    places = [order.index(name) if name in order else -1 for name in JOINTS]
    return np.concatenate([joints, np.zeros((1, 3))])[places]


def _checked_mask(made: Any, name: str, size: tuple[int, ...]) -> np.ndarray:
    """(h, w) uint8 of what somebody calls a mask: true and false, two numbers, or shares from 0 to 1.

    Raises:
        DataError: it is something else.
    """
    mask = np.asarray(made)
    if mask.shape != size or mask.dtype.kind not in "bufi":
        raise DataError(f"{name} made a mask of {mask.shape} {mask.dtype} for a picture of {size}, wanted its pixels")
    if mask.dtype.kind == "f":
        if not ((mask >= 0) & (mask <= 1)).all():
            raise DataError(f"{name} made a mask of numbers from {mask.min():g} to {mask.max():g}, wanted 0 to 1")
        mask = mask >= 0.5
    return person_of(mask).view(np.uint8) * np.uint8(255)
