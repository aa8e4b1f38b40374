"""The small protocol every gallery engine speaks, embedded or server.

Shapes: Q queries, D descriptor length.

An engine keeps items (record, descriptor of length 1, thumbnail), finds the most similar ones among those a filter
accepts, and answers for durability: what :meth:`Engine.add` returned from is there after a crash, and nothing is half
there. One suite, ``tests/gallery/test_engines.py``, runs on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from regard.gallery.record import Filter, Hit, Item, Record

__all__ = ["Engine"]


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
        """Remove items with descriptors, thumbnails and index entries; the number that was there."""
        ...

    def get(self, ids: Sequence[str]) -> list[Item]:
        """Items by id, in order, without thumbnails; unknown ids are left out."""
        ...

    def scan(self, filter: Filter, after: str | None = None, limit: int = 1000) -> list[Record]:
        """Records in order of id, those behind ``after``."""
        ...

    def search(self, vectors: np.ndarray, k: int, filter: Filter, *, exact: bool = True) -> list[list[Hit]]:
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
