"""One process at a time in a folder; the lock goes with the process, whatever ends it."""

from __future__ import annotations

import os
from pathlib import Path

from regard.errors import StorageError
from regard.storage import open_regular

__all__ = ["FolderLock"]


class FolderLock:
    """Hold ``folder/lock`` until :meth:`release`.

    Raises:
        StorageError: another process holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path):
        path = folder / "lock"
        try:
            self._file = open_regular(path, "a+b", private=True, buffering=0)
            self._file.seek(0)  # where every process locks the same byte
        except OSError as error:
            raise StorageError(f"cannot open {folder} ({error.strerror}); check the path and its permissions") from None
        try:
            _lock(self._file.fileno())
        except OSError:
            holder = os.pread(self._file.fileno(), 32, 0).decode("ascii", "replace").strip() if os.name != "nt" else ""
            self._file.close()
            raise StorageError(
                f"{folder} is in use by process {holder or 'unknown'}; end it first, or ask it over HTTP (regard serve)"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()).encode())

    def release(self) -> None:
        """Let the next one in."""
        self._file.close()


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
