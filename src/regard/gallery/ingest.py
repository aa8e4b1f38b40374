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
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.distributed as dist

from regard.data.listing import noting
from regard.data.modern import decode_file
from regard.data.scenes import is_scene
from regard.errors import DataError, RegardError
from regard.fingerprint import bytes_digest
from regard.gallery.crops import Cutter, crop_digest
from regard.gallery.embedder import Embedder
from regard.gallery.inputs import Source
from regard.gallery.origins import Moment, exif_moment
from regard.gallery.outcome import BARE, BLURRED, Done, Known, Report, Words
from regard.gallery.record import Item, Record, record_id
from regard.gallery.sinks import GallerySink, open_sink, pack, unpack
from regard.gallery.thumbnails import thumbnail
from regard.layers.collective import all_gather
from regard.parsing import parse_json
from regard.wording import count

__all__ = ["Ranks", "Report", "embed_sources"]

CHUNK = 256

SCENES = 4
"""Whole scenes that are in memory at a time."""


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
    cutter: Cutter | None = None,
    whole: bool = False,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks | None = None,
) -> Report:
    """Embed pictures into a gallery (a folder or a URL) or a ``.parquet`` file.

    Args:
        sources: what to embed; every process gives the same.
        embedder: how.
        output: where the first process stores; a gallery is made where there is none.
        chunk: pictures stored at a time; of scenes an eighth of them.
        blur_heads: make heads unrecognizable in all thumbnails of a gallery, from now on.
        thumbnails: keep thumbnails in a gallery; one that is made without them never has any.
        cutter: what cuts people out of the pictures; None takes each for one person, and leaves whole scenes out.
        whole: take whole scenes for one person, too.
        progress: called with (pictures done, pictures in all).
        ranks: the processes of the job; None for this one alone.

    Returns:
        What became of them; complete in the first process.

    Raises:
        ConfigError: the gallery was made by another model, or the output is neither folder nor ``.parquet``.
        DataError: the detector fails.
        StorageError: the disk refused; what was stored is intact, and the same command goes on from there.
    """
    ranks, to_file = ranks or Ranks(), str(output).endswith(".parquet")
    sink, report = None, Report()
    try:
        known = Known({}, {})
        if ranks.is_main:
            sink = open_sink(output, embedder, thumbnails=thumbnails)
            if isinstance(sink, GallerySink) and thumbnails and sink.gallery.meta.get("thumbnails") is False:
                thumbnails, report.bare = False, BARE
            if isinstance(sink, GallerySink) and (blur_heads or sink.gallery.meta.get("blur_heads")):
                again = sink.gallery.blur_heads()
                report.blurred = BLURRED if thumbnails and not blur_heads else ""
                report.blurred = f"heads were blurred in {count(again, 'thumbnail')}" if again else report.blurred
            known = sink.known()
        known = Known(*parse_json(ranks.to_all(json.dumps(known).encode())[0]))
        fresh = unchanged(sources, known.digests, ranks) if cutter is None else uncut(sources, known, cutter, ranks)
        todo = [source for source in sources if source.path not in fresh]
        report.known = len(fresh) if cutter is None else sum(len(known.crops[path]) for path in fresh)
        if cutter is None and not whole:
            todo = refused(todo, known, report)
        if sink:
            stored = [source for source in sources if cutter is None and source.id in known.digests]
            report.updated = sink.revise(Words(stored, fresh, report))
        chunk = chunk if cutter is None else max(chunk // 8, 1)
        chunks = [todo[start : start + chunk] for start in range(0, len(todo), chunk)]
        how = {"small": thumbnail if thumbnails and not to_file else None, "cutter": cutter, "whole": whole}
        handled = len(sources) - len(todo)
        for first in range(0, len(chunks), ranks.size):
            mine = chunks[first + ranks.rank] if first + ranks.rank < len(chunks) else []
            for done in map(unpack, ranks.to_all(pack(make_items(mine, embedder, **how), embedder.dim))):
                if sink and done.items:
                    sink.add(done.items)
                if sink and (stale := known.stale(done)):
                    report.removed += sink.discard(stale)
                report.take(done, known.digests)
            handled += sum(map(len, chunks[first : first + ranks.size]))
            if progress:
                progress(handled, len(sources))
        for path in report.unreadable:
            if (record_id(path) in known.digests or (cutter and path in known.crops)) and not to_file:
                report.unreadable[path] += "; the gallery keeps the picture that was there before"
        if sink:
            sink.finish([source for source in sources if source.path not in report.unreadable])
    finally:
        if isinstance(sink, GallerySink):
            sink.gallery.close()
    return report


def refused(sources: Sequence[Source], known: Known, report: Report) -> list[Source]:
    """The sources without those that people were cut out of before; these are written down as left out."""
    for source in sources:
        if crops := known.crops.get(source.path):
            report.unreadable[source.path] = (
                f"{source.path}: {count(len(crops), 'person')} cut out of it are there; give --detector or --boxes "
                "again, or take it for one person with --whole"
            )
    return [source for source in sources if source.path not in known.crops]


def uncut(sources: Sequence[Source], known: Known, cutter: Cutter, ranks: Ranks) -> dict[str, tuple[float | None, str]]:
    """The scenes whose crops are stored as they would be cut now; every process looks at some.

    Returns:
        Path -> as of :func:`unchanged`, whatever their EXIF says.
    """

    def is_same(source: Source) -> bool:
        mark = cutter.mark(source)
        crops = known.crops[source.path]
        if any(cut_by != mark for *_, cut_by in crops):
            return False
        try:
            digest = bytes_digest(source.read())
        except RegardError:
            return False
        return all(stored == crop_digest(digest, path) for _, path, stored, _ in crops)

    mine = [source for source in sources if source.path in known.crops][ranks.rank :: ranks.size]
    with ThreadPoolExecutor(max_workers=4) as threads:
        same = [source.path for source, is_it in zip(mine, threads.map(is_same, mine)) if is_it]
    return {path: (None, "") for found in ranks.to_all(json.dumps(same).encode()) for path in parse_json(found)}


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


def make_items(
    sources: Sequence[Source],
    embedder: Embedder,
    small: Callable[[np.ndarray], bytes] | None = None,
    *,
    cutter: Cutter | None = None,
    whole: bool = False,
) -> Done:
    """Make items, with thumbnails by ``small``, of what can be read, and say why the rest cannot.

    Pictures are decoded by threads while nothing else goes on.

    Args:
        sources: pictures.
        embedder: how.
        small: makes thumbnails; None makes none.
        cutter: what cuts people out of the pictures; a few of them are in memory at a time.
        whole: take whole scenes for one person.
    """

    def opened(source: Source) -> tuple[str, np.ndarray, Moment] | str:
        try:
            content = source.read()
            return bytes_digest(content), decode_file(content, source.path), taken(source, content)
        except RegardError as error:
            return str(error)

    remarks: Counter[str] = Counter()
    done = Done([], {}, remarks, [], {}, {})
    some = max(len(sources), 1) if cutter is None else SCENES
    with noting() as notes, ThreadPoolExecutor(max_workers=4) as threads:
        for start in range(0, len(sources), some):
            part = sources[start : start + some]
            good: list[tuple[Record, np.ndarray]] = []
            for source, found in zip(part, threads.map(opened, part)):
                if isinstance(found, str):
                    done.unreadable[source.path] = found
                    continue
                digest, picture, moment = found
                if cutter is None and not whole and is_scene(*picture.shape[:2]):
                    done.scenes[source.path] = (picture.shape[0], picture.shape[1])
                    continue
                try:
                    good += records_of(source, digest, picture, moment, cutter)
                except DataError as error:
                    done.unreadable[source.path] = str(error)
                    continue
                remarks.update([moment.remark] if moment.remark else [])
                done.cut.extend([source.path] if cutter is not None else [])
            vectors = embedder.embed([picture for _, picture in good])
            done.items.extend(Item(r, v, small(p) if small else b"") for (r, p), v in zip(good, vectors))
    return done._replace(notes={reason: list(found) for reason, found in notes.reasons.items()})


def records_of(
    source: Source, digest: str, picture: np.ndarray, moment: Moment, cutter: Cutter | None
) -> list[tuple[Record, np.ndarray]]:
    """The record of a picture, or those of the people cut out of it; each with what is to be embedded.

    Raises:
        DataError: what is known of one is not in order, or a detector fails.
    """
    if cutter is None:
        return [(replace(source.record(taken=moment.seconds), digest=digest), picture)]
    return [
        (replace(crop.source.record(taken=moment.seconds), digest=crop_digest(digest, crop.source.path)), crop.picture)
        for crop in cutter.cut(source, picture)
    ]
