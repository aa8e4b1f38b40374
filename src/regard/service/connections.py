"""Connections: how many there may be, and how long one may keep the service waiting.

uvicorn speaks HTTP; what it leaves open is closed here. Whoever connects and says nothing, sends a head drop by drop,
or does not read its answer, keeps nobody else out: where all places are taken, the connection that has kept the service
waiting longest makes room. Only where every one is being worked for is a new one turned away. TLS is negotiated after a
connection has been counted, so that handshakes that never end count too.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from pathlib import Path
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from regard.errors import ConfigError
from regard.service.limits import Limits
from regard.service.metrics import Metrics
from regard.service.proxies import Proxies

__all__ = ["Door", "tls_context"]

SWEEP = 0.5
"""Seconds between two looks at all connections."""

PIECES, PIECE = 2000, 512
"""Pieces in which a body may come in any case, and bytes that each further one has on average."""


class Door:
    """What counts connections, and makes each one's protocol; uvicorn takes :meth:`protocol` for its ``http``.

    Args:
        limits: how many, and how long each may take.
        proxies: from which any number may come.
        metrics: where to count.
        tls: of an encrypted service.
    """

    def __init__(self, limits: Limits, proxies: Proxies, metrics: Metrics, tls: ssl.SSLContext | None = None):
        self.limits = limits
        self.proxies = proxies
        self.metrics = metrics
        self.tls = tls
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def protocol(self, **options: Any) -> asyncio.Protocol:
        """The protocol of a new connection."""
        connection = Connection(self, **options)
        return Handshake(connection, self.tls) if self.tls else connection

    def enter(self, connection: Connection, transport: asyncio.Transport) -> bool:
        """Let a connection in, where there is or can be made a place for it."""
        connection.raw, connection.peer = transport, str((transport.get_extra_info("peername") or ("unknown",))[0])
        near = [one for one in self._open if one.peer == connection.peer]
        crowded = len(near) >= self.limits.per_address and connection.peer not in self.proxies
        if crowded or len(self._open) >= self.limits.connections:
            idle = [one for one in (near if crowded else self._open) if one.keeps_waiting]
            self.metrics.refused("connections")
            if not idle:
                transport.abort() if self.tls else refuse(transport, 503, "there are too many connections; try again")
                return False
            min(idle, key=lambda one: (one.answering, one.since)).drop()
        self._open.add(connection)
        self.metrics.connections = len(self._open)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        return True

    def leave(self, connection: Connection) -> None:
        """Let a connection go."""
        self._open.discard(connection)
        self.metrics.connections = len(self._open)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._open):
            connection.look(now)
        again = bool(self._open)
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP, self._sweep) if again else None


class CountingParser(h11.Connection):
    """uvicorn's parser, counting the pieces of a body: each costs as much as many bytes do."""

    pieces = size = 0

    def next_event(self) -> Any:
        """The next thing that came in."""
        event = super().next_event()
        if isinstance(event, h11.Data):
            self.pieces, self.size = self.pieces + 1, self.size + len(event.data)
        elif isinstance(event, h11.Request):
            self.pieces = self.size = 0
        return event


