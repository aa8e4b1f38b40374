"""The embedded engine: Arrow files as the truth, columns and codes beside them to search in, nothing to start.

Shapes: Q queries, D descriptor length.

What :meth:`EmbeddedEngine.add` acknowledges lies in :class:`~regard.gallery.segments.Parts` before the
:class:`~regard.gallery.columns.Table` hears of it. The table is kept with a seal when the gallery is closed: the
checksums of its files and the names of the parts it was made from. After a crash, after a deletion, or where a file of
it has changed, it is made again from the parts. Searches run beside one another and beside additions; each sees the
gallery as it was when it began.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regard.errors import DataError, StorageError
from regard.gallery.columns import Table
from regard.gallery.int8_scan import nearest
from regard.gallery.pca_codes import Short, load_short, make_short, narrow, pays, save_short
from regard.gallery.record import Filter, Item, Record, Scored, is_id
from regard.gallery.segments import Parts
from regard.parsing import parse_json
from regard.storage import open_regular, read_regular, write_atomic

__all__ = ["EmbeddedEngine", "FolderLock"]

SPARE_BYTES = 64 * 2**20
"""Left free on the disk."""


class EmbeddedEngine:
    """A gallery in a folder; see :class:`regard.gallery.query.Engine`.

    Args:
        folder: where it lies; made when it is missing.
        dim: D; None reads it from the folder's description.
        progress: called with (parts done, parts in all) while the table is made again.

    Raises:
        StorageError: another process has it open, or the disk refuses.
        DataError: the folder is no gallery, or a part of it is damaged.
    """

    def __init__(self, folder: Path, dim: int | None = None, progress: Callable[[int, int], None] | None = None):
        self.folder = folder
        self._home, self._seal = folder / "index", folder / "index.json"
        if dim is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"cannot make {folder} ({error.strerror}); choose another place") from None
        self._lock = FolderLock(folder)
        try:
            self.dim = dim if dim is not None else self._described_dim()
            self._progress = progress or (lambda done, total: None)
            self._busy = threading.RLock()
            self._parts = Parts(folder / "parts", self.dim)
            self._short: Short | None = None
            deleted = self._parts.finish_deleting()
            self._table = None if deleted else self._load()
            if self._table is None:
                self._rebuild()
        except BaseException:
            self._lock.release()
            raise

    def read_meta(self) -> dict[str, Any]:
        """The folder's description; empty for a new one."""
        path = self.folder / "gallery.json"
        try:
            return parse_json(read_regular(path)) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); restore it from a backup") from error

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Replace the folder's description."""
        write_atomic(self.folder / "gallery.json", (json.dumps(meta, indent=2) + "\n").encode())

    def add(self, items: Sequence[Item]) -> None:
        """See :meth:`Engine.add`; items of one call are one file, so they are there together or not at all."""
        for item in items:
            if not is_id(item.record.id):
                raise DataError(f"got the id {item.record.id!r}, wanted a UUID in lower case; take record_id(source)")
        with self._busy:
            need = sum(4 * self.dim + len(item.thumbnail) + 1024 for item in items)
            if shutil.disk_usage(self.folder).free < 3 * need + SPARE_BYTES:
                raise StorageError(f"the disk of {self.folder} is nearly full; nothing was added, make room first")
            self._touch()
            number, rows = self._parts.append(items)
            try:
                self._open.append(number, rows)
            except Exception as error:
                self._parts.withdraw(number)
                self._rebuild()
                raise StorageError(f"the index took no more ({error}); nothing was added") from error

    def delete(self, ids: Sequence[str]) -> int:
        """See :meth:`Engine.delete`; a crash in the middle is finished when the gallery is opened again."""
        with self._busy:
            known = [id for id, row in zip(ids, self._open.rows_of(ids)) if row >= 0]
            if known:
                self._touch()
                self._parts.mark_deleting(known)
                self._parts.finish_deleting()
                self._rebuild(short=False)
            return len(known)

    def get(self, ids: Sequence[str]) -> list[Item]:
        """See :meth:`Engine.get`."""
        with self._busy:
            rows, view = self._open.rows_of(ids), self._open.view()
        rows = rows[rows >= 0]
        return [Item(*each) for each in zip(view.records(rows), view.coded.vectors[rows])]

    def scan(self, filter: Filter, after: str | None = None, limit: int = 1000) -> list[Record]:
        """See :meth:`Engine.scan`."""
        with self._busy:
            rows, view = self._open.behind(after, filter, limit), self._open.view()
        return view.records(rows)

    def search(self, vectors: np.ndarray, k: int, filter: Filter, *, exact: bool = True) -> list[list[Scored]]:
        """See :meth:`Engine.search`; without an index (see :meth:`index`) every search is exact.

        Scores are inner products rounded to float32, equal ones in order of id.
        """
        vectors = np.asarray(vectors, np.float32)
        with self._busy:
            accepted, view, short = self._open.accepted(filter), self._open.view(), self._short
        if short is None or not pays(short, accepted, k, exactly=exact):
            found = nearest(view.coded, vectors, k, accepted)
        else:
            rows = narrow(short, view.coded, vectors, k, accepted, exactly=exact)
            found = [nearest(view.coded, query[None], k, some)[0] for query, some in zip(vectors, rows)]
        return [list(map(Scored, view.records(rows), scores.tolist())) for rows, scores in found]

    def count(self, filter: Filter) -> int:
        """See :meth:`Engine.count`."""
        with self._busy:
            return int(np.count_nonzero(self._open.accepted(filter)))

    def values(self, name: str, limit: int = 1000) -> dict[str, int]:
        """See :meth:`Engine.values`."""
        with self._busy:
            return self._open.values(name, limit)

    def thumbnail(self, id: str) -> bytes:
        """See :meth:`Engine.thumbnail`."""
        with self._busy:
            (row,) = self._open.rows_of([id])
            return self._parts.thumbnail(*self._open.view().places[row].tolist()) if row >= 0 else b""

    def index(self) -> None:
        """See :meth:`Engine.index`: short codes, kept until something is deleted; exact searches gain by them too."""
        with self._busy:
            self._touch()
            short = make_short(self._open.view().coded, self._open.accepted(Filter()))
            try:
                save_short(short, self._home)
            except OSError as error:
                raise StorageError(f"could not write {self._home} ({error.strerror or error}); make room") from error
            self._short = short

    def close(self) -> None:
        """See :meth:`Engine.close`; the table is sealed with its checksums."""
        with self._busy:
            if self._table is not None:
                if not self._seal.exists():
                    self._table.save()
                    write_atomic(self._seal, json.dumps(self._sums(self._table)).encode())
                self._table.close()
                self._table = None
            self._lock.release()

    @property
    def _open(self) -> Table:
        if self._table is None:
            raise StorageError(f"the gallery {self.folder} is closed; open it again")
        return self._table

    def _described_dim(self) -> int:
        meta = self.read_meta()
        if not isinstance(meta.get("dim"), int):
            raise DataError(
                f"{self.folder} is not a gallery (no gallery.json); make one: regard embed IMAGES -o GALLERY"
            )
        return meta["dim"]

    def _touch(self) -> None:
        """Break the seal: from here on a crash costs the table."""
        self._seal.unlink(missing_ok=True)

    def _sums(self, table: Table) -> dict[str, Any]:
        return {"parts": self._parts.names, "files": table.checksums()}

    def _load(self) -> Table | None:
        """The table as it was sealed, with its short codes; None where it has to be made."""
        try:
            seal = parse_json(read_regular(self._seal))
            table = Table(self._home, self.dim)
            if seal != self._sums(table):
                return None
            self._short = load_short(self._home)
            return table
        except Exception:
            return None

    def _rebuild(self, *, short: bool = True) -> None:
        """Make the table from the parts, and short codes if the gallery says there were some."""
        self._touch()
        if self._table is not None:
            self._table.close()
        self._table, self._short = None, None
        shutil.rmtree(self._home, ignore_errors=True)
        table, numbers = Table(self._home, self.dim), self._parts.numbers
        try:
            for done, number in enumerate(numbers):
                self._progress(done, len(numbers))
                table.append(number, self._parts.read(number, check=True))
            if numbers:
                self._progress(len(numbers), len(numbers))
            self._table = table
            if short and numbers and self.read_meta().get("index"):
                self.index()
        except OSError as error:
            raise StorageError(f"could not write {self._home} ({error.strerror or error}); make room first") from error
        finally:
            if self._table is None:
                table.close()


class FolderLock:
    """Hold ``folder/lock`` for one process until :meth:`release`; the lock goes with it, whatever ends it.

    Raises:
        StorageError: another process holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path):
        path = folder / "lock"
        try:
            self._file = open_regular(path, "a+b", private=True, buffering=0)
            self._file.seek(0)  # where every process locks the same byte
        except OSError as error:
            raise StorageError(f"cannot open {folder} ({error.strerror}); check the path and its permissions") from None
        try:
            _lock(self._file.fileno())
        except OSError:
            holder = os.pread(self._file.fileno(), 32, 0).decode("ascii", "replace").strip() if os.name != "nt" else ""
            self._file.close()
            raise StorageError(
                f"{folder} is in use by process {holder or 'unknown'}; end it first, or ask it over HTTP (regard serve)"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()).encode())

    def release(self) -> None:
        """Release the lock."""
        self._file.close()


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
