"""How many cores this process may use, and with how many threads PyTorch computes fastest on them at the moment.

Threads that share a computation wait for each other many times in a step, spinning. Beside other busy processes one of
them is often set aside, the others wait, and a step takes many times as long as with one thread; on an idle machine
more threads are faster. What is best depends on the machine, the network and the neighbors, so it is measured while the
work goes on. A caller who has said how many threads there shall be is obeyed.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Self, TypeVar

from regard.errors import ConfigError

__all__ = ["FastestCount", "Threads", "allowed_cores", "check_processes", "threads_are_given", "usable_threads"]

T = TypeVar("T")


def allowed_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: those it may run on, or fewer where a control group has a quota.

    Args:
        root: where proc and sys are found.
    """
    return max(1, math.ceil(min([len(_allowed_cpus()), *_quotas(root)])))


def check_processes(wanted: int | None, option: str, least: int = 1) -> int:
    """Return a number of processes that somebody asked for; one per core where nobody did.

    Raises:
        ConfigError: it is less than ``least``, or so large that they would only fill this machine's memory.
    """
    cores = allowed_cores()
    if wanted is None:
        return cores
    if not least <= wanted <= max(16, 4 * cores):
        raise ConfigError(
            f"{option} is {wanted}, but this process may use {cores} cores; choose one per core, or fewer"
        )
    return wanted


