"""Contents, not places: what tells whether a file is still the one something was made from.

A path, a size and a time of change say where a picture lay and when; a picture that is overwritten in place can keep
all three. Whatever is kept for later - descriptors in a gallery, a pack of labels, decoded pictures, distances, the
list a run was trained on - is therefore bound to the bytes themselves, and is stale exactly where the bytes differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from regard.structures import Sample

__all__ = ["bytes_digest", "file_digest", "samples_digest"]

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
    with open(path, "rb") as file:  # noqa: PTH123 - a name may be text or a path
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=LENGTH)).hexdigest()


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
    digest = hashlib.blake2b(digest_size=LENGTH)
    for sample in samples:
        path = Path(sample.path)
        place = path.relative_to(root) if root is not None and path.is_relative_to(root) else path
        line = f"{place.as_posix()}\0{sample.pid}\0{sample.camid}\0{file_digest(path)}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
