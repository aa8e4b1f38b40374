"""An append-only log of who searched for what, and when.

One JSON line per search. Every line holds the digest of the line before it, so that a line changed or taken out shows:
:meth:`AuditLog.verify` names the first one that does not fit. Photographs are named by the digest of their bytes and
never kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regard.errors import StorageError
from regard.parsing import parse_json
from regard.storage import open_regular, read_regular

__all__ = ["AuditLog"]

START = "0" * 64


class AuditLog:
    """A file that only grows.

    Args:
        path: the file; made by the first line.
    """

    def __init__(self, path: Path):
        self.path = path
        self._busy = threading.Lock()
        self._end: tuple[int, str] | None = None  # size of the file after our last line, and that line's digest

    def append(self, **facts: Any) -> None:
        """Add a line with the time and the facts; on the disk when this returns.

        Raises:
            StorageError: it could not be written, so the search must not be answered.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._busy:
            try:
                self._write({"time": now, **facts})
            except OSError as error:
                raise StorageError(
                    f"the search could not be logged in {self.path} ({error.strerror}), so it was not made; mend that"
                ) from error

    def count(self) -> int:
        """Searches that were logged."""
        return len(self._lines())

    def verify(self) -> int | None:
        """Number, from 1, of the first line that does not follow from the one before; None where all do."""
        previous = START
        for number, line in enumerate(self._lines(), 1):
            try:
                fits = parse_json(line)["previous"] == previous
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                return number
            previous = digest(line)
        return None

    def _lines(self) -> list[bytes]:
        return read_regular(self.path).splitlines() if self.path.exists() else []

    def _write(self, facts: dict[str, Any]) -> None:
        with open_regular(self.path, "ab", private=True, buffering=0) as file:
            descriptor = file.fileno()
            wait_for(descriptor)
            size = os.fstat(descriptor).st_size
            if self._end is None or self._end[0] != size:  # the first line, or another process wrote one
                lines = self._lines()
                self._end = size, digest(lines[-1]) if lines else START
            line = json.dumps(facts | {"previous": self._end[1]}, sort_keys=True).encode()
            try:
                if os.write(descriptor, line + b"\n") != len(line) + 1:
                    raise OSError(28, "No space left on device")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            self._end = size + len(line) + 1, digest(line)


def wait_for(descriptor: int) -> None:
    """Let no other process write until the file is closed; Windows has no such lock."""
    if os.name != "nt":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def digest(line: bytes) -> str:
    """What the next line says of this one."""
    return hashlib.sha256(line).hexdigest()
