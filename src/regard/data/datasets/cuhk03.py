"""CUHK03 in the new protocol: 767 people to train on, 700 to test on.

Li, Zhao, Xiao, Wang: "DeepReID: Deep Filter Pairing Neural Network for Person Re-Identification", CVPR 2014; protocol
by Zhong, Zheng, Cao, Li: "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

===========  ==========================  =========================
split        detected (ids)              labeled (ids)
===========  ==========================  =========================
train        7,365 (767)                 7,368 (767)
query        1,400 (700)                 1,400 (700)
gallery      5,332 (700)                 5,328 (700)
===========  ==========================  =========================

Two forms are read:

- extracted, ``cuhk03-np/detected|labeled/bounding_box_train|query|bounding_box_test/0003_c1_21.png``: person 3,
  camera 1, picture 21;
- the release, ``cuhk-03.mat`` (MATLAB 7.3, which is HDF5) beside ``cuhk03_new_protocol_config_detected.mat`` and
  ``..._labeled.mat``. Its pictures are written once to ``images_detected`` or ``images_labeled`` beside it, as
  ``1_001_1_01.png``: camera pair, person of that pair, view, picture. The camera is the view, 1 or 2.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.datasets.layout import FOLDERS, SPLITS, Counts, choice, dataset, first_image, list_images
from regard.data.datasets.market1501 import NAMING
from regard.errors import ConfigError, DataError, StorageError, require
from regard.structures import Sample, Splits

__all__ = ["cuhk03"]

BOXES = ("detected", "labeled")
RELEASE = "cuhk-03.mat"
VIEWS = 5
"""Pictures of a person in each view: columns 1..5 of a cell are the first camera's, 6..10 the second's."""

EXTRACTED = re.compile(r"\d+_c[12]_\d+\.png", re.ASCII | re.IGNORECASE)
PICTURE = re.compile(r"\d_\d{3}_([12])_\d{2}\.png", re.ASCII)


def published(boxes: str = "detected") -> Counts:
    """Counts of the two kinds of boxes."""
    if boxes == "detected":
        return Counts(7_365, 767, 1_400, 700, 5_332)
    return Counts(7_368, 767, 1_400, 700, 5_328)


def is_cuhk03(root: Path) -> bool:
    """Whether a folder with the release, with ``detected`` or ``labeled``, or being one of them, is CUHK03."""
    if (root / RELEASE).exists():
        return True
    places = (root, root / "detected", root / "labeled")
    return any(EXTRACTED.fullmatch(first_image(place / FOLDERS["train"])) for place in places)


@dataset(
    "cuhk03",
    variants=(
        *(tuple(f"{boxes}/{folder}" for folder in FOLDERS.values()) for boxes in BOXES),
        (RELEASE,),
        tuple(FOLDERS.values()),
    ),
    folders=("cuhk03-np", "cuhk03_np", "cuhk03_release", "cuhk03", "cuhk-03"),
    published=published,
    fits=is_cuhk03,
)
def cuhk03(root: Path, /, *, boxes: str = "detected") -> Splits:
    """Read CUHK03 in the new protocol.

    Args:
        root: the folder with ``detected`` and ``labeled``, or with ``cuhk-03.mat``, or one above it.
        boxes: ``detected`` (by a pedestrian detector, the harder ones) or ``labeled`` (by hand).

    Raises:
        ConfigError: ``boxes`` is neither, or the folder holds the other boxes only.
        StorageError: the pictures of the release could not be written.
    """
    choice("cuhk03", "boxes", boxes, BOXES)
    home = root if (root / FOLDERS["train"]).is_dir() else root / boxes
    if home == root and (name := root.absolute().name.lower()) in set(BOXES) - {boxes}:
        raise ConfigError(
            f"cuhk03: '{root}' does not hold the {boxes} boxes; pass the folder above it, or boxes={name}"
        )
    if (home / FOLDERS["train"]).is_dir():
        return Splits.of("cuhk03", root, NAMING.read_folders(home))
    if (root / RELEASE).exists():
        return read_release(root, boxes)
    other = next(one for one in BOXES if one != boxes)
    raise ConfigError(f"cuhk03 in '{root}' has no folder {boxes}, only {other}; unpack it, or pass boxes={other}")


def read_release(root: Path, boxes: str) -> Splits:
    """The release with the new protocol's split file; writes the pictures out the first time.

    Raises:
        DataError: the split file is missing or damaged, or names a picture the release does not hold.
        StorageError: the pictures could not be written.
    """
    names, labels, indices = read_protocol(root / f"cuhk03_new_protocol_config_{boxes}.mat")
    folder = root / f"images_{boxes}"
    if not folder.is_dir():
        extract(root / RELEASE, boxes, folder)
    present = {path.name for path in list_images(folder)}
    parts: dict[str, list[Sample]] = {}
    for split, chosen in indices.items():
        samples = []
        for index in chosen:
            match = PICTURE.fullmatch(names[index])
            if match is None or names[index] not in present:
                raise DataError(
                    f"there is no '{folder / names[index]}', which the new protocol names; remove the folder to have "
                    f"it written again from {RELEASE}"
                )
            samples.append(Sample(folder / names[index], labels[index], int(match[1])))
        parts[split] = sorted(samples, key=lambda sample: sample.path.name)
    return Splits.of("cuhk03", root, parts)


def read_protocol(file: Path) -> tuple[list[str], list[int], dict[str, list[int]]]:
    """File names and identities of all pictures, and for every split the indices of its own, from 0.

    Raises:
        DataError: the file is missing or is not the new protocol's.
    """
    from scipy.io import loadmat

    if not file.exists():
        raise DataError(
            f"there is no '{file}', which says who is trained on; put the new protocol's split file beside {RELEASE}"
        )
    try:
        content = loadmat(file, squeeze_me=True)
        names = [str(name) for name in np.atleast_1d(content["filelist"])]
        labels = [int(label) for label in np.atleast_1d(content["labels"])]
        indices = {split: [int(index) - 1 for index in np.atleast_1d(content[f"{split}_idx"])] for split in SPLITS}
        if len(names) != len(labels) or not all(0 <= i < len(names) for part in indices.values() for i in part):
            raise ValueError("lists of different lengths")
    except Exception as error:  # scipy raises whatever a damaged file makes it stumble over
        raise DataError(
            f"cannot read '{file}' ({' '.join(repr(error).split()):.80}), expected the new protocol's filelist, labels "
            "and train_idx, query_idx, gallery_idx; fetch it again"
        ) from error
    return names, labels, indices


def extract(release: Path, boxes: str, folder: Path) -> None:
    """Write every picture of one kind of boxes as PNG; the folder takes its name when all are written.

    Raises:
        ConfigError: h5py is not installed.
        DataError: the release is damaged.
        StorageError: the disk refused.
    """
    from PIL import Image

    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        for name, pixels in read_pictures(release, boxes):
            Image.fromarray(pixels).save(temporary / name)
        if not folder.is_dir():  # another process may have been faster
            temporary.rename(folder)
    except OSError as error:
        raise StorageError(
            f"could not write the pictures of '{release}' to '{folder}' ({error.strerror or error}); "
            "make room, or copy the release to a folder you may write to"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_pictures(release: Path, boxes: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and (H, W, 3) uint8 pixels of every picture.

    ``detected`` and ``labeled`` are cells of five camera pairs, each a cell of people x 10 pictures, empty where a
    person has fewer. HDF5 holds cells as references and every array transposed.

    Raises:
        ConfigError: h5py is not installed.
        DataError: the file is damaged.
    """
    h5py: Any = require("h5py", f"reading '{release}'", "cuhk03")
    try:
        with h5py.File(release, "r") as file:
            for pair, reference in enumerate(np.asarray(file[boxes]).flatten(), start=1):
                people: Any = np.asarray(file[reference]).T
                for person, row in enumerate(people, start=1):
                    for index, cell in enumerate(row):
                        pixels = np.asarray(file[cell]).T
                        if pixels.ndim < 3:
                            continue  # an empty cell
                        if pixels.ndim > 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
                            raise ValueError(f"a picture of shape {pixels.shape}")
                        name = f"{pair}_{person:03d}_{1 + index // VIEWS}_{index + 1:02d}.png"
                        yield name, pixels.astype(np.uint8)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"cannot read '{release}' ({' '.join(str(error).split()):.80}), expected CUHK03's cells of pictures; "
            "fetch it again"
        ) from error
