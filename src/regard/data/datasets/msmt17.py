"""MSMT17, both versions, and the folders with Market-1501's names it is often converted to.

Wei, Zhang, Gao, Tian: "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification", CVPR 2018.
4,101 people seen by 15 cameras (12 outdoors, 3 indoors) in four days; boxes by a Faster R-CNN.

=============  ======  =====  ====================================================
split          images  ids    list, and folder in version 1 (version 2)
=============  ======  =====  ====================================================
train          30,248  1,041  ``list_train.txt``, ``train`` (``mask_train_v2``)
validation      2,373  1,041  ``list_val.txt``, the same folder and the same people
query          11,659  3,060  ``list_query.txt``, ``test`` (``mask_test_v2``)
gallery        82,161  3,060  ``list_gallery.txt``, ``test`` (``mask_test_v2``)
=============  ======  =====  ====================================================

Version 2 blurs the faces and is otherwise the same. A line of a list is ``0000/0000_000_01_0303morning_0015_0.jpg 0``:
path and label. The third field of the name is the camera, two digits, 1 to 15; the fourth date and time of day.

Labels start at 0 and training and test use the same numbers for other people. Here 0 means a distractor, and a number
means one person: training people are label + 1 (1..1041), test people label + 1042 (1042..4101).
"""

from __future__ import annotations

import re
from pathlib import Path

from regard.data.datasets.layout import FOLDERS, Counts, Naming, choice, dataset, first_image, list_images
from regard.errors import DataError
from regard.storage import read_regular
from regard.structures import Sample, Splits

__all__ = ["TRAIN_IDS", "msmt17"]

TRAIN_IDS = 1_041
OFFSETS = {"train": 1, "query": 1 + TRAIN_IDS, "gallery": 1 + TRAIN_IDS}
"""Split -> what is added to its labels."""

LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")

EXAMPLE = "0000_000_01_0303morning_0015_0.jpg or 0000_c14_0030.jpg"

NAMING, CONVERTED = (
    Naming(re.compile(pattern, re.ASCII), EXAMPLE, "person and camera")
    for pattern in (
        r"(?P<pid>\d+)_\d+_(?P<camid>\d+)_[^_]+_(?P<frame>\d+)(?=[_.])",
        r"(?P<pid>\d+)_c(?P<camid>\d+)_(?P<frame>\d+)(?=[_.])",
    )
)


def is_msmt17(root: Path) -> bool:
    """Whether a folder with lists or with Market-1501's folders holds MSMT17's names."""
    first = first_image(root / FOLDERS["train"])
    if (root / LISTS[0]).exists() or NAMING.pattern.match(first):
        return True
    match = CONVERTED.pattern.match(first)  # its first person is 0, who could not be trained on in Market-1501's naming
    return match is not None and (int(match["pid"]) == 0 or "msmt" in root.absolute().name.lower())


def published(*, val: bool = True) -> Counts:
    """Counts of the lists with and without validation."""
    return Counts(32_621 if val else 30_248, TRAIN_IDS, 11_659, 3_060, 82_161)


@dataset(
    "msmt17",
    variants=(LISTS, tuple(FOLDERS.values())),
    folders=("MSMT17_V2", "MSMT17_V1", "MSMT17", "msmt17-v2", "msmt17-v1", "msmt"),
    published=published,
    fits=is_msmt17,
)
def msmt17(root: Path, /, *, val: bool = True) -> Splits:
    """Read MSMT17 as published.

    Args:
        root: the folder with ``list_train.txt``, or one above it.
        val: train on the validation list too, as most published results do; converted folders have no such list.
    """
    choice("msmt17", "val", val, (True, False))
    parts: dict[str, list[Sample]] = {}
    if not (root / LISTS[0]).exists():
        for split, folder in FOLDERS.items():
            paths = list_images(root / folder)
            parts[split] = [
                (NAMING if NAMING.pattern.match(path.name) else CONVERTED).read(path, offset=OFFSETS[split])
                for path in paths
            ]
        return Splits.of("msmt17", root, parts)
    train, test = find_pictures(root)
    for split, folder, names in (
        ("train", train, LISTS[: 1 + val]), ("query", test, LISTS[2:3]), ("gallery", test, LISTS[3:]),
    ):  # fmt: skip
        samples = [sample for name in names for sample in read_list(root / name, folder, OFFSETS[split])]
        parts[split] = sorted(samples, key=lambda sample: sample.path.name)
    return Splits.of("msmt17", root, parts)


def find_pictures(root: Path) -> tuple[Path, Path]:
    """Folders of the training and the test pictures.

    Raises:
        DataError: neither version's are there.
    """
    for train, test in (("mask_train_v2", "mask_test_v2"), ("train", "test")):
        if (root / train).is_dir() and (root / test).is_dir():
            return root / train, root / test
    raise DataError(
        f"msmt17 in '{root}' is incomplete: no folders train and test (version 1) or mask_train_v2 and mask_test_v2 "
        "(version 2); unpack the data set again"
    )


def read_list(file: Path, folder: Path, offset: int) -> list[Sample]:
    """The pictures a list names, with ``offset`` added to their labels.

    Raises:
        DataError: the list cannot be read, or a line of it is not a picture and its label.
    """
    try:
        lines = read_regular(file).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list '{file}' ({error}), expected lines of path and label") from error
    present: dict[Path, set[str]] = {}
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, label = ["", *line.rsplit(maxsplit=1)][-2:]
        match = NAMING.pattern.match(Path(name).name)
        if match is None or not label.isdecimal():
            raise DataError(
                f"'{file}' line {number} is {line[:80]!r}, expected one like "
                "'0000/0000_000_01_0303morning_0015_0.jpg 0'; restore the list"
            )
        path = folder / name
        if path.parent not in present:
            present[path.parent] = {image.name for image in list_images(path.parent)} if path.parent.is_dir() else set()
        if path.name not in present[path.parent]:
            raise DataError(f"there is no '{path}', which '{file}' names in line {number}; unpack the data set again")
        samples.append(Sample(path, int(label) + offset, int(match["camid"]), frame=int(match["frame"])))
    return samples