def _allowed_cpus() -> set[int]:
    """Return the numbers of the processors that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the control groups (version 1 or 2) that this process is in, and their parents."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in groups:
        _, names, path = line.split(":", 2)
        if names and "cpu" not in names.split(","):
            continue
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if names else ("cpu.max",)
        for folder in (names, "cpu") if names else ("", "unified"):
            for group in (PurePosixPath(path), *PurePosixPath(path).parents):
                place = root / "sys/fs/cgroup" / folder / str(group).lstrip("/")
                try:
                    quota, period = (int(text) for file in files for text in (place / file).read_text().split())
                except (OSError, ValueError):  # another layout, or "max"
                    continue
                if quota > 0 and period > 0:
                    yield quota / period


def threads_are_given() -> bool:
    """Return whether the caller has said with how many threads PyTorch computes.

    By OMP_NUM_THREADS or MKL_NUM_THREADS, or by ``torch.set_num_threads`` with a number that PyTorch does not take by
    itself: it takes as many as there are processors to run on, or as many as these have cores.
    """
    import torch

    if os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS"):
        return True
    cpus = _allowed_cpus()
    return torch.get_num_threads() not in (len(cpus), _count_cores(frozenset(cpus)))


@cache
def _count_cores(cpus: frozenset[int]) -> int:
    """Return how many cores the processors are of; where the system does not tell, as many as there are processors."""
    place = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(place.format(cpu)).read_text() for cpu in cpus})
    except OSError:
        return len(cpus)


def usable_threads() -> int:
    """Return the number of threads that PyTorch may take: what the caller has given, else no more than cores.

    Where PyTorch is not loaded, it is not loaded for that.
    """
    if "torch" not in sys.modules:
        told = os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS") or ""
        return (
            int(told)
            if told.isdecimal() and int(told)
            else min(_count_cores(frozenset(_allowed_cpus())), allowed_cores())
        )
    import torch

    given = torch.get_num_threads()
    return given if threads_are_given() else min(given, allowed_cores())


class FastestCount:
    """Finds with how many threads the steps are fastest, from what it is told that they took.

    The count is moved along a ladder, to one rung above or below that is clearly faster. Both are tried at the
    beginning and now and then; the one below when steps have become slower, which is what more neighbors do, and the
    one above when they have become faster.

    Args:
        counts: the ladder, ascending.
        start: the one of them to begin with.
        settled: it was measured a moment ago, by somebody else.

    Attributes:
        count: threads for the next step.
        best: the choice; other than ``count`` only in steps that try another.
        seconds: count -> what a step took, of the newest trial.
    """

    FIRST, TIMED = 5, 3
    """Steps before the first trial; steps that are timed of a count, after one that is left out."""

    GAIN, LOST, DRIFT = 0.9, 3.0, 1.5
    """A count is better from 0.9 of the time on, given up at once at 3 times, and tried again after 1.5 times."""

    CALM, OFTEN, RARELY = 10, 100, 1600
    """Steps without a trial after one; steps to the next one where nothing changes, doubled from 100 up to 1600."""

    def __init__(self, counts: Sequence[int], start: int, *, settled: bool = False):
        self.counts, self.count, self.best = list(counts), start, start
        self.seconds: dict[int, float] = {}
        self._usual: float | None = None
        self._patience = self.OFTEN if settled else self.FIRST
        self._steps = 0
        self._recent: deque[float] = deque(maxlen=5)
        self._tried: list[float] | None = None
        self._up = self._down = True

    @property
    def settled(self) -> bool:
        """Whether the choice is made and no other count is being tried."""
        return len(self.counts) == 1 or (self._tried is None and self._patience > self.FIRST)

    def finish_step(self, seconds: float) -> None:
        """Take in how long the step with ``count`` threads took, and set ``count`` for the next one."""
        if len(self.counts) == 1:
            return
        if self._tried is None:
            self._steps += 1
            self._recent.append(seconds)
            if self._is_due():
                self._was = self.best
                self.seconds = {self.best: median(list(self._recent)[-self.TIMED :])}
                self._try_next()
            return
        self._tried.append(seconds)
        lost = seconds > self.LOST * self.seconds[self.best]
        if lost or len(self._tried) > self.TIMED:
            self.seconds[self.count] = seconds if lost else median(self._tried[1:])
            if self.seconds[self.count] < self.GAIN * self.seconds[self.best]:
                self.best = self.count
            self._try_next()

    def _is_due(self) -> bool:
        """Return whether the choice is to be tried again, and note in which directions."""
        self._up = self._down = True
        if self._steps >= self._patience:
            return True
        if len(self._recent) < 5:
            return False
        now = median(self._recent)
        self._usual = self._usual or now
        self._up, self._down = now < self._usual / self.DRIFT, now > self._usual * self.DRIFT
        if self.best == self.counts[-1 if self._up else 0]:  # nothing to try on that side
            self._usual, self._up, self._down = (now if self._up or self._down else self._usual), False, False
        return (self._up or self._down) and self._steps >= self.CALM

    def _try_next(self) -> None:
        """Try a count beside the best that has not been tried yet, or settle for the best."""
        rung = self.counts.index(self.best)
        above, below = self.counts[rung + 1 : rung + 2], self.counts[max(rung - 1, 0) : rung]
        left = [count for count in above * self._up + below * self._down if count not in self.seconds]
        self.count, self._tried = (left[0], []) if left else (self.best, None)
        if not left:
            same = self.best == self._was and self._patience > self.FIRST
            self._patience = min(2 * self._patience, self.RARELY) if same else self.OFTEN
            self._usual, self._steps = self.seconds[self.best], 0
            self._recent.clear()


_local = threading.local()
"""``limit``: threads that the outermost :class:`Threads` of this thread of the program started from."""

_newest = 0, -math.inf
"""The newest choice of the process, and when it was known to be good."""


class Threads:
    """Sets PyTorch's number of threads for the time of a ``with`` block; the caller's comes back after it.

    The newest choice of the process is taken where it is less than a minute old. :meth:`step` and :meth:`each` measure.

    Args:
        measured: False leaves the number as it is: on another device, or where several processes keep step.
        afresh: begin by measuring even where a choice was made a moment ago, for other work.
        clock: seconds.
    """

    def __init__(self, *, measured: bool = True, afresh: bool = False, clock: Callable[[], float] = time.perf_counter):
        self._measured, self._afresh, self._clock = measured, afresh, clock
        self._choice = FastestCount([1], 1)

    @property
    def settled(self) -> bool:
        """Whether the number is chosen and no other is being tried."""
        return self._choice.settled

    def __str__(self) -> str:
        choice = self._choice
        if len(choice.counts) == 1:
            return f"{choice.best}, not chosen by measuring"
        times = ", ".join(f"{count}: {1000 * took:.1f} ms" for count, took in sorted(choice.seconds.items()))
        return f"{choice.best} of {choice.counts[-1]}" + (f", a step took with {times}" if times else "")

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; what is done with each of them is a :meth:`step`."""
        for item in items:
            with self.step():
                yield item

    @contextmanager
    def step(self) -> Iterator[None]:
        """Set the number of threads for what is done in the block, and take its time."""
        global _newest
        _set(self._choice.count)
        start = self._clock()
        yield
        now = self._clock()
        self._choice.finish_step(now - start)
        if len(self._choice.counts) > 1 and self._choice.settled:
            _newest = self._choice.best, now

    def __enter__(self) -> Self:
        import torch

        self._before, self._outer = torch.get_num_threads(), getattr(_local, "limit", None)
        limit = (self._outer or usable_threads()) if self._measured else self._before
        fixed = not self._measured or (self._outer is None and threads_are_given())
        counts = [limit] if fixed else ladder(limit)
        if counts != self._choice.counts:
            start, chosen = _newest
            known = start in counts and self._clock() - chosen < 60
            if not known:
                start = counts[-1 - _is_crowded(limit)] if counts[1:] else limit
            self._choice = FastestCount(counts, start, settled=known and not self._afresh)
        _local.limit = limit if not fixed else self._outer
        _set(self._choice.count)
        return self

    def __exit__(self, *_: object) -> None:
        _local.limit = self._outer
        _set(self._before)


def ladder(limit: int) -> list[int]:
    """Return the numbers of threads worth trying, ascending: the limit, its half, and so on down to 1."""
    return [limit >> halvings for halvings in reversed(range(limit.bit_length()))]


def _is_crowded(limit: int) -> bool:
    """Return whether others compute at this moment, on a quarter of ``limit`` cores or more, as far as is known."""
    try:
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return False
    return running - 1 >= limit / 4


def _set(count: int) -> None:
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
