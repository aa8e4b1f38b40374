"""What a gallery knows about a picture, and which of them a search may see.

A :class:`Record` is what is known, an :class:`Item` the record with its descriptor and thumbnail, a :class:`Hit` a
record with its similarity to a query. A :class:`Filter` is plain data; every engine translates it into its own
language, and :meth:`Filter.accepts` says in plain Python what it means.

Shapes: D descriptor length.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from regard.errors import DataError
from regard.storage import plain_text

__all__ = ["Filter", "Hit", "Item", "Record", "check_names", "format_time", "parse_time", "record_id"]

NAME = re.compile(r"\w[\w-]{0,63}")


@dataclass(frozen=True, slots=True)
class Record:
    """One picture of a gallery.

    Attributes:
        id: UUID, made from where the picture came from, so that adding it again replaces it.
        path: where it came from: a file, ``shard.tar!member`` or ``table.parquet#row``.
        camera: name of the camera; None where unknown.
        time: seconds since 1970-01-01 UTC; None where unknown.
        track: name of the tracklet it belongs to; None where unknown.
        person: known identity; None where unknown.
        attributes: anything else, as text.
        digest: of the content of the picture's file when it was embedded (:func:`regard.fingerprint.bytes_digest`);
            None where that is not known.
    """

    id: str
    path: str
    camera: str | None = None
    time: float | None = None
    track: str | None = None
    person: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; the digest is left out where it is not known."""
        known = {} if self.digest is None else {"digest": self.digest}
        return known | {
            "id": self.id,
            "path": self.path,
            "camera": self.camera,
            "time": self.time,
            "track": self.track,
            "person": self.person,
            "attributes": dict(self.attributes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """The record :meth:`to_dict` described; other keys are passed over.

        Raises:
            DataError: id or path is missing, the time is none, or an attribute has no plain name.
        """
        missing = [key for key in ("id", "path") if not values.get(key)]
        if missing:
            raise DataError(f"a record has no {' and no '.join(missing)}; every picture needs both")
        names = {key: _text(values.get(key)) for key in ("camera", "track", "person", "digest")}
        attributes = {str(key): str(value) for key, value in (values.get("attributes") or {}).items()}
        check_names(attributes)
        return cls(
            str(values["id"]), str(values["path"]), time=parse_time(values.get("time")), attributes=attributes, **names
        )


@dataclass(frozen=True, slots=True)
class Item:
    """A record with what is stored beside it.

    Attributes:
        record: what is known.
        vector: (D,) float32 of length 1.
        thumbnail: JPEG, or empty.
    """

    record: Record
    vector: np.ndarray
    thumbnail: bytes = b""


@dataclass(frozen=True, slots=True)
class Hit:
    """A record an engine found.

    Attributes:
        record: what was found.
        score: cosine of its descriptor and the query's, -1 to 1.
    """

    record: Record
    score: float


@dataclass(frozen=True, slots=True)
class Filter:
    """What a search may see; everything given must hold.

    Attributes:
        cameras, tracks, persons: any of these; None for all, an empty tuple for nothing.
        not_cameras: none of these.
        since, until: seconds since 1970 UTC; since is included, until is not. A record without a time is left out.
        attributes: name -> any of these values.
        ids: only these; None for all.
        not_ids: none of these.
    """

    cameras: tuple[str, ...] | None = None
    not_cameras: tuple[str, ...] = ()
    tracks: tuple[str, ...] | None = None
    persons: tuple[str, ...] | None = None
    since: float | None = None
    until: float | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ids: tuple[str, ...] | None = None
    not_ids: tuple[str, ...] = ()

    def accepts(self, record: Record) -> bool:
        """Whether the record may be seen."""
        chosen = ((self.cameras, record.camera), (self.tracks, record.track), (self.persons, record.person))
        if any(allowed is not None and value not in allowed for allowed, value in (*chosen, (self.ids, record.id))):
            return False
        if record.camera in self.not_cameras or record.id in self.not_ids:
            return False
        if self.since is not None and (record.time is None or record.time < self.since):
            return False
        if self.until is not None and (record.time is None or record.time >= self.until):
            return False
        return all(record.attributes.get(name) in values for name, values in self.attributes.items())

    @property
    def is_impossible(self) -> bool:
        """Whether it names a choice with nothing to choose from, so that nothing passes."""
        choices = (self.cameras, self.tracks, self.persons, self.ids, *self.attributes.values())
        return any(choice is not None and not choice for choice in choices)

    def to_dict(self) -> dict[str, Any]:
        """What it asks for, ready for JSON; what it leaves open is left out."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: {key: list(each) for key, each in value.items()} if isinstance(value, Mapping) else value
            for name, value in values.items()
            if value != getattr(Filter(), name)
        }


def check_names(names: Iterable[str]) -> None:
    """Check that attributes are called by letters, digits, ``_`` and ``-``, so that every engine can filter by them.

    Raises:
        DataError: one is not.
    """
    for name in names:
        if not NAME.fullmatch(name):
            raise DataError(
                f"got an attribute called {name!r}, wanted letters, digits, _ and - (64 at most); rename it"
            )


def record_id(source: str) -> str:
    """UUID of a picture by where it came from: the same source always has the same one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, plain_text(f"regard:{source}")))


def parse_time(value: Any) -> float | None:
    """Seconds since 1970 UTC from a number, an ISO 8601 text or a datetime; without a zone it counts as UTC.

    Raises:
        DataError: it is none of them.
    """
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return None
    try:
        if not isinstance(value, datetime):
            number = float(value)
            if np.isfinite(number):
                return number
            raise OverflowError
    except (TypeError, ValueError):
        pass
    except OverflowError:
        raise DataError(f"got the time {value!r}, wanted a finite number of seconds or 2026-05-01T08:30:00") from None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise DataError(f"got the time {value!r}, wanted seconds since 1970 or 2026-05-01T08:30:00") from None


def format_time(seconds: float | None) -> str:
    """``2026-05-01 08:30:00`` in UTC, or an empty text."""
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s"


def _text(value: Any) -> str | None:
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return None
    return str(value)
