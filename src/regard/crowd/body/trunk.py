"""Torso, pelvis, neck, collar, what hangs from the waist, and bags, as tubes around the bones.

Shapes: F frames, R rings, C points around a ring; every part is (3, F, R, C) float32 in the person's frame. Heights
are shares of the person's height, profiles (share, half axis as a share of the height).
"""

from __future__ import annotations

import math

import numpy as np

from regard.crowd.body.geometry import axis, profile, puff, ring, ring_offsets
from regard.crowd.body.skeleton import HIP, Skeleton
from regard.crowd.identity_types import Build, Identity
from regard.crowd.rng import cos, sin

__all__ = ["bag", "collar", "neck", "pelvis", "skirt", "sweep", "tail", "torso"]

LEFT, UP = axis(1, 0, 0), axis(0, 1, 0)
SQUARE = 4.0
"""Exponent of the rings of bags."""


def sweep(
    centers: np.ndarray, left: np.ndarray, front: np.ndarray, offsets: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Put ring offsets (R, C) or (F, R, C) around centers (3, F, R) with axes (3, F, R) or (3, F); points of a tube."""
    left, front = (v if v.ndim == 3 else v[..., None] for v in (left, front))
    centers, left, front = (v.astype(np.float32)[..., None] for v in (centers, left, front))
    across, ahead = (o.astype(np.float32) for o in offsets)
    return across * left + ahead * front + centers


def along(skeleton: Skeleton, heights: np.ndarray, height: float) -> np.ndarray:
    """Return points on the spine at the given shares of the height; (3, F, R)."""
    return skeleton.hip[..., None] + (heights - HIP) * height * skeleton.up[..., None]


def girth(build: Build, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the half axes of the bare trunk to the side, front and back, meters."""
    shoulder, belly = build.shoulder, 1 + 0.32 * build.belly
    side = [
        *((0.44, 0.090), (0.50, 0.099 * build.hip), (0.53, 0.099 * build.hip), (0.57, 0.094), (0.62, 0.085)),
        *((0.68, 0.089), (0.74, 0.096 * shoulder), (0.775, 0.099 * shoulder), (0.795, 0.096 * shoulder)),
        *((0.812, 0.084 * shoulder), (0.828, 0.064), (0.842, 0.047), (0.854, 0.039), (0.866, 0.035)),
    ]
    front = [
        *((0.44, 0.055), (0.50, 0.060), (0.53, 0.062 * (1 + 0.1 * build.belly)), (0.57, 0.060 * belly)),
        *((0.62, 0.057 * belly), (0.68, 0.060 * (1 + 0.18 * build.belly)), (0.735, 0.066 + 0.014 * build.bust)),
        *((0.77, 0.060), (0.81, 0.045), (0.832, 0.038), (0.85, 0.034), (0.866, 0.031)),
    ]
    back = [
        *((0.44, 0.052), (0.49, 0.070), (0.52, 0.072), (0.57, 0.060), (0.62, 0.053), (0.68, 0.057)),
        *((0.74, 0.062), (0.79, 0.058), (0.82, 0.047), (0.845, 0.040), (0.866, 0.035)),
    ]
    wide = 1 + (build.width - 1) * 0.9
    scale = build.height * np.array([wide, build.width, build.width])
    sides, fronts, backs = (profile(heights, knots) * k for knots, k in zip((side, front, back), scale))
    return sides, fronts, backs


def clad(person: Identity, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the half axes of the trunk in its garment, meters."""
    top, hem = person.top, person.hem
    ease = 0.006 + 0.009 * top.loose + 0.016 * top.loose * np.clip((0.60 - heights) / 0.10, 0, 1)
    ease = ease * np.clip((0.86 - heights) / 0.06, 0.25, 1.0)
    if top.tail:
        waist = 0.60 if top.kind == "dress" else 0.50
        ease = ease - (0.006 + 0.022 * top.loose) * np.clip((waist - heights) / 0.03, 0, 1)
    side, front, back = (axis + ease for axis in girth(person.build, heights))
    if top.kind in ("hoodie", "jacket", "coat"):  # boxy garments hide the waist
        straight = np.interp(heights, [hem, 0.75], [side[0] * 0.97, np.interp(0.75, heights, side) * 0.97])
        side = np.maximum(side, np.where(heights < 0.75, straight, 0))
    return side, front, back


def reach(person: Identity, height: float, half: int) -> float:
    """Return the reach of the garment from the spine to the side (0), front (1) or back (2) at a height, meters."""
    heights = np.linspace(person.hem, 0.866, 29)
    return float(np.interp(height, heights, clad(person, heights)[half]))


def torso(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return chest and belly down to the hem, twisted against the hips."""
    rows, columns = folds.shape
    height, hem = person.build.height, person.hem
    heights = np.linspace(hem, 0.866, rows)
    twist = skeleton.twist[:, None] * (heights - hem) / (0.82 - hem)
    front = skeleton.front[..., None]
    stoop = 0.012 * height * np.clip((heights - 0.74) / 0.12, 0, 1)
    centers = along(skeleton, heights, height) + stoop * front
    c, s = cos(twist), sin(twist)
    crease = (0.003 + 0.0042 * person.top.loose) * np.clip((0.84 - heights) / 0.05, 0.1, 1)
    offsets = puff(ring_offsets(*clad(person, heights), columns, 2.35), crease[:, None] * folds)
    return sweep(centers, c * LEFT[..., None] - s * front, c * front + s * LEFT[..., None], offsets)


def pelvis(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return the hips in the lower garment."""
    rows, columns = folds.shape
    heights = np.linspace(0.445, 0.60, rows)
    ease = 0.010 if person.bottom.kind in ("wide", "track", "shorts") else 0.004
    close = np.clip((heights - 0.44) / 0.03, 0.55, 1)
    side, front, back = (half + ease for half in girth(person.build, heights))
    offsets = ring_offsets(side * (0.9 + 0.1 * close), front * close, back * close, columns, 2.3)
    centers = along(skeleton, heights, person.build.height)
    return sweep(centers, LEFT, skeleton.front, offsets)


def neck(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return the neck from between the shoulders to the skull."""
    rows, columns = folds.shape
    height, t = person.build.height, np.linspace(0, 1, rows)
    low = skeleton.neck - 0.01 * height * skeleton.up
    high = skeleton.head - 0.55 * skeleton.head_radius * skeleton.head_up - 0.012 * height * skeleton.head_front
    centers = low[..., None] * (1 - t) + high[..., None] * t
    radius = (0.0335 - 0.003 * t) * height * (0.9 if person.female else 1.0) * (0.85 + 0.15 * person.build.width)
    offsets = ring_offsets(radius, radius, radius, columns)
    return sweep(centers, skeleton.chest_left, skeleton.chest_front, offsets)


def collar(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a collar, a scarf or a hood that lies on the shoulders: a ring around the neck."""
    rows, columns = folds.shape
    height, top = person.build.height, person.top
    x, z = ring(columns)
    size = 1.0 if top.scarf else 0.85 if top.hood else 0.5
    thick = np.where(z < 0, 0.034 if top.hood else 0.021, 0.018) * height * size
    around = 2 * math.pi * np.arange(rows) / (rows - 1)
    radius = 0.040 * height + thick * cos(around)[:, None]
    sag = np.clip(-z, 0, 1) if top.hood else np.zeros(columns)
    lift = thick * sin(around)[:, None] - 0.012 * height * sag
    base = skeleton.hip + (0.853 - HIP) * height * skeleton.up + 0.012 * height * skeleton.front
    offsets = radius * x, 0.95 * radius * z - 0.022 * height * sag
    rest = sweep(base[..., None], skeleton.chest_left, skeleton.chest_front, offsets)
    return rest + lift.astype(np.float32) * skeleton.up.astype(np.float32)[..., None, None]


def skirt(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a skirt, which widens where nothing covers it."""
    flare, end = 1.6 if person.bottom.kind == "skirt" else 0.8, person.bottom.skirt
    covered = person.top.hem if person.top.tail else person.hem
    return hang(person, skeleton, folds, span=(0.60, max(covered, end + 0.02), end), ease=0.006, flare=flare)


def tail(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return the lower part of a dress, a coat or a long jacket."""
    top = person.top
    dress = top.kind == "dress"
    start = 0.60 if dress else 0.50
    ease = 1.15 * (0.006 + 0.009 * top.loose) + 0.010 * top.loose
    return hang(person, skeleton, folds, span=(start, start, top.hem), ease=ease, flare=1.6 if dress else 0.8)


def hang(
    person: Identity, skeleton: Skeleton, folds: np.ndarray, *, span: tuple[float, ...], ease: float, flare: float
) -> np.ndarray:
    """Return cloth that hangs from the waist around both legs.

    Args:
        person, skeleton, folds: who wears it, the bones, and (R, C) noise.
        span: upper edge, where it starts to widen, and lower edge, as shares of the height.
        ease: how far it stands off, meters.
        flare: how much wider it gets, as a factor.
    """
    (rows, columns), (top, widening, hem) = folds.shape, span
    height = person.build.height
    heights = np.linspace(top, hem, rows)
    t = np.clip((widening - heights) / (widening - hem), 0, 1)
    left_leg, right_leg = (leg_centers(person, skeleton, side, heights) for side in ("left", "right"))
    apart = np.abs(left_leg - right_leg) * 0.5
    centers = along(skeleton, heights, height)
    between = np.stack([(left_leg + right_leg)[0] * 0.5, centers[1], (left_leg + right_leg)[2] * 0.5])
    centers = centers + (between - centers) * np.clip((HIP - heights) / 0.06, 0, 1)
    bones = 0.491 * height * person.build.leg
    knots = [(0, 0.060), (0.25, 0.054), (0.5, 0.040), (1, 0.035)]
    leg = profile(np.clip((HIP - heights) * height / bones, 0, 1), knots) * height
    side, front, back = girth(person.build, np.maximum(heights, 0.50))
    wide = 0.05 * t * flare
    side = np.maximum(side + ease, (apart[0] + leg) * 1.02 + ease) + wide
    front = np.maximum(front + ease, apart[2] * 1.02 + leg + ease) + wide
    back = np.maximum(back * (1 - 0.15 * t) + ease, apart[2] * 1.02 + leg + ease) + wide
    angles = np.arange(columns) * (2 * math.pi / columns)
    wave = sin(angles * 7 + 1.3) * 0.6 + sin(angles * 11 + 0.4) * 0.4
    depth = (0.016 if flare > 1 else 0.006) * t
    offsets = puff(ring_offsets(side, front, back, columns, 2.2), depth[:, None] * wave + 0.004 * folds)
    return sweep(centers, LEFT, skeleton.front, offsets)


def leg_centers(person: Identity, skeleton: Skeleton, side: str, heights: np.ndarray) -> np.ndarray:
    """Return the axis of a leg at the given shares of the height in an upright stand; (3, F, R)."""
    leg, height = skeleton.legs[side], person.build.height
    thigh, shank = 0.245 * height * person.build.leg, 0.246 * height * person.build.leg
    below = (HIP - heights) * height
    upper, lower = np.clip(below / thigh, 0, 1), np.clip((below - thigh) / shank, 0, 1)
    start, joint, end = (v[..., None] for v in (leg.start, leg.joint, leg.end))
    return start + upper * (joint - start) + lower * (end - joint)


def bag(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return whatever the person carries; (3, F, R, C)."""
    shapes = {"backpack": backpack, "crossbody": crossbody, "shoulder": crossbody, "trolley": trolley, "paper": sheet}
    shape = shapes.get(person.bag.kind, carried)
    return shape(person, skeleton, folds)


def backpack(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a backpack that hangs from the shoulders."""
    rows, columns = folds.shape
    pack, height, t = person.bag, person.build.height, np.linspace(0, 1, rows)
    top = skeleton.hip + (0.835 - HIP) * height * skeleton.up
    base = top - skeleton.up * pack.height - skeleton.chest_front * (reach(person, 0.72, 2) + pack.depth * 0.48)
    wide = profile(t, [(0, 0), (0.02, 0.75), (0.08, 0.95), (0.3, 1), (0.75, 0.97), (0.92, 0.8), (0.99, 0.5), (1, 0)])
    deep = profile(t, [(0, 0), (0.02, 0.7), (0.1, 1), (0.45, 1.05), (0.55, 0.9), (0.9, 0.75), (0.99, 0.4), (1, 0)])
    wide, deep = wide * pack.width * 0.5, deep * pack.depth * 0.52
    centers = base[..., None] + t * pack.height * skeleton.up[..., None]
    return sweep(centers, skeleton.chest_left, skeleton.chest_front, ring_offsets(wide, deep, deep, columns, SQUARE))


def crossbody(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a bag at the hip, its strap across the chest, or a larger one below the shoulder that has its strap."""
    rows, columns = folds.shape
    purse, t = person.bag, np.linspace(0, 1, rows)
    width, tall, depth = 0.12 + 0.04 * purse.width, 0.19 + 0.05 * purse.drop, 0.07
    side, low = -purse.side, 0.50
    if purse.kind == "shoulder":
        width, tall, depth, side = 0.5 * purse.width, 0.24 + 0.14 * purse.drop, 0.6 * purse.depth, purse.side
        low = 0.60 - 0.09 * purse.drop
    outward = side * (reach(person, 0.55, 0) + depth * 0.35)
    base = skeleton.hip + (low - HIP) * person.build.height * skeleton.up
    base = base + outward * skeleton.chest_left + 0.02 * skeleton.chest_front
    wide = profile(t, [(0, 0), (0.03, 0.8), (0.2, 1), (0.8, 1), (0.97, 0.85), (1, 0)]) * width
    deep = profile(t, [(0, 0), (0.03, 0.8), (0.3, 1), (0.8, 0.8), (0.97, 0.5), (1, 0)]) * depth * 0.5
    centers = base[..., None] + t * tall * skeleton.up[..., None]
    return sweep(centers, -skeleton.chest_front, skeleton.chest_left, ring_offsets(wide, deep, deep, columns, SQUARE))


def carried(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a handbag or a tote in the hand; its handles are the narrow upper end of the tube."""
    rows, columns = folds.shape
    item, t = person.bag, np.linspace(0, 1, rows)
    small = item.kind == "handbag"
    width, tall, depth = (0.13 + 0.05 * item.width, 0.20, 0.10) if small else (0.15 + 0.06 * item.width, 0.34, 0.09)
    if item.kind == "duffel":
        width, tall, depth = 0.75 * item.width, 0.6 * item.height, 0.14 + 0.4 * item.depth
    handles = 0.12 if small else 0.20
    arm = skeleton.arms["left" if item.side > 0 else "right"]
    base = arm.end + arm.tip * 0.075 * person.build.height - UP * (handles + tall)
    edge = tall / (handles + tall)
    wide = profile(t, [(0, 0), (0.03, 0.85), (0.1, 1), (edge - 0.03, 0.95), (edge, 0.55), (0.97, 0.18), (1, 0)])
    deep = profile(t, [(0, 0), (0.03, 0.8), (0.1, 1), (edge - 0.03, 0.6), (edge, 0.25), (0.97, 0.12), (1, 0)])
    wide, deep = wide * width, deep * depth * 0.5
    centers = base[..., None] + t * (handles + tall) * UP[..., None]
    return sweep(centers, -skeleton.chest_front, skeleton.chest_left, ring_offsets(wide, deep, deep, columns, SQUARE))


def trolley(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a suitcase that rolls behind the hand; its handle is the narrow upper part of the tube."""
    rows, columns = folds.shape
    case, t = person.bag, np.linspace(0, 1, rows)
    arm = skeleton.arms["left" if case.side > 0 else "right"]
    grip = arm.end + arm.tip * 0.06 * person.build.height
    foot = grip - (0.28 + 0.1 * case.drop) * skeleton.front + case.side * 0.05 * LEFT
    foot = np.stack([foot[0], np.full(foot.shape[1], 0.03), foot[2]])
    edge = 0.52 + 0.16 * case.drop
    wide = profile(t, [(0, 0), (0.02, 0.9), (0.1, 1), (edge - 0.03, 1), (edge, 0.12), (0.97, 0.12), (1, 0)])
    deep = profile(t, [(0, 0), (0.02, 0.9), (0.1, 1), (edge - 0.03, 0.9), (edge, 0.08), (0.97, 0.08), (1, 0)])
    wide, deep = wide * 0.5 * case.width, deep * (0.06 + 0.25 * case.depth)
    offsets = ring_offsets(wide, deep, deep, columns, SQUARE)
    centers = foot[..., None] + t * (grip - foot)[..., None]
    return sweep(centers, LEFT, skeleton.front, offsets)


def sheet(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a sheet of paper, a folder or a telephone in the hand."""
    rows, columns = folds.shape
    item, t = person.bag, np.linspace(0, 1, rows)
    arm = skeleton.arms["left" if item.side > 0 else "right"]
    width, tall = 0.05 + 0.2 * item.drop, 0.10 + 0.22 * item.drop
    middle = arm.end + arm.tip * 0.09 * person.build.height
    wide = profile(t, [(0, 0), (0.02, 1), (0.98, 1), (1, 0)]) * 0.5 * width
    thin = np.full(rows, 0.006)
    centers = middle[..., None] + ((t - 0.3) * tall)[None, None] * UP[..., None]
    return sweep(centers, skeleton.chest_left, skeleton.chest_front, ring_offsets(wide, thin, thin, columns, SQUARE))
