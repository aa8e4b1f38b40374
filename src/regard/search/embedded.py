"""The embedded engine: Arrow files as the truth, Qdrant Edge as the index, nothing to start.

Shapes: Q queries, N items, D descriptor length.

What :meth:`EmbeddedEngine.add` acknowledges lies in :class:`~regard.search.parts.Parts` before the index hears of
it. The index is kept with a list of the checksums of its files, made when the gallery is closed; after a crash, or
where a file of it has changed, the index is built again from the parts. Qdrant Edge keeps the bytes of deleted points,
and loads files that were cut short without a word: hence the checksums, and the new index after every deletion.
"""

from __future__ import annotations

import json
import shutil
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant

from regard.errors import DataError, StorageError
from regard.search.lock import FolderLock
from regard.search.parts import Parts
from regard.search.record import Filter, Hit, Item, Record
from regard.storage import write_atomic

__all__ = ["EmbeddedEngine"]

AT_ONCE = 1000
SPARE_BYTES = 64 * 2**20
"""Left free on the disk: a memory-mapped index must not run into a full one."""

NEVER = 10**12
"""Kilobytes a segment would need before it gets an approximate index by itself."""

FIELDS = {"camera": "Keyword", "track": "Keyword", "person": "Keyword", "time": "Float"}


class EmbeddedEngine:
    """A gallery in a folder; see :class:`regard.search.engine.Engine`.

    Args:
        folder: where it lies; made when it is missing.
        dim: D; None reads it from the folder's description.
        progress: called with (items done, items in all) while the index is built again.

    Raises:
        StorageError: another process has it open, or the disk refuses.
        DataError: the folder is no gallery, or a part of it is damaged.
    """

    def __init__(self, folder: Path, dim: int | None = None, progress: Callable[[int, int], None] | None = None):
        self.folder = folder
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
            deleted = self._parts.finish_deleting()
            self._shard = None if deleted else self._load()
            if self._shard is None:
                self._rebuild()
        except BaseException:
            self._lock.release()
            raise

    def read_meta(self) -> dict[str, Any]:
        """The folder's description; empty for a new one."""
        path = self.folder / "gallery.json"
        try:
            return json.loads(path.read_bytes()) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); restore it from a backup") from error

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Replace the folder's description."""
        write_atomic(self.folder / "gallery.json", (json.dumps(meta, indent=2) + "\n").encode())

    def add(self, items: Sequence[Item]) -> None:
        """See :meth:`Engine.add`; items of one call are one file, so they are there together or not at all."""
        with self._busy:
            need = sum(4 * self.dim + len(item.thumbnail) + 1024 for item in items)
            if shutil.disk_usage(self.folder).free < 3 * need + SPARE_BYTES:
                raise StorageError(f"the disk of {self.folder} is nearly full; nothing was added, make room first")
            self._touch()
            number = self._parts.append(items)
            try:
                self._upsert(number, [item.record for item in items], np.stack([item.vector for item in items]))
            except Exception as error:
                self._parts.withdraw(number)
                self._rebuild()
                raise StorageError(f"the index took no more ({error}); nothing was added") from error

    def delete(self, ids: Sequence[str]) -> int:
        """See :meth:`Engine.delete`; a crash in the middle is finished when the gallery is opened again."""
        with self._busy:
            known = [item.record.id for item in self.get(ids)]
            if known:
                self._touch()
                self._parts.mark_deleting(known)
                self._parts.finish_deleting()
                self._rebuild()
            return len(known)

    def get(self, ids: Sequence[str]) -> list[Item]:
        """See :meth:`Engine.get`."""
        with self._busy:
            found = {str(r.id): r for r in self._index.retrieve(list(ids), with_payload=True, with_vector=True)}
        return [
            Item(to_record(id, found[id].payload), np.array(found[id].vector, np.float32)) for id in ids if id in found
        ]

    def scan(self, filter: Filter, after: str | None = None, limit: int = 1000) -> list[Record]:
        """See :meth:`Engine.scan`."""
        if filter.is_impossible:
            return []
        request = qdrant.ScrollRequest(
            offset=after, limit=limit + 1, filter=to_qdrant(filter), with_payload=True, with_vector=False
        )
        with self._busy:
            found, _ = self._index.scroll(request)
        records = [to_record(str(point.id), point.payload) for point in found]
        return [record for record in records if record.id != after][:limit]

    def search(self, vectors: np.ndarray, k: int, filter: Filter, exact: bool = True) -> list[list[Hit]]:
        """See :meth:`Engine.search`."""
        if filter.is_impossible:
            return [[] for _ in vectors]
        condition, how = to_qdrant(filter), qdrant.SearchParams(exact=exact, hnsw_ef=None if exact else max(128, 2 * k))
        requests = [
            qdrant.QueryRequest(
                limit=k,
                query=qdrant.Query.Nearest(vector.tolist()),
                filter=condition,
                params=how,
                with_payload=True,
                with_vector=False,
            )
            for vector in np.asarray(vectors, np.float32)
        ]
        with self._busy:
            answers = self._index.query_batch(qdrant.QueryBatchRequest(requests))
        return [[Hit(to_record(str(p.id), p.payload), p.score) for p in answer] for answer in answers]

    def count(self, filter: Filter) -> int:
        """See :meth:`Engine.count`."""
        if filter.is_impossible:
            return 0
        with self._busy:
            return self._index.count(qdrant.CountRequest(filter=to_qdrant(filter), exact=True))

    def values(self, name: str, limit: int = 1000) -> dict[str, int]:
        """See :meth:`Engine.values`."""
        with self._busy:
            found = self._index.facet(qdrant.FacetRequest(name, limit=limit, exact=True))
        return {str(hit.value): hit.count for hit in sorted(found.hits, key=lambda hit: str(hit.value))}

    def thumbnail(self, id: str) -> bytes:
        """See :meth:`Engine.thumbnail`."""
        with self._busy:
            found = self._index.retrieve([id], with_payload=["part", "row"], with_vector=False)
            where = (found[0].payload if found else None) or {}
            return self._parts.thumbnail(where["part"], where["row"]) if where else b""

    def index(self) -> None:
        """See :meth:`Engine.index`: a graph (HNSW), kept until something is deleted."""
        with self._busy:
            self._touch()
            self._index.flush()
            self._index.close()
            self._shard = qdrant.EdgeShard.load(str(self._home), shard_config(self.dim, threshold=1))
            while self._shard.optimize():
                pass
            self._shard.flush()

    def close(self) -> None:
        """See :meth:`Engine.close`; the index is sealed with its checksums."""
        with self._busy:
            if self._shard is not None:
                self._shard.flush()
                self._shard.close()
                self._shard = None
                write_atomic(self._seal, json.dumps(self._checksums()).encode())
            self._lock.release()

    @property
    def _home(self) -> Path:
        return self.folder / "index"

    @property
    def _seal(self) -> Path:
        return self.folder / "index.json"

    @property
    def _index(self) -> qdrant.EdgeShard:
        if self._shard is None:
            raise StorageError(f"the index of {self.folder} is closed; open the gallery again")
        return self._shard

    def _described_dim(self) -> int:
        meta = self.read_meta()
        if not isinstance(meta.get("dim"), int):
            raise DataError(
                f"{self.folder} is not a gallery (no gallery.json); make one: regard embed IMAGES -o GALLERY"
            )
        return meta["dim"]

    def _touch(self) -> None:
        """Break the seal: from here on a crash costs the index."""
        self._seal.unlink(missing_ok=True)

    def _checksums(self) -> dict[str, Any]:
        files = sorted(path for path in self._home.rglob("*") if path.is_file())
        sums = {str(path.relative_to(self._home)): checksum(path) for path in files}
        return {"parts": sorted(path.name for path in self._parts.folder.glob("*.arrow")), "files": sums}

    def _load(self) -> qdrant.EdgeShard | None:
        """The index as it was sealed; None where it has to be built."""
        try:
            if json.loads(self._seal.read_bytes()) != self._checksums():
                return None
            return qdrant.EdgeShard.load(str(self._home))
        except Exception:
            return None

    def _rebuild(self) -> None:
        """Build the index from the parts."""
        self._touch()
        if self._shard is not None:
            self._shard.close()
            self._shard = None
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir()
        self._shard = qdrant.EdgeShard.create(str(self._home), shard_config(self.dim))
        for name, kind in FIELDS.items():
            schema = getattr(qdrant.PayloadSchemaType, kind)
            self._shard.update(qdrant.UpdateOperation.create_field_index(name, schema))
        numbers = self._parts.numbers
        for done, number in enumerate(numbers):
            self._progress(done, len(numbers))
            self._upsert(number, *self._parts.rows(number, check=True))
        if numbers:
            self._progress(len(numbers), len(numbers))
        self._shard.flush()

    def _upsert(self, number: int, records: Sequence[Record], vectors: np.ndarray) -> None:
        for start in range(0, len(records), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(records)))
            points = [
                qdrant.Point(records[row].id, vectors[row].tolist(), to_payload(records[row], number, row))
                for row in rows
            ]
            self._index.update(qdrant.UpdateOperation.upsert_points(points))


