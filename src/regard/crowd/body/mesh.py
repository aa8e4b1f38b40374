"""The body: parts that are grids of cells, posed directly (no skinning), each with its own texture.

Every part is a tube of (rows + 1) x columns vertices whose columns wrap around. Each cell between four vertices
carries texels x texels texture samples, so there are no texture coordinates.

Shapes: F frames, V vertices, N cells, T texels along a cell's side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from regard.crowd.body import limbs, skull, trunk
from regard.crowd.body.geometry import cross, unit
from regard.crowd.body.skeleton import Motion, Skeleton, pose_skeleton
from regard.crowd.clothes.cloth import paint_part
from regard.crowd.identity_types import Identity
from regard.crowd.rng import Rng, value_noise

__all__ = ["CREASED", "Body", "Pose", "build_body"]

Shape = Callable[[Identity, Skeleton, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Part:
    """A grid of cells: its size, its shape, and whether rows times columns points outward (1) or inward (-1)."""

    name: str
    rows: int
    columns: int
    outward: int
    shape: Shape


def pair(name: str, rows: int, columns: int, outward: int, shape: Callable[..., np.ndarray]) -> tuple[Part, Part]:
    """Return the same part on the left and on the right."""
    return (
        Part(f"left_{name}", rows, columns, outward, partial(shape, side="left")),
        Part(f"right_{name}", rows, columns, outward, partial(shape, side="right")),
    )


PARTS = (
    Part("torso", 28, 52, 1, trunk.torso),
    Part("pelvis", 8, 44, 1, trunk.pelvis),
    *pair("leg", 38, 24, -1, limbs.leg),
    Part("skirt", 26, 56, -1, trunk.skirt),
    Part("tail", 26, 56, -1, trunk.tail),
    *pair("shoe", 10, 12, 1, limbs.shoe),
    *pair("arm", 26, 16, -1, limbs.arm),
    *pair("hand", 5, 8, -1, limbs.hand),
    Part("neck", 4, 14, 1, trunk.neck),
    Part("head", 14, 24, 1, skull.head),
    Part("hair", 14, 24, 1, skull.hair),
    Part("drape", 14, 20, -1, skull.drape),
    Part("hat", 8, 24, 1, skull.hat),
    Part("brim", 3, 24, -1, skull.brim),
    Part("bag", 20, 40, 1, trunk.bag),
    Part("collar", 6, 28, 1, trunk.collar),
)

CREASED = {"torso": 3, "left_leg": 2, "right_leg": 2, "left_arm": 2, "right_arm": 2, "skirt": 2, "tail": 2}
"""Parts with folds, and how many rows a fold is long."""


@dataclass(frozen=True, slots=True)
class Pose:
    """The body in F frames, in its own frame of reference.

    Attributes:
        body: whose it is.
        points: (3, F, V) vertices in meters, float32.
        normals: (3, F, V) outward directions, float32.
        joints: (3, 17, F) COCO joints in meters.
    """

    body: Body
    points: np.ndarray
    normals: np.ndarray
    joints: np.ndarray


@dataclass(frozen=True, slots=True)
class Body:
    """A dressed person, ready to be posed and drawn.

    Attributes:
        person: who it is.
        parts: what the body consists of.
        folds: (rows + 1, columns) noise of each part.
        corners: (4, N) vertices of each cell: upper left, upper right, lower left, lower right.
        outward: (N,) sign of the cell's orientation.
        texels: T.
        albedo: (3, T T N) linear reflectance, float32; texel t of cell n is number t N + n.
        alive: (T T, N) bool, whether there is anything at that texel.
        torn: (N,) bool, whether some of the cell's texels are not alive.
        labels: (T T N,) uint8, see ``canvas.LABELS``.
    """

    person: Identity
    parts: tuple[Part, ...]
    folds: tuple[np.ndarray, ...]
    corners: np.ndarray
    outward: np.ndarray
    texels: int
    albedo: np.ndarray
    alive: np.ndarray
    torn: np.ndarray
    labels: np.ndarray

    def pose(self, motion: Motion) -> Pose:
        """Return vertices, normals and joints in every frame of a motion."""
        skeleton = pose_skeleton(self.person, motion)
        points, normals = [], []
        for part, folds in zip(self.parts, self.folds):
            grid = part.shape(self.person, skeleton, folds)
            points.append(grid.reshape(3, motion.frames, -1))
            normals.append(grid_normals(grid, part.outward).reshape(3, motion.frames, -1))
        joints = skeleton.joints(self.person.build.height)
        return Pose(self, np.concatenate(points, axis=2), np.concatenate(normals, axis=2), joints)


def build_body(person: Identity, texels: int) -> Body:
    """Choose the parts of a person, lay out their cells and paint them."""
    names = part_names(person)
    parts = tuple(part for part in PARTS if part.name in names)
    corners, first = [], 0
    for part in parts:
        corners.append(grid_corners(part) + first)
        first += (part.rows + 1) * part.columns
    outward = [np.full(part.rows * part.columns, part.outward, np.float32) for part in parts]
    painted = [paint_part(person, part.name, part.rows * texels, part.columns * texels) for part in parts]
    color = join([canvas.color for canvas in painted], parts, texels)
    labels = join([canvas.labels[None] for canvas in painted], parts, texels)
    alive = join([canvas.alive[None] for canvas in painted], parts, texels)[0]
    return Body(
        person=person,
        parts=parts,
        folds=tuple(draw_folds(person, part) for part in parts),
        corners=np.concatenate(corners, axis=1),
        outward=np.concatenate(outward),
        texels=texels,
        albedo=color.reshape(3, -1),
        alive=alive,
        torn=~alive.all(axis=0),
        labels=labels.ravel(),
    )


def part_names(person: Identity) -> set[str]:
    """Return the names of the parts that a person has."""
    head, top = person.head, person.top
    names = {"torso", "pelvis", "neck", "head"}
    names |= {f"{side}_{part}" for side in ("left", "right") for part in ("leg", "shoe", "arm", "hand")}
    optional = {
        "skirt": person.bottom.is_skirt,
        "tail": top.tail,
        "hair": head.hair not in ("bald", "buzz"),
        "drape": head.hair in skull.DRAPED,
        "hat": head.hat != "none",
        "brim": head.hat in ("cap", "sunhat"),
        "bag": person.bag.kind != "none",
        "collar": top.hood or top.scarf or top.kind in ("jacket", "coat", "polo", "openjacket", "openshirt"),
    }
    return names | {name for name, there in optional.items() if there}


def draw_folds(person: Identity, part: Part) -> np.ndarray:
    """Draw the folds of a part's cloth, (rows + 1, columns) in about [-1, 1]; zero on bare parts."""
    size = part.rows + 1, part.columns
    if part.name not in CREASED:
        return np.zeros(size, np.float32)
    cells = max(2, part.rows // CREASED[part.name]), max(2, part.columns // 8)
    return value_noise(Rng("folds", person.texture, part.name), size, cells, 2)


def grid_corners(part: Part) -> np.ndarray:
    """Return the vertices of every cell of a part, counted within it; (4, rows * columns)."""
    row, column = np.divmod(np.arange(part.rows * part.columns), part.columns)
    right = (column + 1) % part.columns
    upper, lower = row * part.columns, (row + 1) * part.columns
    return np.stack([upper + column, upper + right, lower + column, lower + right])


def grid_normals(grid: np.ndarray, outward: int) -> np.ndarray:
    """Return the directions a part's vertices face; (3, F, R, C) to the same."""
    around, along = np.empty_like(grid), np.empty_like(grid)
    around[..., 1:-1] = grid[..., 2:] - grid[..., :-2]
    around[..., 0] = grid[..., 1] - grid[..., -1]
    around[..., -1] = grid[..., 0] - grid[..., -2]
    along[:, :, 1:-1] = grid[:, :, 2:] - grid[:, :, :-2]
    along[:, :, 0] = grid[:, :, 1] - grid[:, :, 0]
    along[:, :, -1] = grid[:, :, -1] - grid[:, :, -2]
    return unit(cross(around, along)) * np.float32(outward)


def join(layers: Sequence[np.ndarray], parts: Sequence[Part], texels: int) -> np.ndarray:
    """Return the textures of all parts, each (C, rows * T, columns * T), sorted by cell; (C, T T, N)."""
    sorted_ = []
    for layer, part in zip(layers, parts):
        split = layer.reshape(-1, part.rows, texels, part.columns, texels)
        sorted_.append(split.transpose(0, 2, 4, 1, 3).reshape(-1, texels * texels, part.rows * part.columns))
    return np.concatenate(sorted_, axis=2)
