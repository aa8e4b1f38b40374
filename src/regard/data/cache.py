"""Decoded training pictures, kept so that no epoch decodes them again.

Shapes: n pictures, h x w pixels of a stored one.

Person crops are small: the 12,936 training crops of Market-1501 are 318 MB of pixels. All of them are decoded once, in
order, into one block of bytes that every loader process shares: a file that is mapped into memory, or shared memory.
Pixels are those of :func:`~regard.data.image.read_image`, so batches are the same with and without: a file is bound to
the contents of the pictures it was made from, and holds a digest of its own, which is checked when it is opened.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch

from regard.data.image import read_image
from regard.errors import ConfigError, StorageError, check_choice
from regard.fingerprint import files_digest, stream_digest
from regard.structures import Sample

__all__ = ["CacheKind", "PictureCache", "cache_file", "cache_on_disk", "open_cache"]

CacheKind = Literal["none", "ram", "disk"]

MAGIC = b"regard pictures 2\n"
DIGEST = 32
"""Bytes of each of the two digests behind the mark: of the pictures' files, and of what follows."""

HEAD = len(MAGIC) + 2 * DIGEST
CHUNK = 64 * 1024 * 1024
"""Bytes of shared memory taken at a time; a picture that is larger takes its own."""

SHARED = Path("/dev/shm")
"""Where Linux keeps shared memory; its size is what containers limit."""


class PictureCache:
    """Decoded pictures by position.

    Args:
        blocks: (bytes,) uint8 arrays or tensors that hold the pixels.
        places: (n, 4) int64: block, first byte, h and w of every picture.
    """

    def __init__(self, blocks: Sequence[np.ndarray | torch.Tensor], places: np.ndarray):
        self.blocks = blocks
        self.places = places
        self._arrays = [np.asarray(block) for block in blocks]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8 picture, a view that must not be written to."""
        block, start, height, width = self.places[index].tolist()
        return self._arrays[block][start : start + height * width * 3].reshape(height, width, 3)

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels."""
        return int((self.places[:, 2] * self.places[:, 3]).sum()) * 3

    def __getstate__(self) -> tuple[Sequence[np.ndarray | torch.Tensor | Path], np.ndarray]:
        """What goes to a process that is not forked: a file's name, or tensors that both processes map."""
        return [Path(str(b.filename)) if isinstance(b, np.memmap) else b for b in self.blocks], self.places

    def __setstate__(self, state: tuple[Sequence[np.ndarray | torch.Tensor | Path], np.ndarray]) -> None:
        blocks, places = state
        self.__init__([map_pixels(b, len(places)) if isinstance(b, Path) else b for b in blocks], places)


def open_cache(kind: CacheKind, samples: Sequence[Sample], folder: Path) -> PictureCache | None:
    """The cache of a training split; None for ``none``.

    Args:
        kind: "ram", "disk" or "none".
        samples: whose pictures it holds.
        folder: where the file of "disk" lies.

    Raises:
        DataError: a picture cannot be read.
        ConfigError: too little shared memory, or no such kind.
        StorageError: the disk refused the file.
    """
    check_choice("the kind of a cache", kind, CacheKind)
    match kind:
        case "ram":
            return cache_in_memory(samples)
        case "disk":
            return cache_on_disk(samples, folder)
        case "none":
            return None


def cache_in_memory(samples: Sequence[Sample]) -> PictureCache:
    """Decode all pictures to shared memory.

    Raises:
        DataError: a picture cannot be read.
        ConfigError: too little shared memory.
    """
    blocks: list[torch.Tensor] = []
    places: list[tuple[int, int, int, int]] = []
    free = 0
    for picture in decode(samples):
        if picture.size > free:
            free = max(CHUNK, picture.size)
            check_room(free, len(places), len(samples))
            blocks.append(torch.empty(free, dtype=torch.uint8).share_memory_())
        start = len(blocks[-1]) - free
        blocks[-1].numpy()[start : start + picture.size] = picture.reshape(-1)
        places.append((len(blocks) - 1, start, *picture.shape[:2]))
        free -= picture.size
    return PictureCache(blocks, np.array(places, np.int64).reshape(-1, 4))


def check_room(needed: int, done: int, count: int) -> None:
    """Refuse what does not fit: a process that writes to shared memory that is not there dies without a word.

    Raises:
        ConfigError: fewer than ``needed`` bytes are free.
    """
    free = shutil.disk_usage(SHARED).free if SHARED.is_dir() else needed
    if free < needed:
        raise ConfigError(
            f"no shared memory is left for data.cache=ram after {done:,} of {count:,} pictures ({free >> 20} MiB in "
            f"{SHARED}); take data.cache=disk, or give the container more (--shm-size)"
        )


def cache_on_disk(samples: Sequence[Sample], folder: Path) -> PictureCache:
    """Map the file of decoded pictures into memory; it is written first where it is missing, damaged or out of date.

    Raises:
        DataError: a picture cannot be read.
        StorageError: the disk refused the file.
    """
    file, digest = cache_file(samples, folder), fingerprint(samples)
    if not fits(file, digest, len(samples)):
        write_pictures(file, digest, samples)
    places = np.fromfile(file, np.int64, len(samples) * 4, offset=HEAD).reshape(-1, 4)
    return PictureCache([map_pixels(file, len(samples))], places)


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
            return file.stat().st_size >= header_size(count) and own == digest_of_rest(opened)
    except OSError:
        return False


def digest_of_rest(opened: IO[bytes]) -> bytes:
    """Digest of places and pixels in an open file."""
    opened.seek(HEAD)
    return stream_digest(opened).encode()


def write_pictures(file: Path, digest: bytes, samples: Sequence[Sample]) -> None:
    """Decode all pictures into a file that gets its name only when it is whole.

    Raises:
        DataError: a picture cannot be read.
        StorageError: the disk refused.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    places = np.zeros((len(samples), 4), np.int64)
    try:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w+b") as opened:
                opened.write(bytes(header_size(len(samples))))
                for place, picture in zip(places, decode(samples)):
                    place[1:] = opened.tell() - header_size(len(samples)), *picture.shape[:2]
                    opened.write(picture.data)
                opened.seek(0)
                opened.write(MAGIC + digest + bytes(DIGEST) + places.tobytes())
                opened.flush()
                own = digest_of_rest(opened)
                opened.seek(len(MAGIC) + DIGEST)
                opened.write(own)
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
    return -(-(HEAD + count * 32) // 4096) * 4096


def map_pixels(file: Path, count: int) -> np.ndarray:
    """(bytes,) uint8 pixels of a file with ``count`` pictures; what is written to them never reaches the file."""
    if file.stat().st_size == header_size(count):
        return np.empty(0, np.uint8)
    return np.memmap(file, np.uint8, "c", offset=header_size(count))


def decode(samples: Sequence[Sample]) -> Iterator[np.ndarray]:
    """Every sample's picture, (h, w, 3) uint8 and contiguous."""
    return (np.ascontiguousarray(read_image(sample.path)) for sample in samples)
