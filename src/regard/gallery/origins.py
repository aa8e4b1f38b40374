"""What is known of a picture without any table: what its path says, by a rule, and what the camera wrote in EXIF.

Shapes: none.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from regard.data.header import kind_of
from regard.data.image import TURNING
from regard.data.listing import note
from regard.data.modern import AVIF, HEIC, open_file
from regard.errors import ConfigError, RegardError, nearest

__all__ = ["ZONELESS", "Moment", "PathReader", "exif_moment", "name_moment", "time_zone"]

PATIENCE = 2.0
"""Seconds of processor time that an expression may take in all, beside :data:`FAIR` for every path."""

FAIR = 5e-5
EXIF, TAKEN, OFFSET, FRACTION = 0x8769, 0x9003, 0x9011, 0x9291
"""Tags: of the directory of EXIF, DateTimeOriginal, OffsetTimeOriginal, SubSecTimeOriginal (CIPA DC-008)."""

OFFSETS = re.compile(r"([+-])(\d\d):?(\d\d)")
EXIF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
NAME_TIME = re.compile(
    r"(\d{4})[-_.]?(\d\d)[-_.]?(\d\d)"
    r"(?:[T_ .-]{0,3}(\d\d)[-_:.h]?(\d\d)(?:[-_:.m]?(\d\d)(?:[-_.,s]?(\d{1,6}))?)?)?(?:s)?(Z|[+-]\d\d:?\d\d)?"
)
"""A date, with or without a time, as names of files have it: 20260501T083000Z, 2026-05-01_08-30-00.250, 20260501."""

ALWAYS = ("TIFF", AVIF, HEIC)
"""Kinds of files in which no mark of its own says that there is EXIF."""

ZONELESS = "EXIF time without a zone"

EPOCH = {10: 1, 13: 1000, 16: 1_000_000}
"""Digits of a moment since 1970 -> parts of a second that it counts."""


class Moment(NamedTuple):
    """When a picture was taken, by its EXIF.

    Attributes:
        seconds: since 1970 UTC; None where it does not say.
        remark: what has to be said of that, as a noun in the singular; empty where nothing has.
    """

    seconds: float | None = None
    remark: str = ""


class PathReader:
    """What the path of a picture says of it.

    Args:
        rule: ``folder``: the camera is called as the picture's folder; or a regular expression that is looked for in
            the path, where it fits last, with groups called ``camera``, ``time``, ``track`` or ``person``; a group
            of another name is an attribute, and a single one without a name the camera.
        zone: of times that say none.

    Attributes:
        fits: paths that said something.

    Raises:
        ConfigError: it is no expression, or has no group.
    """

    def __init__(self, rule: str, zone: tzinfo = UTC):
        self.rule, self.zone, self.fits = rule, zone, 0
        self._left = PATIENCE
        self._expression = None if rule == "folder" else compiled(rule)

    def __call__(self, path: str) -> dict[str, Any]:
        """What a path says, by name; nothing where it says nothing, which is noted.

        Raises:
            ConfigError: the expression takes longer than anybody waits.
        """
        if self._expression is None:
            self.fits += 1
            return {"camera": folder_of(path)}
        said = {name: value for name, value in self._search(path).items() if value}
        if not said:
            note("unmatched --camera-from path", path)
            return {}
        self.fits += 1
        if (text := said.get("time")) is not None:
            if (moment := name_moment(text, self.zone)) is None:
                note("unreadable time in a path", path)
                said.pop("time")
            else:
                said["time"] = moment
        return said

    def _search(self, path: str) -> dict[str, Any]:
        assert self._expression is not None
        started = time.process_time()
        try:
            with limited(self._left):
                last = deque(self._expression.finditer(path), maxlen=1)
        except TimeoutError:
            raise ConfigError(
                f"--camera-from {self.rule!r} has taken more than {PATIENCE:.0f} s, last on {path!r}: parts of it "
                "repeat in one another, as in (a+)+; write it so that a text fits in one way only"
            ) from None
        self._left += FAIR - (time.process_time() - started)
        return (last[0].groupdict() or {"camera": last[0][1]}) if last else {}


def compiled(rule: str) -> re.Pattern[str]:
    """The expression of a rule.

    Raises:
        ConfigError: it is none, or its groups say nothing.
    """
    try:
        expression = re.compile(rule)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"--camera-from {rule!r} is neither folder nor a regular expression ({error}); for example "
            r"'(?P<camera>cam\d+)_(?P<time>\d+)'"
        ) from None
    if not expression.groupindex and expression.groups != 1:
        raise ConfigError(
            f"--camera-from {rule!r} has no group called camera, time, track or person{nearest(rule, ['folder'])}; "
            r"give folder, or for example '(?P<camera>cam\d+)_(?P<time>\d+)'"
        )
    return expression


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Bound the processor time of a block; the engine of expressions lets itself be interrupted.

    Only the main thread of a process hears of it, and not on Windows; elsewhere nothing is bounded.

    Raises:
        TimeoutError: it took longer.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, max(seconds, 0.001))
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def folder_of(path: str) -> str:
    """Name of the folder a picture lies in; of the shard, where it lies in no folder of that."""
    name = PurePosixPath(path.replace("!", "/")).parent.name
    return name.removesuffix(".tar")


def name_moment(text: str, zone: tzinfo) -> float | None:
    """Seconds since 1970 UTC of a time in a name; None where it has no form that is read.

    Digits alone are seconds (10, also with a fraction), milliseconds (13) or microseconds (16) since 1970, or a date,
    with or without a time: 8, 12, 14, or 14 and up to six for the fraction.
    """
    digits, _, fraction = text.partition(".")
    if digits.isascii() and digits.isdecimal() and len(digits) in EPOCH and (not fraction or fraction.isdecimal()):
        return float(text) / EPOCH[len(digits)]
    found = NAME_TIME.fullmatch(text)
    if found is None:
        return None
    *numbers, fraction, offset = found.groups()
    try:
        moment = datetime(*(int(number or 0) for number in numbers))  # pyright: ignore[reportArgumentType]
        moment += timedelta(seconds=float(f"0.{fraction}")) if fraction else timedelta()
        return moment.replace(tzinfo=offset_of(offset) or zone).timestamp()
    except (ValueError, OverflowError):
        return None


def offset_of(text: str | None) -> tzinfo | None:
    """The zone of ``+02:00`` or ``Z``; None where a text is neither."""
    if text == "Z":
        return UTC
    found = OFFSETS.fullmatch(text or "")
    if found is None:
        return None
    away = timedelta(hours=int(found[2]), minutes=int(found[3]))
    return timezone(-away if found[1] == "-" else away) if away < timedelta(hours=24) else None


def time_zone(name: str) -> tzinfo:
    """The zone of ``UTC``, ``Europe/Berlin`` or ``+02:00``; ``local`` is this machine's.

    Raises:
        ConfigError: there is none of that name.
    """
    if name == "local":
        return LocalZone()
    if (offset := offset_of(name)) is not None or name == "UTC":
        return offset or UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        close = nearest(name, available_timezones())
        raise ConfigError(
            f"--time-zone {name!r} is no zone{close or ','} wanted UTC, local, an offset such as +02:00, or a name "
            "such as Europe/Berlin".replace("?,", "?")
        ) from None


class LocalZone(tzinfo):
    """The zone of this machine, with its summer times."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """See :meth:`datetime.tzinfo.utcoffset`."""
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:
        """See :meth:`datetime.tzinfo.dst`."""
        return None

    def tzname(self, dt: datetime | None) -> str:
        """See :meth:`datetime.tzinfo.tzname`."""
        return "local"


def exif_moment(content: bytes, zone: tzinfo) -> Moment:
    """When a picture was taken, by its EXIF: DateTimeOriginal with OffsetTimeOriginal.

    Args:
        content: of its file.
        zone: that is taken where EXIF names none.
    """
    if kind_of(content[:32]) not in ALWAYS and not any(mark in content for mark in TURNING):
        return Moment()
    try:
        with open_file(content, "the picture") as image:
            tags = image.getexif().get_ifd(EXIF)
            said, offset, fraction = (str(tags.get(tag) or "").strip("\0 ") for tag in (TAKEN, OFFSET, FRACTION))
    except RegardError:
        return Moment(None, "unreadable EXIF")
    if not said.strip(": 0"):
        return Moment()
    found = EXIF_TIME.fullmatch(said)
    try:
        if found is None:
            raise ValueError(said)
        moment = datetime(*map(int, found.groups()))  # pyright: ignore[reportArgumentType]
        if fraction.isascii() and fraction.isdecimal():
            moment += timedelta(seconds=float(f"0.{fraction}"))
        known = offset_of(offset)
        return Moment(moment.replace(tzinfo=known or zone).timestamp(), "" if known else ZONELESS)
    except (ValueError, OverflowError):
        return Moment(None, "unreadable EXIF time")
