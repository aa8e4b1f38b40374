"""The truth of a gallery in a folder: one SQLite database, which many processes read and write at once.

Shapes: N pictures, D descriptor length.

A row of ``pictures`` is what is known of one picture, under a number that is never given again, and a row of
``contents`` its descriptor and thumbnail. A picture that is stored anew is a new row. Rows are not deleted but blanked:
overwritten with as many zeros, in place, so that no page of the database keeps a copy that was moved there before;
:meth:`Store.wipe` then empties the write-ahead log, and :meth:`Store.compact` gives the room back. What was blanked is
noted in ``erased``, so that every process hears of it. Marks (:mod:`regard.gallery.marks`) lie beside the pictures, so
that one change removes both.

Each row carries checksums of its record, descriptor and thumbnail; for changes being whole and durable see
:mod:`regard.gallery.database`.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zlib import crc32

import numpy as np

from regard.errors import DataError
from regard.gallery.database import BROKEN, MARKS, Database, primary
from regard.gallery.record import Item, Record, read_records

__all__ = [
    "BLANK_ID", "EARLIER", "STORE", "Known", "Row", "State", "Store", "blank", "exists", "from_row", "is_earlier",
    "readable",
]  # fmt: skip

STORE = "gallery.sqlite"
EARLIER = "gallery.json"
"""What a gallery of an earlier version says about itself."""

MANY = 500
"""Rows asked for in one statement."""

SUMS = struct.Struct("<III")
STATE = struct.Struct("<8qI")
BLANK_ID = bytes(16)
ROWS = "SELECT number, id, record, sums, vector, thumbnail FROM pictures LEFT JOIN contents USING (number)"

TABLES = (
    *MARKS,
    "CREATE TABLE pictures (number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, record BLOB NOT NULL, "
    "sums BLOB NOT NULL)",
    "CREATE TABLE contents (number INTEGER PRIMARY KEY, vector BLOB NOT NULL, thumbnail BLOB NOT NULL)",
    "CREATE TABLE erased (step INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL)",
    "CREATE TABLE aside (number INTEGER PRIMARY KEY)",
    "CREATE TABLE blocks (file TEXT, block INTEGER, size INTEGER NOT NULL, sum INTEGER NOT NULL, "
    "PRIMARY KEY (file, block)) WITHOUT ROWID",
)


def exists(folder: Path) -> bool:
    """Whether a folder holds a gallery of this format."""
    return (folder / STORE).exists()


def is_earlier(folder: Path) -> bool:
    """Whether a folder holds a gallery of an earlier version."""
    return (folder / EARLIER).exists()


class State(NamedTuple):
    """What a process has to know to follow the others.

    Attributes:
        dim: D.
        change: counts every change.
        epoch: of the files that searches read.
        rows: of those files.
        steps: of ``erased``, the last.
        cleaned: the last step after which those files were blanked.
        short: number of the short codes; 0 for none.
        wiped: the last step of which nothing is left in the log either.
    """

    dim: int
    change: int = 0
    epoch: int = 0
    rows: int = 0
    steps: int = 0
    cleaned: int = 0
    short: int = 0
    wiped: int = 0


class Row(NamedTuple):
    """A picture as it is stored; ``item`` is None where it is damaged."""

    number: int
    item: Item | None


class Known(NamedTuple):
    """What is known of a row: its record, the 16 bytes of its id, and the checksum of its descriptor behind these."""

    record: Record
    id: bytes
    sum: int


class Store(Database):
    """See the module.

    Args:
        path: the file.
        dim: D of a new one; None opens one that is there.
    """

    def __init__(self, path: Path, dim: int | None = None):
        super().__init__(path, TABLES, create=dim is not None)
        try:
            if dim is not None and self.frozen is None:
                with self.writing() as db:
                    if db.execute("SELECT 1 FROM about WHERE name = 'state'").fetchone() is None:
                        self.set_state(db, State(dim))
        except BaseException:
            self.close()
            raise

    # What everything hangs on

    def state(self, db: sqlite3.Connection) -> State:
        """The state.

        Raises:
            DataError: there is none, or it is damaged.
        """
        row = db.execute("SELECT value FROM about WHERE name = 'state'").fetchone()
        try:
            *known, total = STATE.unpack(row[0])
            if total != crc32(row[0][:-4]):
                raise ValueError
        except (TypeError, ValueError, struct.error):
            raise DataError(
                f"{self.path} is damaged: it does not say what it holds; restore it from a backup"
            ) from None
        return State(*known)

    def set_state(self, db: sqlite3.Connection, state: State) -> State:
        """Keep the state, as one change more."""
        state = state._replace(change=state.change + 1)
        packed = STATE.pack(*state, 0)[:-4]
        db.execute("INSERT OR REPLACE INTO about VALUES ('state', ?)", (packed + crc32(packed).to_bytes(4, "little"),))
        return state

    # Pictures

    def insert(self, db: sqlite3.Connection, items: Sequence[Item]) -> list[int]:
        """Store items as new rows; their numbers."""
        (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'pictures'").fetchone()
        numbers = list(range(last + 1, last + 1 + len(items)))
        rows = list(map(to_row, numbers, items))
        db.executemany("INSERT INTO pictures VALUES (?, ?, ?, ?)", [row[:4] for row in rows])
        db.executemany("INSERT INTO contents VALUES (?, ?, ?)", [(row[0], *row[4:]) for row in rows])
        return numbers

    def erase(self, db: sqlite3.Connection, numbers: Sequence[int]) -> int:
        """Blank rows and note it; the last step, for :class:`State`."""
        blank(db, "pictures", ("id", "record", "sums"), numbers)
        blank(db, "contents", ("vector", "thumbnail"), numbers)
        db.executemany("DELETE FROM aside WHERE number = ?", [(number,) for number in numbers])
        return self.note(db, numbers)

    def note(self, db: sqlite3.Connection, numbers: Iterable[int]) -> int:
        """Note that rows do not count any more; the last step."""
        db.executemany("INSERT INTO erased (number) VALUES (?)", [(int(number),) for number in numbers])
        (step,) = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'erased'").fetchone()
        return step

    def set_aside(self, db: sqlite3.Connection, numbers: Sequence[int]) -> int:
        """Take damaged rows out of every search, and keep them as they are; the last step."""
        db.executemany("INSERT OR IGNORE INTO aside VALUES (?)", [(int(number),) for number in numbers])
        return self.note(db, numbers)

    def aside(self, db: sqlite3.Connection) -> list[int]:
        """Numbers of the damaged rows."""
        return [number for (number,) in db.execute("SELECT number FROM aside")]

    def ids(self, db: sqlite3.Connection, numbers: Sequence[int]) -> list[str]:
        """Ids of rows, also of damaged ones, as far as they have any."""
        found = [id for (id,) in self._among(db, "SELECT id FROM pictures WHERE number IN ({})", numbers)]
        return [str(UUID(bytes=id)) for id in found if len(id) == len(BLANK_ID) and id != BLANK_ID]

    def steps(self, db: sqlite3.Connection, after: int) -> list[int]:
        """Numbers of the rows that do not count since a step."""
        return [number for (number,) in db.execute("SELECT number FROM erased WHERE step > ?", (after,))]

    def are_gone(self, db: sqlite3.Connection, numbers: Sequence[int]) -> bool:
        """Whether rows are blank, set aside or no more; what ``erased`` says is not believed without."""
        query = "SELECT count(*) FROM pictures WHERE number IN ({}) AND id != zeroblob(length(id))"
        blank = list({*numbers} - {*self.aside(db)})
        return not any(count for (count,) in self._among(db, query, blank))

    def records(self, db: sqlite3.Connection, numbers: Sequence[int]) -> tuple[list[Record], list[int]]:
        """Records by number, in order, and the numbers of those that are damaged or missing."""
        known, bad = self.known(db, numbers)
        return [each.record for each in known], bad

    def known(self, db: sqlite3.Connection, numbers: Sequence[int]) -> tuple[list[Known], list[int]]:
        """What is known of rows by number, in order, and the numbers of those that are damaged or missing."""
        found: dict[int, tuple[bytes, bytes, int]] = {}
        query = "SELECT number, id, record, sums FROM pictures WHERE number IN ({})"
        try:
            rows = list(self._among(db, query, numbers))
        except sqlite3.DatabaseError as error:
            if primary(error) not in BROKEN:
                raise
            rows = []
            for number in numbers:  # the others can be read
                with suppress(sqlite3.DatabaseError):
                    rows += self._among(db, query, [number])
        for number, id, record, sums in rows:
            if len(sums) == SUMS.size and (told := SUMS.unpack(sums))[0] == crc32(record, crc32(id)):
                found[number] = (record, id, told[1])
        try:
            told = [found[number] for number in numbers if number in found]
            records = read_records([record.decode() for record, _, _ in told])
        except (DataError, ValueError) as error:
            raise DataError(f"{self.path} holds a record that is none ({error}); restore it from a backup") from None
        known = [Known(record, id, total) for record, (_, id, total) in zip(records, told)]
        return known, [number for number in numbers if number not in found]

    def keys(self, db: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, bytes]:
        """The 16 bytes of the id of each row, by number; those that cannot be read are left out."""
        with suppress(sqlite3.DatabaseError):
            return dict(self._among(db, "SELECT number, id FROM pictures WHERE number IN ({})", numbers))
        return {}

    def item(self, db: sqlite3.Connection, number: int, dim: int) -> Item | None:
        """The picture under a number; None where it is damaged or missing."""
        rows, _ = readable(db, number, number)
        return from_row(rows[0][1:], dim) if rows else None

    def thumbnail(self, db: sqlite3.Connection, number: int, id: bytes) -> bytes:
        """JPEG of a row; empty where there is none, it is damaged, or the row is another picture's."""
        row = db.execute(
            "SELECT id, thumbnail, sums FROM pictures JOIN contents USING (number) WHERE number = ?", (number,)
        ).fetchone()
        if row is None or len(row[2]) != SUMS.size or row[0] != id:
            return b""
        if SUMS.unpack(row[2])[2] != crc32(row[1], crc32(id)):
            return b""
        return row[1]

    def last(self, db: sqlite3.Connection) -> int:
        """The largest number there is."""
        return db.execute("SELECT coalesce(max(number), 0) FROM pictures").fetchone()[0]

    def rows(self, db: sqlite3.Connection, dim: int, many: int = MANY) -> Iterator[list[Row]]:
        """Every row that counts, in order of number, some at a time; blank ones and those set aside are left out."""
        set_aside, last = set(self.aside(db)), self.last(db)
        for start in range(1, last + 1, many):
            found, lost = readable(db, start, min(start + many - 1, last))
            rows = [Row(number, from_row(rest, dim)) for number, *rest in found if rest[0] != BLANK_ID]
            rows += [Row(number, None) for number in lost]
            yield [row for row in rows if row.number not in set_aside]

    def _drop_blank(self, db: sqlite3.Connection) -> None:
        super()._drop_blank(db)
        db.execute("DELETE FROM pictures WHERE id = zeroblob(length(id))")
        db.execute("DELETE FROM contents WHERE number NOT IN (SELECT number FROM pictures)")

    # Checksums of the files that searches read

    def blocks(self, db: sqlite3.Connection) -> dict[str, list[tuple[int, int]]]:
        """Size and checksum of every block of every file, by the file's name."""
        found: dict[str, list[tuple[int, int]]] = {}
        for file, size, total in db.execute("SELECT file, size, sum FROM blocks ORDER BY file, block"):
            found.setdefault(file, []).append((size, total))
        return found

    def blocks_of(self, db: sqlite3.Connection, file: str) -> list[tuple[int, int]]:
        """Size and checksum of every block of a file."""
        return db.execute("SELECT size, sum FROM blocks WHERE file = ? ORDER BY block", (file,)).fetchall()

    def last_block(self, db: sqlite3.Connection, file: str) -> tuple[int, int, int]:
        """Number, size and checksum of a file's last block; (0, 0, 0) where it is empty."""
        query = "SELECT block, size, sum FROM blocks WHERE file = ? ORDER BY block DESC LIMIT 1"
        return db.execute(query, (file,)).fetchone() or (0, 0, 0)

    def set_blocks(self, db: sqlite3.Connection, file: str, blocks: Iterable[tuple[int, int, int]]) -> None:
        """Keep number, size and checksum of blocks."""
        db.executemany("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?)", [(file, *block) for block in blocks])

    def forget_blocks(self, db: sqlite3.Connection, files: str = "*") -> None:
        """Forget the files whose names fit a pattern."""
        db.execute("DELETE FROM blocks WHERE file GLOB ?", (files,))

    def _among(self, db: sqlite3.Connection, query: str, numbers: Sequence[int]) -> Iterator[Any]:
        """Rows of a query that asks for ``numbers`` at ``{}``, some at a time."""
        for start in range(0, len(numbers), MANY):
            some = [int(number) for number in numbers[start : start + MANY]]
            yield from db.execute(query.format(",".join("?" * len(some))), some)


