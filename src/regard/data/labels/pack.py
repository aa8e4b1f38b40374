"""All labels of a data set in one file that is mapped into memory.

Eighteen small files for every picture of every epoch are more than the rest of the loader reads. A pack is a
safetensors file, so anything can open it:

- ``masks`` (N, h, w / 8) uint8, a bit per pixel, at the size most masks have;
- ``heatmaps`` (N, 17, g, v) uint8, if there are any;
- ``joints`` (N, 17, 4) float32: x, y, visibility, score;
- ``known`` (N, 19) bool: mask, joints, and which of the heat maps there are;

and in its metadata the names of the pictures, a fingerprint of the contents of everything it was made from, and a
digest of the pack itself, which is checked when it is opened. Where a source has changed since, :func:`pack_labels`
makes the pack anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regard.data.header import kind_of
from regard.data.image import measure_image, read_bytes
from regard.data.labels.labeled import LabeledSample, LabelKind, Labels, lowest_gray, read_labels
from regard.data.transforms import resize
from regard.errors import DataError, StorageError
from regard.fingerprint import bytes_digest, file_digest, stream_digest
from regard.parsing import parse_json
from regard.progress import progress_bar
from regard.storage import open_regular
from regard.structures import Sample

__all__ = ["HEATMAP_SIZE", "LabelPack", "open_pack", "pack_labels"]

VERSION = "regard labels 1"
CONTENT = "content"
"""Metadata with the digest of the whole pack; packs of earlier versions have none."""

HEATMAP_SIZE = (128, 64)
UNKNOWN = "0" * 32
"""In the place of that digest until all is written."""

JOINTS = 17
TYPES = {"F32": np.dtype(np.float32), "U8": np.dtype(np.uint8), "BOOL": np.dtype(np.bool_)}


class LabelPack:
    """Labels in one file; cheap to open, and to send to another process.

    Args:
        path: the file.
        checked: whether its bytes have been checked in this job already.

    Attributes:
        names: folder and file of every picture.
        fingerprint: of what the pack was made from.
        heatmap_size: height and width at which heat maps are kept.

    Raises:
        DataError: it is no pack, or not whole.
    """

    def __init__(self, path: Path, *, checked: bool = False):
        self.path = path
        try:
            with open_regular(path) as file:
                size = int.from_bytes(file.read(8), "little")
                if size > path.stat().st_size:
                    raise ValueError("cut short, or not a pack")
                header = parse_json(file.read(size))
            metadata = header.pop("__metadata__")
            if metadata["version"] != VERSION:
                raise ValueError(f"version {metadata['version']!r}, not {VERSION!r}")
            self.names: list[str] = parse_json(metadata["names"])
            self.fingerprint: str = metadata["fingerprint"]
            self._width = int(metadata["mask_width"])
            height, width = parse_json(metadata["heatmap_size"])
            self.heatmap_size = int(height), int(width)
            # plain views: indexing a memmap itself takes ten times as long
            self._arrays = {name: np.asarray(array_of(path, 8 + size, one, "r")) for name, one in header.items()}
            self._check(8 + size + max(entry["data_offsets"][1] for entry in header.values()))
            if not checked and CONTENT in metadata and metadata[CONTENT] != content_of(path, metadata[CONTENT]):
                raise ValueError("not as it was written")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise DataError(
                f"'{path}' is no pack of labels ({type(error).__name__}: {error}); delete it and pack again"
            ) from error

        self._known = np.array(self._arrays["known"])
        self._masks, self._joints = self._arrays["masks"], self._arrays["joints"]

    def _check(self, size: int) -> None:
        """Refuse arrays that do not belong together, or a file that is not of ``size`` bytes, with a ValueError."""
        rows, arrays = len(self.names), self._arrays
        shapes = {"known": (rows, 2 + JOINTS), "joints": (rows, JOINTS, 4), "masks": (rows, *arrays["masks"].shape[1:])}
        if "heatmaps" in arrays:
            shapes["heatmaps"] = (rows, JOINTS, *arrays["heatmaps"].shape[2:])
        types = {"known": np.bool_, "joints": np.float32, "masks": np.uint8, "heatmaps": np.uint8}
        if any(arrays[name].shape != shape or arrays[name].dtype != types[name] for name, shape in shapes.items()):
            raise ValueError("arrays of unexpected sizes")
        if arrays["masks"].ndim != 3 or arrays["masks"].shape[2] != -(-self._width // 8):
            raise ValueError("masks of an unexpected width")
        if arrays["known"][:, 2:].any() and "heatmaps" not in arrays:
            raise ValueError("heat maps are missing")
        if self.path.stat().st_size != size:
            raise ValueError("a wrong number of bytes")

    def __reduce__(self):
        return partial(LabelPack, checked=True), (self.path,)

    def __len__(self) -> int:
        return len(self.names)

    def has(self, row: int, kind: LabelKind) -> bool:
        """Whether a picture has a label of that kind."""
        known = self._known[row]
        return bool(known[0] if kind == "mask" else known[1:].any())

    def read(self, row: int, kinds: tuple[LabelKind, ...]) -> Labels:
        """Labels of one picture."""
        known, labels = self._known[row], Labels()
        if "mask" in kinds and known[0]:
            bits = np.unpackbits(self._masks[row], axis=1, count=self._width)
            labels = labels._replace(mask=bits * np.uint8(255))
        if "keypoints" in kinds and known[2:].any():
            return labels._replace(heatmaps=np.array(self._arrays["heatmaps"][row]), drawn=known[2:])
        if "keypoints" in kinds and known[1]:
            return labels._replace(joints=np.array(self._joints[row]))
        return labels


def open_pack(samples: Sequence[Sample], path: Path) -> list[Sample]:
    """Samples whose labels are those of a pack, whatever else they have.

    Raises:
        DataError: the file is no pack, or lacks one of the samples.
    """
    return _labeled(samples, LabelPack(path))


def _labeled(samples: Sequence[Sample], pack: LabelPack) -> list[Sample]:
    """Samples with a pack's labels."""
    rows = {name: row for row, name in enumerate(pack.names)}
    lacking = [name_of(sample) for sample in samples if name_of(sample) not in rows]
    if lacking:
        raise DataError(
            f"'{pack.path}' lacks {len(lacking):,} of {len(samples):,} pictures, such as '{lacking[0]}'; pack again"
        )
    return [LabeledSample.of(sample, pack=pack, row=rows[name_of(sample)]) for sample in samples]


