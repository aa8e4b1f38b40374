"""Painting skin, faces, hair and hats."""

from __future__ import annotations

import numpy as np

from regard.crowd.clothes.canvas import LABELS, Canvas, stamp
from regard.crowd.color import linear
from regard.crowd.identity_types import Head, Identity
from regard.crowd.rng import value_noise

__all__ = ["paint_brim", "paint_drape", "paint_hair", "paint_hand", "paint_hat", "paint_head", "paint_neck"]

TURNS = (0, 0.75, 1.1, 1.45, 1.75, 2.2, 3.2)
"""Angles from the front at which hairlines are given, radians."""
HAIRLINES = {
    "short": (0.80, 0.78, 0.66, 0.56, 0.50, 0.34, 0.28),
    "medium": (0.76, 0.72, 0.55, 0.40, 0.34, 0.26, 0.20),
    "bob": (0.78, 0.70, 0.44, 0.14, 0.08, 0.06, 0.06),
    "long": (0.80, 0.72, 0.46, 0.16, 0.10, 0.06, 0.04),
    "ponytail": (0.82, 0.78, 0.66, 0.56, 0.46, 0.32, 0.26),
    "bun": (0.82, 0.78, 0.66, 0.56, 0.46, 0.32, 0.26),
    "curly": (0.74, 0.66, 0.34, 0.12, 0.10, 0.08, 0.08),
}
"""Lower edge of the hair at those angles, from chin (0) to crown (1)."""
OPENINGS = {"hood": (0.90, 0.84, 0.10, 0.0, 0.0, 0.0, 0.0), "headscarf": (0.84, 0.74, 0.0, 0.0, 0.0, 0.0, 0.0)}
"""Lower edge of what goes around the head at those angles; above the face it begins where the hair would."""
ROOTS = (0.82, 0.80, 0.68, 0.58, 0.52, 0.36, 0.30)
"""Lower edge of the region in which hair grows, at the same angles."""


def paint_hand(canvas: Canvas, person: Identity) -> None:
    """Paint a hand."""
    canvas.fill(linear(person.head.skin) * np.float32(0.93), "arm")


def paint_neck(canvas: Canvas, person: Identity) -> None:
    """Paint the neck, in the shadow of the chin."""
    canvas.fill(linear(person.head.skin) * np.float32(0.86), "face")


def paint_head(canvas: Canvas, person: Identity) -> None:
    """Paint a face and the skin under the hair."""
    head, v, away = person.head, canvas.v, canvas.away
    skin, hair = linear(head.skin), linear(head.hair_color)
    canvas.fill(skin, "face")
    canvas.shade(1 - 0.30 * spot(canvas, 0.545, 0.42, 0.07, 0.28))  # eye sockets
    canvas.blend(np.clip(spot(canvas, 0.545, 0.42, 0.032, 0.17) * 1.3, 0, 0.8), (0.03, 0.024, 0.02))  # eyes
    canvas.blend(np.clip(spot(canvas, 0.61, 0.42, 0.028, 0.27) * 1.2, 0, 1), hair)  # brows
    canvas.blend(np.clip(spot(canvas, 0.27, 0.0, 0.028, 0.33) * 1.2, 0, 1), (0.288, 0.08, 0.072))  # mouth
    canvas.shade(1 - 0.25 * spot(canvas, 0.385, 0.0, 0.03, 0.16))  # below the nose
    canvas.shade(1 + 0.12 * spot(canvas, 0.46, 0.0, 0.12, 0.09))  # its bridge
    paint_face(canvas, head, hair)
    canvas.blend(0.6 * ((np.abs(v - 0.5) < 0.11) & (np.abs(away - 1.62) < 0.13)), skin * np.float32(0.75))  # ears
    if head.hair != "bald":
        grown = v > np.interp(away, TURNS, ROOTS)
        canvas.blend(grown * (0.8 if head.hair == "buzz" else 1.0), hair)
        canvas.labels[grown] = LABELS["hair"]
    rows, columns = canvas.shape
    canvas.shade(1 + 0.03 * (canvas.rng.array(rows, columns) - 0.5))


def paint_face(canvas: Canvas, head: Head, hair: np.ndarray) -> None:
    """Paint beard, glasses and mask."""
    v, away = canvas.v, canvas.away
    if head.beard:
        mouth = (np.abs(v - 0.27) < 0.03) & (away < 0.3)
        canvas.blend(0.75 * ((v < 0.34) & (away < 1.5) & ~mouth), hair)
    if head.glasses:
        rim = np.abs(np.sqrt(((v - 0.545) / 0.085) ** 2 + ((away - 0.42) / 0.30) ** 2) - 1) < 0.25
        temple = (np.abs(v - 0.56) < 0.015) & (away > 0.7) & (away < 1.5)
        canvas.blend(0.9 * (rim | temple), (0.015, 0.015, 0.015))
    if head.face_mask is not None:
        canvas.put_srgb((v < 0.46) & (v > 0.06) & (away < 1.0 + 0.2 * v), head.face_mask)


def spot(canvas: Canvas, v: float, away: float, tall: float, wide: float) -> np.ndarray:
    """Return a soft ellipse on both sides of the face."""
    return np.clip(1 - ((canvas.v - v) / tall) ** 2 - ((canvas.away - away) / wide) ** 2, 0, 1)


def paint_hair(canvas: Canvas, person: Identity) -> None:
    """Paint the hair on the head, cut along its hairline."""
    paint_drape(canvas, person)
    canvas.alive &= canvas.v > np.interp(canvas.away, TURNS, HAIRLINES[person.head.hair])


def paint_drape(canvas: Canvas, person: Identity) -> None:
    """Paint hair that hangs."""
    canvas.fill(linear(person.head.hair_color), "hair")
    canvas.shade(1 + 0.35 * value_noise(canvas.rng, canvas.shape, (2, max(4, canvas.shape[1] // 5)), 3))


def paint_hat(canvas: Canvas, person: Identity) -> None:
    """Paint the crown of a hat with its band or badge."""
    head, v = person.head, canvas.v
    color = linear(head.hat_color)
    canvas.fill(color, "hair")
    if head.hat in OPENINGS:
        canvas.alive &= v > np.interp(canvas.away, TURNS, OPENINGS[head.hat])
        canvas.shade(1 - 0.25 * (canvas.away < 1.2))
        canvas.weave(0.10)
        return
    if head.hat == "beanie":
        canvas.put(v < 0.25, color * np.float32(0.72))
    elif head.hat == "sunhat":
        canvas.put_srgb(v < 0.28, person.top.inner)
    else:
        picture = person.top.print
        badge, _ = stamp("shape", picture.shape, picture.key + 3, canvas.angle / 0.6, (v - 0.35) / 0.35)
        canvas.put_srgb(badge & (canvas.away < 1), picture.color)
    canvas.weave(0.08)


def paint_brim(canvas: Canvas, person: Identity) -> None:
    """Paint the peak of a cap, which is in front only, or the brim of a sun hat."""
    canvas.fill(linear(person.head.hat_color) * np.float32(0.85), "hair")
    if person.head.hat == "cap":
        canvas.alive &= canvas.away < 1.25
    canvas.weave(0.08)
