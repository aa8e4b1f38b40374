"""The seal of a log: what proves, to whoever holds its first key, that no line was changed, taken out or cut off.

Every line is sealed with a key of its own (HMAC-SHA256), made of the key before by a one-way function; the key before
is then forgotten. Who takes over the machine finds the key of the next line and can make none of those before it, so
the lines of before cannot be written anew (B. Schneier and J. Kelsey, Secure audit logs to support computer forensics,
1999). The end is kept by a sum over all lines, under a second branch of each key that the lines do not show (D. Ma and
G. Tsudik, A new approach to secure logging, 2009): a shorter log has another sum, which nobody can make afterwards.

The state (next key, sum, where the log ends, and the first key until :meth:`Seal.taken`) lies outside the folder of
the log: in :func:`keys_folder`, one private file for each log, by the log's path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from regard.errors import StorageError
from regard.parsing import parse_json
from regard.storage import open_regular, plain_text, read_regular, write_private

__all__ = [
    "KEYS", "START", "Chain", "End", "Seal", "Sealed", "chain_name", "check_apart", "digest", "keys_folder",
    "known_seals", "read_key", "read_sealed", "read_state", "true_path", "write_key",
]  # fmt: skip

KEYS = "REGARD_AUDIT_KEYS"
"""Variable of the environment that names the folder of the seals."""

START = "0" * 64
"""What the first line says of the line before it."""

LINE = re.compile(rb', "seal": "([0-9a-f]{16})\.([1-9][0-9]{0,15})\.([0-9a-f]{64})"\}\Z')
FORMAT = "regard-seal-1"
SECTOR = 512
"""Bytes of each of the two places for what moves with every line, at the beginning of the file."""

BLANK = b" " * (SECTOR - 1) + b"\n"

KEY_FORMAT = "regard-audit-key-1"


def digest(line: bytes) -> str:
    """What the next line says of this one."""
    return hashlib.sha256(line).hexdigest()


class Sealed(NamedTuple):
    """A line and its seal: what was sealed, by which key, as which of that key's lines, and the proof."""

    body: bytes
    key: str
    turn: int
    proof: str


def read_sealed(line: bytes) -> Sealed | None:
    """The parts of a sealed line, without its line break; None where it carries no seal."""
    match = LINE.search(line[-128:])
    if match is None:
        return None
    key, turn, proof = (part.decode() for part in match.groups())
    return Sealed(line[: len(line) - len(match[0])] + b"}", key, int(turn), proof)


class Chain(NamedTuple):
    """Where a chain of keys stands.

    Attributes:
        key: of the next line, 32 bytes.
        total: sum over the lines so far, 32 bytes.
        turn: how many lines that is.
    """

    key: bytes
    total: bytes = bytes(32)
    turn: int = 0

    def proof(self, body: bytes) -> str:
        """Of the next line."""
        return hmac.digest(self.key, b"line" + body, "sha256").hex()

    def after(self, body: bytes) -> Chain:
        """The chain behind that line; this one is to be forgotten."""
        hidden = hmac.digest(self.key, b"sum" + body, "sha256")
        total = hashlib.sha256(self.total + hidden).digest()
        return Chain(hmac.digest(self.key, b"next", "sha256"), total, self.turn + 1)

    def fresh(self) -> Chain:
        """The chain with a new sum, as a log has it whose lines of before lie in another file."""
        return self._replace(total=bytes(32))

    def skipped(self, turn: int) -> Chain:
        """The chain behind so many lines that are not at hand, with a new sum; this one where it is behind them."""
        key = self.key
        for _ in range(self.turn, turn):
            key = hmac.digest(key, b"next", "sha256")
        return Chain(key, bytes(32), turn) if turn > self.turn else self


class End(NamedTuple):
    """The last line that a chain sealed, as far as is known.

    Attributes:
        log: path of the log in which it was sealed.
        name, turn: of the chain.
        number, digest, time: of the line.
        total: sum of the chain there; None where it is not known.
    """

    log: str
    name: str
    turn: int
    number: int
    digest: str
    time: str | None
    total: bytes | None = None


def chain_name(first: bytes) -> str:
    """What the lines call a chain: 16 digits that say nothing of its first key."""
    return hmac.digest(first, b"name", "sha256").hex()[:16]


