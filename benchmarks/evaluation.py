"""How much an evaluation costs beyond the distances themselves, and beside a full sort.

    python benchmarks/evaluation.py              # at the size of Market-1501's test set: about a minute
    python benchmarks/evaluation.py --rerank     # k-reciprocal re-ranking as well: about two
    python benchmarks/evaluation.py --set small  # a tenth of it: a second

Prints a table and writes benchmarks/results/evaluation.json. Seconds are the least of the repeats. One thread unless
told otherwise: CPU seconds then count work and no waiting, and hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from regard.metrics import KReciprocal, evaluate_ranking
from regard.metrics.protocol import Protocol
from regard.metrics.ranking import positive_ranks
from regard.metrics.score import Scores, cmc_curve, score_ranks

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "metrics"))

from ranking_data import COMPOSITIONS, make  # noqa: E402  # pyright: ignore[reportMissingImports]

BLOCK_ROWS = 512


def product(query: torch.Tensor, gallery: torch.Tensor) -> None:
    """The matrix product alone, in the block size it likes best."""
    for part in query.split(BLOCK_ROWS):
        _ = part @ gallery.T


def count(distances: torch.Tensor, protocol: Protocol) -> tuple[float, float, float]:
    """Our ranking stage on distances at hand -> mAP, mINP, rank-1."""
    blocks = [(slice(0, len(distances)), distances)]
    parts = [score_ranks(ranks, counts) for _, ranks, counts in positive_ranks(blocks, protocol)]
    scores = Scores(*(np.concatenate(column) for column in zip(*parts)))
    return scores.ap.mean(), scores.inp.mean(), cmc_curve(scores.first_hit, 50)[0]


def sort(
    distances: np.ndarray,
    query_pids: np.ndarray,
    gallery_pids: np.ndarray,
    query_camids: np.ndarray,
    gallery_camids: np.ndarray,
    kind: Literal["quicksort", "stable"] = "quicksort",
) -> tuple[float, float, float]:
    """The common way: sort the whole matrix, then walk the queries -> mAP, mINP, rank-1."""
    order = np.argsort(distances, axis=1, kind=kind)
    matches = gallery_pids[order] == query_pids[:, None]
    ap, inp, first = [], [], []
    for row, match, pid, camid in zip(order, matches, query_pids, query_camids):
        match = match[~((gallery_pids[row] == pid) & (gallery_camids[row] == camid))]
        found = match.cumsum()
        hits = np.flatnonzero(match)
        ap.append((found[hits] / (hits + 1)).mean())
        inp.append(len(hits) / (hits[-1] + 1))
        first.append(hits[0])
    return float(np.mean(ap)), float(np.mean(inp)), float(np.mean(np.array(first) == 0))


def measure(work: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Least CPU and wall seconds of the repeats, and the peak of memory above what was held before."""
    best: dict[str, Any] = {"cpu_s": float("inf"), "wall_s": float("inf")}
    before = _reset_peak()
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        best["cpu_s"] = min(best["cpu_s"], time.process_time() - cpu)
        best["wall_s"] = min(best["wall_s"], time.perf_counter() - wall)
    best["extra_mib"] = None if before is None else max(0.0, _status("VmHWM") - before)
    return {key: value if value is None else round(value, 3) for key, value in best.items()}


def _reset_peak() -> float | None:
    """Set the peak of resident memory back to what is held now, in MiB; None where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def run(name: str, repeats: int, rerank: bool) -> dict[str, Any]:
    """Measure everything on one set."""
    data = make(name)
    query, gallery = torch.from_numpy(data["query"]), torch.from_numpy(data["gallery"])
    labels = [data[key] for key in ("query_pids", "gallery_pids", "query_camids", "gallery_camids")]
    protocol = Protocol(*labels)
    kept = protocol.without_junk(gallery)

    rows = {
        "matrix product": measure(lambda: product(query, gallery), repeats),
        "matrix product without junk": measure(lambda: product(query, kept), repeats),
        "regard, whole evaluation": measure(lambda: evaluate_ranking(**data), repeats),
    }
    if rerank:
        rows["regard, re-ranked"] = measure(lambda: evaluate_ranking(**data, rerank=KReciprocal()), 1)
    distances = (1 - query @ kept.T).clamp_(min=0)
    kept_labels = [labels[0], labels[1][protocol.kept], labels[2], labels[3][protocol.kept]]
    rows["regard, ranking alone"] = measure(lambda: count(distances, protocol), repeats)
    rows["full sort, ranking alone"] = measure(lambda: sort(distances.numpy(), *kept_labels), repeats)
    figures = zip(count(distances, protocol), sort(distances.numpy(), *kept_labels, kind="stable"))
    difference = max(abs(ours - theirs) for ours, theirs in figures)

    seconds = {key: row["cpu_s"] for key, row in rows.items()}
    bare, pure = seconds["matrix product"], seconds["matrix product without junk"]
    return {
        "set": name,
        "queries": len(query),
        "gallery": len(gallery),
        "junk": len(gallery) - len(kept),
        "dim": query.shape[1],
        "rows": rows,
        "ratios": {
            "whole evaluation / matrix product": round(seconds["regard, whole evaluation"] / bare, 3),
            "whole evaluation / matrix product without junk": round(seconds["regard, whole evaluation"] / pure, 3),
            "full sort / ranking alone": round(
                seconds["full sort, ranking alone"] / seconds["regard, ranking alone"], 2
            ),
        },
        "largest difference of mAP, mINP, rank-1 to a stable full sort": difference,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="market", choices=sorted(set(COMPOSITIONS) - {"edge", "edge_tiny"}))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rerank", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "evaluation.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = run(args.set, args.repeats, args.rerank)

    print(f"{result['queries']:,} queries x {result['gallery']:,} gallery images x {result['dim']}")
    print(f"{'':32}{'CPU s':>9}{'wall s':>9}{'extra MiB':>11}")
    for name, row in result["rows"].items():
        memory = "-" if row["extra_mib"] is None else f"{row['extra_mib']:.0f}"
        print(f"{name:32}{row['cpu_s']:9.3f}{row['wall_s']:9.3f}{memory:>11}")
    for name, ratio in result["ratios"].items():
        print(f"{name:50}{ratio:9.2f}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
