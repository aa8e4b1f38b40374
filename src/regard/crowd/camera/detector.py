"""The crops of a pedestrian detector: around the person, more or less."""

from __future__ import annotations

from dataclasses import dataclass

from regard.crowd.camera.city_cameras import Box, Camera
from regard.crowd.knobs import Knobs
from regard.crowd.rng import Rng

__all__ = ["Frame", "frame_box", "frame_figure"]

SMALLEST_NATIVE = 28
"""Rows of the smallest crop, for pictures 128 pixels high."""

CARE = 0.45
"""Errors of the person who drew the boxes of the queries, against a detector's."""
FAULTS = (("feet", 4.0), ("head", 1.0), ("side", 2.0), ("loose", 3.0))


@dataclass(frozen=True, slots=True)
class Frame:
    """A crop: its box in normalized coordinates, its pixels in the video (h, w), and those of the picture (H, W)."""

    box: Box
    native: tuple[int, int]
    size: tuple[int, int]

    def scale(self, rows: int, columns: int) -> tuple[float, float]:
        """Return the pixels per unit of normalized coordinates, across and down, at some size."""
        return columns / (self.box[2] - self.box[0]), rows / (self.box[3] - self.box[1])


def frame_figure(
    figure: Box, rng: Rng, knobs: Knobs, *, camera: Camera, size: tuple[int, int], by_hand: bool, junk: bool
) -> Frame:
    """Return the crop a detector makes of a figure, or of a place where it takes something for one.

    Args:
        figure: around the whole figure.
        rng: stream of the errors.
        knobs: how large and how frequent they are.
        camera: whose pixels and whose detector they are.
        size: height and width of the picture.
        by_hand: whether somebody drew the box, with less than half the error and nothing cut.
        junk: whether the box shows half of the person, or less.
    """
    box = detect(figure, rng, knobs, by_hand=by_hand, shape=size[1] / size[0], fit=camera.fit)
    return frame_box(misplaced(box, rng) if junk else box, knobs, focal=camera.native_focal, size=size)


def frame_box(box: Box, knobs: Knobs, *, focal: float, size: tuple[int, int]) -> Frame:
    """Return the crop of a box with the pixels it has in the video, from a camera's ``native_focal``."""
    height, width = size
    scale = focal * knobs.native_scale * height / 128
    smallest = SMALLEST_NATIVE * height // 128
    rows = min(height, max(smallest, round((box[3] - box[1]) * scale)))
    columns = min(width, max(smallest // 2, round(rows * (box[2] - box[0]) / (box[3] - box[1]))))
    return Frame(box, (rows, columns), size)


def detect(figure: Box, rng: Rng, knobs: Knobs, *, by_hand: bool, shape: float, fit: float = 0.0) -> Box:
    """Draw a box around a figure, shifted, scaled and sometimes cut; as wide as pictures of that shape, or fitting."""
    tall = figure[3] - figure[1]
    wide = max(figure[2] - figure[0], 0.36 * tall)
    error = knobs.detector_jitter * (CARE if by_hand else 1.0)
    height = tall * (1.06 + abs(rng.normal(0, 0.05)) * error)
    width = max(min(wide * 1.12, 1.32 * shape * tall), (0.91 * shape + rng.normal(0, 0.025)) * height)
    if fit > 0:
        own = max(1.08 * (figure[2] - figure[0]), 0.30 * tall)
        width, height = width + fit * (own - width), height * (1 - 0.04 * fit)
    x = 0.5 * (figure[0] + figure[2]) + rng.normal(0, 0.045) * error * wide
    y = 0.5 * (figure[1] + figure[3]) + rng.normal(0, 0.022) * error * tall
    height *= max(0.3, 1 + rng.normal(0, 0.035) * error)
    width *= max(0.3, 1 + rng.normal(0, 0.06) * error)
    box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if not by_hand and rng.chance(knobs.truncation):
        return cut(box, rng)
    return box


def cut(box: Box, rng: Rng) -> Box:
    """Return the box with the feet, the head or a side missing, or much too large."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    fault = rng.weighted(FAULTS)
    if fault == "feet":
        return left, top, right, bottom - rng.uniform(0.08, 0.30) * height
    if fault == "head":
        return left, top + rng.uniform(0.05, 0.12) * height, right, bottom
    if fault == "side":
        missing = rng.uniform(0.1, 0.28) * width
        return (left + missing, top, right, bottom) if rng.chance(0.5) else (left, top, right - missing, bottom)
    room = rng.uniform(0.08, 0.22)
    above, below = room * height * rng.uniform(), room * height * rng.uniform()
    return left - room * width, top - above, right + room * width, bottom + below


def misplaced(box: Box, rng: Rng) -> Box:
    """Return a box that shows half of the person, or less: junk."""
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = rng.sign() * rng.uniform(0.45, 0.8) * width, rng.normal(0, 0.25) * height
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y
