"""What the service writes of its work: one line of JSON for every request, to the standard error.

No line holds a token, what follows the question mark of an address, the name of a picture or of a gallery, or what was
searched for. A thread of its own writes, and lines are dropped and counted where nobody takes them: whoever reads too
slowly holds up no request.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

__all__ = ["LEVELS", "ElsewhereError", "Journal", "place_of"]

LEVELS = ("error", "warning", "info")
"""What is written: failures of the service; refused requests too; every request."""

WAITING = 4096
"""Lines that wait to be written."""


class Journal:
    """The lines of a service.

    Args:
        level: the last of ``LEVELS`` that is written.
        stream: where to; None is the standard error.
    """

    def __init__(self, level: str = "info", stream: IO[str] | None = None):
        self.level = LEVELS.index(level)
        self.dropped = 0
        self._stream = stream or sys.stderr
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write_all, name="regard-journal", daemon=True)
        self._thread.start()

    def write(self, level: str, **facts: Any) -> None:
        """Write a line, where that level is written; never waits."""
        if LEVELS.index(level) > self.level:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level} | facts
        if self.dropped:
            line["dropped"] = self.dropped
        try:
            self._lines.put_nowait(json.dumps(line))
            self.dropped = 0
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for no longer than a second."""
        try:
            self._lines.put(None, timeout=0.5)
        except queue.Full:
            return
        self._thread.join(1)

    def listen(self, *names: str) -> None:
        """Write the failures that libraries tell of."""
        for name in names:
            logger = logging.getLogger(name)
            logger.handlers = [_Handler(self)]
            logger.propagate = False
            logger.setLevel(logging.ERROR)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads it any more
                self.dropped += 1


class _Handler(logging.Handler):
    """Takes what a library logs."""

    def __init__(self, journal: Journal):
        super().__init__(logging.ERROR)
        self.journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        fault = {"fault": place_of(error)} if error is not None else {}
        message = " ".join(record.getMessage().split())[:200]
        self.journal.write("error", source=record.name, message=message, **fault)


class ElsewhereError(Exception):
    """Another process failed; ``place`` is what :func:`place_of` said there."""

    def __init__(self, place: str):
        super().__init__(place)
        self.place = place[:300]


def place_of(error: BaseException) -> str:
    """What kind of error it is and where it came from; its text may tell of people, and is left out."""
    if isinstance(error, ElsewhereError):
        return error.place
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {where}" if where else type(error).__name__
