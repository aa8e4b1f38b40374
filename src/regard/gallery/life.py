"""Which uses of a log have ended though nobody wrote so: those of a process that was killed.

While uses are under way, a process holds a file beside the log, ``.audit.jsonl.uses/3f9a01bc``; its uses are called
``3f9a01bc`` and eight digits more. The system lets go of the file when the process ends, however it does. Nothing is in
it: what the end has to say is in the log.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from regard.gallery.audit_check import CONTINUED
from regard.storage import open_regular, refuse_link

__all__ = ["UNSEEN", "Life", "ended_lives", "open_uses"]

UNSEEN = "a stop that was not seen"
"""Why such a use ended; ``ended`` is its last sign of life."""

NAME = re.compile("[0-9a-f]{8}")


class Life:
    """The uses of a log that are under way in this process.

    Args:
        log: path of the log.
    """

    def __init__(self, log: Path):
        self._folder = folder_of(log)
        self._busy = threading.Lock()
        self._held: int | None = None
        self._name = ""
        self._uses = 0

    def begin(self) -> str:
        """Begin a use, which gets a name; raises OSError."""
        with self._busy:
            if self._held is None:
                self._take()
            self._uses += 1
            return self._name + secrets.token_hex(4)

    def end(self) -> None:
        """End a use, whose end is in the log."""
        with self._busy:
            self._uses -= 1
            if not self._uses:
                with suppress(OSError):  # it is looked at once more then, and nothing found
                    (self._folder / self._name).unlink()
                self._let_go()

    def _take(self) -> None:
        refuse_link(self._folder)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        while self._held is None:
            self._name = secrets.token_hex(4)
            self._held = os.open(self._folder / self._name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            hold(self._held)
            os.fsync(self._held)
            if os.name != "nt" and not os.fstat(self._held).st_nlink:  # taken for one that was left, before it was held
                self._let_go()

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    __del__ = _let_go


def hold(descriptor: int, *, wait: bool = True) -> None:
    """Hold a file for this process; raises OSError where another does and it is not waited for. Not on Windows."""
    if os.name != "nt":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def folder_of(log: Path) -> Path:
    """Where the files of the processes lie that use a log."""
    return log.with_name(f".{log.name}.uses")


def ended_lives(log: Path) -> Iterator[str]:
    """Names of processes that ended without a word, as they began; each is forgotten when the next is asked for.

    Raises:
        OSError: the folder cannot be read or written.
    """
    folder = folder_of(log)
    if os.name == "nt" or not folder.is_dir():  # there, nobody can tell
        return
    refuse_link(folder)
    with os.scandir(folder) as found:
        begun = []
        for entry in found:
            with suppress(FileNotFoundError):
                begun.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    for _, name in sorted(begun):
        if not NAME.fullmatch(name):
            continue
        path = folder / name
        with suppress(FileNotFoundError), open_regular(path, "rb+", follow=False) as file:
            try:
                hold(file.fileno(), wait=False)
            except BlockingIOError:
                continue
            yield path.name
            path.unlink()


def open_uses(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Uses that have begun and not ended, by name: what the line of their end says, and its ``ended``, the last line.

    Args:
        entries: the lines of a log; the first may hold the uses that were under way when the lines of before went.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        before = entry.get("open") if entry.get("kind") == CONTINUED else None
        for use in [*(before if isinstance(before, list) else []), entry]:
            session = use.get("session") if isinstance(use, Mapping) else None
            if not isinstance(session, str):
                continue
            if use.get("kind") == "end":
                found.pop(session, None)
            elif use is entry:
                many = found.get(session, {}).get("uses")
                uses = 1 + (many if isinstance(many, int) else 0)
                found[session] = told(use) | {"ended": use.get("time"), "uses": uses}
            else:
                found[session] = told(use)
    return found


def told(use: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a use in its lines, and in the line that it was open."""
    names = ("who", "role", "address", "session", "gallery", "began", "ended", "uses")
    return {name: use.get(name) for name in names}
