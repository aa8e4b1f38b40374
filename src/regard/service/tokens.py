"""Who may come in: tokens with a name and a role, in a file that keeps their digests only.

A token is a long random text that whoever asks sends along. The file has one line of JSON for each: its name, its role,
the SHA-256 of it, and when it was made. A digest is enough to know a token and not enough to be let in. The file is its
owner's alone, is read again when it has changed, and where it cannot be read nobody is let in.

What the roles may do, each also what those before it may:

* ``watch``: read the figures at ``/metrics``;
* ``search``: search, look at the pictures, ask why;
* ``mark``: say that a match is right or wrong, and export that;
* ``administer``: forget marks; add, change and delete.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from regard.errors import ConfigError, StorageError, UnknownNameError
from regard.parsing import parse_json
from regard.storage import open_regular

__all__ = ["ANYBODY", "ENVIRONMENT", "ROLES", "Actor", "Token", "TokenFile", "check_two_people", "digest_of"]

ROLES = ("watch", "search", "mark", "administer")

ANYBODY = "anybody"
"""Stands for a role where no token is wanted."""

ENVIRONMENT = "environment"
"""Name of whoever knows ``REGARD_TOKEN``; whoever asks on this machine where no token is wanted has none."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
MOST = 1 << 20
"""Bytes of a file of tokens."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks.

    Attributes:
        name: of the token; empty where none is wanted.
        role: one of ``ROLES``, or ``ANYBODY``.
        address: of the client, as far as named proxies tell it.
    """

    name: str
    role: str
    address: str

    def may(self, role: str) -> bool:
        """Whether that is allowed what a role is."""
        return role == ANYBODY or (self.role in ROLES and ROLES.index(self.role) >= ROLES.index(role))


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token.

    Attributes:
        name: whose it is.
        role: one of ``ROLES``.
        digest: SHA-256, in hexadecimal digits.
        made: when, ISO 8601.
    """

    name: str
    role: str
    digest: str
    made: str = ""


def digest_of(token: str) -> str:
    """SHA-256 of a token, in hexadecimal digits."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def check_two_people(token: str | None, tokens: TokenFile | None) -> None:
    """Check that two people can come in who may mark, since marks want both.

    Args:
        token: the one of the environment; None where there is none.
        tokens: the others.

    Raises:
        ConfigError: there are fewer, or the tokens cannot be read.
    """
    may = ROLES[ROLES.index("mark") :]
    names = {known.name for known in (tokens.all() if tokens else ()) if known.role in may}
    names |= {ENVIRONMENT} if token else set()
    if len(names) < 2:
        raise ConfigError(
            f"--two-person wants two people who may mark, got {', '.join(sorted(names)) or 'none'}; make a token for "
            "each: regard token add FILE --name NAME --role mark, then --tokens FILE"
        )


class TokenFile:
    """A file of tokens.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._known: list[Token] = []
        self._state: tuple[int, ...] | None = None

    def find(self, given: str) -> Token | None:
        """The token that somebody has sent, compared with every one in the same time; None where it is none of them.

        Raises:
            ConfigError: the file cannot be read, so nobody is known.
        """
        digest, found = digest_of(given), None
        for token in self.all():
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def all(self) -> list[Token]:
        """Every token, in order of the file, which is only read where it has changed.

        Raises:
            ConfigError: the file cannot be read, is damaged, or others may read it.
        """
        try:
            status = self.path.stat()
            state = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode)
            if state != self._state:
                self._state = None
                self._known = self._read(status)
                self._state = state
        except OSError as error:
            self._state = None
            raise ConfigError(
                f"the tokens in {self.path} cannot be read ({error.strerror}); "
                f"make one: regard token add {self.path} --name NAME --role search"
            ) from None
        return self._known

    def add(self, name: str, role: str) -> str:
        """Make a token and keep its digest; returns the token, which is nowhere else.

        Raises:
            ConfigError: the name is taken or no name, or the file is damaged.
            UnknownNameError: there is no such role.
            StorageError: the disk refused.
        """
        if role not in ROLES:
            raise UnknownNameError("role", role, ROLES)
        if not NAME.fullmatch(name) or name == ENVIRONMENT:
            raise ConfigError(
                f"got the name {name[:80]!r}, wanted 1 to 64 letters, digits, '.', '_', '@' or '-', beginning with a "
                f"letter or digit, and not {ENVIRONMENT!r}"
            )
        with self._alone():
            known = self.all() if self.path.exists() else []
            if any(token.name == name for token in known):
                raise ConfigError(
                    f"there is a token {name!r} in {self.path} already; revoke it, or choose another name"
                )
            token = f"regard_{secrets.token_hex(24)}"
            made = datetime.now(UTC).isoformat(timespec="seconds")
            self._write([*known, Token(name, role, digest_of(token), made)])
        return token

    def revoke(self, name: str) -> None:
        """Forget a token: whoever has it is not let in any more.

        Raises:
            UnknownNameError: there is none of that name.
            ConfigError: the file cannot be read, or is damaged.
            StorageError: the disk refused.
        """
        with self._alone():
            known = self.all()
            if all(token.name != name for token in known):
                raise UnknownNameError("token", name, [token.name for token in known])
            self._write([token for token in known if token.name != name])

    def _read(self, status: os.stat_result) -> list[Token]:
        if os.name != "nt" and status.st_mode & 0o077:
            raise ConfigError(f"others than its owner may open {self.path}, which holds tokens: chmod 600 {self.path}")
        if status.st_size > MOST:
            raise ConfigError(f"{self.path} has {status.st_size:,} bytes, wanted a file of tokens (regard token add)")
        with open_regular(self.path) as file:
            lines = file.read(MOST).decode(errors="replace").splitlines()
        return [self._token(line, number) for number, line in enumerate(lines, 1) if line.strip()]

    def _token(self, line: str, number: int) -> Token:
        try:
            token = Token(**parse_json(line))
            texts = all(isinstance(value, str) for value in asdict(token).values())
            sound = texts and NAME.fullmatch(token.name) and token.role in ROLES and DIGEST.fullmatch(token.digest)
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise ConfigError(
                f"line {number} of {self.path} is no token; remove it, then make tokens: regard token add"
            )
        return token

    def _write(self, tokens: list[Token]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with open_regular(temporary, "wb", private=True) as file:
                file.write(b"".join(json.dumps(asdict(token)).encode() + b"\n" for token in tokens))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            raise StorageError(f"could not write {self.path} ({error.strerror}); what it held is intact") from error
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Change the file as the only process; the folder is what they wait for, since the file itself is replaced."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = None if os.name == "nt" else os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise StorageError(f"cannot write {self.path} ({error.strerror}); give another place") from error
        try:
            if descriptor is not None:
                import fcntl

                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)
