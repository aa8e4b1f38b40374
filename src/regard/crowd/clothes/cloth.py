"""Painting clothes: every body part's texture, in physical units."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from regard.crowd.clothes.canvas import WOVEN, Canvas, bump, pattern_weight, stamp
from regard.crowd.clothes.skin import paint_brim, paint_drape, paint_hair, paint_hand, paint_hat, paint_head, paint_neck
from regard.crowd.color import linear
from regard.crowd.identity_types import Identity
from regard.crowd.rng import Rng, sin

__all__ = ["paint_part"]

PAD = 1.57
"""A quarter turn: the person's side."""


def paint_part(person: Identity, name: str, rows: int, columns: int) -> Canvas:
    """Paint the texture of a body part with the given number of texels along and around it."""
    canvas = Canvas(Rng("paint", person.texture, name), rows, columns, -1 if name.startswith("right_") else 1)
    PARTS[name.removeprefix("left_").removeprefix("right_")](canvas, person)
    np.clip(canvas.color, 0.004, 0.9, out=canvas.color)
    return canvas


def paint_torso(canvas: Canvas, person: Identity) -> None:
    """Paint chest and belly: garment, pattern, prints, fastening, neckline and straps."""
    canvas.fill(linear(person.top.color), "upper")
    heights = person.hem + canvas.v * (0.866 - person.hem)
    radius = 0.155 * person.build.width
    paint_pattern(canvas, person, canvas.angle * radius, heights)
    paint_prints(canvas, person, radius, heights)
    paint_front(canvas, person, radius, heights)
    paint_details(canvas, person, radius, heights)
    paint_neckline(canvas, person, heights)
    paint_straps(canvas, person, radius, heights)
    canvas.weave()
    below_arm = np.clip((heights - 0.56) / 0.12, 0, 1) * np.clip((0.80 - heights) / 0.03, 0, 1)
    canvas.shade(1 - 0.28 * bump(canvas.away, 1.6, 0.5) * below_arm)


def paint_pattern(canvas: Canvas, person: Identity, x: np.ndarray, heights: np.ndarray) -> None:
    """Paint the second color of the upper garment, ``x`` meters around it at shares of the person's height."""
    pattern, second = person.top.pattern, linear(person.top.second)
    side = np.abs(canvas.away - PAD)
    if pattern.kind in WOVEN:
        canvas.blend(pattern_weight(pattern, x, heights * person.build.height), second)
    elif pattern.kind == "block":
        canvas.put(heights > pattern.split if pattern.key % 2 else heights < pattern.split, second)
    elif pattern.kind == "chestband":
        canvas.put(np.abs(heights - pattern.split) < 0.022 + 0.03 * pattern.duty, second)
    elif pattern.kind == "sides":
        canvas.put(side < 0.45, second)
    elif pattern.kind == "gradient":
        canvas.blend(np.clip((heights - 0.5) / 0.34, 0, 1), second)
    elif pattern.kind == "quilt":
        canvas.shade(seams(heights * (person.build.height / pattern.period)))
    elif pattern.kind == "raglan":
        canvas.put((heights > 0.80) & (side < (heights - 0.72) * 9), second)


def seams(place: np.ndarray) -> np.ndarray:
    """Return the shading of a quilted garment, dark at every whole number and bright between."""
    away = np.abs(2 * (place - np.floor(place)) - 1)
    return 1.12 - 0.5 * (away * away * away)


def paint_prints(canvas: Canvas, person: Identity, radius: float, heights: np.ndarray) -> None:
    """Paint the prints on the chest and on the back."""
    picture, height = person.top.print, person.build.height
    x, y = canvas.angle * radius, heights * height
    front, back = canvas.away < 1.5, canvas.away > 1.6
    if picture.kind == "small":
        first, _ = stamp("shape", picture.shape, picture.key, (x - 0.065) / 0.07, (y - 0.745 * height) / 0.06)
        canvas.put_srgb(first & front, picture.color)
    elif picture.kind != "none":
        tall = picture.height * (0.6 if picture.kind == "text" else 1)
        place = x / picture.width, (y - picture.center * height) / tall
        first, second = stamp(picture.kind, picture.shape, picture.key, *place)
        canvas.put_srgb(first & front, picture.color)
        canvas.put_srgb(second & front, picture.second)
    if picture.back != "none":
        behind = (canvas.angle - np.sign(canvas.angle) * np.float32(math.pi)) * radius
        tall = 0.12 if picture.back == "text" else 0.22
        place = behind / 0.26, (y - 0.735 * height) / tall
        first, _ = stamp(picture.back, (picture.shape + 1) % 6, picture.key + 7, *place)
        canvas.put_srgb(first & back, picture.color)


