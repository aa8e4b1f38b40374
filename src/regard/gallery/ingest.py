"""Embedding at scale: many pictures into a gallery or a Parquet file, by one process or many, again and again.

Shapes: N pictures of a chunk, D descriptor length.

The sources are listed in one order and cut into chunks; with W processes each takes every W-th chunk, and the first
one stores what all of them made. What is stored already is not embedded again unless the content of its file is another
by now, so a job that was stopped goes on where it was, and one that is repeated takes what has changed. A descriptor
depends on its picture alone (see :class:`~regard.gallery.embedder.Embedder`), hence the result on neither the number of
processes nor the interruptions.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from regard.data.modern import decode_file
from regard.errors import ConfigError, DataError, RegardError, StorageError
from regard.fingerprint import bytes_digest
from regard.gallery.embedder import Embedder
from regard.gallery.gallery import Gallery, is_there, is_url
from regard.gallery.inputs import Source
from regard.gallery.origins import ZONELESS, Moment, exif_moment
from regard.gallery.record import FACTS, Item, Record, read_records, record_id
from regard.gallery.segments import schema, to_table, vectors_of
from regard.gallery.thumbnails import thumbnail
from regard.layers.collective import all_gather
from regard.parsing import parse_json
from regard.storage import read_regular, write_atomic
from regard.wording import count

__all__ = ["Ranks", "Report", "embed_sources"]

CHUNK = 256
KEPT = "kept"
BARE = "this gallery was made with --no-thumbnails, so it keeps none of these either"
BLURRED = "heads are blurred in this gallery, so they are in these thumbnails too"


@dataclass
class Report:
    """What became of the pictures.

    Attributes:
        added: new ones, embedded and stored now.
        replaced: embedded anew, since their files have changed, or since an earlier version kept no digest of them.
        known: stored before, and their files unchanged.
        updated: of the known, those of which something else is known now.
        unreadable: path -> why it was left out.
        remarks: what has to be said of pictures, as a noun in the singular -> how many there are.
        blurred: what has to be said of heads; empty where nothing has.
        bare: what has to be said of thumbnails; empty where nothing has.
    """

    added: int = 0
    replaced: int = 0
    known: int = 0
    updated: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    blurred: str = ""
    bare: str = ""

    def __str__(self) -> str:
        parts = [f"{self.added + self.replaced:,} embedded"]
        if self.known or self.replaced:
            parts = [f"{parts[0]} ({self.added:,} new, {self.replaced:,} replaced)", f"{self.known:,} unchanged"]
        if self.updated:
            parts.append(f"{self.updated:,} with new facts")
        if self.unreadable:
            parts.append(f"{len(self.unreadable):,} unreadable")
        return ", ".join(parts)

    def sayings(self, zone: str) -> list[str]:
        """What has to be said besides, in lines; times without a zone were taken in ``zone``."""
        told = {
            ZONELESS: f"whose EXIF names no zone: times were taken as {zone} (--time-zone)",
            KEPT: "replaced with facts kept that were set before, by hand or by --meta: look whether they still hold",
        }
        lines = [f"{count(self.remarks[key], 'picture')} {text}" for key, text in told.items() if self.remarks[key]]
        others = [count(number, key) for key, number in self.remarks.items() if key not in told]
        lines += [f"without a time: {', '.join(others)}"] if others else []
        return [*lines, *filter(None, (self.blurred, self.bare))]


class Done(NamedTuple):
    """What a process made of a chunk."""

    items: list[Item]
    unreadable: dict[str, str]
    remarks: Mapping[str, int]


class Ranks:
    """This process among those of one job, as torchrun starts them; a context manager. One alone needs nothing.

    Bytes are exchanged, never pickled objects.

    Attributes:
        rank, size: this process and how many there are.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def __enter__(self) -> Self:
        if self.size > 1:
            dist.init_process_group("gloo")
        return self

    def __exit__(self, *error: object) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    def to_all(self, data: bytes) -> list[bytes]:
        """What every process gives, in the order of the ranks."""
        if self.size == 1:
            return [data]
        lengths = all_gather(torch.tensor([len(data)])).tolist()
        padded = torch.zeros(1, max(*lengths, 1), dtype=torch.uint8)
        padded[0, : len(data)] = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        return [row[:length].numpy().tobytes() for row, length in zip(all_gather(padded), lengths)]


