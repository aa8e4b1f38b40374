"""The authors' samplers and their random erasing, written in plain Python with a random generator of their own."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence

Epoch = list[list[int]]
"""Indices of pictures, batch by batch."""


def owners(pids: Sequence[int]) -> dict[int, list[int]]:
    """Pictures of every person."""
    found = defaultdict(list)
    for index, pid in enumerate(pids):
        found[pid].append(index)
    return found


def until_exhausted(pids: Sequence[int], people: int, each: int, draw: random.Random) -> Epoch:
    """Bag of tricks, APNet: everybody's pictures in groups of K, P groups at a time while P people have some left."""
    groups = {}
    for pid, pictures in owners(pids).items():
        row = draw.choices(pictures, k=each) if len(pictures) < each else draw.sample(pictures, len(pictures))
        groups[pid] = [row[at : at + each] for at in range(0, len(row) - each + 1, each)]
    batches = []
    left = [pid for pid in groups if groups[pid]]
    while len(left) >= people:
        batches.append([index for pid in draw.sample(left, people) for index in groups[pid].pop(0)])
        left = [pid for pid in left if groups[pid]]
    return batches


def in_rounds(
    pids: Sequence[int], people: int, each: int, rounds: int, draw: random.Random, scarce: str = "draw"
) -> Epoch:
    """MuDeep, TriNet, RGA: rounds of K pictures of everybody in random order, cut into batches; the rest is dropped."""
    row = []
    own = owners(pids)
    for _ in range(rounds):
        for pid in draw.sample(list(own), len(own)):
            pictures = own[pid]
            if scarce == "repeat":
                pictures = pictures * math.ceil(each / len(pictures))
            row += draw.choices(pictures, k=each) if len(pictures) < each else draw.sample(pictures, each)
    size = people * each
    return [row[at : at + size] for at in range(0, len(row) - size + 1, size)]


def shuffled(pids: Sequence[int], size: int, draw: random.Random) -> Epoch:
    """SA: every picture once, whoever it shows; the rest is dropped."""
    row = draw.sample(range(len(pids)), len(pids))
    return [row[at : at + size] for at in range(0, len(row) - size + 1, size)]


def by_person(pids: Sequence[int], size: int) -> Epoch:
    """DSP: every picture once, person by person as the files are named; the rest is dropped."""
    row = [index for _, pictures in sorted(owners(pids).items()) for index in pictures]
    return [row[at : at + size] for at in range(0, len(row) - size + 1, size)]


def hole(height: int, width: int, area: tuple[float, float], draw: random.Random) -> tuple[int, int, int, int] | None:
    """Random erasing: top, left, height, width; the ratio of height to width is uniform, not its logarithm."""
    for _ in range(100):
        pixels = draw.uniform(*area) * height * width
        ratio = draw.uniform(0.3, 1 / 0.3)
        h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if h < height and w < width:
            return draw.randint(0, height - h), draw.randint(0, width - w), h, w
    return None
