"""The files that searches read, kept as the store of a gallery says: followed, checked, blanked, made anew.

Shapes: D descriptor length.

What a gallery holds lies in :class:`~regard.gallery.store.Store`; :class:`~regard.gallery.columns.Table` mirrors it in
files of columns. :class:`Mirror` holds both together: whoever reads gets one moment of the two, whoever changes
something gets both as they are now, every process looks before it answers whether there was a change, and files that
are not what was written are made anew from the store.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from regard.errors import DataError, StorageError
from regard.gallery.columns import Table, View, key_of
from regard.gallery.int8_scan import BrokenBoundsError
from regard.gallery.pca_codes import make_short
from regard.gallery.record import Filter, Record
from regard.gallery.seen import agree, see
from regard.gallery.store import STORE, Known, Row, State, Store

__all__ = ["BATCH", "Looked", "Mirror"]

TRIES = 3
"""Searches that are overtaken by a removal before one holds the others up."""

BATCH = 2000
"""Rows read at a time where the files are made anew."""

KEPT = 4000
"""Records that are kept in memory, about 3 MB."""

LARGE = ("vectors", "codes", "bounds", "short")
"""Files that hold most of the bytes, by how their names begin."""

WASTE = 10_000
"""Blank rows that are kept however few others there are."""

Found = TypeVar("Found")
Looked = tuple[View, Callable[[], np.ndarray]]
"""The table at a moment, and what computes the rows."""


class Mirror:
    """A gallery's store, and the table in files that searches read.

    Args:
        folder: the gallery's.
        store: the truth, open.
        progress: called with (pictures done, pictures in all) while the files are made anew.

    Attributes:
        dim: D.
        busy: held by who looks at the table in this process.
        writing: held by who changes something in this process.

    Raises:
        StorageError: the disk refuses, or another process writes for too long.
        DataError: the store is damaged.
    """

    def __init__(self, folder: Path, store: Store, progress: Callable[[int, int], None]):
        self.folder, self.store, self._progress = folder, store, progress
        self.busy, self.writing = threading.RLock(), threading.RLock()
        self._table: Table | None = None
        self._seen, self._kept, self._totals = -1, dict[int, Known](), dict[int, int]()
        store.finish_compacting()
        with store.reading() as db:
            self.dim = store.state(db).dim
        with self.plainly():
            self.now()
        with suppress(StorageError):  # whoever removes something next does it, or the next to open
            self.clean()
            self.tidy()

    def close(self) -> None:
        """Let go of the files and of the store."""
        with self.writing, self.busy:
            self._table = None
            self.store.close()

    def refresh(self, *, small: bool = False) -> bool:
        """Check the files that searches read, and make them anew where one is not what was written; whether it was.

        Args:
            small: only those that filters and removals go by, which are few bytes a picture.
        """
        with self.plainly(), self.store.reading() as db:
            state, blocks = self.store.state(db), self.store.blocks(db)
        known = {name: sums for name, sums in blocks.items() if not (small and name.startswith(LARGE))}
        if self._home(state).is_dir() and Table(self._home(state), state).is_whole(known):
            return False
        return self._reread() != state.epoch

    def reread(self) -> bool:
        """Read every file, and make them anew where one is not what was written; whether it was."""
        with self.store.reading() as db:
            before = self.store.state(db).epoch
        return self._reread() != before

    def _reread(self) -> int:
        with self.plainly(), self.busy:
            self._table = None
            self.now()
        with self.store.reading() as db:
            return self.store.state(db).epoch

    @contextmanager
    def looking(self) -> Iterator[Table]:
        """The table as it is now, while nobody else in this process looks."""
        with self.plainly(), self.busy:
            yield self.now()

    # One moment for everything that is read

    def read(
        self,
        look: Callable[[Table], Looked],
        take: Callable[[list[Record], np.ndarray | None], Found],
        filter: Filter | None = None,
        *,
        described: bool = False,
    ) -> Found:
        """What ``take`` makes of the rows that ``look`` finds: of their records and descriptors, all of one moment.

        Rows may be blanked while they are looked at. The store knows, by the time the records are read, and then all
        is done again; at last with everybody who writes held up. It is done again, too, where what was seen in the
        files is not what the store has: these are made anew then.

        Args:
            look: finds rows in a table.
            take: makes the answer.
            filter: what the records have to be accepted by.
            described: the descriptors count.
        """
        for number in range(TRIES):
            with nullcontext() if self.store.frozen or number < TRIES - 1 else self._held_up():
                broken, rows = False, np.empty(0, np.int64)
                with self.looking() as table:
                    view = table.view()
                    try:
                        view, compute = look(table)
                    except IndexError:
                        broken = True
                try:
                    rows = rows if broken else compute()
                except BrokenBoundsError:
                    broken = True
                seen = see(view, rows, described=described)
                with self.store.reading() as db:
                    known, bad = self._records(db, seen.numbers)
                    same = self.store.state(db).steps == view.step
            if not same:
                continue
            records = [each.record for each in known]
            if not (bad or broken) and seen.fits(known, self._totals) and (filter is None or agree(filter, records)):
                return take(records, seen.vectors)
            if not self.refresh():
                self._set_aside(bad or seen.numbers)
        raise DataError(f"{self.store.path} is damaged, and more so than could be set aside; restore it from a backup")

    def ask(self, ask: Callable[[Table], Found]) -> Found:
        """What a table answers; made anew where it holds what cannot be."""
        for _ in range(TRIES):
            with self.looking() as table, suppress(IndexError):
                return ask(table)
            self.refresh()
        raise DataError(f"{self.folder} has values that there are not, and could not be made anew; check the disk")

    # Changes

    @contextmanager
    def changing(self) -> Iterator[tuple[sqlite3.Connection, Table, State]]:
        """Change the gallery: the store's connection, the table, and the state, all as they are now."""
        with self.writing:
            with self.plainly():
                self.now()
            try:
                with self.store.writing() as db:
                    with self.busy:
                        state = self.store.state(db)
                        table = self._followed(db, state)
                    if table is None:
                        raise StorageError(
                            f"the files of {self.folder} were lost just now; nothing was changed, try again"
                        )
                    yield db, table, state
            except BaseException as error:
                with suppress(StorageError, DataError):
                    self.tidy()
                if not isinstance(error, OSError | MemoryError):
                    raise
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise StorageError(
                    f"could not write in {self.folder} ({reason}); nothing was changed, make room"
                ) from error

    @contextmanager
    def changing_rows(self, ids: Sequence[str]) -> Iterator[tuple[sqlite3.Connection, Table, State, list[int]]]:
        """:meth:`changing`, with the numbers of those ids that are there, which the store has confirmed."""
        for _ in range(TRIES):
            with self.changing() as (db, table, state):
                rows = table.rows_of(ids)
                rows = np.unique(rows[rows >= 0])
                seen = see(table.view(), rows, described=False)
                with self.store.reading() as reads:
                    theirs = self.store.keys(reads, seen.numbers)
                wanted = {key_of(id) for id in ids}
                found = {theirs.get(number) for number in seen.numbers}
                if len(found) == len(rows) and found <= wanted:
                    yield db, table, state, seen.numbers
                    return
            if not self.refresh():
                self._set_aside(seen.numbers)
        raise DataError(f"{self.store.path} is damaged: it has other pictures than its files; restore it from a backup")

    def clean(self) -> None:
        """Blank in the files what the store has blanked, and leave nothing of it in its log."""
        if self.store.frozen is not None:
            return
        with self.store.reading() as db:
            state = self.store.state(db)
        if state.cleaned != state.steps:
            try:
                with self.changing() as (db, table, state):
                    state = self.store.set_state(db, table.clean(self.store, db, state))
            except (StorageError, IndexError):
                self._unlink()
        if state.wiped != state.steps:
            self.store.wipe()
            with self.store.writing() as db:
                now = self.store.state(db)
                self.store.set_state(db, now._replace(wiped=state.steps))

    def tidy(self) -> None:
        """Remove what was written and never counted, since a change was refused or its process killed."""
        if self.store.frozen is not None:
            return

        def found(db: sqlite3.Connection, table: Table) -> tuple[dict[Path, int], list[Path]]:
            others = [path for path in self.folder.glob("index-*") if path != table.folder]
            return table.leftovers(self.store, db), [*others, *self.folder.glob(f".{STORE}.new*")]

        with self.busy, self.store.reading() as db:
            if not any(found(db, self.now())):
                return
        with self.writing, self.store.writing() as db:  # where nobody is about to count it
            with self.busy:
                table = self._followed(db, self.store.state(db))
            if table is None:
                return
            tails, others = found(db, table)
            for path, size in tails.items():
                os.truncate(path, size) if size else path.unlink()
            for path in others:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def give_back(self) -> None:
        """Write the store anew where most of it is blank."""
        with self.store.reading() as db:
            rows = self.store.state(db).rows
        left = len(self.now())
        if rows - left > max(WASTE, left):
            self.store.compact()
            self._make_anew(force=True)

    # The table and its files

    def now(self) -> Table:
        """The table as the store has it by now."""
        with self.busy:
            for _ in range(TRIES):
                with self.store.reading() as db:
                    state = self.store.state(db)
                    if self._table is not None and not self._table.is_there():
                        self._table = None
                    if self._table is not None and state.change == self._seen:
                        return self._table
                    if table := self._followed(db, state):
                        return table
            self._make_anew()
            return self.now()

    def _followed(self, db: sqlite3.Connection, state: State) -> Table | None:
        """The table, brought to a state; None where its files are not what the store says."""
        table = self._table
        try:
            if table is None or table.epoch != state.epoch:
                table = Table(self._home(state), state)
                if state.epoch == 0 or not table.is_whole(self.store.blocks(db)):
                    return None
            if state.steps != table.view().step:
                self._kept, self._totals = {}, {}
            table.follow(self.store, db, state)
        except (OSError, ValueError, LookupError):
            self._table = None
            return None
        self._table, self._seen = table, state.change
        return table

    def _home(self, state: State) -> Path:
        return self.folder / f"index-{state.epoch}"

    def _records(self, db: sqlite3.Connection, numbers: Sequence[int]) -> tuple[list[Known], list[int]]:
        """What is known by number, and the numbers of those that are damaged; what is under a number never changes."""
        kept = self._kept
        if missing := [number for number in numbers if number not in kept]:
            found, bad = self.store.known(db, missing)
            if bad:
                return found, bad
            if len(kept) + len(missing) > KEPT:
                kept = {number: kept[number] for number in numbers if number in kept}
                self._totals = {}
            kept.update(zip(missing, found))
            self._kept = kept
        return [kept[number] for number in numbers], []

    @contextmanager
    def plainly(self) -> Iterator[None]:
        """Let what the system refuses come out as ours: a folder that is gone, no more open files."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"cannot read {self.folder} ({error.strerror or error}); mend that, try again"
            ) from error

    @contextmanager
    def _held_up(self) -> Iterator[None]:
        """Let nobody write."""
        with self.writing:
            self.now()
            with self.store.writing():
                yield

    def _set_aside(self, numbers: Sequence[int]) -> None:
        with self.changing() as (db, _, state):
            with self.store.reading() as reads:  # SQLite takes nothing more where it has come upon a broken page
                bad = [number for number in {*numbers} if self.store.item(reads, number, self.dim) is None]
            if bad:
                self.store.set_state(db, state._replace(steps=self.store.set_aside(db, bad)))
        self.clean()

    def _make_anew(self, *, force: bool = False) -> None:
        """Make the files from the store, in a folder of their own, and leave them to everybody."""
        with self.writing:
            try:
                with self.store.writing() as db:
                    state = self.store.state(db)
                    if not force and self._followed(db, state) is not None:
                        return  # another process was faster
                    self._table = None
                    total = self.store.last(db)
                    state = state._replace(epoch=state.epoch + 1, rows=0, cleaned=state.steps, short=0)
                    home = self._home(state)
                    shutil.rmtree(home, ignore_errors=True)
                    self.store.forget_blocks(db)
                    table, bad = Table(home, state), list[int]()
                    for rows in self._rows():
                        good = [row for row in rows if row.item is not None]
                        bad += [row.number for row in rows if row.item is None]
                        if good:
                            items = [row.item for row in good if row.item is not None]
                            table.append(self.store, db, [row.number for row in good], items)
                            state = state._replace(rows=state.rows + len(good))
                            table.follow(self.store, db, state)
                        self._progress(rows[-1].number if rows else 0, total)
                    if bad:
                        steps = self.store.set_aside(db, bad)
                        state = state._replace(steps=steps, cleaned=steps)
                    meta = self.store.read(db, "gallery") or {}
                    if meta.get("index") and state.rows:
                        short = make_short(table.view().coded, table.accepted(Filter()))
                        state = table.index(self.store, db, short, state)
                    self.store.set_state(db, state)
            except OSError as error:
                raise StorageError(
                    f"could not write {self.folder} ({error.strerror or error}); make room first"
                ) from error
        for path in self.folder.glob("index-*"):
            if path.name != f"index-{state.epoch}":
                shutil.rmtree(path, ignore_errors=True)

    def _rows(self) -> Iterator[list[Row]]:
        """Rows of the store; read by themselves, since SQLite writes no more where it has come upon a broken page."""
        with self.store.reading() as db:
            yield from self.store.rows(db, self.dim, BATCH)

    def _unlink(self) -> None:
        """Remove the files that could not be blanked: they are made anew when the gallery is opened next."""
        with self.busy:
            self._table, self._seen = None, -1
        for path in self.folder.glob("index-*"):
            shutil.rmtree(path, ignore_errors=True)
