"""How slow training becomes beside other busy processes, against the share of the cores that is due to it.

    python benchmarks/busy.py                          # as it comes; about 7 minutes
    python benchmarks/busy.py --ways measured all one passive --budget 2400
    python benchmarks/busy.py --nice 10                # the others step back, as far as the system lets them

The demo's training (recipe demo, its crowd) runs in a process of its own beside 0, 1, 2 and 4 processes that do nothing
but compute, each in a session of its own, in interleaved rounds on one machine. ``seconds`` is the time of training by
the run's own account, without start, evaluation and the making of the crowd. C cores shared with N others leave
C / (C + N) of the machine to a program that uses C threads: that makes ``ideal``. Ways:

    measured    as it comes: the number of threads is chosen while it trains
    all, one    OMP_NUM_THREADS = the cores, or 1
    passive     all threads, which sleep instead of spinning (OMP_WAIT_POLICY=passive)

Writes benchmarks/results/busy.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from results_file import table, write

from regard.crowd import make_crowd
from regard.run_folder.saved_state import read_saved
from regard.threads import allowed_cores

CORES = allowed_cores()
WAYS = {
    "measured": {},
    "all": {"OMP_NUM_THREADS": str(CORES)},
    "one": {"OMP_NUM_THREADS": "1"},
    "passive": {"OMP_NUM_THREADS": str(CORES), "OMP_WAIT_POLICY": "passive"},
}
SPIN = "import os; os.nice({nice}); parent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"


@contextmanager
def others(count: int, nice: int) -> Iterator[None]:
    """Processes that compute in the meantime; they end with this one, whatever becomes of it."""
    command = [sys.executable, "-c", SPIN.format(nice=nice)]
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def train(crowd: Path, epochs: int, way: str, limit: float) -> float | None:
    """Train and return the seconds that it took; None where it was not done within the limit."""
    given = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {key: value for key, value in os.environ.items() if key not in given} | WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "regard", "train", "demo", "-q", "-o", f"{folder}/run", f"data.root={crowd}"]
        settings = [f"train.epochs={epochs}", "train.eval_every=null", "train.accelerator=cpu"]
        try:
            subprocess.run([*command, *settings], check=True, env=environment, timeout=limit, stdout=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return None
        return read_saved(Path(folder) / "run").progress.seconds


def summary(took: dict[tuple[str, int], list[float | None]], nice: int) -> list[dict[str, object]]:
    """A row for every way and number of others: median seconds, and how many times the idle ones that is."""
    rows = []
    for (way, count), values in took.items():
        done = [value for value in values if value is not None]
        idle = [value for value in took.get((way, 0), []) if value is not None]
        seconds = statistics.median(done) if done else None
        rows.append({
            "way": way, "others": count, "nice": nice, "rounds": len(values), "unfinished": len(values) - len(done),
            "seconds": seconds and round(seconds, 2),
            "times_idle": round(seconds / statistics.median(idle), 2) if seconds and idle else None,
            "ideal": round((CORES + count) / CORES, 2),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training beside other busy processes.")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of a training (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds at most (%(default)s)")
    parser.add_argument("--others", type=int, nargs="+", default=[0, 1, 2, 4], help="busy processes")
    parser.add_argument("--nice", type=int, default=0, help="their niceness (%(default)s)")
    parser.add_argument("--ways", nargs="+", default=["measured"], choices=list(WAYS))
    parser.add_argument("--limit", type=float, default=150, help="seconds that a training may take (%(default)s)")
    parser.add_argument("--budget", type=float, default=300, help="seconds after which none is begun (%(default)s)")
    options = parser.parse_args()
    start = time.monotonic()
    took: dict[tuple[str, int], list[float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        crowd = Path(folder) / "crowd"
        make_crowd(crowd, train_ids=120, test_ids=80, progress=False)
        for _ in range(options.rounds):
            for count in options.others:
                for way in options.ways:
                    if time.monotonic() - start > options.budget:
                        continue
                    with others(count, options.nice):
                        took.setdefault((way, count), []).append(train(crowd, options.epochs, way, options.limit))
    rows = summary(took, options.nice)
    print(table(rows))
    print(f"written to {write('busy', {'cores': CORES, 'epochs': options.epochs, 'rows': rows})}")


if __name__ == "__main__":
    main()
