"""Items as rows of Arrow tables, and the galleries of earlier versions, whose truth were files of such tables.

Shapes: N rows, D descriptor length.

Before 0.3 every addition to a gallery in a folder was one Arrow file, ``parts/00000012-9f86d081884c7d65.arrow``: its
number and the digest of its bytes. A later part replaced rows of an earlier one that had the same id, and
``parts/deleting.json`` promised rows that were to go. :func:`convert` reads such a gallery once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from regard.errors import DataError, StorageError
from regard.gallery.database import PATIENCE
from regard.gallery.record import Item, read_records
from regard.gallery.store import EARLIER, STORE, Store
from regard.parsing import parse_json
from regard.storage import open_regular, read_regular

__all__ = ["convert", "schema", "to_table", "vectors_of"]

DELETING, BROKEN = "deleting.json", "damaged"
CONVERTS = " converts"
"""What the file ``lock`` says behind the number of a process that others wait for."""
SILENCE = 2.0
"""Seconds within which one that has just taken the file has said so; what it says until then is another's."""

OLD = ("parts", "index", "index.json", "lock", EARLIER)


def convert(folder: Path, progress: Callable[[int, int], None]) -> None:
    """Make the store of a gallery of an earlier version, and remove that one's files once it is whole.

    Args:
        folder: the gallery's.
        progress: called with (parts done, parts in all).

    Raises:
        DataError: a part is damaged.
        StorageError: an earlier version has it open, or the disk refuses; everything is as it was.
    """
    with held(folder):
        if not (folder / STORE).exists():
            fill_store(folder, progress)
        for name in OLD:  # what tells that there is one goes last
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def fill_store(folder: Path, progress: Callable[[int, int], None]) -> None:
    """Make the store of an earlier gallery; parts that are damaged are kept in a folder ``damaged`` and said."""
    meta, paths, going = read_about(folder), parts(folder), set(promised(folder))
    new = folder / f".{STORE}.new"
    for left in folder.glob(f"{new.name}*"):
        left.unlink()
    broken: list[str] = []
    with closing(Store(new, meta["dim"])) as store:
        where: dict[str, int] = {}
        for done, path in enumerate(paths):
            progress(done, len(paths))
            try:
                items = [item for item in items_of(path, meta["dim"]) if item.record.id not in going]
            except DataError as error:
                if len(paths) == 1:
                    raise
                broken.append(path.name)
                print(f"regard: {error}; it is kept in {folder / BROKEN}, the rest is searched", file=sys.stderr)
                continue
            latest = {item.record.id: item for item in items}
            with store.writing() as db:
                again = [where[id] for id in latest if id in where]
                if again:
                    store.erase(db, again)
                where |= zip(latest, store.insert(db, list(latest.values())))
        with store.writing() as db:
            store.write(db, "gallery", meta)
            db.execute("DELETE FROM erased")
        store.wipe()
    progress(len(paths), len(paths))
    folder.chmod(0o700)
    for name in broken:
        (folder / BROKEN).mkdir(mode=0o700, exist_ok=True)
        shutil.copy2(folder / "parts" / name, folder / BROKEN / name)
    new.rename(folder / STORE)


def read_about(folder: Path) -> dict[str, Any]:
    """What an earlier gallery says about itself.

    Raises:
        DataError: it does not say how long its descriptors are.
    """
    path = folder / EARLIER
    try:
        meta = parse_json(read_regular(path))
        if isinstance(meta.get("dim"), int):
            return meta
        raise ValueError("it does not say how long descriptors are")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it from a backup") from error


def promised(folder: Path) -> Sequence[str]:
    """Ids of an earlier gallery that were to go when it ended."""
    path = folder / "parts" / DELETING
    return parse_json(read_regular(path)) if path.exists() else ()


def parts(folder: Path) -> list[Path]:
    """The files of an earlier gallery in order; of two of one number, which a crash has left, the shorter is newer."""
    chosen: dict[int, Path] = {}
    for path in sorted((folder / "parts").glob("[0-9]*.arrow"), key=lambda path: -path.stat().st_size):
        chosen[int(path.name[:8])] = path
    return [chosen[number] for number in sorted(chosen)]


def items_of(path: Path, dim: int) -> list[Item]:
    """The items in a part of an earlier gallery.

    Raises:
        DataError: its bytes are not those written.
    """
    data = read_regular(path)
    if hashlib.sha256(data).hexdigest()[:16] != path.stem[9:]:
        raise DataError(f"{path} is damaged: its bytes are not those written; restore it from a backup")
    try:
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    except pa.ArrowException as error:
        raise DataError(f"{path} is damaged ({error}); restore it from a backup") from error
    records = read_records(table["record"].to_pylist()) if len(table) else []
    return [Item(*row) for row in zip(records, vectors_of(table, dim), table["thumbnail"].to_pylist())]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold ``folder/lock``, as earlier versions do for as long as they have a gallery open.

    Raises:
        StorageError: one does.
    """
    path = folder / "lock"
    try:
        file = open_regular(path, "a+b", private=True, follow=False, buffering=0)
    except OSError as error:
        raise StorageError(f"cannot open {folder} ({error.strerror}); check the path and its permissions") from None
    since = time.monotonic()
    with file:
        while not taken(file):
            holder = os.pread(file.fileno(), 32, 0).decode("ascii", "replace").strip() if os.name != "nt" else ""
            if time.monotonic() - since > (PATIENCE if holder.endswith(CONVERTS) else SILENCE):
                whose = holder.removesuffix(CONVERTS) or "unknown"
                raise StorageError(f"{folder} is in use by process {whose} of an earlier regard; end it first")
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"{os.getpid()}{CONVERTS}".encode())
        yield


def taken(file: Any) -> bool:
    """Take a file for this process where no other has it."""
    try:
        file.seek(0)
        lock(file.fileno())
        return True
    except OSError:
        return False


def lock(descriptor: int) -> None:
    """Take a file, or raise OSError where another process has it."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
