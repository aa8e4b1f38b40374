"""An append-only log of who ranked people by what, when, and what came of it.

One JSON line for everything that was asked (see :mod:`regard.gallery.use`). Every line holds its number and the digest
of the line before, and is sealed (:mod:`regard.gallery.seal`), so that a line changed, taken out or cut off shows:
:meth:`AuditLog.check` says which. Photographs and pictures are named by digests and never kept. Lines of versions that
sealed nothing are carried on: the first sealed line holds the digest of the last of them.

Several processes may append at once. A line is on the disk, and the seal that forgets its key as well, when
:meth:`AuditLog.append` returns; what a kill leaves half written was never acknowledged, and the next line replaces it.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from regard.errors import DataError, StorageError
from regard.gallery.audit_check import CONTINUED, Verdict, check_lines, entry_of, turns_of
from regard.gallery.life import UNSEEN, Life, ended_lives, open_uses
from regard.gallery.seal import (
    KEYS,
    START,
    Chain,
    End,
    Seal,
    chain_name,
    check_apart,
    digest,
    keys_folder,
    known_seals,
    read_sealed,
    true_path,
    write_key,
)
from regard.parsing import parse_json
from regard.storage import append_whole, open_regular, open_to_append, plain_text, write_private

__all__ = ["HEADS", "AuditLog", "read_heads"]

HEADS = "REGARD_AUDIT_HEAD"
"""Variable of the environment that names where the head goes after every line: a file, or ``syslog``."""

BLOCK = 64 * 1024
LONGEST = 16 * 2**20
"""Bytes of a line that is looked for."""


class AuditLog:
    """A file that only grows.

    Args:
        path: the file; made by the first line.
        database: id of the gallery whose uses it holds; None where it holds those of several.
    """

    def __init__(self, path: Path, database: str | None = None):
        self.path = path
        self._database = database
        self._busy = threading.Lock()
        self._life = Life(path)

    def append(self, **facts: Any) -> None:
        """Add a line with the time and the facts; on the disk when this returns.

        Raises:
            StorageError: it could not be written, so what was asked must not be answered.
        """
        with self._busy, self._logged():
            self._write(facts)

    def begin_use(self) -> str:
        """Begin a use, and give it a name.

        Raises:
            StorageError: it could not be noted that it goes on, so what was asked must not be answered.
        """
        with self._logged():
            return self._life.begin()

    def end_use(self) -> None:
        """End a use whose end was appended, or which nothing was appended of."""
        self._life.end()

    def end_unseen(self) -> int:
        """Append the end of every use whose process was killed, with its last line as the last sign of life; how many.

        Raises:
            StorageError: it could not be written.
        """
        uses: dict[str, dict[str, Any]] | None = None
        number = 0
        with self._logged():
            for name in ended_lives(self.path):
                uses = open_uses(self.entries()) if uses is None else uses
                for use in [use for session, use in uses.items() if session.startswith(name)]:
                    self.append(**use | {"kind": "end", "reason": UNSEEN})
                    number += 1
        return number

    def count(self) -> int:
        """Searches that were logged."""
        return sum(entry.get("kind", "search") == "search" for entry in self.entries() if "damaged" not in entry)

    def entries(self) -> Iterator[dict[str, Any]]:
        """What each line says; of one that is none, ``{"damaged": its number}``."""
        for number, line in enumerate(self._lines(), 1):
            entry = entry_of(line)
            yield {"damaged": number} if entry is None else entry

    def verify(self) -> int | None:
        """Number, from 1, of the first line that is not what was written or is missing; None where the log is whole."""
        return self.check().line

    def check(
        self,
        first: bytes | None = None,
        heads: Sequence[Mapping[str, Any]] | None = None,
        end: Seal | None = None,
        before: Sequence[Path] = (),
    ) -> Verdict:
        """Check the log from its first line to its end.

        Args:
            first: a first key that was taken off the machine; lines sealed by it must be there.
            heads: heads that were sent elsewhere; those of this log must be found in it.
            end: the seal of the log, where it was copied from another machine; None takes the one that is kept here.
            before: files with the lines of before, as :meth:`archive` wrote them, the oldest first.

        Raises:
            StorageError: the seal cannot be read.
            DataError: none of the heads is of this log.
        """
        here, size = self._snapshot()
        seals = list(known_seals())
        chains = {seal.name: seal.chain if seal.first is None else Chain(seal.first) for seal in seals}
        own = end or here
        if own is not None:
            chains.setdefault(own.name, own.chain if own.first is None else Chain(own.first))
        name = None if first is None else chain_name(first)
        if first is not None and name is not None:
            chains[name] = Chain(first)
        if own is not None:
            ends = [own.end, *own.carried]
        else:
            ends = ends_of(seals, self._turns())
        found = check_lines(
            chain(*(AuditLog(path)._lines() for path in before), self._lines(size, here)),
            chains=chains,
            ends=ends,
            heads=None if heads is None else self._heads(heads),
            needed=name,
            log=None if end else str(true_path(self.path)),
        )
        found.former = own.former if own else ()
        return found

    def head(self) -> dict[str, Any]:
        """Where the log ends: to be kept elsewhere, so that this end must be found in the log for ever.

        Raises:
            DataError: nothing was sealed here.
        """
        seal = Seal.of(self.path)
        if seal is None or not seal.number:
            raise DataError(f"nothing was sealed in {self.path} yet; its head comes with the first search")
        return head_of(seal)

    def take_key(self, path: Path) -> None:
        """Take the first key off this machine: who takes it over later cannot write the lines of before anew.

        Args:
            path: a new file for it.

        Raises:
            DataError: it was taken before.
            StorageError: the file is there already, or one of the two cannot be written; nothing was taken then.
        """
        with self._moving(f"the key of {self.path} could not be taken to", path) as file:
            seal, _ = self._settled(file)
            if seal.first is None:
                raise DataError(f"the first key of {self.path} was taken before; look where it was put then")
            write_key(path, seal.first)
            seal.taken().save()

    def archive(self, path: Path) -> int:
        """Move the lines to another file; the log goes on with a line that holds number and digest of the last of them.

        Args:
            path: a new file for them.

        Returns:
            How many lines that is.

        Raises:
            DataError: there is none.
            StorageError: the file is there already, or one of the two cannot be written; no line is lost.
        """
        with self._moving(f"the lines of {self.path} could not be archived in", path) as file:
            seal, size = self._settled(file)
            number, previous, _ = self._end(file, seal, size)
            lines = count_lines(file)
            if not lines:
                raise DataError(f"there is nothing in {self.path} yet to archive")
            copy_to(file, path)
            facts = {"kind": CONTINUED, "archive": plain_text(path.name), "turns": self._turns()}
            facts["open"] = list(open_uses(self.entries()).values())
            line, seal = sealed_line(replace(seal, size=0), facts, number, previous)
            write_private(self.path, line)
            seal.move()
            return lines

    def begin_anew(self) -> None:
        """Begin the log of a new gallery, where that of another lay before and went with it; say so in its seal."""
        seal = None if self.path.exists() else Seal.of(self.path)
        if seal is None or self._database in (None, seal.database):
            return
        former = (*seal.former, seal.retired()) if seal.number else seal.former
        try:
            Seal.new(seal.log, 0, self._database, former=former).save()
        except OSError as error:
            raise StorageError(f"the seal of {self.path} could not be written ({error.strerror})") from error

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Let what the disk refuses come out as ours, where something is to be logged."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"what was asked could not be logged in {self.path} ({reason(error, self.path)}), so it is not "
                "answered; mend that, then ask again"
            ) from error

    @contextmanager
    def _moving(self, refused: str, path: Path) -> Iterator[Any]:
        """Hold the log while something of it goes to a new file; what the disk refuses comes out as ours."""
        try:
            with self._busy, open_to_append(self.path) as file:
                yield file
        except FileExistsError:
            raise StorageError(f"{path} is there already; give the name of a new file") from None
        except OSError as error:
            raise StorageError(f"{refused} {path} ({error.strerror}); give another place") from error

    def _write(self, facts: Mapping[str, Any]) -> None:
        with open_to_append(self.path) as file:
            seal, size = self._settled(file)
            number, previous, lead = self._end(file, seal, size)
            line, seal = sealed_line(replace(seal, size=size + len(lead)), facts, number, previous)
            append_whole(file, lead + line)
            try:
                seal.move()
            except OSError:
                os.ftruncate(file.fileno(), size)
                raise
        publish(seal)

    def _settled(self, file: Any) -> tuple[Seal, int]:
        """The seal as the log has it, and bytes of the log: what a kill left between the two is put right."""
        size = os.fstat(file.fileno()).st_size
        seal = Seal.of(self.path)
        if seal is None:
            if self._database is not None:
                check_apart(self.path)
            carried = ends_of(known_seals(), self._turns())
            seal = Seal.new(str(true_path(self.path)), size, self._database, carried=tuple(carried))
            seal.save()
        if size != seal.size and (seal.size > size or fits(seal, line_at(file, 0))):
            seal = replace(seal, size=0)  # cut, or continued in a new file when a kill came
        while seal.size < size and fits(seal, line := line_at(file, seal.size)):
            seal = behind(seal, line)
            seal.move()
        if seal.size < size:
            last, whole = last_line(file, size)
            if not whole and size - len(last) >= seal.size:  # a kill left it; nobody was told that it was written
                size -= len(last)
                os.ftruncate(file.fileno(), size)
        return seal, size

    def _end(self, file: Any, seal: Seal, size: int) -> tuple[int, str, bytes]:
        """Number and digest of the line before the next one, and what must stand between the two."""
        if size == seal.size and seal.number:
            return seal.number, seal.digest, b""
        last, whole = last_line(file, size)
        part = read_sealed(last)
        entry = entry_of(last) if part else None
        number = entry["number"] if entry else count_lines(file) + (not whole)
        lead = b"" if whole else b"\n"
        if number < seal.number:  # the end that was sealed is gone: its number and digest stay, so that this shows
            return seal.number, seal.digest, lead
        return number, digest(last) if last else START, lead

    def _turns(self) -> dict[str, int]:
        """Name of each chain that sealed lines here -> how many, those of before in other files counted."""
        turns: dict[str, int] = {}
        for number, line in enumerate(self._lines()):
            part = read_sealed(line)
            if part and not number:
                turns |= turns_of(entry_of(line) or {})
            if part:
                turns[part.key] = part.turn
        return turns

    def _snapshot(self) -> tuple[Seal | None, int]:
        """The seal and the size of the log at one moment."""
        if not self.path.exists():
            return Seal.of(self.path), 0
        try:
            with open_regular(self.path) as file:
                if os.name != "nt":
                    import fcntl

                    fcntl.flock(file.fileno(), fcntl.LOCK_SH)
                return Seal.of(self.path), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise StorageError(f"the log {self.path} cannot be read ({error.strerror}); mend that first") from error

    def _lines(self, size: int | None = None, seal: Seal | None = None) -> Iterator[bytes]:
        """The lines, without their breaks; one that a kill left half written behind the seal is none yet."""
        if not self.path.exists():
            return
        read = 0
        try:
            opened = open_regular(self.path)
        except OSError as error:
            raise StorageError(f"the log {self.path} cannot be read ({error.strerror}); mend that first") from error
        with opened as file:
            for line in file:
                read += len(line)
                if size is not None and read > size:
                    return
                if not line.endswith(b"\n") and seal is not None and read - len(line) >= seal.size:
                    return
                yield line.removesuffix(b"\n")

    def _heads(self, heads: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        here = str(true_path(self.path))
        keys = self._turns()
        mine = [head for head in heads if head["log"] == here or head["key"] in keys]
        if not mine:
            raise DataError(f"none of {len(heads)} heads is of {self.path}: it is another log, or was written anew")
        return {head["number"]: head["digest"] for head in mine}


def sealed_line(seal: Seal, facts: Mapping[str, Any], number: int, previous: str) -> tuple[bytes, Seal]:
    """The next line with its break, and the seal behind it.

    Args:
        seal: at the place where the line will stand.
        facts: what it says.
        number, previous: of the line before.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    values = {"time": now, **facts, "number": number + 1, "previous": previous}
    body = json.dumps(values, sort_keys=True).encode()
    line = seal.line(body)
    return line + b"\n", behind(seal, line)


