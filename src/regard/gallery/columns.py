"""What searches of a gallery in a folder read, in columns: files made from its store, mapped by every process.

Shapes: N rows, D descriptor length.

Descriptors lie here as they are and coded for :mod:`regard.gallery.int8_scan`; beside them the columns that filters ask
for. In memory are the ids in order (24 bytes a row), which rows count (1 byte a row), and the different values of every
column of names.

Whoever writes to the store appends to the files in the same change, so they hold what the store holds. A row is never
changed, but blanked once the store says that it does not count. How much of a file is valid, and the checksums of that,
stand in the store: what is behind it, half written, is written over by the next, and a file that was damaged, swapped
or lost is found before it is read, and all are made anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regard.errors import DataError
from regard.gallery.column import BLOCK, Column, fits, sums_of
from regard.gallery.int8_scan import Coded, encode
from regard.gallery.pca_codes import Short, load_short, save_short
from regard.gallery.record import Filter, Item, is_id
from regard.gallery.store import State, Store
from regard.parsing import parse_json
from regard.storage import open_regular, refuse_link

__all__ = ["Table", "View", "key_of"]

NAMES = ("camera", "track", "person")
ATTRIBUTE = "attributes."
PAGE = 4096
KEY = "S16"
"""An id's 16 bytes. NumPy pads such texts with zeros, so all of this length compare byte by byte."""

BLANK = b""

MOST_NAMES = 500
"""Columns of names, each of which is a file."""

VALUES = "values"
"""File of the different values of the columns of names, a line each; its number, from 1, is the value's code."""


class View(NamedTuple):
    """A table as it was at a moment; rows that are added later do not touch it.

    Attributes:
        coded: descriptors and codes.
        numbers: (N,) number of each row in the store.
        step: the last that it knows of; where the store has a later one, rows may have been blanked since.
        epoch: of the files.
    """

    coded: Coded
    numbers: np.ndarray
    step: int
    epoch: int


