"""Person masks on disk, and the runs and polygons that COCO writes them as.

Shapes: h x w pixels of the stored mask.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.image import open_image, to_rgb
from regard.errors import DataError

__all__ = ["draw_polygons", "draw_runs", "draw_segmentation", "lowest_gray", "person_of", "read_mask", "runs_of"]

SCATTERING = ("JPEG", "WEBP")
"""Formats whose compression scatters low grays around the edge of a person."""

SCATTERED = 100
"""Lowest gray that is the person in those, as in the published masks."""


def read_mask(path: Path, threshold: int | None = None) -> np.ndarray:
    """Where the person is.

    A palette picture holds labels, of which 0 is the background; anything else is read as gray levels.

    Args:
        path: the mask.
        threshold: the lowest gray level that is the person; None is 100 in JPEG and WebP files, and 1 in others.

    Returns:
        (h, w) uint8, 255 on the person and 0 elsewhere.

    Raises:
        DataError: the file cannot be read.
    """
    with open_image(path, "mask") as image:
        plain = image.mode in ("P", "L", "1")
        labels = np.asarray(image) if plain else np.asarray(to_rgb(image, f"mask '{path}'")).max(2)
        lowest = 1 if image.mode in ("P", "1") else lowest_gray(image.format, threshold)
    return (labels >= lowest).view(np.uint8) * np.uint8(255)


def lowest_gray(form: str | None, threshold: int | None = None) -> int:
    """Return the lowest gray level that is the person, in a mask file of a format, where ``threshold`` does not say."""
    return (SCATTERED if form in SCATTERING else 1) if threshold is None else threshold


def person_of(mask: np.ndarray) -> np.ndarray:
    """Return where a mask in memory has the person, bool of its shape.

    Args:
        mask: bool, or two numbers: 0, and 1 or 255 on the person, as :func:`read_mask` gives them.

    Raises:
        DataError: it holds others, such as the gray levels of a JPEG file, of which each would count as the person.
    """
    mask = np.asarray(mask)
    if mask.dtype == bool:
        return mask
    person = mask != 0
    if mask.size and ((high := mask.max()) not in (0, 1, 255) or not (mask[person] == high).all()):
        raise DataError(
            f"the mask holds {len(np.unique(mask))} different numbers up to {high}, expected 0 and 255 (or 0 and 1); "
            "read its file with regard.data.labels.read_mask, which takes a threshold"
        )
    return person


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
    crossings = np.zeros((height, width + 1), np.int32)
    centers = np.arange(height) + 0.5
    for (x1, y1), (x2, y2) in pairwise([*points, points[0]]):
        rows = np.flatnonzero((centers >= min(y1, y2)) & (centers < max(y1, y2)))
        if len(rows):
            x = x1 + (centers[rows] - y1) * ((x2 - x1) / (y2 - y1))
            crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] += 1
    return np.cumsum(crossings[:, :width], 1) % 2 == 1
