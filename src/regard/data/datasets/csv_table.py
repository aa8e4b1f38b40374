"""One's own pictures, listed in a table: CSV or Parquet.

One row per picture, with a header::

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

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regard.data.datasets.layout import dataset
from regard.data.rows import read_rows
from regard.errors import DataError
from regard.structures import JUNK, Sample, Splits

__all__ = ["table"]

NAMES = ("table.csv", "table.parquet")
REQUIRED = ("path", "pid", "split")
KNOWN = (*REQUIRED, "camid", "mask", "sequence", "frame")
SPLITS = ("train", "query", "gallery")
CAMERAS_WITHOUT_COLUMN = {"train": 0, "query": 0, "gallery": 1}

WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)


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
    return Splits.of("table", file.parent, {split: sorted(samples, key=by_path) for split, samples in parts.items()})


def by_path(sample: Sample) -> str:
    """Sorting key: the path in code points."""
    return str(sample.path)


def parse_row(row: Mapping[str, Any], file: Path, place: str) -> tuple[str, Sample]:
    """Split and sample of one row.

    Raises:
        DataError: a value is not what its column holds, or the picture or mask is not there.
    """
    split = row["split"]
    if split not in SPLITS:
        raise DataError(f"{place} of '{file}': split is {split!r}, expected {', '.join(SPLITS)}; correct it")
    pid = parse_number(row, "pid", file, place)
    if pid < JUNK:
        raise DataError(f"{place} of '{file}': pid is {pid}, expected -1 (junk), 0 (distractor) or 1 up; correct it")
    camid = parse_number(row, "camid", file, place) if "camid" in row else CAMERAS_WITHOUT_COLUMN[split]
    path = find_file(row["path"], "path", file, place)
    known = {
        "sequence": parse_number(row, "sequence", file, place) if row.get("sequence", "") != "" else None,
        "frame": parse_number(row, "frame", file, place) if row.get("frame", "") != "" else None,
        "mask": find_file(row["mask"], "mask", file, place) if row.get("mask", "") != "" else None,
    }
    extra = {name: value for name, value in row.items() if name not in KNOWN}
    return split, Sample(path, pid, camid, **known, extra=extra)


def parse_number(row: Mapping[str, Any], column: str, file: Path, place: str) -> int:
    """A whole number.

    Raises:
        DataError: the value is none.
    """
    text = str(row[column]).strip()
    if not WHOLE.fullmatch(text):
        raise DataError(f"{place} of '{file}': {column} is {row[column]!r:.80}, expected a whole number; correct it")
    return int(text)


def find_file(name: Any, column: str, file: Path, place: str) -> Path:
    """The file a value names.

    Raises:
        DataError: there is no such file.
    """
    if name == "":
        raise DataError(f"{place} of '{file}': {column} is empty, expected a file; fill it in")
    path = file.parent / str(name)
    if not os.path.isfile(path):  # noqa: PTH113 - does not raise on names no file can have
        shown = ascii(str(path)) if "\n" in str(path) or "\r" in str(path) else f"'{path}'"
        raise DataError(
            f"{place} of '{file}': there is no file {shown}, which {column} names; paths start at the table"
        )
    return path
