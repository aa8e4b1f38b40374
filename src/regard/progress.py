"""Progress of long work: a bar in a terminal and in a notebook, a line now and then in a log file or a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

__all__ = ["Lines", "progress_bar"]

EVERY = 10.0
"""Seconds between two lines."""


def progress_bar(
    steps: Iterable[Any] | None = None,
    title: str | None = None,
    *,
    total: int | None = None,
    initial: int = 0,
    unit: str = "step",
    quiet: bool = False,
    leave: bool = False,
    delay: float = 0,
) -> Any:
    """Show on stderr how far long work is.

    Args:
        steps: what is gone through; None: ``update`` tells of each step.
        title: what is done.
        total: steps there are; None: as many as ``steps`` has.
        initial: steps done before.
        unit: what a step is.
        quiet: show nothing.
        leave: a bar stays where it is when the work is done.
        delay: seconds before anything is shown.

    Returns:
        A tqdm, or :class:`Lines`, which does what we use of one.
    """
    from tqdm import tqdm

    kind: Any = tqdm
    width: dict[str, Any] = {}
    if _in_notebook():
        if find_spec("ipywidgets"):  # else its text
            from tqdm.notebook import tqdm as kind
    elif not quiet:
        if not (sys.stderr and sys.stderr.isatty()):
            return Lines(steps, title or "", total=total, initial=initial, unit=unit, delay=delay)
        known = os.get_terminal_size(sys.stderr.fileno()).columns  # 0 of a container's
        width = {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": 24}
    return kind(steps, title, total, leave, disable=quiet, unit=f" {unit}", initial=initial, delay=delay, **width)


def _in_notebook() -> bool:
    """Whether what is printed goes to a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


class Lines:
    """Progress as whole lines: one every ten seconds at most, and one at the end.

    Args:
        steps, title, total, initial, unit, delay: see :func:`progress_bar`.

    Attributes:
        n: steps done.
    """

    def __init__(
        self, steps: Iterable[Any] | None, title: str, *, total: int | None, initial: int, unit: str, delay: float
    ):
        self._steps, self._title, self._unit, self._delay = steps, title, unit, delay
        self.total = len(steps) if total is None and hasattr(steps, "__len__") else total  # pyright: ignore
        self.n = self._initial = initial
        self._begun = self._told = time.monotonic()
        self._more = ""
        self._open = True

    def __iter__(self) -> Iterator[Any]:
        """Go through the steps, and close."""
        with self:
            for step in self._steps or ():
                yield step
                self.update()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, steps: int = 1) -> None:
        """Take note of steps that are done."""
        self.n += steps
        if time.monotonic() - self._told >= EVERY:
            self._tell()

    def set_description(self, title: str) -> None:
        """Say what is done from here on."""
        self._title = title

    def set_postfix_str(self, more: str) -> None:
        """Say what stands at the end of each line."""
        self._more = more

    def close(self) -> None:
        """Tell how far it came, where it began at all."""
        if self._open and self.n > self._initial and time.monotonic() - self._begun >= self._delay:
            self._tell()
        self._open = False

    def _tell(self) -> None:
        """Print a line; where nobody reads it any more, the work goes on."""
        self._told = now = time.monotonic()
        passed = max(now - self._begun, 1e-3)
        rate = (self.n - self._initial) / passed
        speed = f"{rate:,.1f} {self._unit}/s" if rate >= 1 else f"{1 / max(rate, 1e-9):,.1f} s/{self._unit}"
        far, left = f"{self.n:,}", []
        if self.total:
            far = f"{min(self.n / self.total, 1):4.0%} {self.n:,}/{self.total:,}"
            left = [f"{_clock(max(self.total - self.n, 0) / rate if rate else 0)} left"]
        line = ", ".join(filter(None, [far, speed, f"{_clock(passed)} passed", *left, self._more]))
        with contextlib.suppress(OSError, ValueError, AttributeError):
            print(f"{self._title}: {line}" if self._title else line.strip(), file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """Seconds as 1:05, or 2:01:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
