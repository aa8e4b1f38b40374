"""Head, hair and hats as tubes around the skull.

Shapes: F frames, R rings, C points around a ring; every part is (3, F, R, C) float32 in the person's frame. Lengths
are multiples of the skull's radius.
"""

from __future__ import annotations

import math

import numpy as np

from regard.crowd.body.geometry import profile, ring, ring_offsets
from regard.crowd.body.skeleton import Skeleton
from regard.crowd.body.trunk import sweep
from regard.crowd.identity_types import Identity
from regard.crowd.rng import cos, tabulate

__all__ = ["DRAPED", "brim", "drape", "hair", "hat", "head"]

FULLNESS = {"short": 1.07, "medium": 1.14, "bob": 1.17, "long": 1.13, "ponytail": 1.06, "bun": 1.06, "curly": 1.4}
DRAPED = {"long": 2.9, "ponytail": 2.3, "bun": 0.75, "medium": 1.5, "bob": 1.35, "curly": 1.45}
"""Length of hair that hangs or is tied behind the head."""
DRAPE_WIDTHS = {
    "long": [(0, 0.1), (0.15, 0.62), (0.5, 0.66), (0.85, 0.60), (1, 0.1)],
    "ponytail": [(0, 0.12), (0.15, 0.26), (0.5, 0.26), (1, 0.05)],
    "bun": [(0, 0.02), (0.25, 0.38), (0.6, 0.42), (0.9, 0.25), (1, 0.02)],
    "medium": [(0, 0.2), (0.4, 0.60), (0.9, 0.55), (1, 0.2)],
    "bob": [(0, 0.3), (0.4, 0.68), (0.9, 0.66), (1, 0.3)],
    "curly": [(0, 0.4), (0.4, 0.84), (0.8, 0.86), (1, 0.4)],
}
DRAPE_FLATNESS = {"long": 0.45, "ponytail": 0.9, "bun": 1.0, "medium": 0.5, "bob": 0.62, "curly": 0.8}
AROUND = {"hood": 1.24, "headscarf": 1.16}
"""Headwear that goes around the whole head, and how far it stands off, as a factor."""
DRAPE_ROOTS = {"ponytail": (0.86, 0.35), "bun": (0.80, 0.62)}
"""Place at which the hair is tied, behind and above the middle of the skull."""


def place(skeleton: Skeleton, up: np.ndarray | float, back: np.ndarray | float = 0.0) -> np.ndarray:
    """Return points above and behind the middle of the skull; (3, F, R)."""
    radius = skeleton.head_radius
    up, back = np.atleast_1d(up) * radius, np.atleast_1d(back) * radius
    return skeleton.head[..., None] + up * skeleton.head_up[..., None] - back * skeleton.head_front[..., None]


def around(skeleton: Skeleton, centers: np.ndarray, offsets: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return a tube with the skull's axes; offsets in multiples of its radius."""
    across, ahead = (offset * skeleton.head_radius for offset in offsets)
    return sweep(centers, skeleton.head_left, skeleton.head_front, (across, ahead))


def skull(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return height, half axes to the side, front and back, and girth as on a sphere of each ring; each (R,)."""
    t = np.linspace(0, 1, rows)
    round_ = tabulate(lambda a: np.maximum(np.sin(a), 0) ** 0.8, math.pi * t)
    side = round_ * profile(t, [(0, 0.56), (0.25, 0.60), (0.5, 0.66), (0.7, 0.68), (1, 0.66)])
    front = round_ * profile(t, [(0, 0.78), (0.25, 0.80), (0.5, 0.80), (0.75, 0.78), (1, 0.74)])
    back = round_ * profile(t, [(0, 0.40), (0.25, 0.55), (0.5, 0.86), (0.7, 0.92), (1, 0.80)])
    return -cos(math.pi * t), side, front, back, round_


def head(_person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return the head from the chin to the crown."""
    rows, columns = folds.shape
    up, side, front, back, _ = skull(rows)
    return around(skeleton, place(skeleton, up), ring_offsets(side, front, back, columns))


def hair(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return the hair on the head: a shell around the skull, cut by its texture."""
    rows, columns = folds.shape
    style = person.head.hair
    full = FULLNESS.get(style, 1.08)
    if person.head.hat != "none":
        full = min(full, 1.05)
    up, side, front, back, round_ = skull(rows)
    ahead = 1.0 + (full - 1) * 0.55
    if style in ("bob", "long", "medium", "curly"):  # keeps its width towards the neck
        wide = profile(np.linspace(0, 1, rows), [(0, 0.66), (0.3, 0.70), (0.5, 0.70), (0.7, 0.68), (1, 0.6)])
        body = np.clip(round_ * 1.6, 0, 1)
        side, back, ahead = np.maximum(side, wide * body), np.maximum(back, 0.80 * body), 0.93
    offsets = ring_offsets(side * full, front * ahead, back * full, columns)
    return around(skeleton, place(skeleton, up + 0.05, 0.04), offsets)


def drape(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return hair that hangs down the neck, or is tied to a tail or a bun."""
    rows, columns = folds.shape
    style = person.head.hair
    t = np.linspace(0, 1, rows)
    behind, above = DRAPE_ROOTS.get(style, (0.55, 0.25))
    down = t * DRAPED[style]
    slant = 0.16 if style in ("ponytail", "long") else 0.0
    away = behind + slant * down
    if style == "long":
        away = away + 0.18 * np.clip(t - 0.35, 0, 1)
    wide = profile(t, DRAPE_WIDTHS[style])
    thick = wide * DRAPE_FLATNESS[style]
    return around(skeleton, place(skeleton, above - 0.96 * down, away), ring_offsets(wide, thick, thick, columns))


def hat(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return the crown of a cap, a beanie or a sun hat, or what goes around the whole head."""
    rows, columns = folds.shape
    kind = person.head.hat
    if kind in AROUND:
        up, side, front, back, round_ = skull(rows)
        full, close = AROUND[kind], np.clip(round_ * 1.3, 0, 1)
        low = np.linspace(1, 0, rows)
        side, back = np.maximum(side, (0.56 + 0.2 * low) * close), np.maximum(back, (0.72 + 0.1 * low) * close)
        offsets = ring_offsets(side * full, front * (0.4 + 0.6 * full), back * full, columns)
        return around(skeleton, place(skeleton, up * 1.1 - 0.04, 0.04), offsets)
    t = np.linspace(0, 1, rows)
    tall = {"cap": 0.80, "beanie": 0.98, "sunhat": 0.78}[kind]
    dome = tabulate(lambda v: np.maximum(1 - v * v, 0) ** (0.32 if kind == "sunhat" else 0.5), t)
    base = 0.18 if kind == "beanie" else 0.30
    offsets = ring_offsets(dome * 0.75, dome * 0.84, dome * 0.97, columns)
    return around(skeleton, place(skeleton, base + t * tall), offsets)


def brim(person: Identity, skeleton: Skeleton, folds: np.ndarray) -> np.ndarray:
    """Return the peak of a cap or the brim of a sun hat."""
    rows, columns = folds.shape
    cap = person.head.hat == "cap"
    x, z = ring(columns)
    t = np.linspace(0, 1, rows)
    reach = 0.62 * t[:, None] * (tabulate(lambda v: np.clip(v, 0, 1) ** 0.6, z) if cap else np.ones(columns))
    across = 0.75 * x + reach * x * (0.35 if cap else 1.0)
    ahead = np.where(z > 0, 0.84, 0.97) * z + reach * z
    return around(skeleton, place(skeleton, 0.36 - t * (0.14 if cap else 0.22)), (across, ahead))