def behind(seal: Seal, line: bytes) -> Seal:
    """The seal behind a line that it sealed."""
    part = read_sealed(line)
    assert part is not None
    entry, size = parse_json(part.body), seal.size + len(line) + 1
    if entry.get("kind") == CONTINUED:
        seal = replace(seal, chain=seal.chain.fresh())
    return seal.after(part.body, number=entry["number"], digest=digest(line), size=size, time=entry["time"])


def reason(error: OSError, log: Path) -> str:
    """Why a line could not be written, and where that was if not in the log itself."""
    place, text = str(error.filename or log), error.strerror or str(error)
    if place == str(log):
        return text
    hint = f"; {KEYS} names another folder for the seal" if place.startswith(str(keys_folder())) else ""
    return f"{text}: {place}{hint}"


def fits(seal: Seal, line: bytes) -> bool:
    """Whether a line is the next one of a seal."""
    part = read_sealed(line)
    return part is not None and part[1:] == (seal.name, seal.chain.turn + 1, seal.chain.proof(part.body))


def line_at(file: Any, place: int) -> bytes:
    """The line that begins at a place of a file, without its break; empty where it has none."""
    file.seek(place)
    line, end, _ = file.read(LONGEST).partition(b"\n")
    return line if end else b""


def ends_of(seals: Iterable[Seal], turns: Mapping[str, int]) -> list[End]:
    """The ends of those chains that have sealed lines of a log that came here from another place."""
    return [seal.end for seal in seals if seal.name in turns]


