"""One picture: a person, a place and a moment make pixels, labels and keypoints.

Everything but the person is laid out on the native pixels of the crop, those of the video; the person is drawn on a
grid a whole number of times as fine, and labels come from that grid.

Shapes: H x W picture, h x w native pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.crowd.camera.camera_pipeline import blurred, develop, resized
from regard.crowd.camera.city_cameras import Camera, Light
from regard.crowd.camera.detector import Frame
from regard.crowd.knobs import Knobs
from regard.crowd.render.background import Set, Sprite, lay_over
from regard.crowd.render.dosed import Dosed
from regard.crowd.render.raster import Drawing, Figure, draw
from regard.crowd.render.walk import Moment
from regard.crowd.rng import Rng, cosine, sine, value_noise

__all__ = ["Take", "is_bare", "shoot"]

FINENESS = 2
"""Samples per native pixel and direction, at least."""
NEAR_MISS = {5: 0.10, 6: 0.10, 11: 0.13, 12: 0.13}
"""Depth of a joint below the skin or the cloth, meters, by joint; others 0.07."""


@dataclass(frozen=True, slots=True)
class Take:
    """A picture and what is known of it.

    Attributes:
        pixels: (H, W, 3) uint8 sRGB.
        labels: (H, W) uint8, see ``canvas.LABELS``.
        keypoints: 51 numbers, see :class:`regard.crowd.dataset.label_files.Record`.
        visible: share of the silhouette within the box that nothing stands in front of.
        native: (w, h).
        shown: share of the whole silhouette that is in the box and free; None where no cause is added.
    """

    pixels: np.ndarray
    labels: np.ndarray
    keypoints: tuple[float, ...]
    visible: float
    native: tuple[int, int]
    shown: float | None = None


def shoot(
    place: Set,
    moment: Moment,
    frame: Frame,
    figure: Figure | None,
    *,
    rng: Rng,
    knobs: Knobs,
    dosed: Dosed | None = None,
) -> Take:
    """Photograph a person, or the place alone.

    What stands in front is left out where it would hide more of the person than ``knobs.min_visible`` allows, of the
    person without a cause; what a cause puts there stays.
    """
    camera, (rows, columns) = place.camera, frame.native
    light = camera.light(moment.cloud)
    scene = surroundings(place, frame, moment, light, knobs)
    for sprite in dosed.behind(place, moment) if dosed else ():
        lay(scene, sprite, frame)
    labels, drawing = np.zeros(frame.size, np.uint8), None
    if figure is not None:
        scene *= 1 - shadow(camera, figure, frame, light)
        drawing, fineness = draw_figure(figure, frame, light)
        color, coverage = drawing.reduced(fineness)
        scene = scene * (1 - coverage) + color
        labels = drawing.labels(*frame.size)
    obstacles = [] if knobs.plain_background else in_front(place, frame, moment)
    if dosed.bare if dosed else figure is not None and hides_too_much(obstacles, frame, labels, knobs):
        obstacles = []
    obstacles += dosed.before(place, moment, frame, labels) if dosed else []
    for sprite in obstacles:
        lay(scene, sprite, frame)
    if moment.shade:
        scene *= fallen(Rng("shade", moment.shade), *frame.native)
    hidden, visible = visible_share(obstacles, frame, labels)
    smear = moment.speed * rows * 0.02 * knobs.motion_blur * abs(cosine(moment.heading - math.pi / 2))
    pixels = develop(scene, camera.sensor, rng, size=frame.size, exposure=moment.exposure, smear=smear)
    keypoints = (0.0,) * 51
    if drawing is not None and figure is not None:
        keypoints = locate_joints(figure, drawing, hidden, frame)
    shown = None
    if dosed:
        shown = dosed.shown(figure, frame, visible, place, moment) if figure is not None else 0.0
    labels[hidden] = 0
    return Take(pixels, labels, keypoints, round(visible, 3), (columns, rows), shown)


def draw_figure(figure: Figure, frame: Frame, light: Light) -> tuple[Drawing, int]:
    """Draw what a frame shows of a figure, so many times as fine as the frame's native pixels."""
    rows, columns = frame.native
    fineness = max(FINENESS, math.ceil(frame.size[0] / rows))
    return draw(figure, frame.box, rows=rows * fineness, columns=columns * fineness, light=light), fineness


def is_bare(place: Set, moment: Moment, frame: Frame, figure: Figure | None, knobs: Knobs) -> bool:
    """Return whether what stands in front of a person is left out, as it would hide too much of them."""
    obstacles = [] if knobs.plain_background else in_front(place, frame, moment)
    if figure is None or not obstacles:
        return False
    labels = draw_figure(figure, frame, place.camera.light(moment.cloud))[0].labels(*frame.size)
    return hides_too_much(obstacles, frame, labels, knobs)


def hides_too_much(obstacles: Sequence[Sprite], frame: Frame, labels: np.ndarray, knobs: Knobs) -> bool:
    """Return whether less of the labels is free than ``knobs.min_visible`` allows."""
    return visible_share(obstacles, frame, labels)[1] < knobs.min_visible


