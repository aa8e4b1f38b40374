"""One's own pictures, one folder per identity.

Two forms::

    root/train/anna/1.jpg  root/query/bert/1.jpg  root/gallery/bert/2.jpg      splits as they are
    root/anna/1.jpg  root/bert/1.jpg  ...                                      split here

In the second form part of the identities is kept for the test, and of each of those the first picture of every camera
becomes a query.

Identities are numbered. Where every folder's name is a whole number, that number is taken, -1 and 0 meaning junk and
distractor as in Market-1501; otherwise the names are numbered from 1 in sorted order, and a sample holds the name in
``extra["identity"]``.

The camera is read off the file name by a pattern. Without one, query pictures get camera 0 and gallery pictures camera
1, so that evaluation leaves out none of them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

from regard.data.datasets.layout import dataset, list_folders, list_images
from regard.errors import ConfigError, DataError
from regard.structures import DISTRACTOR, JUNK, Sample, Splits

__all__ = ["folder"]

SPLITS = ("train", "query", "gallery")

WHOLE = re.compile(r"-1|\d+", re.ASCII)

PARTS = frozenset(
    {
        *SPLITS,
        *("test", "val", "probe", "bounding_box_train", "bounding_box_test", "cam_a", "cam_b", "masks"),
        *("mask_train_v2", "mask_test_v2", "occluded_body_images", "partial_body_images", "whole_body_images"),
    }
)
"""Folder names that mean a part of a data set and not a person."""


def is_folder(root: Path) -> bool:
    """Whether there are folders of people: in all three splits, or at least two in the root and none that is a part."""
    if all((root / split).is_dir() for split in SPLITS):
        return all(any(list_images(root / split / name) for name in list_folders(root / split)) for split in SPLITS)
    names = list_folders(root)
    if {name.lower() for name in names} & PARTS:
        return False
    return sum(bool(list_images(root / name)) for name in names[:10]) >= 2


@dataset("folder", variants=(SPLITS, (".",)), fits=is_folder)
def folder(
    root: Path, /, *, camera: str | None = None, test_share: float = 0.5, query: str | None = None, split: int = 0
) -> Splits:
    """Read a folder with one folder per identity.

    Args:
        root: the folder that holds the identities, or ``train``, ``query`` and ``gallery``.
        camera: regular expression that finds the camera in a file name; its first group is the number, for example
            ``"_cam(\\\\d+)"``. None: the pictures name no cameras.
        test_share: share of the identities kept for the test, where the folders do not say; 0 < share < 1.
        query: regular expression that finds the queries among the test pictures by file name; None: the first picture
            of each identity and camera.
        split: which identities are kept: another number draws others.

    Raises:
        DataError: there are no identities, or a name has no camera in it.
        ConfigError: an option is wrong.
    """
    find_camera, find_query = compile_pattern("camera", camera, groups=1), compile_pattern("query", query)
    if not (isinstance(test_share, int | float) and 0 < test_share < 1):
        raise ConfigError(f"folder: option test_share is {test_share!r}, expected a number between 0 and 1; correct it")
    if all((root / part).is_dir() for part in SPLITS):
        found = {part: read_people(root / part, find_camera) for part in SPLITS}
    else:
        people = read_people(root, find_camera)
        found = divide(people, test_share, find_query, split, has_cameras=camera is not None)
    pids = number({name for part in found.values() for name, _ in part})
    parts = {
        part: [with_identity(sample, name, pids[name]) for name, sample in samples] for part, samples in found.items()
    }
    if camera is None:
        parts["gallery"] = [replace(sample, camid=1) for sample in parts["gallery"]]
    return Splits("folder", root, **parts)


def compile_pattern(option: str, pattern: str | None, groups: int = 0) -> re.Pattern[str] | None:
    """The compiled regular expression.

    Raises:
        ConfigError: it is none, or has too few groups.
    """
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(
            f"folder: option {option} {pattern!r} is no regular expression ({error}); correct it"
        ) from error
    if compiled.groups < groups:
        raise ConfigError(f"folder: option {option} {pattern!r} has no group, expected one like '_cam(\\d+)'; add it")
    return compiled


def read_people(root: Path, camera: re.Pattern[str] | None) -> list[tuple[str, Sample]]:
    """Folder name and picture of everybody in ``root``, sorted; pid is not yet set.

    Raises:
        DataError: a file's name has no camera in it.
    """
    return [
        (name, Sample(path, pid=JUNK, camid=find_camid(path, camera)))
        for name in list_folders(root)
        for path in list_images(root / name)
    ]


def find_camid(path: Path, camera: re.Pattern[str] | None) -> int:
    """The camera named by a file; 0 without a pattern.

    Raises:
        DataError: the name has no camera in it, or one that is no number.
    """
    if camera is None:
        return 0
    match = camera.search(path.name)
    if match is None or not re.fullmatch(r"\d{1,9}", match[1] or "", re.ASCII):
        raise DataError(
            f"cannot find a camera number in the name of '{path}' with the pattern {camera.pattern!r}; "
            "correct the option camera, or rename the file"
        )
    return int(match[1])


def number(names: set[str]) -> dict[str, int]:
    """Identity number of every folder name.

    Raises:
        DataError: two names are the same number.
    """
    if not all(WHOLE.fullmatch(name) for name in names):
        return {name: index for index, name in enumerate(sorted(names), start=1)}
    pids = {name: int(name) for name in sorted(names)}
    seen: dict[int, str] = {}
    for name, pid in pids.items():
        if seen.setdefault(pid, name) != name:
            raise DataError(
                f"folders '{seen[pid]}' and '{name}' are the same number, expected one; join or rename them"
            )
    return pids


def with_identity(sample: Sample, name: str, pid: int) -> Sample:
    """The sample with its number, and with the folder's name where that says something else."""
    if WHOLE.fullmatch(name) and int(name) == pid:
        return replace(sample, pid=pid)
    return Sample(sample.path, pid, sample.camid, extra={"identity": name})


def divide(
    people: list[tuple[str, Sample]], share: float, query: re.Pattern[str] | None, split: int, has_cameras: bool
) -> dict[str, list[tuple[str, Sample]]]:
    """Keep a share of the identities for the test and choose the queries among their pictures."""
    persons = sorted({name for name, _ in people if not is_nobody(name)}, key=lambda name: draw(name, split))
    kept = set(persons[: max(int(share * len(persons)), 1)])
    parts: dict[str, list[tuple[str, Sample]]] = {part: [] for part in SPLITS}
    seen: set[tuple[str, int]] = set()
    for name, sample in people:
        if not is_nobody(name) and name not in kept:
            parts["train"].append((name, sample))
            continue
        asked = not is_nobody(name) and (
            query.search(sample.path.name) is not None if query else (name, sample.camid) not in seen
        )
        seen.add((name, sample.camid))
        parts["query" if asked else "gallery"].append((name, sample))
    return parts


def draw(name: str, split: int) -> bytes:
    """A place in the order in which identities are kept: the same on every machine."""
    return hashlib.sha256(f"{split} {name}".encode(errors="surrogateescape")).digest()


def is_nobody(name: str) -> bool:
    """Whether a folder holds junk or distractors."""
    return WHOLE.fullmatch(name) is not None and int(name) <= DISTRACTOR