def paint_front(canvas: Canvas, person: Identity, radius: float, heights: np.ndarray) -> None:
    """Paint the fastening of the garment: open, zipped, buttoned."""
    top = person.top
    color, inner = linear(top.color), linear(top.inner)
    x, front = canvas.away * radius, canvas.away < 1.5
    if top.kind in ("openjacket", "openshirt"):
        opening = top.opening * radius * (1.15 - 0.45 * canvas.v)
        canvas.put((x < opening) & front, inner)
        canvas.put((x >= opening) & (x < opening + 0.012) & front, color * np.float32(0.55))
    elif top.kind in ("jacket", "coat") or (top.kind == "hoodie" and top.zip):
        light = sum(top.color) > 200
        canvas.put((x < 0.007) & front, color * np.float32(0.35) if light else (0.18, 0.18, 0.18))
    elif top.kind == "polo":
        canvas.put((x < 0.010) & (heights > 0.775) & front, color * np.float32(0.6))
    if top.kind == "coat":
        canvas.put((heights > 0.80) & (x < (heights - 0.735) * 0.55) & front, inner)


def paint_details(canvas: Canvas, person: Identity, radius: float, heights: np.ndarray) -> None:
    """Paint pocket, hem and belt."""
    top = person.top
    if top.kind == "hoodie":
        pocket = (heights < 0.60) & (heights > 0.535) & (canvas.away * radius < 0.135)
        canvas.shade(0.82, pocket)
    if top.kind in ("jacket", "hoodie"):
        canvas.shade(0.72, canvas.v < 0.06)
    if top.kind == "coat" and top.belt:
        canvas.put((heights > 0.605) & (heights < 0.632), linear(top.color) * np.float32(0.5))
    if top.kind == "dress" and top.belt:
        canvas.put_srgb((heights > 0.612) & (heights < 0.632), top.second)


def paint_neckline(canvas: Canvas, person: Identity, heights: np.ndarray) -> None:
    """Paint bare skin at the neck, and at the shoulders of a vest."""
    kind = person.top.kind
    edges = {"tshirt": 0.838, "longsleeve": 0.842, "dress": 0.825, "vest": 0.818, "polo": 0.846, "hoodie": 0.855}
    dips = {"dress": 0.05, "vest": 0.05, "polo": 0.03, "tshirt": 0.012}
    edge = edges.get(kind, 0.856) - dips.get(kind, 0.0) * np.clip(1 - canvas.away / 0.9, 0, 1)
    canvas.put_srgb(heights > edge, person.head.skin, "face")
    if kind == "vest":
        canvas.put_srgb((heights > 0.765) & (np.abs(canvas.away - PAD) < 0.35), person.head.skin)


def paint_straps(canvas: Canvas, person: Identity, radius: float, heights: np.ndarray) -> None:
    """Paint the straps of a backpack or of a bag across the chest."""
    bag, height = person.bag, person.build.height
    x = canvas.angle * radius
    if bag.kind == "backpack":
        straps = (np.abs(np.abs(x) - 0.098) < 0.021) & (heights > 0.66) & (canvas.away < 2.0)
        canvas.put_srgb(straps, bag.strap, "bag")
        if bag.style == 0:
            buckle = (np.abs(heights - 0.745) < 0.008) & (np.abs(x) < 0.1) & (canvas.away < 1.5)
            canvas.put_srgb(buckle, bag.strap)
    elif bag.kind == "crossbody":
        behind = np.sign(canvas.angle) * np.float32(math.pi) - canvas.angle
        across = np.where(canvas.away < math.pi / 2, x, behind * radius)
        start, end = (bag.side * 0.085, 0.84 * height), (-bag.side * 0.19, 0.53 * height)
        run, fall = end[0] - start[0], end[1] - start[1]
        distance = (across - start[0]) * fall - (heights * height - start[1]) * run
        canvas.put_srgb(np.abs(distance) < 0.017 * math.sqrt(run * run + fall * fall), bag.strap, "bag")
    elif bag.kind == "shoulder":
        strap = (
            (np.abs(x - bag.side * (0.11 + 0.25 * (0.84 - heights))) < 0.018) & (heights > 0.6) & (canvas.away < 1.5)
        )
        canvas.put_srgb(strap, bag.strap, "bag")


def paint_pelvis(canvas: Canvas, person: Identity) -> None:
    """Paint the hips."""
    dress = person.top.kind == "dress"
    heights = 0.445 + canvas.v * 0.155
    canvas.fill(linear(person.top.color if dress else person.bottom.color), "upper" if dress else "lower")
    if person.top.belt and not dress:
        canvas.put(np.abs(heights - 0.588) < 0.010, (0.03, 0.022, 0.018))
    canvas.weave()
    canvas.shade(0.72 + 0.28 * np.clip((heights - 0.45) / 0.03, 0, 1))


