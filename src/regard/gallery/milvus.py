"""The server engine: a Milvus collection, for galleries that outgrow one machine.

Shapes: Q queries, D descriptor length.

A gallery is a collection named by the last part of the URL, with everything in it: descriptors, what is known, and the
thumbnails (as base64 text). A second collection beside it holds what the gallery says about itself. Searches see every
write acknowledged before them (consistency "Strong"); durability is the server's, by its log.

Differences to the embedded engine: an approximate index is IVF, which is exact again when all its lists are probed;
what is deleted leaves the server's segments when it compacts them, which every deletion asks for, and its disk when it
collects its garbage (:mod:`regard.gallery.compaction`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from grpc import RpcError
from pymilvus import DataType, MilvusClient, MilvusException

from regard.errors import ConfigError, DataError, StorageError
from regard.gallery.compaction import compacted, reason_of
from regard.gallery.query import Removed
from regard.gallery.record import FACTS, Filter, Item, Record, Scored
from regard.parsing import parse_json

__all__ = ["MilvusEngine"]

NO_TIME = -1e300
TEXTS = {"camera": 1024, "track": 1024, "person": 1024, "path": 8192, "thumbnail": 65_535}
KNOWN = ("path", *FACTS, "attributes")
DIGEST = "$digest"
"""Name among a row's attributes, which no attribute can have, of the digest of its picture."""

SAID = "$said"
"""The same, of what was said of it before."""

MOST = 16_384
"""Rows a Milvus answer may have."""

PAGE = 1000
LISTS = 128