def copy_to(file: Any, path: Path) -> None:
    """Copy a file to a new one, its owner's alone, on the disk when this returns; raises OSError."""
    file.seek(0)
    with open_regular(path, "xb", private=True) as out:
        for block in iter(lambda: file.read(BLOCK), b""):
            out.write(block)
        out.flush()
        os.fsync(out.fileno())


def head_of(seal: Seal) -> dict[str, Any]:
    """What may be known of a seal everywhere."""
    return {"log": seal.log, "key": seal.name, "number": seal.number, "digest": seal.digest, "time": seal.time}


def publish(seal: Seal) -> None:
    """Send the head where ``REGARD_AUDIT_HEAD`` says; raises OSError."""
    place = os.environ.get(HEADS)
    if not place:
        return
    text = json.dumps(head_of(seal))
    if place == "syslog":
        if os.name == "nt":
            raise OSError(errno.ENOSYS, f"there is no syslog here; name a file in {HEADS}")
        import syslog

        syslog.syslog(syslog.LOG_AUTHPRIV | syslog.LOG_NOTICE, f"regard audit {text}")
        return
    with open_to_append(Path(os.path.realpath(place))) as file:  # whoever named it may name a link
        append_whole(file, text.encode() + b"\n")


def read_heads(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The heads in a file's lines, whatever stands before them in a line, as in a system's journal."""
    heads = []
    for line in lines:
        _, brace, rest = line.partition(b"{")
        try:
            head = parse_json(brace + rest.rstrip())
            if isinstance(head["number"], int):
                heads.append({name: head[name] for name in ("log", "key", "number", "digest", "time")})
        except (ValueError, KeyError, TypeError):
            continue
    return heads


def last_line(file: Any, size: int) -> tuple[bytes, bool]:
    """The last line of a file without its break, and whether it has one; reads no more than that line."""
    found, start = b"", size
    while start > 0 and found.rstrip(b"\n").count(b"\n") == 0:
        start = max(0, start - BLOCK)
        file.seek(start)
        found = file.read(min(BLOCK, size - start - len(found))) + found
    return found.rstrip(b"\n").rpartition(b"\n")[2], not found or found.endswith(b"\n")


def count_lines(file: Any) -> int:
    """Line breaks in a file."""
    file.seek(0)
    return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
