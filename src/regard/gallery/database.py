"""An SQLite file of ours, which many processes read and write at once.

It is taken for ours by its application id, its version and exactly our tables. SQLite answers for the rest: a change is
there whole or not at all, whatever ends the process, and durable when :meth:`Database.writing` is left
(https://sqlite.org/wal.html). The few values that everything else hangs on carry checksums.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from regard.errors import DataError, StorageError
from regard.parsing import parse_json
from regard.storage import open_regular

__all__ = ["BROKEN", "MARKS", "PATIENCE", "Database", "primary", "seal", "unseal"]

FORMAT = 3
APPLICATION = 0x72656761
"""Says in the file's head whose it is: ``rega``."""

PATIENCE = 120.0
"""Seconds to wait for another process that writes."""

PAGE = 8192
LOG_PAGES = 4096
"""Pages that the log may hold before they are moved into the file: 32 MB, several additions of a thousand pictures."""

BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
REFUSED = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
MARKS = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE marks (number INTEGER PRIMARY KEY AUTOINCREMENT, word BLOB NOT NULL)",
    "CREATE TABLE photos (number INTEGER PRIMARY KEY AUTOINCREMENT, query BLOB NOT NULL, photo BLOB NOT NULL)",
)


class Database:
    """An SQLite file of ours, for the threads of one process.

    Args:
        path: the file.
        tables: statements that make its tables; a file that holds any other is not ours.
        create: make it where it is missing.

    Attributes:
        frozen: why nothing can be written; None where it can.

    Raises:
        DataError: it is missing, damaged, of a later version, or no such file.
        StorageError: it can be neither read nor made.
    """

    def __init__(self, path: Path, tables: Sequence[str], *, create: bool = False):
        self.path = path
        self.frozen: str | None = None
        self._tables = tables
        self._locks = {"read": threading.RLock(), "write": threading.RLock()}
        self._connections: dict[str, sqlite3.Connection] = {}
        if create:
            with self._plainly(), suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            for ending in ("", "-wal", "-shm"):
                if ending == "" or os.path.lexists(f"{path}{ending}"):
                    open_regular(f"{path}{ending}", follow=False).close()
        except OSError as error:
            raise StorageError(f"cannot open {error.filename} ({error.strerror}); check the path") from None
        with self._plainly():
            self._open(create=create)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold one state of the database, whatever others write meanwhile."""
        with self._locks["read"], self._plainly():
            connection = self._connection("read")
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Change the database, all or nothing; only one process does at a time, the others wait.

        Raises:
            StorageError: the disk refused, or another process writes for longer than :data:`PATIENCE`.
        """
        with self._locks["write"], self._plainly():
            if self.frozen is not None:
                raise StorageError(f"{self.path.parent} can only be read ({self.frozen}); nothing was changed")
            connection = self._connection("write")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.rollback()
                raise

    def read(self, db: sqlite3.Connection, name: str) -> Any:
        """A value of ``about``; None where there is none.

        Raises:
            DataError: it is damaged.
        """
        row = db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        try:
            return None if row is None else unseal(row[0])
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.path} is damaged: {name} ({error}); restore it from a backup") from None

    def write(self, db: sqlite3.Connection, name: str, value: Any) -> None:
        """Keep a value of ``about``."""
        db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, seal(json.dumps(value).encode())))

    def wipe(self) -> None:
        """Move what was written into the file and empty the log beside it.

        Raises:
            StorageError: another process reads for longer than :data:`PATIENCE`.
        """
        until = time.monotonic() + PATIENCE
        with self._locks["write"], self._plainly():
            # another process that does the same is not waited for by SQLite itself
            while self._connection("write").execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > until:
                    raise StorageError(
                        f"what was removed is in no search any more, but still in {self.path}-wal: another process has "
                        f"been reading for {PATIENCE:.0f} s; end it, and open the gallery again"
                    )
                time.sleep(0.01)

    def compact(self) -> None:
        """Give back the room of rows that are blank; the numbers of the others stay."""
        with self.writing() as db:
            self.write(db, "compacting", True)
            self._drop_blank(db)
        self.finish_compacting()

    def _drop_blank(self, db: sqlite3.Connection) -> None:
        for table, column in (("marks", "word"), ("photos", "query")):
            db.execute(f"DELETE FROM {table} WHERE {column} = zeroblob(length({column}))")

    def finish_compacting(self) -> None:
        """Write the file anew where :meth:`compact` was ended in the middle of it."""
        with self._locks["write"], self._plainly():
            if self.frozen is None and self.read(self._connection("write"), "compacting"):
                self._connection("write").execute("VACUUM")
                with self.writing() as db:
                    self.write(db, "compacting", False)
                self.wipe()

    def close(self) -> None:
        """Let go of the file."""
        for name, lock in self._locks.items():
            with lock:
                connection = self._connections.pop(name, None)
                if connection is not None:
                    connection.close()

    def _open(self, *, create: bool) -> None:
        try:
            self._connections["write"] = connection = self._connect()
            if create and not connection.execute("PRAGMA user_version").fetchone()[0]:
                self._make(connection)
            self._upgrade(connection)
            self._check(connection)
            self._connections["read"] = self._connect()
            self._connections["read"].execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            self.close()
            log = Path(f"{self.path}-wal")
            if primary(error) not in REFUSED or (log.exists() and log.stat().st_size):
                raise
            self.frozen = f"{error}; its disk is full, or may not be written"
            self._connections["read"] = connection = self._connect("mode=ro&immutable=1")
            self._check(connection)
        except BaseException:
            self.close()
            raise

    def _connect(self, how: str = "mode=rw") -> sqlite3.Connection:
        address = f"{self.path.absolute().as_uri()}?{how}"
        connection = sqlite3.connect(
            address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        for pragma in (
            "trusted_schema = OFF", "cell_size_check = ON", "secure_delete = ON", "synchronous = FULL",
            f"wal_autocheckpoint = {LOG_PAGES}",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _make(self, connection: sqlite3.Connection) -> None:
        """Make the tables, unless another process has by now."""
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            for statement in self._tables:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.commit()

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Make the tables for marks, which the format before this had not."""
        if self._is_earlier(connection):
            connection.execute("BEGIN IMMEDIATE")
            for statement in {*self._tables} - found_in(connection):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.commit()

    def _is_earlier(self, connection: sqlite3.Connection) -> bool:
        """Whether it is ours, and has all but the tables for marks."""
        ours = version_of(connection) == (APPLICATION, FORMAT - 1)
        return ours and found_in(connection) == {*self._tables} - {*MARKS[1:]}

    def _check(self, connection: sqlite3.Connection) -> None:
        """Check that the file is ours, of this version, and holds our tables and nothing that runs by itself."""
        whose, version = version_of(connection)
        if self.frozen is not None and self._is_earlier(connection):
            return
        if whose == APPLICATION and version > FORMAT:
            raise DataError(f"{self.path} is of a later regard (format {version}, this reads {FORMAT}); update regard")
        if (whose, version) != (APPLICATION, FORMAT) or found_in(connection) != {*self._tables}:
            raise DataError(f"{self.path} is no store of regard, or damaged; restore it from a backup")

    def _connection(self, name: str) -> sqlite3.Connection:
        if name not in self._connections:
            raise StorageError(f"the gallery {self.path.parent} is closed; open it again")
        return self._connections[name]

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Let SQLite's errors come out as ours."""
        try:
            yield
        except sqlite3.Error as error:
            code = primary(error)
            if code in BROKEN:
                raise DataError(
                    f"{self.path} is damaged ({error}); regard gallery check --repair saves what can be read, or "
                    "restore it from a backup"
                ) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StorageError(
                    f"another process has been writing to {self.path} for {PATIENCE:.0f} s; nothing was changed, try "
                    "again when it is done"
                ) from error
            raise StorageError(
                f"{self.path}: {error}; nothing was changed, what was stored before is intact; make room, or check "
                "the permissions"
            ) from error
        except OSError as error:
            raise StorageError(
                f"cannot write in {self.path.parent} ({error.strerror or error}); nothing was changed"
            ) from error


def found_in(db: sqlite3.Connection) -> set[str]:
    """Statements that made what is in a database."""
    return {text for (text,) in db.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}


def version_of(db: sqlite3.Connection) -> tuple[int, int]:
    """Whose a database is, and of which version."""
    return db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]


def primary(error: sqlite3.Error) -> int:
    """The kind of an error of SQLite, without what it is more exactly; 0 where it does not say."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def seal(content: bytes) -> bytes:
    """Bytes behind their checksum."""
    return crc32(content).to_bytes(4, "little") + content


def unseal(value: bytes) -> Any:
    """What JSON that was sealed says.

    Raises:
        ValueError: it is damaged.
    """
    if int.from_bytes(value[:4], "little") != crc32(value[4:]):
        raise ValueError("its checksum does not fit")
    return parse_json(value[4:])
