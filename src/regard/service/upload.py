"""The body of a request: read into memory within limits of bytes and time, and taken apart without a file."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from regard.errors import DataError
from regard.service.limits import BusyError, Limits

__all__ = ["Held", "Intake", "LeftError", "Part", "SlowError", "TooMuchError", "read_form"]

YOUNG = 5.0
"""Seconds in which a body is not given up for the sake of another."""

MAX_HEAD = 8192
"""Bytes of the lines before a part of a form."""

BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,200})"|([^\s;",]{1,200}))', re.IGNORECASE)
DISPOSITION = re.compile(rb"content-disposition:\s*form-data\s*;([^\r\n]*)", re.IGNORECASE)
PARAMETER = re.compile(rb'(?:^|;)\s*(name|filename)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^\s;"]*))', re.IGNORECASE)


class TooMuchError(Exception):
    """A body grew beyond the limit."""


class SlowError(Exception):
    """A body did not come in time."""


class LeftError(Exception):
    """The client has gone."""


@dataclass(eq=False)
class Held:
    """What a request holds in memory.

    Attributes:
        bytes: how many.
        began: when.
        timer: of the wait for more; None while nothing is waited for.
        dropped: whether it was given up for another.
    """

    bytes: int = 0
    began: float = field(default_factory=time.monotonic)
    timer: asyncio.Timeout | None = None
    dropped: bool = False


class Intake:
    """All that requests, and the jobs they began, hold in memory.

    Args:
        limits: of bytes and seconds.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._held: set[Held] = set()
        self._busy = threading.Lock()  # jobs end in a thread of their own

    @contextmanager
    def room(self) -> Any:
        """What one request holds, until the end of the block."""
        held = Held()
        self._add(held)
        try:
            yield held
        finally:
            self._drop(held)

    def keep(self, held: Held) -> Callable[[], None]:
        """Count what a request has brought on, after its end, until what is returned is called."""
        kept = Held(held.bytes)
        held.bytes = 0
        self._add(kept)
        return lambda: self._drop(kept)

    def _add(self, held: Held) -> None:
        with self._busy:
            self._held.add(held)

    def _drop(self, held: Held) -> None:
        with self._busy:
            self._held.discard(held)

    def _all(self) -> list[Held]:
        with self._busy:
            return list(self._held)

    def take(self, held: Held, more: int) -> None:
        """Hold more bytes; what has been coming in for long is given up where there is no room.

        Raises:
            BusyError: there is no room.
        """
        while sum(each.bytes for each in self._all()) + more > self.limits.held:
            now = time.monotonic()
            late = [each for each in self._all() if each.timer and each is not held and now - each.began > YOUNG]
            if not late:
                raise BusyError("other requests fill the memory; try again")
            victim = max(late, key=lambda each: each.bytes)
            victim.dropped, victim.bytes = True, 0
            if victim.timer:
                victim.timer.reschedule(0)
                victim.timer = None
        held.bytes += more

    async def read(self, receive: Any, most: int, held: Held) -> bytes:
        """The body of a request.

        Args:
            receive: ASGI's.
            most: bytes that it may have.
            held: where to count them.

        Raises:
            TooMuchError: it has more.
            SlowError: it did not come in time.
            LeftError: the client went.
            BusyError: there is no room for it.
        """
        pieces: list[bytes] = []
        size, more, end = 0, True, time.monotonic() + self.limits.body
        while more:
            message = await self.next(receive, min(self.limits.stall, end - time.monotonic()), held)
            if held.dropped:
                raise BusyError("other requests fill the memory, and this one was slow; try again")
            if message is None:
                raise SlowError
            if message["type"] != "http.request":
                raise LeftError
            piece, more = message.get("body", b""), message.get("more_body", False)
            size += len(piece)
            if size > most:
                raise TooMuchError
            self.take(held, len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    async def next(self, receive: Any, seconds: float, held: Held) -> Any:
        """The next message of a request; None where it does not come in time."""
        try:
            async with asyncio.timeout(max(seconds, 0)) as held.timer:
                return await receive()
        except TimeoutError:
            return None
        finally:
            held.timer = None


class Part(NamedTuple):
    """A part of a form.

    Attributes:
        field: its name.
        file: name of the file, if any.
        content: its bytes.
    """

    field: str
    file: str
    content: bytes


def read_form(body: bytes, kind: str, most: int, check: Callable[[str], None]) -> list[Part]:
    """The parts of a form (``multipart/form-data``, RFC 7578).

    Args:
        body: of the request.
        kind: its content type.
        most: parts that it may have.
        check: called with the name of every part; raises where there is no such field.

    Raises:
        DataError: it is none, is damaged, or has too many parts.
    """
    found = BOUNDARY.search(kind)
    if not kind.lower().startswith("multipart/form-data") or found is None:
        raise DataError("got no form, wanted multipart/form-data with a boundary, as a browser or curl -F sends it")
    line = b"\r\n--" + (found[1] or found[2]).encode("latin-1", "replace")
    pieces = (b"\r\n" + body).split(line, most + 2)
    if len(pieces) > most + 2 or (len(pieces) == most + 2 and not pieces[-1].startswith(b"--")):
        raise DataError(f"got more than {most} parts, wanted fewer; send fewer photographs")
    if len(pieces) < 2 or not pieces[-1].startswith(b"--") or pieces[0].strip():
        raise DataError("the form is damaged (it has no end), wanted a whole one; send it again")
    return [read_part(piece, check) for piece in pieces[1:-1]]


def read_part(piece: bytes, check: Callable[[str], None]) -> Part:
    """A part of a form.

    Raises:
        DataError: it is damaged.
    """
    head, blank, content = piece.partition(b"\r\n\r\n")
    said = DISPOSITION.search(head) if blank and len(head) <= MAX_HEAD else None
    if said is None:
        raise DataError("a part of the form is damaged (it does not say its field), wanted a whole one; send it again")
    values = {match[1].lower(): match[2] or match[3] or b"" for match in PARAMETER.finditer(said[1])}
    field = values.get(b"name", b"").decode(errors="replace")
    check(field)
    return Part(field, values.get(b"filename", b"").decode(errors="replace"), content)
