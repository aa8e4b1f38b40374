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

CSV is UTF-8 with commas, and quotes ``"`` around what holds commas, quotes or line breaks. Samples are sorted by path.
A wrong row is an error that names its line.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regard.data.datasets.layout import dataset
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
    rows = read_parquet(file) if file.suffix.lower() == ".parquet" else read_csv(file)
    parts: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    places: dict[tuple[str, Path], str] = {}
    for place, row in rows:
        split, sample = parse_row(row, file, place)
        first = places.setdefault((split, sample.path), place)
        if first != place:
            raise DataError(
                f"{place} of '{file}' repeats {str(row['path'])!r} of {first} in {split}; remove one of them"
            )
        parts[split].append(sample)
    return Splits("table", file.parent, **{split: sorted(samples, key=by_path) for split, samples in parts.items()})


def by_path(sample: Sample) -> str:
    """Sorting key: the path in code points."""
    return str(sample.path)


def read_csv(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each row stands (``"line 7"``) and its values by column.

    Raises:
        DataError: the file cannot be read, is no CSV, lacks a column, or a row has too many or too few values.
    """
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            check_header(header, file)
            line = reader.line_num + 1
            for values in reader:
                if values and len(values) != len(header):
                    raise DataError(
                        f"line {line} of '{file}' has {len(values)} values, expected {len(header)} as in the header; "
                        'put quotes " around values that hold commas'
                    )
                if values:
                    yield f"line {line}", dict(zip(header, values))
                line = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read '{file}' at line {line} ({error}), expected CSV in UTF-8; save the table again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot open '{file}' ({error.strerror or error}), expected a CSV table; check it") from error


def read_parquet(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each row stands (``"row 7"``, from 1) and its values by column.

    Raises:
        DataError: the file is no Parquet, or it lacks a column.
    """
    from pyarrow import ArrowException, parquet

    try:
        content = parquet.read_table(file)
        check_header(content.column_names, file)
        rows = content.to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read '{file}' ({reason:.120}), expected Parquet; save the table again") from error
    for index, row in enumerate(rows, start=1):
        yield f"row {index}", {name: "" if value is None else value for name, value in row.items()}


def check_header(header: list[str], file: Path) -> None:
    """Check the column names.

    Raises:
        DataError: a needed one is missing, or one is there twice.
    """
    listed = ", ".join(header)
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise DataError(
            f"'{file}' has no column {', '.join(missing)}, only {listed[:120]!r}; the first line names the columns "
            "path,pid,camid,split, with commas between"
        )
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"'{file}' has two columns {twice!r}, expected different names; rename or remove one")


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
