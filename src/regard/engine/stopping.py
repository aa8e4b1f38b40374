"""Being asked to stop, and stopping between two steps."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from regard.errors import RegardError
from regard.runtime.fabric import Runtime

__all__ = ["Interrupted", "StopRequest"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(RegardError):
    """Training was asked to stop; its state is saved."""

    exit_code = 130


class StopRequest:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a request to stop after the current step; a second acts at once.

    SIGHUP stays ignored where the program was started so, by ``nohup``; shells start their background jobs without
    SIGINT, which whoever sends it means all the same. The loaders' processes leave signals to this one, so that one to
    the whole group ends nothing that the step needs.
    """

    def __enter__(self) -> StopRequest:
        self.requested = False
        self._previous: dict[int, Any] = {}
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            try:
                self._previous[number] = signal.signal(number, self._request)
            except ValueError:  # not in the main thread: the caller handles signals
                return self
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, runtime: Runtime, *, asking: bool) -> bool:
        """Whether any rank was asked to stop; several ranks exchange this only when ``asking``."""
        if runtime.world_size == 1:
            return self.requested
        return asking and runtime.any(self.requested)

    def _request(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._previous[number])
