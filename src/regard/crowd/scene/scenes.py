"""Kinds of places, and the things that stand about in them: flat pictures with a base, in meters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.crowd.identity_types import Bottom, Top
from regard.crowd.rng import Rng
from regard.crowd.scene.board import Board
from regard.crowd.scene.furniture import PAINTERS as FURNITURE

__all__ = ["FURTHER", "PLACES", "SCENES", "THINGS", "Scene", "paint_dummy", "paint_thing"]


@dataclass(frozen=True, slots=True)
class Scene:
    """A kind of place.

    Attributes:
        path, beside: grounds people walk on, and next to it.
        walls: what may close the view.
        behind, before: things that stand behind people, and in front of them.
        indoor: whether it has artificial light.
        wall_height: lowest and highest, meters.
    """

    path: str
    beside: str
    walls: tuple[str, ...]
    behind: tuple[str, ...]
    before: tuple[str, ...]
    indoor: bool = False
    wall_height: tuple[float, float] = (5.5, 12.0)


def scene(path: str, beside: str, walls: str, behind: str, before: str, **rest: Any) -> Scene:
    """Return a kind of place from names, those of one kind with spaces between them."""
    return Scene(path, beside, tuple(walls.split()), tuple(behind.split()), tuple(before.split()), **rest)


INDOOR = {"indoor": True, "wall_height": (6.0, 6.0)}
PARK = {"wall_height": (2.5, 4.5)}
SCENES = {
    "plaza": scene("tiles", "concrete", "windows glass", "tree bench bin pole bike", "pole bollard bench"),
    "lawn": scene("concrete", "grass", "hedge windows", "tree bush bench tree pole", "bush bush pole", **PARK),
    "street": scene("asphalt", "tiles", "shops windows", "car car pole sign bollard", "bollard pole car"),
    "corridor": scene("polished", "polished", "corridor panels", "bin sign", "bin pole", **INDOOR),
    "market": scene("tiles", "asphalt", "shops brickwall", "tent tent bike bin pole", "bike pole bin"),
    "campus": scene("bricks", "grass", "brickwall windows", "bike bike tree rail bin", "rail bike bush"),
    "station": scene("polished", "concrete", "panels glass", "rail sign bench bollard", "rail bollard", **INDOOR),
    "alley": scene("asphalt", "concrete", "brickwall panels", "car bike bin pole", "bike bin pole"),
}
FURTHER = {
    "verge": scene("asphalt", "grass", "hedge windows", "car van tree cone board", "board cone barrier pole", **PARK),
    "crossing": scene("asphalt", "concrete", "shops windows", "car van pole kiosk sign", "bollard pole board cone"),
    "carpark": scene("asphalt", "concrete", "hedge panels", "car car van fence", "car barrier bollard cone"),
    "school": scene("concrete", "grass", "brickwall windows", "fence fence tree bench", "fence planter bench", **PARK),
    "mall": scene("polished", "tiles", "shops glass", "kiosk planter bench sign", "planter kiosk board bin", **INDOOR),
    "subway": scene("tiles", "polished", "panels corridor", "kiosk rail sign", "rail bin board", **INDOOR),
    "garden": scene("concrete", "grass", "hedge brickwall", "planter bush tree bench", "planter bush fence", **PARK),
    "works": scene("asphalt", "bricks", "panels brickwall", "van fence barrier cone", "barrier cone fence board"),
    "quay": scene("bricks", "concrete", "windows glass", "bike rail planter van", "rail bollard planter"),
    "office": scene("polished", "polished", "corridor glass", "planter kiosk bench", "planter board bin", **INDOOR),
}
"""Places that the knob ``scenery`` adds."""
PLACES = SCENES | FURTHER


def pole(rng: Rng, density: float) -> Board:
    """Paint a lamp post."""
    board, width = Board(rng, 0.5, 6.0, density), rng.uniform(0.08, 0.22)
    color = rng.choice(((120, 122, 124), (70, 72, 74), (170, 168, 160), (60, 80, 60)))
    board.put(np.abs(board.x) < width / 2, color, 1.15 - 1.2 * np.abs(board.x / width))
    return board


def tree(rng: Rng, density: float) -> Board:
    """Paint a tree."""
    board = Board(rng, 4.2, 7.0, density)
    x, y, leaves = board.x, board.y, board.noise(14, 9)
    trunk = np.abs(x + 0.08 * y * (rng.uniform() - 0.5)) < 0.16 + 0.03 * (2 - np.minimum(y, 2))
    board.put(trunk & (y < 4), (86, 70, 56))
    crown = (x / 1.9) ** 2 + ((y - 4.7) / 2.3) ** 2 + 0.55 * leaves < 0.85
    color = rng.choice(((60, 84, 40), (76, 96, 50), (50, 72, 40)))
    board.put(crown, color, np.clip(1 + 0.9 * leaves + 0.2 * (y - 4.7), 0.2, 2.2))
    return board


def bush(rng: Rng, density: float) -> Board:
    """Paint a bush."""
    height = rng.uniform(0.5, 1.1)
    board = Board(rng, 2.0, height * 1.3, density)
    leaves = board.noise(7, 12)
    shape = (board.x / 0.9) ** 2 + ((board.y - height * 0.35) / (height * 0.75)) ** 2 + 0.6 * leaves
    board.put(shape < 0.8, (60, 88, 44), np.clip(1 + 0.9 * leaves, 0.2, 2))
    return board


def car(rng: Rng, density: float) -> Board:
    """Paint a parked car, seen from the side."""
    length = rng.uniform(4.0, 4.7)
    colors = ((190, 190, 192), (28, 28, 30), (230, 230, 228), (150, 30, 34), (40, 60, 110), (110, 112, 116))
    color = rng.choice(colors)
    board = Board(rng, length + 0.1, 1.6, density)
    x, y = board.x, board.y
    board.put((y > 0.28) & (y < 0.88) & (np.abs(x) < length / 2 - 0.12 * np.clip((y - 0.6) / 0.3, 0, 1)), color)
    roof = length * 0.34 - 0.75 * (y - 0.88)
    board.put((y >= 0.88) & (y < 1.45) & (np.abs(x + 0.15) < roof), color)
    panes = (y > 0.93) & (y < 1.36) & (np.abs(x + 0.15) < roof - 0.12) & (np.abs(x + 0.1) > 0.05)
    board.put(panes, (40, 48, 56))
    for side in (-1, 1):
        radius = (x - side * length * 0.30) ** 2 + (y - 0.32) ** 2
        board.put(radius < 0.32**2, (22, 22, 24))
        board.put(radius < 0.17**2, (150, 150, 152))
    board.picture[:3] *= 0.55 + 0.5 * np.clip(y / 1.2, 0, 1)
    return board


def bike(rng: Rng, density: float) -> Board:
    """Paint a parked bicycle."""
    board = Board(rng, 1.8, 1.1, density)
    color = rng.choice(((30, 30, 32), (170, 40, 40), (40, 80, 150), (200, 200, 200), (220, 130, 30)))
    for hub in (-0.53, 0.53):
        radius = np.sqrt((board.x - hub) ** 2 + (board.y - 0.33) ** 2)
        board.put(np.abs(radius - 0.31) < 0.03, (26, 26, 28))
    frame = (
        *((-0.53, 0.33, -0.15, 0.33), (-0.15, 0.33, -0.22, 0.85), (-0.22, 0.75, 0.35, 0.78)),
        *((-0.15, 0.33, 0.35, 0.78), (0.53, 0.33, 0.35, 0.95), (-0.53, 0.33, -0.2, 0.75)),
    )
    for tube in frame:
        board.bar(tube, 0.025, color)
    board.bar((-0.32, 0.88, -0.12, 0.88), 0.04, (24, 24, 24))
    board.bar((0.28, 0.98, 0.42, 0.95), 0.03, (24, 24, 24))
    return board


def bollard(rng: Rng, density: float) -> Board:
    """Paint a bollard with a reflecting band."""
    board = Board(rng, 0.4, 0.95, density)
    post = np.abs(board.x) < 0.09
    board.put(post & (board.y < 0.92), rng.choice(((90, 90, 92), (200, 170, 40), (60, 60, 62))))
    board.put(post & (np.abs(board.y - 0.75) < 0.06), (220, 220, 216))
    return board


def sign(rng: Rng, density: float) -> Board:
    """Paint a sign on a post."""
    board = Board(rng, 1.0, 2.6, density)
    x, y = np.abs(board.x), board.y
    board.put(x < 0.04, (120, 120, 122))
    board.put(
        (x < 0.42) & (np.abs(y - 2.1) < 0.42),
        rng.choice(((40, 80, 160), (190, 40, 40), (240, 240, 240), (40, 120, 70))),
    )
    board.put((x < 0.28) & (np.abs(y - 2.15) < 0.12), (235, 235, 230))
    return board


def litter_bin(rng: Rng, density: float) -> Board:
    """Paint a litter bin."""
    board = Board(rng, 0.7, 1.05, density)
    color = rng.choice(((50, 80, 60), (70, 72, 76), (40, 70, 120)))
    board.put((np.abs(board.x) < 0.27 + 0.05 * board.y) & (board.y < 0.98), color)
    board.put((np.abs(board.x) < 0.33) & (np.abs(board.y - 0.92) < 0.05), color, 0.35)
    return board


def bench(rng: Rng, density: float) -> Board:
    """Paint a bench."""
    board = Board(rng, 1.7, 0.9, density)
    x, y = np.abs(board.x), board.y
    slats = (np.abs(y - 0.45) < 0.04) | (np.abs(y - 0.65) < 0.05) | (np.abs(y - 0.8) < 0.05)
    board.put((x < 0.8) & slats, (120, 84, 56))
    board.put((np.abs(x - 0.65) < 0.04) & (y < 0.85), (60, 60, 62))
    return board


def rail(rng: Rng, density: float) -> Board:
    """Paint a railing."""
    board = Board(rng, 3.0, 1.05, density)
    y, place = board.y, board.x / 0.16
    color = rng.choice(((150, 152, 154), (60, 90, 130), (40, 42, 44)))
    board.put((np.abs(y - 1.0) < 0.03) | (np.abs(y - 0.15) < 0.025), color)
    board.put((np.abs(place - np.floor(place) - 0.5) < 0.09) & (y < 1.0) & (y > 0.15), (130, 132, 134))
    return board


def tent(rng: Rng, density: float) -> Board:
    """Paint a market stall with its goods."""
    board = Board(rng, 3.2, 2.9, density)
    x, y = board.x, board.y
    awning = rng.choice(((190, 40, 44), (40, 80, 150), (230, 230, 226), (220, 150, 40), (50, 120, 70)))
    board.put((y > 2.0) & (np.abs(x) < 1.55 - 0.9 * np.clip(y - 2.15, 0, 1)), awning)
    board.put((np.abs(np.abs(x) - 1.45) < 0.035) & (y < 2.0), (200, 200, 200))
    board.put((y < 0.85) & (np.abs(x) < 1.3), rng.choice(((220, 214, 200), (120, 90, 70), (60, 70, 110))))
    for _ in range(9):
        middle, width, height = rng.uniform(-1.2, 1.1), rng.uniform(0.08, 0.3), rng.uniform(0.05, 0.3)
        goods = (y >= 0.85) & (y < 0.9 + height) & (np.abs(x - middle) < width / 2)
        board.put(goods, (rng.uniform(30, 230), rng.uniform(30, 230), rng.uniform(30, 230)))
    return board


PAINTERS = (pole, tree, bush, car, bike, bollard, sign, litter_bin, bench, rail, tent, *FURNITURE)
THINGS: dict[str, Callable[[Rng, float], Board]] = {paint.__name__.removeprefix("litter_"): paint for paint in PAINTERS}


def paint_thing(rng: Rng, kind: str, density: float) -> Board:
    """Paint a thing of one of the ``THINGS`` at a number of pixels per meter."""
    board = THINGS[kind](rng, density)
    np.clip(board.picture, 0, 1, out=board.picture)
    return board


def paint_dummy(rng: Rng, top: Top, bottom: Bottom, *, height: float, density: float) -> Board:
    """Paint a shop's dummy without a head that wears two garments, at a number of pixels per meter."""
    board = Board(rng, 0.5 * height, height, density)
    x, y = np.abs(board.x) * (1.5 / height), board.y * (1.5 / height)
    folds = np.clip(1 + 0.3 * board.noise(9, 5) - 0.5 * x, 0.3, 1.5)
    board.put((x < 0.02) | ((x < 0.2) & (y < 0.03)), (120, 120, 122))
    skirt, short = bottom.is_skirt or bottom.kind == "none", bottom.kind == "shorts"
    cut = x < 0.13 + 0.16 * (0.95 - y) if skirt else (x < 0.18) & (x > 0.02 + 0.03 * (0.95 - y))
    worn = top.color if bottom.kind == "none" else bottom.color
    board.put(cut & (y < 0.95) & (y > (0.5 if short else bottom.skirt if skirt else 0.12)), worn, folds)
    torso = (x < 0.19 + 0.04 * (y - 0.85)) & (y > 0.85) & (y < 1.46 - 0.35 * x)
    sleeve = 1.38 - 0.5 * max(top.sleeve, 0.1)
    arms = (x < 0.29) & (x > 0.19) & (y > sleeve) & (y < 1.46 - 0.5 * x)
    board.put(torso | arms, top.color, folds)
    across, up = (axis / top.pattern.period for axis in (board.x, y))
    bars, rings = (np.abs(place - np.floor(place) - 0.5) < 0.5 * top.pattern.duty for place in (across, up))
    marks = {"hstripes": rings, "vstripes": bars, "plaid": bars ^ rings, "dots": bars & rings, "block": y > 1.2}
    if top.pattern.kind in marks:
        board.put((torso | arms) & marks[top.pattern.kind], top.second, folds)
    np.clip(board.picture, 0, 1, out=board.picture)
    return board
