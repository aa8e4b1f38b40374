"""Searching a large gallery: latency, recall, memory, disk and time to build, beside faiss-cpu in the same run.

    python benchmarks/search.py                          # 10,000, 100,000 and 1,000,000 x 512
    python benchmarks/search.py --sizes 10000 --data people
    REGARD_MILVUS=http://host:19530 python benchmarks/search.py --sizes 100000 --engines embedded milvus faiss-flat
    REGARD_BEFORE=elsewhere/src python benchmarks/search.py --engines before embedded faiss-flat

Needs faiss-cpu for the faiss rows. Every engine is filled by one process and asked in another that opens what the first
has stored, so that memory is what a search needs. The searching processes of all engines stand side by side and are
asked in turn, a few queries each, so that a busy machine is busy for all of them; threads are OMP_NUM_THREADS for all.
``before`` is the embedded engine of another checkout, by the path of its packages in REGARD_BEFORE.

Two kinds of made-up descriptors, 20 pictures of each person as a rule, queries are new pictures of them:

    people   48 dimensions of likeness in 512 (a random linear map) with noise in all 512, as descriptors of networks
             are: 64 directions hold 94 % of what differs
    noise    512 independent dimensions, centers and 0.9 as much noise: the worst case for any index

Filters: u nothing, f other cameras and a time range (about half), r one camera and a short time (about 1 in 300).
Recall is the share of the 50 answers that are no worse than the true 50th best. Bitmaps of faiss' filters are made
before the clock starts, and faiss keeps no records; our times hold filter, count and records. Prints a table, writes
benchmarks/results/search.json and draws docs/pictures/search_scale.png.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from results_file import PICTURES, RESULTS, circumstances

from regard.gallery.record import Filter, Item, Record, record_id

DIM, K, CAMERAS, DAY = 512, 50, 8, 86_400.0
INNER, BLOCK, BATCH, TURN = 48, 20_000, 32, 10
ENGINES = ("embedded", "indexed", "faiss-flat", "faiss-hnsw", "milvus", "before")
WAYS = {"indexed": ("indexed", "approximate")}
"""Engines that answer in more than one way."""

FILTERS = {
    "u": Filter(),
    "f": Filter(not_cameras=("0", "1"), since=0.2 * DAY, until=0.87 * DAY),
    "r": Filter(cameras=("3",), since=0.5 * DAY, until=0.53 * DAY),
}
COLUMNS = ["fill s", "index s", "open s", "anon MiB", "file MiB", "disk MiB"]
COLUMNS += [f"{name} {what}" for name in FILTERS for what in ("p50 ms", "p95 ms", "recall")] + ["batch ms"]
Search = Callable[[np.ndarray, str, str], np.ndarray]


# Data -------------------------------------------------------------------------------------------------------------


def make(kind: str, size: int, queries: int, folder: Path) -> None:
    """Write (N, D) gallery, (Q, D) queries, (N,) cameras and times to a folder."""
    random = np.random.default_rng(0)
    inner = INNER if kind == "people" else DIM
    plane = random.standard_normal((inner, DIM), np.float32) / np.float32(inner**0.5)
    centers = random.standard_normal((max(1, size // 20), inner), np.float32)

    def pictures(count: int) -> np.ndarray:
        chosen = centers[random.integers(len(centers), size=count)]
        if kind == "people":
            rows = (chosen + 0.5 * random.standard_normal(chosen.shape, np.float32)) @ plane
            rows += 0.3 * random.standard_normal(rows.shape, np.float32)
        else:
            rows = chosen + 0.9 * random.standard_normal(chosen.shape, np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    gallery = np.lib.format.open_memmap(folder / "gallery.npy", "w+", np.float32, (size, DIM))
    for start in range(0, size, BLOCK):
        gallery[start : start + BLOCK] = pictures(len(gallery[start : start + BLOCK]))
    gallery.flush()
    np.save(folder / "queries.npy", pictures(queries))
    np.save(folder / "cameras.npy", random.integers(CAMERAS, size=size))
    np.save(folder / "times.npy", random.uniform(0, DAY, size))


def load(folder: Path, name: str) -> np.ndarray:
    """An array of the data, mapped."""
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def allowed(name: str, folder: Path) -> np.ndarray:
    """(N,) which pictures a filter accepts."""
    filter, cameras, times = FILTERS[name], load(folder, "cameras"), load(folder, "times")
    keep = np.ones(len(cameras), bool)
    if filter.cameras is not None:
        keep &= np.isin(cameras, [int(c) for c in filter.cameras])
    keep &= ~np.isin(cameras, [int(c) for c in filter.not_cameras])
    return keep & (times >= (filter.since or 0)) & (times < (filter.until or np.inf))


def floors(folder: Path) -> dict[str, np.ndarray]:
    """For every filter the (Q,) scores of the true 50th best."""
    gallery, queries = load(folder, "gallery"), load(folder, "queries")
    keeps = {name: allowed(name, folder) for name in FILTERS}
    best = {name: np.empty((len(queries), 0), np.float32) for name in FILTERS}
    for start in range(0, len(gallery), BLOCK):
        scores = queries @ gallery[start : start + BLOCK].T
        for name, keep in keeps.items():
            both = np.concatenate([best[name], scores[:, keep[start : start + BLOCK]]], 1)
            best[name] = -np.sort(-both, 1)[:, :K]
    return {name: found[:, -1] for name, found in best.items()}


# Engines ----------------------------------------------------------------------------------------------------------


def fill_ours(kind: str, data: Path, folder: Path) -> dict[str, float]:
    """Fill a gallery of ours; the indexed one begins as a copy of the plain one."""
    from regard.gallery import Gallery

    facts: dict[str, float] = {}
    if kind == "indexed":
        shutil.copytree(folder.parent / "embedded" / "gallery", folder / "gallery")
        made, started = Gallery.open(folder / "gallery"), time.perf_counter()
        facts["index recall"] = made.build_index()
        facts["index s"] = time.perf_counter() - started
        made.close()
        return facts
    where = f"{os.environ['REGARD_MILVUS']}/bench_{uuid.uuid4().hex}" if kind == "milvus" else folder / "gallery"
    (folder / "where").write_text(str(where))
    gallery, cameras, times = (load(data, name) for name in ("gallery", "cameras", "times"))
    made, seconds = Gallery.create(where, DIM, {"name": "made up"}), 0.0
    for start in range(0, len(gallery), 1000):
        rows = range(start, min(start + 1000, len(gallery)))
        records = [Record(record_id(str(n)), str(n), camera=str(cameras[n]), time=float(times[n])) for n in rows]
        items = [Item(record, gallery[n]) for n, record in zip(rows, records)]
        started = time.perf_counter()
        made.add(items)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    made.close()
    return {"fill s": seconds + time.perf_counter() - started}


def open_ours(kind: str, data: Path, folder: Path) -> tuple[Search, Search]:
    """Searches one at a time, and many at once."""
    from regard.gallery import Gallery

    where = (folder / "where").read_text() if kind == "milvus" else folder / "gallery"
    made = Gallery.open(where)

    def search(vector: np.ndarray, name: str, way: str) -> np.ndarray:
        found = made.search(vector, K, FILTERS[name], exact=way != "approximate")
        return np.array([int(match.record.path) for match in found.matches])

    def batch(vectors: np.ndarray, name: str, way: str) -> np.ndarray:
        hits = made._engine.search(vectors, K, FILTERS[name], exact=way != "approximate")
        return np.array([[int(hit.record.path) for hit in each] for each in hits])

    return search, batch


def fill_faiss(kind: str, data: Path, folder: Path) -> dict[str, float]:
    """Fill an index of faiss and store it."""
    import faiss

    index = faiss.IndexFlatIP(DIM)
    if kind == "faiss-hnsw":
        index = faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 40
    gallery, started = np.asarray(load(data, "gallery")), time.perf_counter()
    index.add(gallery)
    facts = {"fill s" if kind == "faiss-flat" else "index s": time.perf_counter() - started}
    faiss.write_index(index, str(folder / "faiss"))
    return facts


def open_faiss(kind: str, data: Path, folder: Path) -> tuple[Search, Search]:
    """Searches one at a time, and many at once; the filters are bitmaps made beforehand."""
    import faiss

    index, options = faiss.read_index(str(folder / "faiss")), dict[str, Any]()
    bitmaps = {name: np.packbits(allowed(name, data), bitorder="little") for name in FILTERS}
    for name, bitmap in bitmaps.items():
        sel = {} if name == "u" else {"sel": faiss.IDSelectorBitmap(bitmap)}
        flat = kind == "faiss-flat"
        options[name] = faiss.SearchParameters(**sel) if flat else faiss.SearchParametersHNSW(efSearch=128, **sel)

    def batch(vectors: np.ndarray, name: str, way: str) -> np.ndarray:
        return index.search(vectors, K, params=options[name])[1]

    def search(vector: np.ndarray, name: str, way: str) -> np.ndarray:
        found = batch(vector[None], name, way)[0]
        return found[found >= 0]

    batch.bitmaps = bitmaps  # faiss does not keep them
    return search, batch


def memory() -> dict[str, float]:
    """MiB of this process: its own, and mapped files that are in memory."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[key].split()[0]) / 1024 for name, key in (("anon MiB", "RssAnon"), ("file MiB", "RssFile"))}


