"""The embedded engine: a folder with an SQLite store and files made from it to search in; nothing to start.

Shapes: Q queries, D descriptor length.

Any number of processes may search, add and remove at once. What :meth:`EmbeddedEngine.add` acknowledges lies in
:class:`~regard.gallery.store.Store`, and in the files of :class:`~regard.gallery.columns.Table` in the same change;
:class:`~regard.gallery.mirror.Mirror` holds the two together.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from regard.errors import DataError, StorageError
from regard.gallery.columns import Table, View, key_of
from regard.gallery.int8_scan import nearest
from regard.gallery.mark_table import forget
from regard.gallery.marks import BESIDE, KeptMarks
from regard.gallery.mirror import BATCH, Looked, Mirror
from regard.gallery.pca_codes import SAMPLE, Short, make_short, narrow, pays
from regard.gallery.query import Removed, with_record
from regard.gallery.record import Filter, Item, Record, Scored, is_id
from regard.gallery.store import STORE, State, Store, exists, is_earlier

__all__ = ["EmbeddedEngine", "Findings"]

SPARE_BYTES = 64 * 2**20
"""Left free on the disk."""


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
        progress = progress or (lambda done, total: None)
        if dim is not None:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not any(folder.iterdir()):
                    folder.chmod(0o700)
            except OSError as error:
                raise StorageError(f"cannot make {folder} ({error.strerror}); choose another place") from None
        if is_earlier(folder):  # also where its files alone are left, since the end of a conversion was killed
            from regard.gallery.segments import convert  # brings pyarrow

            convert(folder, progress)
        if not exists(folder) and dim is None:
            raise DataError(f"{folder} is not a gallery (no {STORE}); make one: regard embed IMAGES -o GALLERY")
        self._store = Store(folder / STORE, dim)
        try:
            self._mirror = Mirror(folder, self._store, progress)
            self.dim = self._mirror.dim
            self.marks = KeptMarks(folder / BESIDE, database=self._store, changing=self._marking)
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
        with self._mirror.writing, self._store.writing() as db:
            self._store.write(db, "gallery", meta)

    def amend_meta(self, changes: Mapping[str, Any]) -> None:
        """Change parts of the gallery's description."""
        with self._mirror.writing, self._store.writing() as db:
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
        with self._mirror.changing_rows([item.record.id for item in items]) as (db, table, state, old):
            if over is not None and old:
                with self._store.reading() as reads:
                    before = {record.id: record for record in self._store.records(reads, old)[0]}
                items = [with_record(item, before.get(item.record.id), over) for item in items]
            self._replace(db, table, state, old, items)
        if old:
            self._mirror.clean()

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
        with self._mirror.changing_rows(ids) as (db, table, state, numbers):
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
        self._mirror.clean()
        return len(found)

    def delete(self, ids: Sequence[str], still: Callable[[Record], bool] | None = None) -> Removed:
        """See :meth:`Engine.delete`; what a crash interrupts is finished when the gallery is opened again.

        Args:
            ids: of what goes.
            still: asked about each record where nobody else can change it; what was stored anew meanwhile may stay.
        """
        self.marks.settle()
        with self._mirror.changing_rows(ids) as (db, table, state, numbers):
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
            self._mirror.clean()
            self.marks.finish()
            self._mirror.give_back()
        return Removed(len(numbers), "erased")

    def get(self, ids: Sequence[str]) -> list[Item]:
        """See :meth:`Engine.get`."""

        def look(table: Table) -> Looked:
            rows = table.rows_of(ids)
            return table.view(), lambda: rows[rows >= 0]

        def take(records: list[Record], vectors: np.ndarray | None) -> list[Item]:
            return [Item(*each) for each in zip(records, vectors if vectors is not None else ())]

        return self._mirror.read(look, take, described=True)

    def descriptors(self, ids: Sequence[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Those ids that are there, all descriptors as they lie in their file, and which rows are theirs."""
        self._mirror.refresh()
        with self._mirror.looking() as table:
            rows, view = table.rows_of(ids), table.view()
        there = rows >= 0
        return [id for id, known in zip(ids, there.tolist()) if known], view.coded.vectors, rows[there]

    def scan(self, filter: Filter, after: str | None = None, limit: int = 1000) -> list[Record]:
        """See :meth:`Engine.scan`."""

        def look(table: Table) -> Looked:
            rows = np.array(table.behind(after, filter, limit), np.int64)
            return table.view(), lambda: rows

        return self._mirror.read(look, lambda records, _: records, filter)

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

        return self._mirror.read(look, take, filter, described=True)

    def count(self, filter: Filter) -> int:
        """See :meth:`Engine.count`."""
        if filter == Filter():
            return self._mirror.ask(len)
        return self._mirror.ask(lambda table: int(np.count_nonzero(table.accepted(filter))))

    def values(self, name: str, limit: int = 1000) -> dict[str, int]:
        """See :meth:`Engine.values`."""
        return self._mirror.ask(lambda table: table.values(name, limit))

    def thumbnail(self, id: str) -> bytes:
        """See :meth:`Engine.thumbnail`."""
        with self._mirror.plainly(), self._mirror.busy, self._store.reading() as db:
            table = self._mirror.now()
            (row,) = table.rows_of([id])
            number = int(table.view().numbers[row]) if row >= 0 else 0
            return self._store.thumbnail(db, number, key_of(id) or b"") if number else b""

    def index(self) -> None:
        """See :meth:`Engine.index`: short codes, from which exact searches gain too.

        Pictures that are added later are looked at besides. They are dropped once few pictures are left.
        """
        self._mirror.refresh()
        with self._mirror.looking() as table:
            view, accepted = table.view(), table.accepted(Filter())
        short = make_short(view.coded, accepted) if accepted.any() else None
        with self._mirror.changing() as (db, table, state):
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
            with self._mirror.changing() as (db, _, state):
                self._store.set_state(db, state._replace(steps=self._store.set_aside(db, bad)))
            self._mirror.clean()
        remade = self._mirror.reread()
        marks = 0 if lines else len(self.marks.damaged())
        return Findings(whole - len(bad), self.damaged, tuple(lines), remade, marks)

    def refresh(self, *, small: bool = False) -> bool:
        """See :meth:`regard.gallery.mirror.Mirror.refresh`."""
        return self._mirror.refresh(small=small)

    def discard(self) -> int:
        """Blank the rows that were set aside, and what was said about those pictures; their number."""
        self.marks.settle()
        with self._mirror.changing() as (db, table, state):
            numbers = self._store.aside(db)
            if numbers:
                ids = self._store.ids(db, numbers)
                forget(db, [id for id, row in zip(ids, table.rows_of(ids)) if row < 0])
                self._store.set_state(db, state._replace(steps=self._store.erase(db, numbers)))
        self._mirror.clean()
        self.marks.finish()
        return len(numbers)

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        self._mirror.close()

    @contextmanager
    def _marking(self) -> Iterator[tuple[sqlite3.Connection, Callable[[Sequence[str]], bool]]]:
        """Change the marks: the store's connection, and whether pictures are there now."""
        with self._mirror.changing() as (db, table, _):
            yield db, lambda ids: bool((table.rows_of(ids) >= 0).all())

    def _without_index(self, db: sqlite3.Connection, table: Table, state: State) -> State:
        meta = self._store.read(db, "gallery")
        if meta:
            self._store.write(db, "gallery", meta | {"index": None})
        return table.drop_index(self._store, db, state)

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
