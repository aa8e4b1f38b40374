"""What the causes of :mod:`regard.crowd.cause` do to a picture.

Every picture has its own stream for its cause, from which the same numbers are drawn at every dose; the dose scales
them. So nothing else of a crowd changes, and more of a cause is more of the same: the pole in front becomes wider, the
walker comes nearer, the box slides on in its direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from regard.crowd.camera.city_cameras import Box
from regard.crowd.camera.detector import Frame, frame_box
from regard.crowd.cause import Cause
from regard.crowd.clothes.roster import draw_identity
from regard.crowd.identity_types import Identity
from regard.crowd.knobs import Knobs
from regard.crowd.render.background import Set, Sprite, lay_over, stand_board, stand_prop
from regard.crowd.render.raster import Figure, draw
from regard.crowd.render.walk import Moment
from regard.crowd.rng import Rng
from regard.crowd.scene.scenes import paint_dummy

__all__ = ["Dosed", "posed"]

SOLID = ("pole", "bush", "bin", "car")
"""Things that hide what is behind them."""
HALVINGS = 8
"""Of the way that something in front may go, to find where it hides what it shall."""
DUMMIES = 10
ARMS = ("swing", "pocket", "phone", "call", "behind", "strap")
FEWEST = 8
"""Rows of the smallest far crop, for pictures 128 pixels high."""

Slide = Callable[[float], Sprite]
"""Something at a part of its way, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Dosed:
    """A cause in one picture.

    Attributes:
        cause: which, and how much of it.
        path: names the picture's stream.
        wearer: the person, whose clothes clutter is like; None for nobody.
        seed: of those who wear clutter besides.
        bare: whether what stands in front without the cause is left out.
    """

    cause: Cause
    path: tuple[str | int, ...]
    wearer: Identity | None
    seed: int
    bare: bool

    def stream(self) -> Rng:
        """Return the picture's stream, from its start."""
        return Rng("cause", self.cause.name, *self.path)

    def framed(self, frame: Frame, knobs: Knobs, focal: float) -> Frame:
        """Return the crop as the cause leaves it: moved, larger, cut, or of fewer pixels."""
        if self.cause.name == "scale":
            factor = self.stream().uniform(0.12, 0.22) ** self.cause.dose
            least = FEWEST * frame.size[0] // 128
            rows = min(frame.native[0], max(least, round(frame.native[0] * factor)))
            columns = max(2, round(frame.native[1] * rows / frame.native[0]))
            return replace(frame, native=(rows, columns))
        if self.cause.name not in BOXES:
            return frame
        box = BOXES[self.cause.name](frame.box, self.stream(), self.cause.dose)
        return frame_box(box, knobs, focal=focal, size=frame.size)

    def behind(self, place: Set, moment: Moment) -> list[Sprite]:
        """Return what the cause puts behind the person, the farthest first."""
        if self.cause.name != "clutter":
            return []
        rng, camera, dummies = self.stream(), place.camera, list[Sprite]()
        for number in range(DUMMIES):
            other = draw_identity(self.seed, f"dummy{rng.below(4096)}")
            upper, lower = (self.wearer or other, other) if rng.chance(0.5) else (other, self.wearer or other)
            x, z = moment.x + rng.uniform(-0.9, 0.9), moment.z + rng.uniform(0.4, 1.8)
            height, density = rng.uniform(1.45, 1.75), 1.3 * place.plate.scale / z
            if number < self.cause.dose * DUMMIES:
                board = paint_dummy(rng, upper.top, lower.bottom, height=height, density=density)
                dummies.append(stand_board(camera, board, x=x, z=z))
        return sorted(dummies, key=lambda dummy: -dummy.z)

    def before(self, place: Set, moment: Moment, frame: Frame, labels: np.ndarray) -> list[Sprite]:
        """Return what the cause puts in front of the person, so far that it hides as much of them as the dose says."""
        if self.cause.name not in FRONTS or not labels.any():
            return []
        rng = self.stream()
        share, slide = self.cause.dose * rng.uniform(0.6, 0.8), FRONTS[self.cause.name](rng, place, moment)
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if hidden(slide(middle), frame, labels) < share else (low, middle)
        return [slide(high)]

    def shown(self, figure: Figure, frame: Frame, visible: float, place: Set, moment: Moment) -> float:
        """Return the share of the whole silhouette that the picture shows."""
        left, top, right, bottom = figure.box
        rows = 96
        columns = max(8, round(rows * (right - left) / (bottom - top)))
        light = place.camera.light(moment.cloud)
        there = draw(figure, figure.box, rows=rows, columns=columns, light=light).labels(rows, columns) > 0
        x = left + (np.arange(columns) + 0.5) * ((right - left) / columns)
        y = top + (np.arange(rows) + 0.5) * ((bottom - top) / rows)
        inside = ((x >= frame.box[0]) & (x < frame.box[2])) & ((y >= frame.box[1]) & (y < frame.box[3]))[:, None]
        return round(float((there & inside).sum()) / max(1, int(there.sum())) * visible, 3)


