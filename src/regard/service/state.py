"""What the service has on its desk: galleries with their models, the queries of the last while, marks and runs.

Shapes: P pictures of one person, D descriptor length.

A photograph that was sent is embedded once, by every model, and kept in memory as a small picture with its descriptors
until newer queries push it out; it never reaches the disk, unless a match of it is marked.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from regard.data.image import decode_image
from regard.errors import ConfigError, DataError, RegardError
from regard.gallery.embedder import Embedder
from regard.gallery.gallery import Gallery
from regard.service.feedback import Marks

__all__ = ["Desk", "GoneError", "Limits", "Query", "Searcher"]

KEPT_HEIGHT = 384
"""Pixels of a query's picture that are kept for looking into it."""


class GoneError(RegardError):
    """Something was asked for that is not there, or not any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one may bring.

    Attributes:
        bytes: of one request.
        pixels: of one photograph.
        photos: of one query.
        queries: kept in memory.
        at_once: requests that decode or compute at the same time; others wait.
    """

    bytes: int = 20 * 2**20
    pixels: int = 40_000_000
    photos: int = 8
    queries: int = 128
    at_once: int = 4


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
        cameras: that took those.
    """

    id: str
    names: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]
    vectors: Mapping[str, np.ndarray]
    ids: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()


@dataclass
class Desk:
    """The state of the service.

    Attributes:
        searchers: by name, the first one is the default.
        marks: what was said to be right or wrong.
        runs: folder with training runs to show; None for none.
        limits: what one may bring.
        prior: how probable a match is before one looks; None takes that of each gallery.
        heavy: taken by whoever decodes or computes.
    """

    searchers: dict[str, Searcher]
    marks: Marks
    runs: Path | None = None
    limits: Limits = field(default_factory=Limits)
    prior: float | None = None

    def __post_init__(self) -> None:
        if not self.searchers:
            raise ConfigError("got no gallery to search in; name at least one with --gallery")
        self.heavy = threading.BoundedSemaphore(self.limits.at_once)
        self._tray: OrderedDict[str, Query] = OrderedDict()
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
            if id not in self._tray:
                raise GoneError("that query is not kept any more; choose the photograph again")
            self._tray.move_to_end(id)
            return self._tray[id]

    def ask_photos(self, photos: Sequence[tuple[str, bytes]]) -> Query:
        """Make a query of photographs.

        Args:
            photos: name and bytes of each.

        Raises:
            DataError: none or too many, or one is no picture, damaged or too large.
        """
        if not 1 <= len(photos) <= self.limits.photos:
            raise DataError(f"got {len(photos)} photographs, wanted 1 to {self.limits.photos} of one person")
        with self.heavy:
            pictures = [decode_image(data, name[:80] or "the photograph", self.limits.pixels) for name, data in photos]
            vectors = {name: searcher.embedder.embed(pictures) for name, searcher in self.searchers.items()}
            names = tuple(f"sha256:{hashlib.sha256(data).hexdigest()[:16]}" for _, data in photos)
            return self._keep(Query(new_id(), names, tuple(map(small, pictures)), vectors))

    def ask_pictures(self, ids: Sequence[str], name: str | None) -> Query:
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
        with self.heavy:
            thumbnails = [home.gallery.thumbnail(id) for id in ids]
            pictures = [decode_image(data, "a thumbnail") for data in thumbnails if data]
            vectors = {home.name: np.stack([item.vector for item in items])}
            for other in self.searchers.values():
                if other is not home:
                    known = other.gallery.get(ids)
                    ready = len(known) == len(ids)
                    vectors[other.name] = (
                        np.stack([item.vector for item in known]) if ready else other.embedder.embed(pictures)
                    )
        cameras = tuple({item.record.camera for item in items if item.record.camera})
        return self._keep(Query(new_id(), tuple(ids), tuple(pictures), vectors, tuple(ids), cameras))

    def shown(self, searcher: Searcher, id: str) -> np.ndarray:
        """The picture of a record, as the gallery keeps it.

        Raises:
            GoneError: it is not there, or was stored without a thumbnail.
        """
        data = searcher.gallery.thumbnail(id)
        if not data:
            raise GoneError("there is no thumbnail of that picture in the gallery")
        return decode_image(data, "a thumbnail")

    def _keep(self, query: Query) -> Query:
        with self._busy:
            self._tray[query.id] = query
            while len(self._tray) > self.limits.queries:
                self._tray.popitem(last=False)
        return query


def new_id() -> str:
    """A name nobody can guess."""
    return secrets.token_urlsafe(18)


def small(picture: np.ndarray) -> np.ndarray:
    """The picture, no higher than is kept."""
    image = Image.fromarray(picture)
    image.thumbnail((2 * KEPT_HEIGHT, KEPT_HEIGHT), Image.Resampling.LANCZOS)
    return np.array(image)