def blank(db: sqlite3.Connection, table: str, columns: Sequence[str], numbers: Iterable[int]) -> None:
    """Overwrite columns of rows with as many zeros."""
    zeros = ", ".join(f"{column} = zeroblob(length({column}))" for column in columns)
    db.executemany(f"UPDATE {table} SET {zeros} WHERE number = ?", [(number,) for number in numbers])


def readable(db: sqlite3.Connection, first: int, last: int, query: str = ROWS) -> tuple[list[Any], list[int]]:
    """Rows of a span of numbers that can be read, and the numbers of those that cannot."""
    try:
        return db.execute(f"{query} WHERE number BETWEEN ? AND ? ORDER BY number", (first, last)).fetchall(), []
    except sqlite3.DatabaseError as error:
        if primary(error) not in BROKEN:
            raise
        if first == last:
            return [], [first]
        middle = (first + last) // 2
        left, right = readable(db, first, middle, query), readable(db, middle + 1, last, query)
        return left[0] + right[0], left[1] + right[1]


def to_row(number: int, item: Item) -> tuple[Any, ...]:
    """An item as a row."""
    id, record = bytes.fromhex(item.record.id.replace("-", "")), json.dumps(item.record.to_dict()).encode()
    vector = np.ascontiguousarray(item.vector, "<f4").tobytes()
    start = crc32(id)
    sums = SUMS.pack(crc32(record, start), crc32(vector, start), crc32(item.thumbnail, start))
    return number, id, record, sums, vector, bytes(item.thumbnail)


def from_row(row: Sequence[Any], dim: int) -> Item | None:
    """The item in a row; None where it is damaged, and without its thumbnail where only that is."""
    id, record, sums, vector, thumbnail = row
    if vector is None or len(sums) != SUMS.size or len(vector) != 4 * dim:
        return None
    start, (first, second, third) = crc32(id), SUMS.unpack(sums)
    if (crc32(record, start), crc32(vector, start)) != (first, second):
        return None
    (known,) = read_records([record.decode()])
    return Item(known, np.frombuffer(vector, "<f4"), thumbnail if crc32(thumbnail, start) == third else b"")
