"""Pictures kept as a NumPy array (``.npy``): the header is read here, byte by byte, and nothing is ever unpickled.

Read are (H, W, 3), and (3, H, W) as tensors lie, of uint8, or of real numbers from 0 to 1.

Shapes: H x W pixels.
"""

from __future__ import annotations

import math
import re
import struct
from typing import NamedTuple

import numpy as np

from regard.errors import DataError

__all__ = ["ArrayHeader", "pixels_of", "read_array_header"]

MAX_HEADER = 4096
"""Bytes of a header; one of three axes takes 118."""

FIELDS = re.compile(
    r"\{'descr': '(?P<type>[<>|=]?\w{1,8})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[\d, ]{0,64})\), ?\}\s*"
)
"""The one form in which NumPy writes a header of plain numbers (numpy.lib.format); no other is read."""

TYPES = {"u1": "u1", "f2": "f2", "f4": "f4", "f8": "f8"}

WANTED = "expected (H, W, 3) or (3, H, W) of uint8, or of real numbers from 0 to 1; save it so"


class ArrayHeader(NamedTuple):
    """What an array claims.

    Attributes:
        height, width: H and W.
        first: whether the three colors are the first axis, not the last.
        shape: of the array.
        dtype: of its numbers.
        fortran: whether the first axis is the fastest.
        start: byte at which the numbers begin.
    """

    height: int
    width: int
    first: bool
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    start: int


def read_array_header(content: bytes, name: str) -> ArrayHeader:
    """What the header of a ``.npy`` file says, where that is a picture.

    Args:
        content: the bytes of the file, which begin as one.
        name: what to call it in an error.

    Raises:
        DataError: the header is damaged or too large, or of no picture: objects, records, another type or shape.
    """
    form = {1: "<H", 2: "<I", 3: "<I"}.get(content[6]) if len(content) > 6 else None
    try:
        if form is None:
            raise DataError(f"{name} is a NumPy array of an unknown version, expected 1 to 3; save it again")
        (length,) = struct.unpack_from(form, content, 8)
    except struct.error:
        raise DataError(f"{name} is damaged (it ends too early), expected a complete array; save it again") from None
    start = 8 + struct.calcsize(form) + length
    if length > MAX_HEADER:
        raise DataError(f"{name} has a header of {length:,} bytes, expected {MAX_HEADER:,} at most; save it again")
    found = FIELDS.fullmatch(content[8 + struct.calcsize(form) : start].decode("latin-1"))
    if found is None or "O" in found["type"]:
        what = "Python objects" if found else "no plain numbers"
        raise DataError(f"{name} is a NumPy array of {what}, which is never opened, {WANTED}")
    kind, order = found["type"].lstrip("<>|="), ">" if found["type"].startswith(">") else "<"
    if kind not in TYPES:
        raise DataError(f"{name} is a NumPy array of {found['type']}, {WANTED}")
    shape = tuple(int(size) for size in re.findall(r"\d+", found["shape"]))
    if len(shape) != 3 or (shape[0] == 3) == (shape[2] == 3):
        which = " and may be either of two pictures" if len(shape) == 3 and shape[0] == 3 else ""
        raise DataError(f"{name} is a NumPy array of shape {shape}{which}, {WANTED}")
    first = shape[0] == 3
    height, width = shape[1:] if first else shape[:2]
    return ArrayHeader(height, width, first, shape, np.dtype(order + kind), found["fortran"] == "True", start)


def pixels_of(content: bytes, header: ArrayHeader, name: str) -> np.ndarray:
    """The picture itself; real numbers are rounded to the nearest of 256 levels.

    Args:
        content: the bytes of the file.
        header: what it says, of a size that has been checked.
        name: what to call it in an error.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: there are fewer or more numbers than claimed, or one is not from 0 to 1.
    """
    there, wanted = len(content) - header.start, math.prod(header.shape) * header.dtype.itemsize
    if there != wanted:
        raise DataError(f"{name} holds {there:,} bytes of numbers, expected {wanted:,}; save the array again")
    values = np.frombuffer(content, header.dtype, offset=header.start)
    values = values.reshape(header.shape, order="F" if header.fortran else "C")
    values = np.moveaxis(values, 0, 2) if header.first else values
    if header.dtype.kind == "f":
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):  # also where one is no number
            raise DataError(f"{name} holds numbers from {low:g} to {high:g}, expected 0 to 1, or uint8; scale them")
        values = np.rint(values.astype(np.float32) * 255)
    return np.array(values, np.uint8, order="C")
