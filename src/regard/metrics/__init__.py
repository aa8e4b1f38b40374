"""Metrics: distances, camera-aware ranking, re-ranking. Arrays in, numbers out."""

from regard.metrics.evaluate import evaluate_ranking

__all__ = ["evaluate_ranking"]
