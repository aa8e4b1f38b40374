"""A renderer in plain NumPy: dice the cells that face the camera into samples, splat them, shade the nearest.

The idea is that of Reyes (Cook, Carpenter and Catmull, "The Reyes image rendering architecture", 1987) without
micropolygons: samples are so dense that every one is a pixel of a picture finer than the one wanted. Depth and the
sample's texel are packed into one 32-bit number, so that the depth test is a scattered minimum and picks the same
sample whatever the order.

Shapes: V vertices, N cells, n visible cells, D samples along a cell's side, T texels along it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from regard.crowd.body.mesh import Body, Pose
from regard.crowd.camera.city_cameras import Box, Light, View
from regard.crowd.rng import cosine, sine

__all__ = ["Drawing", "Figure", "draw", "place_figure"]

EMPTY = np.uint32(0xFFFFFFFF)
CELL = 1 / 80
"""A typical cell's side as a share of the figure's height."""
DENSITY = 0.92
"""Largest distance of two samples, in pixels."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A body in one frame, put into the world and projected.

    Attributes:
        body: whose it is.
        world: (3, V) vertices in the world, float32.
        x, y, depth: (V,) normalized coordinates and depth in meters, float32.
        joints: (3, 17) normalized coordinates and depth of the COCO joints.
        normals: (3, V) outward directions in the body's own frame, float32.
        heading: cosine and sine of the angle from that frame to the world.
    """

    body: Body
    world: np.ndarray
    x: np.ndarray
    y: np.ndarray
    depth: np.ndarray
    joints: np.ndarray
    normals: np.ndarray
    heading: tuple[float, float]

    @property
    def box(self) -> Box:
        """Return the box around the whole figure."""
        return float(self.x.min()), float(self.y.min()), float(self.x.max()), float(self.y.max())

    def towards(self, direction: tuple[float, float, float]) -> np.ndarray:
        """Return the cosine between every vertex normal and a direction in the world; (V,) float32."""
        c, s = self.heading
        local = c * direction[0] - s * direction[2], direction[1], s * direction[0] + c * direction[2]
        across, up, ahead = (np.float32(component) for component in local)
        return self.normals[0] * across + self.normals[1] * up + self.normals[2] * ahead


def place_figure(pose: Pose, frame: int, view: View, *, heading: float, x: float, z: float) -> Figure:
    """Put a body in one frame of its pose on the ground.

    Args:
        pose: the body in its own frame of reference.
        frame: which one of the pose's.
        view: the camera.
        heading: where the person walks, radians from +z towards +x.
        x, z: where they stand, meters.
    """
    c, s = cosine(heading), sine(heading)

    def seen(points: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return points turned about the y axis and moved over the ground, and where the camera sees them."""
        world = np.stack([points[0] * c + points[2] * s + x, points[1], points[2] * c - points[0] * s + z])
        return world, view.project(*world)

    world, projected = seen(pose.points[:, frame])
    joints = np.stack(seen(pose.joints[:, :, frame])[1])
    return Figure(pose.body, world, *projected, joints=joints, normals=pose.normals[:, frame], heading=(c, s))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure drawn on a fine grid.

    Attributes:
        body: who it shows.
        keys: (rows, columns) uint32, depth level above texel, ``EMPTY`` where nobody is.
        texel_bits: bits of a key below its depth.
        at: (P,) places of the pixels that show the person, row by row.
        color: (3, P) linear RGB of those pixels, float32.
        nearest, level: meters of depth level 0, and per level.
    """

    body: Body
    keys: np.ndarray
    texel_bits: int
    at: np.ndarray
    color: np.ndarray
    nearest: float
    level: float

    def depth(self, down: float, across: float) -> float:
        """Return the distance in meters at a place, 0 to 1 down and across the picture; infinite where nobody is."""
        rows, columns = self.keys.shape
        key = int(self.keys[int(down * rows), int(across * columns)])
        return math.inf if key == EMPTY else self.nearest + (key >> self.texel_bits) * self.level

    def labels(self, height: int, width: int) -> np.ndarray:
        """Return the labels at the middle of every pixel of a picture; (height, width) uint8, see ``canvas.LABELS``."""
        rows, columns = self.keys.shape
        row, column = ((np.arange(n) * 2 + 1) * have // (2 * n) for n, have in ((height, rows), (width, columns)))
        keys = self.keys[row[:, None], column]
        texel = np.minimum(keys & np.uint32((1 << self.texel_bits) - 1), len(self.body.labels) - 1)
        return np.where(keys == EMPTY, np.uint8(0), self.body.labels[texel])

    def reduced(self, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """Return premultiplied RGB (3, h, w) and coverage (h, w) on a grid ``factor`` times as coarse."""
        h, w = self.keys.shape[0] // factor, self.keys.shape[1] // factor
        row, column = np.divmod(self.at, self.keys.shape[1])
        place = (row // factor) * w + column // factor
        share = np.float32(1 / (factor * factor))
        sums = [np.bincount(place, weights, minlength=h * w) for weights in (*self.color, None)]
        red, green, blue, count = (a.astype(np.float32).reshape(h, w) * share for a in sums)
        return np.stack([red, green, blue]), count


def draw(figure: Figure, box: Box, *, rows: int, columns: int, light: Light) -> Drawing:
    """Draw what ``box`` shows of a figure on a grid of ``rows`` x ``columns`` pixels."""
    x = (figure.x - np.float32(box[0])) * np.float32(columns / (box[2] - box[0]))
    y = (figure.y - np.float32(box[1])) * np.float32(rows / (box[3] - box[1]))
    body = figure.body
    nearest, farthest = float(figure.depth.min()), float(figure.depth.max())
    texel_bits = (len(body.labels) - 1).bit_length()
    levels = np.float32((1 << (32 - texel_bits)) - 2)
    depth = (figure.depth - np.float32(nearest)) * (levels / np.float32(farthest - nearest + 1e-6))
    buffer = np.full((rows + 2, columns + 2), EMPTY, np.uint32)
    scale = rows * (figure.box[3] - figure.box[1]) / (box[3] - box[1])
    splat(buffer, body, (x, y, depth), texel_bits, math.ceil(scale * CELL / DENSITY))
    keys = closed(buffer)
    at = np.flatnonzero(keys != EMPTY)
    texel = (keys.ravel()[at] & np.uint32((1 << texel_bits) - 1)).astype(np.intp)
    color = shaded(figure, texel, light)
    return Drawing(body, keys, texel_bits, at, color, nearest, (farthest - nearest + 1e-6) / float(levels))


def splat(
    buffer: np.ndarray,
    body: Body,
    vertices: tuple[np.ndarray, np.ndarray, np.ndarray],
    texel_bits: int,
    fineness: int,
) -> None:
    """Write the nearest sample of every pixel into a buffer with a border of one pixel.

    Args:
        buffer: (height, width) keys, depth above texel; its border takes everything outside the picture.
        body: whose cells they are.
        vertices: (V,) each: column, row and depth level.
        texel_bits: bits of a key below its depth.
        fineness: D of cells of usual size; larger ones are diced twice as finely.
    """
    height, width = buffer.shape
    x, y = (values.take(body.corners) for values in vertices[:2])
    area = (x[3] - x[0]) * (y[1] - y[2]) - (y[3] - y[0]) * (x[1] - x[2])
    seen = np.flatnonzero(area * body.outward > 0)
    x, y, depth = x.take(seen, axis=1), y.take(seen, axis=1), vertices[2].take(body.corners.take(seen, axis=1))
    extent = np.maximum(
        np.maximum(np.abs(x[1] - x[0]), np.abs(y[1] - y[0])), np.maximum(np.abs(x[2] - x[0]), np.abs(y[2] - y[0]))
    )
    large = extent > fineness * DENSITY
    for part, samples in ((~large, fineness), (large, 2 * fineness)):
        chosen = np.flatnonzero(part)
        if not len(chosen):
            continue
        cells = seen[chosen]
        row, column = dice(y.take(chosen, axis=1) + 1, samples), dice(x.take(chosen, axis=1) + 1, samples)
        place = np.floor(row.clip(0, height - 1, out=row), out=row) * np.float32(width)
        place += np.floor(column.clip(0, width - 1, out=column), out=column)
        line = np.arange(samples) * body.texels // samples
        texel = (line[:, None] * body.texels + line)[..., None]
        keys = dice(depth.take(chosen, axis=1), samples).astype(np.uint32) << np.uint32(texel_bits)
        keys |= cells.astype(np.uint32) + (texel * body.torn.size).astype(np.uint32)
        torn = np.flatnonzero(body.torn[cells])
        keys[:, :, torn] |= np.where(body.alive[texel, cells[torn]], np.uint32(0), EMPTY)
        np.minimum.at(buffer.reshape(-1), place.astype(np.intp).ravel(), keys.ravel())


def dice(corners: np.ndarray, samples: int) -> np.ndarray:
    """Sample a value given at the corners of cells; (4, n) to (D, D, n)."""
    upper_left, upper_right, lower_left, lower_right = corners
    t = ((np.arange(samples, dtype=np.float32) + np.float32(0.5)) / np.float32(samples))[:, None]
    left = upper_left + (lower_left - upper_left) * t
    span = upper_right + (lower_right - upper_right) * t - left
    return left[:, None] + span[:, None] * t[None]


def between(corners: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return a value given at the corners of cells, (4, P), at a place within each, as :func:`dice` has it; (P,)."""
    upper_left, upper_right, lower_left, lower_right = corners
    left = upper_left + (lower_left - upper_left) * down
    span = upper_right + (lower_right - upper_right) * down - left
    return left + span * across