def paint_leg(canvas: Canvas, person: Identity) -> None:
    """Paint a leg: skin, garment, sock and the shaft of a boot."""
    bottom, shoes, v = person.bottom, person.shoes, canvas.v
    cloth = v <= bottom.covered
    canvas.fill(linear(bottom.color), "lower")
    paint_trousers(canvas, person)
    canvas.put_srgb(~cloth, person.head.skin, "leg")
    short = bottom.kind in ("shorts", "skirt", "none")
    sock = 0.98 - shoes.sock_length * (1 if short else 0.4)
    canvas.put_srgb((v > sock) & ~cloth, shoes.sock)
    if shoes.kind == "boot":
        bare = bottom.kind in ("skirt", "none", "leggings", "longskirt")
        shaft = (v > (0.80 if bare else 0.9)) & (~cloth | (bottom.kind == "leggings"))
        canvas.put_srgb(shaft, shoes.color, "shoe")
    canvas.weave()
    inside = np.clip(1 - np.abs(canvas.angle + canvas.side * PAD) / 0.9, 0, 1)
    canvas.shade(1 - 0.42 * inside * np.clip(1 - v / 0.75, 0, 1))


def paint_trousers(canvas: Canvas, person: Identity) -> None:
    """Paint what is special about the garment of a leg: fading, stripes, turn-ups."""
    bottom, v = person.bottom, canvas.v
    outside = np.abs(canvas.angle - canvas.side * PAD)
    second = linear(bottom.second)
    if bottom.kind == "jeans":
        worn = bump(v, 0.28, 0.2) + 0.5 * bump(v, 0.62, 0.12)
        worn = bottom.fade * np.clip(1 - canvas.away / 1.2, 0, 1) * worn
        canvas.blend(worn, np.minimum(linear(bottom.color) * np.float32(2.2) + np.float32(0.06), 0.7))
        if bottom.rip:
            canvas.blend(0.8 * ((np.abs(v - 0.49) < 0.025) & (canvas.away < 0.8)), linear(person.head.skin))
    elif bottom.kind == "track" and bottom.stripe:
        canvas.put(outside < 0.28, second)
    elif bottom.kind == "shorts" and bottom.rip:
        canvas.put((v * 9 - np.floor(v * 9) < 0.45) & (canvas.away >= 0), second)
    elif bottom.kind == "leggings" and bottom.rip:
        canvas.put(outside < 0.5, second)
    if bottom.cuff and bottom.kind in ("jeans", "trousers"):
        turned = np.minimum(linear(bottom.color) * np.float32(1.9) + np.float32(0.05), 0.75)
        canvas.put(v > bottom.covered - 0.055, turned)


def paint_skirt(canvas: Canvas, person: Identity) -> None:
    """Paint a skirt, sometimes in the pattern of the upper garment."""
    bottom = person.bottom
    canvas.fill(linear(bottom.color), "lower")
    patterned = person.top.pattern.kind in ("plaid", "dots", "hstripes") and person.top.kind != "openshirt"
    if bottom.stripe and patterned:
        weight = pattern_weight(person.top.pattern, canvas.angle * 0.17, -canvas.v * 0.5)
        canvas.blend(weight, linear(bottom.second))
    canvas.weave()
    pleat(canvas)


def paint_tail(canvas: Canvas, person: Identity) -> None:
    """Paint the lower part of a dress, a coat or a long jacket, open in front where it is worn open."""
    top, v = person.top, canvas.v
    canvas.fill(linear(top.color), "upper")
    heights = 0.5 - v * 0.2
    paint_pattern(canvas, person, canvas.angle * 0.155 * person.build.width, heights)
    if top.kind in ("openjacket", "openshirt"):
        canvas.alive &= canvas.away > top.opening * 1.25 + 0.25 * v
    elif top.kind == "coat":
        canvas.alive &= (canvas.away > 0.02 + 0.30 * np.clip(v - 0.35, 0, 1)) | (v < 0.3)
    canvas.weave()
    pleat(canvas)


def pleat(canvas: Canvas) -> None:
    """Return shadows between the folds of hanging cloth, deeper towards the hem."""
    columns = canvas.shape[1]
    wave = 0.5 + 0.5 * sin(np.arange(columns) * (2 * math.pi / columns) * 9 + 0.7)
    canvas.shade(1 - 0.30 * wave.astype(np.float32) * canvas.v)


