"""An array in a file: it grows at its end, is read through a memory map, and knows its checksum.

A write that the disk refuses is an error of the write, and not a fault in the middle of a search. Readers hold what was
there when they asked; rows that are added later, or a file that is removed, change nothing for them.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np

__all__ = ["Rows", "checksum"]


class Rows:
    """Rows of numbers in a file.

    Args:
        path: the file; made by the first :meth:`append` when it is missing.
        dtype: of the numbers.
        width: numbers of a row; None for plain numbers.

    Attributes:
        checksum: size and CRC-32 of the file's bytes.
    """

    def __init__(self, path: Path, dtype: str, width: int | None = None):
        self.path = path
        self.checksum = checksum(path) if path.exists() else [0, 0]
        self._dtype, self._shape = np.dtype(dtype), () if width is None else (width,)
        self._length = self.checksum[0] // (self._dtype.itemsize * (1 if width is None else width))
        self._map = np.empty((0, *self._shape), self._dtype)
        self._file: io.FileIO | None = None

    def __len__(self) -> int:
        return self._length

    def append(self, values: np.ndarray) -> None:
        """Add rows at the end.

        Raises:
            OSError: the disk refused; the file may hold a part of them.
        """
        data = np.ascontiguousarray(values, self._dtype)
        left = data.reshape(-1).view(np.uint8).data
        size, crc = self.checksum
        self.checksum = [size + len(left), zlib.crc32(left, crc)]
        if self._file is None:
            self._file = io.FileIO(self.path, "a")
        while left:
            left = left[self._file.write(left) :]
        self._length += len(data)

    @property
    def all(self) -> np.ndarray:
        """Every row, mapped and not copied; never write to it."""
        if len(self._map) != self._length:
            shape = (self._length, *self._shape)
            self._map = np.asarray(np.memmap(self.path, self._dtype, mode="c", shape=shape))
        return self._map

    def close(self) -> None:
        """Let go of the file; what is mapped stays readable for whoever holds it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def checksum(path: Path) -> list[int]:
    """Size and CRC-32 of a file."""
    size = value = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            size, value = size + len(block), zlib.crc32(block, value)
    return [size, value]
