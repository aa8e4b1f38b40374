"""Checkpoints of MindSpore (``.ckpt``), read from their bytes: without the framework, and without running anything.

A file is a protobuf message, written one tensor after another::

    Checkpoint      repeated Value value = 1
    Value           string tag = 1, then TensorProto tensor = 2 or MapTensorProto maptensor = 3
    TensorProto     repeated int64 dims = 1, string tensor_type = 2, bytes tensor_content = 3

A tensor above 512 MB lies in several values of one tag in a row, each with the dimensions of the whole. A scalar has no
dimensions, in older files a single 0. ``crc_num`` and the checksum of all bytes before it may close the file; it is
held against them whenever it is there.

Files may come from anywhere, so nothing in them is believed: a first pass over the structure, which steps over the
numbers, checks every length, name, type and dimension, and only then a tensor is made, as large as its bytes in the
file. A message that lies in the file twice, an unknown field or a name twice is refused rather than guessed at.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from regard.errors import CheckpointError
from regard.storage import open_regular

__all__ = ["is_mindspore", "read_mindspore"]

SUFFIX = ".ckpt"

NAMES = (
    "Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64",
    "Float16", "Float32", "Float64", "BFloat16", "Complex64", "Complex128",
)  # fmt: skip
TYPES: dict[str, torch.dtype] = {name: getattr(torch, name.lower()) for name in NAMES}
"""MindSpore's name of a type -> torch's; numbers lie in the file as little-endian processors hold them."""

TEXT = "str"
"""Type of a text that a training put beside its weights, four bytes a character; read as ``int32`` code points."""

CIPHERS = {b"\xd8\x5e\x3a\x7f": "AES-GCM", b"\xd9\x5e\x3a\x7f": "AES-CBC", b"\xda\x5e\x3a\x7f": "SM4-CBC"}
"""First bytes of an encrypted file -> how it was encrypted."""

OF_TORCH = (b"PK\x03\x04", b"\x80")
"""First bytes of torch's files, which other toolkits also call ``.ckpt``."""

CHECKSUM, CHECKSUM_BYTES = b"crc_num", 10
VARINT, BYTES = 0, 2
"""The two of protobuf's wire types that a checkpoint has."""

MAX_VARINT = 10
"""Bytes of a number of 64 bits."""

MAX_VALUES = 1 << 16
"""Values in a file; a ResNet-50 with its optimizer has about 500."""

MAX_NAME = 1024
"""Bytes of a name."""

MAX_DIMS = 32
"""Dimensions of a tensor; MindSpore has up to 8."""

MAX_SHOWN = 80
"""Characters of a name that an error shows."""

CHUNK = 1 << 20
"""Bytes that a checksum reads at once."""


class _Fault(Exception):
    """What is wrong with a file, and what may put it right."""

    def __init__(self, fault: str, remedy: str = "copy or download it again"):
        super().__init__(fault)
        self.remedy = remedy


