"""What stands before every request: who may come in, how much they may bring, what browsers are told.

* With a token, every request needs it: in the cookie that opening ``/?token=...`` sets, or as a bearer token.
* Without one (loopback only), the name asked for must be this machine's, so that no foreign page can reach the service
  by pointing its own name here.
* A page of another origin cannot make this one do anything.
* Bodies are counted while they come in, whatever they claim to be.
"""

from __future__ import annotations

import hmac
import json
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from regard.errors import ConfigError

__all__ = ["LOOPBACK", "Guard", "check_address"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
COOKIE = "regard_token"
SHORTEST_TOKEN = 16

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


def check_address(host: str, token: str | None) -> None:
    """Check that the service is not open to others without a token.

    Raises:
        ConfigError: it would be, or the token can be guessed.
    """
    if host not in LOOPBACK and not token:
        raise ConfigError(
            f"--host {host} lets other machines in, so it wants a token: set REGARD_TOKEN (openssl rand -hex 24)"
        )
    if token and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isalnum()):
        raise ConfigError(f"the token wants {SHORTEST_TOKEN} or more letters and digits; try: openssl rand -hex 24")


class Refusal(NamedTuple):
    """An answer instead of the application's."""

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()


class TooMuchError(Exception):
    """A body grew beyond the limit."""


class Guard:
    """ASGI middleware.

    Args:
        app: what it guards.
        token: who knows it may come in; None lets this machine in.
        max_bytes: of a request's body.
    """

    def __init__(self, app: Any, token: str | None, max_bytes: int):
        self.app = app
        self.token = token
        self.max_bytes = max_bytes

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal:
            await answer(send, refusal)
            return
        started = False

        async def send_with_headers(message: dict[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *encoded(HEADERS)]
            await send(message)

        try:
            await self.app(scope, self._counted(receive), send_with_headers)
        except TooMuchError:
            if not started:
                await answer(send, self._too_much())

    def _refusal(self, scope: dict[str, Any], headers: dict[str, str]) -> Refusal | None:
        host = headers.get("host", "")
        if not self.token and host_name(host) not in LOOPBACK:
            return Refusal(403, "this service answers to localhost only")
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and origin and urlsplit(origin).netloc != host:
            return Refusal(403, "a page of another origin may not do that")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.max_bytes:
            return self._too_much()
        if not self.token or self._knows(headers):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._fits(given):
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200"
            return Refusal(303, "welcome", (("location", "/"), ("set-cookie", cookie)))
        return Refusal(401, "this service wants its token: open the address that regard serve printed")

    def _knows(self, headers: dict[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._fits(given):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._fits(cookie.value)

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode())

    def _too_much(self) -> Refusal:
        return Refusal(413, f"a request may hold {self.max_bytes:,} bytes; send fewer or smaller photographs")

    def _counted(self, receive: Any) -> Any:
        seen = 0

        async def counted() -> dict[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise TooMuchError
            return message

        return counted


async def answer(send: Any, refusal: Refusal) -> None:
    """Send a refusal."""
    body = json.dumps({"error": refusal.text}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    headers |= HEADERS | dict(refusal.headers)
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded(headers)})
    await send({"type": "http.response.body", "body": body})


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    return (urlsplit(f"//{host}").hostname or "") if "]" not in host or host.startswith("[") else ""


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(key.encode(), value.encode()) for key, value in headers.items()]
