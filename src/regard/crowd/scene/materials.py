"""Grounds and walls as textures in linear reflectance.

A ground is (3, 512, 512) and tiles; a wall is (3, rows, columns) with row 0 at the bottom and tiles sideways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from regard.crowd.color import Rgb, linear
from regard.crowd.rng import Rng, value_noise

__all__ = ["GROUNDS", "Ground", "paint_wall"]

SIZE = 512

BRIGHT: tuple[Rgb, ...] = (
    *((190, 40, 40), (30, 80, 150), (230, 190, 60), (40, 110, 70)),
    *((240, 240, 236), (40, 40, 44), (200, 110, 40)),
)
"""Colors of shop signs."""
WALL_COLORS: tuple[Rgb, ...] = (
    *((186, 180, 168), (150, 110, 92), (120, 124, 130)),
    *((206, 200, 188), (160, 140, 110), (100, 92, 88)),
)


@dataclass(frozen=True, slots=True)
class Ground:
    """A tileable texture (3, 512, 512) and how many meters it covers."""

    texture: np.ndarray
    meters: float

    def sample(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the colors at places on the ground in meters; (...) to (3, ...)."""
        row, column = (np.floor(a * np.float32(SIZE / self.meters)).astype(np.intp) % SIZE for a in (z, x))
        return self.texture.reshape(3, -1)[:, row * SIZE + column]

    def mean(self) -> np.ndarray:
        """Return the average color; (3,) float32."""
        return np.array([np.floor(float(c.mean()) * 65536) / 65536 for c in self.texture], np.float32)


def tinted(color: Rgb, gray: np.ndarray) -> np.ndarray:
    """Return a gray picture in a color; (h, w) to (3, h, w)."""
    return linear(color)[:, None, None] * gray


def grain(rng: Rng, cells: int, octaves: int, amount: float) -> np.ndarray:
    """Return noise around 1 over a ground."""
    return 1 + np.float32(amount) * value_noise(rng, (SIZE, SIZE), (cells, cells), octaves)


