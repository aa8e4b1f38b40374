"""Short videos of people who meet, for trackers: a crowd's walkers, cut out by their masks, on a gray ground.

Four pairs walk towards each other. Two pairs pass; two turn round where they meet, which no motion foretells. Whoever
is mostly hidden is not detected.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

PEOPLE = 8
HEIGHT, WIDTH = 420, 720
FRAMES = 84
APART = 190
SPEED = 4.5


@dataclass
class Frame:
    """One picture: BGR pixels; who is in it and where; and what a detector finds."""

    pixels: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray
    detections: np.ndarray


def people(crowd: Path, camera: int, generator: np.random.Generator) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Pictures and masks of eight people, drawn among those whom a camera has seen at least twice."""
    shots = defaultdict(list)
    for folder in ("query", "bounding_box_test"):
        for path in sorted((crowd / folder).glob(f"[0-9]*_c{camera}s*.jpg")):
            if not path.name.startswith("0000"):
                shots[path.name[:4]].append(path)
    twice = [paths for _, paths in sorted(shots.items()) if len(paths) > 1]
    found = [twice[index] for index in generator.permutation(len(twice))[:PEOPLE]]
    assert len(found) == PEOPLE, f"camera {camera} of {crowd} has seen {len(found)} people twice, wanted {PEOPLE}"
    return [[(np.array(Image.open(path))[..., ::-1], mask_of(crowd, path)) for path in paths] for paths in found]


def mask_of(crowd: Path, path: Path) -> np.ndarray:
    """Where the person is in a picture."""
    return np.array(Image.open(crowd / "masks" / path.parent.name / f"{path.stem}.png")) > 0


def places(generator: np.random.Generator) -> np.ndarray:
    """Left edges and top edges of eight people in every frame, (FRAMES, 8, 2)."""
    out = np.zeros((FRAMES, PEOPLE, 2))
    time = np.arange(FRAMES)
    for pair in range(PEOPLE // 2):
        top = 10 + 270 * (pair // 2) + generator.integers(0, 8)
        middle = 200 + 300 * (pair % 2) + generator.integers(-15, 15)
        start = generator.integers(0, 8)
        for side in (0, 1):
            sign = 1 if side else -1
            way = APART / 2 - SPEED / 2 * np.clip(time - start, 0, None)
            if pair % 2:  # they meet, turn and go back the way they came
                way = np.abs(way)
            out[:, 2 * pair + side, 0] = middle - 32 + sign * way
            out[:, 2 * pair + side, 1] = top + 4 * side
    return out


def sequence(crowd: Path, camera: int, seed: int = 0) -> list[Frame]:
    """The frames of a camera; the seed says who walks, and where."""
    generator = np.random.default_rng((seed, camera))
    cast, where = people(crowd, camera, generator), places(generator)
    ground = generator.normal(118, 5, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)
    frames = []
    for time in range(FRAMES):
        pixels, owner = ground.copy(), np.full((HEIGHT, WIDTH), -1)
        sizes = np.zeros(len(cast))
        for who, shots in enumerate(cast):
            picture, mask = shots[time // 5 % len(shots)]
            left, top = np.round(where[time, who]).astype(int)
            inside = np.zeros_like(owner, bool)
            inside[top : top + 128, left : left + 64] = mask
            pixels[inside] = picture[mask]
            owner[inside] = who
            sizes[who] = mask.sum()
        seen = np.array([(owner == who).sum() / max(1, sizes[who]) for who in range(len(cast))])
        boxes = np.concatenate([where[time], where[time] + (64, 128)], 1)
        found = boxes[seen > 0.45] + generator.normal(0, 1.2, (int((seen > 0.45).sum()), 4))
        frames.append(Frame(pixels, np.flatnonzero(seen > 0.2), boxes[seen > 0.2], generator.permutation(found)))
    return frames
