"""One walk of somebody past a camera: where, how, in what light, and among whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.crowd.body.skeleton import Motion
from regard.crowd.camera.city_cameras import Camera
from regard.crowd.knobs import Knobs
from regard.crowd.rng import Rng, cosine, sine

__all__ = ["Company", "Moment", "Walk", "draw_moments", "draw_walk", "motion_of"]

STEP = 1.42
"""Meters of two steps."""
REACH = 3.0
"""Meters of their way on which a camera takes people's pictures; who walks farther starts again."""


@dataclass(frozen=True, slots=True)
class Company:
    """Another walker: which of the camera's, and where on the ground (for those in front, beside the person)."""

    walker: int
    x: float
    z: float


@dataclass(frozen=True, slots=True)
class Walk:
    """One pass of a camera: what stays the same from picture to picture.

    Attributes:
        x, z: where the first picture is taken, meters.
        heading: where they walk, radians from +z towards +x.
        phase: of the step at the first picture, radians.
        stride: length of the steps as a factor.
        head_turn, head_nod, lean: radians.
        arms, hand, both: what the hands do, see :class:`Motion`.
        cloud: how much of the sun is hidden, 0 to 1.
        exposure: factors on red, green and blue beside the sensor's.
        speed: how much they smear, as a factor.
        hidden: whether the camera's props may stand in front of them.
        behind, before: other walkers, the farthest first.
        bagless: whether they left their bag at home.
    """

    x: float
    z: float
    heading: float
    phase: float
    stride: float
    head_turn: float
    head_nod: float
    lean: float
    arms: str
    hand: int
    both: bool
    cloud: float
    exposure: tuple[float, float, float]
    speed: float
    hidden: bool
    behind: tuple[Company, ...]
    before: tuple[Company, ...]
    bagless: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """One picture of a walk: place, phase of the step, turn of the head, and exposure."""

    x: float
    z: float
    phase: float
    head_turn: float
    gain: float


def draw_walk(seed: int, key: str, camera: Camera, *, arms: str, walkers: int, knobs: Knobs) -> Walk:
    """Draw a walk of the person of that key past a camera that has a number of other walkers.

    ``arms`` is what their hands do when they do not swing.
    """
    rng = Rng(seed, "walk", key, camera.index)
    z = rng.uniform(camera.near, camera.far)
    x = rng.uniform(-0.20, 0.20) * z
    jitter = knobs.light_jitter
    gain = max(0.5, 1 + jitter * rng.normal(0, 0.09))
    red, green, blue = (gain * (1 + jitter * rng.normal(0, 0.02)) for _ in range(3))
    behind = [
        Company(rng.below(walkers), x + rng.uniform(-1.6, 1.6), z + rng.uniform(0.7, 5.0))
        for _ in range(3)
        if rng.chance(0.4 * knobs.passersby)
    ]
    before = []
    if rng.chance(0.22 * knobs.occlusion):
        before.append(Company(rng.below(walkers), rng.sign() * rng.uniform(0.22, 0.60), -rng.uniform(0.6, 1.5)))
    return Walk(
        x=x,
        z=z,
        heading=camera.path + rng.choice((0.0, math.pi)) + rng.normal(0, knobs.view_spread),
        phase=rng.uniform(0, 2 * math.pi),
        stride=0.08 if rng.chance(knobs.standing) else min(1.2, max(0.6, rng.normal(0.97, 0.1))),
        head_turn=rng.normal(0, 0.22),
        head_nod=rng.normal(0.05, 0.09),
        lean=rng.normal(0, 0.03),
        arms="swing" if rng.chance(0.35) else arms,
        hand=rng.sign(),
        both=rng.chance(0.5),
        cloud=min(1.0, max(0.0, rng.normal(0.1, 0.3))) * min(1.0, jitter),
        exposure=(red, green, blue),
        speed=rng.uniform(0.3, 1.3),
        hidden=rng.chance(knobs.occlusion),
        behind=tuple(sorted(behind, key=lambda other: -other.z)),
        before=tuple(before),
        bagless=rng.chance(knobs.bag_change),
    )


def draw_moments(seed: int, key: str, camera: Camera, walk: Walk, walked: Sequence[float]) -> list[Moment]:
    """Draw the moments of a walk at which the camera takes its pictures, ``walked`` meters after the first."""
    rng = Rng(seed, "moments", key, camera.index)
    ahead = sine(walk.heading), cosine(walk.heading)
    return [
        Moment(
            x=walk.x + ahead[0] * (meters % REACH),
            z=walk.z + ahead[1] * (meters % REACH),
            phase=walk.phase + meters * 2 * math.pi / STEP,
            head_turn=walk.head_turn + rng.normal(0, 0.10),
            gain=1 + rng.normal(0, 0.02),
        )
        for meters in walked
    ]


def motion_of(walks: Sequence[Walk], moments: Sequence[Moment]) -> Motion:
    """Return the frames of a body from moments, each given with the walk it belongs to."""
    return Motion(
        phase=np.array([moment.phase for moment in moments]),
        stride=np.array([walk.stride for walk in walks]),
        head_turn=np.array([moment.head_turn for moment in moments]),
        head_nod=np.array([walk.head_nod for walk in walks]),
        lean=np.array([walk.lean for walk in walks]),
        arms=tuple(walk.arms for walk in walks),
        hand=np.array([walk.hand for walk in walks]),
        both=np.array([walk.both for walk in walks]),
    )
