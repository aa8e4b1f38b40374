"""Bags as tubes: on the back, at the hip, or in the hand."""

from __future__ import annotations

import numpy as np

from regard.crowd.body.geometry import axis, profile, ring_offsets
from regard.crowd.body.skeleton import HIP, Skeleton
from regard.crowd.body.trunk import back_of, sweep, waist_of
from regard.crowd.identity_types import Identity

__all__ = ["bag"]

SQUARE = 4.0


def bag(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return whatever the person carries; (3, F, R, C)."""
    shapes = {"backpack": backpack, "crossbody": crossbody}
    return shapes.get(person.bag.kind, carried)(person, skeleton, folds)


def backpack(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a backpack that hangs from the shoulders."""
    rows, columns = folds.shape
    pack, height, t = person.bag, person.build.height, np.linspace(0, 1, rows)
    top = skeleton.hip + (0.835 - HIP) * height * skeleton.up
    base = top - skeleton.up * pack.height - skeleton.chest_front * (back_of(person) + pack.depth * 0.48)
    wide = profile(t, [(0, 0), (0.02, 0.75), (0.08, 0.95), (0.3, 1), (0.75, 0.97), (0.92, 0.8), (0.99, 0.5), (1, 0)])
    deep = profile(t, [(0, 0), (0.02, 0.7), (0.1, 1), (0.45, 1.05), (0.55, 0.9), (0.9, 0.75), (0.99, 0.4), (1, 0)])
    wide, deep = wide * pack.width * 0.5, deep * pack.depth * 0.52
    centers = base[..., None] + t * pack.height * skeleton.up[..., None]
    left, front = skeleton.chest_left[..., None], skeleton.chest_front[..., None]
    return sweep(centers, left, front, ring_offsets(wide, deep, deep, columns, SQUARE))


def crossbody(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a bag at the hip, its strap across the chest."""
    rows, columns = folds.shape
    purse, t = person.bag, np.linspace(0, 1, rows)
    width, tall, depth = 0.12 + 0.04 * purse.width, 0.19 + 0.05 * purse.drop, 0.07
    outward = -purse.side * (waist_of(person) + depth * 0.35)
    base = skeleton.hip + (0.50 - HIP) * person.build.height * skeleton.up
    base = base + outward * skeleton.chest_left + 0.02 * skeleton.chest_front
    wide = profile(t, [(0, 0), (0.03, 0.8), (0.2, 1), (0.8, 1), (0.97, 0.85), (1, 0)]) * width
    deep = profile(t, [(0, 0), (0.03, 0.8), (0.3, 1), (0.8, 0.8), (0.97, 0.5), (1, 0)]) * depth * 0.5
    centers = base[..., None] + t * tall * skeleton.up[..., None]
    left, front = -skeleton.chest_front[..., None], skeleton.chest_left[..., None]
    return sweep(centers, left, front, ring_offsets(wide, deep, deep, columns, SQUARE))


def carried(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return a handbag or a tote in the hand; its handles are the narrow upper end of the tube."""
    rows, columns = folds.shape
    item, t = person.bag, np.linspace(0, 1, rows)
    small = item.kind == "handbag"
    width, tall, depth = (0.13 + 0.05 * item.width, 0.20, 0.10) if small else (0.15 + 0.06 * item.width, 0.34, 0.09)
    handles = 0.12 if small else 0.20
    arm = skeleton.arms["left" if item.side > 0 else "right"]
    up = axis(0, 1, 0)
    base = arm.wrist + arm.forearm * 0.075 * person.build.height - up * (handles + tall)
    edge = tall / (handles + tall)
    wide = profile(t, [(0, 0), (0.03, 0.85), (0.1, 1), (edge - 0.03, 0.95), (edge, 0.55), (0.97, 0.18), (1, 0)])
    deep = profile(t, [(0, 0), (0.03, 0.8), (0.1, 1), (edge - 0.03, 0.6), (edge, 0.25), (0.97, 0.12), (1, 0)])
    wide, deep = wide * width, deep * depth * 0.5
    centers = base[..., None] + t * (handles + tall) * up[..., None]
    left, front = -skeleton.chest_front[..., None], skeleton.chest_left[..., None]
    return sweep(centers, left, front, ring_offsets(wide, deep, deep, columns, SQUARE))
