"""Several trainings at once, each in a process of its own with its share of the cores.

A small network trains little faster on two cores than on one, so that two trainings side by side, one thread each, are
done in little more time than one: as many run at once as there are cores, on a GPU one after the other. A process that
loses this one, even to SIGKILL, saves its state and stops (:mod:`regard.ablation.cell`).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from regard.engine.train import Interrupted
from regard.errors import RegardError
from regard.plugins import child_environment

__all__ = ["Cell", "train_cells"]

POLL = 0.1
"""Seconds between looks at whether a process has ended."""

PATIENCE = 120.0
"""Seconds that a process gets to save its state in."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Cell(NamedTuple):
    """One training.

    Attributes:
        label: "apnet, seed 2".
        settings: YAML file of its row.
        folder: its run's.
        seed: what it starts from.
        tests: data sets that it is scored on besides its own.
    """

    label: str
    settings: Path
    folder: Path
    seed: int
    tests: tuple[str, ...]


def train_cells(cells: Sequence[Cell], *, at_once: int, threads: int, done: Callable[[Cell], None]) -> None:
    """Train them all, in order, so many at once.

    One that fails does not keep the others from being trained; what it said is in ``log.txt`` of its folder.

    Args:
        cells: of which each goes on where it was ended before.
        at_once: processes.
        threads: of each.
        done: is told of every cell that is done.

    Raises:
        Interrupted: this process was asked to stop; all states are saved.
        RegardError: some failed; says which first, and why.
    """
    waiting, running, failed = list(reversed(cells)), dict[Cell, subprocess.Popen[bytes]](), dict[str, str]()
    with _asked_to_stop() as asked:
        try:
            while (waiting or running) and not asked:
                while waiting and len(running) < at_once:
                    cell = waiting.pop()
                    running[cell] = _start(cell, threads)
                time.sleep(POLL)
                for cell in [cell for cell, process in running.items() if process.poll() is not None]:
                    if _ended(running.pop(cell)):
                        failed[cell.label] = _last_words(cell)
                    else:
                        done(cell)
        finally:
            _stop(running.values())
    if asked:
        left = len(waiting) + len(running)
        raise Interrupted(f"stopped with {left} of {len(cells)} trainings to go; the same command goes on")
    if failed:
        first, more = next(iter(failed)), ", ".join(list(failed)[1:])
        raise RegardError(
            f"a training failed, {first}: {failed[first]}{f' (so did {more})' if more else ''}; mend that, the same "
            "command goes on; for a table of the others take the row out of the plan"
        )


def _start(cell: Cell, threads: int) -> subprocess.Popen[bytes]:
    """A process that trains a cell, and ends with the pipe to its standard input."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "regard.ablation.cell", str(cell.settings), str(cell.folder), str(cell.seed)]
    command += cell.tests
    environment = child_environment() | dict.fromkeys(THREADS, str(threads))
    with _log(cell).open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def _log(cell: Cell) -> Path:
    return cell.folder / "log.txt"


def _last_words(cell: Cell) -> str:
    """The last line that a process wrote."""
    lines = _log(cell).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1].removeprefix('regard: ') if lines else 'it was ended from outside'}; see {_log(cell)}"


def _stop(processes: Any) -> None:
    """Let processes save their states and end."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that ends; nothing of it is left open."""
    code = process.wait()
    if process.stdin:
        process.stdin.close()
    return code


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Signals that ask this process to stop, as they come; outside the main thread the caller handles them."""
    asked: list[int] = []
    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:
                before[number] = signal.signal(number, lambda seen, _: asked.append(seen))
    except ValueError:
        pass
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
