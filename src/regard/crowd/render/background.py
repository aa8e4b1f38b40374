"""The empty picture of a camera, computed once: ground, wall, sky and the things that stand behind people.

Shapes: (H, W) pixels of the plate, P of them that show the ground or the wall. Pictures are (3, H, W) float32 in
linear light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regard.crowd.camera.city_cameras import Camera
from regard.crowd.camera.view import Box
from regard.crowd.color import linear
from regard.crowd.render.compositing import lay_over, sample
from regard.crowd.rng import Rng, cosine, sine, value_noise
from regard.crowd.scene.materials import paint_ground, paint_wall
from regard.crowd.scene.props import paint_thing
from regard.crowd.scene.scenes import SCENES

__all__ = ["Plate", "Prop", "expose_plate", "stand_props"]

LEFT, TOP, RIGHT, BOTTOM = -0.62, -0.50, 0.62, 0.46
"""Box that a plate covers, in normalized coordinates; beyond it the outermost pixels go on."""
WALL_METERS = 40.0
WALL_DENSITY = 24
MOST_DENSITY = 60
"""Pixels per meter of walls, and at most of things behind people, for pictures 128 pixels high."""
NEVER = np.float32(1e6)


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


@dataclass(frozen=True, slots=True)
class Prop:
    """A thing that stands on the ground: where, its size in meters, and its picture (4, h, w)."""

    x: float
    z: float
    width: float
    height: float
    picture: np.ndarray

    def box(self, camera: Camera) -> Box:
        """Return where the camera sees it."""
        view = camera.view
        center, bottom = view.project_point(self.x, 0.0, self.z)
        _, top = view.project_point(self.x, self.height, self.z)
        half = 0.5 * self.width / (self.z * view.pitch_cosine + view.height * view.pitch_sine)
        return center - half, top, center + half, bottom


def stand_prop(camera: Camera, rng: Rng, kind: str, *, x: float, z: float, density: float) -> Prop:
    """Paint a thing in the light of its place."""
    board = paint_thing(rng, kind, density)
    board.picture[:3] *= camera.light().on(0.85, 0.5)[:, None, None]
    return Prop(x, z, board.width, board.height, board.picture)


def stand_props(camera: Camera, detail: float) -> list[Prop]:
    """Paint five things that people walk behind, the farthest first."""
    rng = Rng("city", camera.city, "props", camera.index)
    props = []
    for _ in range(5):
        kind = rng.choice(SCENES[camera.scene].before)
        z = rng.uniform(camera.near - 1.6, camera.far - 1.2)
        props.append(
            stand_prop(camera, rng, kind, x=rng.uniform(-0.42, 0.42) * z, z=z, density=camera.focal * detail / z * 1.3)
        )
    return sorted(props, key=lambda prop: -prop.z)


def expose_plate(camera: Camera, detail: float) -> Plate:
    """Paint the surroundings of a camera.

    Args:
        camera: whose surroundings.
        detail: 1 for pictures 128 pixels high, in proportion for others.
    """
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
    scene = SCENES[camera.scene]
    place = Rng("city", camera.city, "place", camera.place)  # cameras of one place share the materials
    path, beside = paint_ground(place, scene.path), paint_ground(place, scene.beside)
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
    light = camera.light()
    return color * light.on(1.0, max(0.0, light.direction[1]))[:, None]


def blotches(rng: Rng, size: int, *, cells: int, x: np.ndarray, z: np.ndarray, density: int) -> np.ndarray:
    """Return noise over the ground, ``density`` texels per meter; (P,) to (P,)."""
    noise = value_noise(rng, (size, size), (cells, cells), 3).ravel()
    row, column = (np.floor(a * density).astype(np.intp) % size for a in (z, x))
    return noise[row * size + column]


class Backdrop:
    """The wall that closes the view.

    Attributes:
        height: meters.
    """

    def __init__(self, camera: Camera, detail: float):
        scene = SCENES[camera.scene]
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
        kind = rng.choice(SCENES[camera.scene].behind)
        z = rng.uniform(nearest, farthest) if farthest > nearest else wall
        places.append((z, rng.uniform(-0.55, 0.55) * z, kind))
    for z, x, kind in sorted(places, reverse=True):
        density = min(MOST_DENSITY * detail, plate.scale / z)
        prop = stand_prop(camera, rng, kind, x=x, z=z, density=density)
        left, top, right, bottom = prop.box(camera)
        rectangle = (
            *((left - LEFT) * plate.scale, (top - TOP) * plate.scale),
            *((right - LEFT) * plate.scale, (bottom - TOP) * plate.scale),
        )
        lay_over(plate.picture, prop.picture, rectangle)
