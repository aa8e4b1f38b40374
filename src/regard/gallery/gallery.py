"""A gallery: pictures of people with descriptors, where and when they were taken, ready to be searched.

Shapes: P pictures of one person, Q queries, D descriptor length.

A gallery lives in a folder (nothing to start), on a Milvus server (by its http URL) or where a plug-in's engine keeps
it (by a URL of its scheme); the same class works on all, through the protocol of :class:`regard.gallery.query.Engine`.

>>> gallery = Gallery.create("people", dim=512, model={"name": "apnet"})  # doctest: +SKIP
>>> gallery.add([Item(Record(record_id("a.jpg"), "a.jpg", camera="1"), vector)])  # doctest: +SKIP
>>> gallery.search(query, k=10, filter=Filter(not_cameras=("1",))).matches[0].score  # doctest: +SKIP
0.83
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from regard.errors import (
    ConfigError,
    DataError,
    RegardWarning,
    StorageError,
    UnknownNameError,
    check_kind,
    is_whole,
    require,
    shown,
)
from regard.gallery.audit import AuditLog
from regard.gallery.duplicates import Duplicates, find_duplicates
from regard.gallery.facts import with_facts
from regard.gallery.known import check_names
from regard.gallery.marks import KeptMarks
from regard.gallery.query import (
    MOST,
    Engine,
    Removed,
    candidates,
    combine,
    count_people,
    deleted,
    grouped,
    reranked,
    revised,
    stored,
    unit_rows,
)
from regard.gallery.record import FACTS, Answer, Filter, Item, Match, Record, is_id, parse_time
from regard.gallery.store import exists, is_earlier
from regard.gallery.use import Actor, Use, answered, vector_digest
from regard.registry import ENGINES
from regard.storage import as_path, open_regular

__all__ = ["Gallery"]

FORMAT = "regard-gallery-1"
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
SERVED = ("http", "https")
"""Schemes of URLs on board; those of plug-ins are in ENGINES."""

PAGE = 1000
LARGE = 200_000
"""Records from which on a search is approximate unless told otherwise, where there is an index for it."""

LONGEST_NAME = 200
Waiting = Callable[[float, float], None] | None
"""Is told of a wait: seconds so far, seconds at most."""

CANDIDATES = 100
"""Re-ranking looks at this many, or at five times the matches asked for."""


class Gallery:
    """See the module. ``Gallery(where)`` opens one as :meth:`open` does; a context manager, or call :meth:`close`.

    Attributes:
        name: folder or URL.
        meta: what the gallery says about itself: dim, model, when it was made, what its index recalls.
        audit: log of its uses; None on a server, where the searching side keeps its own.
    """

    def __init__(self, where: str | Path, progress: Callable[[int, int], None] | None = None):
        where = _checked(where)
        if not is_url(where) and not is_there(Path(where)):
            raise DataError(f"there is no gallery in {where}; make one: regard embed IMAGES -o {where}")
        engine = open_engine(where, progress=progress)
        meta = engine.read_meta()
        if meta.get("format") != FORMAT:
            engine.close()
            raise DataError(f"{where} has format {meta.get('format')!r}, wanted {FORMAT}; embed the images anew")
        self.name = str(where)
        self.meta = meta
        self.audit = None if is_url(where) else AuditLog(Path(where) / "audit.jsonl", self.database["id"])
        self._engine = engine
        self._people: tuple[int, int] | None = None

    @classmethod
    def create(cls, where: str | Path, dim: int, model: Mapping[str, Any], *, thumbnails: bool = True) -> Self:
        """Make an empty gallery.

        Args:
            where: a folder, or a server's URL such as ``http://host:19530/people``.
            dim: D.
            model: which model makes its descriptors; ``fingerprint`` is compared when more are added.
            thumbnails: keep thumbnails; where it does not, it drops those of whatever is ever added.

        Raises:
            ConfigError: there is one already.
            StorageError: it could not be made.
        """
        where = _checked(where)
        if not is_url(where) and is_there(Path(where)):
            raise ConfigError(f"{where} holds a gallery already; open it, or name another folder")
        engine = open_engine(where, dim=dim)
        try:
            if engine.read_meta():
                raise ConfigError(f"{where} holds a gallery already; open it, or choose another name")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            known = {"id": str(uuid.uuid4()), "dim": dim, "model": dict(model), "created": now}
            known |= {} if thumbnails else {"thumbnails": False}
            if not is_url(where):
                AuditLog(Path(where) / "audit.jsonl", known["id"]).begin_anew()
            engine.write_meta({"format": FORMAT, **known, "index": None})
        finally:
            engine.close()
        return cls(where)

    @classmethod
    def open(cls, where: str | Path, progress: Callable[[int, int], None] | None = None) -> Self:
        """Open a gallery that was made before.

        Args:
            where: see :meth:`create`.
            progress: called with (parts done, parts in all) where the index has to be built again.

        Raises:
            DataError: there is none, or it is damaged.
            StorageError: the disk refuses.
        """
        return cls(where, progress)

    @property
    def dim(self) -> int:
        """D."""
        return self._engine.dim

    @property
    def database(self) -> dict[str, Any]:
        """Name, id and model of the gallery, as its log has them."""
        model = self.meta["model"].get("fingerprint") or self.meta["model"].get("name")
        id = str(self.meta.get("id") or self.meta.get("created"))
        return {"name": self.name.rstrip("/").rpartition("/")[2], "id": id, "model": model}

    def use(self, actor: Actor) -> Use:
        """A session of use by somebody, whose lines go to :attr:`audit`; a context manager.

        Raises:
            ConfigError: the gallery is on a server, and nobody said where its log is.
        """
        if self.audit is None:
            raise ConfigError(
                f"{self.name} keeps no log of its own; say where: gallery.audit = AuditLog(Path('audit.jsonl'))"
            )
        return Use(self.audit, self.database, actor)

    @property
    def damaged(self) -> int:
        """Pictures that are damaged in their store, and left out of every search."""
        return getattr(self._engine, "damaged", 0)

    @property
    def marks(self) -> KeptMarks | None:
        """What people said about its pictures; None on a server, where the searching side keeps that."""
        return getattr(self._engine, "marks", None)

    def check(self) -> Any:
        """Read every byte of a gallery in a folder, and set aside what is damaged; None for one on a server.

        Returns:
            :class:`regard.gallery.embedded.Findings`.
        """
        look = getattr(self._engine, "check", None)
        return None if look is None else look()

    def refresh(self, *, small: bool = False) -> bool:
        """Check the files that searches read, and have them made anew where one is damaged; whether one was.

        Args:
            small: only what filters and removals go by.
        """
        look = getattr(self._engine, "refresh", None)
        return False if look is None else look(small=small)

    def discard_damaged(self) -> int:
        """Remove the pictures that were set aside, with every byte; their number."""
        discard = getattr(self._engine, "discard", None)
        return 0 if discard is None else discard()

    def __len__(self) -> int:
        return self._engine.count(Filter())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and connections."""
        self._engine.close()

    def add(self, items: Sequence[Item], over: Callable[[Record, Record], Record] | None = None) -> None:
        """Store items, all or none; one with a known id replaces it. Durable when this returns.

        Args:
            items: to store.
            over: makes the record of one that replaces another, from that one's record as it is then and its own; None
                keeps nothing of what was known before.

        Raises:
            DataError: a descriptor has another length, is not finite, or zero.
            StorageError: they could not be stored; what was there before is intact.
        """
        if not items:
            return
        latest = {item.record.id: item for item in items}
        vectors = unit_rows(np.stack([item.vector for item in latest.values()]), self.dim)
        ready = [Item(item.record, vector, item.thumbnail) for item, vector in zip(latest.values(), vectors)]
        meta = self._engine.read_meta()
        blurs = meta.get("blur_heads")
        if meta.get("thumbnails") is False:
            ready = [replace(item, thumbnail=b"") for item in ready]
        elif blurs:
            ready = [without_head(item) for item in ready]
        self._engine.add(ready) if over is None else stored(self._engine, ready, over)
        if not blurs and self._engine.read_meta().get("blur_heads"):  # begun meanwhile
            revised(self._engine, list(latest), without_head)
        self._people = None

    def delete(self, filter: Filter, *, waiting: Waiting = None) -> Removed:
        """Remove what the filter accepts: descriptors, thumbnails, index entries, marks; the number that went.

        What another process stores anew while this looks, so that the filter accepts it no more, stays.

        Args:
            filter: which.
            waiting: called with (seconds that were waited, seconds at most) while a server gets their bytes out of its
                files; where it does not confirm that in time, a RegardWarning says so, as does what is returned.
        """
        self.refresh(small=True)  # a bit that changed in what the filter asks of must not keep anything
        return self._remove([record.id for record in self.records(filter)], filter.accepts, waiting)

    def purge(self, before: float, *, undated: bool = False, waiting: Waiting = None) -> Removed:
        """Remove pictures taken before a moment; the number that went.

        Args:
            before: seconds since 1970 UTC.
            undated: remove pictures without a time too.
            waiting: see :meth:`delete`.
        """
        ids = [record.id for record in self.expired(before, undated=undated)]
        return self._remove(ids, lambda record: is_expired(record, before, undated=undated), waiting)

    def confirm_erased(self, *, waiting: Waiting = None) -> Removed | None:
        """Ask a server again whether what was deleted is out of its segments; None where it has no such question.

        Args:
            waiting: see :meth:`delete`.
        """
        confirm = getattr(self._engine, "confirm", None)
        return None if confirm is None else confirm(waiting=waiting)

    def _remove(self, ids: Sequence[str], still: Callable[[Record], bool], waiting: Waiting) -> Removed:
        """Remove pictures of which something still holds, and what was said of them where the engine keeps that."""
        if not ids:
            return Removed(0, "unknown" if is_url(self.name) else "erased")
        gone = deleted(self._engine, ids, still, waiting)
        self.meta = self._engine.read_meta()  # an index of few pictures goes with them
        if gone.note:
            warnings.warn(RegardWarning(f"{gone:,} removed from every answer, but {gone.note}"), stacklevel=3)
        return gone

    def expired(self, before: float, *, undated: bool = False) -> Iterator[Record]:
        """Records of what :meth:`purge` would remove, in order of id."""
        return (record for record in self.records() if is_expired(record, before, undated=undated))

    def update(self, filter: Filter, changes: Mapping[str, Any]) -> int:
        """Change what is known of the records a filter accepts; the number that changed.

        Args:
            filter: which.
            changes: new values of camera, time, track, person, and attributes (added to those there are).

        Raises:
            ConfigError: any other name.
        """
        wrong = sorted(set(changes) - {*FACTS, "attributes"})
        if wrong:
            raise ConfigError(f"cannot change {wrong[0]!r}; camera, time, track, person and attributes can be")
        ids = [record.id for record in self.records(filter)]
        return self._again(ids, lambda record: with_changes(record, changes))

    def revise(self, words: Callable[[Record], Record], filter: Filter | None = None) -> int:
        """Put every record that a filter accepts through a function; the number of those that it changed."""
        number = 0
        for page in self._pages(filter or Filter()):
            number += self._again([record.id for record in page if words(record) != record], words)
        return number

    def name_person(self, filter: Filter, person: str | None) -> int:
        """Say whom the pictures that a filter accepts show; the number of pictures.

        Args:
            filter: which.
            person: the name; None takes names back.

        Raises:
            ConfigError: it is no name.
        """
        return self.update(filter, {"person": None if person is None else checked_name(person)})

    def merge(self, persons: Collection[str], into: str) -> int:
        """Make one person of several; the number of pictures that have another name now.

        Args:
            persons: names.
            into: the one that all get.

        Raises:
            ConfigError: nobody is called so, or ``into`` is no name.
        """
        others = tuple(name for name in persons if name != into)
        check_names(self, Filter(persons=tuple(persons)))
        return self.name_person(Filter(persons=others), into) if others else 0

    def duplicates(
        self, threshold: float = 0.98, progress: Callable[[int, int], None] | None = None, *, use: Use | None = None
    ) -> list[Duplicates]:
        """Pictures that are there more than once, or nearly so; see :func:`regard.gallery.duplicates.find_duplicates`.

        Args:
            threshold: cosine from which on two pictures are nearly the same.
            progress: called with (pictures looked at, pictures in all).
            use: whose search it is; see :meth:`search`.
        """
        found = find_duplicates(self._engine, threshold, progress)
        if use is not None:
            use.note("duplicates", threshold=threshold, answered={"count": len(found), "searched": len(self)})
        return found

    def blur_heads(self) -> int:
        """Make heads unrecognizable in all thumbnails, those that are stored and those to come.

        There is no way back. What is interrupted is finished when it is called again; until then no thumbnail is
        handed out but blurred.

        Returns:
            The number of thumbnails that were made again.
        """
        if self._engine.read_meta().get("blur_heads") == "done":
            return 0
        self._note(blur_heads="begun")
        number = 0
        for page in self._pages(Filter()):
            made: list[Item] = []

            def blur(item: Item, made: list[Item] = made) -> Item:
                made.append(without_head(item))
                return made[-1]

            revised(self._engine, [record.id for record in page], blur)
            number += sum(bool(item.thumbnail) for item in made)
        self._note(blur_heads="done")
        asked = self.confirm_erased()
        if asked is not None and asked.note:
            warnings.warn(RegardWarning(f"thumbnails are blurred in every answer, but {asked.note}"), stacklevel=2)
        return number

    def _again(self, ids: Sequence[str], words: Callable[[Record], Record]) -> int:
        """Store items anew with what ``words`` makes of their records; the number of those that are still there."""
        parts = (ids[start : start + PAGE] for start in range(0, len(ids), PAGE))
        number = sum(
            revised(self._engine, part, lambda item: replace(item, record=words(item.record))) for part in parts
        )
        self._people = None
        return number

    def records(self, filter: Filter | None = None) -> Iterator[Record]:
        """Records the filter accepts, in order of id."""
        for page in self._pages(filter or Filter()):
            yield from page

    def _pages(self, filter: Filter) -> Iterator[list[Record]]:
        after = None
        while page := self._engine.scan(filter, after, PAGE):
            yield page
            after = page[-1].id

    def page(self, after: str | None, limit: int) -> list[Record]:
        """Some records in order of id, those behind ``after``."""
        return self._engine.scan(Filter(), after, limit)

    def get(self, ids: Sequence[str]) -> list[Item]:
        """Items by id, in order, without thumbnails; what is unknown or no id is left out."""
        return self._engine.get([id for id in ids if is_id(id)])

    def thumbnail(self, id: str) -> bytes:
        """JPEG of an item; empty where there is none."""
        small = self._engine.thumbnail(id) if is_id(id) else b""
        if not small or self.meta.get("blur_heads") == "done":
            return small
        self.meta = self._engine.read_meta()  # another process may blur heads, and may have while this was read
        blurs = self.meta.get("blur_heads")
        if blurs == "done":
            return self._engine.thumbnail(id)
        if blurs:
            from regard.gallery.thumbnails import blurred

            return blurred(small)
        return small

    def count(self, filter: Filter) -> int:
        """Number of records the filter accepts."""
        return self._engine.count(filter)

    def values(self, name: str) -> dict[str, int]:
        """Values of ``camera``, ``track`` or ``person`` with the number of records each has."""
        return self._engine.values(name)

    def search(
        self,
        query: np.ndarray,
        k: int = 10,
        filter: Filter | None = None,
        *,
        exact: bool | None = None,
        rerank: bool = False,
        group: bool = False,
        calibration: Any = None,
        prior: float | None = None,
        use: Use | None = None,
        names: Sequence[str] = (),
        digests: Collection[str] = (),
    ) -> Answer:
        """The k most similar pictures to one person.

        Args:
            query: (D,) or (P, D) descriptors of pictures of one person.
            k: matches wanted, 1 to 1000.
            filter: what may be seen.
            exact: compare with everything; None does unless the gallery is large and has an index.
            rerank: order the best candidates by k-reciprocal re-ranking; scores stay the cosines.
            group: one match per tracklet, its best picture.
            calibration: what turns cosines into probabilities; None for none.
            prior: how probable a match is before one looks, 0 to 1; None takes :attr:`prior`.
            digests: of the files searched for (:func:`regard.fingerprint.bytes_digest`); a match whose file is one of
                them is said to be the same picture.
            use: whose search it is, as :meth:`use` begins one; it is logged before it is answered. None logs nothing.
            names: what the log calls the query: digests of photographs, ids; without them it is a digest of ``query``.

        Raises:
            DataError: the descriptors do not fit.
            ConfigError: k or the prior is out of range, or an option is of another kind.
            StorageError: the search could not be logged.
        """
        if not is_whole(k) or not 1 <= k <= MOST:
            raise ConfigError(f"got k={shown(k)}, wanted 1 to {MOST} matches")
        filter = Filter() if filter is None else filter
        check_kind("filter", filter, Filter, "Filter(...), or None for all")
        check_kind("rerank", rerank, bool, "true or false")
        if prior is not None:
            from regard.calibration.similarity import check_prior  # brings scipy

            check_prior(prior)
        if exact is None:
            exact = not (self.meta.get("index") and len(self) >= LARGE)
        if calibration is None:
            prior = None
        elif prior is None:
            prior = self.prior
        started = time.perf_counter()
        vector, engine = combine(query, self.dim), self._engine
        want = max(CANDIDATES, 5 * k) if rerank else k
        hits = candidates(engine, vector, want, filter, exact=exact, groups=k if group else 0)
        if rerank and len(hits) > 2:
            hits = reranked(engine, vector, hits)
        groups = (grouped(hits) if group else [[hit] for hit in hits])[:k]
        chances: Any = [None] * len(groups)
        if calibration is not None and groups:
            scores = np.array([best.score for best, *_ in groups])
            chances = np.asarray(calibration.probability(scores, prior=prior), np.float64).tolist()
        matches = tuple(
            Match(
                rank,
                best.record,
                best.score,
                chance,
                tuple(hit.record for hit in others),
                best.record.digest is not None and best.record.digest in digests,
            )
            for rank, ((best, *others), chance) in enumerate(zip(groups, chances), 1)
        )
        answer = Answer(matches, engine.count(filter), exact, time.perf_counter() - started, prior)
        if use is not None:
            named = list(names) or [vector_digest(query)]
            use.note("search", query=named, filter=filter, k=int(k), answered=answered(answer))
        return answer

    @property
    def prior(self) -> float:
        """How probable it is, before one looks, that a picture shows the person searched for.

        Whoever is searched for is one of the people the gallery may show (see
        :func:`regard.gallery.query.count_people`) or none of them, all equally probable: one in their number plus one.
        No filter changes it. Counted again when the number of pictures has changed.
        """
        pictures = len(self)
        if self._people is None or self._people[0] != pictures:
            self._people = pictures, count_people(self._engine)
        return 1 / (self._people[1] + 1)

    def build_index(self, k: int = 10, samples: int = 100) -> float:
        """Build the index of approximate searches and measure what it recalls.

        In a folder, exact searches become faster by it too, where descriptors fill few of their dimensions.

        Args:
            k: matches to compare.
            samples: pictures of the gallery to search with; that one finds itself does not count.

        Returns:
            The fraction of the k best that approximate searches found; kept in ``meta``.

        Raises:
            DataError: the gallery is empty.
        """
        ids = [record.id for record in self.records()]
        if not ids:
            raise DataError(f"{self.name} is empty, there is nothing to index; add pictures first")
        self._engine.index()
        chosen = [ids[i] for i in sorted(np.random.default_rng(0).permutation(len(ids))[:samples])]
        vectors = np.stack([item.vector for item in self._engine.get(chosen)])
        truth, found = (self._engine.search(vectors, k + 1, Filter(), exact=exact) for exact in (True, False))
        shared = wanted = 0
        for id, right, got in zip(chosen, truth, found):
            best = [hit.record.id for hit in right if hit.record.id != id][:k]
            wanted += len(best)
            shared += len({hit.record.id for hit in got} & set(best))
        recall = shared / wanted if wanted else 1.0
        self._note(index={"recall": recall, "k": k, "samples": len(vectors)})
        return recall

    def export(self, path: Path, *, vectors: bool = True, use: Use | None = None) -> int:
        """Write everything known to a Parquet file, in order of id; the number of rows.

        Args:
            path: the file, its owner's alone; it appears whole or not at all.
            vectors: with the descriptors.
            use: whose export it is: who has descriptors can rank people by them. None logs nothing.

        Raises:
            StorageError: the disk refused, or the export could not be logged; there is no file then.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = dict.fromkeys(("id", "path", *FACTS, "digest", "attributes"), pa.string()) | {"time": pa.float64()}
        schema = pa.schema(kinds | ({"vector": pa.list_(pa.float32(), self.dim)} if vectors else {}))
        temporary, rows = path.with_name(f".{path.name}.{os.getpid()}.tmp"), 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            with open_regular(temporary, "xb", private=True) as file, pq.ParquetWriter(file, schema) as writer:
                for page in self._pages(Filter()):
                    rows += len(page)
                    writer.write_table(pa.Table.from_pylist(self._rows(page, vectors=vectors), schema=schema))
            if use is not None:
                use.note("export", vectors=vectors, answered={"count": rows})
            temporary.replace(path)
        except OSError as error:
            raise StorageError(f"could not write {path} ({error.strerror or error}); make room, then export") from error
        finally:
            temporary.unlink(missing_ok=True)
        return rows

    def _rows(self, page: Sequence[Record], *, vectors: bool) -> Sequence[dict[str, Any]]:
        rows = [record.to_dict() | {"attributes": json.dumps(dict(record.attributes))} for record in page]
        if vectors:
            for row, item in zip(rows, self._engine.get([record.id for record in page])):
                row["vector"] = item.vector
        return rows

    def _note(self, **changes: Any) -> None:
        amend = getattr(self._engine, "amend_meta", None)
        if amend is None:
            self._engine.write_meta(self._engine.read_meta() | changes)
        else:
            amend(changes)  # beside what others note
        self.meta = self._engine.read_meta()


def _checked(where: object) -> str:
    """Where a gallery is, as a text; raises ConfigError for what is neither folder nor URL."""
    place = as_path("where", where, "the folder of a gallery, or its URL")
    return where if isinstance(where, str) else str(place)  # a URL's slashes stay


def is_url(where: str | Path) -> bool:
    """Whether a gallery is on a server."""
    return SCHEME.match(str(where)) is not None


def is_expired(record: Record, before: float, *, undated: bool) -> bool:
    """Whether a picture was taken before a moment; one without a time where these are meant, too."""
    return undated if record.time is None else record.time < before


def is_there(folder: Path) -> bool:
    """Whether a folder holds a gallery, of this version or an earlier one."""
    return exists(folder) or is_earlier(folder)


def open_engine(where: str | Path, dim: int | None = None, progress: Any = None) -> Engine:
    """The engine of a folder or of a URL.

    Raises:
        UnknownNameError: nobody has registered an engine for the URL's scheme.
        ConfigError: its client library is not installed, or what a plug-in has registered is no engine.
    """
    if is_url(where) and (scheme := str(where).partition(":")[0]) not in SERVED:
        if scheme not in ENGINES:
            raise UnknownNameError("gallery engine", scheme, [*SERVED, *ENGINES])
        engine = ENGINES.create(scheme, str(where), dim)
        if lacking := [name for name in vars(Engine) if not name.startswith("_") and not hasattr(engine, name)]:
            raise ConfigError(
                f"gallery engine {scheme!r} has no {', no '.join(lacking)}; see regard.gallery.query.Engine"
            )
        return engine
    if is_url(where):
        require("pymilvus", "a gallery on a server", "milvus")
        from regard.gallery.milvus import MilvusEngine

        return MilvusEngine(str(where), dim)
    from regard.gallery.embedded import EmbeddedEngine

    return EmbeddedEngine(Path(where), dim, progress)


def without_head(item: Item) -> Item:
    """The item with a thumbnail whose head is blurred."""
    from regard.gallery.thumbnails import blurred

    return replace(item, thumbnail=blurred(item.thumbnail))


def with_changes(record: Record, changes: Mapping[str, Any]) -> Record:
    """The record with new values that somebody set by hand."""
    known = {**changes, "time": parse_time(changes.get("time"))}
    wanted = Record.from_dict({"id": record.id, "path": record.path, **known})
    named = {name: getattr(wanted, name) for name in FACTS if name in changes}
    return with_facts(record, named | {f".{name}": value for name, value in wanted.attributes.items()}, "hand")


def checked_name(person: object) -> str:
    """The name of a person.

    Raises:
        ConfigError: it is none: empty, very long, or of characters that cannot be shown.
    """
    text = person.strip() if isinstance(person, str) else ""
    if not text or len(text) > LONGEST_NAME or not text.isprintable():
        raise ConfigError(
            f"person is {shown(person)}, wanted a name of 1 to {LONGEST_NAME} characters that can be shown"
        )
    return text