def pack_labels(
    samples: Sequence[Sample],
    path: Path,
    heatmap_size: tuple[int, int] | None = None,
    *,
    progress: bool = False,
) -> list[Sample]:
    """Samples whose labels are those of a pack, which is made first unless it is there and up to date.

    Args:
        samples: with labels attached.
        path: of the pack.
        heatmap_size: height and width to keep heat maps at; None is what the pack has, and 128 x 64 for a new one.
        progress: show a bar.

    Raises:
        DataError: a label cannot be read.
        StorageError: the disk refused; a pack that was there is intact.
    """
    try:
        old = LabelPack(path)
    except DataError:
        old = None
    size = heatmap_size or (old.heatmap_size if old else HEATMAP_SIZE)
    fingerprint = fingerprint_of(samples, size)
    if old is None or old.fingerprint != fingerprint:
        write_pack(samples, path, size, fingerprint, progress=progress)
        old = LabelPack(path, checked=True)
    return _labeled(samples, old)


def name_of(sample: Sample) -> str:
    """What a picture is called in a pack: its folder and file, so that a data set may move."""
    return f"{sample.path.parent.name}/{sample.path.name}"


def fingerprint_of(samples: Sequence[Sample], heatmap_size: tuple[int, int]) -> str:
    """Digest of what a pack is made from: names, keypoints and outlines, contents of label files."""
    digest = hashlib.sha256(repr((VERSION, heatmap_size)).encode())
    for sample in samples:
        more = LabeledSample.of(sample)
        files = [known_of(path, file_digest) for path in (more.mask, *(more.heatmaps or ()))]
        form = known_of(more.mask, lambda path: kind_of(read_bytes(path)[:32]))
        threshold = lowest_gray(form, more.mask_threshold)
        digest.update(repr((name_of(more), files, more.keypoints, more.scores, more.outline, threshold)).encode())
    return digest.hexdigest()


def known_of(path: Path | None, find: Callable[[Path], str | None]) -> str | None:
    """What is found out about a file; None without one, or where it cannot be read."""
    try:
        return find(path) if path else None
    except (OSError, DataError):
        return None