def embed_sources(
    sources: Sequence[Source],
    embedder: Embedder,
    output: Path | str,
    *,
    chunk: int = CHUNK,
    blur_heads: bool = False,
    thumbnails: bool = True,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks | None = None,
) -> Report:
    """Embed pictures into a gallery (a folder or a URL) or a ``.parquet`` file.

    Args:
        sources: what to embed; every process gives the same.
        embedder: how.
        output: where the first process stores; a gallery is made where there is none.
        chunk: pictures stored at a time.
        blur_heads: make heads unrecognizable in all thumbnails of a gallery, from now on.
        thumbnails: keep thumbnails in a gallery; one that is made without them never has any.
        progress: called with (pictures done, pictures in all).
        ranks: the processes of the job; None for this one alone.

    Returns:
        What became of them; complete in the first process.

    Raises:
        ConfigError: the gallery was made by another model, or the output is neither folder nor ``.parquet``.
        StorageError: the disk refused; what was stored is intact, and the same command goes on from there.
    """
    ranks, to_file = ranks or Ranks(), str(output).endswith(".parquet")
    sink, report = None, Report()
    try:
        known = b"{}"
        if ranks.is_main:
            sink = open_sink(output, embedder, thumbnails=thumbnails)
            if isinstance(sink, GallerySink) and thumbnails and sink.gallery.meta.get("thumbnails") is False:
                thumbnails, report.bare = False, BARE
            if isinstance(sink, GallerySink) and (blur_heads or sink.gallery.meta.get("blur_heads")):
                again = sink.gallery.blur_heads()
                report.blurred = BLURRED if thumbnails and not blur_heads else ""
                report.blurred = f"heads were blurred in {count(again, 'thumbnail')}" if again else report.blurred
            known = json.dumps(sink.known()).encode()
        stored: dict[str, str | None] = parse_json(ranks.to_all(known)[0])
        fresh = unchanged(sources, stored, ranks)
        todo = [source for source in sources if source.path not in fresh]
        report.known = len(fresh)
        if sink:
            report.updated = sink.revise(Words([source for source in sources if source.id in stored], fresh, report))
        chunks = [todo[start : start + chunk] for start in range(0, len(todo), chunk)]
        small = thumbnail if thumbnails and not to_file else None
        for first in range(0, len(chunks), ranks.size):
            mine = chunks[first + ranks.rank] if first + ranks.rank < len(chunks) else []
            for done in map(unpack, ranks.to_all(pack(make_items(mine, embedder, small), embedder.dim))):
                if sink and done.items:
                    sink.add(done.items)
                again = sum(item.record.id in stored for item in done.items)
                report.replaced += again
                report.added += len(done.items) - again
                report.unreadable |= done.unreadable
                report.remarks.update(done.remarks)
            if progress:
                progress(len(fresh) + report.added + report.replaced + len(report.unreadable), len(sources))
        for path in report.unreadable:
            if record_id(path) in stored and not to_file:
                report.unreadable[path] += "; the gallery keeps the picture that was there before"
        if sink:
            sink.finish([source for source in sources if source.path not in report.unreadable])
    finally:
        if isinstance(sink, GallerySink):
            sink.gallery.close()
    return report


def unchanged(
    sources: Sequence[Source], stored: Mapping[str, str | None], ranks: Ranks
) -> dict[str, tuple[float | None, str]]:
    """The sources that are stored with the content that they have now; every process looks at some.

    Returns:
        Path -> when it was taken, by its EXIF, and what has to be said of that.
    """
    mine = [source for source in sources if stored.get(source.id)][ranks.rank :: ranks.size]

    def moment_of_same(source: Source) -> Moment | None:
        try:
            content = source.read()
        except RegardError:
            return None
        return taken(source, content) if bytes_digest(content) == stored[source.id] else None

    with ThreadPoolExecutor(max_workers=4) as threads:
        same = {source.path: found for source, found in zip(mine, threads.map(moment_of_same, mine)) if found}
    return {path: kept for found in ranks.to_all(json.dumps(same).encode()) for path, kept in parse_json(found).items()}


