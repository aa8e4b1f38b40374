"""Who uses the service, from when until when: a session of use for each gallery and whoever asks it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from regard.errors import StorageError
from regard.gallery.gallery import Gallery
from regard.gallery.use import Actor, Use

__all__ = ["IDLE", "Uses", "actor_of"]

IDLE = 15 * 60
"""Seconds without a request after which a use has ended."""


class Uses:
    """The sessions of use that are under way.

    Args:
        idle: seconds without a request after which one ends.
    """

    def __init__(self, idle: float = IDLE):
        self._idle = idle
        self._open: dict[tuple[str, Actor], Use] = {}
        self._busy = threading.Lock()
        self._stopped = threading.Event()
        self._watch: threading.Thread | None = None

    def of(self, gallery: Gallery, actor: Actor) -> Use:
        """The use of a gallery by somebody, as it goes on or begins."""
        with self._busy:
            if self._watch is None and not self._stopped.is_set():
                self._watch = threading.Thread(target=self._end_idle, daemon=True)
                self._watch.start()
            use = self._open.get((gallery.name, actor))
            if use is None:
                use = self._open[gallery.name, actor] = gallery.use(actor)
            use.touch()
            return use

    def close(self) -> None:
        """End them all: the service stops."""
        self._stopped.set()
        self._end(0, "stopped")

    def _end_idle(self) -> None:
        while not self._stopped.wait(min(self._idle, 30)):
            self._end(self._idle, "idle")

    def _end(self, idle: float, reason: str) -> None:
        with self._busy:
            for key, use in list(self._open.items()):
                if time.monotonic() - use.last < idle:
                    continue
                try:
                    use.end(reason)
                except StorageError as error:
                    print(f"regard serve: {error}", file=sys.stderr, flush=True)
                del self._open[key]


def actor_of(scope: Mapping[str, Any]) -> Actor:
    """Who sends a request: what the guard found out of token and address, else the address of the other end.

    Args:
        scope: of the request, as ASGI has it; ``scope["state"]["actor"]`` has name, role and address.
    """
    address = str((scope.get("client") or ("unknown",))[0])
    known = (scope.get("state") or {}).get("actor")
    if known is None:
        return Actor(address, "", address)
    told = {name: known.get(name) if isinstance(known, Mapping) else getattr(known, name, None) for name in NAMES}
    address = str(told["address"] or address)
    name = str(told["name"] or "")
    return Actor(name or address, str(told["role"] or "") if name else "", address)


NAMES = ("name", "role", "address")
