"""What a gallery knows about a picture, which of them a search may see, and what it answers.

A :class:`Record` is what is known, an :class:`Item` the record with its descriptor and thumbnail, a :class:`Scored` one
with its similarity to a query, of which :class:`Match` and :class:`Answer` are made. A :class:`Filter` is plain data;
every engine translates it into its own language, and :meth:`Filter.accepts` says in plain Python what it means.

Shapes: D descriptor length.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from math import isfinite
from typing import Any, Self

import numpy as np

from regard.errors import ConfigError, DataError
from regard.parsing import parse_json
from regard.storage import plain_text

__all__ = [
    "FACTS",
    "Answer",
    "Filter",
    "Item",
    "Match",
    "Record",
    "Scored",
    "format_time",
    "is_id",
    "parse_age",
    "parse_time",
    "read_records",
    "record_id",
    "said_digest",
]

NAME = re.compile(r"\w[\w-]{0,63}")
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

SAID = re.compile(r"said:[0-9a-f]{32}")

FIRST, BEYOND = -62_135_596_800.0, 253_402_300_800.0
"""Seconds since 1970 at which the year 1 begins and the year 9999 has ended."""

TOGETHER = 20
"""Records of one JSON text: so few that how deep it is nested need not be looked at."""

TEXTS = ("id", "path", "camera", "track", "person", "digest")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

FACTS = ("camera", "time", "track", "person")
"""What is known of a picture by a name of its own; anything else is an attribute."""


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
        said: ``own``, ``told`` -> digests (:func:`said_digest`) of what these said last of facts that are others by now
            (:mod:`regard.gallery.facts`).
    """

    id: str
    path: str
    camera: str | None = None
    time: float | None = None
    track: str | None = None
    person: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    said: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; the digest is left out where it is not known, and what was said where it still holds."""
        known = {} if self.digest is None else {"digest": self.digest}
        known |= {"said": {who: dict(words) for who, words in self.said.items()}} if self.said else {}
        known |= {name: getattr(self, name) for name in ("id", "path", *FACTS)}
        return known | {"attributes": dict(self.attributes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """The record :meth:`to_dict` described; other keys are passed over.

        Raises:
            DataError: id or path is missing, the time is none, or an attribute has no plain name.
        """
        texts, time = [values.get(key) for key in TEXTS], values.get("time")
        more = values.get("attributes") or values.get("said")
        described = {*map(type, texts)} <= {str, type(None)} and texts[0] and texts[1] and "" not in texts
        if described and not more and (time is None or (type(time) is float and isfinite(time))):
            id, path, camera, track, person, digest = texts  # as to_dict describes them
            return cls(str(id), str(path), camera, time, track, person, {}, digest)
        missing = [key for key in ("id", "path") if not values.get(key)]
        if missing:
            raise DataError(f"a record has no {' and no '.join(missing)}; every picture needs both")
        names = {key: values.get(key) for key in ("camera", "track", "person", "digest")}
        names = {key: None if _is_missing(value) else str(value) for key, value in names.items()}
        attributes = {str(key): str(value) for key, value in (values.get("attributes") or {}).items()}
        _check_names(attributes)
        said = values.get("said")
        said = said if isinstance(said, Mapping) else {}
        return cls(
            str(values["id"]),
            str(values["path"]),
            time=time if type(time) is float and isfinite(time) else parse_time(time),  # as it was stored
            attributes=attributes,
            said={
                who: {name: said_digest(str(values["id"]), name, value) for name, value in said[who].items()}
                for who in ("own", "told")
                if isinstance(said.get(who), Mapping)
            },
            **names,
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
class Scored:
    """A record an engine found.

    Attributes:
        record: what was found.
        score: cosine of its descriptor and the query's, -1 to 1.
    """

    record: Record
    score: float


@dataclass(frozen=True, slots=True)
class Match:
    """One answer.

    Attributes:
        rank: its place, from 1.
        record: what was found.
        score: cosine similarity, -1 to 1.
        probability: that it shows the same person, where the model is calibrated.
        track: the other records of its tracklet that were found, where matches are grouped.
        same_picture: whether its file is one that was searched for, byte by byte.
    """

    rank: int
    record: Record
    score: float
    probability: float | None = None
    track: tuple[Record, ...] = ()
    same_picture: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "rank": self.rank,
            "score": round(self.score, 6),
            "probability": None if self.probability is None else round(self.probability, 6),
            "same_picture": self.same_picture,
            "record": self.record.to_dict(),
            "track": [record.to_dict() for record in self.track],
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found.

    Attributes:
        matches: best first.
        searched: records the filter accepted.
        exact: whether all of them were compared.
        seconds: how long it took.
        prior: how probable each match was before looking; None where there are no probabilities.
    """

    matches: tuple[Match, ...]
    searched: int
    exact: bool
    seconds: float
    prior: float | None = None

    @property
    def prior_note(self) -> str | None:
        """What the prior means, in a line; None where there is none."""
        if self.prior is None:
            return None
        chance = f"1 in {1 / self.prior:,.0f}" if self.prior <= 0.1 else f"{100 * self.prior:.3g} %"
        return (
            f"probabilities start from {chance}: that a picture shows the person searched for, before one looks at it"
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "matches": [match.to_dict() for match in self.matches],
            "searched": self.searched,
            "exact": self.exact,
            "seconds": round(self.seconds, 4),
            "prior": self.prior,
            "prior_note": self.prior_note,
        }


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

    @classmethod
    def asked(cls, *, attributes: Mapping[str, Iterable[str]] | None = None, **given: Any) -> Self:
        """The filter somebody asks for: with lists, and times as :func:`parse_time` takes them.

        Raises:
            DataError: a time is none, or an attribute has no plain name.
        """
        attributes = attributes or {}
        _check_names(attributes)
        since, until = parse_time(given.pop("since", None)), parse_time(given.pop("until", None))
        chosen: dict[str, Any] = {name: None if values is None else tuple(values) for name, values in given.items()}
        named = {name: tuple(values) for name, values in attributes.items()}
        return cls(since=since, until=until, attributes=named, **chosen)

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


