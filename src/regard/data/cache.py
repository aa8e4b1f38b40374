"""Decoded training pictures, kept so that no epoch decodes them again.

Shapes: n pictures, h x w pixels of a stored one.

Person crops are small: the 12,936 training crops of Market-1501 are 318 MB of pixels. All of them are decoded once, in
order, into a file that every loader process maps: once read, it is memory that the system keeps. Pixels are those of
:func:`~regard.data.image.read_image`, so batches are the same with and without: a file is bound to the contents of the
pictures it was made from, and holds a digest of its own, which is checked when it is opened.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regard.data.image import read_image
from regard.errors import StorageError
from regard.fingerprint import files_digest, stream_digest
from regard.structures import Sample

__all__ = ["PictureCache", "cache_file", "open_cache"]

MAGIC = b"regard pictures 3\n"
DIGEST = 32
"""Bytes of each of the two digests behind the mark: of the pictures' files, and of what follows."""

HEAD = len(MAGIC) + 2 * DIGEST


class PictureCache:
    """Decoded pictures by position.

    Args:
        file: where they are kept.
        count: how many there are.
    """

    def __init__(self, file: Path, count: int):
        self.file = file
        self.places = np.fromfile(file, np.int64, 3 * count, offset=HEAD).reshape(-1, 3)
        start = header_size(count)
        empty = file.stat().st_size == start
        self.pixels = np.empty(0, np.uint8) if empty else np.memmap(file, np.uint8, "c", offset=start)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8 picture; what is written to it stays in memory."""
        start, height, width = self.places[index].tolist()
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def __reduce__(self) -> tuple[type[PictureCache], tuple[Path, int]]:
        """What goes to a process that is not forked: the file's name."""
        return PictureCache, (self.file, len(self))


def open_cache(samples: Sequence[Sample], folder: Path) -> PictureCache:
    """Map the file of decoded pictures into memory; it is written first where it is missing, damaged or out of date.

    Args:
        samples: whose pictures it holds.
        folder: where the file lies.

    Raises:
        DataError: a picture cannot be read.
        StorageError: the disk refused the file.
    """
    file, digest = cache_file(samples, folder), fingerprint(samples)
    if not fits(file, digest, len(samples)):
        write_pictures(file, digest, samples)
    return PictureCache(file, len(samples))


def cache_file(samples: Sequence[Sample], folder: Path) -> Path:
    """The file that keeps these pictures: its name follows from their paths."""
    names = hashlib.sha256("\0".join(str(sample.path) for sample in samples).encode(errors="surrogateescape"))
    return folder / f"pictures-{names.hexdigest()[:16]}.bin"


def fingerprint(samples: Sequence[Sample]) -> bytes:
    """Digest of the contents of all pictures' files.

    Raises:
        DataError: a file is not there.
    """
    try:
        return files_digest(sample.path for sample in samples).encode()
    except OSError as error:
        if error.filename is not None:
            read_image(Path(error.filename))  # says what is wrong with it
        raise


def fits(file: Path, digest: bytes, count: int) -> bool:
    """Whether a file was made from pictures with that fingerprint, and is as it was written."""
    try:
        with file.open("rb") as opened:
            if opened.read(len(MAGIC) + DIGEST) != MAGIC + digest:
                return False
            own = opened.read(DIGEST)
            return file.stat().st_size >= header_size(count) and own == stream_digest(opened).encode()
    except OSError:
        return False


def write_pictures(file: Path, digest: bytes, samples: Sequence[Sample]) -> None:
    """Decode all pictures into a file that gets its name only when it is whole.

    Raises:
        DataError: a picture cannot be read.
        StorageError: the disk refused.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    places, start = np.zeros((len(samples), 3), np.int64), header_size(len(samples))
    try:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w+b") as opened:
                opened.write(bytes(start))
                for place, sample in zip(places, samples):
                    picture = np.ascontiguousarray(read_image(sample.path))
                    place[:] = opened.tell() - start, *picture.shape[:2]
                    opened.write(picture.data)
                opened.seek(HEAD)
                opened.write(places.tobytes())
                opened.seek(HEAD)
                own = stream_digest(opened)
                opened.seek(0)
                opened.write(MAGIC + digest + own.encode())
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"could not write the picture cache {file}: {error.strerror or error}; make room, name another folder "
            "(data.cache_folder) or leave data.cache out"
        ) from error


def header_size(count: int) -> int:
    """Bytes before the first pixel: mark, digests, places, and what rounds it up to whole pages."""
    return -(-(HEAD + count * 24) // 4096) * 4096
