"""Pictures that a gallery holds more than once, or nearly so.

Files of the same bytes come first. Of each such file one picture stands for all when near duplicates are looked for,
by :mod:`regard.gallery.pairs`.

Shapes: M stored pictures, N that are compared, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard.errors import ConfigError, shown
from regard.gallery.pairs import group_near
from regard.gallery.query import Engine
from regard.gallery.record import Filter, Record

__all__ = ["Duplicates", "find_duplicates"]

PAGE = 1000
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


def find_duplicates(
    engine: Engine, threshold: float = 0.98, progress: Callable[[int, int], None] | None = None
) -> list[Duplicates]:
    """Groups of pictures whose files are the same, then of those that are nearly the same, the most similar first.

    In the second kind, a file that is there several times is named once. A picture belongs to a group when it is near
    to any of it.

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
    ids, vectors, rows = descriptors(engine, [ids[0] for ids in files.values()])
    leaders, best = group_near(vectors, rows, threshold - ROUNDING, progress)
    groups: dict[int, list[int]] = {}
    for place in np.flatnonzero(np.isfinite(best)).tolist():
        groups.setdefault(int(leaders[place]), []).append(place)
    same = [(1.0, True, ids) for ids in files.values() if len(ids) > 1]
    nearly = [(min(float(best[found].min()), 1.0), False, [ids[n] for n in found]) for found in groups.values()]
    nearly.sort(key=lambda group: (-group[0], min(group[2])))
    found = [Duplicates(records_of(engine, ids), cosine, both) for cosine, both, ids in (*same, *nearly)]
    return [group for group in found if len(group.records) > 1]  # some may be gone by now


def descriptors(engine: Engine, ids: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Those ids that are there, (M, D) descriptors, and which (N,) rows of them are theirs.

    An engine with a method ``descriptors(ids)`` gives them without reading all into memory.
    """
    if given := getattr(engine, "descriptors", None):
        return given(ids)
    known, vectors = list[str](), np.empty((len(ids), engine.dim), np.float32)
    for start in range(0, len(ids), PAGE):
        for item in engine.get(ids[start : start + PAGE]):
            vectors[len(known)] = item.vector
            known.append(item.record.id)
    return known, vectors, np.arange(len(known))


def records_of(engine: Engine, ids: Sequence[str]) -> tuple[Record, ...]:
    """Records by id, in order of id."""
    return tuple(item.record for item in engine.get(sorted(ids)))
