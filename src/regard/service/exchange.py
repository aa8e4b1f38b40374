"""A request on its way through the guard, and the answers that are given instead of the application's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regard.service.access import Route
from regard.service.limits import BusyError
from regard.service.proxies import Seen
from regard.service.tokens import ANYBODY, Actor
from regard.service.upload import Held

__all__ = ["BUSY", "COOKIE", "HEADERS", "Exchange", "RefusalError", "busy", "encoded", "joined", "replayed"]

COOKIE = "regard_token"

BUSY = {429: "client", 503: "busy"}
"""Status -> why that was."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


UNSEEN, NOWHERE = Seen("unknown", "http", "", False), Route("", ANYBODY)


class RefusalError(Exception):
    """An answer instead of the application's.

    Args:
        status: of HTTP.
        text: one line.
        reason: under which it is counted.
        headers: besides.
        page: whether it is said on a page that takes a token.
    """

    def __init__(
        self, status: int, text: str, reason: str, headers: Mapping[str, str] | None = None, *, page: bool = False
    ):
        super().__init__(text)
        self.status = status
        self.text = text
        self.reason = reason
        self.headers = dict(headers or {})
        self.page = page


@dataclass
class Exchange:
    """A request and what became of it.

    Attributes:
        scope: ASGI's.
        headers: lower-case name to value.
        id: by which both sides know it.
        seen: what is known of the client.
        route: where it goes.
        actor: who asks.
        held: what it holds in memory.
        read: whether all of it was read.
        begun: whether an answer to it has begun.
        status: of the answer; 499 where the client had gone.
        refused: why it was refused; empty where it was not.
        counted: under which client it is counted among those under way.
    """

    scope: dict[str, Any]
    headers: dict[str, str]
    id: str
    held: Held
    seen: Seen = UNSEEN
    route: Route = NOWHERE
    actor: Actor | None = None
    read: bool = False
    begun: bool = False
    status: int = 499
    sent: int = 0
    refused: str = ""
    fault: str = ""
    counted: str = ""
    started: float = field(default_factory=time.perf_counter)

    @property
    def wants_page(self) -> bool:
        """Whether a browser asks, for somebody to look at."""
        return "text/html" in self.headers.get("accept", "")

    @property
    def cookies(self) -> list[str]:
        """The tokens in a browser's cookies, whatever else other applications keep there."""
        pairs = (part.partition("=") for part in self.headers.get("cookie", "").split(";"))
        return [value.strip().strip('"') for name, _, value in pairs if name.strip() == COOKIE]


def replayed(body: bytes, receive: Any) -> Any:
    """ASGI's ``receive`` for a body that is there; then whatever else comes, as the client's going."""
    there = True

    async def replay() -> dict[str, Any]:
        nonlocal there
        if there:
            there = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def busy(error: BusyError) -> RefusalError:
    """The answer to whoever asks too much."""
    return RefusalError(error.status, str(error), BUSY[error.status], {"retry-after": str(error.seconds)})


def joined(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Lower-case name to value; those given several times are one, as HTTP has it."""
    out: dict[str, str] = {}
    for key, value in headers:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        out[name] = f"{out[name]}{'; ' if name == 'cookie' else ', '}{text}" if name in out else text
    return out


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(key.encode(), value.encode()) for key, value in headers.items()]
