"""Lists of whole numbers from MATLAB 5 files, of which nothing is believed: every length is held against the bytes.

A file is a header of 128 bytes and elements, each a tag (kind, bytes) and its content; a variable is an element of
elements: flags, dimensions, name, values. MATLAB stores whole numbers in the smallest type that takes them, whatever
the class of the variable, and packs every variable by zlib (MAT-File Format, The MathWorks, level 5).

Shapes: n numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from regard.data.image import read_bytes
from regard.errors import DataError

__all__ = ["read_numbers"]

MAX_FILE = 1 << 20
"""Bytes of a file; a list of all of Market-1501's gallery has 158 KB at most."""

MAX_UNPACKED = 8 << 20
"""Bytes of all variables of a file, unpacked."""

MAX_ELEMENTS = 64
"""Variables of a file, and parts of one."""

HEADER = 128
MATRIX, PACKED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Kind of an element -> type of its values."""

CLASSES = range(6, 16)
"""Classes of variables that hold numbers; others are text, cells, structures, sparse tables."""

COMPLEX, LOGICAL = 0x0800, 0x0200


def read_numbers(path: Path, name: str) -> np.ndarray:
    """The whole numbers of a variable that is a list.

    Args:
        path: the file.
        name: of the variable; where the file holds a single one, that is taken whatever it is called.

    Returns:
        (n,) int64; an empty list is one of any dimensions with a zero among them.

    Raises:
        DataError: the file is missing, no MATLAB 5 file, damaged, or too large, or holds no such list.
    """
    content = read_bytes(path, MAX_FILE, "MATLAB 5 file")
    try:
        found = dict(variables(content))
        if not found:
            raise ValueError("it holds no variable")
        if name not in found and len(found) > 1:
            raise ValueError(f"it holds {', '.join(map(repr, list(found)[:3]))} and no {name!r}")
        values = found.get(name, next(iter(found.values())))
        if values is None:
            raise ValueError("its variable is no list of real numbers")
        if values.dtype.kind == "f":
            odd = ~(np.isfinite(values) & (np.abs(values) < 1 << 53)) | (values != np.trunc(values))
            if odd.any():
                raise ValueError(f"it holds {values[odd][0]:g}, which is no whole number")
        return values.astype(np.int64)
    except (ValueError, struct.error, zlib.error, UnicodeError) as error:
        reason = "it ends too early" if isinstance(error, struct.error) else str(error)
        raise DataError(
            f"cannot read '{path}' ({reason:.100}), expected a MATLAB 5 file with a list of whole numbers; unpack the "
            "data set again"
        ) from None


def variables(content: bytes) -> Iterator[tuple[str, np.ndarray | None]]:
    """Name and flat values of every variable; None for those that are no list of real numbers.

    Raises:
        ValueError, struct.error, zlib.error: the bytes are no MATLAB 5 file, damaged, or claim too much.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None or struct.unpack_from(f"{order}H", content, 124) != (0x0100,):
        raise ValueError("it has no header of one")
    left = MAX_UNPACKED
    for kind, body in elements(content, HEADER, order):
        if kind == PACKED:
            unpacker = zlib.decompressobj()
            body = unpacker.decompress(body, left)
            left -= len(body)
            if unpacker.unconsumed_tail or left <= 0:
                raise ValueError(f"it unpacks to more than {MAX_UNPACKED >> 20} MB")
            if not unpacker.eof:
                raise ValueError("a packed variable ends too early")
            kind, body = next(elements(body, 0, order), (0, b""))
        if kind == MATRIX:
            name, values = variable(body, order)
            if name:  # what MATLAB keeps for itself has none
                yield name, values


def elements(content: bytes, at: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of every element from a place on.

    Raises:
        ValueError: there are too many, or one claims more than there is.
        struct.error: the bytes end within a tag.
    """
    for _ in range(MAX_ELEMENTS):
        if at >= len(content):
            return
        kind, length = struct.unpack_from(f"{order}II", content, at)
        start, after = at + 8, at + 8 + length + (-length % 8 if kind != PACKED else 0)
        if kind >> 16:  # a small one: its length in the upper half, its content in place of it
            kind, length, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if length > (4 if start == at + 4 else len(content) - start):
            raise ValueError("a part claims more bytes than there are")
        yield kind, content[start : start + length]
        at = after
    raise ValueError(f"it has more than {MAX_ELEMENTS} parts")


def variable(body: bytes, order: str) -> tuple[str, np.ndarray | None]:
    """Name and flat values of one variable.

    Raises:
        ValueError: its parts do not fit each other.
        struct.error: one ends too early.
    """
    parts = list(elements(body, 0, order))
    if len(parts) < 3:
        raise ValueError("a variable lacks flags, dimensions or name")
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    sizes = np.frombuffer(parts[1][1], f"{order}i4").astype(object)
    name = parts[2][1].decode("ascii")
    if (flags & 0xFF) not in CLASSES or flags & (COMPLEX | LOGICAL) or len(parts) != 4 or parts[3][0] not in NUMBERS:
        return name, None
    values = np.frombuffer(parts[3][1], f"{order}{NUMBERS[parts[3][0]]}")
    if len(sizes) < 2 or (sizes < 0).any() or np.prod(sizes) != len(values):
        raise ValueError(f"{' x '.join(map(str, sizes[:4]))} numbers are claimed and {len(values)} there")
    return name, values if not len(values) or max(sizes) == len(values) else None