def fill(kind: str, data: Path, folder: Path, line: Any) -> None:
    """Process that fills an engine."""
    folder.mkdir(exist_ok=True)
    facts = (fill_faiss if kind.startswith("faiss") else fill_ours)(kind, data, folder)
    line.send(facts | {"disk MiB": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20})


def serve(kind: str, data: Path, folder: Path, line: Any) -> None:
    """Process that opens an engine and answers (filter, way, numbers of queries) until it is told None."""
    importlib.import_module("faiss" if kind.startswith("faiss") else "regard.gallery.gallery")
    importlib.import_module("torch")
    queries = np.array(load(data, "queries"))
    before, started = memory(), time.perf_counter()
    search, batch = (open_faiss if kind.startswith("faiss") else open_ours)(kind, data, folder)
    line.send({"open s": time.perf_counter() - started})
    while (asked := line.recv()) is not None:
        name, way, numbers, together = asked
        seconds, found = [], []
        search(queries[numbers[0]], name, way)  # the others had the caches meanwhile
        for number in numbers[: 0 if together else None]:
            started = time.perf_counter()
            found.append(search(queries[number], name, way))
            seconds.append(time.perf_counter() - started)
        if together:
            started = time.perf_counter()
            found = list(batch(queries[numbers], name, way))
            seconds = [(time.perf_counter() - started) / len(numbers)] * len(numbers)
        line.send((seconds, found))
    line.send({key: value - before[key] for key, value in memory().items()})


