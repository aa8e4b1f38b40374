"""``regard serve`` on loopback: latency and throughput against the number of clients, and the memory it holds.

    python benchmarks/serve.py                      # 20,000 x 512, 10 s for each number of clients: about two minutes
    python benchmarks/serve.py --size 100000 --seconds 20
    REGARD_BEFORE=elsewhere/src python benchmarks/serve.py      beside another checkout, by the path of its packages

A process of its own serves a gallery of made-up descriptors; the clients are threads of this one, each with a
connection that it keeps and searches over without a pause, with and without filters. A search is logged, and the log is
on the disk, before it is answered. Two checkouts, each with a gallery that it filled, are asked in turns of two
seconds, so that what else the machine does meets both. Prints a table and writes benchmarks/results/serve.json.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from regard.threads import allowed_cores

HERE = Path(__file__).resolve().parent
DIM, K, CAMERAS, DAY = 512, 24, 8, 86_400.0
CLIENTS = (1, 2, 4, 8, 16)
TURN = 2.0
"""Seconds for which one is asked before the other's turn."""
FILTERS = ({}, {"not_cameras": ["0", "1"], "since": 0.2 * DAY, "until": 0.87 * DAY}, {"cameras": ["3"], "group": True})
"""Asked in turn: nothing, about half, one camera in eight by tracklet."""


