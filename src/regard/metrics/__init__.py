"""Metrics: distances, camera-aware ranking, re-ranking. Arrays in, numbers out."""

from regard.metrics.distance import METRICS, distance_blocks
from regard.metrics.evaluate import RankingReport, evaluate_ranking
from regard.metrics.ranking import rank
from regard.metrics.rerank import KReciprocal, rerank_blocks

__all__ = [
    "METRICS",
    "KReciprocal",
    "RankingReport",
    "distance_blocks",
    "evaluate_ranking",
    "rank",
    "rerank_blocks",
]
