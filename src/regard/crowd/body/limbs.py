"""Legs, shoes, arms and hands as tubes around the bones.

Shapes: F frames, R rings, C points around a ring; every part is (3, F, R, C) float32 in the person's frame.
"""

from __future__ import annotations

import numpy as np

from regard.crowd.body.geometry import axis, cross, dot, profile, puff, ring_offsets, unit
from regard.crowd.body.skeleton import SIDES, Limb, Skeleton
from regard.crowd.body.trunk import sweep
from regard.crowd.identity_types import Identity

__all__ = ["arm", "hand", "leg", "shoe"]

TROUSERS = {
    "jeans": (0.010, 0.010),
    "trousers": (0.014, 0.020),
    "wide": (0.020, 0.055),
    "track": (0.020, 0.022),
    "leggings": (0.003, 0.0),
    "shorts": (0.024, 0.028),
}
"""Distance of a garment from the leg above, and how much more below; meters."""


def tube(start: np.ndarray, bones: Limb, *, rows: int, bend: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ring centers, left axes and front axes along two bones, rounded at the joint; each (3, F, R).

    Args:
        start: (3, F) where the tube begins.
        bones: where it goes.
        rows: R.
        bend: meters before and after the joint over which the limb is a curve.
    """
    upper, lower = bones.joint - start, bones.end - bones.joint
    upper_length, lower_length = np.sqrt(dot(upper, upper)), np.sqrt(dot(lower, lower))
    upper, lower = (upper / upper_length)[..., None], (lower / lower_length)[..., None]
    knee = upper_length[:, None]
    way = np.linspace(0, 1, rows) * (upper_length + lower_length)[:, None]
    t = np.clip((way - knee + bend) / (2 * bend), 0, 1)
    pivot = bones.joint[..., None]
    curve = (1 - t) ** 2 * (pivot - bend * upper) + 2 * t * (1 - t) * pivot + t**2 * (pivot + bend * lower)
    straight = np.where(way < knee, start[..., None] + way * upper, pivot + (way - knee) * lower)
    centers = np.where(np.abs(way - knee) > bend, straight, curve)
    along = unit(upper * (1 - t) + lower * t)
    front = bones.upper_front[..., None] * (1 - t) + bones.lower_front[..., None] * t
    front = unit(front - along * dot(front, along))
    return centers, cross(-along, front), front


def leg(person: Identity, skeleton: Skeleton, folds: np.ndarray, side: str) -> np.ndarray:
    """Return a leg in its garment."""
    rows, columns = folds.shape
    bones = skeleton.legs[side]
    top = bones.start + 0.012 * person.build.height * axis(0, 1, 0)
    centers, left, front = tube(top, bones, rows=rows, bend=0.06)
    v = np.linspace(0, 1, rows)
    bottom = person.bottom
    ease, flare = TROUSERS.get(bottom.kind, (0.0, 0.0))
    covered = 1.0 if bottom.kind in TROUSERS and bottom.kind != "shorts" else bottom.covered
    cloth = (v <= covered) if covered < 1 else np.ones(rows)
    stand_off = (ease + flare * np.clip(v / max(covered, 0.01), 0, 1) ** 2) * cloth
    side_axis, front_axis, back_axis = (half + stand_off for half in bare_leg(person, v))
    offsets = ring_offsets(side_axis, front_axis, back_axis, columns)
    knee = np.clip(1 - ((v - 0.5) / 0.17) ** 2, 0, 1) * 0.004
    hem = np.clip((v - 0.86) / 0.14, 0, 1) * 0.006
    crease = (0.004 + 0.30 * (ease + flare * 0.4) + knee + hem) * cloth
    return sweep(centers, left, front, puff(offsets, crease[:, None] * folds))


def bare_leg(person: Identity, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the half axes of the leg to the side, front and back, ``v`` running from hip to ankle; meters."""
    scale = person.build.height * (0.93 + 0.25 * (person.build.width - 1))
    side = [
        *((0, 0.050), (0.12, 0.054), (0.3, 0.046), (0.5, 0.0335), (0.6, 0.033)),
        *((0.68, 0.0345), (0.85, 0.026), (1, 0.0225)),
    ]
    front = [
        *((0, 0.050), (0.15, 0.053), (0.35, 0.045), (0.5, 0.036), (0.62, 0.029)),
        *((0.7, 0.028), (0.85, 0.024), (1, 0.023)),
    ]
    back = [
        *((0, 0.054), (0.15, 0.052), (0.35, 0.043), (0.5, 0.032), (0.62, 0.040)),
        *((0.7, 0.041), (0.85, 0.029), (1, 0.025)),
    ]
    return profile(v, side) * scale, profile(v, front) * scale, profile(v, back) * scale


def shoe(person: Identity, skeleton: Skeleton, folds: np.ndarray, side: str) -> np.ndarray:
    """Return a shoe from heel to toe."""
    rows, columns = folds.shape
    height, foot = person.build.height, skeleton.legs[side].tip
    left = unit(np.stack([foot[2], np.zeros_like(foot[0]), -foot[0]]))
    t = np.linspace(0, 1, rows)
    heel = skeleton.legs[side].end - 0.030 * axis(0, 1, 0) - 0.055 * foot
    centers = heel[..., None] + t * 0.152 * height * foot[..., None]
    wide = profile(t, [(0, 0), (0.06, 0.026), (0.3, 0.030), (0.65, 0.041), (0.9, 0.032), (1, 0)]) * height / 1.62
    high = profile(t, [(0, 0), (0.05, 0.05), (0.3, 0.062), (0.5, 0.042), (0.8, 0.026), (0.95, 0.016), (1, 0)])
    low = profile(t, [(0, 0), (0.05, 0.034), (0.5, 0.032), (0.9, 0.030), (1, 0)])
    high = high * (1.25 if person.shoes.kind == "boot" else 1.0)
    offsets = ring_offsets(wide, high, low, columns, 2.6)
    return sweep(centers, -left, cross(foot, left), offsets)


def arm(person: Identity, skeleton: Skeleton, folds: np.ndarray, side: str) -> np.ndarray:
    """Return an arm in its sleeve."""
    rows, columns = folds.shape
    height, top, bones = person.build.height, person.top, skeleton.arms[side]
    start = bones.start + 0.012 * height * skeleton.up - SIDES[side] * 0.004 * height * skeleton.chest_left
    centers, left, front = tube(start, bones, rows=rows, bend=0.045)
    v = np.linspace(0, 1, rows)
    knots = [
        *((0, 0.003), (0.03, 0.0145), (0.07, 0.0225), (0.13, 0.0285), (0.2, 0.0290)),
        *((0.32, 0.0268), (0.5, 0.0228), (0.6, 0.0240), (0.75, 0.0205), (1, 0.0152)),
    ]
    radius = profile(v, knots) * height * (0.9 + 0.55 * (person.build.width - 1))
    sleeve = v <= top.sleeve
    ease = 0.004 + 0.0085 * top.loose if top.sleeve > 0 else 0.0
    stand_off = ease * sleeve * cuff(person, v) * np.clip(v / 0.2, 0.15, 1)
    offsets = ring_offsets(radius + stand_off, radius * 1.06 + stand_off, radius * 1.02 + stand_off, columns)
    elbow = np.clip(1 - ((v - 0.54) / 0.18) ** 2, 0, 1) * 0.004
    return sweep(centers, left, front, puff(offsets, ((0.25 * ease + elbow) * sleeve)[:, None] * folds))


def cuff(person: Identity, v: np.ndarray) -> np.ndarray:
    """Return the factor by which a sleeve gets narrower or wider towards its end."""
    top = person.top
    if top.sleeve > 0.9 and top.kind in ("hoodie", "jacket"):
        return 1 - 0.45 * np.clip((v - 0.8) / 0.2, 0, 1)
    if top.sleeve < 0.7:
        return 1 + 0.5 * np.clip(v / max(top.sleeve, 0.01), 0, 1)
    return np.ones_like(v)


def hand(person: Identity, skeleton: Skeleton, folds: np.ndarray, side: str) -> np.ndarray:
    """Return a hand that follows the forearm and falls a little."""
    rows, columns = folds.shape
    height, bones = person.build.height, skeleton.arms[side]
    t = np.linspace(0, 1, rows)
    way = unit(bones.tip * 0.8 - skeleton.up * 0.45)
    centers = (bones.end - 0.012 * bones.tip)[..., None] + t * 0.088 * height * way[..., None]
    front = unit(bones.lower_front - bones.tip * dot(bones.lower_front, bones.tip))
    size = profile(t, [(0, 0.6), (0.2, 0.85), (0.5, 1.0), (0.8, 0.75), (1, 0.02)]) * height
    offsets = ring_offsets(size * 0.0135, size * 0.021, size * 0.021, columns)
    return sweep(centers, cross(-bones.tip, front), front, offsets)