def shard_config(dim: int, threshold: int = NEVER) -> qdrant.EdgeConfig:
    """One vector per point, exact until ``threshold`` kilobytes, no log of its own."""
    return qdrant.EdgeConfig(
        vectors=qdrant.EdgeVectorParams(size=dim, distance=qdrant.Distance.Dot),
        hnsw_config=qdrant.HnswIndexConfig(m=16, ef_construct=128, full_scan_threshold=10_000),
        optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=threshold, default_segment_number=1),
        wal_enabled=False,
    )


def to_payload(record: Record, part: int, row: int) -> dict[str, Any]:
    """What the index knows of a record, and where its row lies."""
    known = {key: value for key, value in record.to_dict().items() if value is not None and key != "id"}
    return known | {"part": part, "row": row}


def to_record(id: str, payload: dict[str, Any] | None) -> Record:
    """The record of a point."""
    return Record.from_dict({"id": id, **(payload or {})})


def to_qdrant(filter: Filter) -> qdrant.Filter | None:
    """The filter in Qdrant's terms; None where it lets everything through."""
    must: list[Any] = []
    chosen = {"camera": filter.cameras, "track": filter.tracks, "person": filter.persons}
    chosen |= {f'attributes."{name}"': values for name, values in filter.attributes.items()}
    for key, values in chosen.items():
        if values is not None:
            must.append(qdrant.FieldCondition(key, match=qdrant.MatchAny(list(values))))
    if filter.since is not None or filter.until is not None:
        must.append(qdrant.FieldCondition("time", range=qdrant.RangeFloat(gte=filter.since, lt=filter.until)))
    if filter.ids is not None:
        must.append(qdrant.HasIdCondition(set(filter.ids)))
    must_not: list[Any] = []
    if filter.not_cameras:
        must_not.append(qdrant.FieldCondition("camera", match=qdrant.MatchAny(list(filter.not_cameras))))
    if filter.not_ids:
        must_not.append(qdrant.HasIdCondition(set(filter.not_ids)))
    return qdrant.Filter(must=must, must_not=must_not) if must or must_not else None


def checksum(path: Path) -> list[int]:
    """Size and CRC of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(2**22):
            value = zlib.crc32(block, value)
    return [path.stat().st_size, value]
