"""One call from descriptors to the figures papers report.

Shapes: Q queries, G gallery images, D descriptor length, R ranks of the CMC curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from regard.errors import ConfigError, DataError, nearest
from regard.metrics.distance import Array, as_features, distance_blocks, ordering
from regard.metrics.protocol import Ids, read_protocol
from regard.metrics.ranking import positive_ranks
from regard.metrics.rerank import KReciprocal, rerank_blocks
from regard.metrics.score import AP_FORMS, Scores, cmc_curve, score_ranks

__all__ = ["RankingReport", "evaluate_ranking"]

UNMATCHED = ("skip", "zero")
_SHOWN_RANKS = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class RankingReport:
    """What an evaluation found; every figure is a fraction.

    Attributes:
        mAP: mean average precision.
        mINP: mean inverse negative penalty.
        cmc: (R,) share of queries with a right image among the first 1, 2, ..., R.
        ap, inp: (Q,) float64 per query, NaN where it has no match.
        first_hit: (Q,) int64 rank of the first right image per query, from 1; -1 where it has no match.
        options: what was chosen where toolkits differ, by name.
    """

    mAP: float
    mINP: float
    cmc: np.ndarray
    ap: np.ndarray
    inp: np.ndarray
    first_hit: np.ndarray
    options: dict[str, str]

    @property
    def num_queries(self) -> int:
        """Queries asked."""
        return len(self.first_hit)

    @property
    def num_valid(self) -> int:
        """Queries that have a match in the gallery."""
        return int((self.first_hit > 0).sum())

    def rank(self, k: int) -> float:
        """Share of queries with a right image among the first ``k``.

        Raises:
            ConfigError: k is not on the curve.
        """
        if not 1 <= k <= len(self.cmc):
            raise ConfigError(f"rank-{k} asked of a curve of {len(self.cmc)} ranks: evaluate with max_rank={max(k, 1)}")
        return float(self.cmc[k - 1])

    def to_dict(self, per_query: bool = False) -> dict[str, Any]:
        """All of it in plain Python types, ready for JSON; with ``per_query`` also ap, inp and first_hit."""
        content: dict[str, Any] = {
            "mAP": self.mAP,
            "mINP": self.mINP,
            "cmc": self.cmc.tolist(),
            "num_queries": self.num_queries,
            "num_valid": self.num_valid,
            "options": dict(self.options),
        }
        if per_query:
            for name in ("ap", "inp", "first_hit"):
                values = getattr(self, name).tolist()
                content[name] = [value if hit > 0 else None for value, hit in zip(values, self.first_hit)]
        return content

    def __str__(self) -> str:
        cells = {"mAP": f"{100 * self.mAP:.2f}", "mINP": f"{100 * self.mINP:.2f}"}
        cells |= {f"rank-{k}": f"{100 * self.rank(k):.2f}" for k in _SHOWN_RANKS if k <= len(self.cmc)}
        cells |= {"queries": f"{self.num_queries:,}", "unmatched": f"{self.num_queries - self.num_valid:,}"}
        width = max(map(len, cells)) + 1
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        table = ["".join(f"{cell:>{width}}" for cell in row) for row in (cells, cells.values())]
        return "\n".join([*table, f"  in %; {options}"])


def evaluate_ranking(
    query: Array,
    gallery: Array,
    query_pids: Ids,
    gallery_pids: Ids,
    query_camids: Ids | None = None,
    gallery_camids: Ids | None = None,
    *,
    metric: str = "cosine",
    rerank: bool | KReciprocal = False,
    ap: str = "step",
    unmatched: str = "skip",
    max_rank: int = 50,
    memory_mb: float = 256,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> RankingReport:
    """CMC, mAP and mINP under the Market-1501 protocol (see :mod:`regard.metrics.protocol`).

    Args:
        query: (Q, D) descriptors.
        gallery: (G, D) descriptors.
        query_pids, gallery_pids: (Q,) and (G,) identities; -1 in the gallery is junk, 0 a distractor.
        query_camids, gallery_camids: (Q,) and (G,) cameras; None for both if there are none.
        metric: "cosine" or "euclidean".
        rerank: True for k-reciprocal re-ranking as published, or its options.
        ap: "step" (mean of precision at the hits) or "trapezoid" (see :mod:`regard.metrics.score`).
        unmatched: a query without a match is left out of all means ("skip") or counts as a failure ("zero").
        max_rank: length of the CMC curve; may exceed G.
        memory_mb: budget for distances and for ranking them, in MiB; features and re-ranking's sets come on top.
        device: where to compute; None stays where the gallery lies.
        progress: show a progress bar on stderr.

    Raises:
        ConfigError: an option is wrong.
        DataError: the arrays do not fit each other, are not finite, or no query has a match.
    """
    order = ordering(metric)
    for name, value, known in (("ap", ap, AP_FORMS), ("unmatched", unmatched, UNMATCHED)):
        if value not in known:
            raise ConfigError(f"unknown {name} option {value!r}{nearest(str(value), known)}; known: {', '.join(known)}")
    if max_rank < 1:
        raise ConfigError(f"max_rank is {max_rank}: ask for at least one rank")
    targets = as_features(gallery, "gallery", device)
    queries = as_features(query, "query", targets.device)
    protocol = read_protocol(len(queries), len(targets), query_pids, gallery_pids, query_camids, gallery_camids)
    if not protocol.any_match():
        raise DataError(protocol.explain_no_match())
    targets = protocol.without_junk(targets)

    reranking = KReciprocal() if rerank is True else rerank or None
    if reranking:
        blocks = rerank_blocks(queries, targets, reranking, metric=order, memory_mb=memory_mb, progress=progress)
    else:
        blocks = distance_blocks(queries, targets, metric=order, memory_mb=memory_mb)

    scores = Scores.unmatched(len(queries))
    with tqdm(total=len(queries), desc="ranking", unit="query", disable=not progress) as bar:
        for rows, ranks, counts in positive_ranks(blocks, protocol, memory_mb):
            for all_queries, some in zip(scores, score_ranks(ranks, counts, ap)):
                all_queries[rows] = some
            bar.update(len(counts))
    options = {
        "metric": metric,
        "re-ranking": str(reranking) if reranking else "none",
        "AP": ap,
        "unmatched": unmatched,
        "junk": "dropped",
        "same camera": "ignored" if protocol.query_camids is None else "removed",
        "ties": "by gallery index",
    }
    return _summarize(scores, unmatched, max_rank, options)


def _summarize(scores: Scores, unmatched: str, max_rank: int, options: dict[str, str]) -> RankingReport:
    """Means over the queries that count."""
    counted = scores.first_hit > 0 if unmatched == "skip" else np.ones(len(scores.first_hit), bool)
    return RankingReport(
        mAP=float(np.nan_to_num(scores.ap[counted]).mean()),
        mINP=float(np.nan_to_num(scores.inp[counted]).mean()),
        cmc=cmc_curve(scores.first_hit[counted], max_rank),
        **scores._asdict(),
        options=options,
    )
