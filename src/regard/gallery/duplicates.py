"""Pictures that a gallery holds more than once, or nearly so.

Files of the same bytes come first. Of each such file one picture stands for all when near duplicates are looked for:
every picture is searched for in the gallery, in blocks, so that memory holds a block's answers and never all pairs.

Shapes: B pictures of a block, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.errors import ConfigError, shown
from regard.gallery.query import MOST, Engine
from regard.gallery.record import Filter, Record, Scored

__all__ = ["Duplicates", "find_duplicates"]

BLOCK = 64
PAGE = 1000
FIRST = 8
"""Neighbors that are looked at first; ten times as many where all of them are near."""

ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Pictures that are the same, or nearly.

    Attributes:
        records: two or more, in order of id.
        cosine: each of them is at least as similar as this to another one.
        same_file: whether their files have the same bytes.
    """

    records: tuple[Record, ...]
    cosine: float
    same_file: bool

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        records = [record.to_dict() for record in self.records]
        return {"same_file": self.same_file, "cosine": round(self.cosine, 6), "records": records}


class Groups:
    """Which things belong together, by links between two of them."""

    def __init__(self) -> None:
        self._leader: dict[str, str] = {}
        self.weakest: dict[str, float] = {}

    def leader(self, one: str) -> str:
        """The one that stands for a thing's group."""
        path = []
        while (next_ := self._leader.get(one, one)) != one:
            path.append(one)
            one = next_
        for each in path:
            self._leader[each] = one
        return one

    def join(self, one: str, other: str, cosine: float) -> None:
        """Put two groups together."""
        first, second = self.leader(one), self.leader(other)
        if first != second:
            self._leader[second] = first
            self.weakest[first] = min(self.weakest.get(first, 2), self.weakest.pop(second, 2), cosine)

    def all(self) -> dict[str, list[str]]:
        """Leader -> all of its group, of the groups of two and more."""
        found: dict[str, list[str]] = {leader: [leader] for leader in self.weakest}
        for one in self._leader:
            found[self.leader(one)].append(one)
        return found


def find_duplicates(
    engine: Engine, threshold: float = 0.98, progress: Callable[[int, int], None] | None = None
) -> list[Duplicates]:
    """Groups of pictures whose files are the same, then of those that are nearly the same, the most similar first.

    In the second kind, a file that is there several times is named once. A picture belongs to a group when it is near
    to any of it; of pictures with more than a thousand near ones, the thousand nearest are looked at.

    Args:
        engine: of the gallery.
        threshold: cosine from which on two pictures are nearly the same, above 0 and at most 1.
        progress: called with (pictures looked at, pictures in all).

    Raises:
        ConfigError: the threshold is no such number.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise ConfigError(f"threshold is {shown(threshold)}, wanted a cosine above 0 and at most 1, such as 0.98")
    files: dict[str, list[str]] = {}
    after = None
    while page := engine.scan(Filter(), after, PAGE):
        for record in page:
            files.setdefault(record.digest or f"id {record.id}", []).append(record.id)
        after = page[-1].id
    firsts = [ids[0] for ids in files.values()]
    known, groups = set(firsts), Groups()
    for start in range(0, len(firsts), BLOCK):
        items = engine.get(firsts[start : start + BLOCK])
        vectors = np.stack([item.vector for item in items]) if items else np.empty((0, engine.dim), np.float32)
        for item, hits in zip(items, near(engine, vectors, threshold - ROUNDING)):
            for hit in hits:
                if hit.record.id in known and hit.record.id != item.record.id:
                    groups.join(item.record.id, hit.record.id, min(hit.score, 1.0))
        if progress:
            progress(min(start + BLOCK, len(firsts)), len(firsts))
    same = [(1.0, True, ids) for ids in files.values() if len(ids) > 1]
    nearly = [(groups.weakest[leader], False, ids) for leader, ids in groups.all().items()]
    nearly.sort(key=lambda group: (-group[0], min(group[2])))
    found = [Duplicates(records_of(engine, ids), cosine, both) for cosine, both, ids in (*same, *nearly)]
    return [group for group in found if len(group.records) > 1]  # some may be gone by now


def near(engine: Engine, vectors: np.ndarray, threshold: float) -> list[list[Scored]]:
    """What is at least so similar to each of (B, D) descriptors, best first."""
    wanted, k = np.arange(len(vectors)), FIRST
    found: list[list[Scored]] = [[] for _ in vectors]
    while len(wanted):
        for place, hits in zip(wanted.tolist(), engine.search(vectors[wanted], k, Filter())):
            found[place] = hits
        more = [p for p in wanted.tolist() if len(found[p]) >= k and found[p][-1].score >= threshold]
        wanted, k = np.array(more if k < MOST else [], np.int64), min(10 * k, MOST)
    return [[hit for hit in hits if hit.score >= threshold] for hits in found]


def records_of(engine: Engine, ids: Sequence[str]) -> tuple[Record, ...]:
    """Records by id, in order of id."""
    return tuple(item.record for item in engine.get(sorted(ids)))