def paint_arm(canvas: Canvas, person: Identity) -> None:
    """Paint an arm: sleeve, skin and wrist watch."""
    top, v = person.top, canvas.v
    pattern, second = top.pattern, linear(top.second)
    canvas.fill(linear(top.color), "upper")
    if pattern.kind in ("raglan", "block") and pattern.key % 3 != 0:
        canvas.fill(second, "upper")
    elif pattern.kind in WOVEN:
        canvas.blend(pattern_weight(pattern, canvas.angle * 0.05, 0.8 - v * 0.56), second)
    elif pattern.kind == "sides":
        canvas.put(np.abs(canvas.angle - canvas.side * PAD) < 0.5, second)
    elif pattern.kind == "quilt":
        canvas.shade(seams(v * (0.56 / pattern.period)))
    if top.kind in ("hoodie", "jacket"):
        canvas.shade(0.7, v > top.sleeve - 0.05)
    if top.sleeve < 0.5:
        canvas.shade(0.8, v > top.sleeve - 0.03)
    if person.bag.kind == "backpack":
        canvas.put_srgb(v < 0.05, person.bag.strap)
    canvas.put_srgb(v > top.sleeve, person.head.skin, "arm")
    if person.head.glasses and canvas.side > 0:  # those who wear glasses wear a watch
        canvas.put((np.abs(v - 0.955) < 0.02) & (v > top.sleeve), (0.02, 0.02, 0.02))
    canvas.weave()
    inside = np.clip(1 - np.abs(canvas.angle + canvas.side * PAD), 0, 1)
    canvas.shade(1 - 0.35 * inside * np.clip(1.1 - v, 0, 1))


def paint_shoe(canvas: Canvas, person: Identity) -> None:
    """Paint a shoe and its sole."""
    shoes, v, away = person.shoes, canvas.v, canvas.away
    canvas.fill(linear(shoes.color), "shoe")
    bottom = away > 1.72
    if shoes.kind == "sneaker":
        canvas.put_srgb(bottom, shoes.sole)
        if person.top.pattern.key % 2:
            canvas.put_srgb((np.abs(v - 0.42) < 0.07) & (np.abs(away - 1.1) < 0.45), person.top.print.color)
        canvas.blend(0.7 * ((v > 0.45) & (v < 0.7) & (away < 0.35)), linear(shoes.sole))
    elif shoes.kind == "boot":
        canvas.put(bottom, (0.03, 0.03, 0.03))
    elif shoes.kind == "sandal":
        canvas.put_srgb((((v > 0.18) & (v < 0.5)) | (v > 0.78)) & ~bottom, person.head.skin)
    else:
        canvas.shade(0.8, bottom)
    canvas.weave()


def paint_bag(canvas: Canvas, person: Identity) -> None:
    """Paint a bag with its pockets and bands."""
    bag, v = person.bag, canvas.v
    color, second = linear(bag.color), linear(bag.second)
    canvas.fill(color, "bag")
    outer = math.pi - canvas.away  # from the middle of the side that shows
    if bag.kind == "backpack":
        if bag.style in (0, 1):
            pocket = (v < 0.5) & (v > 0.08) & (outer < 0.85)
            canvas.put(pocket, second if bag.style == 0 else color * np.float32(0.7))
        elif bag.style == 2:
            canvas.put(np.abs(v - 0.52) < 0.018, second)
            canvas.put(v > 0.86, color * np.float32(0.6))
        else:
            canvas.put((np.abs(v - 0.62) < 0.07) & (outer < 0.35), second)
        canvas.put(np.abs(outer - 0.95) < 0.05, color * np.float32(0.5))
    elif bag.style in (0, 1):
        canvas.put(np.abs(v - 0.45) < 0.04, second)
    elif bag.style == 2 and bag.kind == "tote":
        first, _ = stamp("photo", 0, person.top.print.key + 11, canvas.away - PAD, (v - 0.3) / 0.3)
        canvas.put(first, second)
    canvas.weave(0.08)


def paint_collar(canvas: Canvas, person: Identity) -> None:
    """Paint a collar, a scarf or a hood."""
    top = person.top
    canvas.fill(linear(top.scarf_color) if top.scarf else linear(top.color) * np.float32(0.9), "upper")
    if not top.scarf and not top.hood:
        canvas.alive &= canvas.away > 0.35
    canvas.weave(0.12)
    canvas.shade(0.8 + 0.2 * np.sign(0.5 - canvas.v))


PAINTERS = (
    *(paint_torso, paint_pelvis, paint_skirt, paint_tail, paint_neck, paint_head, paint_hair, paint_drape, paint_hat),
    *(paint_brim, paint_bag, paint_collar, paint_leg, paint_shoe, paint_arm, paint_hand),
)
PARTS: dict[str, Callable[[Canvas, Identity], None]] = {
    paint.__name__.removeprefix("paint_"): paint for paint in PAINTERS
}