def hidden(sprite: Sprite, frame: Frame, labels: np.ndarray) -> float:
    """Return the share of the person in a frame that is behind a sprite."""
    cover, nothing = np.zeros(frame.size, np.float32), np.zeros((3, *frame.size), np.float32)
    lay_over(nothing, sprite, frame.box[:2], frame.scale(*frame.size), cover)
    return float(((labels > 0) & (cover > 0.5)).sum()) / float((labels > 0).sum())


def posed(moment: Moment, rng: Rng, dose: float) -> Moment:
    """Return a moment in which the body is turned, bends and strides otherwise; where it is stays the same."""
    turned, lean, nod = rng.uniform(-math.pi, math.pi), rng.uniform(0.15, 0.6), rng.uniform(-0.3, 0.6)
    head, stride = rng.uniform(-0.9, 0.9), rng.uniform(-0.9, 0.9)
    arms, hand, both, late = rng.choice(ARMS), rng.sign(), rng.chance(0.5), rng.uniform()
    moved = replace(
        moment,
        heading=moment.heading + dose * turned,
        stride=min(1.9, max(0.05, moment.stride + dose * stride)),
        lean=moment.lean + dose * lean,
        head_nod=moment.head_nod + dose * nod,
        head_turn=moment.head_turn + dose * head,
    )
    return replace(moved, arms=arms, hand=hand, both=both) if dose > late else moved


def shifted(box: Box, rng: Rng, dose: float) -> Box:
    """Move a box, mostly sideways."""
    left, top, right, bottom = box
    x = dose * rng.sign() * rng.uniform(0.35, 0.6) * (right - left)
    y = dose * rng.uniform(-0.25, 0.25) * (bottom - top)
    return left + x, top + y, right + x, bottom + y


def loosened(box: Box, rng: Rng, dose: float) -> Box:
    """Make a box larger, with the old one somewhere in it."""
    left, top, right, bottom = box
    more = dose * rng.uniform(0.8, 1.4)
    wide, tall = more * (right - left), more * (bottom - top)
    x, y = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)
    return left - x * wide, top - y * tall, right + (1 - x) * wide, bottom + (1 - y) * tall


def cropped(box: Box, rng: Rng, dose: float) -> Box:
    """Cut the legs off, or the head with the shoulders."""
    left, top, right, bottom = box
    tall, legs = bottom - top, rng.chance(0.6)
    missing = dose * (rng.uniform(0.45, 0.6) if legs else rng.uniform(0.25, 0.4)) * tall
    return (left, top, right, bottom - missing) if legs else (left, top + missing, right, bottom)


BOXES: dict[str, Callable[[Box, Rng, float], Box]] = {"shift": shifted, "loose": loosened, "parts": cropped}


def thing_before(rng: Rng, place: Set, moment: Moment) -> Slide:
    """Return something solid that grows from the ground before the person, or a car that comes from the side."""
    camera, kind, side = place.camera, rng.choice(SOLID), rng.sign()
    z, x = max(1.5, moment.z - rng.uniform(0.5, 1.2)), moment.x + rng.uniform(-0.12, 0.12)
    prop = stand_prop(camera, rng, kind, x=0.0, z=z, density=1.3 * place.plate.scale / z)
    if kind == "car":
        return lambda part: scaled(prop.moved(camera.view, x + side * (3.4 - 2.6 * part), z), 1.35, 1.35)
    there = prop.moved(camera.view, x, z)
    if kind == "pole":
        return lambda part: scaled(there, 0.2 + 12 * part, 1.0)
    return lambda part: scaled(there, 0.1 + 4 * part, 0.1 + 4 * part)


def walker_before(rng: Rng, place: Set, moment: Moment) -> Slide:
    """Return a walker who comes before the person from a side."""
    walker, side, view = place.walkers[rng.below(len(place.walkers))], rng.sign(), place.camera.view
    z, end = max(1.5, moment.z - rng.uniform(0.5, 1.1)), rng.uniform(-0.06, 0.06)
    return lambda part: walker.moved(view, moment.x + end + side * 1.3 * (1 - part), z)


def scaled(sprite: Sprite, across: float, up: float) -> Sprite:
    """Return a sprite made wider and higher over the middle of its lower edge."""
    left, top, right, bottom = sprite.box
    middle, half = 0.5 * (left + right), 0.5 * across * (right - left)
    return replace(sprite, box=(middle - half, bottom - up * (bottom - top), middle + half, bottom))


FRONTS: dict[str, Callable[[Rng, Set, Moment], Slide]] = {"objects": thing_before, "people": walker_before}
