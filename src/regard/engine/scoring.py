"""From descriptors, of a model here or of a file, to figures: single or pooled queries, open set, cameras, averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from regard.config import EvalConfig
from regard.errors import ConfigError, DataError
from regard.metrics import (
    FeatureSet,
    RankingReport,
    average,
    evaluate_camera_pairs,
    evaluate_open_set,
    evaluate_ranking,
    pool_features,
)
from regard.structures import Splits
from regard.threads import Threads

__all__ = [
    "Detail",
    "Queries",
    "as_feature_sets",
    "further_figures",
    "pool_queries",
    "pool_tracklets",
    "score_features",
    "score_sets",
]

Queries = Literal["single", "mean", "max"]
Detail = Literal["open_set", "cameras", "averages"]


def as_feature_sets(query: np.ndarray, gallery: np.ndarray, splits: Splits) -> tuple[FeatureSet, FeatureSet]:
    """Descriptors (Q, D) and (G, D) together with whom and what camera they show."""
    query_set, gallery_set = (
        FeatureSet(
            features, *(np.array([getattr(sample, key) for sample in part], np.int64) for key in ("pid", "camid"))
        )
        for features, part in ((query, splits.query), (gallery, splits.gallery))
    )
    return query_set, gallery_set


def pool_queries(query: FeatureSet, queries: Queries) -> FeatureSet:
    """The queries as they are ("single"), or one of each person and camera: the mean or the maximum of its images.

    Raises:
        ConfigError: there is no such pooling.
    """
    if queries not in get_args(Queries):
        raise ConfigError(f"queries is {queries!r}, wanted one of: {', '.join(get_args(Queries))}")
    if queries == "single":
        return query
    return FeatureSet(*pool_features(query.embeddings, query.pids, query.camids, how=queries)[:3])


def pool_tracklets(features: FeatureSet, name: str) -> FeatureSet:
    """One descriptor per tracklet, the mean of its images.

    Raises:
        DataError: the file says nothing of tracklets.
    """
    if features.tracklets is None:
        raise DataError(f"the {name} has no tracklets to pool; add an array 'tracklets' to its file, or leave this out")
    return FeatureSet(*pool_features(*features)[:3])


def score_features(query: FeatureSet, gallery: FeatureSet, config: EvalConfig, **options: Any) -> RankingReport:
    """CMC, mAP and mINP of descriptors, as the settings have it."""
    with Threads():
        return evaluate_ranking(
            *_arrays(query, gallery), metric=config.metric, rerank=config.rerank, expansion=config.expansion,
            cmc=config.cmc, ap=config.ap, unmatched=config.unmatched, junk=config.junk, **options,
        )  # fmt: skip


def score_sets(
    query: FeatureSet,
    gallery: FeatureSet,
    config: EvalConfig,
    *,
    queries: Queries = "single",
    details: Sequence[Detail] = (),
    **options: Any,
) -> tuple[RankingReport, dict[str, Any]]:
    """The figures of queries as they are or pooled, and the :func:`further_figures` that are wanted."""
    query = pool_queries(query, queries)
    report = score_features(query, gallery, config, **options)
    if queries != "single":
        report.options["queries"] = f"{queries} of a person's by a camera"
    return report, further_figures(query, gallery, config, report, details)


def further_figures(
    query: FeatureSet, gallery: FeatureSet, config: EvalConfig, report: RankingReport, wanted: Sequence[Detail]
) -> dict[str, Any]:
    """Figures beyond the usual ones, each printable and with ``to_dict``; without expansion and re-ranking.

    Raises:
        DataError: cameras are asked for, and there are none.
    """
    arrays = _arrays(query, gallery)
    makers = {
        "open_set": lambda: evaluate_open_set(*arrays, metric=config.metric),
        "cameras": lambda: evaluate_camera_pairs(*arrays, metric=config.metric, ap=config.ap),
        "averages": lambda: average(report, query.pids, query.camids),
    }
    return {name: makers[name]() for name in wanted}


def _arrays(query: FeatureSet, gallery: FeatureSet) -> tuple[Any, ...]:
    return query.embeddings, gallery.embeddings, query.pids, gallery.pids, query.camids, gallery.camids
