"""The geometry of a picture: the camera, the light, and the projection of points in the world.

World axes: the camera stands above the origin and looks along +z; y is up and x to the left. Pictures are measured
in normalized coordinates, x to the right and y down, in multiples of the focal length. Boxes in the picture are
(left, top, right, bottom).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regard.crowd.rng import cosine, sine

__all__ = ["Box", "Figure", "Light", "View", "place_figure"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Light:
    """Light on surfaces: from everywhere, and from one side.

    Attributes:
        direction: towards the sun, (3,) of length 1.
        wrap: how far the sun's light reaches around; 0 a point, 1 the whole sky.
        ambient, sun: linear RGB strengths.
        hard: how sharp shadows are, 0 to 1.
    """

    direction: tuple[float, float, float]
    wrap: float
    ambient: tuple[float, float, float]
    sun: tuple[float, float, float]
    hard: float

    def on(self, upward: float, facing: float) -> np.ndarray:
        """Return the light on a surface by how far it looks up and towards the sun; (3,) float32."""
        return np.array([a * upward + s * facing for a, s in zip(self.ambient, self.sun)], np.float32)


@dataclass(frozen=True, slots=True)
class View:
    """A camera ``height`` meters above the ground, pitched down by the angle of which sine and cosine are given."""

    height: float
    pitch_sine: float
    pitch_cosine: float

    def project(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the normalized coordinates and depth of points in the world."""
        drop = y - self.height
        depth = z * self.pitch_cosine - drop * self.pitch_sine
        return -x / depth, -(drop * self.pitch_cosine + z * self.pitch_sine) / depth, depth

    def project_point(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Return the normalized coordinates of one point."""
        drop = y - self.height
        depth = z * self.pitch_cosine - drop * self.pitch_sine
        return -x / depth, -(drop * self.pitch_cosine + z * self.pitch_sine) / depth


@dataclass(frozen=True, slots=True)
class Figure:
    """A body in one frame, put into the world and projected.

    Attributes:
        world: (3, V) vertices in the world, float32.
        x, y, depth: (V,) normalized coordinates and depth in meters, float32.
        joints: (3, 17) normalized coordinates and depth of the COCO joints.
        normals: (3, V) outward directions in the body's own frame, float32.
        heading: cosine and sine of the angle from that frame to the world.
    """

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


def place_figure(
    points: np.ndarray, normals: np.ndarray, joints: np.ndarray, view: View, *, heading: float, x: float, z: float
) -> Figure:
    """Put a posed body on the ground.

    Args:
        points, normals: (3, V) in the body's own frame.
        joints: (3, 17) likewise.
        view: the camera.
        heading: where the person walks, radians from +z towards +x.
        x, z: where they stand, meters.
    """
    c, s = cosine(heading), sine(heading)
    world = turned(points, c, s, x, z)
    return Figure(
        world,
        *view.project(*world),
        joints=np.stack(view.project(*turned(joints, c, s, x, z))),
        normals=normals,
        heading=(c, s),
    )


def turned(points: np.ndarray, c: float, s: float, x: float, z: float) -> np.ndarray:
    """Return points turned about the y axis and moved over the ground."""
    return np.stack([points[0] * c + points[2] * s + x, points[1], points[2] * c - points[0] * s + z])
