"""What the service knows: galleries with their models, and the queries of the last while.

Shapes: P pictures of one person, D descriptor length, H x W pixels of a picture.

A photograph that was sent is embedded once, by every model, and kept in memory as a small picture with its descriptors
until newer queries push it out, first of all those of the client who has most; it never reaches the disk, unless a
match of it is marked.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regard.data.image import claimed, decode_image
from regard.data.resizing import resize
from regard.data.scenes import SEARCHED, is_scene, scenes_line
from regard.errors import ConfigError, DataError, RegardError
from regard.fingerprint import bytes_digest
from regard.gallery.embedder import Embedder
from regard.gallery.gallery import Gallery
from regard.gallery.record import is_id
from regard.models.folder import FOREIGN
from regard.service.explainer import Explainer
from regard.service.feedback import Marks
from regard.service.jobs import Jobs
from regard.service.limits import Limits, Places, Pool
from regard.service.uses import Uses

__all__ = ["THUMBNAIL", "GoneError", "Limits", "Query", "Searcher", "ServiceState", "shrink"]

KEPT_HEIGHT = 384
"""Pixels of a query's picture that are kept for looking into it."""

THINNEST = 8
"""Times that the longer side of a picture that is looked into may have the shorter one."""

THUMBNAIL = 4_000_000
"""Pixels of a thumbnail at most; those of ``regard embed`` have far fewer."""


class GoneError(RegardError):
    """Something was asked for that is not there, or not any more."""


@dataclass(frozen=True, slots=True)
class Searcher:
    """A gallery and the model that made its descriptors."""

    name: str
    gallery: Gallery
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class Query:
    """One person, as asked for.

    Attributes:
        id: by which the page asks again.
        names: digest of each photograph, or id of each picture of a gallery, as the log has them.
        pictures: (H, W, 3) uint8 each, small.
        vectors: name of a gallery -> (P, D) descriptors by its model.
        ids: pictures of a gallery it was made from, never matches of it.
        home: name of that gallery; empty where it was made from photographs.
        cameras: that took those.
        digests: of the files of its pictures, where they are known.
        client: whose it is.
        warning: what has to be said of its pictures; empty where nothing has.
    """

    id: str
    names: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]
    vectors: Mapping[str, np.ndarray]
    ids: tuple[str, ...] = ()
    home: str = ""
    cameras: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    client: str = ""
    warning: str = ""

    def picture(self, number: int) -> np.ndarray:
        """One of the pictures.

        Raises:
            GoneError: it has not as many.
        """
        if number >= len(self.pictures):
            raise GoneError("the query has no such picture, or it was stored without a thumbnail")
        return self.pictures[number]


