"""Searching a large gallery: latency, recall, memory and time to build, beside faiss-cpu in the same run.

    python benchmarks/search.py                     # 100,000 x 512: some minutes
    python benchmarks/search.py --size 20000        # a taste of it
    python benchmarks/search.py --size 1000000 --engines embedded faiss-flat
    REGARD_MILVUS=http://host:19530 python benchmarks/search.py --engines embedded milvus faiss-flat

Needs faiss-cpu for the faiss rows. Made-up people: descriptors around 1 center for every 20 pictures. Queries are new
pictures of the same people, one at a time; filters: u nothing, f other cameras and a time range (about half), r one
camera and a short time (about 1 in 300). Recall is of the 50 best by the flat search. Every engine runs in a process of
its own; its memory is what the process holds more at its peak than before it began. Prints a table and writes
benchmarks/results/search.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import platform
import resource
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from regard.search.record import Filter, Item, Record, record_id

HERE = Path(__file__).resolve().parent
DIM, K, CAMERAS, DAY = 512, 50, 8, 86_400.0
ENGINES = ("embedded", "embedded-hnsw", "faiss-flat", "faiss-hnsw", "milvus")
FILTERS = {
    "u": Filter(),
    "f": Filter(not_cameras=("0", "1"), since=0.2 * DAY, until=0.87 * DAY),
    "r": Filter(cameras=("3",), since=0.5 * DAY, until=0.53 * DAY),
}
Search = Callable[[np.ndarray, str], np.ndarray]


def make(size: int, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(N, D) gallery, (Q, D) queries, (N,) cameras, (N,) times."""
    random = np.random.default_rng(seed)
    centers = random.standard_normal((size // 20, DIM), np.float32)
    gallery = centers[random.integers(len(centers), size=size)]
    gallery += 0.9 * random.standard_normal((size, DIM), np.float32)
    asked = centers[random.integers(len(centers), size=queries)]
    asked += 0.9 * random.standard_normal((queries, DIM), np.float32)
    for rows in (gallery, asked):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return gallery, asked, random.integers(CAMERAS, size=size), random.uniform(0, DAY, size)


def allowed(name: str, cameras: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(N,) which pictures a filter accepts."""
    filter = FILTERS[name]
    keep = np.ones(len(cameras), bool)
    if filter.cameras is not None:
        keep &= np.isin(cameras, [int(c) for c in filter.cameras])
    keep &= ~np.isin(cameras, [int(c) for c in filter.not_cameras])
    return keep & (times >= (filter.since or 0)) & (times < (filter.until or np.inf))


def regard_engine(kind: str, data: Any, folder: Path) -> tuple[dict[str, float], Search]:
    """One of ours, filled."""
    from regard.search import Gallery

    gallery, _, cameras, times = data
    rows = {record_id(str(n)): n for n in range(len(gallery))}
    where = f"{os.environ['REGARD_MILVUS']}/bench_{uuid.uuid4().hex}" if kind == "milvus" else folder / "gallery"
    made, started = Gallery.create(where, DIM, {"name": "made up"}), time.perf_counter()
    for start in range(0, len(gallery), 1000):
        numbers = range(start, min(start + 1000, len(gallery)))
        made.add(
            [
                Item(Record(record_id(str(n)), str(n), camera=str(cameras[n]), time=float(times[n])), gallery[n])
                for n in numbers
            ]
        )
    facts = {"add s": time.perf_counter() - started}
    if kind == "embedded-hnsw":
        started = time.perf_counter()
        made.build_index(samples=1)
        facts["index s"] = time.perf_counter() - started
    if kind != "milvus":
        made.close()
        started = time.perf_counter()
        made = Gallery.open(where)
        facts["open s"] = time.perf_counter() - started

    def search(vector: np.ndarray, name: str) -> np.ndarray:
        found = made.search(vector, K, FILTERS[name], exact=kind != "embedded-hnsw")
        return np.array([rows[match.record.id] for match in found.matches])

    return facts, search


def faiss_engine(kind: str, data: Any, folder: Path) -> tuple[dict[str, float], Search]:
    """One of faiss, filled; its filters are bitmaps made beforehand."""
    import faiss

    gallery, _, cameras, times = data
    started = time.perf_counter()
    index = faiss.IndexFlatIP(DIM) if kind == "faiss-flat" else faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_INNER_PRODUCT)
    if kind == "faiss-hnsw":
        index.hnsw.efConstruction = 128
    index.add(gallery)
    facts = {"add s" if kind == "faiss-flat" else "index s": time.perf_counter() - started}
    bitmaps = {name: np.packbits(allowed(name, cameras, times), bitorder="little") for name in FILTERS}
    options = {}
    for name, bitmap in bitmaps.items():
        chosen = faiss.IDSelectorBitmap(bitmap)
        if kind == "faiss-flat":
            options[name] = faiss.SearchParameters(sel=chosen)
        else:
            options[name] = faiss.SearchParametersHNSW(sel=chosen, efSearch=max(128, 2 * K))

    def search(vector: np.ndarray, name: str) -> np.ndarray:
        found = index.search(vector[None], K, params=options[name])[1][0]
        return found[found >= 0]

    return facts, search


def measure(kind: str, size: int, queries: int, out: Any) -> None:
    """Fill an engine and ask it; in a process of its own."""
    importlib.import_module("faiss" if kind.startswith("faiss") else "regard.search.gallery")
    data = make(size, queries)
    gallery, asked, cameras, times = data
    folder = Path(tempfile.mkdtemp(prefix="regard-bench-"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        facts, search = (faiss_engine if kind.startswith("faiss") else regard_engine)(kind, data, folder)
        for name in FILTERS:
            keep = np.flatnonzero(allowed(name, cameras, times))
            seconds, recalls = [], []
            search(asked[0], name)
            for vector in asked:
                started = time.perf_counter()
                found = search(vector, name)
                seconds.append(time.perf_counter() - started)
                wanted = keep[np.argsort(-(gallery[keep] @ vector))[:K]]
                recalls.append(len(np.intersect1d(found, wanted)) / len(wanted))
            facts[f"{name} p50 ms"] = 1000 * float(np.median(seconds))
            facts[f"{name} p95 ms"] = 1000 * float(np.quantile(seconds, 0.95))
            facts[f"{name} recall"] = float(np.mean(recalls))
        facts["MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        out.put(facts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=100_000, help="pictures (%(default)s)")
    parser.add_argument("--queries", type=int, default=100, help="searches per filter (%(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES[:4]))
    arguments = parser.parse_args()
    spawn, table = multiprocessing.get_context("spawn"), {}
    for kind in arguments.engines:
        out = spawn.Queue()
        process = spawn.Process(target=measure, args=(kind, arguments.size, arguments.queries, out))
        process.start()
        while process.is_alive() and out.empty():
            time.sleep(0.2)
        if not out.empty():
            table[kind] = out.get()
        process.join()
        print(kind, json.dumps(table.get(kind)), flush=True)
    show(table)
    facts = {"date": date.today().isoformat(), "machine": platform.machine(), "cores": os.cpu_count()}
    result = facts | {"size": arguments.size, "dim": DIM, "k": K, "queries": arguments.queries, "engines": table}
    path = HERE / "results" / "search.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {str(arguments.size): result}, indent=2) + "\n")


def show(table: dict[str, dict[str, float]]) -> None:
    """Print the figures."""
    columns = [
        "add s",
        "index s",
        "open s",
        "MiB",
        *(f"{n} {w}" for n in FILTERS for w in ("p50 ms", "p95 ms", "recall")),
    ]
    print(f"{'engine':<14}" + "".join(f"{column:>10}" for column in columns))
    for kind, facts in table.items():
        cells = [f"{facts[c]:.3g}" if c in facts else "-" for c in columns]
        print(f"{kind:<14}" + "".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
