"""What every gallery engine offers, and how descriptors of one person become ranked matches.

Shapes: P pictures of one person, Q queries, N rows, D descriptor length.

An engine, embedded or server, keeps items (record, descriptor of length 1, thumbnail), finds the most similar ones
among those a filter accepts, and answers for durability: what :meth:`Engine.add` returned from is there after a crash,
and nothing is half there. One suite, ``tests/gallery/test_engines.py``, runs on all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np

from regard.errors import ConfigError, DataError
from regard.gallery.record import Filter, Item, Record, Scored

__all__ = [
    "MOST",
    "Engine",
    "Removed",
    "candidates",
    "combine",
    "count_people",
    "deleted",
    "grouped",
    "reranked",
    "revised",
    "stored",
    "unit_rows",
    "with_record",
]

CACHED = 64
"""Rows that are worked on together, so that they stay in the processor's cache."""

MOST = 1000
"""Matches a search may be asked for, and records a grouped one may look at for each of them."""


class Removed(int):
    """How many pictures a deletion took out of every answer.

    Attributes:
        bytes: ``erased`` where none of theirs is in any file; ``compacted`` where the server has written its segments
            without them, and drops the old files in its own time; ``unconfirmed`` where it has not; ``unknown`` where
            the engine does not say.
        note: what was not confirmed, in a line; empty otherwise.
    """

    bytes: str
    note: str

    def __new__(cls, number: int, bytes: str = "unknown", note: str = "") -> Self:
        """Say what became of some pictures' bytes."""
        self = super().__new__(cls, number)
        self.bytes, self.note = bytes, note
        return self

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, and for the log."""
        return {"removed": int(self), "bytes": self.bytes} | ({"note": self.note} if self.note else {})


class Engine(Protocol):
    """A store of items that can be searched.

    Attributes:
        dim: D.
    """

    dim: int

    def read_meta(self) -> dict[str, Any]:
        """What the gallery wrote about itself."""
        ...

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Keep what the gallery says about itself."""
        ...

    def add(self, items: Sequence[Item]) -> None:
        """Store items, all or none; one with a known id replaces it. Durable when this returns.

        Raises:
            StorageError: it could not be stored; what was there before is intact.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items with descriptors, thumbnails and index entries; the number that was there.

        One that can say what became of their bytes returns a :class:`Removed`.
        """
        ...

    def get(self, ids: Sequence[str]) -> list[Item]:
        """Items by id, in order, without thumbnails; unknown ids are left out."""
        ...

    def scan(self, filter: Filter, after: str | None = None, limit: int = 1000) -> list[Record]:
        """Records in order of id, those behind ``after``."""
        ...

    def search(self, vectors: np.ndarray, k: int, filter: Filter, *, exact: bool = True) -> list[list[Scored]]:
        """The k most similar records to each of (Q, D) descriptors of length 1, best first."""
        ...

    def count(self, filter: Filter) -> int:
        """Number of records the filter accepts."""
        ...

    def values(self, name: str, limit: int = 1000) -> dict[str, int]:
        """Values of ``camera``, ``track``, ``person`` with the number of records each has."""
        ...

    def thumbnail(self, id: str) -> bytes:
        """JPEG of an item; empty where there is none."""
        ...

    def index(self) -> None:
        """Build what approximate searches need."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def deleted(
    engine: Engine,
    ids: Sequence[str],
    still: Callable[[Record], bool],
    waiting: Callable[[float, float], None] | None = None,
) -> Removed:
    """Remove items of which something still holds; the number that went, and what became of their bytes.

    An engine whose ``delete`` takes ``still`` asks where nobody else can change them; for any other it is asked before.
    One that takes ``waiting`` calls it with (seconds that were waited, seconds that are at most) while it waits.
    """
    known: Any = inspect.signature(engine.delete).parameters
    options: dict[str, Any] = {"waiting": waiting} if "waiting" in known else {}
    if "still" in known:
        options["still"] = still
    else:
        ids = [item.record.id for item in engine.get(ids) if still(item.record)]
    gone = engine.delete(ids, **options)
    return gone if isinstance(gone, Removed) else Removed(gone)


def revised(engine: Engine, ids: Sequence[str], words: Callable[[Item], Item]) -> int:
    """Put items through a function and store what comes of it; the number of those that are there.

    An engine with a method ``revise(ids, words)`` does it so that nothing that others store meanwhile is lost.
    """
    if revise := getattr(engine, "revise", None):
        return revise(ids, words)
    items = [replace(item, thumbnail=engine.thumbnail(item.record.id)) for item in engine.get(ids)]
    engine.add([words(item) for item in items])
    return len(items)


def stored(engine: Engine, items: Sequence[Item], over: Callable[[Record, Record], Record]) -> None:
    """Store items; the record of one that replaces another is what ``over`` makes of (that one's record, its own).

    An engine with a method ``add_over(items, over)`` decides that when nobody else can change it.
    """
    if add_over := getattr(engine, "add_over", None):
        add_over(items, over)
        return
    before = {item.record.id: item.record for item in engine.get([item.record.id for item in items])}
    engine.add([with_record(item, before.get(item.record.id), over) for item in items])


def with_record(item: Item, before: Record | None, over: Callable[[Record, Record], Record]) -> Item:
    """The item, over what was known of its picture before."""
    return item if before is None else replace(item, record=over(before, item.record))


def count_people(engine: Engine) -> int:
    """How many people a gallery may show: its named people or its tracklets, whichever are fewer.

    Pictures without a name count as one person each, so do pictures without a tracklet. A person seen in several
    tracklets counts several times: without names this is rather too many than too few.
    """
    pictures = engine.count(Filter())
    counts = [engine.values(name, max(pictures, 1)) for name in ("person", "track")]
    return min(len(known) + pictures - sum(known.values()) for known in counts)


def unit_rows(vectors: np.ndarray, dim: int) -> np.ndarray:
    """(N, D) float32 rows of length 1.

    Raises:
        DataError: another shape, a row that is not finite, or one that is zero.
    """
    vectors = np.atleast_2d(np.asarray(vectors, np.float32))
    if vectors.ndim != 2 or vectors.shape[1] != dim or not len(vectors):
        raise DataError(f"got descriptors of shape {vectors.shape}, the gallery has (N, {dim}); use its model")
    units = np.empty_like(vectors)
    for start in range(0, len(vectors), CACHED):
        some = vectors[start : start + CACHED].astype(np.float64)
        lengths = np.sqrt(np.einsum("nd,nd->n", some, some))[:, None]
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise DataError("got a descriptor that is zero or not finite; check the picture and the model")
        units[start : start + CACHED] = some / lengths
    return units


def combine(query: np.ndarray, dim: int) -> np.ndarray:
    """(D,) descriptor of a person: the direction of the mean of its pictures' directions."""
    return unit_rows(unit_rows(query, dim).mean(0), dim)[0]


def candidates(
    engine: Engine, vector: np.ndarray, want: int, filter: Filter, *, exact: bool, groups: int = 0
) -> list[Scored]:
    """At least the ``want`` best hits, by score and at equal scores by id; more where a tie or a group needs them."""
    fetch = want
    while True:
        hits = engine.search(vector[None], fetch + 1, filter, exact=exact)[0]
        tied = len(hits) > fetch and hits[fetch].score == hits[want - 1].score
        few = groups and len(grouped(hits[:fetch])) < groups
        if len(hits) <= fetch or fetch >= MOST * max(want, 1) or not (tied or few):
            return sorted(hits, key=lambda hit: (-hit.score, hit.record.id))
        fetch *= 2


def reranked(engine: Engine, vector: np.ndarray, hits: Sequence[Scored]) -> list[Scored]:
    """The hits in the order of their k-reciprocal distance to the query."""
    try:
        from regard.metrics import KReciprocal, rerank_blocks  # brings torch, which no other search needs
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"re-ranking wants {error.name}, which is not installed here; search without it, or install regard with "
            "all it depends on"
        ) from None
    vectors = np.stack([item.vector for item in engine.get([hit.record.id for hit in hits])])
    ((_, distances),) = rerank_blocks(vector[None], vectors, KReciprocal(k1=min(20, len(hits) - 1)))
    return [hits[index] for index in np.argsort(distances[0].numpy(), kind="stable")]


def grouped(hits: Sequence[Scored]) -> list[list[Scored]]:
    """The hits of each tracklet of a camera, in the order of the best ones; hits without a track stand alone."""
    groups: dict[Any, list[Scored]] = {}
    for hit in hits:
        record = hit.record
        groups.setdefault((record.camera, record.track) if record.track else record.id, []).append(hit)
    return list(groups.values())
