"""``regard serve`` on loopback: latency and throughput against the number of clients, and the memory it holds.

    python benchmarks/serve.py                      # 20,000 x 512, 10 s for each number of clients: about two minutes
    python benchmarks/serve.py --size 100000 --seconds 20

A process of its own serves a gallery of made-up descriptors; the clients are threads of this one, each with a
connection that it keeps and searches over without a pause, with and without filters. A search is logged, and the log is
on the disk, before it is answered. Prints a table and writes benchmarks/results/serve.json.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

import numpy as np

from regard.threads import allowed_cores

HERE = Path(__file__).resolve().parent
DIM, K, CAMERAS, DAY = 512, 24, 8, 86_400.0
CLIENTS = (1, 2, 4, 8, 16)
FILTERS = ({}, {"not_cameras": ["0", "1"], "since": 0.2 * DAY, "until": 0.87 * DAY}, {"cameras": ["3"], "group": True})
"""Asked in turn: nothing, about half, one camera in eight by tracklet."""


def fill(folder: Path, size: int) -> list[str]:
    """Make a gallery and its model; ids of the pictures to search with."""
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
    return [record_id(str(number)) for number in range(0, size, max(size // 64, 1))][:64]


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and where it listens."""
    command = [sys.executable, "-m", "regard", "serve", str(folder / "people"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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


def measure(address: str, ids: list[str], clients: int, seconds: float) -> dict[str, float]:
    """Figures for a number of clients."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(lambda number: client(address, ids, number, started + seconds), range(clients)))
    elapsed = time.perf_counter() - started
    taken = np.concatenate([np.array(part) for part in parts])
    facts = {f"p{q} ms": 1000 * float(np.percentile(taken, q)) for q in (50, 95, 99)}
    return {"searches": len(taken), "per second": len(taken) / elapsed} | facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20_000, help="pictures (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="for each number of clients (%(default)s)")
    arguments = parser.parse_args()
    table: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        ids = fill(Path(name), arguments.size)
        with serving(Path(name)) as (process, address):
            measure(address, ids, 2, min(arguments.seconds, 3))  # to warm up
            print(f"{'clients':>8}{'searches':>10}{'per s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'MiB':>8}")
            for clients in CLIENTS:
                facts = measure(address, ids, clients, arguments.seconds) | {"MiB": memory(process)}
                table[str(clients)] = facts
                cells = (
                    f"{facts['per second']:>8.0f}{facts['p50 ms']:>9.1f}{facts['p95 ms']:>9.1f}{facts['p99 ms']:>9.1f}"
                )
                print(f"{clients:>8}{facts['searches']:>10}{cells}{facts['MiB'] or 0:>8.0f}", flush=True)
    machine = {"date": date.today().isoformat(), "machine": platform.machine(), "cores": allowed_cores()}
    result = machine | {"size": arguments.size, "dim": DIM, "k": K, "seconds": arguments.seconds, "clients": table}
    path = HERE / "results" / "serve.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {str(arguments.size): result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
