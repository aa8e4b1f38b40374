"""The embedded engine: a folder with an SQLite store and files made from it to search in; nothing to start.

Shapes: Q queries, D descriptor length.

Any number of processes may search, add and remove at once. What :meth:`EmbeddedEngine.add` acknowledges lies in
:class:`~regard.gallery.store.Store`, and in the files of :class:`~regard.gallery.columns.Table` in the same change;
every process looks, before it answers, whether there was one. A search sees the gallery as it was at one moment: where
pictures were removed while it ran, it is made again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from regard.errors import DataError, StorageError
from regard.gallery.columns import Table, View, key_of
from regard.gallery.int8_scan import BrokenBoundsError, nearest
from regard.gallery.mark_table import forget
from regard.gallery.marks import BESIDE, KeptMarks
from regard.gallery.pca_codes import SAMPLE, Short, make_short, narrow, pays
from regard.gallery.query import Removed, with_record
from regard.gallery.record import Filter, Item, Record, Scored, is_id
from regard.gallery.seen import agree, see
from regard.gallery.store import STORE, Known, Row, State, Store, exists, is_earlier

__all__ = ["EmbeddedEngine", "Findings"]

SPARE_BYTES = 64 * 2**20
"""Left free on the disk."""

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


class Findings(NamedTuple):
    """What a check of a gallery found.

    Attributes:
        pictures: whole ones.
        aside: pictures that are damaged, and out of every search.
        faults: of the database, as SQLite says them, a line each.
        remade: whether files that searches read were damaged, and are made anew.
        marks: rows of marks that are damaged, or were never marks.
    """

    pictures: int
    aside: int
    faults: tuple[str, ...] = ()
    remade: bool = False
    marks: int = 0


class EmbeddedEngine:
    """A gallery in a folder; see :class:`regard.gallery.query.Engine`.

    Args:
        folder: where it lies; made when it is missing, and read once and rewritten where an earlier regard made it.
        dim: D; None opens one that is there.
        progress: called with (pictures done, pictures in all) while the files are made anew.

    Attributes:
        marks: what was said about its pictures.

    Raises:
        StorageError: the disk refuses, or another process writes for too long.
        DataError: the folder is no gallery, or it is damaged.
    """

    def __init__(self, folder: Path, dim: int | None = None, progress: Callable[[int, int], None] | None = None):
        self.folder = folder
        self._progress = progress or (lambda done, total: None)
        if dim is not None:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not any(folder.iterdir()):
                    folder.chmod(0o700)
            except OSError as error:
                raise StorageError(f"cannot make {folder} ({error.strerror}); choose another place") from None
        if is_earlier(folder):  # also where its files alone are left, since the end of a conversion was killed
            from regard.gallery.segments import convert  # brings pyarrow

            convert(folder, self._progress)
        if not exists(folder) and dim is None:
            raise DataError(f"{folder} is not a gallery (no {STORE}); make one: regard embed IMAGES -o GALLERY")
        self._busy, self._writing = threading.RLock(), threading.RLock()
        self._table: Table | None = None
        self._seen, self._kept, self._totals = -1, dict[int, Known](), dict[int, int]()
        self._store = Store(folder / STORE, dim)
        self.marks = KeptMarks(folder / BESIDE, database=self._store, changing=self._marking)
        try:
            self._store.finish_compacting()
            with self._store.reading() as db:
                self.dim = self._store.state(db).dim
            with self._plainly():
                self._now()
            with suppress(StorageError):  # whoever removes something next does it, or the next to open
                self._finish_cleaning()
                self._tidy()
            try:
                self.marks.settle()
                self.marks.finish()
            except (StorageError, DataError) as error:  # no search fails for that
                print(f"regard: {error}", file=sys.stderr)
        except BaseException:
            self._store.close()
            raise

    def read_meta(self) -> dict[str, Any]:
        """The gallery's description; empty for a new one."""
        with self._store.reading() as db:
            return self._store.read(db, "gallery") or {}

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Replace the gallery's description."""
        with self._writing, self._store.writing() as db:
            self._store.write(db, "gallery", meta)

    def amend_meta(self, changes: Mapping[str, Any]) -> None:
        """Change parts of the gallery's description."""
        with self._writing, self._store.writing() as db:
            self._store.write(db, "gallery", (self._store.read(db, "gallery") or {}) | dict(changes))

    @property
    def damaged(self) -> int:
        """Pictures whose rows are damaged, which no search sees."""
        with self._store.reading() as db:
            return len(self._store.aside(db))

    @property
    def read_only(self) -> str | None:
        """Why nothing can be written; None where it can."""
        return self._store.frozen

    def add(self, items: Sequence[Item]) -> None:
        """See :meth:`Engine.add`."""
        self.add_over(items, None)

    def add_over(self, items: Sequence[Item], over: Callable[[Record, Record], Record] | None) -> None:
        """See :func:`regard.gallery.query.stored`; what is damaged is replaced as if it had not been there."""
        self._check(items)
        with self._changing_rows([item.record.id for item in items]) as (db, table, state, old):
            if over is not None and old:
                with self._store.reading() as reads:
                    before = {record.id: record for record in self._store.records(reads, old)[0]}
                items = [with_record(item, before.get(item.record.id), over) for item in items]
            self._replace(db, table, state, old, items)
        if old:
            self._finish_cleaning()

    def _replace(
        self, db: sqlite3.Connection, table: Table, state: State, numbers: Sequence[int], items: Sequence[Item]
    ) -> None:
        """Store items instead of the rows of some numbers."""
        new = self._store.insert(db, items)
        if numbers:
            state = state._replace(steps=self._store.erase(db, numbers))
        table.append(self._store, db, new, items)
        self._store.set_state(db, state._replace(rows=state.rows + len(items)))

    def revise(self, ids: Sequence[str], words: Callable[[Item], Item]) -> int:
        """Put items through a function, each as it is when nobody else can change it; the number of those there are.

        Args:
            ids: of the items.
            words: makes an item of the same id, with the thumbnail, of what there is.
        """
        with self._changing_rows(ids) as (db, table, state, numbers):
            with self._store.reading() as reads:
                stored = [(number, self._store.item(reads, number, self.dim)) for number in numbers]
            found = [(number, item) for number, item in stored if item is not None]
            after = [(number, old, words(old)) for number, old in found]
            changed = [
                (number, new)
                for number, old, new in after
                if new.record != old.record or new.thumbnail != old.thumbnail
            ]
            if changed:
                self._replace(db, table, state, [number for number, _ in changed], [new for _, new in changed])
        self._finish_cleaning()
        return len(found)

    def delete(self, ids: Sequence[str], still: Callable[[Record], bool] | None = None) -> Removed:
        """See :meth:`Engine.delete`; what a crash interrupts is finished when the gallery is opened again.

        Args:
            ids: of what goes.
            still: asked about each record where nobody else can change it; what was stored anew meanwhile may stay.
        """
        self.marks.settle()
        with self._changing_rows(ids) as (db, table, state, numbers):
            if still is not None:
                with self._store.reading() as reads:
                    bad = {*self._store.records(reads, numbers)[1]}
                    whole = [number for number in numbers if number not in bad]
                    records, _ = self._store.records(reads, whole)
                going = [(number, record.id) for number, record in zip(whole, records) if still(record)]
                numbers, ids = [number for number, _ in going], [id for _, id in going]
            if numbers:
                forget(db, ids)
                state = state._replace(steps=self._store.erase(db, numbers))
                if state.short and len(table) - len(numbers) < SAMPLE:  # axes of a few pictures tell of each
                    state = self._without_index(db, table, state)
                self._store.set_state(db, state)
        if numbers:
            self._finish_cleaning()
            self.marks.finish()
            self._give_back()
        return Removed(len(numbers), "erased")

    def get(self, ids: Sequence[str]) -> list[Item]:
        """See :meth:`Engine.get`."""

        def look(table: Table) -> Looked:
            rows = table.rows_of(ids)
            return table.view(), lambda: rows[rows >= 0]

        def take(records: list[Record], vectors: np.ndarray | None) -> list[Item]:
            return [Item(*each) for each in zip(records, vectors if vectors is not None else ())]

        return self._consistently(look, take, described=True)

    def descriptors(self, ids: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Those ids that are there, all descriptors as they lie in their file, and which rows are theirs."""
        self.refresh()
        with self._plainly(), self._busy:
            table = self._now()
            rows, view = table.rows_of(ids), table.view()
        there = rows >= 0
        return [id for id, known in zip(ids, there.tolist()) if known], view.coded.vectors, rows[there]

    def scan(self, filter: Filter, after: str | None = None, limit: int = 1000) -> list[Record]:
        """See :meth:`Engine.scan`."""

        def look(table: Table) -> Looked:
            rows = np.array(table.behind(after, filter, limit), np.int64)
            return table.view(), lambda: rows

        return self._consistently(look, lambda records, _: records, filter)

    def search(self, vectors: np.ndarray, k: int, filter: Filter, *, exact: bool = True) -> list[list[Scored]]:
        """See :meth:`Engine.search`; without an index (see :meth:`index`) every search is exact.

        Scores are inner products rounded to float32, equal ones in order of id.
        """
        vectors = np.asarray(vectors, np.float32)
        scores: list[np.ndarray] = []

        def look(table: Table) -> Looked:
            accepted, view, short = table.accepted(filter), table.view(), table.short

            def compute() -> np.ndarray:
                best = best_of(view, short, vectors, k, accepted, exactly=exact)
                scores[:] = [each for _, each in best]
                return np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in best)])

            return view, compute

        def take(records: list[Record], _: np.ndarray | None) -> list[list[Scored]]:
            left = iter(records)
            return [[Scored(next(left), score) for score in each.tolist()] for each in scores]

        return self._consistently(look, take, filter, described=True)

    def count(self, filter: Filter) -> int:
        """See :meth:`Engine.count`."""
        if filter == Filter():
            return self._asked(len)
        return self._asked(lambda table: int(np.count_nonzero(table.accepted(filter))))

    def values(self, name: str, limit: int = 1000) -> dict[str, int]:
        """See :meth:`Engine.values`."""
        return self._asked(lambda table: table.values(name, limit))

    def thumbnail(self, id: str) -> bytes:
        """See :meth:`Engine.thumbnail`."""
        with self._plainly(), self._busy, self._store.reading() as db:
            table = self._now()
            (row,) = table.rows_of([id])
            number = int(table.view().numbers[row]) if row >= 0 else 0
            return self._store.thumbnail(db, number, key_of(id) or b"") if number else b""

    def index(self) -> None:
        """See :meth:`Engine.index`: short codes, from which exact searches gain too.

        Pictures that are added later are looked at besides. They are dropped once few pictures are left.
        """
        self.refresh()
        with self._plainly(), self._busy:
            table = self._now()
            view, accepted = table.view(), table.accepted(Filter())
        short = make_short(view.coded, accepted) if accepted.any() else None
        with self._changing() as (db, table, state):
            if (table.epoch, state.steps) != (view.epoch, view.step):  # some of what it was made from has gone
                view, accepted = table.view(), table.accepted(Filter())
                short = make_short(view.coded, accepted) if accepted.any() else None
            if short is not None:
                self._store.set_state(db, table.index(self._store, db, short, state))

    def check(self) -> Findings:
        """Read every byte: the database by its own check, every row and file by its checksums."""
        bad, whole = list[int](), 0
        with self._store.reading() as db:
            lines = [line for (line,) in db.execute("PRAGMA integrity_check(10)") if line != "ok"]
            for rows in self._store.rows(db, self.dim, BATCH):
                bad += [row.number for row in rows if row.item is None]
                whole += len(rows)
        if bad:
            with self._changing() as (db, _, state):
                self._store.set_state(db, state._replace(steps=self._store.set_aside(db, bad)))
            self._finish_cleaning()
        before = self._epoch()
        with self._busy:
            self._table = None  # whoever looks next reads every file anew
            self._now()
        marks = 0 if lines else len(self.marks.damaged())
        return Findings(whole - len(bad), self.damaged, tuple(lines), self._epoch() != before, marks)

    def refresh(self, *, small: bool = False) -> bool:
        """Check the files that searches read, and make them anew where one is not what was written; whether it was.

        Args:
            small: only those that filters and removals go by, which are few bytes a picture.
        """
        with self._plainly(), self._store.reading() as db:
            state, blocks = self._store.state(db), self._store.blocks(db)
        known = {name: sums for name, sums in blocks.items() if not (small and name.startswith(LARGE))}
        if self._home(state).is_dir() and Table(self._home(state), state).is_whole(known):
            return False
        with self._plainly(), self._busy:
            self._table = None
            self._now()
        return self._epoch() != state.epoch

    def _epoch(self) -> int:
        with self._store.reading() as db:
            return self._store.state(db).epoch

    def discard(self) -> int:
        """Blank the rows that were set aside, and what was said about those pictures; their number."""
        self.marks.settle()
        with self._changing() as (db, table, state):
            numbers = self._store.aside(db)
            if numbers:
                ids = self._store.ids(db, numbers)
                forget(db, [id for id, row in zip(ids, table.rows_of(ids)) if row < 0])
                self._store.set_state(db, state._replace(steps=self._store.erase(db, numbers)))
        self._finish_cleaning()
        self.marks.finish()
        return len(numbers)

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        with self._writing, self._busy:
            self._table = None
            self._store.close()

    # One moment for everything that is read

    def _consistently(
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
            with nullcontext() if self._store.frozen or number < TRIES - 1 else self._held_up():
                broken, rows = False, np.empty(0, np.int64)
                with self._plainly(), self._busy:
                    view = (table := self._now()).view()
                    try:
                        view, compute = look(table)
                    except IndexError:
                        broken = True
                try:
                    rows = rows if broken else compute()
                except BrokenBoundsError:
                    broken = True
                seen = see(view, rows, described=described)
                with self._store.reading() as db:
                    known, bad = self._records(db, seen.numbers)
                    same = self._store.state(db).steps == view.step
            if not same:
                continue
            records = [each.record for each in known]
            if not (bad or broken) and seen.fits(known, self._totals) and (filter is None or agree(filter, records)):
                return take(records, seen.vectors)
            if not self.refresh():
                self._set_aside(bad or seen.numbers)
        raise DataError(f"{self._store.path} is damaged, and more so than could be set aside; restore it from a backup")

    def _asked(self, ask: Callable[[Table], Found]) -> Found:
        """What a table answers; made anew where it holds what cannot be."""
        for _ in range(TRIES):
            with self._plainly(), self._busy:
                table = self._now()
                with suppress(IndexError):
                    return ask(table)
            self.refresh()
        raise DataError(f"{self.folder} has values that there are not, and could not be made anew; check the disk")

    def _records(self, db: sqlite3.Connection, numbers: Sequence[int]) -> tuple[list[Known], list[int]]:
        """What is known by number, and the numbers of those that are damaged; what is under a number never changes."""
        kept = self._kept
        if missing := [number for number in numbers if number not in kept]:
            found, bad = self._store.known(db, missing)
            if bad:
                return found, bad
            if len(kept) + len(missing) > KEPT:
                kept = {number: kept[number] for number in numbers if number in kept}
                self._totals = {}
            kept.update(zip(missing, found))
            self._kept = kept
        return [kept[number] for number in numbers], []

    @contextmanager
    def _plainly(self) -> Iterator[None]:
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
        with self._writing:
            self._now()
            with self._store.writing():
                yield

    def _set_aside(self, numbers: Sequence[int]) -> None:
        with self._changing() as (db, _, state):
            with self._store.reading() as reads:  # SQLite takes nothing more where it has come upon a broken page
                bad = [number for number in {*numbers} if self._store.item(reads, number, self.dim) is None]
            if bad:
                self._store.set_state(db, state._replace(steps=self._store.set_aside(db, bad)))
        self._finish_cleaning()

    def _now(self) -> Table:
        """The table as the store has it by now."""
        with self._busy:
            for _ in range(TRIES):
                with self._store.reading() as db:
                    state = self._store.state(db)
                    if self._table is not None and not self._table.is_there():
                        self._table = None
                    if self._table is not None and state.change == self._seen:
                        return self._table
                    if table := self._followed(db, state):
                        return table
            self._make_anew()
            return self._now()

    def _followed(self, db: sqlite3.Connection, state: State) -> Table | None:
        """The table, brought to a state; None where its files are not what the store says."""
        table = self._table
        try:
            if table is None or table.epoch != state.epoch:
                table = Table(self._home(state), state)
                if state.epoch == 0 or not table.is_whole(self._store.blocks(db)):
                    return None
            if state.steps != table.view().step:
                self._kept, self._totals = {}, {}
            table.follow(self._store, db, state)
        except (OSError, ValueError, LookupError):
            self._table = None
            return None
        self._table, self._seen = table, state.change
        return table

    def _home(self, state: State) -> Path:
        return self.folder / f"index-{state.epoch}"

    # Changes

    @contextmanager
    def _marking(self) -> Iterator[tuple[sqlite3.Connection, Callable[[Sequence[str]], bool]]]:
        """Change the marks: the store's connection, and whether pictures are there now."""
        with self._changing() as (db, table, _):
            yield db, lambda ids: bool((table.rows_of(ids) >= 0).all())

    @contextmanager
    def _changing(self) -> Iterator[tuple[sqlite3.Connection, Table, State]]:
        """Change the gallery: the store's connection, the table, and the state, all as they are now."""
        with self._writing:
            with self._plainly():
                self._now()
            try:
                with self._store.writing() as db:
                    with self._busy:
                        state = self._store.state(db)
                        table = self._followed(db, state)
                    if table is None:
                        raise StorageError(
                            f"the files of {self.folder} were lost just now; nothing was changed, try again"
                        )
                    yield db, table, state
            except BaseException as error:
                with suppress(StorageError, DataError):
                    self._tidy()
                if not isinstance(error, OSError | MemoryError):
                    raise
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise StorageError(
                    f"could not write in {self.folder} ({reason}); nothing was changed, make room"
                ) from error

    @contextmanager
    def _changing_rows(self, ids: Sequence[str]) -> Iterator[tuple[sqlite3.Connection, Table, State, list[int]]]:
        """:meth:`_changing`, with the numbers of those ids that are there, which the store has confirmed."""
        for _ in range(TRIES):
            with self._changing() as (db, table, state):
                rows = table.rows_of(ids)
                rows = np.unique(rows[rows >= 0])
                seen = see(table.view(), rows, described=False)
                with self._store.reading() as reads:
                    theirs = self._store.keys(reads, seen.numbers)
                wanted = {key_of(id) for id in ids}
                found = {theirs.get(number) for number in seen.numbers}
                if len(found) == len(rows) and found <= wanted:
                    yield db, table, state, seen.numbers
                    return
            if not self.refresh():
                self._set_aside(seen.numbers)
        raise DataError(
            f"{self._store.path} is damaged: it has other pictures than its files; restore it from a backup"
        )

    def _tidy(self) -> None:
        """Remove what was written and never counted, since a change was refused or its process killed."""
        if self._store.frozen is not None:
            return

        def found(db: sqlite3.Connection, table: Table) -> tuple[dict[Path, int], list[Path]]:
            others = [path for path in self.folder.glob("index-*") if path != table.folder]
            return table.leftovers(self._store, db), [*others, *self.folder.glob(f".{STORE}.new*")]

        with self._busy, self._store.reading() as db:
            if not any(found(db, self._now())):
                return
        with self._writing, self._store.writing() as db:  # where nobody is about to count it
            with self._busy:
                table = self._followed(db, self._store.state(db))
            if table is None:
                return
            tails, others = found(db, table)
            for path, size in tails.items():
                os.truncate(path, size) if size else path.unlink()
            for path in others:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _finish_cleaning(self) -> None:
        """Blank in the files what the store has blanked, and leave nothing of it in its log."""
        if self._store.frozen is not None:
            return
        with self._store.reading() as db:
            state = self._store.state(db)
        if state.cleaned != state.steps:
            try:
                with self._changing() as (db, table, state):
                    state = self._store.set_state(db, table.clean(self._store, db, state))
            except (StorageError, IndexError):
                self._unlink()
        if state.wiped != state.steps:
            self._store.wipe()
            with self._store.writing() as db:
                now = self._store.state(db)
                self._store.set_state(db, now._replace(wiped=state.steps))

    def _without_index(self, db: sqlite3.Connection, table: Table, state: State) -> State:
        meta = self._store.read(db, "gallery")
        if meta:
            self._store.write(db, "gallery", meta | {"index": None})
        return table.drop_index(self._store, db, state)

    def _give_back(self) -> None:
        """Write the store anew where most of it is blank."""
        with self._store.reading() as db:
            rows = self._store.state(db).rows
        left = len(self._now())
        if rows - left > max(WASTE, left):
            self._store.compact()
            self._make_anew(force=True)

    def _make_anew(self, *, force: bool = False) -> None:
        """Make the files from the store, in a folder of their own, and leave them to everybody."""
        with self._writing:
            try:
                with self._store.writing() as db:
                    state = self._store.state(db)
                    if not force and self._followed(db, state) is not None:
                        return  # another process was faster
                    self._table = None
                    total = self._store.last(db)
                    state = state._replace(epoch=state.epoch + 1, rows=0, cleaned=state.steps, short=0)
                    home = self._home(state)
                    shutil.rmtree(home, ignore_errors=True)
                    self._store.forget_blocks(db)
                    table, bad = Table(home, state), list[int]()
                    for rows in self._rows():
                        good = [row for row in rows if row.item is not None]
                        bad += [row.number for row in rows if row.item is None]
                        if good:
                            items = [row.item for row in good if row.item is not None]
                            table.append(self._store, db, [row.number for row in good], items)
                            state = state._replace(rows=state.rows + len(good))
                            table.follow(self._store, db, state)
                        self._progress(rows[-1].number if rows else 0, total)
                    if bad:
                        steps = self._store.set_aside(db, bad)
                        state = state._replace(steps=steps, cleaned=steps)
                    meta = self._store.read(db, "gallery") or {}
                    if meta.get("index") and state.rows:
                        short = make_short(table.view().coded, table.accepted(Filter()))
                        state = table.index(self._store, db, short, state)
                    self._store.set_state(db, state)
            except OSError as error:
                raise StorageError(
                    f"could not write {self.folder} ({error.strerror or error}); make room first"
                ) from error
        for path in self.folder.glob("index-*"):
            if path.name != f"index-{state.epoch}":
                shutil.rmtree(path, ignore_errors=True)

    def _rows(self) -> Iterator[list[Row]]:
        """Rows of the store; read by themselves, since SQLite writes no more where it has come upon a broken page."""
        with self._store.reading() as db:
            yield from self._store.rows(db, self.dim, BATCH)

    def _unlink(self) -> None:
        """Remove the files that could not be blanked: they are made anew when the gallery is opened next."""
        with self._busy:
            self._table, self._seen = None, -1
        for path in self.folder.glob("index-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _check(self, items: Sequence[Item]) -> None:
        """Check that items can be stored here.

        Raises:
            DataError: an id is none, or a descriptor has another length.
            StorageError: there is too little room.
        """
        for item in items:
            if not is_id(item.record.id):
                raise DataError(f"got the id {item.record.id!r}, wanted a UUID in lower case; take record_id(source)")
            if item.vector.shape != (self.dim,):
                raise DataError(
                    f"got a descriptor of shape {item.vector.shape}, the gallery's have {self.dim}; use its model"
                )
        need = sum(10 * self.dim + 2 * len(item.thumbnail) + 2048 for item in items)
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise StorageError(f"cannot write in {self.folder} ({error.strerror}); nothing was added") from error
        if free < need + SPARE_BYTES:
            raise StorageError(f"the disk of {self.folder} is nearly full; nothing was added, make room first")


def best_of(
    view: View, short: Short | None, vectors: np.ndarray, k: int, accepted: np.ndarray, *, exactly: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The k best rows for each query with their scores, by short codes where these pay."""
    if short is None or not pays(short, accepted, k, exactly=exactly):
        return nearest(view.coded, vectors, k, accepted)
    rows = narrow(short, view.coded, vectors, k, accepted, exactly=exactly)
    return [nearest(view.coded, query[None], k, some)[0] for query, some in zip(vectors, rows)]
