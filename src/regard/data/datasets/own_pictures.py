"""One's own pictures: one folder per identity, or a table.

Two forms of folders::

    root/train/anna/1.jpg  root/query/bert/1.jpg  root/gallery/bert/2.jpg      splits as they are
    root/anna/1.jpg  root/bert/1.jpg  ...                                      split here

In the second form part of the identities is kept for the test, and of each of those the first picture of every camera
becomes a query. Who is kept is told by a hash of the folder's name alone, so a person who was trained on stays there
whoever is added or leaves; with few people a side may stay empty, which is an error with the next step.

Identities are numbered. Where every folder's name is a whole number, that number is taken, if it is 1 or more; ``0``
and ``-1`` are names like others and get numbers behind the highest. Otherwise the names are numbered from 1 in sorted
order. Where number and name differ, a sample holds the name in ``extra["identity"]``.

The camera is read off the file name by a pattern. Without one, query pictures get camera 0 and gallery pictures camera
1, so that evaluation leaves out none of them.

A table is CSV or Parquet, with one row per picture and a header::

    path,pid,camid,split,height_cm
    photos/1.jpg,12,1,train,180

==========  =================================================================================
column      holds
==========  =================================================================================
path        picture, relative to the folder of the table or absolute
pid         person, a whole number from 1; 0 a distractor, -1 junk (both in the gallery only)
camid       camera, a whole number; without this column queries are camera 0, the gallery 1
split       ``train``, ``query`` or ``gallery``; without a train row the set is for testing only
mask        optional: person mask (PNG), relative like the picture; may be empty
sequence    optional: recording of the camera, a whole number; may be empty
frame       optional: frame number, a whole number; may be empty
others      kept in the sample's ``extra`` under the column's name
==========  =================================================================================

For CSV see :mod:`regard.data.rows`. Samples are sorted by path. A wrong row is an error that names its line.
"""

from __future__ import annotations

import hashlib
import operator
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regard.data.datasets.layout import SPLITS, dataset, list_folders, list_images, told_deeper
from regard.data.listing import note, walk_images
from regard.data.rows import read_rows
from regard.errors import ConfigError, DataError
from regard.structures import JUNK, Sample, Splits

__all__ = ["folder", "table"]

WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
NUMBER = re.compile(r"[+-]?\d{1,18}", re.ASCII)

NAMES = ("table.csv", "table.parquet")
REQUIRED = ("path", "pid", "split")
KNOWN = (*REQUIRED, "camid", "mask", "sequence", "frame")
CAMERAS_WITHOUT_COLUMN = {"train": 0, "query": 0, "gallery": 1}

FEWEST = {"train": 2, "test": 1}
"""People without whom there is nothing to train on, or nothing to search for."""

TRIES = 1000
"""Other splits that are looked through for one that suits, before an error names it."""

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
        test_share: share of the identities kept for the test, about, where the folders do not say; 0 < share < 1.
            With a larger share those kept before are kept too.
        query: regular expression that finds the queries among the test pictures by file name; None: the first picture
            of each identity and camera.
        split: which identities are kept: another number draws others.

    Raises:
        DataError: there are no identities, too few of them on one side, or a name has no camera in it.
        ConfigError: an option is wrong.
    """
    find_camera, find_query = compile_pattern("camera", camera, groups=1), compile_pattern("query", query)
    if not (isinstance(test_share, int | float) and 0 < test_share < 1):
        raise ConfigError(f"folder: option test_share is {test_share!r}, expected a number between 0 and 1; correct it")
    if all((root / part).is_dir() for part in SPLITS):
        found = {part: read_people(root / part, find_camera) for part in SPLITS}
    else:
        people = read_people(root, find_camera)
        if not people and (deeper := told_deeper(root)):
            raise DataError(f"folder: no picture in the folders of '{root}', but {deeper}")
        check_sides(root, {name for name, _ in people}, test_share, split)
        found = divide(people, test_share, find_query, split)
    pids = number({name for part in found.values() for name, _ in part})
    parts = {
        part: [with_identity(sample, name, pids[name]) for name, sample in samples] for part, samples in found.items()
    }
    if camera is None:
        parts["gallery"] = [replace(sample, camid=1) for sample in parts["gallery"]]
    return Splits.of("folder", root, parts)


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
    for path in list_images(root):
        note("stray picture", path)
    people = []
    for name in list_folders(root):
        paths = list_images(root / name)
        if list_folders(root / name):
            for path in sorted({*walk_images(root / name)}.difference(paths)):
                note("nested picture", path)
        if not paths:
            note("empty folder", root / name)
        people += [(name, Sample(path, pid=JUNK, camid=find_camid(path, camera))) for path in paths]
    return people


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
    pids = {name: int(name) for name in sorted(names) if int(name) > 0}
    seen: dict[int, str] = {}
    for name, pid in pids.items():
        if seen.setdefault(pid, name) != name:
            raise DataError(
                f"folders '{seen[pid]}' and '{name}' are the same number, expected one; join or rename them"
            )
    behind = max(pids.values(), default=0) + 1
    return pids | {name: behind + index for index, name in enumerate(sorted(names - pids.keys()))}


def with_identity(sample: Sample, name: str, pid: int) -> Sample:
    """The sample with its number, and with the folder's name where that says something else."""
    if WHOLE.fullmatch(name) and int(name) == pid:
        return replace(sample, pid=pid)
    return Sample(sample.path, pid, sample.camid, extra={"identity": name})