# The run ----------------------------------------------------------------------------------------------------------


def run(kind: str, size: int, engines: list[str], queries: int, spare: Path) -> dict[str, dict[str, float]]:
    """Every engine on one gallery: row -> figures."""
    spawn = multiprocessing.get_context("spawn")
    if spare:
        spare.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="regard-bench-", dir=spare) as scratch:
        data = Path(scratch)
        make(kind, size, queries, data)
        facts: dict[str, dict[str, float]] = {}
        for engine in engines:
            facts[engine] = talk(spawn, fill, engine, data)[1].recv()
            print(f"  {engine} filled: {json.dumps(facts[engine])}", flush=True)
        floor, lines = floors(data), {}
        for engine in engines:
            lines[engine] = talk(spawn, serve, engine, data)
            facts[engine] |= lines[engine][1].recv()
        seconds, recalls = ask_in_turn({engine: line for engine, (_, line) in lines.items()}, data, floor, queries)
        for engine, (process, line) in lines.items():
            line.send(None)
            facts[engine] |= line.recv()
            process.join()
    rows = {way: dict(facts[engine]) for engine in engines for way in WAYS.get(engine, (engine,))}
    for (way, what), times in seconds.items():
        if what == "batch":
            rows[way]["batch ms"] = 1000 * float(np.median(times))
            continue
        rows[way] |= {f"{what} p{q} ms": 1000 * float(np.percentile(times, q)) for q in (50, 95)}
        rows[way][f"{what} recall"] = float(np.mean(recalls[way, what]))
    return rows


def talk(spawn: Any, work: Callable[..., None], engine: str, data: Path) -> tuple[Any, Any]:
    """A process at work for an engine, and the line to it; for filling, one that has finished."""
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(engine, data, data / engine, theirs))
    path = sys.path.copy()
    if engine == "before":
        sys.path.insert(0, os.environ["REGARD_BEFORE"])  # a spawned process takes it from here
    process.start()
    sys.path[:] = path
    theirs.close()
    if work is fill:
        process.join()
    return process, ours


