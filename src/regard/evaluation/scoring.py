"""From descriptors, of a model here or of a file, to figures: single or pooled queries, open set, cameras, averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from regard.config import EvalConfig
from regard.data.datasets.market1501 import find_lists
from regard.errors import ConfigError, DataError
from regard.input_spec import InputSpec
from regard.metrics import (
    FeatureSet,
    RankingReport,
    average,
    evaluate_camera_pairs,
    evaluate_open_set,
    evaluate_ranking,
    pool_features,
)
from regard.structures import MatchLists, Splits
from regard.threads import Threads

__all__ = [
    "Detail", "Queries", "embedding_options", "further_figures", "lists_of", "pool_tracklets", "score_features",
    "score_sets", "with_options",
]  # fmt: skip

Queries = Literal["single", "mean", "max"]
Detail = Literal["open_set", "cameras", "averages"]


def embedding_options(how: EvalConfig, seen: InputSpec, precision: str = "fp32") -> dict[str, str]:
    """What changes descriptors besides the weights they are made with, in words."""
    return {
        "size": f"{seen.height} x {seen.width}",
        "resize": seen.interpolation,
        "mirrored": "averaged" if seen.flip else "no",
        "crops": "five" if how.five_crops else "one",
        "precision": precision,
    }


def with_options(report: RankingReport, options: dict[str, str]) -> RankingReport:
    """The report with more said of how it was made, before what it says itself."""
    return replace(report, options={**options, **report.options})


def pool_tracklets(features: FeatureSet, name: str) -> FeatureSet:
    """One descriptor per tracklet, the mean of its images.

    Raises:
        DataError: the file says nothing of tracklets.
    """
    if features.tracklets is None:
        raise DataError(f"the {name} has no tracklets to pool; add an array 'tracklets' to its file, or leave this out")
    return FeatureSet(*pool_features(features.embeddings, features.pids, features.camids, features.tracklets)[:3])


def lists_of(splits: Splits | None, config: EvalConfig) -> MatchLists | None:
    """The good and junk lists to score by; None where identities and cameras say what is right.

    Raises:
        ConfigError: lists are wanted of what has none.
        DataError: a list is missing or damaged.
    """
    if config.protocol == "rule":
        return None
    if splits is None:
        raise ConfigError("eval.protocol=lists wants a data set with good and junk lists; take protocol=rule")
    return find_lists(splits)


def score_features(
    query: FeatureSet, gallery: FeatureSet, config: EvalConfig, splits: Splits | None = None, **options: Any
) -> RankingReport:
    """CMC, mAP and mINP of descriptors, as the settings have it.

    Args:
        query, gallery: descriptors.
        config: the settings.
        splits: the data set whose query and gallery these are; None: of something else.
        options: of :func:`regard.evaluate_ranking`.
    """
    with Threads():
        report = evaluate_ranking(
            query.embeddings, gallery.embeddings, query.pids, gallery.pids, query.camids, gallery.camids,
            metric=config.metric, rerank=config.rerank, expansion=config.expansion,
            cmc=config.cmc, ap=config.ap, unmatched=config.unmatched, junk=config.junk,
            ignore_cameras=config.ignore_cameras, lists=lists_of(splits, config), **options,
        )  # fmt: skip
    return with_options(report, {"data": splits.label} if splits and splits.options else {})


def score_sets(
    query: FeatureSet,
    gallery: FeatureSet,
    config: EvalConfig,
    *,
    queries: Queries = "single",
    details: Sequence[Detail] = (),
    leave_one_out: bool = False,
    **options: Any,
) -> tuple[RankingReport, dict[str, Any]]:
    """The figures of queries as they are ("single") or pooled, and the :func:`further_figures` that are wanted.

    Pooled is one of each person and camera: the "mean" or the "max" of its images. Further arguments are those of
    :func:`score_features`.

    Raises:
        ConfigError: an option is wrong, or two do not go together.
        DataError: the arrays do not fit each other, or nothing can be found.
    """
    pooled = queries != "single"
    if leave_one_out and pooled:
        raise ConfigError(f"queries {queries!r} do not go with leave-one-out, where each picture is asked; drop one")
    _check_lists(config, details, pooled=pooled)
    if queries not in get_args(Queries):
        raise ConfigError(f"queries is {queries!r}, wanted one of: {', '.join(get_args(Queries))}")
    if pooled:
        query = FeatureSet(*pool_features(query.embeddings, query.pids, query.camids, how=queries)[:3])
    report = score_features(query, gallery, config, leave_one_out=leave_one_out, **options)
    report.options.update({"queries": f"{queries} of a person's by a camera"} if pooled else {})
    return report, further_figures(query, gallery, config, report, details, leave_one_out=leave_one_out)


def further_figures(
    query: FeatureSet,
    gallery: FeatureSet,
    config: EvalConfig,
    report: RankingReport,
    wanted: Sequence[Detail],
    *,
    leave_one_out: bool = False,
) -> dict[str, Any]:
    """Figures beyond the usual ones, each printable and with ``to_dict``; without expansion and re-ranking.

    Raises:
        ConfigError: a table by cameras is asked for, and cameras are ignored or one is left out.
        DataError: cameras are asked for, and there are none.
    """
    _check_lists(config, wanted)
    if "cameras" in wanted and (config.ignore_cameras or leave_one_out):
        name = "ignored cameras" if config.ignore_cameras else "leave-one-out"
        raise ConfigError(f"a table by cameras does not go with {name}; leave one of them out")
    how: dict[str, Any] = {"ignore_cameras": config.ignore_cameras, "leave_one_out": leave_one_out}
    makers = {
        "open_set": lambda: evaluate_open_set(query, gallery, metric=config.metric, **how),
        "cameras": lambda: evaluate_camera_pairs(query, gallery, metric=config.metric, ap=config.ap),
        "averages": lambda: average(report, query.pids, query.camids),
    }
    return {name: makers[name]() for name in wanted}


def _check_lists(config: EvalConfig, wanted: Sequence[Detail], *, pooled: bool = False) -> None:
    """Raise ConfigError for figures that go by identity where lists say what is right."""
    names = {"open_set": "open-set figures", "cameras": "a table by cameras"}
    for name in ("pooled queries",) * pooled + tuple(names[one] for one in wanted if one in names):
        if config.protocol == "lists":
            raise ConfigError(f"eval.protocol=lists does not go with {name}, which go by identity; leave one out")
