"""What a camera sees besides the people to be shot, made once: its empty picture, and sprites to lay into its pictures.

Shapes: (H, W) pixels of the plate, P of them that show the ground or the wall. Pictures are (3, H, W) float32 in
linear light; those of sprites have four channels, premultiplied RGB and coverage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from regard.crowd.body.mesh import build_body
from regard.crowd.body.skeleton import Motion
from regard.crowd.camera.city_cameras import Box, Camera, View
from regard.crowd.clothes.roster import draw_person
from regard.crowd.color import linear
from regard.crowd.identity_types import Identity
from regard.crowd.knobs import Knobs
from regard.crowd.render.raster import draw, place_figure
from regard.crowd.rng import Rng, cosine, sine, value_noise
from regard.crowd.scene.board import Board
from regard.crowd.scene.markings import mark
from regard.crowd.scene.materials import GROUNDS, paint_wall
from regard.crowd.scene.scenes import PLACES, paint_thing

__all__ = ["Plate", "Set", "Sprite", "build_set", "lay_over", "stand_board", "stand_prop"]

LEFT, TOP, RIGHT, BOTTOM = -0.62, -0.50, 0.62, 0.46
"""Box that a plate covers, in normalized coordinates; beyond it the outermost pixels go on."""
WALL_METERS = 40.0
WALL_DENSITY = 24
MOST_DENSITY = 60
"""Pixels per meter of walls, and at most of things behind people, for pictures 128 pixels high."""
NEVER = np.float32(1e6)
WALKERS, WALKER_ROWS = 8, 176


@dataclass(frozen=True, slots=True)
class Sprite:
    """A flat picture (4, h, w) of what stands on the ground ``z`` meters away, and the box the camera sees it in."""

    picture: np.ndarray
    box: Box
    z: float

    def moved(self, view: View, x: float, z: float) -> Sprite:
        """Return what stands on the optical axis at another place on the ground."""
        scale = self.z / z
        foot, ground, _ = view.project(x, 0.0, z)
        own_ground = view.project(0.0, 0.0, self.z)[1]
        left, right = (foot + side * scale for side in (self.box[0], self.box[2]))
        top, bottom = (ground + (side - own_ground) * scale for side in (self.box[1], self.box[3]))
        return Sprite(self.picture, (left, top, right, bottom), z)


@dataclass(frozen=True, slots=True)
class Plate:
    """A picture (3, H, W) of the surroundings and its pixels per unit of normalized coordinates."""

    picture: np.ndarray
    scale: float

    def crop(self, box: Box, rows: int, columns: int) -> np.ndarray:
        """Return what is in a box, on a grid of that many pixels; (3, rows, columns)."""
        x = box[0] + (np.arange(columns) + 0.5) * ((box[2] - box[0]) / columns)
        y = box[1] + (np.arange(rows) + 0.5) * ((box[3] - box[1]) / rows)
        return sample(self.picture, (y - TOP) * self.scale - 0.5, (x - LEFT) * self.scale - 0.5)

    def mean(self) -> float:
        """Return the mean of green where people walk, up to 4, in steps whose sum is exact."""
        _, height, width = self.picture.shape
        part = self.picture[1, height // 4 : -height // 6 : 4, width // 5 : -width // 5 : 4]
        return max(0.02, int((np.minimum(part, 4) * 4096).astype(np.int64).sum()) / (4096 * part.size))


@dataclass(frozen=True, slots=True)
class Set:
    """A camera, its empty picture, things that people walk behind, the farthest first, and other people."""

    camera: Camera
    plate: Plate
    props: tuple[Sprite, ...]
    walkers: tuple[Sprite, ...]


def build_set(camera: Camera, knobs: Knobs, texels: int, detail: float) -> Set:
    """Paint everything a camera sees but the people to be shot.

    Args:
        camera: whose surroundings.
        knobs: how the other people are.
        texels: see :func:`build_body`.
        detail: 1 for pictures 128 pixels high, in proportion for others.
    """
    rng = Rng("city", camera.city, "walkers", camera.index)
    plate, props = expose_plate(camera, detail), stand_props(camera, detail)
    if camera.metered > 0:
        exposure = min(1.9, max(0.6, camera.metered / plate.mean()))
        camera = replace(camera, sensor=replace(camera.sensor, exposure=exposure))
    people = [draw_person(f"city {camera.city}", f"walker{camera.index}-{i}", knobs) for i in range(WALKERS)]
    walkers = [draw_walker(camera, rng, person, texels, detail) for person in people]
    return Set(camera, plate, tuple(props), tuple(walkers))


def draw_walker(camera: Camera, rng: Rng, person: Identity, texels: int, detail: float) -> Sprite:
    """Draw somebody besides those of the data set, in the camera's light, going along its path."""
    heading = camera.path + rng.choice((0.0, math.pi)) + rng.normal(0, 0.5)
    phase, stride, hand = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 1.0), rng.sign()
    motion = Motion(*(np.array([v]) for v in (phase, stride, 0.0, 0.0, 0.0, person.gait.arms, hand, False)))
    z = 0.5 * (camera.near + camera.far)
    figure = place_figure(build_body(person, texels).pose(motion), 0, camera.view, heading=heading, x=0.0, z=z)
    left, top, right, bottom = figure.box
    across, down = 0.02 * (right - left), 0.01 * (bottom - top)
    box = left - across, top - down, right + across, bottom + down
    rows = round(WALKER_ROWS * detail)
    columns = max(24, int(rows * (box[2] - box[0]) / (box[3] - box[1])))
    color, coverage = draw(figure, box, rows=rows * 2, columns=columns * 2, light=camera.light()).reduced(2)
    return Sprite(np.concatenate([color, coverage[None]]), box, z)