def ask_in_turn(lines: dict[str, Any], data: Path, floor: dict[str, np.ndarray], queries: int) -> tuple[Any, Any]:
    """Seconds and recalls of every (row, filter); ``batch`` for many queries at once."""
    gallery, asked = load(data, "gallery"), load(data, "queries")
    wanted = {name: min(K, int(allowed(name, data).sum())) for name in FILTERS}
    seconds: dict[tuple[str, str], list[float]] = {}
    recalls: dict[tuple[str, str], list[float]] = {}
    rounds = [(name, list(range(s, min(s + TURN, queries)))) for s in range(0, queries, TURN) for name in FILTERS]
    rounds += [("batch", list(range(min(BATCH, queries))))] * 3
    for what, numbers in rounds:
        for engine, line in lines.items():
            for way in WAYS.get(engine, (engine,)):
                name = "u" if what == "batch" else what
                line.send((name, way, numbers, what == "batch"))
                times, found = line.recv()
                seconds.setdefault((way, what), []).extend(times)
                for number, rows in zip(numbers, found):
                    good = (gallery[rows] @ asked[number] >= floor[name][number] - 1e-6).sum()
                    recalls.setdefault((way, what), []).append(good / wanted[name])
    return seconds, recalls


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print the figures."""
    print(f"{'':<12}" + "".join(f"{column:>10}" for column in COLUMNS))
    for way, facts in rows.items():
        print(f"{way:<12}" + "".join(f"{facts[c]:>10.3g}" if c in facts else f"{'-':>10}" for c in COLUMNS))


def draw(results: dict[str, dict[str, dict[str, dict[str, float]]]], path: Path) -> None:
    """Latency against gallery size, one panel for every filter and kind of data; the lowest recall where below 1."""
    from matplotlib import pyplot as plt

    titles = {"u": "no filter", "f": "half pass", "r": "1 in 300 pass"}
    figure, panels = plt.subplots(
        len(results), 3, figsize=(11, 3.4 * len(results)), sharex=True, sharey=True, squeeze=False
    )
    for (kind, sizes), line in zip(results.items(), panels):
        ways = list(dict.fromkeys(way for rows in sizes.values() for way in rows))
        for (name, title), panel in zip(titles.items(), line):
            for way in ways:
                points = [(int(n), rows[way][f"{name} p50 ms"]) for n, rows in sizes.items() if way in rows]
                dashed = "--" if way in ("approximate", "faiss-hnsw") else "-"
                panel.loglog(*zip(*points), marker="o", linestyle=dashed, label=way)
                recall = min(rows[way][f"{name} recall"] for rows in sizes.values() if way in rows)
                if recall < 0.995:
                    panel.annotate(
                        f"recall {recall:.2f}", points[-1], xytext=(-8, 6), textcoords="offset points", ha="right"
                    )
            panel.set_title(f"{kind}: {title}")
            panel.grid(alpha=0.3)
        line[0].set_ylabel("median ms per search")
    for panel in panels[-1]:
        panel.set_xlabel("pictures of 512 numbers")
    panels[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="pictures")
    parser.add_argument("--data", nargs="+", choices=("people", "noise"), default=["people", "noise"])
    parser.add_argument("--queries", type=int, default=100, help="searches per filter (%(default)s)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES[:4]))
    parser.add_argument("--hnsw-most", type=int, default=1_000_000, help="largest gallery for faiss-hnsw (%(default)s)")
    parser.add_argument("--scratch", type=Path, help="folder with room for 15 GB at a million pictures")
    parser.add_argument("--out", type=Path, default=RESULTS / "search.json")
    parser.add_argument("--picture", type=Path, default=PICTURES / "search_scale.png")
    arguments = parser.parse_args()
    if "indexed" in arguments.engines and "embedded" not in arguments.engines:
        parser.error("indexed begins as a copy of embedded; name both")
    facts = circumstances() | {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "faiss-cpu")}
    facts |= {"dim": DIM, "k": K, "queries": arguments.queries, "hnsw": "M 16, efConstruction 40, efSearch 128"}
    results: dict[str, Any] = {}
    for size in arguments.sizes:
        for kind in arguments.data:
            print(f"{kind}, {size:,} x {DIM}", flush=True)
            engines = [e for e in arguments.engines if e != "faiss-hnsw" or size <= arguments.hnsw_most]
            rows = run(kind, size, engines, arguments.queries, arguments.scratch)
            results.setdefault(kind, {})[str(size)] = rows
            show(rows)
            arguments.out.write_text(json.dumps(facts | {"results": results}, indent=2) + "\n")
            draw(results, arguments.picture)


if __name__ == "__main__":
    main()
