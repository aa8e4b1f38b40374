"""The truth of an embedded gallery: a folder of small files, each written whole or not at all.

Shapes: N rows of a part, D descriptor length.

Every addition is one Arrow file, ``00000012-9f86d081884c7d65.arrow``: its number and the digest of its bytes. A later
part replaces rows of an earlier one that have the same id. The index of the gallery holds nothing that is not here, so
a lost or damaged index is built again from the parts. To delete is to write the parts anew without those rows.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from regard.errors import DataError, StorageError
from regard.gallery.record import Item
from regard.parsing import parse_json
from regard.storage import read_regular, write_atomic

__all__ = ["Parts"]

DELETING = "deleting.json"
DIGEST = 16


class Parts:
    """Rows of items in numbered files.

    Args:
        folder: where they lie; made when it is missing.
        dim: D.
    """

    def __init__(self, folder: Path, dim: int):
        self.folder = folder
        self.dim = dim
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
        self._open = lru_cache(maxsize=64)(self._map)
        self._paths = self._listed()

    @property
    def numbers(self) -> list[int]:
        """Numbers of the parts, ascending."""
        return sorted(self._paths)

    @property
    def names(self) -> list[str]:
        """Names of the files, which hold the digests of their bytes."""
        return [self._paths[number].name for number in self.numbers]

    def append(self, items: Sequence[Item]) -> tuple[int, pa.Table]:
        """Write one part; durable when this returns.

        Returns:
            Its number, and its rows.

        Raises:
            StorageError: the disk refused; nothing has changed.
        """
        number, table = max(self._paths, default=0) + 1, to_table(items, self.dim)
        self._write(number, table)
        return number, table

    def withdraw(self, number: int) -> None:
        """Take back a part that was just appended."""
        self._paths.pop(number).unlink()

    def read(self, number: int, *, check: bool = False) -> pa.Table:
        """A part as a table, mapped and not copied.

        Raises:
            DataError: it is damaged (with ``check``, by the digest of all its bytes).
        """
        path = self._path(number)
        if check and digest(path.read_bytes()) != path.stem[9:]:
            raise DataError(f"{path} is damaged: its bytes are not those written; restore it from a backup")
        return self._open(path)

    def thumbnail(self, number: int, row: int) -> bytes:
        """The JPEG in a row."""
        return self.read(number)["thumbnail"][row].as_py()

    def mark_deleting(self, ids: Sequence[str]) -> None:
        """Promise a deletion, so that a crash in the middle of it is finished by :meth:`finish_deleting`."""
        write_atomic(self.folder / DELETING, json.dumps(sorted(ids)).encode())

    def finish_deleting(self) -> bool:
        """Write every part without the rows promised to go, and without rows that later ones replaced.

        Returns:
            Whether there was anything to finish.
        """
        promise = self.folder / DELETING
        if not promise.exists():
            return False
        newer = set(parse_json(read_regular(promise)))
        for path in self._newest_first():
            table = self._open(path)
            ids = table["id"].to_pylist()
            kept = table.filter(pa.array([id not in newer for id in ids], pa.bool_()))
            newer |= set(ids)
            if len(kept) == len(table):
                continue
            if len(kept):
                self._write(int(path.name[:8]), kept)
            path.unlink()
        self._open.cache_clear()
        self._paths = self._listed()
        promise.unlink()
        return True

    def _newest_first(self) -> list[Path]:
        """List the file of each part, the newest part first.

        A crash between the two steps of writing a part again leaves both its files. The one with fewer rows is the new
        one, and whole; the other goes.
        """
        chosen: dict[int, Path] = {}
        for path in sorted(self.folder.glob("*.arrow")):
            number = int(path.name[:8])
            if number in chosen:
                new, old = sorted((chosen[number], path), key=lambda each: len(self._open(each)))
                old.unlink()
                path = new
            chosen[number] = path
        return [chosen[number] for number in sorted(chosen, reverse=True)]

    def _write(self, number: int, table: pa.Table) -> None:
        buffer = io.BytesIO()
        with pa.ipc.new_file(buffer, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        data = buffer.getvalue()
        path = self.folder / f"{number:08d}-{digest(data)}.arrow"
        write_atomic(path, data)
        self._paths[number] = path

    def _listed(self) -> dict[int, Path]:
        return {int(path.name[:8]): path for path in sorted(self.folder.glob("*.arrow"))}

    def _path(self, number: int) -> Path:
        if number not in self._paths:
            raise StorageError(f"part {number} is missing from {self.folder}; restore it from a backup")
        return self._paths[number]

    def _map(self, path: Path) -> pa.Table:
        try:
            return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} is damaged ({error}); restore it from a backup") from error


def schema(dim: int) -> pa.Schema:
    """Columns of a part."""
    vector = pa.list_(pa.float32(), dim)
    return pa.schema({"id": pa.string(), "record": pa.string(), "vector": vector, "thumbnail": pa.binary()})


def to_table(items: Sequence[Item], dim: int) -> pa.Table:
    """Items as rows.

    Raises:
        DataError: a descriptor has another length.
    """
    vectors = np.stack([item.vector for item in items]).astype(np.float32)
    if vectors.shape[1:] != (dim,):
        raise DataError(f"got descriptors of length {vectors.shape[1]}, the gallery's have {dim}; use its model")
    columns: list[Any] = [
        pa.array([item.record.id for item in items]),
        pa.array([json.dumps(item.record.to_dict()) for item in items]),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
        pa.array([item.thumbnail for item in items], pa.binary()),
    ]
    return pa.Table.from_arrays(columns, schema=schema(dim))


def vectors_of(table: pa.Table, dim: int) -> np.ndarray:
    """(N, D) float32 of the column ``vector``."""
    column = table["vector"].combine_chunks()
    flat = column.flatten() if isinstance(column, pa.FixedSizeListArray) else column.chunk(0).flatten()
    return flat.to_numpy(zero_copy_only=False).reshape(-1, dim)


def digest(data: bytes) -> str:
    """Digest by which a part's bytes are known."""
    return hashlib.sha256(data).hexdigest()[:DIGEST]
