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
        self._last: str | None = None

    def append(self, **facts: Any) -> None:
        """Add a line with the time and the facts; on the disk when this returns.

        Raises:
            StorageError: it could not be written, so the search must not be answered.
        """
        with self._busy:
            try:
                if self._last is None:
                    lines = self._lines()
                    self._last = digest(lines[-1]) if lines else START
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                line = json.dumps({"time": now, **facts, "previous": self._last}, sort_keys=True).encode()
                self._write(line)
            except OSError as error:
                raise StorageError(
                    f"the search could not be logged in {self.path} ({error.strerror}), so it was not made; make room"
                ) from error
            self._last = digest(line)

    def verify(self) -> int | None:
        """Number, from 1, of the first line that does not follow from the one before; None where all do."""
        previous = START
        for number, line in enumerate(self._lines(), 1):
            try:
                fits = json.loads(line)["previous"] == previous
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                return number
            previous = digest(line)
        return None

    def _lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines() if self.path.exists() else []

    def _write(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line + b"\n") != len(line) + 1:
                    raise OSError(28, "No space left on device")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def digest(line: bytes) -> str:
    """What the next line says of this one."""
    return hashlib.sha256(line).hexdigest()