def steps(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of ``count`` tiles every texel lies in, and where in it."""
    place = np.arange(SIZE, dtype=np.float32) * np.float32(count / SIZE)
    cell = np.floor(place)
    return cell.astype(np.intp), place - cell


def tiles(rng: Rng) -> Ground:
    """Paint paving slabs, sometimes in two shades."""
    meters, count = rng.choice((3.0, 4.0)), rng.choice((5, 8, 10))
    color = rng.choice(((150, 146, 140), (128, 126, 124), (172, 160, 146), (140, 120, 108)))
    cell, place = steps(count)
    joint = np.abs(place - 0.5) > 0.5 - 0.02 * count / 5
    shades = rng.array(count, count) * np.float32(0.28) + np.float32(0.86)
    gray = shades[cell][:, cell] * grain(rng, 24, 3, 0.10)
    gray *= np.where(joint, np.float32(0.6), np.float32(1))[:, None]
    gray *= np.where(joint, np.float32(0.6), np.float32(1))
    if rng.chance(0.4):
        gray[(cell[:, None] + cell) % 2 == 0] *= np.float32(rng.uniform(0.65, 0.9))
    return Ground(tinted(color, gray), meters)


def bricks(rng: Rng) -> Ground:
    """Paint bricks in running bond."""
    color = rng.choice(((140, 82, 66), (120, 104, 96), (150, 120, 96)))
    row, up = steps(20)
    place = np.arange(SIZE, dtype=np.float32) * np.float32(10 / SIZE) + np.float32(0.5) * (row % 2)[:, None]
    column = np.floor(place)
    shades = rng.array(20, 12) * np.float32(0.4) + np.float32(0.8)
    gray = shades[row[:, None], column.astype(np.intp) % 12]
    gray[(up[:, None] < 0.12) | (place - column < 0.06)] *= np.float32(0.62)
    return Ground(tinted(color, gray * grain(rng, 32, 3, 0.12)), 2.0)


def asphalt(rng: Rng) -> Ground:
    """Paint asphalt with its grit."""
    color = rng.choice(((92, 92, 94), (112, 110, 108), (76, 78, 82)))
    grit = (rng.array(SIZE, SIZE) - np.float32(0.5)) * np.float32(0.22)
    return Ground(tinted(color, grain(rng, 6, 4, 0.16) + grit), 4.0)


def grass(rng: Rng) -> Ground:
    """Paint a lawn, greener and drier in places."""
    color = rng.choice(((84, 104, 48), (98, 112, 62), (72, 96, 44)))
    dry, blades = grain(rng, 10, 5, 0.35), grain(rng, 60, 2, 0.35)
    texture = tinted(color, dry + blades - 1)
    texture[0] *= 1 + (dry - 1) * np.float32(0.86)
    return Ground(np.clip(texture, 0.003, 1), 4.0)


def concrete(rng: Rng) -> Ground:
    """Paint concrete with stains."""
    color = rng.choice(((156, 154, 150), (136, 134, 128), (168, 160, 148)))
    grit = (rng.array(SIZE, SIZE) - np.float32(0.5)) * np.float32(0.06)
    return Ground(tinted(color, grain(rng, 5, 5, 0.2) + grit), 5.0)


def polished(rng: Rng) -> Ground:
    """Paint the floor of a station or a mall."""
    color = rng.choice(((176, 172, 164), (158, 150, 140), (120, 122, 128)))
    _, place = steps(6)
    joint = np.where(np.abs(place - 0.5) > 0.485, np.float32(0.8), np.float32(1))
    return Ground(tinted(color, grain(rng, 12, 3, 0.05) * joint[:, None] * joint), 4.8)


GROUNDS: dict[str, Callable[[Rng], Ground]] = {
    paint.__name__: paint for paint in (tiles, bricks, asphalt, grass, concrete, polished)
}


class Wall:
    """A wall while it is being painted.

    Args:
        rng: stream of everything on it.
        meters: width and height.
        density: pixels per meter.

    Attributes:
        color: (3, rows, columns) linear RGB, row 0 at the bottom.
        x, y: (columns,) and (rows,) meters.
    """

    def __init__(self, rng: Rng, meters: tuple[float, float], density: int):
        self.rng, self.width, self.density = rng, meters[0], density
        columns, rows = (int(side * density) for side in meters)
        self.x = (np.arange(columns, dtype=np.float32) + np.float32(0.5)) / np.float32(density)
        self.y = (np.arange(rows, dtype=np.float32) + np.float32(0.5)) / np.float32(density)
        self.color = np.ones((3, rows, columns), np.float32)
        self.bays = rng.uniform(1.6, 3.6), rng.uniform(2.6, 3.4)
        self.shift = rng.uniform(0, self.bays[0])

    def rectangle(self, x: float, y: float, width: float, height: float, color: np.ndarray) -> None:
        """Paint a rectangle given by its lower left corner, in meters; what sticks out is cut off."""
        left, right, low, high = (max(0, int(v * self.density)) for v in (x, x + width, y, y + height))
        self.color[:, low:high, left:right] = color[:, None, None]

    def random_color(self) -> np.ndarray:
        """Return any color; (3,) linear."""
        return linear([self.rng.uniform(20, 235) for _ in range(3)])

    def soil(self) -> None:
        """Add dirt and weather."""
        tall, wide = max(1, round(self.y[-1] / 2)), max(1, round(self.width * 0.6))
        self.color *= 1 + np.float32(0.10) * value_noise(self.rng, self.color.shape[1:], (tall, wide), 4)


def paint_wall(rng: Rng, kind: str, width: float, height: float, density: int) -> np.ndarray:
    """Paint a wall of one of the kinds that ``scenes.SCENES`` name; (3, height * density, width * density)."""
    wall = Wall(rng, (width, height), density)
    if kind == "hedge":
        leaves = value_noise(rng, wall.color.shape[1:], (round(height * 3.5), round(width * 3.5)), 4)
        wall.color[:] = tinted(rng.choice(((52, 78, 36), (64, 88, 44))), np.clip(1 + 0.9 * leaves, 0.15, 2))
    else:
        wall.color[:] = linear(rng.choice(WALL_COLORS))[:, None, None]
        if kind == "brickwall":
            x, y = np.broadcast_arrays(wall.x, wall.y[:, None])
            wall.color[:] = bricks(rng).sample(x, y)
        wall.soil()
        DECORATIONS[kind](wall)
    return np.clip(wall.color, 0.003, 1.0)


def windows(wall: Wall, share: tuple[float, float] | None = None) -> None:
    """Paint rows of windows, or of glass panes where a share of the bay is given."""
    bay, storey = wall.bays
    wide, tall = share or (wall.rng.uniform(0.4, 0.75), wall.rng.uniform(0.4, 0.65))
    column, row = (wall.x + wall.shift) / bay, (wall.y - 0.9) / storey
    across = np.abs(column - np.floor(column) - 0.5) < 0.5 * wide
    up = (np.abs(row - np.floor(row) - 0.5) < 0.5 * tall) & (wall.y > 0.3)
    lit = wall.rng.array(int(row.max()) + 3, int(column.max()) + 3)
    lit = lit[np.floor(row).astype(np.intp) + 1][:, np.floor(column).astype(np.intp)]
    pane = (np.float32(0.4) + np.float32(1.3) * lit) * linear((70, 84, 96))[:, None, None]
    np.copyto(wall.color, pane, where=up[:, None] & across)


def shops(wall: Wall) -> None:
    """Paint shop windows below signs."""
    windows(wall)
    rng, front = wall.rng, wall.rng.uniform(3.0, 5.0)
    for shop in range(int(wall.width / front) + 1):
        left, width = shop * front + 0.17, front - 0.34
        wall.rectangle(left, 2.7, width, 0.7, linear(rng.choice(BRIGHT)))
        for letter in range(int((width - 0.8) / 0.375)):
            if rng.chance(0.8):
                wall.rectangle(left + 0.4 + 0.375 * letter, 2.84, 0.21, 0.42, linear((237, 237, 237)))
        wall.rectangle(left, 0.25, width, 2.25, linear((60, 66, 72)) * np.float32(rng.uniform(0.5, 2.2)))
        for _ in range(5):
            x, y = left + rng.uniform(0, width - 1.0), rng.uniform(0.33, 2.13)
            wall.rectangle(x, y, rng.uniform(0.2, 1.0), rng.uniform(0.25, 1.0), wall.random_color())


def panels(wall: Wall) -> None:
    """Paint panels with a rail, posters and doors."""
    rng = wall.rng
    place = (wall.x + wall.shift) / wall.bays[0]
    wall.color[:, :, np.abs(place - np.floor(place) - 0.5) > 0.49] *= np.float32(0.6)
    wall.color[:, (wall.y > 1.0) & (wall.y < 1.08)] *= np.float32(0.6)
    for _ in range(int(wall.width / 5)):
        x, y = rng.uniform(0, wall.width), rng.uniform(0.9, 1.5)
        wall.rectangle(x, y, rng.uniform(0.4, 1.2), rng.uniform(0.4, 1.0), wall.random_color())
    for _ in range(int(wall.width / 7)):
        color = linear(rng.choice(((90, 60, 40), (60, 70, 90), (150, 150, 150))))
        wall.rectangle(rng.uniform(0, wall.width), 0, 0.95, 2.1, color)


DECORATIONS: dict[str, Callable[[Wall], None]] = {
    "windows": windows,
    "brickwall": windows,
    "glass": partial(windows, share=(0.92, 0.9)),
    "shops": shops,
    "panels": panels,
    "corridor": panels,
}
