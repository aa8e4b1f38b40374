"""One process at a time in a folder; the lock goes with the process, whatever ends it."""

from __future__ import annotations

import os
from pathlib import Path

from regard.errors import StorageError

__all__ = ["FolderLock"]


class FolderLock:
    """Hold ``folder/lock`` until :meth:`release`.

    Raises:
        StorageError: another process holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path):
        path = folder / "lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"cannot open {folder} ({error.strerror}); check the path and its permissions") from None
        try:
            _lock(self._descriptor)
        except OSError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() if os.name != "nt" else ""
            os.close(self._descriptor)
            raise StorageError(
                f"{folder} is in use by process {holder or 'unknown'}; end it first, or ask it over HTTP (regard serve)"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._descriptor)


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