def taken(source: Source, content: bytes) -> Moment:
    """When a picture was taken by its EXIF, where nothing else says so."""
    return Moment() if source.is_dated else exif_moment(content, source.zone)


class Words:
    """What sources say of pictures that are stored: a record in, the record as it has to be out.

    Args:
        sources: that are stored.
        fresh: path -> when it was taken and what to say of that, of those whose files are unchanged.
        report: where what is wrong with one is written down.
    """

    def __init__(self, sources: Sequence[Source], fresh: Mapping[str, tuple[float | None, str]], report: Report):
        self._sources = {source.id: source for source in sources}
        self._fresh, self._report = fresh, report
        report.remarks.update(remark for _, remark in fresh.values() if remark)

    def __call__(self, record: Record) -> Record:
        """The record with what its source says now; itself where that is nothing new."""
        source = self._sources.get(record.id)
        if source is None or source.path not in self._fresh:
            return record
        try:
            return source.record(record, self._fresh[source.path][0])
        except DataError as error:
            self._report.unreadable[source.path] = str(error)
            return record

    def knows(self, id: str) -> bool:
        """Whether it is of a picture that was stored when the job began."""
        return id in self._sources

    def anew(self, before: Record, now: Record) -> Record:
        """The record of a picture that was replaced: what was known of it, and what its source says now."""
        source = self._sources[now.id]
        record = replace(source.record(before, None if source.is_dated else now.time), digest=now.digest)
        if replace(record, said={}) != replace(now, said={}):
            self._report.remarks[KEPT] += 1
        return record


def make_items(
    sources: Sequence[Source], embedder: Embedder, small: Callable[[np.ndarray], bytes] | None = None
) -> Done:
    """Make items, with thumbnails by ``small``, of what can be read, and say why the rest cannot.

    Pictures are decoded by threads while nothing else goes on.
    """

    def opened(source: Source) -> tuple[Record, np.ndarray, str] | str:
        try:
            content = source.read()
            moment = taken(source, content)
            record = replace(source.record(taken=moment.seconds), digest=bytes_digest(content))
            return record, decode_file(content, source.path), moment.remark
        except RegardError as error:
            return str(error)

    with ThreadPoolExecutor(max_workers=4) as threads:
        found = list(zip(sources, threads.map(opened, sources)))
    unreadable = {source.path: reason for source, reason in found if isinstance(reason, str)}
    good = [read for _, read in found if not isinstance(read, str)]
    vectors = embedder.embed([picture for _, picture, _ in good])
    items = [Item(record, v, small(picture) if small else b"") for (record, picture, _), v in zip(good, vectors)]
    return Done(items, unreadable, Counter(remark for *_, remark in good if remark))


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

    def known(self) -> dict[str, str | None]:
        """Ids that are stored -> digest of the picture each is of, None where that is not known."""
        return {record.id: record.digest for record in self.gallery.records()}

    def revise(self, words: Words) -> int:
        """Change what is known of pictures that are stored; the number of records that changed."""
        self._words = words
        return self.gallery.revise(words)

    def add(self, items: Sequence[Item]) -> None:
        """Store items; those of pictures that are replaced keep what else is known of them."""
        words = self._words

        def over(before: Record, now: Record) -> Record:
            return words.anew(before, now) if words is not None and words.knows(now.id) else now

        self.gallery.add(items, over)

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

    def known(self) -> dict[str, str | None]:
        """See :meth:`GallerySink.known`."""
        return {row["id"]: parse_json(row["record"]).get("digest") for row in self._stored().to_pylist()}

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
        ids = [record_id(source.path) for source in sources]
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
    table = table.replace_schema_metadata({"said": json.dumps([done.unreadable, done.remarks]), "dim": str(dim)})
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue().to_pybytes()


def unpack(data: bytes) -> Done:
    """What :func:`pack` packed."""
    table = pa.ipc.open_stream(data).read_all()
    meta = table.schema.metadata
    unreadable, remarks = parse_json(meta[b"said"])
    if not len(table):
        return Done([], unreadable, remarks)
    vectors, thumbnails = vectors_of(table, int(meta[b"dim"])), table["thumbnail"].to_pylist()
    records = read_records(table["record"].to_pylist())
    return Done([Item(*row) for row in zip(records, vectors, thumbnails)], unreadable, remarks)
