"""What people said about matches: the only door to it.

A mark says that a query and a picture of a gallery show the same person, or do not. Marks are rows, one for the last
word of each person on a pair (:mod:`regard.gallery.mark_table`); the last of them counts, or, where two people must
agree, all of them do. Photographs of marked queries are kept with them, as small JPEGs, for as long as a mark of theirs
is.

A gallery in a folder keeps its marks in its own store, where a picture and what was said about it go in one change.
Those on galleries that keep none, which are on servers, have a database of their own, ``marks.sqlite``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from regard.errors import ConfigError, DataError, StorageError
from regard.gallery.database import MARKS, Database
from regard.gallery.mark_lines import TAKEN, are_there, take_lines
from regard.gallery.mark_table import (
    UNWIPED,
    Mark,
    Pair,
    Row,
    Word,
    add_photo,
    blank_photos,
    blank_words,
    called,
    check_name,
    check_word,
    drop_all,
    forget,
    photo_of,
    pictures_in,
    read_rows,
    say,
    standing,
    wastes,
)
from regard.gallery.store import STORE, Store, exists
from regard.storage import refuse_link

__all__ = ["KeptMarks", "Mark", "MissingPictureError", "Pair"]

OWN = "marks.sqlite"
BESIDE = "marks"
"""Folder in that of a gallery, where earlier versions kept its marks."""

Changing = Callable[[], AbstractContextManager[tuple[sqlite3.Connection, Callable[[Sequence[str]], bool]]]]
"""Begins a change: the connection, and whether pictures are there in it."""

Found = TypeVar("Found")


class MissingPictureError(DataError):
    """A picture that is to be marked was deleted meanwhile."""


class KeptMarks:
    """Marks in a database.

    Args:
        folder: where it lies, or the folder ``marks`` in that of a gallery, whose store it is then; made by the first
            mark. Marks that an earlier version left there are moved into the database.
        two_people: a mark counts when two people with different names have said the same.
        database: the one of the gallery, where that is open.
        changing: changes it.

    Attributes:
        folder, two_people: the same.
        called: the gallery whose store it is, by the name that it has now. What is said of it is kept without one, so
            that it stays what it is about when the folder is renamed or copied; empty for marks of several galleries.
        others: names of other galleries, where they are known: what earlier versions kept under any but these, on
            pictures that are in this gallery, is about this one as well.
    """

    def __init__(
        self,
        folder: Path,
        *,
        two_people: bool = False,
        database: Database | None = None,
        changing: Changing | None = None,
    ):
        self.folder = folder
        self.two_people = two_people
        self._database, self._lent = database, database is not None
        self._changing = changing or self._changing_alone
        self._busy, self._writing = threading.RLock(), threading.RLock()
        self._read: tuple[Any, dict[Pair, Mark], list[int]] = (None, {}, [])
        own = folder.name == BESIDE and (self._lent or exists(folder.parent))
        self.called = folder.absolute().parent.name if own else ""
        self.others: Collection[str] | None = None

    def set(
        self,
        pair: Pair,
        *,
        right: bool | None,
        photo: bytes,
        by: str = "",
        needs: Sequence[str] = (),
        note: Callable[[Mark | None], None] = lambda stands: None,
    ) -> Mark | None:
        """Say that a match is right or wrong; None takes back what was said, by the same person where two must agree.

        Args:
            pair: of what.
            right: the word on it.
            photo: JPEG of the query, kept from now on.
            by: who says so.
            needs: ids of pictures of the gallery that have to be there when it is said.
            note: given what will stand, before it does; nothing is said where that raises.

        Returns:
            What now stands; None for nothing.

        Raises:
            ConfigError: two people must agree, and nobody is named.
            DataError: a name is one that cannot be kept.
            MissingPictureError: one that has to be there is not.
            StorageError: it could not be written; earlier marks are intact.
        """
        if self.two_people and not by:
            raise ConfigError("marks want two people with names here (--two-person); come in with a token of your own")
        word = Word(pair, right, by, datetime.now(UTC).isoformat(timespec="seconds"))
        check_word(word)

        def change(db: sqlite3.Connection) -> Mark | None:
            before = self._said(db, read_rows(db))
            on_pair = [row for row in before if row.word and row.word.pair == pair]
            gone = {row.number for row in say(db, word if pair.gallery != self.called else called(word, ""), on_pair)}
            said = [*(row.word for row in before if row.word and row.number not in gone), word]
            stands = standing(said, two_people=self.two_people)
            if right is not None:
                add_photo(db, pair.query, photo)
            elif all(other.query != pair.query for other in stands):
                blank_photos(db, {other.pair.query for other in said} - {pair.query})
            note(stands.get(pair))
            return stands.get(pair)

        return self._change(change, needs)

    def words(self) -> dict[Pair, Mark]:
        """What stands on every pair.

        Raises:
            StorageError: the marks cannot be read.
            DataError: the database is damaged.
        """
        return dict(self._now()[0])

    def all(self) -> dict[Pair, bool]:
        """Whether each pair is right, of those that count.

        Raises:
            StorageError: the marks cannot be read.
        """
        return {pair: mark.right for pair, mark in self.words().items() if mark.state == "confirmed"}

    def damaged(self) -> list[int]:
        """Numbers of the rows that are no marks: damaged, cut short, or of somebody who means harm."""
        return list(self._now()[1])

    def clear(self) -> None:
        """Forget all marks and the photographs kept with them."""
        self._forget(drop_all)

    def discard(self) -> int:
        """Forget what is damaged, or was never a mark; how many rows that is."""
        bad = self.damaged()
        if bad:
            self._forget(lambda db: blank_words(db, bad))
        return len(bad)

    def forget(self, ids: Collection[str]) -> int:
        """Forget what was said about pictures that are deleted, and photographs of queries that no mark is left of.

        Args:
            ids: of the pictures, as matches or as queries.

        Returns:
            How many words went; no byte of them is left.

        Raises:
            StorageError: it could not be written; all marks are as they were.
        """
        self.settle()
        return self._change(lambda db: forget(db, ids)) if ids and self._opened() else 0

    def photo(self, query: str) -> bytes:
        """JPEG of a marked query; empty where there is none, or it is damaged."""
        check_name(query)
        self.settle()
        database = self._opened()
        if database is None:
            return b""
        with database.reading() as db:
            return photo_of(db, query)

    def settle(self) -> None:
        """Take over marks that an earlier version has left here.

        Raises:
            StorageError: they cannot be read, or the disk refuses; they are as they were.
        """
        if are_there(self.folder):
            with self._writing:
                database = self._opened(create=True)
                assert database is not None
                take_lines(self.folder, database, self._changing)
                self.finish()

    def finish(self) -> None:
        """Leave nothing in the database's log of what was blanked, and give room back where much is blank.

        What was read of a file that is removed by now is forgotten, so that one that is put back is read again.

        Raises:
            StorageError: another process reads for too long.
        """
        database = self._opened()
        if database is None or database.frozen is not None:
            return
        with database.reading() as db:
            left = {name for (name,) in db.execute("SELECT name FROM about WHERE name IN (?, ?)", (UNWIPED, TAKEN))}
        if TAKEN in left and not are_there(self.folder):
            with database.writing() as db:
                db.execute("DELETE FROM about WHERE name = ?", (TAKEN,))
        if UNWIPED not in left:
            return
        database.wipe()
        with database.writing() as db:
            db.execute("DELETE FROM about WHERE name = ?", (UNWIPED,))
            much = wastes(db)
        if much:
            database.compact()

    def close(self) -> None:
        """Let go of a database of its own."""
        with self._writing, self._busy:
            if self._database is not None and not self._lent:
                self._database.close()
                self._database = None

    def _forget(self, which: Callable[[sqlite3.Connection], None]) -> None:
        """Blank words, and photographs that no word is left of."""

        def blanked(db: sqlite3.Connection) -> None:
            which(db)
            blank_photos(db, {row.word.pair.query for row in read_rows(db) if row.word})

        self.settle()
        if self._opened():
            self._change(blanked)

    def _now(self) -> tuple[dict[Pair, Mark], list[int]]:
        """What stands on every pair, and the numbers of the rows that are no marks, as they are by now."""
        self.settle()
        database = self._opened()
        if database is None:
            return {}, []
        with self._busy, database.reading() as db:
            changed = db.execute("SELECT value FROM about WHERE name = 'marks'").fetchone()
            state = changed, self.two_people, self.called, self.others
            if state != self._read[0]:
                rows = read_rows(db)
                said = [row.word for row in self._said(db, rows) if row.word]
                stands = standing(said, two_people=self.two_people)
                self._read = state, stands, [row.number for row in rows if row.word is None]
            return self._read[1:]

    def _said(self, db: sqlite3.Connection, rows: Sequence[Row]) -> list[Row]:
        """Rows that are words; those about the gallery whose store this is under the name that it has now."""
        said = [(row, row.word) for row in rows if row.word]
        if not self.called:
            return [row for row, _ in said]
        old = {word.pair for _, word in said if word.pair.gallery not in {"", self.called, *(self.others or ())}}
        there = pictures_in(db, {pair.match for pair in old} if self.others is not None else ())
        own = (not word.pair.gallery or (word.pair in old and word.pair.match in there) for _, word in said)
        return [row._replace(word=called(word, self.called)) if its else row for (row, word), its in zip(said, own)]

    def _change(self, work: Callable[[sqlite3.Connection], Found], needs: Sequence[str] = ()) -> Found:
        """Do something in one change, and wipe what it has blanked."""
        self.settle()
        with self._writing:
            self._opened(create=True)
            with self._changing() as (db, there):
                if not there(needs):
                    raise MissingPictureError("a picture of this mark is not in the gallery any more; search again")
                found = work(db)
            self.finish()
            return found

    @contextmanager
    def _changing_alone(self) -> Iterator[tuple[sqlite3.Connection, Callable[[Sequence[str]], bool]]]:
        database = self._opened(create=True)
        assert database is not None
        with database.writing() as db:
            yield db, lambda needs: True

    def _opened(self, *, create: bool = False) -> Database | None:
        """The database; None where it is not made yet."""
        with self._busy:
            if self._database is not None:
                return self._database
            path = self.folder / OWN
            if self.folder.name == BESIDE and exists(self.folder.parent):
                self._database = Store(self.folder.parent / STORE)
            elif create or os.path.lexists(path):
                try:
                    refuse_link(self.folder)
                    self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                except OSError as error:
                    raise StorageError(
                        f"the marks could not be written to {self.folder} ({error.strerror or error}); mend that, "
                        "then mark or search again"
                    ) from error
                self._database = Database(path, MARKS, create=True)
                self.finish()
            return self._database
