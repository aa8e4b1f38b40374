"""Contents, not places: what tells whether a file is still the one something was made from.

A path, a size and a time of change say where a picture lay and when; a picture that is overwritten in place can keep
all three. Whatever is kept for later - descriptors in a gallery, a pack of labels, decoded pictures, distances, the
list a run was trained on - is therefore bound to the bytes themselves, and is stale exactly where the bytes differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from regard.parsing import parse_json
from regard.storage import open_regular
from regard.structures import Sample

__all__ = [
    "bytes_digest", "file_digest", "files_digest", "samples_digest", "stream_digest", "tensors_digest",
    "values_digest",
]  # fmt: skip

LENGTH = 16
"""Bytes of a digest, twice as many hexadecimal digits: two different files share one by chance in 2^64 files."""


def bytes_digest(content: bytes | memoryview) -> str:
    """Digest of a file's content that is in memory: 32 hexadecimal digits, equal to :func:`file_digest` of the file."""
    return hashlib.blake2b(content, digest_size=LENGTH).hexdigest()


def file_digest(path: Path | str) -> str:
    """Digest of a file's content: 32 hexadecimal digits of BLAKE2b (RFC 7693).

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        return stream_digest(file)


def stream_digest(file: IO[bytes]) -> str:
    """Digest of what an open file holds from where it stands to its end."""
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=LENGTH)).hexdigest()  # pyright: ignore[reportArgumentType]


def values_digest(content: Mapping[str, Any]) -> str:
    """Digest of plain values as JSON has them, in any order; what they hold as ``digest`` itself does not count."""
    counted = {key: value for key, value in content.items() if key != "digest"}
    return bytes_digest(json.dumps(counted, sort_keys=True).encode())


def tensors_digest(content: bytes | memoryview, without: tuple[str, ...] = ()) -> str:
    """Digest of the tensors in a safetensors file, whatever their order, the metadata and the padding of its header.

    Tensors count by name, in order of names, with shape and values. Values in half or double precision count as the
    float32 that a network gets from them, so that a network saved again in float32 stays itself.

    Args:
        content: of the file.
        without: leave out tensors of these parts: those called so, or so with a dot behind it.

    Returns:
        32 hexadecimal digits.

    Raises:
        ValueError: it is no such file, or not whole.
    """
    view = memoryview(content)
    start = 8 + int.from_bytes(view[:8], "little")
    if len(view) < 8 or start > len(view):
        raise ValueError("cut short")
    header = parse_json(bytes(view[8:start]))
    header.pop("__metadata__", None)
    digest = hashlib.blake2b(digest_size=LENGTH)
    for name in sorted(header):
        if any(f"{name}.".startswith(f"{part}.") for part in without):
            continue
        kind, shape = header[name]["dtype"], header[name]["shape"]
        first, end = (start + place for place in header[name]["data_offsets"])
        if end > len(view):
            raise ValueError("cut short")
        values = view[first:end]
        if kind in AS_FLOAT:
            with np.errstate(over="ignore"):
                kind, values = "F32", AS_FLOAT[kind](values).data.cast("B")
        digest.update(json.dumps([name, kind, shape]).encode())
        digest.update(values)
    return digest.hexdigest()


AS_FLOAT: dict[str, Callable[[memoryview], np.ndarray]] = {
    "F16": lambda values: np.frombuffer(values, "<f2").astype("<f4"),
    "BF16": lambda values: (np.frombuffer(values, "<u2").astype("<u4") << 16).view("<f4"),
    "F64": lambda values: np.frombuffer(values, "<f8").astype("<f4"),
}
"""Type of a safetensors tensor -> its values in float32, (n,)."""


def files_digest(paths: Iterable[Path]) -> str:
    """Digest of the contents of files, in order, whatever they are called: 32 hexadecimal digits.

    Raises:
        OSError: one cannot be read.
    """
    return bytes_digest("".join(map(file_digest, paths)).encode())


def samples_digest(samples: Iterable[Sample], root: Path | None = None) -> str:
    """Digest of a list of samples: who, which camera and which pixels, in order.

    Args:
        samples: the list.
        root: folder that the paths are taken relative to, so that a list that has moved as a whole stays itself; a path
            outside it counts as it is.

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: a picture cannot be read.
    """
    lines = []
    for sample in samples:
        path = Path(sample.path)
        place = path.relative_to(root) if root is not None and path.is_relative_to(root) else path
        lines.append(f"{place.as_posix()}\0{sample.pid}\0{sample.camid}\0{file_digest(path)}\n")
    return bytes_digest("".join(lines).encode(errors="surrogateescape"))
