"""Rows of a table that somebody wrote: CSV, JSON lines or Parquet, each with the place where it stands.

CSV is UTF-8, with or without a byte order mark, with commas, and quotes ``"`` around what holds commas, quotes or line
breaks. What is too large to be meant is refused before it costs anything.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import TextIOBase
from pathlib import Path
from typing import Any

from regard.errors import DataError
from regard.parsing import parse_json
from regard.storage import open_regular

__all__ = ["MAX_COLUMNS", "read_rows"]

MAX_COLUMNS = 1000
MAX_LINE = 1 << 20
"""Characters of a line."""

Row = tuple[str, Mapping[str, Any]]
"""Where a row stands (``"line 7"``) and its values by column."""


def read_rows(file: Path, required: Sequence[str]) -> Iterator[Row]:
    """Read a table row by row.

    Args:
        file: ``.csv`` with a header, ``.parquet``, or JSON lines (an object on each) whatever else it is called.
        required: columns that it must have.

    Raises:
        DataError: it cannot be read, lacks a column or names one twice, has too many columns or too long lines, or a
            row does not fit the header.
    """
    read = {".parquet": read_parquet, ".csv": read_csv}.get(file.suffix.lower(), read_jsonl)
    return read(file, required)


def read_csv(file: Path, required: Sequence[str]) -> Iterator[Row]:
    """Rows of a CSV file; see :func:`read_rows`."""
    line = 1
    try:
        with open_regular(file, "r", encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(short_lines(stream, file), strict=True)
            header = next(reader, [])
            check_header(header, file, required)
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
    except (csv.Error, UnicodeError) as error:
        raise DataError(
            f"cannot read '{file}' at line {line} ({error}), expected CSV in UTF-8; save the table again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot open '{file}' ({error.strerror or error}), expected a CSV table; check it") from error


def read_jsonl(file: Path, required: Sequence[str]) -> Iterator[Row]:
    """Rows of JSON lines; see :func:`read_rows`."""
    number = 0
    try:
        with open_regular(file, "r", encoding="utf-8-sig") as stream:
            for number, line in enumerate(short_lines(stream, file), start=1):
                if not line.strip():
                    continue
                row = parse_json(line)
                if not isinstance(row, dict):
                    raise DataError(f"line {number} of '{file}' is {line[:40]!r}, expected a JSON object; correct it")
                check_header(list(row), file, required, f"line {number} of ")
                yield f"line {number}", row
    except OSError as error:
        raise DataError(f"cannot open '{file}' ({error.strerror or error}), expected JSON lines; check it") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"cannot read '{file}' at line {max(number, 1)} ({error}), expected JSON lines in UTF-8; correct it"
        ) from error


def read_parquet(file: Path, required: Sequence[str]) -> Iterator[Row]:
    """Rows of a Parquet file, missing values as empty text; see :func:`read_rows`."""
    from pyarrow import ArrowException, parquet

    try:
        with open_regular(file) as stream, parquet.ParquetFile(stream) as opened:
            check_header(opened.schema_arrow.names, file, required)
            rows = opened.read().to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read '{file}' ({reason:.120}), expected Parquet; save the table again") from error
    for index, row in enumerate(rows, start=1):
        yield f"row {index}", {name: "" if value is None else value for name, value in row.items()}


def short_lines(stream: TextIOBase, file: Path) -> Iterator[str]:
    """The lines of a file.

    Raises:
        DataError: one is longer than any row.
    """
    while line := stream.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise DataError(f"'{file}' has a line of more than {MAX_LINE:,} characters, expected a table; check it")
        yield line


def check_header(header: Sequence[str], file: Path, required: Sequence[str], place: str = "") -> None:
    """Check the column names.

    Raises:
        DataError: there are too many, a needed one is missing, or one is there twice.
    """
    if len(header) > MAX_COLUMNS:
        raise DataError(
            f"{place}'{file}' has {len(header):,} columns, expected {MAX_COLUMNS:,} at most; leave some out"
        )
    missing = [name for name in required if name not in header]
    if missing:
        raise DataError(
            f"{place}'{file}' has no column {', '.join(missing)}, only {', '.join(header)[:120]!r}; the first line "
            f"of CSV names the columns, such as {','.join(required)}, with commas between"
        )
    seen: set[str] = set()
    twice = next((name for name in header if name in seen or seen.add(name)), None)
    if twice is not None:
        raise DataError(f"{place}'{file}' has two columns {twice!r}, expected different names; rename or remove one")