def stand_prop(camera: Camera, rng: Rng, kind: str, *, x: float, z: float, density: float) -> Sprite:
    """Paint a thing in the light of its place."""
    return stand_board(camera, paint_thing(rng, kind, density), x=x, z=z)


def stand_board(camera: Camera, board: Board, *, x: float, z: float) -> Sprite:
    """Put a painted thing on the ground, in the light of its place."""
    view = camera.view
    board.picture[:3] *= camera.light().on(0.85, 0.5)[:, None, None]
    center, bottom, depth = view.project(x, 0.0, z)
    top, half = view.project(x, board.height, z)[1], 0.5 * board.width / depth
    return Sprite(board.picture, (center - half, top, center + half, bottom), z)


def stand_props(camera: Camera, detail: float) -> list[Sprite]:
    """Paint five things that people walk behind, the farthest first."""
    rng = Rng("city", camera.city, "props", camera.index)
    props = []
    for _ in range(5):
        kind = rng.choice(PLACES[camera.scene].before)
        z = rng.uniform(camera.near - 1.6, camera.far - 1.2)
        x, density = rng.uniform(-0.42, 0.42) * z, camera.focal * detail / z * 1.3
        props.append(stand_prop(camera, rng, kind, x=x, z=z, density=density))
    return sorted(props, key=lambda prop: -prop.z)


