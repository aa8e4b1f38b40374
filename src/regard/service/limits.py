"""What one may bring and ask for at once, and the places in which it is worked on.

Every kind of work has threads of its own, so that searches never wait behind pictures that are decoded. Whoever finds
them taken waits his turn, but not for long and not in a long row; a client gets its turn before those that have more
under way. What cannot wait is answered 429 (this client asks too much at once) or 503 (all of them do).
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from regard.errors import RegardError

__all__ = ["BusyError", "Limits", "Places", "Pool"]

T = TypeVar("T")


class BusyError(RegardError):
    """There is more to do than is done at once.

    Attributes:
        status: 429 where one client asks too much, 503 where all together do.
        seconds: after which to ask again.
    """

    def __init__(self, text: str, status: int = 503, seconds: int = 5):
        super().__init__(text)
        self.status = status
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """What one may bring.

    Attributes:
        bytes: of one request that brings pictures.
        text: bytes of any other request.
        held: bytes of all requests, and of all large answers, that are in memory.
        pixels: of one photograph, and of all that are being decoded.
        passes: of a decoder over ``pixels`` pixels, for the photographs of one query together; a progressive JPEG file
            has ten, over its own.
        photos: of one query.
        queries: kept in memory.
        at_once: searches that compute at the same time; others wait.
        decoding: queries of photographs that are decoded and embedded at the same time.
        waiting: requests that wait for each kind of work.
        each: requests of one client that are worked on or wait, of any kind.
        patience: seconds that a request waits for its turn.
        connections: open at the same time.
        per_address: of them from one address that is no proxy; beyond, those that keep the service waiting are closed.
        head: seconds in which the head of a request has to be there.
        stall: seconds without a byte after which a body, or whoever does not read an answer, is given up.
        body: seconds in which a body has to be there.
        why: seconds that an explanation may take, with the start of the process that computes it.
        why_memory: bytes that this process may take, besides eight times those of its network.
        why_idle: seconds without a question after which it ends.
        ending: seconds that requests under way have when the service ends.
    """

    bytes: int = 20 * 2**20
    text: int = 2**20
    held: int = 160 * 2**20
    pixels: int = 40_000_000
    passes: int = 5
    photos: int = 8
    queries: int = 128
    at_once: int = 4
    decoding: int = 2
    waiting: int = 64
    each: int = 32
    patience: float = 20
    connections: int = 512
    per_address: int = 128
    head: float = 10
    stall: float = 10
    body: float = 120
    why: float = 120
    why_memory: int = 4 * 2**30
    why_idle: float = 300
    ending: float = 6


class Pool:
    """So much of something that is shared, such as pixels; whoever takes waits his turn until it is there.

    Args:
        size: how much there is; nobody may take more.
    """

    def __init__(self, size: int):
        self.free = size
        self._changed = threading.Condition()
        self._row: deque[object] = deque()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Have so much of it in the block."""
        turn = object()
        with self._changed:
            self._row.append(turn)
            self._changed.wait_for(lambda: self._row[0] is turn and self.free >= amount)
            self._row.popleft()
            self.free -= amount
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.free += amount
                self._changed.notify_all()


class Places:
    """Places for one kind of work.

    Args:
        name: of the work.
        at_once: places; one is left for others by whoever has all the rest.
        each: requests of one client that may be there, working or waiting.
        limits: how many may wait, and how long.
    """

    def __init__(self, name: str, at_once: int, each: int, limits: Limits):
        self.name = name
        self.at_once = at_once
        self.each = each
        self.most = max(at_once - 1, 1)
        self.limits = limits
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix=f"regard-{name}")
        self._working: Counter[str] = Counter()
        self._there: Counter[str] = Counter()
        self._row: list[tuple[str, asyncio.Future[None]]] = []

    async def run(self, client: str, work: Callable[..., T], *arguments: Any) -> T:
        """Do a piece of work when it is a client's turn.

        Raises:
            BusyError: too much waits, of this client or of all, or it waited too long.
        """
        await self._turn(client)
        loop = asyncio.get_running_loop()
        try:
            done = loop.run_in_executor(self._threads, work, *arguments)
        except BaseException:
            self._leave(client)
            raise
        done.add_done_callback(lambda future: self._done(client, future))
        return await asyncio.shield(done)

    def close(self) -> None:
        """Begin nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, client: str) -> None:
        if self._there[client] >= self.each:
            text = f"{self.each} requests of yours are being worked on; wait for one of them"
            raise BusyError(text, 429, 1)
        if self._working.total() >= self.at_once or self._working[client] >= self.most:
            if len(self._row) >= self.limits.waiting:
                raise BusyError("too many requests wait already; try again")
            await self._wait(client)
            return
        self._there[client] += 1
        self._working[client] += 1

    async def _wait(self, client: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._row.append((client, turn))
        self._there[client] += 1
        try:
            await asyncio.wait_for(turn, self.limits.patience)
        except BaseException as error:
            with suppress(ValueError):
                self._row.remove((client, turn))
            if turn.done() and not turn.cancelled():
                self._leave(client)  # its turn came as it gave up
            else:
                self._forget(self._there, client)
            if isinstance(error, TimeoutError):
                raise BusyError("it is too busy here; try again") from None
            raise

    def _done(self, client: str, future: asyncio.Future[Any]) -> None:
        """Make room when the work ends, also where nobody waits for it any more."""
        if not future.cancelled():
            future.exception()
        self._leave(client)

    def _leave(self, client: str) -> None:
        self._forget(self._working, client)
        self._forget(self._there, client)
        while self._row and self._working.total() < self.at_once:
            place = min(range(len(self._row)), key=lambda i: self._working[self._row[i][0]])
            if self._working[self._row[place][0]] >= self.most:
                return
            following, turn = self._row.pop(place)
            if not turn.done():
                self._working[following] += 1
                turn.set_result(None)

    @staticmethod
    def _forget(counter: Counter[str], client: str) -> None:
        counter[client] -= 1
        if counter[client] <= 0:
            del counter[client]
