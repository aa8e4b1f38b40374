"""What stands before every request: who may come in, how much they may bring, what browsers are told.

* With tokens, every request needs one whose role is that of the route: as a bearer token, or in the cookie that the
  page's form and the address ``/?token=...`` set.
* Without any (loopback only), the name asked for must be this machine's, so that no foreign page can reach the service
  by pointing its own name here, and no proxy may stand between.
* A page of another origin cannot make this one do anything.
* A body is read whole before it is looked at, within limits of bytes and time, whatever it claims to be.
* Every request has an id, and leaves a line in the journal.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import secrets
import time
from collections import Counter
from functools import partial
from importlib import resources
from itertools import chain
from typing import Any
from urllib.parse import parse_qs

from regard.errors import ConfigError
from regard.service.access import LOGIN, Routes
from regard.service.exchange import BUSY, COOKIE, HEADERS, Exchange, RefusalError, busy, encoded, joined, replayed
from regard.service.journal import Journal, place_of
from regard.service.limits import BusyError, Limits
from regard.service.metrics import Metrics
from regard.service.proxies import Proxies, host_name
from regard.service.tokens import ANYBODY, ENVIRONMENT, Actor, TokenFile
from regard.service.upload import Intake, LeftError, SlowError, TooMuchError

__all__ = ["LOOPBACK", "Guard", "check_address", "host_name"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SHORTEST_TOKEN = 16
MAX_HEADERS, MAX_HEAD = 100, 32 * 1024
FORM = 4096
"""Bytes of a form with a token."""

LARGE = 2**20
"""Bytes from which an answer counts among what is held in memory."""

ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
ROOT = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
OWN = ("/api", "/static", "/healthz", "/readyz", "/metrics", "/login", "/openapi.json")


def check_address(host: str, token: str | None, tokens: TokenFile | None = None, *, proxied: bool = False) -> None:
    """Check that the service is not open to others without a token.

    Args:
        host: to listen on.
        token: the administrator's, if any.
        tokens: those of a file, if any.
        proxied: whether proxies are named.

    Raises:
        ConfigError: it would be, or the token can be guessed, or the file cannot be read.
    """
    if (host not in LOOPBACK or proxied) and not token and not tokens:
        why = f"--host {host}" if host not in LOOPBACK else "--proxy"
        raise ConfigError(
            f"{why} lets other machines in, so it wants a token: give --tokens FILE (regard token add), or set "
            "REGARD_TOKEN (openssl rand -hex 24)"
        )
    if token and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isalnum()):
        raise ConfigError(f"the token wants {SHORTEST_TOKEN} or more letters and digits; try: openssl rand -hex 24")
    if tokens:
        tokens.all()


def check_root(root: str) -> str:
    """The path that a service is under, without a slash at its end; empty for none.

    Raises:
        ConfigError: it is none, or one of the service's own.
    """
    root = root.rstrip("/")
    first = "/".join(root.split("/")[:2])
    if not ROOT.fullmatch(root) or first in OWN or "/." in root:
        raise ConfigError(f"--root-path {root!r}, wanted a path as /people, and none of the service's own")
    return root


class Guard:
    """ASGI middleware.

    Args:
        app: what it guards, a FastAPI application whose routes say which role they want.
        token: the administrator's; None for none.
        limits: what a request may bring.
        tokens: those of a file; with neither of both, this machine is let in.
        proxies: whose word on the client is believed.
        root: the path that a proxy puts the service under; empty for none.
        journal: where a line for each request goes; None for nowhere.
        metrics: where to count.
    """

    def __init__(
        self,
        app: Any,
        token: str | None,
        limits: Limits,
        *,
        tokens: TokenFile | None = None,
        proxies: Proxies | None = None,
        root: str = "",
        journal: Journal | None = None,
        metrics: Metrics | None = None,
    ):
        self.app = app
        self.token = token
        self.limits = limits
        self.tokens = tokens
        self.proxies = proxies or Proxies()
        self.root = root
        self.journal = journal
        self.metrics = metrics or Metrics()
        self.routes = Routes(app)
        self.intake = Intake(limits)
        self._form = resources.files("regard.service").joinpath("static", "login.html").read_bytes()
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        self.metrics.in_flight += 1
        headers = joined(scope["headers"])
        given = headers.get("x-request-id", "")
        with self.intake.room() as held:
            exchange = Exchange(scope, headers, given if ID.fullmatch(given) else secrets.token_hex(8), held)
            try:
                await self._exchange(exchange, receive, send)
            except asyncio.CancelledError:  # uvicorn's way of ending what is still under way
                text = "the service is ending; ask again when it is back"
                await self._refuse(exchange, send, RefusalError(503, text, "ending", {"retry-after": "5"}))
            finally:
                self._done(exchange)
                self.metrics.in_flight -= 1
                self._note(exchange)

    async def _exchange(self, exchange: Exchange, receive: Any, send: Any) -> None:
        """Answer a request, by the application or instead of it."""
        try:
            self._admit(exchange)
            most = self.limits.bytes if exchange.route.upload else min(self.limits.text, self.limits.bytes)
            body = await self._body(exchange, receive, most)
            if exchange.route.path == LOGIN:
                self._log_in_with(exchange, body)
            self._count(exchange)
            await self.app(exchange.scope, replayed(body, receive), self._sender(exchange, send))
        except LeftError:
            return
        except SlowError:
            await self._refuse(exchange, send, RefusalError(408, "the request did not come in time", "slow"))
        except RefusalError as refusal:
            await self._drain(exchange, receive)
            await self._refuse(exchange, send, refusal)
        except BusyError as error:
            await self._drain(exchange, receive)
            await self._refuse(exchange, send, busy(error))
        except Exception as error:
            exchange.fault = place_of(error)
            text = f"the service failed at that; its journal has more under {exchange.id}"
            await self._refuse(exchange, send, RefusalError(500, text, "failure"))

    # Who may come in ----------------------------------------------------------------------------------------------

    def _admit(self, exchange: Exchange) -> None:
        """Find out who asks for what, and whether he may.

        Raises:
            RefusalError: he may not, or has to ask otherwise.
        """
        scope, headers = exchange.scope, exchange.headers
        try:
            exchange.seen = self.proxies.look(scope, headers)
        except ValueError as error:
            raise RefusalError(400, str(error), "proxy") from None
        path = self._path(scope)
        exchange.route = route = self.routes.find(scope["method"], path)
        if len(scope["headers"]) > MAX_HEADERS or sum(map(len, chain(*scope["headers"]))) > MAX_HEAD:
            raise RefusalError(431, f"a request may have {MAX_HEADERS} headers of {MAX_HEAD:,} bytes", "headers")
        if "content-length" in headers and "transfer-encoding" in headers:
            raise RefusalError(400, "a request may have Content-Length or Transfer-Encoding, not both", "protocol")
        if route.role != ANYBODY:
            self._check_host(exchange)
        self._check_origin(exchange)
        exchange.actor = self._actor(exchange)
        if exchange.actor is None:
            self._log_in(exchange, path)
        elif not exchange.actor.may(route.role):
            text = f"that wants the role {route.role}; the token {exchange.actor.name} has {exchange.actor.role}"
            raise RefusalError(403, text, "role")
        scope.setdefault("state", {})["actor"] = exchange.actor
        scope["client"] = (exchange.seen.address, 0)
        scope["scheme"] = exchange.seen.scheme

    def _path(self, scope: dict[str, Any]) -> str:
        """The path within the service, whether or not the proxy has cut off the one it is under."""
        root, path = self.root, scope["path"]
        if root and path == root:
            raise RefusalError(307, "the page is further on", "", {"location": f"{root}/"})
        inner = path.removeprefix(root) if root and path.startswith(f"{root}/") else path
        scope["root_path"], scope["path"] = root, root + inner
        return inner

    def _check_host(self, exchange: Exchange) -> None:
        name = host_name(exchange.seen.host)
        if self.token or self.tokens:
            if not name and exchange.seen.host:
                raise RefusalError(400, "the Host header names no host", "host")
        elif name not in LOOPBACK:
            raise RefusalError(403, "this service answers to localhost only", "host")
        elif exchange.seen.forwarded:
            raise RefusalError(403, "this came through a proxy: name it with --proxy, and give tokens", "proxy")

    def _check_origin(self, exchange: Exchange) -> None:
        origin, seen = exchange.headers.get("origin"), exchange.seen
        if not origin or exchange.scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return
        scheme, _, host = origin.lower().partition("://")
        if host != seen.host.lower() or (seen.scheme == "https" and scheme != "https"):
            raise RefusalError(403, "a page of another origin may not do that", "origin")

    def _actor(self, exchange: Exchange) -> Actor | None:
        """Who asks; None where nobody who is known does."""
        address = exchange.seen.address
        if exchange.route.role == ANYBODY:
            return Actor("", ANYBODY, address)
        if not self.token and not self.tokens:
            return Actor("", "administer", address)
        kind, _, given = exchange.headers.get("authorization", "").partition(" ")
        offered = [given.strip()] if kind.lower() == "bearer" else exchange.cookies
        return next(filter(None, (self._known(token, address) for token in offered)), None)

    def _known(self, given: str, address: str) -> Actor | None:
        if self.token and hmac.compare_digest(given.encode(errors="surrogatepass"), self.token.encode()):
            return Actor(ENVIRONMENT, "administer", address)
        try:
            token = self.tokens.find(given) if self.tokens else None
        except ConfigError as error:
            if self.journal:
                self.journal.write("error", message=str(error))
            raise RefusalError(503, "the tokens cannot be read; whoever runs this service finds why in its journal",
                               "tokens", {"retry-after": "30"}) from None  # fmt: skip
        return Actor(token.name, token.role, address) if token else None

    def _log_in(self, exchange: Exchange, path: str) -> None:
        """Take a token from the address, or ask for one.

        Raises:
            RefusalError: in any case.
        """
        given = parse_qs(exchange.scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if path == "/" and given and self._known(given, ""):
            raise self._welcome(exchange, given)
        text = "this service wants a token: as a bearer token, or open its page and give it there"
        asked = {"www-authenticate": 'Bearer realm="regard"'}
        raise RefusalError(401, text, "token", asked, page=path == "/" and exchange.wants_page)

    def _log_in_with(self, exchange: Exchange, body: bytes) -> None:
        """Take a token from the page's form.

        Raises:
            RefusalError: in any case.
        """
        try:
            given = parse_qs(body[:FORM].decode("latin-1"), max_num_fields=4).get("token", [""])[0].strip()
        except ValueError:
            given = ""
        if self._known(given, ""):
            raise self._welcome(exchange, given)
        raise RefusalError(401, "that is no token of this service", "token", page=exchange.wants_page)

    def _welcome(self, exchange: Exchange, token: str) -> RefusalError:
        secure = "; Secure" if exchange.seen.scheme == "https" else ""
        cookie = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path={self.root}/; Max-Age=43200{secure}"
        return RefusalError(303, "welcome", "", {"location": f"{self.root}/", "set-cookie": cookie})

    # What it brings -----------------------------------------------------------------------------------------------

    async def _body(self, exchange: Exchange, receive: Any, most: int) -> bytes:
        text = f"a request may hold {most:,} bytes here; send fewer or smaller photographs"
        length = exchange.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise RefusalError(413, text, "size")
        try:
            body = await self.intake.read(receive, most, exchange.held)
        except TooMuchError:
            raise RefusalError(413, text, "size") from None
        exchange.read = True
        return body

    async def _drain(self, exchange: Exchange, receive: Any) -> None:
        """Let a client that is still sending finish, if that is soon: else it would never read the answer."""
        length = exchange.headers.get("content-length", "0")
        much = length.isdecimal() and int(length) > 2 * self.limits.bytes
        if exchange.read or exchange.begun or much or "expect" in exchange.headers:
            return
        left, end, more = 2 * self.limits.bytes, time.monotonic() + self.limits.stall / 2, True
        with self.intake.room() as nothing:
            while more and left > 0 and time.monotonic() < end:
                message = await self.intake.next(receive, end - time.monotonic(), nothing)
                if message is None or message["type"] != "http.request":
                    return
                more, left = message.get("more_body", False), left - len(message.get("body", b""))

    def _count(self, exchange: Exchange) -> None:
        """Count a request, which is there, among those that are worked on.

        Raises:
            BusyError: there are too many.
        """
        actor = exchange.actor
        client = f"{actor.name} {actor.address}" if actor else ""
        if self._under_way[client] >= self.limits.each:
            raise BusyError(f"{self.limits.each} requests of yours are being worked on; wait for one of them", 429, 1)
        if self._under_way.total() >= 8 * self.limits.each:
            raise BusyError("too many requests are being worked on; try again")
        self._under_way[client] += 1
        exchange.counted = client
        exchange.scope["state"] |= {"client": client, "keep": partial(self.intake.keep, exchange.held)}

    def _done(self, exchange: Exchange) -> None:
        if exchange.counted:
            self._under_way[exchange.counted] -= 1
            if self._under_way[exchange.counted] <= 0:
                del self._under_way[exchange.counted]
            exchange.counted = ""

    # What is answered ---------------------------------------------------------------------------------------------

    def _sender(self, exchange: Exchange, send: Any) -> Any:
        """Send on what the application answers, with what belongs to every answer.

        The head waits for the body: an answer that memory has no room for is refused instead, and whoever reads slowly
        is not counted among those that are worked for.
        """
        head: dict[str, Any] = {}
        dropped = False

        async def sender(message: dict[str, Any]) -> None:
            nonlocal dropped
            if message["type"] == "http.response.start":
                head.update(message)
                return
            if dropped:
                return
            body = message.get("body", b"")
            if head:
                try:
                    self.intake.take(exchange.held, len(body) if len(body) > LARGE else 0)
                except BusyError as error:
                    dropped = True
                    await self._refuse(exchange, send, busy(error))
                    return
                self._done(exchange)
                exchange.begun, exchange.status = True, head["status"]
                if exchange.route.role != ANYBODY:
                    exchange.refused = BUSY.get(exchange.status, "")
                own = encoded(HEADERS | {"x-request-id": exchange.id})
                await send({**head, "headers": [*head["headers"], *own]})
                head.clear()
            exchange.sent += len(body)
            await send(message)

        return sender

    async def _refuse(self, exchange: Exchange, send: Any, refusal: RefusalError) -> None:
        """Answer instead of the application."""
        if exchange.begun:
            return
        exchange.begun, exchange.status, exchange.refused = True, refusal.status, refusal.reason
        kind, body = "application/json", json.dumps({"error": refusal.text}).encode()
        if refusal.page:
            fault = refusal.text.encode() if exchange.route.path == LOGIN else b""  # before, nobody has erred
            kind, body = "text/html; charset=utf-8", self._form.replace(b"<!-- why -->", fault)
        exchange.sent = len(body)
        headers = {"content-type": kind, "content-length": str(len(body)), "connection": "close"}
        headers |= HEADERS | {"x-request-id": exchange.id} | refusal.headers
        if refusal.page:  # else browsers send its form without an origin that could be checked
            headers["referrer-policy"] = "same-origin"
        await send({"type": "http.response.start", "status": refusal.status, "headers": encoded(headers)})
        await send({"type": "http.response.body", "body": body})

    def _note(self, exchange: Exchange) -> None:
        """Count and write down what became of a request."""
        seconds = time.perf_counter() - exchange.started
        method = exchange.scope["method"] if exchange.route.path else "other"
        self.metrics.answered(exchange.route.path or "other", method, exchange.status, seconds)
        if exchange.refused:
            self.metrics.refused(exchange.refused)
        if self.journal is None:
            return
        facts = {"request": exchange.id, "method": method, "route": exchange.route.path, "status": exchange.status}
        facts |= {"seconds": round(seconds, 4), "address": exchange.seen.address, "sent": exchange.sent}
        if exchange.actor and exchange.actor.name:
            facts["token"] = exchange.actor.name
        facts |= {key: value for key in ("refused", "fault") if (value := getattr(exchange, key))}
        level = "error" if exchange.fault else "warning" if exchange.refused or exchange.status >= 500 else "info"
        self.journal.write(level, **facts)