class Table:
    """The columns of one epoch.

    Args:
        folder: where they lie; made when it is missing.
        state: what the store says of them.
    """

    def __init__(self, folder: Path, state: State):
        self.folder = folder
        self.dim, self.epoch = state.dim, state.epoch
        self._columns = {
            name: Column(folder / name, *kind, scattered=name == "vectors") for name, kind in kinds(state.dim).items()
        }
        self._names = {name: Column(folder / name, "<i4") for name in NAMES}
        self._known: dict[str, dict[str, int]] = {}
        self._lines = self._read = 0
        self._order = np.empty(0, np.int64)
        self._sorted = np.empty(0, KEY)
        self._counts = np.empty(0, bool)
        self._last: tuple[Filter, np.ndarray] | None = None
        self._step = self._cleaned = self._short_number = 0
        self.short: Short | None = None
        refuse_link(folder)
        folder.mkdir(mode=0o700, exist_ok=True)

    def __len__(self) -> int:
        return len(self._order)

    # Following the store

    def is_whole(self, blocks: Mapping[str, Sequence[tuple[int, int]]]) -> bool:
        """Whether every file holds what its checksums say."""
        return all(fits(self.folder / name, known) for name, known in blocks.items())

    def follow(self, store: Store, db: sqlite3.Connection, state: State) -> None:
        """Take what changed since the last time."""
        if state.cleaned != self._cleaned:
            self._known, self._lines, self._read = {}, 0, 0
        self._learn(store, db)
        self._cleaned = state.cleaned
        start = len(self._counts)
        for column in self._columns.values():
            column.length = state.rows
        if state.rows > start:
            self._place(self._columns["keys"].all[start:], start)
        if state.steps > self._step:
            gone = self._rows_numbered(store.steps(db, max(self._step, 0)))
            self._drop(gone)
        self._step = state.steps
        if state.short != self._short_number:
            self.short = load_short(self.folder, state.short) if state.short else None
            self._short_number = state.short

    def append(self, store: Store, db: sqlite3.Connection, numbers: Sequence[int], items: Sequence[Item]) -> None:
        """Write rows to the files, behind those that the store counts; :meth:`follow` takes them once it does too.

        Raises:
            OSError: the disk refused.
        """
        start, records = len(self._counts), [item.record for item in items]
        vectors = np.stack([item.vector for item in items]).astype(np.float32, copy=False)
        codes, bounds = encode(vectors)
        columns = {
            "vectors": vectors,
            "codes": codes,
            "bounds": bounds,
            "keys": np.array([bytes.fromhex(record.id.replace("-", "")) for record in records], KEY),
            "numbers": np.array(numbers),
            "times": np.array([np.nan if record.time is None else record.time for record in records]),
        }
        for name, values in columns.items():
            self._columns[name].append(store, db, values)
        named = {name: [getattr(record, name) for record in records] for name in NAMES}
        for name in sorted({name for record in records for name in record.attributes} | self._attributes()):
            named[ATTRIBUTE + name] = [record.attributes.get(name) for record in records]
        if len(named) > MOST_NAMES:
            raise DataError(
                f"got more than {MOST_NAMES} kinds of attributes in one gallery, wanted fewer: every one is a column; "
                "leave some out, or write them into one"
            )
        fresh: dict[tuple[str, str], int] = {}
        for name, values in named.items():
            column, known = self._names_of(name), self._known.get(name, {})
            written = column.written(store, db)
            if written < start:
                column.append(store, db, np.zeros(start - written))
            coded = [self._code(name, value, known, fresh) if value is not None else 0 for value in values]
            column.append(store, db, np.array(coded))
        lines = b"".join(json.dumps(pair).encode() + b"\n" for pair in fresh)
        Column(self.folder / VALUES, "u1").append(store, db, np.frombuffer(lines, np.uint8))

    def is_there(self) -> bool:
        """Whether no file has become shorter than what is mapped of it, which to read would end the process."""
        try:
            return all(column.fits() for column in (*self._columns.values(), *self._names.values()))
        except OSError:
            return False

    def leftovers(self, store: Store, db: sqlite3.Connection) -> dict[Path, int]:
        """Files that hold more than the store has counted -> bytes that it has."""
        known = {name: sum(size for size, _ in blocks) for name, blocks in store.blocks(db).items()}
        sizes = {path: path.lstat().st_size for path in self.folder.iterdir()}
        return {path: known.get(path.name, 0) for path, size in sizes.items() if size > known.get(path.name, 0)}

    def clean(self, store: Store, db: sqlite3.Connection, state: State) -> State:
        """Blank the rows that the store has blanked, in every file; the state after it.

        Raises:
            DataError: the store names rows that are none of these.
            OSError: the disk refused.
        """
        numbers = store.steps(db, state.cleaned)
        if not store.are_gone(db, numbers):
            raise DataError(f"{store.path} is damaged: it counts rows as removed that are there; restore it")
        rows = np.sort(self._rows_numbered(numbers))
        columns = [self._columns[name] for name in self._columns if name != "numbers"]
        gone = np.zeros(self._lines + 1, bool)
        for column in self._names.values():
            codes = self._checked(column)
            gone[codes[rows[rows < len(codes)]]] = True
        files = [*columns, *self._names.values()]
        if self.short is not None:
            files += [
                Column(self.folder / name, dtype, width) for name, dtype, width in short_files(self.short, state.short)
            ]
        for column in files:
            column.blank(store, db, rows)
        for column in self._names.values():
            gone &= np.bincount(column.all, minlength=len(gone)) == 0
        self._forget(store, db, np.flatnonzero(gone[1:]) + 1)
        return state._replace(cleaned=state.steps)

    def index(self, store: Store, db: sqlite3.Connection, short: Short, state: State) -> State:
        """Keep short codes instead of those there are; the state after it.

        Raises:
            OSError: the disk refused.
        """
        state = self.drop_index(store, db, state)._replace(short=max(state.short, self._short_number) + 1)
        for path in save_short(short, self.folder, state.short):
            path.chmod(0o600)
            store.set_blocks(db, path.name, sums_of(path))
        return state

    def drop_index(self, store: Store, db: sqlite3.Connection, state: State) -> State:
        """Remove the short codes; the state after it."""
        store.forget_blocks(db, "short*")
        for path in self.folder.glob("short*"):
            path.unlink()
        return state._replace(short=0)

    # Answers

    def view(self) -> View:
        """The table as it is now."""
        coded = Coded(*(self._columns[name].all for name in ("vectors", "codes", "bounds", "keys")))
        return View(coded, self._columns["numbers"].all, self._step, self.epoch)

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """The row of each id; -1 where it is not known."""
        wanted = [key_of(id) for id in ids]
        keys = np.array([key or BLANK for key in wanted], KEY)
        if not len(keys) or not len(self):
            return np.full(len(keys), -1)
        places = np.searchsorted(self._sorted, keys).clip(max=len(self) - 1)
        known = (self._sorted[places] == keys) & [key is not None for key in wanted]
        return np.where(known, self._order[places], -1)

    def accepted(self, filter: Filter) -> np.ndarray:
        """(N,) whether each row counts and the filter accepts it; never write to it."""
        if self._last is None or self._last[0] != filter:
            self._last = (filter, self._judge(filter))
        return self._last[1]

    def behind(self, after: str | None, filter: Filter, limit: int) -> list[int]:
        """Rows the filter accepts in order of id, those behind ``after``."""
        start, rows, accepted = 0, np.empty(0, np.int64), self.accepted(filter)
        if after is not None and len(self):
            start = int(np.searchsorted(self._sorted, np.array(key_of(after), KEY), "right"))
        while len(rows) < limit and start < len(self):
            some = self._order[start : start + PAGE]
            rows, start = np.concatenate([rows, some[accepted[some]]]), start + PAGE
        return rows[:limit].tolist()

    def values(self, name: str, limit: int) -> dict[str, int]:
        """The most frequent values of a column of names, in order, with the number of rows that count."""
        codes = self._checked(self._names[name])
        counts = np.bincount(codes[self._counts[: len(codes)]], minlength=self._lines + 1)
        found = {value: int(counts[code]) for value, code in self._known.get(name, {}).items() if counts[code]}
        common = sorted(found.items(), key=lambda pair: -pair[1])[:limit]
        return dict(sorted(common))

    # The columns of names

    def _learn(self, store: Store, db: sqlite3.Connection) -> None:
        """Read the values that are new, and say how long every column of names is."""
        block, size, _ = store.last_block(db, VALUES)
        end = block * BLOCK + size
        if end > self._read:
            with open_regular(self.folder / VALUES) as file:
                file.seek(self._read)
                lines = file.read(end - self._read).split(b"\n")[:-1]
            self._read = end
            for line in lines:
                self._lines += 1
                with suppress(ValueError):  # it is blank, or about to be
                    name, value = parse_json(line)
                    self._known.setdefault(name, {})[value] = self._lines
                    self._names_of(name)
        for column in self._names.values():
            column.length = column.written(store, db)

    def _names_of(self, name: str) -> Column:
        """The column of a name; an attribute's file is called by a digest of it, which any file system can hold."""
        if name not in self._names:
            self._names[name] = Column(self.folder / f"attribute{sha256(name.encode()).hexdigest()[:16]}", "<i4")
        return self._names[name]

    def _checked(self, column: Column) -> np.ndarray:
        """The codes of a column of names.

        Raises:
            IndexError: one is none, since a bit of it has changed.
        """
        codes = column.all
        if len(codes) and not 0 <= codes.min() <= codes.max() <= self._lines:
            raise IndexError(f"{column.path} has codes of values that there are not")
        return codes

    def _attributes(self) -> set[str]:
        return {name.removeprefix(ATTRIBUTE) for name in self._names if name.startswith(ATTRIBUTE)}

    def _code(self, name: str, value: str, known: Mapping[str, int], fresh: dict[tuple[str, str], int]) -> int:
        code = known.get(value)
        return fresh.setdefault((name, value), self._lines + len(fresh) + 1) if code is None else code

    def _forget(self, store: Store, db: sqlite3.Connection, codes: np.ndarray) -> None:
        """Blank the lines of values, by their codes in order, that no row has any more."""
        if not len(codes):
            return
        with open_regular(self.folder / VALUES) as file:
            ends = np.flatnonzero(np.frombuffer(file.read(self._read), np.uint8) == ord("\n"))
        column = Column(self.folder / VALUES, "u1")
        spans = [(int(ends[code - 2]) + 1 if code > 1 else 0, int(ends[code - 1])) for code in codes.tolist()]
        places = [np.arange(*span) for span in spans]
        column.blank(store, db, np.concatenate(places), ord(" "))

    # The rows

    def _place(self, keys: np.ndarray, start: int) -> None:
        """Put new rows in order of id; of equal ids the last row counts, and blank ones do not."""
        self._counts = np.concatenate([self._counts, np.zeros(len(keys), bool)])
        self._last = None
        there = np.flatnonzero(keys != BLANK)[::-1]
        unique, back = np.unique(keys[there], return_index=True)
        rows = start + there[back]
        self._counts[rows] = True
        places = np.searchsorted(self._sorted, unique)
        known = places < len(self)
        known[known] = self._sorted[places[known]] == unique[known]
        self._counts[self._order[places[known]]] = False
        self._order[places[known]] = rows[known]
        self._order = np.insert(self._order, places[~known], rows[~known])
        self._sorted = np.insert(self._sorted, places[~known], unique[~known])

    def _drop(self, rows: np.ndarray) -> None:
        """Let rows not count any more."""
        rows = rows[self._counts[rows]]
        if len(rows):
            self._counts = self._counts.copy()
            self._counts[rows] = False
            kept = self._counts[self._order]
            self._order, self._sorted, self._last = self._order[kept], self._sorted[kept], None

    def _rows_numbered(self, numbers: Sequence[int]) -> np.ndarray:
        """Rows by their numbers in the store; those that are not here are left out."""
        wanted, all = np.unique(np.array(numbers, np.int64)), self._columns["numbers"].all
        if not len(all):
            return np.empty(0, np.int64)
        rows = np.searchsorted(all, wanted).clip(max=len(all) - 1)
        return rows[all[rows] == wanted]

    def _judge(self, filter: Filter) -> np.ndarray:
        keep = self._counts.copy()
        chosen = {"camera": filter.cameras, "track": filter.tracks, "person": filter.persons}
        chosen |= {ATTRIBUTE + name: values for name, values in filter.attributes.items()}
        for name, values in chosen.items():
            if values is not None:
                keep &= self._among(name, values, len(keep))
        if filter.not_cameras:
            keep &= ~self._among("camera", filter.not_cameras, len(keep))
        if filter.since is not None:
            keep &= self._columns["times"].all >= filter.since
        if filter.until is not None:
            keep &= self._columns["times"].all < filter.until
        if filter.ids is not None:
            only = np.zeros(len(keep), bool)
            only[found(self.rows_of(filter.ids))] = True
            keep &= only
        keep[found(self.rows_of(filter.not_ids))] = False
        return keep

    def _among(self, name: str, values: Iterable[str], rows: int) -> np.ndarray:
        """(N,) whether each row has one of the values; a column that ends before has none there."""
        known, flags = self._known.get(name, {}), np.zeros(self._lines + 1, bool)
        flags[[known[value] for value in values if value in known]] = True
        if name not in self._names or not flags.any():
            return np.zeros(rows, bool)
        chosen = flags[self._names[name].all]
        return chosen if len(chosen) == rows else np.concatenate([chosen, np.zeros(rows - len(chosen), bool)])


def kinds(dim: int) -> dict[str, tuple[str, int | None]]:
    """Kind and width of the columns."""
    return {
        "vectors": ("<f4", dim),
        "codes": ("i1", dim),
        "bounds": ("<f4", 3),
        "keys": (KEY, None),
        "numbers": ("<i8", None),
        "times": ("<f8", None),
    }


def key_of(id: str) -> bytes | None:
    """The 16 bytes of an id in the one form ids have; None for any other text."""
    return bytes.fromhex(id.replace("-", "")) if is_id(id) else None


def found(rows: np.ndarray) -> np.ndarray:
    """The rows that are some."""
    return rows[rows >= 0]


def short_files(short: Short, number: int) -> list[tuple[str, str, int | None]]:
    """Name, kind and width of the files of short codes that hold a row for every row."""
    return [(f"short{number}_codes", "i1", short.codes.shape[1]), (f"short{number}_rest", "<f4", None)]