class _Slice(NamedTuple):
    """Where the numbers of a tensor, or of a part of it, lie in the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    content: _Message


def is_mindspore(path: Path) -> bool:
    """Return whether a file is to be read as a checkpoint of MindSpore: by its first bytes, or by its suffix."""
    with open_regular(path) as file:
        head = file.read(4)
    return head.startswith(b"\n") or head in CIPHERS or (path.suffix == SUFFIX and not head.startswith(OF_TORCH))


def read_mindspore(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint that ``mindspore.save_checkpoint`` wrote, on the CPU, under its names.

    Args:
        path: the file, neither encrypted nor with hash tables (MapParameter) in it.

    Raises:
        CheckpointError: it is damaged, not such a file, or holds what is not read.
        OSError: it cannot be opened.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            size = _checked_size(file)
            slices = _slices(_Message(file, 0, size))
            return {name: _tensor(name, list(parts), size) for name, parts in groupby(slices, key=attrgetter("name"))}
    except _Fault as fault:
        raise CheckpointError(f"{path} is no MindSpore checkpoint that can be read: {fault}; {fault.remedy}") from None


class _Message:
    """A protobuf message, or another run of bytes in a file.

    Args:
        file: open for reading.
        start, end: places in it.
    """

    def __init__(self, file: BufferedReader, start: int, end: int):
        self.file, self.start, self.end = file, start, end
        self.place = start

    def __len__(self) -> int:
        return self.end - self.start

    def varint(self) -> int:
        """Read an unsigned number of up to 64 bits, seven in a byte, the lowest first."""
        self.file.seek(self.place)
        number = 0
        for count, byte in enumerate(self.file.read(min(MAX_VARINT, self.end - self.place))):
            number |= (byte & 0x7F) << 7 * count
            if byte < 0x80 and number < 1 << 64:
                self.place += count + 1
                return number
        fault = "is cut off" if self.end - self.place < MAX_VARINT else "has more than 64 bits"
        raise _Fault(f"the number at byte {self.place:,} {fault}")

    def fields(self) -> Iterator[tuple[int, int | _Message]]:
        """Read the fields one after another: their number, and a number or the bytes."""
        while self.place < self.end:
            start = self.place
            field, wire = divmod(self.varint(), 8)
            if wire == VARINT:
                yield field, self.varint()
            elif wire == BYTES:
                length = self.varint()
                if length > self.end - self.place:
                    raise _Fault(
                        f"the field at byte {start:,} claims {length:,} bytes where {self.end - self.place:,} are left"
                    )
                self.place += length
                yield field, _Message(self.file, self.place - length, self.place)
            else:
                raise _Fault(f"the field at byte {start:,} is none of a checkpoint's (field {field}, wire type {wire})")

    def parts(self, **most: int) -> dict[str, list[int | _Message]]:
        """Read all fields, of which there are ``most`` in the order of their numbers: name -> how often at most."""
        found: dict[str, list[int | _Message]] = {name: [] for name in most}
        for field, content in self.fields():
            if not 1 <= field <= len(found):
                raise _Fault(f"the message at byte {self.start:,} has a field {field}, which no checkpoint has")
            name = list(found)[field - 1]
            if len(found[name]) == most[name]:
                raise _Fault(f"the message at byte {self.start:,} has {name} more than {most[name]} times")
            found[name].append(content)
        return found

    def text(self, what: str) -> str:
        """Read a short text that can be printed."""
        if not 0 < len(self) <= MAX_NAME:
            raise _Fault(f"the {what} at byte {self.start:,} has {len(self):,} bytes, wanted 1 to {MAX_NAME:,}")
        self.file.seek(self.start)
        try:
            text = self.file.read(len(self)).decode()
        except UnicodeDecodeError:
            raise _Fault(f"the {what} at byte {self.start:,} is no UTF-8") from None
        if not text.isprintable():
            raise _Fault(f"the {what} at byte {self.start:,} has characters that cannot be printed")
        return text


def _checked_size(file: BufferedReader) -> int:
    """Bytes of the message: those before the checksum, which is right, or of the whole file."""
    size = file.seek(0, 2)
    file.seek(0)
    if (head := file.read(4)) in CIPHERS:
        raise _Fault(
            f"it is encrypted ({CIPHERS[head]})", "load it with its key in MindSpore and save it without enc_key"
        )
    length = len(CHECKSUM) + CHECKSUM_BYTES
    file.seek(max(0, size - length))
    mark, written = (tail := file.read(length))[: len(CHECKSUM)], tail[len(CHECKSUM) :]
    if mark != CHECKSUM:
        return size
    size -= length
    file.seek(0)
    checksum, left = 0, size
    while left and (chunk := file.read(min(left, CHUNK))):
        checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
    if checksum != int.from_bytes(written, "big"):
        raise _Fault("it was changed since it was written (its checksum is another)")
    return size


def _slices(checkpoint: _Message) -> list[_Slice]:
    """Where the tensors lie, in the order of the file; the parts of one tensor lie together."""
    slices: list[_Slice] = []
    for field, value in checkpoint.fields():
        if field != 1 or not isinstance(value, _Message):
            raise _Fault(f"it has a field {field} beside its tensors, which no checkpoint has")
        if len(slices) == MAX_VALUES:
            raise _Fault(f"it holds more than {MAX_VALUES:,} values", "give the checkpoint of a network")
        slices.append(_slice(value))
    places = Counter(name for name, _ in groupby(slices, key=attrgetter("name")))
    twice = [name for name, count in places.items() if count > 1]
    if twice:
        raise _Fault(f"it holds {_shown(twice[0])} in {places[twice[0]]} places")
    if not places:
        raise _Fault("it holds no tensor", "give the file that mindspore.save_checkpoint wrote")
    return slices


def _slice(value: _Message) -> _Slice:
    """Read one value but for its numbers."""
    parts = value.parts(tag=1, tensor=1, maptensor=1)
    name = _one(parts["tag"], "tag", value).text("name")
    if parts["maptensor"]:
        raise _Fault(f"{_shown(name)} is a hash table (MapParameter), no tensor", "save the network without it")
    tensor = _one(parts["tensor"], "tensor", value)
    parts = tensor.parts(dims=MAX_DIMS, tensor_type=1, tensor_content=1)
    kind = _one(parts["tensor_type"], "tensor_type", tensor).text("type")
    if kind != TEXT and kind not in TYPES:
        raise _Fault(
            f"{_shown(name)} is of type {_shown(kind)}, which is not read",
            f"save it as one of {', '.join(TYPES)}",
        )
    dims = _numbers(parts["dims"], name)
    shape = tuple(dim - (1 << 64) if dim >> 63 else dim for dim in dims)  # protobuf's int64
    if any(dim < 0 for dim in shape):
        raise _Fault(f"{_shown(name)} has a dimension of {min(shape)}")
    return _Slice(name, kind, shape, _one(parts["tensor_content"], "tensor_content", tensor))


def _one(parts: list[int | _Message], what: str, message: _Message) -> _Message:
    """The bytes of a field that a message has once."""
    if not parts or not isinstance(parts[0], _Message):
        raise _Fault(f"the message at byte {message.start:,} has no {what}")
    return parts[0]


def _numbers(parts: list[int | _Message], name: str) -> list[int]:
    """Numbers of a repeated field, each by itself or packed into one run of bytes."""
    numbers: list[int] = []
    for part in parts:
        if isinstance(part, int):
            numbers.append(part)
            continue
        while part.place < part.end and len(numbers) <= MAX_DIMS:
            numbers.append(part.varint())
    if len(numbers) > MAX_DIMS:
        raise _Fault(f"{_shown(name)} has more than {MAX_DIMS} dimensions")
    return numbers


def _tensor(name: str, slices: list[_Slice], size: int) -> Tensor:
    """Read a tensor from its parts.

    Args:
        name: of the tensor.
        slices: at least one.
        size: bytes of the file that hold messages.
    """
    _, kind, shape, first = slices[0]
    if any((part.kind, part.shape) != (kind, shape) for part in slices):
        raise _Fault(f"{_shown(name)} comes in parts of several types or dimensions")
    bytes_of_all = sum(len(part.content) for part in slices)
    dtype = torch.int32 if kind == TEXT else TYPES[kind]
    if kind == TEXT and shape == (0,):
        shape = (bytes_of_all // dtype.itemsize,)
    elif shape == (0,) and bytes_of_all == dtype.itemsize:
        shape = ()
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != bytes_of_all or math.prod(max(dim, 1) for dim in shape) > max(size, 1 << 31):
        raise _Fault(
            f"{_shown(name)} has {bytes_of_all:,} bytes of numbers, and {kind} of {shape} would have {wanted:,}"
        )
    data = torch.empty(wanted, dtype=torch.uint8)
    view, place = data.numpy().data, 0
    for part in slices:
        first.file.seek(part.content.start)
        read = first.file.readinto(view[place : place + len(part.content)])
        if read != len(part.content):
            raise _Fault(f"{_shown(name)} is cut off, the file became shorter while it was read")
        place += read
    if dtype == torch.bool and wanted and int(data.max()) > 1:
        raise _Fault(f"{_shown(name)} is Bool and holds {int(data.max())}")
    return data.view(dtype).reshape(shape)


def _shown(text: str) -> str:
    """A name for an error."""
    return repr(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…")
