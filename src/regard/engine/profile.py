"""Where the time of a training step goes."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from regard.storage import encode_text, write_atomic
from regard.threads import Threads
from regard.wording import count

__all__ = ["Laps"]

WARM_UP = 3
"""Steps that are left out: caches fill, algorithms are chosen, networks are compiled."""


class Laps:
    """Times the parts of some steps and leaves a table, ``profile.txt``, in the run's folder.

    A device computes behind the program's back, so while the steps are timed the program waits for it after every part,
    which makes them slower than others. Before and after, and where no steps are asked for, nothing is waited for.

    Args:
        folder: the run's folder.
        steps: how many to time, after the first :data:`WARM_UP` and those that try numbers of threads; 0 for none.
        device: where the training computes.
    """

    def __init__(self, folder: Path, steps: int, device: torch.device):
        self._path, self._steps, self._device = folder / "profile.txt", steps, device
        self._seconds: dict[str, float] = {}
        self._done = -WARM_UP
        self._clock = 0.0

    def __call__(self, part: str) -> None:
        """Book the time since the last call under a name."""
        if not 0 <= self._done < self._steps:
            return
        now = self._now()
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._clock
        self._clock = now

    def finish_step(self, threads: Threads) -> None:
        """A step is over; after the last one that is timed, write the table, and what was found about threads."""
        if self._done == -1 and not threads.settled:
            return
        self._done += 1
        if self._steps and self._done == 0:
            self._clock = self._now()
        if self._steps and self._done == self._steps:
            write_atomic(self._path, encode_text(f"{self.table()}threads: {threads}\n"))

    def table(self) -> str:
        """Milliseconds of a step and share of the whole, by part."""
        total = sum(self._seconds.values())
        rows = [*self._seconds.items(), ("step", total)]
        lines = [f"{name:<12}{1000 * s / self._steps:>10.2f} ms{100 * s / total:>7.1f} %" for name, s in rows]
        return "\n".join([f"mean of {count(self._steps, 'step')} on {self._device}", *lines, ""])

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
