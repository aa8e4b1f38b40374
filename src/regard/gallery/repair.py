"""What can be saved of a gallery whose database is damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from regard.errors import DataError, StorageError
from regard.gallery.database import unseal
from regard.gallery.embedded import Findings
from regard.gallery.mark_table import read_rows
from regard.gallery.record import Item
from regard.gallery.store import BLANK_ID, STORE, Store, from_row, readable

__all__ = ["repair"]

DAMAGED = f"{STORE}.damaged"
MOST_MARKS = 2**20
STRIDE = 256
"""Rows read together."""


def repair(folder: Path, progress: Callable[[int, int], None] | None = None) -> Findings:
    """Save what can be read of a damaged database into a new one; the damaged one is kept beside it.

    No other process may have the gallery open.

    Returns:
        What the new one holds, and how many rows of pictures and of marks could not be saved.

    Raises:
        DataError: nothing can be read.
        StorageError: the disk refused; everything is as it was.
    """
    path, new = folder / STORE, folder / f".{STORE}.new"
    if (folder / DAMAGED).exists():
        raise StorageError(f"{folder / DAMAGED} is there from the last time; move it away, then repair")
    for left in folder.glob(f"{new.name}*"):
        left.unlink()
    saved = lost = marks = 0
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        about = told(connection, path)
        with closing(Store(new, about["dim"])) as store:
            for items, missing in salvaged(connection, about["dim"], progress or (lambda done, total: None)):
                saved, lost = saved + len(items), lost + missing
                with store.writing() as db:
                    store.insert(db, items)
            with store.writing() as db:
                store.write(db, "gallery", about)
                marks = save_marks(connection, db)
    if not saved:
        for left in folder.glob(f"{new.name}*"):
            left.unlink()
        raise DataError(f"nothing can be read of {path}; restore it from a backup")
    path.rename(folder / DAMAGED)
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    new.rename(path)
    return Findings(saved, lost, marks=marks)


def told(connection: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """What a damaged gallery says about itself.

    Raises:
        DataError: it does not.
    """
    try:
        (value,) = connection.execute("SELECT value FROM about WHERE name = 'gallery'").fetchone()
        about = unseal(value)
        if isinstance(about.get("dim"), int):
            return about
        raise ValueError("it does not say how long descriptors are")
    except (sqlite3.Error, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} does not say what it holds ({error}); restore it from a backup") from None


def salvaged(
    connection: sqlite3.Connection, dim: int, progress: Callable[[int, int], None]
) -> Iterator[tuple[list[Item], int]]:
    """Items that are whole, some at a time, with how many beside them are not."""
    last = last_number(connection)
    for start in range(1, last + 1, STRIDE):
        rows, lost = readable(connection, start, min(start + STRIDE - 1, last))
        items = [from_row(row[1:], dim) for row in rows if row[1] != BLANK_ID]
        whole = [item for item in items if item is not None]
        yield whole, len(lost) + len(items) - len(whole)
        progress(min(start + STRIDE - 1, last), last)


def save_marks(connection: sqlite3.Connection, db: sqlite3.Connection) -> int:
    """Copy what can be read of marks and their photographs; how many rows of marks cannot, or are none."""
    for table, columns in (("marks", "word"), ("photos", "query, photo")):
        with suppress(sqlite3.DatabaseError):
            (last,) = connection.execute(f"SELECT coalesce(max(number), 0) FROM {table}").fetchone()
            rows, _ = readable(connection, 1, min(last, MOST_MARKS), f"SELECT number, {columns} FROM {table}")
            db.executemany(f"INSERT INTO {table} VALUES (?{', ?' * len(columns.split())})", rows)
    with suppress(sqlite3.DatabaseError):
        return sum(row.word is None for row in read_rows(connection))
    return 0


def last_number(connection: sqlite3.Connection) -> int:
    """The largest number that a row can have."""
    last = 0
    for query in (
        "SELECT max(number) FROM pictures",
        "SELECT max(number) FROM contents",
        "SELECT seq FROM sqlite_sequence WHERE name = 'pictures'",
    ):
        with suppress(sqlite3.Error, TypeError):
            last = max(last, int(connection.execute(query).fetchone()[0]))
    return min(last, 2**40)