def visible_share(obstacles: Sequence[Sprite], frame: Frame, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return where obstacles hide what is behind them, (H, W), and the share of the labels that is free."""
    cover, nothing = np.zeros(frame.size, np.float32), np.zeros((3, *frame.size), np.float32)
    for sprite in obstacles:
        lay(nothing, sprite, frame, cover)
    hidden, person = cover > 0.5, labels > 0
    return hidden, float((person & ~hidden).sum()) / max(1, int(person.sum()))


def lay(picture: np.ndarray, sprite: Sprite, frame: Frame, cover: np.ndarray | None = None) -> None:
    """Lay a sprite over a picture (3, rows, columns) of what is in a frame."""
    lay_over(picture, sprite, frame.box[:2], frame.scale(*picture.shape[1:]), cover)


def surroundings(place: Set, frame: Frame, moment: Moment, light: Light, knobs: Knobs) -> np.ndarray:
    """Return what is behind the person, on native pixels; (3, h, w)."""
    camera = place.camera
    if knobs.plain_background:
        even = light.on(1.0, max(0.0, light.direction[1])) * np.float32(0.22)
        return np.broadcast_to(even[:, None, None], (3, *frame.native)).copy()
    scene = place.plate.crop(frame.box, *frame.native)
    if moment.cloud > 0.01 and camera.sun > 0:
        scene *= (light.on(1.0, 0.7) / camera.light().on(1.0, 0.7))[:, None, None]
    for other in moment.behind:
        lay(scene, place.walkers[other.walker].moved(camera.view, other.x, other.z), frame)
    return scene


def in_front(place: Set, frame: Frame, moment: Moment) -> list[Sprite]:
    """Return what stands before the person, the farthest first."""
    props = [
        prop
        for prop in place.props
        if moment.hidden and prop.z < moment.z - 0.35 and prop.box[2] > frame.box[0] and prop.box[0] < frame.box[2]
    ]
    view = place.camera.view
    return props + [
        place.walkers[other.walker].moved(view, moment.x + other.x, moment.z + other.z) for other in moment.before
    ]


def shadow(camera: Camera, figure: Figure, frame: Frame, light: Light) -> np.ndarray:
    """Return the share of light the person takes from the ground: a soft patch under them, in the sun a cast shadow."""
    coarse = max(1, round(frame.native[0] / 96))
    rows, columns = (max(8, side // coarse) for side in frame.native)
    (x, y, z), (scale_x, scale_y) = figure.world, frame.scale(rows, columns)
    steepness = max(light.direction[1], 0.35)
    taken = np.zeros((rows, columns), np.float32)
    casts = (
        (light.direction[0] / steepness, light.direction[2] / steepness, 0.55 * light.hard, 1 / 128),
        (0.0, 0.0, 0.35, 3 / 128),
    )
    for run_x, run_z, strength, softness in casts:
        if strength <= 0.02:
            continue
        ground = x - y * np.float32(run_x), np.zeros_like(y), z - y * np.float32(run_z)
        across, down, _ = camera.view.project(*ground)
        column = (across - np.float32(frame.box[0])) * np.float32(scale_x) + 1
        row = (down - np.float32(frame.box[1])) * np.float32(scale_y) + 1
        mask = np.zeros((rows + 2, columns + 2), np.float32)
        mask[np.clip(row, 0, rows + 1).astype(np.intp), np.clip(column, 0, columns + 1).astype(np.intp)] = 1
        soft = np.minimum(blurred(mask[1:-1, 1:-1], softness * rows) * np.float32(1.8), 1)
        taken = np.maximum(taken, soft * np.float32(strength))
    return resized(taken, *frame.native)


def fallen(rng: Rng, rows: int, columns: int) -> np.ndarray:
    """Return the light that a shadow leaves of a picture: of an edge that crosses it, or of leaves; (h, w)."""
    dark, turn = rng.uniform(0.35, 0.75), rng.uniform(0, 2 * math.pi)
    if rng.chance(0.6):
        y = ((np.arange(rows, dtype=np.float32) + np.float32(0.5)) / np.float32(rows) - np.float32(0.5))[:, None]
        x = (np.arange(columns, dtype=np.float32) + np.float32(0.5)) / np.float32(columns) - np.float32(0.5)
        across = y * np.float32(cosine(turn)) + x * np.float32(0.5 * sine(turn)) - np.float32(rng.uniform(-0.3, 0.3))
        lit = np.clip(across * np.float32(1 / rng.uniform(0.02, 0.15)) + np.float32(0.5), 0, 1)
    else:
        down, beside = 3 + rng.below(5), 2 + rng.below(3)
        lit = np.clip(value_noise(rng, (rows, columns), (down, beside), 2) * np.float32(5) + np.float32(0.5), 0, 1)
    return np.float32(dark) + np.float32(1 - dark) * lit


def locate_joints(figure: Figure, drawing: Drawing, hidden: np.ndarray, frame: Frame) -> tuple[float, ...]:
    """Find the COCO keypoints: 2 seen, 1 behind something or behind the body itself, 0 outside the picture."""
    left, top, right, bottom = frame.box
    height, width = frame.size
    keypoints: list[float] = []
    for joint, (x, y, depth) in enumerate(figure.joints.T):
        across, down = float(x - left) / (right - left), float(y - top) / (bottom - top)
        if not (0 <= across < 1 and 0 <= down < 1):
            keypoints += (0.0, 0.0, 0)
            continue
        seen = (
            depth - drawing.depth(down, across) < NEAR_MISS.get(joint, 0.07)
            and not hidden[int(down * height), int(across * width)]
        )
        keypoints += (round(across * width, 2), round(down * height, 2), 2 if seen else 1)
    return tuple(keypoints)
