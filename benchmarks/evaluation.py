"""How much an evaluation costs beyond the distances themselves, beside a full sort and a dense re-ranking.

    python benchmarks/evaluation.py               # at the size of Market-1501's test set: about a minute
    python benchmarks/evaluation.py --rerank      # k-reciprocal re-ranking too: two minutes, 7 GiB for the dense one
    python benchmarks/evaluation.py --set msmt17  # 11,659 x 82,161: about five minutes; with --rerank about ten
    python benchmarks/evaluation.py --set small   # a tenth of Market-1501: seconds

Prints tables and writes benchmarks/results/evaluation.json (evaluation_SET.json for other sets). Seconds are the least
of the repeats. One thread unless told otherwise: CPU seconds then count work and no waiting, and hardly depend on what
else the machine does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from regard.metrics import KReciprocal, evaluate_ranking, rerank_blocks
from regard.metrics.average_precision import Scores, cmc_curve, score_ranks
from regard.metrics.protocol import Protocol
from regard.metrics.ranking import positive_ranks
from regard.threads import allowed_cores

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "metrics"))

from ranking_data import COMPOSITIONS, make  # noqa: E402  # pyright: ignore[reportMissingImports]

BLOCK_ROWS = 1024
MOST_PAIRS = 2**27  # that a full sort is tried on
SHARES = (0.125, 0.25, 0.5, 1.0)


def product(query: torch.Tensor, gallery: torch.Tensor) -> None:
    """The matrix product alone, in the block size and row length it likes best."""
    room = torch.empty(BLOCK_ROWS, -(-len(gallery) // 16) * 16)[:, : len(gallery)]
    for part in query.split(BLOCK_ROWS):
        torch.mm(part, gallery.T, out=room[: len(part)])


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


def rerank_densely(query: np.ndarray, gallery: np.ndarray, k1: int = 20, k2: int = 6, lam: float = 0.3) -> np.ndarray:
    """The published re-ranking on N x N matrices -> (Q, G) distances of descriptors of unit length."""
    features = np.concatenate([query, gallery])
    count, asked = len(features), len(query)
    original = 2 - 2 * (features @ features.T)
    np.maximum(original, 0, out=original)
    original /= original.max(axis=1, keepdims=True)
    order = np.argpartition(original, range(1, k1 + 1), axis=1)

    def reciprocal(i: int, k: int) -> np.ndarray:
        forward = order[i, : k + 1]
        return forward[(order[forward, : k + 1] == i).any(axis=1)]

    weights = np.zeros((count, count), np.float32)
    for i in range(count):
        whole = reciprocal(i, k1)
        expanded = whole
        for j in whole:
            half = reciprocal(j, round(k1 / 2))
            if 3 * len(np.intersect1d(half, whole)) > 2 * len(half):
                expanded = np.append(expanded, half)
        expanded = np.unique(expanded)
        weight = np.exp(-original[i, expanded])
        weights[i, expanded] = weight / weight.sum()
    original = original[:asked].copy()
    averaged = np.zeros_like(weights)
    for i in range(count):
        averaged[i] = weights[order[i, :k2]].mean(axis=0)
    weights = averaged
    del averaged
    holders = [np.flatnonzero(weights[:, i]) for i in range(count)]
    jaccard = np.empty((asked, count), np.float32)
    for i in range(asked):
        shared = np.zeros(count, np.float32)
        for j in np.flatnonzero(weights[i]):
            shared[holders[j]] += np.minimum(weights[i, j], weights[holders[j], j])
        jaccard[i] = 1 - shared / (2 - shared)
    return (lam * original + (1 - lam) * jaccard)[:, asked:]


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


def consume(blocks: Iterable[Any]) -> None:
    for _ in blocks:
        pass


def keep_first(data: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """The first part of queries and gallery such that ``share`` of all pairs is left."""
    return {key: values[: round(len(values) * share**0.5)] for key, values in data.items()}


def sort_part(query: torch.Tensor, kept: torch.Tensor, protocol: Protocol, repeats: int) -> dict[str, Any]:
    """The ranking stage on distances at hand, beside a full sort."""
    assert protocol.query_camids is not None
    assert protocol.gallery_camids is not None
    distances = (1 - query @ kept.T).clamp_(min=0)
    rows = protocol.kept
    labels = (protocol.query_pids, protocol.gallery_pids[rows], protocol.query_camids, protocol.gallery_camids[rows])
    table = {
        "regard, ranking alone": measure(lambda: count(distances, protocol), repeats),
        "full sort, ranking alone": measure(lambda: sort(distances.numpy(), *labels), repeats),
    }
    figures = zip(count(distances, protocol), sort(distances.numpy(), *labels, kind="stable"))
    return {"rows": table, "difference": max(abs(ours - theirs) for ours, theirs in figures)}


def rerank_part(data: dict[str, np.ndarray], kept: torch.Tensor, protocol: Protocol, dense: bool) -> dict[str, Any]:
    """Re-ranked distances, beside N x N matrices."""
    query = torch.from_numpy(data["query"])
    table = {"regard, re-ranked distances": measure(lambda: consume(rerank_blocks(query, kept, KReciprocal())), 1)}
    ours = evaluate_ranking(**data, rerank=True)
    result: dict[str, Any] = {"rows": table, "mAP": ours.mAP, "rank-1": ours.rank(1)}
    if dense:
        held: list[np.ndarray] = []
        work = lambda: held.append(rerank_densely(data["query"], kept.numpy()))  # noqa: E731
        table["dense N x N, re-ranked distances"] = measure(work, 1)
        theirs = count(torch.from_numpy(held[0]), protocol)
        result |= {"dense mAP": theirs[0], "dense rank-1": theirs[2], "difference": abs(ours.mAP - theirs[0])}
    return result


def run(name: str, repeats: int, rerank: bool) -> dict[str, Any]:
    """Measure everything on one set."""
    data = make(name)
    query, gallery = torch.from_numpy(data["query"]), torch.from_numpy(data["gallery"])
    protocol = Protocol(*(data[key] for key in ("query_pids", "gallery_pids", "query_camids", "gallery_camids")))
    kept = protocol.without_junk(gallery)
    small = len(query) * len(gallery) <= MOST_PAIRS
    rows = {
        "matrix product": measure(lambda: product(query, kept), repeats),
        "regard, whole evaluation": measure(lambda: evaluate_ranking(**data), repeats),
    }
    report = evaluate_ranking(**data)
    figures: dict[str, Any] = {"mAP": report.mAP, "mINP": report.mINP, "rank-1": report.rank(1)}
    parts = {}
    for share in SHARES:
        part = keep_first(data, share)
        pairs = len(part["query"]) * (part["gallery_pids"] != -1).sum()
        seconds = measure(lambda part=part: evaluate_ranking(**part), repeats)["cpu_s"]
        parts[f"{len(part['query']):,} x {len(part['gallery']):,}"] = round(1e9 * seconds / pairs, 2)
    ratios = {"whole evaluation / matrix product": ratio(rows, "regard, whole evaluation", "matrix product")}
    if small:
        sorted_ = sort_part(query, kept, protocol, repeats)
        rows |= sorted_["rows"]
        figures["largest difference of mAP, mINP, rank-1 to a stable full sort"] = sorted_["difference"]
        ratios["full sort / ranking alone"] = ratio(rows, "full sort, ranking alone", "regard, ranking alone")
    if rerank:
        reranked = rerank_part(data, kept, protocol, small)
        rows |= reranked.pop("rows")
        figures["re-ranked"] = reranked
        if small:
            ours, theirs = "regard, re-ranked distances", "dense N x N, re-ranked distances"
            ratios["dense / regard, re-ranked distances"] = ratio(rows, theirs, ours)
            ratios["dense / regard, extra memory"] = ratio(rows, theirs, ours, "extra_mib")
    return {
        "set": name,
        "queries": len(query),
        "gallery": len(gallery),
        "junk": len(gallery) - len(kept),
        "dim": query.shape[1],
        "rows": rows,
        "ratios": ratios,
        "nanoseconds per pair of the whole evaluation": parts,
        "figures": figures,
        "cores": allowed_cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "date": date.today().isoformat(),
    }


def ratio(rows: dict[str, Any], above: str, below: str, key: str = "cpu_s") -> float | None:
    """How many times one row's figure is another's; None where memory could not be measured."""
    return round(rows[above][key] / max(rows[below][key], 1e-9), 2) if rows[above][key] is not None else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="market", choices=sorted(set(COMPOSITIONS) - {"edge", "edge_tiny"}))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rerank", action="store_true")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/evaluation.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    name = "evaluation.json" if args.set == "market" else f"evaluation_{args.set}.json"
    out = args.out or HERE / "results" / name
    result = run(args.set, args.repeats, args.rerank)

    print(f"{result['queries']:,} queries x {result['gallery']:,} gallery images x {result['dim']}")
    print(f"{'':36}{'CPU s':>9}{'wall s':>9}{'extra MiB':>11}")
    for name, row in result["rows"].items():
        memory = "-" if row["extra_mib"] is None else f"{row['extra_mib']:.0f}"
        print(f"{name:36}{row['cpu_s']:9.3f}{row['wall_s']:9.3f}{memory:>11}")
    for name, times in result["ratios"].items():
        print(f"{name:50}{'-' if times is None else times:>9}")
    for size, nanoseconds in result["nanoseconds per pair of the whole evaluation"].items():
        print(f"{size:>20}{nanoseconds:9.2f} ns per pair")
    print(json.dumps(result["figures"], indent=2))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
