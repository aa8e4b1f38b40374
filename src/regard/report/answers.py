"""What a search answers, in the order in which an evaluation counts it: re-ranked and expanded where that is.

Shapes: Q queries, G gallery images, D descriptor length, K ranks kept per query.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from regard.errors import ConfigError
from regard.evaluation.run import Run
from regard.evaluation.scoring import lists_of
from regard.metrics import FeatureSet, QueryExpansion, distance_blocks, rerank_blocks
from regard.metrics.distance import comparable, ordering
from regard.metrics.expansion import expand_queries
from regard.metrics.feature_set import check_sets
from regard.metrics.protocol import read_protocol
from regard.metrics.ranking import check_ranks, keep_nearest
from regard.report.ranked import RankedList, ranked_lists
from regard.structures import MatchLists, Ranking

__all__ = ["answers", "run_answers", "run_lists"]


def answers(
    query: FeatureSet,
    gallery: FeatureSet,
    k: int = 10,
    *,
    metric: str = "cosine",
    rerank: bool = False,
    expansion: bool = False,
    junk: str = "before",
    show_junk: bool = False,
    ignore_cameras: bool = False,
    lists: MatchLists | None = None,
) -> Ranking:
    """The k first gallery images of every query, as :func:`regard.evaluate_ranking` orders them with these options.

    Args:
        query, gallery: descriptors (Q, D) and (G, D) with identities and cameras.
        k: ranks to keep, as for :func:`regard.rank`.
        metric: "cosine" or "euclidean".
        rerank: k-reciprocal re-ranking as published; distances are then from 0 to 1.
        expansion: average every query with its nearest gallery images first.
        junk: when junk leaves the gallery, "before" or "query", as for the evaluation.
        show_junk: keep junk, and pictures of the query's person by the query's own camera, where their distances put
            them. Re-ranking and expansion see them only with junk="query".
        ignore_cameras: pictures of the query's person by the query's own camera are right answers.
        lists: what is right and what is junk, in place of identities and cameras.

    Returns:
        Indices count in the gallery as given. With ``show_junk`` the matches are unknown.

    Raises:
        ConfigError: ``k`` is out of range, the metric is unknown, or junk is to be shown that re-ranking or expansion
            never saw.
        DataError: the arrays do not fit each other or are not finite.
    """
    order = ordering(metric)
    check_sets(query, gallery)
    check_ranks(k, len(gallery))
    if show_junk and junk == "before" and (rerank or expansion):
        raise ConfigError("junk has no place in an order that was made without it; choose junk='query' to show it")
    queries, targets = comparable(query.embeddings, gallery.embeddings, metric)
    protocol = read_protocol(query, gallery, ignore_cameras=ignore_cameras, lists=lists)
    whole = show_junk or junk == "query"
    if not whole:
        targets = protocol.without_junk(targets)
    if expansion:
        queries = expand_queries(queries, targets, QueryExpansion(), metric=order)
    blocks = (rerank_blocks if rerank else distance_blocks)(queries, targets, metric=order)
    if whole and not show_junk:
        columns = torch.from_numpy(protocol.kept).to(targets.device)
        blocks = ((rows, block[:, columns]) for rows, block in blocks)
    kept = np.arange(len(gallery.pids)) if show_junk else protocol.kept
    found = keep_nearest(blocks, (len(queries), k), kept, None if show_junk else protocol)
    if order != metric and not rerank:
        np.sqrt(found.distances, out=found.distances)
    return found


def run_answers(run: Run, k: int, *, show_junk: bool = False) -> Ranking:
    """The k first gallery images of every query of a run, as its own evaluation orders them; see :func:`answers`."""
    how = run.config.eval
    order = how.model_dump(include={"metric", "rerank", "expansion", "junk", "ignore_cameras"})
    sides = run.features("query"), run.features("gallery")
    return answers(*sides, k, show_junk=show_junk, lists=lists_of(run.splits, how), **order)


def run_lists(run: Run, depth: int, picks: Mapping[int, str], *, junk: bool = False) -> list[RankedList]:
    """The ranked lists of some queries of a run, titled; see :func:`~regard.report.ranked.ranked_lists`."""
    ranking, splits = run_answers(run, depth, show_junk=junk), run.splits
    return ranked_lists(ranking, splits.query, splits.gallery, run.report().ap, depth=depth, picks=picks, junk=junk)
