"""Uses of a gallery: who ranks people in it, from when until when, and what the log says of each time.

Everything that ranks people goes through a :class:`Use`: searches, explanations of a match, exports of descriptors,
near duplicates; and what changes the gallery or confirms a match. Each is one line of the gallery's log before it is
answered::

    with gallery.use(Actor("anna", "search", "192.0.2.7")) as use:
        answer = gallery.search(vector, k=10, use=use)
        use.note("duplicates", threshold=0.9, answered={"count": 3})

A use begins with the first line it writes and ends with one of the kind ``end``, which says when it was used last.
Where the process was killed, :meth:`~regard.gallery.audit.AuditLog.end_unseen` writes that line.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from regard.gallery.record import Answer, Filter, is_id

if TYPE_CHECKING:
    from regard.gallery.audit import AuditLog

__all__ = ["Actor", "Use", "answered", "named_digest", "vector_digest"]

NAMED = {"person": "person", "persons": "person", "into": "person", "track": "track", "tracks": "track"}
"""What is said under these names is told of by digests: of what."""

MOST_NAMED = 200
"""Matches whose digests a line holds; of more there is one digest of all."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who uses a gallery.

    Attributes:
        who: name of the token, or of the user of the command line; the address where neither is known.
        role: of the token (search, mark, administer), or ``command line``; empty where there is none.
        address: from where; ``local`` for the command line.
    """

    who: str
    role: str = ""
    address: str = ""

    @property
    def is_named(self) -> bool:
        """Whether more is known than an address."""
        return bool(self.who) and self.who != self.address


class Use:
    """A session of use of one gallery by one actor; a context manager.

    Args:
        log: where it is noted.
        database: name, id and model of the gallery.
        actor: who.

    Attributes:
        actor: the same.
        last: when it was used last, by :func:`time.monotonic`.
    """

    def __init__(self, log: AuditLog, database: Mapping[str, Any], actor: Actor):
        self.actor = actor
        self.last = time.monotonic()
        self._log = log
        self._database = dict(database)
        self._id = ""
        self._began: str | None = None
        self._last = ""
        self._lines = 0
        self._busy = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def touch(self) -> None:
        """Say that it goes on, so that nobody ends it as idle."""
        self.last = time.monotonic()

    def note(self, kind: str, **facts: Any) -> None:
        """Write a line, before what it is about is answered.

        Args:
            kind: what was asked: search, why, export, duplicates, mark, delete, ...
            facts: what else to say, ready for JSON. ``filter`` may be a :class:`~regard.gallery.record.Filter`. Ids of
                pictures become digests, and so do names of people and tracks under :data:`NAMED` and values of
                ``attributes``, so that nothing that is deleted later stays in the log.

        Raises:
            StorageError: it could not be written, so there must be no answer.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"kind": kind, **{name: without_ids(value, name) for name, value in facts.items()}}
        with self._busy:
            self._id = self._id or self._log.begin_use()
            self._log.append(**self._told() | line | {"began": self._began or now})
            self._began = self._began or now
            self._last, self.last = now, time.monotonic()
            self._lines += 1

    def end(self, reason: str = "closed") -> None:
        """Write that the use ended, and when it was used last; nothing where it never began.

        Args:
            reason: closed, idle or stopped.

        Raises:
            StorageError: it could not be written.
        """
        with self._busy:
            if self._began is not None:
                ended = {"kind": "end", "began": self._began, "ended": self._last, "reason": reason}
                self._log.append(**self._told() | ended | {"uses": self._lines})
            if self._id:
                self._log.end_use()
            self._began, self._lines, self._id = None, 0, ""

    def _told(self) -> dict[str, Any]:
        actor = self.actor
        who = {"who": actor.who, "role": actor.role, "address": actor.address}
        return who | {"session": self._id, "gallery": self._database}


def answered(answer: Answer) -> dict[str, Any]:
    """What a line says of an answer: how many of how many, the best score, and digests of what was shown."""
    ids = [record.id for match in answer.matches for record in (match.record, *match.track)]
    told: dict[str, Any] = {"count": len(answer.matches), "searched": answer.searched, "exact": answer.exact}
    if answer.matches:
        told["best"] = round(max(match.score for match in answer.matches), 6)
    if len(ids) <= MOST_NAMED:
        return told | {"matches": [named_digest(id) for id in ids]}
    return told | {"digest": hashlib.sha256("\n".join(ids).encode()).hexdigest()}


def named_digest(name: str, kind: str = "picture") -> str:
    """What a line calls a picture of a gallery: a digest of its id, found again by whoever knows the id."""
    return f"{kind}:{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:16]}"


def vector_digest(vectors: np.ndarray) -> str:
    """What a line calls a query that came as descriptors."""
    content = np.ascontiguousarray(vectors, np.float32).tobytes()
    return f"descriptors:{hashlib.sha256(content).hexdigest()[:16]}"


def without_ids(value: Any, key: str = "") -> Any:
    """A fact with digests in place of ids, of names of people and tracks, and of attributes' values."""
    if isinstance(value, Filter):
        value = value.to_dict()
    if isinstance(value, str):
        kind = NAMED.get(key, "attribute" if key.startswith(".") else "picture" if is_id(value) else "")
        return named_digest(value, kind) if kind and value else value
    if isinstance(value, Mapping):
        dot = "." if key == "attributes" else ""
        return {name: without_ids(each, dot + name) for name, each in value.items()}
    if isinstance(value, Iterable):
        return [without_ids(each, key) for each in value]
    return value