def said_plainly(method: Any) -> Any:
    """Let what goes wrong on the server come out as a StorageError."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except (MilvusException, RpcError) as error:
            said = f"the Milvus server answered: {reason_of(error)}"
            raise StorageError(f"{said}; check the server and the URL") from error

    return call


class MilvusEngine:
    """A gallery on a Milvus server; see :class:`regard.gallery.query.Engine`.

    Args:
        url: ``http://host:19530/name``; ``http://user:password@host...`` where the server wants one.
        dim: D of a new gallery; None opens one that is there.

    Raises:
        ConfigError: the URL names no gallery.
        DataError: there is none of that name.
        StorageError: the server does not answer.
    """

    @said_plainly
    def __init__(self, url: str, dim: int | None = None):
        parts = urlsplit(url)
        name = parts.path.strip("/")
        if not name.isidentifier():
            raise ConfigError(f"{url} names no gallery; add one of letters, digits and _: http://host:19530/people")
        self.name, self.about = name, f"{name}_about"
        token = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
        address = f"{parts.scheme}://{parts.hostname}:{parts.port or 19530}"
        self._client = MilvusClient(uri=address, token=token, timeout=20)
        if dim is not None and not self._client.has_collection(name):
            self._create(dim)
        if not self._client.has_collection(name):
            raise DataError(f"there is no gallery at {url}; make one: regard embed IMAGES -o {url}")
        self._client.load_collection(name)
        self._client.load_collection(self.about)
        fields: Any = self._client.describe_collection(name)
        self.dim = int(next(field["params"]["dim"] for field in fields["fields"] if field["name"] == "vector"))

    @said_plainly
    def read_meta(self) -> dict[str, Any]:
        """See :meth:`Engine.read_meta`."""
        rows = self._client.query(self.about, filter='id == "meta"', output_fields=["text"])
        return parse_json(rows[0]["text"]) if rows else {}

    @said_plainly
    def write_meta(self, meta: dict[str, Any]) -> None:
        """See :meth:`Engine.write_meta`."""
        self._client.upsert(self.about, [{"id": "meta", "text": json.dumps(meta), "vector": [0.0, 1.0]}])

    @said_plainly
    def add(self, items: Sequence[Item]) -> None:
        """See :meth:`Engine.add`; items of one call are sent together."""
        self._client.upsert(self.name, [to_row(item) for item in items])

    @said_plainly
    def delete(self, ids: Sequence[str], *, waiting: Callable[[float, float], None] | None = None) -> Removed:
        """See :meth:`Engine.delete`; waits for the server to compact.

        Args:
            ids: of what goes.
            waiting: told of the wait, see :func:`regard.gallery.compaction.compacted`.
        """
        gone = 0
        for start in range(0, len(ids), PAGE):
            some = list(ids[start : start + PAGE])
            known = [row["id"] for row in self._client.get(self.name, ids=some, output_fields=["id"])]
            if known:
                self._client.delete(self.name, ids=known)
            gone += len(known)
        return self.confirm(ids, gone, waiting=waiting) if gone else Removed(0, "compacted")

    @said_plainly
    def confirm(
        self, ids: Sequence[str] = (), gone: int = 0, *, waiting: Callable[[float, float], None] | None = None
    ) -> Removed:
        """Have the server compact, and say whether it did."""
        why = compacted(self._client, self.name, ids, waiting=waiting)
        if why is None:
            return Removed(gone, "compacted")
        return Removed(
            gone, "unconfirmed", f"the Milvus server has not confirmed that its segments are without them: {why}"
        )

    @said_plainly
    def get(self, ids: Sequence[str]) -> list[Item]:
        """See :meth:`Engine.get`."""
        found: dict[str, Item] = {}
        for start in range(0, len(ids), PAGE):
            some = list(ids[start : start + PAGE])
            for row in self._client.get(self.name, ids=some, output_fields=["id", *KNOWN, "vector"]):
                found[row["id"]] = Item(to_record(row), np.array(row["vector"], np.float32))
        return [found[id] for id in ids if id in found]

    @said_plainly
    def scan(self, filter: Filter, after: str | None = None, limit: int = 1000) -> list[Record]:
        """See :meth:`Engine.scan`."""
        if filter.is_impossible:
            return []
        behind = f"id > {quoted(after)}" if after else 'id != ""'
        asked = " and ".join(part for part in (behind, to_expression(filter)) if part)
        rows = self._client.query(
            self.name, filter=asked, output_fields=["id", *KNOWN], limit=min(limit, MOST), iterator="True"
        )
        return sorted(map(to_record, rows), key=lambda record: record.id)

    @said_plainly
    def search(self, vectors: np.ndarray, k: int, filter: Filter, *, exact: bool = True) -> list[list[Scored]]:
        """See :meth:`Engine.search`."""
        if filter.is_impossible:
            return [[] for _ in vectors]
        answers = self._client.search(
            self.name,
            data=np.asarray(vectors, np.float32).tolist(),
            filter=to_expression(filter),
            limit=min(k, MOST),
            output_fields=["id", *KNOWN],
            search_params={"metric_type": "IP", "params": {"nprobe": LISTS if exact else LISTS // 8}},
        )
        return [[Scored(to_record(hit["entity"]), float(hit["distance"])) for hit in answer] for answer in answers]

    @said_plainly
    def count(self, filter: Filter) -> int:
        """See :meth:`Engine.count`."""
        if filter.is_impossible:
            return 0
        rows = self._client.query(self.name, filter=to_expression(filter), output_fields=["count(*)"])
        return int(rows[0]["count(*)"])

    @said_plainly
    def values(self, name: str, limit: int = 1000) -> dict[str, int]:
        """See :meth:`Engine.values`; reads the field of every record."""
        counts: dict[str, int] = {}
        after = ""
        while True:
            asked = f"id > {quoted(after)}"
            rows = self._client.query(self.name, filter=asked, output_fields=["id", name], limit=PAGE, iterator="True")
            for row in rows:
                if row[name]:
                    counts[row[name]] = counts.get(row[name], 0) + 1
            if len(rows) < PAGE:
                return dict(sorted(counts.items())[:limit])
            after = max(row["id"] for row in rows)

    @said_plainly
    def thumbnail(self, id: str) -> bytes:
        """See :meth:`Engine.thumbnail`."""
        rows = self._client.get(self.name, ids=[id], output_fields=["thumbnail"])
        return base64.b64decode(rows[0]["thumbnail"]) if rows else b""

    @said_plainly
    def index(self) -> None:
        """See :meth:`Engine.index`: inverted lists around centers."""
        self._client.release_collection(self.name)
        self._client.drop_index(self.name, "vector")
        self._index("IVF_FLAT", {"nlist": LISTS})
        self._client.load_collection(self.name)

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        self._client.close()

    @said_plainly
    def drop(self) -> None:
        """Remove the gallery from the server."""
        for name in (self.name, self.about):
            self._client.drop_collection(name)

    def _create(self, dim: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        for name, length in TEXTS.items():
            schema.add_field(name, DataType.VARCHAR, max_length=length)
        schema.add_field("time", DataType.DOUBLE)
        schema.add_field("attributes", DataType.JSON)
        self._client.create_collection(self.name, schema=schema, consistency_level="Strong")
        self._index("FLAT", {})
        about = MilvusClient.create_schema(auto_id=False)
        about.add_field("id", DataType.VARCHAR, is_primary=True, max_length=36)
        about.add_field("text", DataType.VARCHAR, max_length=65_535)
        about.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        self._client.create_collection(self.about, schema=about, consistency_level="Strong")
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        self._client.create_index(self.about, index)

    def _index(self, kind: str, params: dict[str, Any]) -> None:
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type="IP", params=params)
        self._client.create_index(self.name, index)


def to_row(item: Item) -> dict[str, Any]:
    """An item as a row of the collection.

    Raises:
        DataError: a text or the thumbnail is longer than the server takes.
    """
    record = item.record
    row = {name: getattr(record, name) or "" for name in ("path", "camera", "track", "person")}
    row["thumbnail"] = base64.b64encode(item.thumbnail).decode()
    for name, value in row.items():
        if len(value.encode()) > TEXTS[name]:
            raise DataError(f"the {name} of {record.path[:200]} has more than {TEXTS[name]:,} bytes; make it smaller")
    attributes = {**record.attributes, **({DIGEST: record.digest} if record.digest else {})}
    attributes |= {SAID: json.dumps(record.to_dict()["said"])} if record.said else {}
    row |= {"id": record.id, "vector": item.vector.tolist(), "attributes": attributes}
    return row | {"time": NO_TIME if record.time is None else record.time}


def to_record(row: dict[str, Any]) -> Record:
    """The record in a row."""
    attributes = row["attributes"]
    known = {name: row[name] for name in ("path", "camera", "track", "person")}
    time = None if row["time"] <= NO_TIME else row["time"]
    attributes = parse_json(attributes) if isinstance(attributes, str | bytes) else attributes
    attributes = dict(attributes or {})
    known["digest"] = attributes.pop(DIGEST, None)
    said = parse_json(attributes.pop(SAID, "{}"))
    return Record.from_dict({"id": row["id"], **known, "time": time, "attributes": attributes, "said": said})


def to_expression(filter: Filter) -> str:
    """The filter in Milvus' terms; empty where it lets everything through."""
    parts = []
    chosen = {"camera": filter.cameras, "track": filter.tracks, "person": filter.persons, "id": filter.ids}
    chosen |= {f"attributes[{quoted(name)}]": values for name, values in filter.attributes.items()}
    for field, values in chosen.items():
        if values is not None:
            parts.append(f"{field} in {listed([value for value in values if value] or [chr(0)])}")
    for field, values in (("camera", filter.not_cameras), ("id", filter.not_ids)):
        if any(values):
            parts.append(f"{field} not in {listed([value for value in values if value])}")
    if filter.since is not None:
        parts.append(f"time >= {max(filter.since, 0.5 * NO_TIME)!r}")
    if filter.until is not None:
        parts.append(f"time < {filter.until!r} and time > {0.5 * NO_TIME!r}")
    return " and ".join(parts)


def quoted(text: str) -> str:
    """A text as Milvus reads it."""
    return json.dumps(text, ensure_ascii=False)


def listed(values: Sequence[str]) -> str:
    """Texts as Milvus reads them."""
    return f"[{', '.join(map(quoted, values))}]"
