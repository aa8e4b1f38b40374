"""Where what was embedded goes: into a gallery, or into a Parquet file.

Shapes: D descriptor length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from regard.errors import ConfigError, DataError, StorageError
from regard.gallery.embedder import Embedder
from regard.gallery.gallery import Gallery, is_there, is_url
from regard.gallery.inputs import Source
from regard.gallery.outcome import Done, Known, Words
from regard.gallery.record import FACTS, Filter, Item, Record, read_records
from regard.gallery.segments import schema, to_table, vectors_of
from regard.parsing import parse_json
from regard.storage import read_regular, write_atomic

__all__ = ["FileSink", "GallerySink", "open_sink", "pack", "unpack"]


class GallerySink:
    """Where items go: into a gallery."""

    def __init__(self, output: Path | str, embedder: Embedder, *, thumbnails: bool = True):
        try:
            self.gallery = Gallery.open(output)
        except DataError:
            if not is_url(output) and is_there(Path(output)):
                raise  # it is damaged
            self.gallery = Gallery.create(output, embedder.dim, embedder.describe(), thumbnails=thumbnails)
        try:
            embedder.check_fits(self.gallery)
        except ConfigError:
            self.gallery.close()
            raise
        self._words: Words | None = None

    def known(self) -> Known:
        """What is stored."""
        return Known.of(self.gallery.records())

    def revise(self, words: Words) -> int:
        """Change what is known of pictures that are stored; the number of records that changed."""
        self._words = words
        return self.gallery.revise(words)

    def add(self, items: Sequence[Item]) -> None:
        """Store items; those of pictures that are replaced keep what else is known of them."""
        words = self._words

        def over(before: Record, now: Record) -> Record:
            return now if words is None else words.anew(before, now)

        self.gallery.add(items, over)

    def discard(self, ids: Sequence[str]) -> int:
        """Remove what is stored by some ids, with every byte; how many there were."""
        return int(self.gallery.delete(Filter(ids=tuple(ids))))

    def finish(self, sources: Sequence[Source]) -> None:
        """Nothing is left to do: what was added is there."""


class FileSink:
    """Into a Parquet file, by way of parts beside it; rows come in the order of the sources."""

    def __init__(self, output: Path, embedder: Embedder):
        self.output, self.dim = output, embedder.dim
        self.parts = output.with_name(f"{output.name}.parts")
        self.model = json.dumps(embedder.describe(), sort_keys=True)
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {self.parts} ({error.strerror}); choose another place") from None
        stamp = self.parts / "model.json"
        if stamp.exists() and fingerprint_in(stamp) != embedder.describe()["fingerprint"]:
            raise ConfigError(f"{self.parts} was begun with another model; remove it, or write to another file")
        write_atomic(stamp, self.model.encode())
        self._words: Words | None = None

    def known(self) -> Known:
        """See :meth:`GallerySink.known`."""
        return Known.of(read_records(self._stored(["record"])["record"].to_pylist()))

    def discard(self, ids: Sequence[str]) -> int:
        """See :meth:`GallerySink.discard`."""
        gone, wanted = 0, set(ids)
        for path in self._files():
            table = pq.read_table(path, page_checksum_verification=True)
            kept = [id not in wanted for id in table["id"].to_pylist()]
            if not all(kept):
                write_atomic(path, to_parquet(table.filter(pa.array(kept))))
                gone += kept.count(False)
        return gone

    def revise(self, words: Words) -> int:
        """See :meth:`GallerySink.revise`; the file gets them when it is put together."""
        self._words = words
        records = read_records(self._stored(["record"])["record"].to_pylist())
        return sum(words(record) != record for record in records)

    def add(self, items: Sequence[Item]) -> None:
        """Store items; durable when it returns."""
        number = max((int(path.stem) for path in self._files()), default=-1) + 1
        write_atomic(self.parts / f"{number:08d}.parquet", to_parquet(to_table(items, self.dim)))

    def finish(self, sources: Sequence[Source]) -> None:
        """Put the parts together."""
        table = self._stored(["id", "record", "vector"])
        latest = {id: row for row, id in enumerate(table["id"].to_pylist())}
        crops = Known.of(read_records(table["record"].to_pylist())).crops
        ids = [id for source in sources for id in (source.id, *dict.fromkeys(c[0] for c in crops.get(source.path, ())))]
        table = table.take([latest[id] for id in ids if id in latest]) if len(table) else table
        records = read_records(table["record"].to_pylist())
        records = [self._words(record) if self._words else record for record in records]
        kinds = dict.fromkeys(("path", *FACTS), pa.string()) | {"time": pa.float64()}
        columns = {n: pa.array([getattr(record, n) for record in records], kind) for n, kind in kinds.items()}
        columns["attributes"] = pa.array([json.dumps(dict(record.attributes)) for record in records], pa.string())
        out = pa.table({"id": table["id"], **columns, "vector": table["vector"]})
        write_atomic(self.output, to_parquet(out.replace_schema_metadata({"regard.model": self.model})))
        for path in (*self._files(), self.parts / "model.json"):
            path.unlink()
        self.parts.rmdir()

    def _stored(self, columns: Sequence[str] = ("id", "record")) -> pa.Table:
        """What the parts hold, the latest last.

        Raises:
            DataError: one is damaged.
        """
        tables = [schema(self.dim).empty_table().select(columns)]
        for path in self._files():
            try:
                tables.append(pq.read_table(path, columns=list(columns), page_checksum_verification=True))
            except (pa.ArrowException, OSError) as error:
                reason = " ".join(str(error).split())
                raise DataError(
                    f"{path} is damaged ({reason}); remove it, and the same command makes it again"
                ) from error
        return pa.concat_tables(tables)

    def _files(self) -> list[Path]:
        return sorted(self.parts.glob("*.parquet"))


def open_sink(output: Path | str, embedder: Embedder, *, thumbnails: bool = True) -> GallerySink | FileSink:
    """The sink an output stands for."""
    if str(output).endswith(".parquet"):
        return FileSink(Path(output), embedder)
    if not is_url(output) and Path(output).suffix and not Path(output).is_dir():
        raise ConfigError(f"cannot tell what {output} is to be; name a .parquet file, or a folder for a gallery")
    return GallerySink(output, embedder, thumbnails=thumbnails)


def fingerprint_in(stamp: Path) -> Any:
    """The model's fingerprint in a ``model.json``; None where it cannot be read."""
    try:
        return parse_json(read_regular(stamp)).get("fingerprint")
    except (OSError, ValueError, AttributeError):
        return None


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue().to_pybytes()


def pack(done: Done, dim: int) -> bytes:
    """What was made, as the bytes of an Arrow stream."""
    table = to_table(done.items, dim) if done.items else schema(dim).empty_table()
    table = table.replace_schema_metadata({"said": json.dumps(done[1:]), "dim": str(dim)})
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue().to_pybytes()


def unpack(data: bytes) -> Done:
    """What :func:`pack` packed."""
    table = pa.ipc.open_stream(data).read_all()
    meta = table.schema.metadata
    said = parse_json(meta[b"said"])
    if not len(table):
        return Done([], *said)
    vectors, thumbnails = vectors_of(table, int(meta[b"dim"])), table["thumbnail"].to_pylist()
    records = read_records(table["record"].to_pylist())
    return Done([Item(*row) for row in zip(records, vectors, thumbnails)], *said)
