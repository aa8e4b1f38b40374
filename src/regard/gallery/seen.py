"""Whether what was read from the files that searches read is what the store has, for the few rows that are answered.

The files are checked when they are opened. A bit that changes afterwards, while they are mapped, is found where it
would matter: before rows are answered, their ids, descriptors and what a filter asked for are compared with the store's
checksums and records. So such a bit can cost a candidate, and never answers a wrong score or a wrong picture.

Shapes: R rows, D descriptor length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

from regard.gallery.columns import View
from regard.gallery.record import Filter, Record
from regard.gallery.store import Known

__all__ = ["Seen", "agree", "see"]


class Seen(NamedTuple):
    """Rows as they lay in the files.

    Attributes:
        numbers: of the rows in the store.
        keys: their ids, 16 bytes each.
        vectors: (R, D) float32; None where they were not asked for.
    """

    numbers: list[int]
    keys: bytes
    vectors: np.ndarray | None

    def fits(self, known: Sequence[Known], totals: dict[int, int]) -> bool:
        """Whether they are what the store knows.

        Args:
            known: of each row.
            totals: number -> sum of the words of a descriptor whose checksum held, quicker to compare; is added to.
        """
        if b"".join([each.id for each in known]) != self.keys:
            return False
        if self.vectors is None or not len(known):
            return True
        sums = words(self.vectors).sum(1).tolist()
        for number, sum, vector, each in zip(self.numbers, sums, self.vectors, known):
            kept = totals.get(number)
            if kept is None and crc32(vector, crc32(each.id)) == each.sum:
                kept = totals[number] = sum
            if kept != sum:
                return False
        return True


def words(vectors: np.ndarray) -> np.ndarray:
    """(R, W) descriptors in words whose sum tells of every bit that changes."""
    return vectors.view(np.uint32).astype(np.uint64) if vectors.shape[1] % 2 else vectors.view(np.uint64)


def see(view: View, rows: np.ndarray, *, described: bool) -> Seen:
    """What a table has of some rows."""
    coded = view.coded
    vectors = np.ascontiguousarray(coded.vectors[rows]) if described else None
    return Seen(view.numbers[rows].tolist(), coded.keys[rows].tobytes(), vectors)


def agree(filter: Filter, records: Sequence[Record]) -> bool:
    """Whether a filter accepts all of these records, for what it asks of them but ids."""
    for name, allowed in (("camera", filter.cameras), ("track", filter.tracks), ("person", filter.persons)):
        if allowed is not None and not {getattr(record, name) for record in records}.issubset(allowed):
            return False
    if filter.not_cameras and not {record.camera for record in records}.isdisjoint(filter.not_cameras):
        return False
    if filter.since is not None or filter.until is not None:
        first, end = (
            (-np.inf if filter.since is None else filter.since),
            (np.inf if filter.until is None else filter.until),
        )
        if not all(record.time is not None and first <= record.time < end for record in records):
            return False
    return all(
        record.attributes.get(name) in values for name, values in filter.attributes.items() for record in records
    )
