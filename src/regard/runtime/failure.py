"""What several processes say when one of them fails: one line, from the one that failed first.

The others notice that only by a lost connection, whose traceback says nothing. So a process that fails says so to all,
while it is still connected, and those that find somebody was before them end in silence, with the same exit code.
"""

from __future__ import annotations

import os
import re
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed
from torch.distributed import distributed_c10d

from regard.errors import RegardError

__all__ = ["Group", "describe", "group"]

LOST = re.compile(r"connection (closed|reset)|broken pipe|socket|gloo|nccl|remote process|tcpstore", re.I)
"""What the error of a process looks like that has lost the others."""

PATIENCE = 5.0
"""Seconds a process waits for the others before it ends."""


class Group:
    """The processes of a run, for the case that one of them fails.

    Args:
        rank: of this process.
        size: how many there are; the process group exists.
    """

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size
        self._store: Any = distributed_c10d._get_default_store()
        self._key = f"regard/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self._parent = None if torch.distributed.is_torchelastic_launched() or rank == 0 else os.getppid()
        self._first: bool | None = None

    def note(self, error: BaseException | None) -> None:
        """Say that this process fails, to be called while the others are still connected; None is no failure."""
        if error is None or self._first is not None:
            return
        try:
            self._first = self._store.add(self._key, 1) == 1
            if self._first:
                self._store.set(f"{self._key}/code", str(exit_code(error)))
        except RuntimeError:  # the process that keeps the store has gone without a word
            self._first = True

    def settle(self, error: BaseException) -> tuple[bool, int]:
        """Whether this process is the one to speak, and the exit code of all."""
        self.note(error)
        try:
            self._store.wait([f"{self._key}/code"], timedelta(seconds=PATIENCE))
            return bool(self._first), int(self._store.get(f"{self._key}/code"))
        except RuntimeError:
            return bool(self._first), exit_code(error)

    def wait(self, error: BaseException) -> None:
        """Let the others find out, before this process ends.

        Rank 0 keeps what they are told by. The others end after it, because Fabric kills it when one of them has ended.
        """
        until = time.monotonic() + PATIENCE
        try:
            told = self._store.add(f"{self._key}/told", 1)
            while self.rank == 0 and told < self.size and not lost(error) and time.monotonic() < until:
                time.sleep(0.05)
                told = self._store.add(f"{self._key}/told", 0)
        except RuntimeError:
            return
        while self._parent and os.getppid() == self._parent and time.monotonic() < until:
            time.sleep(0.05)


group: Group | None = None
"""The processes of this run, set by the runtime where there are several."""


def exit_code(error: BaseException) -> int:
    """What a process ends with."""
    return error.exit_code if isinstance(error, RegardError) else 130 if isinstance(error, KeyboardInterrupt) else 1


def lost(error: BaseException) -> bool:
    """Whether an error says no more than that another process has gone."""
    return isinstance(error, RuntimeError) and LOST.search(str(error)) is not None


def describe(error: Exception, group: Group) -> str:
    """One line on an error that was not written for users."""
    message = (str(error).strip() or "without a message").splitlines()[0]
    if lost(error):
        return (
            f"rank {group.rank} has lost the others: one of the {group.size} processes was ended from outside, for "
            "example for want of memory; go on from the last checkpoint with --resume"
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"rank {group.rank}: {type(error).__name__}: {message} ({Path(place.filename).name}, line "
        f"{place.lineno}); --debug shows the traceback"
    )
