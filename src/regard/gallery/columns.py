"""What an embedded gallery reads while it searches, in columns: made from its parts, and made again when it is lost.

Shapes: N rows, D descriptor length.

Descriptors lie here twice, as they are and coded for :mod:`regard.gallery.int8_scan`; beside them the columns that
filters ask for, and the records as text. All are files that are memory-mapped. In memory are the ids in order (24 bytes
a row), which rows count (1 byte a row), and the different values of every column of names.

A row is never changed. A record that is added again is a new row, and the old one no longer counts.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from regard.gallery.int8_scan import Coded, encode
from regard.gallery.record import Filter, Record, is_id, read_records
from regard.gallery.segments import vectors_of
from regard.parsing import parse_json
from regard.storage import read_regular

__all__ = ["Rows", "Table", "checksum"]

NAMES = ("camera", "track", "person")
ATTRIBUTE = "attributes."
PAGE = 4096
KEY = "S16"
"""An id's 16 bytes. NumPy pads such texts with zeros, so all of this length compare byte by byte."""

ABOUT, ORDER = "names.json", "order.npy"


class View(NamedTuple):
    """A table as it was at a moment; later changes do not touch it.

    Attributes:
        coded: descriptors and codes.
        places: (N, 2) part and row of each.
        texts, ends: the records as JSON, and where each ends.
    """

    coded: Coded
    places: np.ndarray
    texts: np.ndarray
    ends: np.ndarray

    def records(self, rows: Iterable[int]) -> list[Record]:
        """The records of rows."""
        spans = [(self.ends[row - 1] if row else 0, self.ends[row]) for row in rows]
        return read_records([self.texts[start:end].tobytes().decode() for start, end in spans])


class Table:
    """Columns in a folder.

    Args:
        folder: where they lie; made when it is missing, and read when :meth:`save` was called there.
        dim: D.
    """

    def __init__(self, folder: Path, dim: int):
        self.folder = folder
        self.dim = dim
        self._columns = {name: Rows(folder / name, *kind) for name, kind in kinds(dim).items()}
        self._names = {name: Names(folder / name) for name in NAMES}
        self._order = np.empty(0, np.int64)
        self._sorted = np.empty(0, KEY)
        self._counts = np.empty(0, bool)
        self._last: tuple[Filter, np.ndarray] | None = None
        folder.mkdir(exist_ok=True)
        if (folder / ABOUT).exists():
            self._load()

    def __len__(self) -> int:
        return len(self._order)

    def append(self, part: int, table: pa.Table) -> None:
        """Take the rows of a part; a row whose id is there replaces that one.

        Raises:
            OSError: the disk refused; the table is of no more use.
        """
        texts = [text.encode() for text in table["record"].to_pylist()]
        records = [parse_json(text) for text in texts]
        keys = np.array([key_of(record["id"]) for record in records], KEY)
        vectors, start = vectors_of(table, self.dim), len(self._counts)
        codes, bounds = encode(vectors)
        columns = {
            "vectors": vectors,
            "codes": codes,
            "bounds": bounds,
            "keys": keys,
            "places": np.stack([np.full(len(keys), part), np.arange(len(keys))], 1),
            "times": np.array([np.nan if record["time"] is None else record["time"] for record in records]),
            "ends": len(self._columns["texts"]) + np.cumsum([len(text) for text in texts]),
            "texts": np.frombuffer(b"".join(texts), np.uint8),
        }
        for name, values in columns.items():
            self._columns[name].append(values)
        for name in NAMES:
            self._names[name].append([record[name] for record in records], start)
        for name in sorted({name for record in records for name in record["attributes"]} | self._attributes()):
            column = self._names.setdefault(ATTRIBUTE + name, Names(self.folder / f"attribute{len(self._names)}"))
            column.append([record["attributes"].get(name) for record in records], start)
        self._place(keys, start)

    def view(self) -> View:
        """The table as it is now."""
        all = {name: rows.all for name, rows in self._columns.items()}
        coded = Coded(all["vectors"], all["codes"], all["bounds"], all["keys"])
        return View(coded, all["places"], all["texts"], all["ends"])

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """The row of each id; -1 where it is not known."""
        wanted = [key_of(id) for id in ids]
        keys = np.array([key or b"" for key in wanted], KEY)
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
        codes = self._names[name].codes.all[self._counts]
        counts, known = np.bincount(codes[codes >= 0]), list(self._names[name].known)
        common = [int(code) for code in np.argsort(-counts, kind="stable")[:limit] if counts[code]]
        return dict(sorted((known[code], int(counts[code])) for code in common))

    def save(self) -> None:
        """Write what is only in memory."""
        np.save(self.folder / ORDER, self._order)
        names = {name: [column.codes.path.name, list(column.known)] for name, column in self._names.items()}
        (self.folder / ABOUT).write_text(json.dumps(names), encoding="utf-8")

    def checksums(self) -> dict[str, list[int]]:
        """Size and checksum of every file of the folder."""
        rows = [*self._columns.values(), *(column.codes for column in self._names.values())]
        known = {each.path.name: each.checksum for each in rows}
        return {path.name: known.get(path.name) or checksum(path) for path in sorted(self.folder.iterdir())}

    def close(self) -> None:
        """Let go of the files."""
        for rows in (*self._columns.values(), *(column.codes for column in self._names.values())):
            rows.close()

    def _load(self) -> None:
        for name, (file, known) in parse_json(read_regular(self.folder / ABOUT)).items():
            self._names[name] = Names(self.folder / file, known)
        self._order = np.load(self.folder / ORDER)
        self._sorted = self._columns["keys"].all[self._order]
        self._counts = np.zeros(len(self._columns["keys"]), bool)
        self._counts[self._order] = True

    def _attributes(self) -> set[str]:
        return {name.removeprefix(ATTRIBUTE) for name in self._names if name.startswith(ATTRIBUTE)}

    def _place(self, keys: np.ndarray, start: int) -> None:
        """Put new rows in order of id; of equal ids the last row counts."""
        unique, back = np.unique(keys[::-1], return_index=True)
        rows = start + len(keys) - 1 - back
        self._counts = np.concatenate([self._counts, np.zeros(len(keys), bool)])
        self._counts[rows] = True
        places = np.searchsorted(self._sorted, unique)
        known = places < len(self)
        known[known] = self._sorted[places[known]] == unique[known]
        self._counts[self._order[places[known]]] = False
        self._order[places[known]] = rows[known]
        self._order = np.insert(self._order, places[~known], rows[~known])
        self._sorted = np.insert(self._sorted, places[~known], unique[~known])
        self._last = None

    def _judge(self, filter: Filter) -> np.ndarray:
        keep = self._counts.copy()
        chosen = {"camera": filter.cameras, "track": filter.tracks, "person": filter.persons}
        chosen |= {ATTRIBUTE + name: values for name, values in filter.attributes.items()}
        for name, values in chosen.items():
            if values is not None:
                keep &= self._names[name].among(values) if name in self._names else False
        if filter.not_cameras:
            keep &= ~self._names["camera"].among(filter.not_cameras)
        times = self._columns["times"].all
        if filter.since is not None:
            keep &= times >= filter.since
        if filter.until is not None:
            keep &= times < filter.until
        if filter.ids is not None:
            only = np.zeros(len(keep), bool)
            only[found(self.rows_of(filter.ids))] = True
            keep &= only
        keep[found(self.rows_of(filter.not_ids))] = False
        return keep