def _check_names(attributes: Iterable[str]) -> None:
    """Check that attributes are called by letters, digits, ``_`` and ``-``, so that every engine can filter by them."""
    for name in attributes:
        if not NAME.fullmatch(name):
            raise DataError(
                f"got an attribute called {name!r}, wanted letters, digits, _ and - (64 at most); rename it"
            )


def read_records(texts: Iterable[str]) -> list[Record]:
    """The records that :meth:`Record.to_dict` described, each in a JSON text."""
    texts = list(texts)
    parts = (texts[start : start + TOGETHER] for start in range(0, len(texts), TOGETHER))
    return [Record.from_dict(values) for part in parts for values in parse_json(f"[{','.join(part)}]")]


def said_digest(id: str, name: str, value: Any) -> str | None:
    """What a record keeps of what a source said: enough to compare, and no text that outlives a name taken back.

    Args:
        id: of the record.
        name: of the fact; of an attribute, behind a dot.
        value: what was said; None and a digest stay as they are.
    """
    if value is None or (isinstance(value, str) and SAID.fullmatch(value)):
        return value
    text = json.dumps([id, name, value], sort_keys=True, default=str)
    return f"said:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def is_id(id: str) -> bool:
    """Whether a text is the id of a record, in the one form ids have."""
    return isinstance(id, str) and ID.fullmatch(id) is not None


def record_id(source: str) -> str:
    """UUID of a picture by where it came from: the same source always has the same one."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, plain_text(f"regard:{source}")))


def parse_time(value: Any, zone: tzinfo = UTC) -> float | None:
    """Seconds since 1970 UTC from a number, an ISO 8601 text or a datetime; one without a zone is taken in ``zone``.

    Raises:
        DataError: it is none of them, or not within the years 1 to 9999.
    """
    if _is_missing(value):
        return None
    seconds = _seconds(value, zone)
    if not FIRST <= seconds < BEYOND:
        raise DataError(f"got the time {value!r}, wanted one of the years 1 to 9999, in seconds since 1970 or ISO 8601")
    return seconds


def _seconds(value: Any, zone: tzinfo) -> float:
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
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise DataError(f"got the time {value!r}, wanted seconds since 1970 or 2026-05-01T08:30:00") from None


def parse_age(text: str) -> float:
    """Seconds of ``30d``.

    Raises:
        ConfigError: it is something else.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([smhdw])", text)
    if match is None:
        raise ConfigError(f"got the age {text[:80]!r}, wanted a number and s, m, h, d or w, for example 30d")
    return float(match[1]) * UNITS[match[2]]


def format_time(seconds: float | None) -> str:
    """``2026-05-01 08:30:00`` in UTC, or an empty text."""
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s"


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))