def divide(
    people: list[tuple[str, Sample]], share: float, query: re.Pattern[str] | None, split: int
) -> dict[str, list[tuple[str, Sample]]]:
    """Keep a share of the identities for the test and choose the queries among their pictures."""
    parts: dict[str, list[tuple[str, Sample]]] = {part: [] for part in SPLITS}
    seen: set[tuple[str, int]] = set()
    for name, sample in people:
        if draw(name, split) >= share:
            parts["train"].append((name, sample))
            continue
        asked = query.search(sample.path.name) is not None if query else (name, sample.camid) not in seen
        seen.add((name, sample.camid))
        parts["query" if asked else "gallery"].append((name, sample))
    return parts


def draw(name: str, split: int) -> float:
    """Where a name falls between 0 and 1, by a hash: the same on every machine, whoever else is there."""
    digest = hashlib.sha256(f"{split} {name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7]) / (1 << 56)


def check_sides(root: Path, names: set[str], share: float, split: int) -> None:
    """Check that there is somebody to train on and somebody to search for.

    Raises:
        DataError: there is not; the message names another ``split`` that suits these people.
    """

    def sides(split: int) -> tuple[int, int]:
        kept = sum(draw(name, split) < share for name in names)
        return len(names) - kept, kept

    def suits(split: int) -> bool:
        return all(map(operator.ge, sides(split), FEWEST.values()))

    if suits(split) or not names:
        return
    other = next((other for other in range(TRIES) if suits(other)), None) if len(names) > 2 else None
    step = f"say split={other}, " if other is not None else "add people, "
    train, test = sides(split)
    raise DataError(
        f"of the {len(names)} people in '{root}' the hash of their names puts {train} into training and {test} into "
        f"the test, expected {FEWEST['train']} and {FEWEST['test']} at least; {step}or another test_share, or "
        "divide them yourself into the folders train, query and gallery"
    )


@dataset("table", variants=tuple((name,) for name in NAMES), endings=(".csv", ".parquet"), may_lack_train=True)
def table(root: Path, /) -> Splits:
    """Read pictures listed in a table.

    Args:
        root: the table, or the folder with ``table.csv`` or ``table.parquet``.

    Raises:
        DataError: the table cannot be read, lacks a column or names one twice, or a row of it is wrong.
    """
    file = root if root.is_file() else next(root / name for name in NAMES if (root / name).exists())
    parts: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    places: dict[tuple[str, Path], str] = {}
    for place, row in read_rows(file, REQUIRED):
        split, sample = parse_row(row, file, place)
        first = places.setdefault((split, sample.path), place)
        if first != place:
            raise DataError(
                f"{place} of '{file}' repeats {str(row['path'])!r} of {first} in {split}; remove one of them"
            )
        parts[split].append(sample)
    parts = {split: sorted(samples, key=lambda sample: str(sample.path)) for split, samples in parts.items()}
    return Splits.of("table", file.parent, parts)


def parse_row(row: Mapping[str, Any], file: Path, place: str) -> tuple[str, Sample]:
    """Split and sample of one row.

    Raises:
        DataError: a value is not what its column holds, or the picture or mask is not there.
    """
    split, where = row["split"], f"{place} of '{file}'"
    if split not in SPLITS:
        raise DataError(f"{where}: split is {split!r}, expected {', '.join(SPLITS)}; correct it")
    pid = parse_number(row, "pid", where)
    if pid < JUNK:
        raise DataError(f"{where}: pid is {pid}, expected -1 (junk), 0 (distractor) or 1 up; correct it")
    camid = parse_number(row, "camid", where) if "camid" in row else CAMERAS_WITHOUT_COLUMN[split]
    path = find_file(row, "path", file, where)
    known: dict[str, Any] = {
        column: parse_number(row, column, where) for column in ("sequence", "frame") if row.get(column, "") != ""
    }
    if row.get("mask", "") != "":
        known["mask"] = find_file(row, "mask", file, where)
    extra = {name: value for name, value in row.items() if name not in KNOWN}
    return split, Sample(path, pid, camid, **known, extra=extra)


def parse_number(row: Mapping[str, Any], column: str, where: str) -> int:
    """A whole number.

    Raises:
        DataError: the value is none.
    """
    text = str(row[column]).strip()
    if not NUMBER.fullmatch(text):
        raise DataError(f"{where}: {column} is {row[column]!r:.80}, expected a whole number; correct it")
    return int(text)


def find_file(row: Mapping[str, Any], column: str, file: Path, where: str) -> Path:
    """The file a value names, from the table's folder on.

    Raises:
        DataError: there is no such file.
    """
    if row[column] == "":
        raise DataError(f"{where}: {column} is empty, expected a file; fill it in")
    path = file.parent / str(row[column])
    if not os.path.isfile(path):  # noqa: PTH113 - does not raise on names no file can have
        shown = ascii(str(path)) if "\n" in str(path) or "\r" in str(path) else f"'{path}'"
        raise DataError(f"{where}: there is no file {shown}, which {column} names; paths start at the table")
    return path