class Connection(H11Protocol):
    """One connection.

    Attributes:
        peer: the address it comes from.
        raw: what carries it; below TLS where there is some.
        since: when it last began to keep the service waiting.
    """

    def __init__(self, door: Door, **options: Any):
        super().__init__(**options)
        self.door = door
        self.conn: CountingParser = CountingParser(h11.SERVER, self.config.h11_max_incomplete_event_size or 2**15)
        self.peer = "unknown"
        self.raw: asyncio.Transport | None = None
        self.since = self._progress = time.monotonic()
        self._begun = False
        self._unsent = 0
        self._early = b""

    @property
    def answering(self) -> bool:
        """Whether a request is there whose answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def keeps_waiting(self) -> bool:
        """Whether it is the client's turn to send, or to read."""
        return not self.answering or self.cycle.more_body or self._unsent > 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin, if there is a place."""
        super().connection_made(transport)
        if self.raw is None:
            self.door.enter(self, transport)
        if self._early:
            self.data_received(self._early)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.door.leave(self)
        if self.transport is not None:  # else it was lost before TLS was agreed on
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came in; what comes with the last word on TLS is there before the connection is."""
        if self.transport is None:
            self._early += data
            return
        if not self.answering and not self._begun:
            self._begun, self.since = True, time.monotonic()
        super().data_received(data)
        if self.answering:
            self._begun = False
        if self.conn.pieces > PIECES + self.conn.size // PIECE:
            self.door.metrics.refused("pieces")
            self.drop()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._begun, self.since = False, time.monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Say that this is no HTTP, or too long a head."""
        self.door.metrics.refused("protocol")
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            refuse(self.transport, 400, "this is no HTTP/1.1 request, or its head is too long")
        else:
            self.transport.abort()

    def look(self, now: float) -> None:
        """Close it where it has kept the service waiting for too long."""
        limits = self.door.limits
        unsent = self.raw.get_write_buffer_size() if self.raw else 0
        if not unsent or unsent < self._unsent:
            self._progress = now
        self._unsent = unsent
        if unsent and now - self._progress > limits.stall:
            self.door.metrics.refused("unread")
            self.drop()
        elif not self.answering and not unsent and now - self.since > limits.head:
            if self._begun and self.transport and not self.transport.is_closing():
                self.door.metrics.refused("slow")
                refuse(self.transport, 408, "the head of the request did not come in time")
            else:
                self.drop()

    def drop(self) -> None:
        """Let go of it at once."""
        self.door.leave(self)
        if self.raw is not None:
            self.raw.abort()

    def shutdown(self) -> None:
        """Let a request that is there be answered; whoever is silent or still sends has little time."""
        if not self.answering:
            self.drop() if self._unsent else self.transport.close()
            return
        self.cycle.keep_alive = False
        if self.cycle.more_body:
            self.loop.call_later(self.door.limits.ending / 3, lambda: self.drop() if self.cycle.more_body else None)


class Handshake(asyncio.Protocol):
    """A connection on which TLS has not been agreed on yet.

    Args:
        connection: what follows.
        tls: how.
    """

    def __init__(self, connection: Connection, tls: ssl.SSLContext):
        self.connection = connection
        self.tls = tls
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin, if there is a place."""
        transport.pause_reading()  # until whoever understands what comes is there
        if self.connection.door.enter(self.connection, transport):
            self.connection.connections.add(self)  # pyright: ignore[reportArgumentType]
            self._task = asyncio.get_running_loop().create_task(self._agree(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.connection.door.leave(self.connection)

    def shutdown(self, *, abort: bool = True) -> None:
        """Be none of the connections that uvicorn ends any more."""
        self.connection.connections.discard(self)  # pyright: ignore[reportArgumentType]
        if abort:
            self.connection.drop()

    async def _agree(self, transport: asyncio.Transport) -> None:
        loop, limits = asyncio.get_running_loop(), self.connection.door.limits
        try:
            encrypted = await loop.start_tls(
                transport, self.connection, self.tls, server_side=True, ssl_handshake_timeout=limits.head
            )
        except OSError:
            encrypted = None
        finally:
            self.shutdown(abort=False)
        if encrypted is None:
            self.connection.door.metrics.refused("tls")
            self.connection.drop()
        else:
            self.connection.connection_made(encrypted)


def refuse(transport: asyncio.Transport, status: int, text: str) -> None:
    """Answer in place of the application, and close."""
    body = json.dumps({"error": text}).encode()
    phrase = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}[status]
    head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    again = "retry-after: 5\r\n" if status == 503 else ""
    transport.write(f"{head}{again}connection: close\r\n\r\n".encode() + body)
    transport.close()


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What TLS needs, from a certificate with its chain and its key, in PEM.

    Raises:
        ConfigError: one cannot be read, is none, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--tls-cert {certificate} and --tls-key {key} cannot be used ({reason}); give a certificate and its key "
            "in PEM, without a passphrase"
        ) from None
    return context
