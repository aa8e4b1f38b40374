"""Metrics: distances, camera-aware ranking, re-ranking, open-set figures. Arrays in, numbers out."""

from regard.metrics.by_camera import average, evaluate_camera_pairs
from regard.metrics.distance import METRICS, distance_blocks
from regard.metrics.expansion import QueryExpansion
from regard.metrics.feature_set import FeatureSet, pool_features, read_features
from regard.metrics.open_set import OpenSet, evaluate_open_set
from regard.metrics.ranking import rank
from regard.metrics.ranking_report import RankingReport, evaluate_ranking
from regard.metrics.rerank import KReciprocal, rerank_blocks

__all__ = [
    "METRICS",
    "FeatureSet",
    "KReciprocal",
    "OpenSet",
    "QueryExpansion",
    "RankingReport",
    "average",
    "distance_blocks",
    "evaluate_camera_pairs",
    "evaluate_open_set",
    "evaluate_ranking",
    "pool_features",
    "rank",
    "read_features",
    "rerank_blocks",
]