@dataclass(frozen=True, slots=True)
class Seal:
    """The state of a log's seal on this machine.

    Attributes:
        log: path of the log.
        name: of the chain.
        chain: where it stands.
        first: the first key; None once it was taken away.
        number, digest, size, time: of the last line that it sealed: its number, its digest, bytes of the log up to its
            end, when.
        database: id of the gallery whose log it is, where that is known.
        former: logs of other galleries that lay at this path before: name, database, number, time of each.
        carried: ends of chains that had sealed lines of the log when it came here from another place.
    """

    log: str
    name: str
    chain: Chain
    first: bytes | None
    number: int = 0
    digest: str = START
    size: int = 0
    time: str | None = None
    database: str | None = None
    former: tuple[dict[str, Any], ...] = ()
    carried: tuple[End, ...] = ()

    @classmethod
    def new(cls, log: str, size: int, database: str | None, **known: Any) -> Seal:
        """A seal that begins behind so many bytes of a log; ``former`` and ``carried`` where there are any."""
        first = secrets.token_bytes(32)
        return cls(log, chain_name(first), Chain(first), first, size=size, database=database, **known)

    @property
    def end(self) -> End:
        """Its last line."""
        return End(self.log, self.name, self.chain.turn, self.number, self.digest, self.time, self.chain.total)

    @classmethod
    def of(cls, log: Path) -> Seal | None:
        """The seal of a log, as it was kept last; None where there is none.

        Raises:
            StorageError: it cannot be read, or is damaged.
        """
        path = place_of(log)
        try:
            return read_state(read_regular(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(path, error.strerror or str(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise unreadable(path, f"it is damaged: {' '.join(str(error).split())}") from error

    def line(self, body: bytes) -> bytes:
        """The next line, sealed, without a line break.

        Args:
            body: a JSON object.
        """
        return body[:-1] + f', "seal": "{self.name}.{self.chain.turn + 1}.{self.chain.proof(body)}"}}'.encode()

    def after(self, body: bytes, *, number: int, digest: str, size: int, time: str) -> Seal:
        """The seal behind that line."""
        chain = self.chain.after(body)
        return replace(self, chain=chain, number=number, digest=digest, size=size, time=time)

    def taken(self) -> Seal:
        """The seal without its first key: from now on this machine cannot make the lines of before."""
        return replace(self, first=None)

    def retired(self) -> dict[str, Any]:
        """What is remembered of it when the log of another gallery takes its place."""
        return {"name": self.name, "database": self.database, "number": self.number, "time": self.time}

    def save(self) -> None:
        """Keep it, whole, on the disk when this returns.

        Raises:
            OSError: the disk refused; what was kept before is intact.
        """
        values = {"format": FORMAT, "log": plain_text(self.log), "name": self.name, "database": self.database}
        values |= {"first": self.first.hex() if self.first else None, "former": list(self.former)}
        values["carried"] = [[plain_text(end.log), *end[1:-1]] for end in self.carried]
        slots = [self._slot(), BLANK] if self.chain.turn % 2 == 0 else [BLANK, self._slot()]
        write_private(place_of(Path(self.log)), b"".join(slots) + json.dumps(values).encode() + b"\n")

    def move(self) -> None:
        """Keep where the chain stands, and overwrite where it stood: the key before is gone.

        Nobody waits for the disk. There are two places, and the old one is overwritten when the new one is whole: a
        kill, or a disk that takes half, leaves the old state or the new one, and with the old one
        :class:`~regard.gallery.audit.AuditLog` finds the new one from the log's own lines.

        Raises:
            OSError: the disk refused; what was kept before is intact.
        """
        place = self.chain.turn % 2
        with open_regular(place_of(Path(self.log)), "rb+", follow=False, buffering=0) as file:
            file.seek(place * SECTOR)
            if file.write(self._slot()) != SECTOR:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.seek((1 - place) * SECTOR)
            with contextlib.suppress(OSError):  # the new state counts already; the next line overwrites this one
                file.write(BLANK)

    def _slot(self) -> bytes:
        values: dict[str, Any] = {"turn": self.chain.turn, "key": self.chain.key.hex(), "total": self.chain.total.hex()}
        values |= {"number": self.number, "digest": self.digest, "size": self.size, "time": self.time}
        text = json.dumps(values).encode()
        return (digest(text)[:16].encode() + b" " + text).ljust(SECTOR - 1) + b"\n"


def read_slot(data: bytes) -> dict[str, Any] | None:
    """What a place for the moving part holds; None where it is blank or not whole."""
    text = data[17:].rstrip()
    return parse_json(text) if text and data[:16] == digest(text)[:16].encode() else None


def read_state(data: bytes) -> Seal:
    """The seal that a file of :func:`keys_folder` keeps; raises ValueError, KeyError or TypeError where it is none."""
    slots = [read_slot(data[:SECTOR]), read_slot(data[SECTOR : 2 * SECTOR])]
    last = max((slot for slot in slots if slot), key=lambda slot: slot["turn"], default=None)
    if last is None:
        raise ValueError("it is not whole")
    values = parse_json(data[2 * SECTOR :]) | last
    if values["format"] != FORMAT:
        raise ValueError(f"its format is {values['format']!r}, wanted {FORMAT}")
    chain = Chain(bytes.fromhex(values["key"]), bytes.fromhex(values["total"]), int(values["turn"]))
    first = None if values["first"] is None else bytes.fromhex(values["first"])
    if len(chain.key) != 32 or len(chain.total) != 32 or (first is not None and chain_name(first) != values["name"]):
        raise ValueError("its keys do not fit")
    rest = {name: values[name] for name in ("number", "digest", "size", "time", "database")}
    past = {"former": tuple(values["former"]), "carried": tuple(End(*end) for end in values["carried"])}
    return Seal(values["log"], str(values["name"]), chain, first, **rest, **past)


def keys_folder() -> Path:
    """Where the seals of this user's logs lie: ``REGARD_AUDIT_KEYS``, else ``regard/audit`` in the user's state folder.

    Raises:
        StorageError: the user has no home.
    """
    if named := os.environ.get(KEYS):
        return Path(named)
    name = "LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME"
    try:
        home = Path(os.environ.get(name) or Path.home() / ".local" / "state")
    except RuntimeError as error:
        raise StorageError(f"the user has no home to keep the seal of the log in; name a folder in {KEYS}") from error
    return home / "regard" / "audit"


def true_path(log: Path) -> Path:
    """Where a log lies, by one name: its folder without links. A link in the log's own place makes it no other."""
    return Path(os.path.realpath(log.parent)) / log.name


def place_of(log: Path) -> Path:
    """The file of a log's seal."""
    return keys_folder() / f"{hashlib.sha256(os.fsencode(true_path(log))).hexdigest()[:32]}.json"


def check_apart(log: Path) -> None:
    """Check that the seal lies elsewhere than the gallery: who can change the log there could change it as well.

    Raises:
        StorageError: it would lie in the gallery's folder.
    """
    folder = keys_folder()
    if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(log.parent)):
        raise StorageError(
            f"the seal of {log} would lie in the gallery, in {folder}; name a folder elsewhere in {KEYS}"
        )


def known_seals() -> Iterator[Seal]:
    """Every seal that can be read in :func:`keys_folder`; what is none is passed over."""
    folder = keys_folder()
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            yield read_state(read_regular(path))
        except (OSError, ValueError, KeyError, TypeError):
            continue


def write_key(path: Path, first: bytes) -> None:
    """Write a first key to a new file, its owner's alone; raises OSError, FileExistsError where there is one."""
    with open_regular(path, "xb", private=True) as file:
        file.write(json.dumps({"format": KEY_FORMAT, "name": chain_name(first), "first": first.hex()}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_key(data: bytes) -> bytes:
    """The first key in a file of :func:`write_key`; raises ValueError, KeyError or TypeError where it is none."""
    values = parse_json(data)
    first = bytes.fromhex(values["first"])
    if values["format"] != KEY_FORMAT or chain_name(first) != values["name"]:
        raise ValueError("it is no key of a log")
    return first


def unreadable(path: Path, why: str) -> StorageError:
    """What to say of a seal that cannot be used."""
    return StorageError(
        f"the seal of the log, {path}, cannot be read ({why}); put a copy of it back, or move it away to begin a new "
        "one, which the log will show"
    )
