"""One column of a gallery in a file: rows of numbers, with the checksums of its blocks in the store."""

from __future__ import annotations

import io
import mmap
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from regard.gallery.store import Store
from regard.storage import open_regular, refuse_shared

__all__ = ["BLOCK", "Column", "fits", "sums_of", "write_at"]

BLOCK = 2**20
"""Bytes of one checksum."""


class Column:
    """Rows of numbers in a file: appended at its end, blanked in its middle, read through a memory map.

    A write that the disk refuses is an error of the write, and not a fault in the middle of a search. Readers hold what
    was there when they asked; rows that are added later, or a file that is removed, change nothing for them.

    Args:
        path: the file; made by the first :meth:`append` when it is missing.
        dtype: of the numbers.
        width: numbers of a row; None for plain numbers.
        scattered: searches read rows here and there, so that what lies around one is not worth reading with it.

    Attributes:
        length: rows of :attr:`all`.
    """

    def __init__(self, path: Path, dtype: str, width: int | None = None, *, scattered: bool = False):
        self.path, self._name = path, str(path)
        self.length = 0
        self._scattered = scattered
        self._dtype, self._shape = np.dtype(dtype), () if width is None else (width,)
        self._size = self._dtype.itemsize * (1 if width is None else width)
        self._map = np.empty((0, *self._shape), self._dtype)

    def written(self, store: Store, db: sqlite3.Connection) -> int:
        """Rows of the file that the store knows of."""
        block, size, _ = store.last_block(db, self.path.name)
        return (block * BLOCK + size) // self._size

    def append(self, store: Store, db: sqlite3.Connection, values: np.ndarray) -> None:
        """Write rows behind those that the store knows of, and let it know of these.

        Raises:
            OSError: the disk refused.
        """
        left = np.ascontiguousarray(values, self._dtype).reshape(-1).view(np.uint8).data
        if not left:
            return
        block, size, total = store.last_block(db, self.path.name)
        write_at(self.path, block * BLOCK + size, left)
        changed = []
        while left:
            if size == BLOCK:
                block, size, total = block + 1, 0, 0
            part, left = left[: BLOCK - size], left[BLOCK - size :]
            size, total = size + len(part), crc32(part, total)
            changed.append((block, size, total))
        store.set_blocks(db, self.path.name, changed)

    def blank(self, store: Store, db: sqlite3.Connection, rows: np.ndarray, value: int = 0) -> None:
        """Overwrite some of the rows, given in order, byte by byte with a value.

        Raises:
            OSError: the disk refused.
        """
        rows = rows[rows < self.written(store, db)]
        if not len(rows):
            return
        for first, last in runs(rows):
            write_at(self.path, first * self._size, bytes([value]) * ((last - first) * self._size))
        touched = np.unique(np.concatenate([rows * self._size, (rows + 1) * self._size - 1]) // BLOCK)
        sizes = dict(enumerate(size for size, _ in store.blocks_of(db, self.path.name)))
        with open_regular(self.path) as file:
            changed = []
            for block in touched.tolist():
                file.seek(block * BLOCK)
                changed.append((block, sizes[block], crc32(file.read(sizes[block]))))
        store.set_blocks(db, self.path.name, changed)

    def fits(self) -> bool:
        """Whether the file is as long as what is mapped of it."""
        return not len(self._map) or os.stat(self._name).st_size >= self._map.nbytes  # noqa: PTH116, asked by every search

    @property
    def all(self) -> np.ndarray:
        """Every row, mapped and not copied; never write to it."""
        if len(self._map) != self.length:
            shape = (self.length, *self._shape)
            mapped = np.memmap(self.path, self._dtype, mode="c", shape=shape)
            if self._scattered and (advise := getattr(getattr(mapped, "_mmap", None), "madvise", None)):
                advise(getattr(mmap, "MADV_RANDOM", 0))
            self._map = np.asarray(mapped)
        return self._map


def runs(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """First row and the one behind the last of every unbroken run of rows in order."""
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    for some in np.split(rows, breaks):
        yield int(some[0]), int(some[-1]) + 1


def write_at(path: Path, place: int, data: Any) -> None:
    """Write bytes to a place of a file, which is made where it is missing, its owner's alone.

    Raises:
        OSError: the disk refused; the file may hold a part of them.
    """
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with io.FileIO(os.open(path, flags, 0o600), "w") as file:
        refuse_shared(file.fileno(), path)
        file.seek(place)
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]


def sums_of(path: Path) -> list[tuple[int, int, int]]:
    """Number, size and checksum of every block of a file."""
    with open_regular(path) as file:
        blocks = iter(lambda: file.read(BLOCK), b"")
        return [(number, len(data), crc32(data)) for number, data in enumerate(blocks)]


def fits(path: Path, blocks: Sequence[tuple[int, int]]) -> bool:
    """Whether a file holds what the sizes and checksums of its blocks say, whatever lies behind that."""
    try:
        with open_regular(path, follow=False) as file:
            for size, total in blocks:
                data = file.read(size)
                if len(data) != size or crc32(data) != total:
                    return False
        return True
    except OSError:
        return False
