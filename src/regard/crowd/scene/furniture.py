"""Further things that stand about: flat pictures with a base, in meters, for the places of ``scenes.FURTHER``."""

from __future__ import annotations

import numpy as np

from regard.crowd.rng import Rng
from regard.crowd.scene.board import Board

__all__ = ["PAINTERS"]

BRIGHT = ((230, 120, 30), (235, 200, 40), (40, 150, 150), (60, 140, 70), (190, 40, 44), (40, 80, 160), (240, 240, 236))


def board(rng: Rng, density: float) -> Board:
    """Paint a notice board on a post, as high as people's chests."""
    width, height, foot = rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.8), rng.uniform(0.5, 1.2)
    made = Board(rng, 1.0, foot + height + 0.5, density)
    x, y = np.abs(made.x), made.y
    made.put(x < rng.uniform(0.03, 0.06), rng.choice(((150, 152, 156), (90, 92, 96), (120, 150, 170))))
    inside = (x < 0.5 * width) & (y > foot) & (y < foot + height)
    made.put(inside, (240, 240, 238))
    made.put(inside & (x < 0.46 * width) & (np.abs(y - foot - 0.5 * height) < 0.46 * height), rng.choice(BRIGHT))
    for line in range(3):
        text = (np.abs(y - foot - height * (0.2 + 0.17 * line)) < 0.035 * height) & (x < 0.33 * width)
        made.put(text & (np.floor(made.x * 28) % 3 != 0), (244, 244, 240))
    return made


def cone(rng: Rng, density: float) -> Board:
    """Paint a traffic cone, or a yellow stand that warns."""
    made, height = Board(rng, 0.6, 0.8, density), rng.uniform(0.45, 0.75)
    x, y = np.abs(made.x), made.y
    color = rng.choice(((226, 90, 30), (236, 190, 30)))
    made.put((x < 0.20 * (1.15 - y / height)) & (y < height), color)
    made.put((x < 0.20 * (1.15 - y / height)) & (np.abs(y - 0.55 * height) < 0.08), (238, 238, 236))
    made.put((x < 0.24) & (y < 0.04), (40, 40, 42) if rng.chance(0.5) else color)
    return made


def barrier(rng: Rng, density: float) -> Board:
    """Paint a barrier with slanted stripes, or a tape between two posts."""
    made, tape = Board(rng, 2.4, 1.1, density), rng.chance(0.5)
    x, y = np.abs(made.x), made.y
    made.put((np.abs(x - 1.05) < 0.04) & (y < 1.0), (170, 172, 174))
    band = np.abs(y - 0.9 + (0.10 * (1.1 - x) if tape else 0)) < (0.05 if tape else 0.13)
    made.put(band & (x < 1.1), (236, 236, 234))
    stripe = np.floor((made.x + (0 if tape else y)) * 4) % 2 == 0
    made.put(band & (x < 1.1) & stripe, (200, 40, 36))
    return made


def planter(rng: Rng, density: float) -> Board:
    """Paint a tub with a shrub or flowers."""
    made, width = Board(rng, 1.6, 1.5, density), rng.uniform(0.4, 0.75)
    x, y = made.x, made.y
    leaves = made.noise(9, 9)
    crown = (x / width) ** 2 + ((y - 0.8) / 0.5) ** 2 + 0.6 * leaves < 0.8
    made.put(crown, rng.choice(((52, 82, 40), (74, 96, 44), (88, 110, 60))), np.clip(1 + 0.9 * leaves, 0.2, 2))
    if rng.chance(0.4):
        made.put(crown & (leaves > 0.25), rng.choice(((210, 60, 80), (230, 200, 60), (200, 120, 190))))
    made.put(
        (np.abs(x) < width * (0.75 + 0.3 * y)) & (y < 0.5), rng.choice(((120, 112, 104), (150, 80, 60), (60, 62, 66)))
    )
    return made


def kiosk(rng: Rng, density: float) -> Board:
    """Paint a kiosk, a vending machine or an advertisement column."""
    width, height = rng.uniform(0.9, 2.2), rng.uniform(1.9, 2.6)
    made = Board(rng, width, height, density)
    x, y = np.abs(made.x), made.y
    made.put(x < 0.5 * width, rng.choice((*BRIGHT, (60, 62, 66), (200, 200, 198))))
    pane = (x < 0.4 * width) & (y > 0.7) & (y < height - 0.35)
    made.put(pane, (rng.uniform(30, 230), rng.uniform(30, 230), rng.uniform(30, 230)))
    for _ in range(6):
        middle, low = rng.uniform(-0.35, 0.35) * width, rng.uniform(0.75, height - 0.8)
        block = (np.abs(made.x - middle) < rng.uniform(0.05, 0.25)) & (y > low) & (y < low + rng.uniform(0.1, 0.5))
        made.put(pane & block, (rng.uniform(20, 240), rng.uniform(20, 240), rng.uniform(20, 240)))
    return made


def fence(rng: Rng, density: float) -> Board:
    """Paint a fence of wire or of boards."""
    made, height = Board(rng, 3.6, 1.9, density), rng.uniform(0.9, 1.8)
    x, y = made.x, made.y
    color = rng.choice(((130, 132, 134), (96, 70, 48), (60, 80, 60), (206, 204, 200)))
    made.put((np.abs(x - np.round(x / 1.2) * 1.2) < 0.035) & (y < height), color)
    if rng.chance(0.5):
        place = x / 0.14
        made.put((np.abs(place - np.floor(place) - 0.5) < 0.36) & (y < height) & (y > 0.08), color, 0.9)
    else:
        for bar in range(1, 5):
            made.put((np.abs(y - height * bar / 4.2) < 0.02) & (np.abs(x) < 1.75), color)
    return made


def van(rng: Rng, density: float) -> Board:
    """Paint a parked van, seen from the side, or the end of one."""
    length, height = rng.choice((2.0, 5.2)), rng.uniform(1.9, 2.4)
    made = Board(rng, length + 0.1, height + 0.05, density)
    x, y = made.x, made.y
    color = rng.choice(((236, 236, 234), (40, 60, 120), (150, 152, 156), (30, 32, 36), (180, 40, 40), (60, 110, 80)))
    made.put((np.abs(x) < 0.5 * length - 0.06 * y) & (y > 0.3) & (y < height), color)
    made.put((np.abs(x) < 0.36 * length) & (y > 0.62 * height) & (y < 0.9 * height), (46, 54, 62), 0.6 + 0.5 * y)
    made.put((np.abs(x) < 0.48 * length) & (np.abs(y - 0.5) < 0.09), (30, 30, 32))
    for side in (-1, 1):
        made.put((x - side * 0.33 * length) ** 2 + (y - 0.33) ** 2 < 0.33**2, (24, 24, 26))
        made.put((np.abs(x - side * 0.42 * length) < 0.09) & (np.abs(y - 0.85) < 0.07), (210, 60, 40))
    return made


PAINTERS = (board, cone, barrier, planter, kiosk, fence, van)
