"""Other people: drawn once per camera, then laid into its pictures as flat sprites."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from regard.crowd.body.mesh import build_body
from regard.crowd.body.skeleton import Motion
from regard.crowd.camera.city_cameras import Camera
from regard.crowd.camera.view import Box, place_figure
from regard.crowd.clothes.roster import draw_identity
from regard.crowd.render.raster import draw
from regard.crowd.rng import Rng

__all__ = ["Walker", "draw_walkers"]

WALKERS = 8
ROWS = 176


@dataclass(frozen=True, slots=True)
class Walker:
    """Somebody else in a camera's picture.

    Attributes:
        picture: (4, h, w) premultiplied linear RGB and coverage.
        box: where it is when the walker stands ``z`` meters away on the optical axis.
        z: meters.
    """

    picture: np.ndarray
    box: Box
    z: float

    def stand(self, camera: Camera, x: float, z: float) -> tuple[np.ndarray, Box]:
        """Return the picture and box of the walker at another place on the ground."""
        scale = self.z / z
        foot, ground = camera.view.project_point(x, 0.0, z)
        _, own_ground = camera.view.project_point(0.0, 0.0, self.z)
        left, top, right, bottom = (
            *(foot + self.box[0] * scale, ground + (self.box[1] - own_ground) * scale),
            *(foot + self.box[2] * scale, ground + (self.box[3] - own_ground) * scale),
        )
        return self.picture, (left, top, right, bottom)


def draw_walkers(camera: Camera, texels: int, detail: float) -> list[Walker]:
    """Draw the people a camera sees besides those of the data set."""
    rng = Rng("city", camera.city, "walkers", camera.index)
    return [draw_walker(camera, rng, f"walker{camera.index}-{i}", texels, detail) for i in range(WALKERS)]


def draw_walker(camera: Camera, rng: Rng, key: str, texels: int, detail: float) -> Walker:
    """Draw one of them, in the camera's light, going along its path."""
    person = draw_identity(f"city {camera.city}", key)
    heading = camera.path + rng.choice((0.0, math.pi)) + rng.normal(0, 0.5)
    motion = Motion(
        phase=np.array([rng.uniform(0, 2 * math.pi)]),
        stride=np.array([rng.uniform(0.3, 1.0)]),
        head_turn=np.zeros(1),
        head_nod=np.zeros(1),
        lean=np.zeros(1),
        arms=(person.gait.arms,),
        hand=np.array([rng.sign()]),
        both=np.array([False]),
    )
    body = build_body(person, texels)
    z = 0.5 * (camera.near + camera.far)
    figure = place_figure(*body.pose(motion).at(0), camera.view, heading=heading, x=0.0, z=z)
    left, top, right, bottom = figure.box
    margin = 0.02 * (right - left), 0.01 * (bottom - top)
    box = left - margin[0], top - margin[1], right + margin[0], bottom + margin[1]
    rows = round(ROWS * detail)
    columns = max(24, int(rows * (box[2] - box[0]) / (box[3] - box[1])))
    color, coverage = draw(body, figure, box, rows=rows * 2, columns=columns * 2, light=camera.light()).reduced(2)
    return Walker(np.concatenate([color, coverage[None]]), box, z)