class Names:
    """A column of texts with few different values.

    Args:
        path: file of the codes.
        known: the different values, in the order of their codes.

    Attributes:
        codes: (N,) number of the value in each row; -1 for none.
        known: value -> its number.
    """

    def __init__(self, path: Path, known: Sequence[str] = ()):
        self.codes = Rows(path, "<i4")
        self.known = {value: code for code, value in enumerate(known)}

    def append(self, values: Sequence[str | None], start: int) -> None:
        """Take the values of rows from ``start`` on; rows before that the column has not seen have none."""
        codes = [-1 if value is None else self.known.setdefault(value, len(self.known)) for value in values]
        self.codes.append(np.array([-1] * (start - len(self.codes)) + codes))

    def among(self, values: Iterable[str]) -> np.ndarray:
        """(N,) whether each row has one of the values."""
        flags = np.zeros(len(self.known) + 1, bool)  # the last is that of -1
        flags[[self.known[value] for value in values if value in self.known]] = True
        return flags[self.codes.all]


def kinds(dim: int) -> dict[str, tuple[str, int | None]]:
    """Kind and width of the columns."""
    return {
        "vectors": ("<f4", dim),
        "codes": ("i1", dim),
        "bounds": ("<f4", 3),
        "keys": (KEY, None),
        "places": ("<i4", 2),
        "times": ("<f8", None),
        "ends": ("<i8", None),
        "texts": ("u1", None),
    }


def key_of(id: str) -> bytes | None:
    """The 16 bytes of an id in the one form ids have; None for any other text."""
    return bytes.fromhex(id.replace("-", "")) if is_id(id) else None


def found(rows: np.ndarray) -> np.ndarray:
    """The rows that are some."""
    return rows[rows >= 0]


class Rows:
    """Rows of numbers in a file: it grows at its end, is read through a memory map, and knows its checksum.

    A write that the disk refuses is an error of the write, and not a fault in the middle of a search. Readers hold what
    was there when they asked; rows that are added later, or a file that is removed, change nothing for them.

    Args:
        path: the file; made by the first :meth:`append` when it is missing.
        dtype: of the numbers.
        width: numbers of a row; None for plain numbers.

    Attributes:
        checksum: size and CRC-32 of the file's bytes.
    """

    def __init__(self, path: Path, dtype: str, width: int | None = None):
        self.path = path
        self.checksum = checksum(path) if path.exists() else [0, 0]
        self._dtype, self._shape = np.dtype(dtype), () if width is None else (width,)
        self._length = self.checksum[0] // (self._dtype.itemsize * (1 if width is None else width))
        self._map = np.empty((0, *self._shape), self._dtype)
        self._file: io.FileIO | None = None

    def __len__(self) -> int:
        return self._length

    def append(self, values: np.ndarray) -> None:
        """Add rows at the end.

        Raises:
            OSError: the disk refused; the file may hold a part of them.
        """
        data = np.ascontiguousarray(values, self._dtype)
        left = data.reshape(-1).view(np.uint8).data
        size, crc = self.checksum
        self.checksum = [size + len(left), zlib.crc32(left, crc)]
        if self._file is None:
            self._file = io.FileIO(self.path, "a")
        while left:
            left = left[self._file.write(left) :]
        self._length += len(data)

    @property
    def all(self) -> np.ndarray:
        """Every row, mapped and not copied; never write to it."""
        if len(self._map) != self._length:
            shape = (self._length, *self._shape)
            self._map = np.asarray(np.memmap(self.path, self._dtype, mode="c", shape=shape))
        return self._map

    def close(self) -> None:
        """Let go of the file; what is mapped stays readable for whoever holds it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def checksum(path: Path) -> list[int]:
    """Size and CRC-32 of a file."""
    size = value = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            size, value = size + len(block), zlib.crc32(block, value)
    return [size, value]