def asked_with(size: int) -> list[str]:
    """Ids of the pictures to search with."""
    from regard.gallery.record import record_id

    return [record_id(str(number)) for number in range(0, size, max(size // 64, 1))][:64]


def fill(folder: Path, size: int) -> None:
    """Make a gallery and its model."""
    from regard.gallery import Embedder, Gallery, Item, Record
    from regard.gallery.record import record_id
    from regard.models import create_model

    create_model("baseline", num_ids=2, backbone="resnet18").save(folder / "model")
    embedder = Embedder(folder / "model")
    random = np.random.default_rng(0)
    centers = random.standard_normal((max(size // 20, 1), DIM), np.float32)
    with Gallery.create(folder / "people", DIM, embedder.describe()) as gallery:
        for start in range(0, size, 10_000):
            items = []
            for number in range(start, min(start + 10_000, size)):
                person = int(random.integers(len(centers)))
                vector = centers[person] + 0.9 * random.standard_normal(DIM, np.float32)
                facts = {"camera": str(random.integers(CAMERAS)), "time": float(random.uniform(0, DAY))}
                items.append(
                    Item(Record(record_id(str(number)), f"{number}.jpg", track=f"t{number // 8}", **facts), vector)
                )
            gallery.add(items)


def of_checkout(source: str | None) -> dict[str, str]:
    """The environment of a process that runs the packages of a checkout; None is this one's."""
    return dict(os.environ) if source is None else {**os.environ, "PYTHONPATH": source}


@contextmanager
def serving(folder: Path, size: int, source: str | None) -> Iterator[tuple[subprocess.Popen, str]]:
    """A process that serves the gallery of a folder, which it fills first, and where it listens."""
    folder.mkdir()
    filling = [sys.executable, __file__, "--fill", str(folder), "--size", str(size)]
    subprocess.run(filling, check=True, env=of_checkout(source))
    command = [sys.executable, "-m", "regard", "serve", str(folder / "people"), "--port", "0"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=of_checkout(source), **streams) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            address = re.search(r"http://([\d.:]+)/", line)
            if address is None:
                raise SystemExit(f"regard serve did not start: {line}")
            yield process, address[1]
        finally:
            process.terminate()


def post(connection: http.client.HTTPConnection, path: str, body: dict) -> dict:
    """The answer to a request."""
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    if answer.status >= 300:
        raise SystemExit(f"{path} was answered {answer.status}: {found}")
    return found


def client(address: str, ids: list[str], first: int, until: float) -> list[float]:
    """Search until a moment; seconds of each search."""
    taken = []
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        query = post(connection, "/api/queries/pictures", {"ids": [ids[first % len(ids)]]})["query"]
        for filter in itertools.islice(itertools.cycle(FILTERS), first % len(FILTERS), None):
            started = time.perf_counter()
            if started >= until:
                return taken
            post(connection, "/api/search", {"query": query, "k": K, **filter})
            taken.append(time.perf_counter() - started)
    return taken


def memory(process: subprocess.Popen) -> float | None:
    """MiB of a process that are in memory; None where the system does not say."""
    status = Path(f"/proc/{process.pid}/status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else None


def spent(process: subprocess.Popen) -> float:
    """CPU seconds that a process has taken; 0 where the system does not say."""
    place = Path(f"/proc/{process.pid}/stat")
    ticks = place.read_text().rpartition(")")[2].split()[11:13] if place.exists() else ["0"]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def turn(address: str, ids: list[str], clients: int, seconds: float) -> tuple[float, np.ndarray]:
    """Seconds that a number of clients asked for, and those of every search."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(lambda number: client(address, ids, number, started + seconds), range(clients)))
    return time.perf_counter() - started, np.concatenate([np.array(part) for part in parts])


def measure(
    services: dict[str, tuple[subprocess.Popen, str]], ids: list[str], clients: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Figures of every service for a number of clients, asked in turns."""
    turns: dict[str, list[tuple[float, np.ndarray]]] = {name: [] for name in services}
    began = {name: spent(process) for name, (process, _) in services.items()}
    for number in range(max(round(seconds / TURN), 1)):
        for name in sorted(services, reverse=number % 2 == 1):  # none is always the first
            turns[name].append(turn(services[name][1], ids, clients, min(TURN, seconds)))
    found = {}
    for name, parts in turns.items():
        elapsed, taken = sum(part[0] for part in parts), np.concatenate([part[1] for part in parts])
        facts = {f"p{q} ms": 1000 * float(np.percentile(taken, q)) for q in (50, 95, 99)}
        counted = {"searches": len(taken), "per second": len(taken) / elapsed}
        process = services[name][0]
        used = 1000 * (spent(process) - began[name]) / len(taken)
        found[name] = counted | facts | {"CPU ms": used, "MiB": memory(process)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20_000, help="pictures (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="for each number of clients (%(default)s)")
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        fill(arguments.fill, arguments.size)
        return
    before = os.environ.get("REGARD_BEFORE")
    tables: dict[str, dict[str, dict]] = {name: {} for name in ("before", "now") if before or name == "now"}
    with tempfile.TemporaryDirectory() as home, ExitStack() as opened:
        services = {
            name: opened.enter_context(serving(Path(home) / name, arguments.size, before if name == "before" else None))
            for name in tables
        }
        ids = asked_with(arguments.size)
        measure(services, ids, 2, min(arguments.seconds, 3))  # to warm up
        heads = "".join(f"{head:>9}" for head in ("p50 ms", "p95 ms", "p99 ms", "CPU ms"))
        print(f"{'':<8}{'clients':>8}{'searches':>10}{'per s':>8}{heads}{'MiB':>8}")
        for clients in CLIENTS:
            for name, facts in measure(services, ids, clients, arguments.seconds).items():
                tables[name][str(clients)] = facts
                times = "".join(f"{facts[f'p{q} ms']:>9.1f}" for q in (50, 95, 99))
                counted = f"{facts['searches']:>10}{facts['per second']:>8.0f}"
                print(
                    f"{name:<8}{clients:>8}{counted}{times}{facts['CPU ms']:>9.2f}{facts['MiB'] or 0:>8.0f}", flush=True
                )
    machine = {"date": date.today().isoformat(), "machine": platform.machine(), "cores": allowed_cores()}
    result = machine | {"size": arguments.size, "dim": DIM, "k": K, "seconds": arguments.seconds}
    result |= {"clients": tables["now"]} | ({"before": tables["before"]} if before else {})
    path = HERE / "results" / "serve.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {str(arguments.size): result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