def expose_plate(camera: Camera, detail: float) -> Plate:
    """Paint the surroundings of a camera: ground, wall, sky and the things that stand behind people."""
    rng = Rng("city", camera.city, "plate", camera.index)
    scale = camera.focal * detail
    columns, rows = int((RIGHT - LEFT) * scale), int((BOTTOM - TOP) * scale)
    x = LEFT + (np.arange(columns, dtype=np.float32) + np.float32(0.5)) / np.float32(scale)
    y = TOP + (np.arange(rows, dtype=np.float32) + np.float32(0.5)) / np.float32(scale)
    view = camera.view
    across = np.broadcast_to(-x, (rows, columns))
    up = np.broadcast_to((-y * view.pitch_cosine - view.pitch_sine)[:, None], (rows, columns))
    ahead = np.broadcast_to((view.pitch_cosine - y * view.pitch_sine)[:, None], (rows, columns))
    distance, slope = camera.far + rng.uniform(2.0, 9.0), rng.normal(0, 0.18)
    wall = Backdrop(camera, detail)
    to_ground = np.where(up < -1e-4, np.float32(view.height) / np.maximum(-up, np.float32(1e-4)), NEVER)
    to_wall = np.float32(distance) / np.maximum(ahead - np.float32(slope) * across, np.float32(1e-3))
    wall_y = np.float32(view.height) + up * to_wall
    is_wall = (to_wall < to_ground) & (wall_y < wall.height) & (wall_y > 0)
    is_ground = (to_ground <= to_wall) & (to_ground < 1e5)
    sky = linear((206, 214, 224)) * np.array(camera.ambient, np.float32) * np.float32(1.69)
    picture = np.broadcast_to(sky[:, None, None], (3, rows, columns)).copy()
    way = to_ground[is_ground]
    picture[:, is_ground] = paint_floor(camera, rng, across[is_ground] * way, ahead[is_ground] * way)
    picture[:, is_wall] = wall.at(across[is_wall] * to_wall[is_wall], wall_y[is_wall])
    plate = Plate(picture, scale)
    stand_behind(plate, camera, rng, distance, detail)
    return plate