def closed(keys: np.ndarray) -> np.ndarray:
    """Return the picture without its border, holes of one pixel filled with the nearest of the pixels beside them."""
    keys[0] = keys[-1] = EMPTY
    keys[:, 0] = keys[:, -1] = EMPTY
    inner = keys[1:-1, 1:-1]
    sides = keys[:-2, 1:-1], keys[2:, 1:-1], keys[1:-1, :-2], keys[1:-1, 2:]
    hits = [side != EMPTY for side in sides]
    a, b, c, d = hits
    three = ((a & b) & (c | d)) | ((c & d) & (a | b))
    nearest = np.minimum(np.minimum(sides[0], sides[1]), np.minimum(sides[2], sides[3]))
    return np.where((inner == EMPTY) & three, nearest, inner)


def shaded(figure: Figure, texel: np.ndarray, light: Light) -> np.ndarray:
    """Return the linear RGB of texels in a light; (P,) to (3, P) float32."""
    body = figure.body
    sky = np.float32(0.62) + np.float32(0.38) * figure.normals[1]
    facing = figure.towards(light.direction) + np.float32(light.wrap)
    sun = np.maximum(facing * np.float32(1 / (1 + light.wrap)), 0)
    spot, cell = np.divmod(texel, body.torn.size)
    down, across = (
        ((n + np.float32(0.5)) / np.float32(body.texels)).astype(np.float32) for n in np.divmod(spot, body.texels)
    )
    corners = body.corners.take(cell, axis=1)
    sky, sun = (between(values.take(corners), down, across) for values in (sky, sun))
    color = body.albedo.take(texel, axis=1)
    for channel, ambient, direct in zip(color, light.ambient, light.sun):
        channel *= sky * np.float32(ambient) + sun * np.float32(direct)
    return color