def content_of(path: Path, own: str = UNKNOWN) -> str:
    """Digest of a pack, with nothing in the place of its ``own`` digest."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
        return bytes_digest(header.replace(own.encode(), UNKNOWN.encode()) + stream_digest(file).encode())


def write_pack(
    samples: Sequence[Sample], path: Path, heatmap_size: tuple[int, int], fingerprint: str, *, progress: bool
) -> None:
    """Write a pack, a picture at a time.

    Raises:
        DataError: a label cannot be read.
        StorageError: the disk refused.
    """
    height, width = mask_size(samples)
    drawn = any(isinstance(sample, LabeledSample) and any(sample.heatmaps or ()) for sample in samples)
    shapes = {
        "joints": ("F32", (JOINTS, 4)),
        "masks": ("U8", (height, -(-width // 8))),
        **({"heatmaps": ("U8", (JOINTS, *heatmap_size))} if drawn else {}),
        "known": ("BOOL", (2 + JOINTS,)),
    }
    names = [name_of(sample) for sample in samples]
    if len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise DataError(f"two pictures are called '{twice}', which a pack cannot tell apart; rename one")
    metadata = {
        "version": VERSION, "names": json.dumps(names), "fingerprint": fingerprint, "mask_width": str(width),
        "heatmap_size": json.dumps(heatmap_size), CONTENT: UNKNOWN,
    }  # fmt: skip
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = lay_out(temporary, len(samples), shapes, metadata)
        for row, sample in enumerate(progress_bar(samples, "pack", unit="photo", quiet=not progress, leave=True)):
            fill(arrays, row, read_labels(sample), (height, width))
        for array in arrays.values():
            array.flush()
        seal(temporary)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(
            f"could not write {path}: {error.strerror or error}; a pack that was there is intact; "
            "make room or choose another file"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def seal(path: Path) -> None:
    """Put its digest into the header of a pack that was just written."""
    digest = content_of(path)
    with path.open("r+b") as file:
        mark = f'"{CONTENT}": "'.encode()
        place = file.read(int.from_bytes(file.read(8), "little")).rindex(mark + UNKNOWN.encode())
        file.seek(8 + place + len(mark))
        file.write(digest.encode())


def mask_size(samples: Sequence[Sample]) -> tuple[int, int]:
    """Height and width that most mask files have; those of the outlines where there is no file."""
    sizes: Counter[tuple[int, int]] = Counter()
    for sample in samples:
        if sample.mask is not None:
            try:
                sizes[measure_image(sample.mask)] += 1
            except DataError:  # told when it is read
                continue
        elif isinstance(sample, LabeledSample) and sample.outline is not None:
            sizes[sample.outline.height, sample.outline.width] += 1
    return max(sizes, key=lambda size: (sizes[size], size)) if sizes else (8, 8)


def lay_out(
    path: Path, rows: int, shapes: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]
) -> dict[str, np.memmap[Any, Any]]:
    """Make a safetensors file full of zeros, and its arrays writable; their order is that of their places in it."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, (kind, shape) in shapes.items():
        start, end = end, end + rows * math.prod(shape) * TYPES[kind].itemsize
        header[name] = {"dtype": kind, "shape": [rows, *shape], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return {name: array_of(path, 8 + len(text), header[name], "r+") for name in shapes}


def array_of(path: Path, start: int, entry: dict[str, Any], mode: Literal["r", "r+"]) -> np.memmap[Any, Any]:
    """An array of a safetensors file, by its entry in the header that ends at ``start``."""
    return np.memmap(path, TYPES[entry["dtype"]], mode, start + entry["data_offsets"][0], tuple(entry["shape"]))


def fill(arrays: dict[str, Any], row: int, labels: Labels, size: tuple[int, int]) -> None:
    """Write the labels of one picture."""
    known = np.zeros(2 + JOINTS, bool)
    if labels.mask is not None:
        known[0] = True
        arrays["masks"][row] = np.packbits(resize(labels.mask, *size, mask=True), axis=1)
    if labels.joints is not None:
        known[1] = True
        arrays["joints"][row] = labels.joints
    if labels.heatmaps is not None and labels.drawn is not None:
        known[2:] = labels.drawn
        shrunk = resize(np.ascontiguousarray(labels.heatmaps.transpose(1, 2, 0)), *arrays["heatmaps"].shape[2:])
        arrays["heatmaps"][row] = shrunk.transpose(2, 0, 1)
    arrays["known"][row] = known