@dataclass
class ServiceState:
    """The state of the service.

    Attributes:
        searchers: by name, the first one is the default.
        feedback: what was said to be right or wrong.
        runs: folder with training runs to show; None for none.
        limits: what one may bring.
        prior: how probable a match is before one looks; None takes that of each gallery.
        explainer: looks into pictures; None makes one.
        searching, decoding, explaining: places for those kinds of work.
        pixels: that may be decoded at the same time.
        uses: who uses it, as the logs of the galleries have it.
        jobs: what goes on after its request was answered.
    """

    searchers: dict[str, Searcher]
    feedback: Marks
    runs: Path | None = None
    limits: Limits = field(default_factory=Limits)
    prior: float | None = None
    explainer: Explainer | None = None

    def __post_init__(self) -> None:
        if not self.searchers:
            raise ConfigError("got no gallery to search in; name at least one with --gallery")
        limits = self.limits
        self.searching = Places("search", limits.at_once, limits.each, limits)
        self.decoding = Places("photo", limits.decoding, max(limits.each // 2, 1), limits)
        self.explaining = Places("why", 1, max(limits.each // 4, 1), limits)
        self.pixels = Pool(limits.pixels)
        self._explainer = self.explainer or Explainer(limits)
        self.uses = Uses()
        self.jobs = Jobs()
        self._queries: OrderedDict[str, Query] = OrderedDict()
        self._busy = threading.Lock()

    def searcher(self, name: str | None) -> Searcher:
        """The gallery of a name; the first one for None.

        Raises:
            GoneError: there is none.
        """
        if name is None:
            return next(iter(self.searchers.values()))
        if name not in self.searchers:
            raise GoneError(f"there is no gallery {name[:80]!r}; there are: {', '.join(self.searchers)}")
        return self.searchers[name]

    def query(self, id: str) -> Query:
        """A query of before.

        Raises:
            GoneError: it was pushed out by newer ones, or never was.
        """
        with self._busy:
            if id not in self._queries:
                raise GoneError("that query is not kept any more; choose the photograph again")
            self._queries.move_to_end(id)
            return self._queries[id]

    def ask_photos(self, photos: Sequence[tuple[str, bytes]], client: str = "") -> Query:
        """Make a query of photographs.

        Args:
            photos: name and bytes of each.
            client: whose query it is.

        Raises:
            DataError: none or too many, or one is no picture, damaged or too large.
        """
        if not 1 <= len(photos) <= self.limits.photos:
            raise DataError(f"got {len(photos)} photographs, wanted 1 to {self.limits.photos} of one person")
        pictures: list[np.ndarray] = []
        scenes: list[tuple[str, tuple[int, int]]] = []
        resized: dict[str, list[np.ndarray]] = {name: [] for name in self.searchers}
        for (name, data), pixels in zip(photos, self._pixels_of(photos)):
            with self.pixels.taken(pixels):  # one after the other: no more than one large picture is in memory
                picture = decode_image(data, called(name), self.limits.pixels)
                pictures.append(shrink(picture))
                scenes += [(called(name), picture.shape[:2])] if is_scene(*picture.shape[:2]) else []
                for searcher in self.searchers.values():
                    seen = searcher.embedder.seen
                    resized[searcher.name].append(resize(picture, *seen.size, interpolation=seen.interpolation))
        vectors = {name: searcher.embedder.embed(resized[name]) for name, searcher in self.searchers.items()}
        names = tuple(f"sha256:{hashlib.sha256(data).hexdigest()[:16]}" for _, data in photos)
        digests = tuple(bytes_digest(data) for _, data in photos)
        warning = scenes_line(len(scenes), *scenes[0], SEARCHED) if scenes else ""
        return self._keep(names, pictures, vectors, digests=digests, client=client, warning=warning)

    def _pixels_of(self, photos: Sequence[tuple[str, bytes]]) -> list[int]:
        """Pixels that each photograph claims, where decoding them all does not cost too much.

        Raises:
            DataError: it does, or one is no picture, or claims too much by itself.
        """
        headers = [claimed(data, called(name), self.limits.pixels) for name, data in photos]
        pixels = [header.height * header.width for header in headers]
        work = sum(count * header.passes for count, header in zip(pixels, headers))
        if work > self.limits.passes * self.limits.pixels:
            raise DataError(
                f"the photographs would cost too much to decode ({work:,} pixels in all passes), wanted "
                f"{self.limits.passes * self.limits.pixels:,} or fewer; send fewer or smaller ones"
            )
        return pixels

    def ask_pictures(self, ids: Sequence[str], name: str | None, client: str = "") -> Query:
        """Make a query of pictures of a gallery.

        Raises:
            GoneError: one is not there.
            DataError: none or too many, or another model has to see one that has no thumbnail.
        """
        if not 1 <= len(ids) <= self.limits.photos:
            raise DataError(f"got {len(ids)} pictures, wanted 1 to {self.limits.photos} of one person")
        home = self.searcher(name)
        items = home.gallery.get(ids)
        if len(items) < len(ids):
            raise GoneError("a picture asked for is not in the gallery any more; search again")
        thumbnails = map(home.gallery.thumbnail, ids)
        pictures = [decode_image(data, "a thumbnail", THUMBNAIL) for data in thumbnails if data]
        vectors = {}
        for other in self.searchers.values():
            known = items if other is home else other.gallery.get(ids)
            all_known = len(known) == len(ids)
            vectors[other.name] = (
                np.stack([item.vector for item in known]) if all_known else other.embedder.embed(pictures)
            )
        cameras = {item.record.camera for item in items if item.record.camera}
        digests = tuple(item.record.digest for item in items if item.record.digest)
        known = {"ids": tuple(ids), "home": home.name, "cameras": tuple(cameras), "digests": digests}
        return self._keep(ids, pictures, vectors, **known, client=client)

    def thumbnail(self, name: str, id: str) -> bytes:
        """Thumbnail of a picture that was marked; empty where picture or gallery is not there any more."""
        searcher = self.searchers.get(name)
        return searcher.gallery.thumbnail(id) if searcher else b""

    def forget_deleted(self) -> None:
        """Forget marks of pictures that are in their gallery no more, whoever deleted them.

        Raises:
            StorageError: the marks cannot be read.
        """
        known = [pair for pair in self.feedback.words() if pair.gallery in self.searchers]
        there = {
            name: {
                item.record.id
                for item in searcher.gallery.get(sorted({id for p in known for id in (p.query, p.match)}))
            }
            for name, searcher in self.searchers.items()
        }
        anywhere = set().union(*there.values())
        gone = {pair.match for pair in known if pair.match not in there[pair.gallery]}
        gone |= {pair.query for pair in known if is_id(pair.query) and pair.query not in anywhere}
        self.feedback.forget(gone)

    def why(self, searcher: Searcher, query: np.ndarray, id: str) -> dict[str, Any]:
        """What speaks for the similarity of a picture to one of the gallery, in a process of its own.

        Raises:
            GoneError: that is not there, or was stored without a thumbnail.
            ConfigError: nothing in the network can be looked at.
        """
        if searcher.embedder.name == FOREIGN:
            raise ConfigError("the network came as a file of another maker, and nothing in it can be looked at")
        data = searcher.gallery.thumbnail(id)
        if not data:
            raise GoneError("there is no thumbnail of that picture in the gallery")
        return self._explainer.explain(searcher.embedder, query, data)

    def close(self) -> None:
        """Begin no work any more, and end the uses that are under way."""
        self.jobs.close()
        for places in (self.searching, self.decoding, self.explaining):
            places.close()
        self._explainer.close()
        self.uses.close()
        self.feedback.close()

    def _keep(
        self, names: Iterable[str], pictures: Iterable[np.ndarray], vectors: Mapping[str, np.ndarray], **origin: Any
    ) -> Query:
        unguessable = secrets.token_urlsafe(18)
        query = Query(unguessable, tuple(names), tuple(pictures), vectors, **origin)
        with self._busy:
            self._queries[query.id] = query
            while len(self._queries) > self.limits.queries:  # whoever has most loses the one he asked with longest ago
                have = Counter(each.client for each in self._queries.values())
                most = max(have.values())
                del self._queries[next(id for id, each in self._queries.items() if have[each.client] == most)]
        return query


def called(name: str) -> str:
    """What a photograph is called in an error."""
    return name[:80] or "the photograph"


def shrink(picture: np.ndarray) -> np.ndarray:
    """The picture, no higher than is kept; a line of pixels becomes a strip that can be looked at."""
    image = Image.fromarray(picture)
    image.thumbnail((2 * KEPT_HEIGHT, KEPT_HEIGHT), Image.Resampling.LANCZOS)
    least = -(-max(image.size) // THINNEST)
    if min(image.size) < least:
        image = image.resize((max(image.width, least), max(image.height, least)), Image.Resampling.NEAREST)
    return np.array(image)
