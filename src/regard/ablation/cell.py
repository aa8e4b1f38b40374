"""One training of a plan, in a process of its own.

Called as ``python -m regard.ablation.cell SETTINGS.yaml FOLDER SEED [TEST...]``.

It ends with the process that started it, however that ended: the pipe that is its standard input closes then, and the
training saves its state and stops. Whoever comes next for the same folder waits for that.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import threading
from pathlib import Path

from regard.engine.run import start_run
from regard.errors import RegardError
from regard.evaluation.compare_runs import score_runs
from regard.evaluation.run import open_runs
from regard.parsing import parse_json
from regard.run_folder.origin import resolve
from regard.storage import encode_text, read_regular, write_atomic

__all__ = ["LOCK", "cpu_seconds"]

SPENT, LOCK = "cpu.json", "lock"
EVERY = 10.0
"""Seconds between notes of what was spent."""


def cpu_seconds(folder: Path) -> float:
    """What all processes that trained and scored the run in ``folder`` have spent; 0 where nothing says it."""
    try:
        return float(sum(parse_json(read_regular(folder / SPENT)).values()))
    except (OSError, ValueError, TypeError, AttributeError):
        return 0.0


def _spent(folder: Path, before: dict[str, float]) -> None:
    """Note the processor's seconds of this process and its children beside those of processes before it."""
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    write_atomic(folder / SPENT, encode_text(json.dumps(before | {f"process {len(before) + 1}": round(own, 2)})))


def _watch(folder: Path, before: dict[str, float]) -> None:
    """Note what is spent from time to time, and stop when the pipe closes."""
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        _spent(folder, before)
    os.kill(os.getpid(), signal.SIGTERM)


def main(settings: str, place: str, seed: str, *tests: str) -> int:
    """Train, or go on; score, on the other data sets too. Returns the exit code."""
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until one before that lost its parent has ended
        try:
            before = dict(parse_json(read_regular(folder / SPENT)))
        except (OSError, ValueError, TypeError):
            before = {}
        threading.Thread(target=_watch, args=(folder, before), daemon=True).start()
        try:
            found = resolve(settings, [f"train.seed={seed}"])
            start_run(found.config, folder, quiet=True, go_on=True, recipe=found.recipe)
            for test in (None, *tests):
                score_runs(open_runs([folder], test, changes={"ap": "step"}, quiet=True))
        except RegardError as error:
            print(f"regard: {error}", file=sys.stderr, flush=True)
            return error.exit_code
        finally:
            _spent(folder, before)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
