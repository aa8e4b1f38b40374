"""One walk of somebody past a camera: where, how, in what light, and among whom."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from regard.crowd.body.skeleton import Motion
from regard.crowd.camera.city_cameras import Camera
from regard.crowd.color import Rgb, three
from regard.crowd.knobs import Knobs
from regard.crowd.rng import Rng, cosine, sine

__all__ = ["Company", "Moment", "draw_moments", "motion_of"]

STEP = 1.42
"""Meters of two steps."""
GESTURES = (
    *(("swing", 3.0), ("pocket", 4.0), ("phone", 2.0), ("call", 1.5), ("behind", 1.0), ("strap", 1.0)),
    *(("folded", 1.5), ("front", 1.5), ("hold", 1.5), ("hips", 0.7), ("point", 0.3)),
)
"""What arms do on passes with other gestures, and how often."""
REACH = 3.0
"""Meters of their way on which a camera takes people's pictures; who walks farther starts again."""


@dataclass(frozen=True, slots=True)
class Company:
    """Another walker: which of the camera's, and where on the ground (for those in front, beside the person)."""

    walker: int
    x: float
    z: float


@dataclass(frozen=True, slots=True)
class Moment:
    """One picture of a walk; place, phase, turn of the head and exposure change from one to the next.

    Attributes:
        x, z: where they are, meters.
        heading: where they walk, radians from +z towards +x.
        phase, stride, head_turn, head_nod, lean, arms, hand, both: a frame of a :class:`Motion`.
        cloud: how much of the sun is hidden, 0 to 1.
        exposure: factors on red, green and blue beside the sensor's.
        speed: how much they smear, as a factor.
        hidden: whether the camera's props may stand in front of them.
        behind, before: other walkers, the farthest first.
        bagless: whether they left their bag at home.
        shade: names the shadow that falls on them; 0 for none.
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
    exposure: Rgb
    speed: float
    hidden: bool
    behind: tuple[Company, ...]
    before: tuple[Company, ...]
    bagless: bool
    shade: int = 0


def draw_walk(rng: Rng, camera: Camera, *, arms: str, walkers: int, knobs: Knobs) -> Moment:
    """Draw the first moment of a walk; see :func:`draw_moments`."""
    z = rng.uniform(camera.near, camera.far)
    x = rng.uniform(-0.20, 0.20) * z
    jitter = knobs.light_jitter
    gain = max(0.5, 1 + jitter * rng.normal(0, 0.09))
    exposure = three(gain * (1 + jitter * rng.normal(0, 0.02)) for _ in range(3))
    behind = [
        Company(rng.below(walkers), x + rng.uniform(-1.6, 1.6), z + rng.uniform(0.7, 5.0))
        for _ in range(3)
        if rng.chance(0.4 * knobs.passersby)
    ]
    before = []
    if rng.chance(0.22 * knobs.occlusion):
        before.append(Company(rng.below(walkers), rng.sign() * rng.uniform(0.22, 0.60), -rng.uniform(0.6, 1.5)))
    return Moment(
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
        exposure=exposure,
        speed=rng.uniform(0.3, 1.3),
        hidden=rng.chance(knobs.occlusion),
        behind=tuple(sorted(behind, key=lambda other: -other.z)),
        before=tuple(before),
        bagless=rng.chance(knobs.bag_change),
    )


def gestured(walk: Moment, rng: Rng) -> Moment:
    """Return a walk with other arms, head and steps than the person's own."""
    return replace(
        walk,
        arms=rng.weighted(GESTURES),
        hand=rng.sign(),
        both=rng.chance(0.6),
        stride=rng.weighted(((walk.stride, 3.0), (0.05, 1.5), (0.45, 1.0), (1.25, 1.0))),
        head_turn=rng.normal(0, 0.45),
        head_nod=rng.normal(0.10, 0.20),
        lean=walk.lean + rng.normal(0, 0.07),
    )


def draw_moments(
    seed: int, key: str, camera: Camera, walked: Sequence[float], *, arms: str, walkers: int, knobs: Knobs
) -> Iterator[Moment]:
    """Draw the moments at which a camera takes pictures of the person of that key.

    Args:
        seed, key: name of the person's streams.
        camera: which they pass.
        walked: meters since the first picture, one number per picture.
        arms: what their hands do when they do not swing.
        walkers: how many others the camera has.
        knobs: the difficulty.
    """
    walk = draw_walk(Rng(seed, "walk", key, camera.index), camera, arms=arms, walkers=walkers, knobs=knobs)
    gesture, shadow = (Rng(seed, name, key, camera.index) for name in ("gestures", "shade"))
    if gesture.chance(knobs.gestures):
        walk = gestured(walk, gesture)
    if shadow.chance(knobs.shade):
        walk = replace(walk, shade=1 + shadow.below(1 << 30))
    rng = Rng(seed, "moments", key, camera.index)
    for meters in walked:
        turned, gain, way = rng.normal(0, 0.10), 1 + rng.normal(0, 0.02), meters % REACH
        yield replace(
            walk,
            x=walk.x + sine(walk.heading) * way,
            z=walk.z + cosine(walk.heading) * way,
            phase=walk.phase + meters * 2 * math.pi / STEP,
            head_turn=walk.head_turn + turned,
            exposure=three(gain * factor for factor in walk.exposure),
        )


def motion_of(moments: Sequence[Moment]) -> Motion:
    """Return the frames of a body at several moments."""
    return Motion(**{f.name: np.array([getattr(moment, f.name) for moment in moments]) for f in fields(Motion)})