def paint_floor(camera: Camera, rng: Rng, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Paint the ground at places in meters: a path, what is beside it, markings, stains and shade; (P,) to (3, P)."""
    scene = PLACES[camera.scene]
    place = Rng("city", camera.city, "place", camera.place)  # cameras of one place share the materials
    path, beside = GROUNDS[scene.path](place), GROUNDS[scene.beside](place)
    c, s = cosine(camera.path), sine(camera.path)
    middle = 0.5 * (camera.near + camera.far)
    off_path, half = x * c - (z - middle) * s, rng.uniform(1.8, 4.0)
    on_path = np.abs(off_path) < half
    turn = rng.uniform(0, 1.5)
    turned_x, turned_z = x * cosine(turn) + z * sine(turn), z * cosine(turn) - x * sine(turn)
    haze = np.clip((z - 14) / 25, 0, 1)
    color = np.empty((3, len(x)), np.float32)
    for ground, where in ((path, on_path), (beside, ~on_path)):
        near = ground.sample(turned_x[where], turned_z[where])
        color[:, where] = near + (ground.mean()[:, None] - near) * haze[where]
    color[:, np.abs(np.abs(off_path) - half) < 0.09] *= np.float32(rng.choice((0.6, 1.35, 1.0)))
    if camera.scene == "street" and rng.chance(0.8):
        dash = (z * c + x * s) / 3.0
        lane = (np.abs(off_path - rng.uniform(-0.5, 0.5)) < 0.08) & (dash - np.floor(dash) < 0.5)
        color[:, lane] = linear((215, 212, 200))[:, None]
    color *= 1 + np.float32(0.10) * blotches(rng, 64, cells=8, x=x, z=z, density=3)
    if camera.sun > 0 and rng.chance(0.5):  # shade of trees
        color *= np.where(blotches(rng, 128, cells=10, x=x, z=z, density=9) > 0.22, np.float32(0.55), np.float32(1))
    if camera.marked:
        mark(color, (z - middle) * c + x * s, off_path, Rng("city", camera.city, "marks", camera.index))
    light = camera.light()
    return color * light.on(1.0, max(0.0, light.direction[1]))[:, None]


def blotches(rng: Rng, size: int, *, cells: int, x: np.ndarray, z: np.ndarray, density: int) -> np.ndarray:
    """Return noise over the ground, ``density`` texels per meter; (P,) to (P,)."""
    noise = value_noise(rng, (size, size), (cells, cells), 3).ravel()
    row, column = (np.floor(a * density).astype(np.intp) % size for a in (z, x))
    return noise[row * size + column]


class Backdrop:
    """The wall that closes the view, ``height`` meters high."""

    def __init__(self, camera: Camera, detail: float):
        scene = PLACES[camera.scene]
        place = Rng("city", camera.city, "wall", camera.place)
        self.height = place.uniform(*scene.wall_height)
        self.density = round(WALL_DENSITY * max(1.0, detail))
        self.picture = paint_wall(place, place.choice(scene.walls), WALL_METERS, self.height, self.density)
        self.light = camera.light().on(0.75, 0.35)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the colors at places in meters, darker where the wall meets the ground; (P,) to (3, P)."""
        _, rows, columns = self.picture.shape
        row = np.clip(np.floor(y * self.density).astype(np.intp), 0, rows - 1)
        column = np.floor((x + 200) * self.density).astype(np.intp) % columns
        shade = np.where(y < 0.15, np.float32(0.7), np.float32(1))
        return self.picture.reshape(3, -1)[:, row * columns + column] * shade * self.light[:, None]


def stand_behind(plate: Plate, camera: Camera, rng: Rng, wall: float, detail: float) -> None:
    """Lay four to eight things over a plate, between the people and the wall."""
    nearest, farthest = camera.far + 0.8, wall - 0.6
    places = []
    for _ in range(4 + rng.below(5)):
        kind = rng.choice(PLACES[camera.scene].behind)
        z = rng.uniform(nearest, farthest) if farthest > nearest else wall
        places.append((z, rng.uniform(-0.55, 0.55) * z, kind))
    for z, x, kind in sorted(places, reverse=True):
        density = min(MOST_DENSITY * detail, plate.scale / z)
        prop = stand_prop(camera, rng, kind, x=x, z=z, density=density)
        lay_over(plate.picture, prop, (LEFT, TOP), (plate.scale, plate.scale))


def sample(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sample a picture between its pixels; places in pixels from the middle of the first, cut to the picture.

    Args:
        picture: (C, H, W).
        rows, columns: (h,) and (w,), increasing.

    Returns:
        (C, h, w) float32.
    """
    top, below = neighbors(rows, picture.shape[1])
    left, beside = neighbors(columns, picture.shape[2])
    cut = picture[:, top[0] : top[-1] + 2, left[0] : left[-1] + 2]
    top, left = top - top[0], left - left[0]
    lower, right = np.minimum(top + 1, cut.shape[1] - 1), np.minimum(left + 1, cut.shape[2] - 1)
    lines = cut[:, top]
    lines += (cut[:, lower] - lines) * below[:, None]
    found = lines[:, :, left]
    found += (lines[:, :, right] - found) * beside
    return found


def neighbors(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel before each place and the share of the one after it."""
    places = np.clip(places, 0, size - 1)
    first = np.minimum(places.astype(np.intp), max(size - 2, 0))
    return first, (places - first).astype(np.float32)


def lay_over(
    picture: np.ndarray,
    sprite: Sprite,
    corner: tuple[float, float],
    scale: tuple[float, float],
    cover: np.ndarray | None = None,
) -> None:
    """Lay a sprite over a picture (3, h, w), in place; it may lie partly outside.

    Args:
        picture: changed in place.
        sprite: what goes there.
        corner: normalized coordinates of the picture's upper left corner.
        scale: pixels per unit of them, across and down.
        cover: (h, w) that takes the greatest coverage so far.
    """
    (x0, y0), (x1, y1) = (
        ((x - corner[0]) * scale[0], (y - corner[1]) * scale[1]) for x, y in (sprite.box[:2], sprite.box[2:])
    )
    left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
    right, bottom = min(picture.shape[2], math.ceil(x1)), min(picture.shape[1], math.ceil(y1))
    if right <= left or bottom <= top or x1 - x0 < 0.5 or y1 - y0 < 0.5:
        return
    columns = (np.arange(left, right) + 0.5 - x0) * (sprite.picture.shape[2] / (x1 - x0)) - 0.5
    rows = (np.arange(top, bottom) + 0.5 - y0) * (sprite.picture.shape[1] / (y1 - y0)) - 0.5
    found = sample(sprite.picture, rows, columns)
    target = picture[:, top:bottom, left:right]
    target *= 1 - found[3]
    target += found[:3]
    if cover is not None:
        part = cover[top:bottom, left:right]
        np.maximum(part, found[3], out=part)
