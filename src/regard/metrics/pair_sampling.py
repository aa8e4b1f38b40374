"""Pairs of a query and a gallery picture, the same person or two, as a sample that fits into memory.

Shapes: Q queries, G gallery images, D descriptor length, M pairs.

Every pair of one person by two cameras is taken. Pairs of two people are so many that a part is drawn at random, each
as likely as the other. Pairs by one camera are left out of both kinds, as the protocol leaves them out of the right
ones: what tells two people apart must not be their background. Junk is left out; a distractor is a person of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from regard.errors import DataError
from regard.metrics.distance import check_metric, comparable, pair_distances
from regard.metrics.feature_set import FeatureSet, check_sets
from regard.metrics.protocol import Protocol, read_protocol
from regard.structures import DISTRACTOR

__all__ = ["PairSample", "sample_pairs", "similarity_of"]


class PairSample(NamedTuple):
    """Pairs with what is known of them.

    Attributes:
        similarity: (M,) float64, larger for more alike.
        same: (M,) bool, whether both pictures show one person.
        people: (M, 2) int64 who is on them; distractors have negative numbers, each its own.
        cameras: (M, 2) int64 cameras, the smaller number first; None where there are none.
        share: of same-person pairs among all pairs that could have been drawn.
    """

    similarity: np.ndarray
    same: np.ndarray
    people: np.ndarray
    cameras: np.ndarray | None
    share: float

    def part(self, keep: np.ndarray) -> PairSample:
        """Some of the pairs; ``keep`` is an (M,) mask."""
        cameras = None if self.cameras is None else self.cameras[keep]
        return PairSample(self.similarity[keep], self.same[keep], self.people[keep], cameras, self.share)


def similarity_of(distance: np.ndarray, metric: str) -> np.ndarray:
    """Distances turned round: the cosine for the cosine distance, the negative distance for the others."""
    return 1 - distance if metric == "cosine" else -distance


def sample_pairs(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    metric: str = "cosine",
    limit: int = 200_000,
    seed: int = 0,
) -> PairSample:
    """All pairs of one person and at most ``limit`` pairs of two.

    Args:
        query, gallery: Q and G descriptors with identities.
        metric: "cosine" or "euclidean".
        limit: pairs of two people to draw.
        seed: of the drawing.

    Raises:
        ConfigError: the metric is unknown.
        DataError: the arrays do not fit each other, or there are no pairs of one kind.
    """
    check_metric(metric)
    check_sets(query, gallery)
    queries, targets = comparable(query.embeddings, gallery.embeddings, metric)
    protocol = read_protocol(query, gallery)
    if not protocol.any_match():
        raise DataError(protocol.explain_no_match())
    right = protocol.pairs(slice(0, len(queries)))[0]
    wrong, possible = _wrong_pairs(protocol, limit, np.random.default_rng(seed))
    if not len(wrong):
        raise DataError(
            "there are no two people seen by different cameras in query and gallery, so nothing is known about pairs "
            "of two people; add people"
        )
    rows, columns = np.concatenate([np.column_stack(right), wrong]).T
    same = np.arange(len(rows)) < len(right.rows)
    features = torch.cat([queries, protocol.without_junk(targets)])
    first, second = (torch.from_numpy(index).to(features.device) for index in (rows.copy(), columns + len(queries)))
    distance = pair_distances(features, first, second, metric).double().cpu().numpy()
    cameras = None
    if protocol.query_camids is not None and protocol.gallery_camids is not None:
        cameras = np.column_stack([protocol.query_camids[rows], protocol.gallery_camids[protocol.kept[columns]]])
        cameras.sort(axis=1)
    pids = protocol.gallery_pids[protocol.kept]
    pids = np.where(pids == DISTRACTOR, -1 - np.arange(len(pids)), pids)
    people = np.column_stack([protocol.query_pids[rows], pids[columns]])
    share = len(right.rows) / (len(right.rows) + possible)
    return PairSample(similarity_of(distance, metric), same, people, cameras, share)


def _wrong_pairs(protocol: Protocol, limit: int, generator: np.random.Generator) -> tuple[np.ndarray, int]:
    """(M, 2) rows and columns of pairs of two people, in order, and how many there are in all."""
    queries = np.flatnonzero(protocol.query_pids > DISTRACTOR)
    width = len(protocol.kept)
    possible = _count_wrong(protocol, queries)
    if len(queries) * width <= 4 * limit:
        every = np.column_stack([np.repeat(queries, width), np.tile(np.arange(width), len(queries))])
        found = every[_is_wrong(protocol, every)]
        if len(found) > limit:
            found = found[np.sort(generator.choice(len(found), limit, replace=False))]
        return found, possible
    found = np.empty(0, np.int64)
    while len(found) < min(limit, possible // 2):
        drawn = np.column_stack([generator.choice(queries, limit), generator.integers(width, size=limit)])
        drawn = drawn[_is_wrong(protocol, drawn)]
        found = np.union1d(found, drawn[:, 0] * width + drawn[:, 1])
    found = np.sort(generator.permutation(found)[:limit])
    return np.column_stack(np.divmod(found, width)), possible


def _is_wrong(protocol: Protocol, pairs: np.ndarray) -> np.ndarray:
    """(M,) whether a pair shows two people, by two cameras where there are cameras."""
    rows, columns = pairs[:, 0], protocol.kept[pairs[:, 1]]
    wrong = protocol.query_pids[rows] != protocol.gallery_pids[columns]
    if protocol.query_camids is not None and protocol.gallery_camids is not None:
        wrong &= protocol.query_camids[rows] != protocol.gallery_camids[columns]
    return wrong


def _count_wrong(protocol: Protocol, queries: np.ndarray) -> int:
    """How many pairs :func:`_is_wrong` would accept, counted by identity and camera instead of pair by pair."""
    labels = [(protocol.query_pids[queries], protocol.gallery_pids[protocol.kept])]
    total = len(queries) * len(protocol.kept) - _equal(*labels[0])
    if protocol.query_camids is None or protocol.gallery_camids is None:
        return total
    cameras = protocol.query_camids[queries], protocol.gallery_camids[protocol.kept]
    both = [np.column_stack(side) for side in zip(labels[0], cameras)]
    _, codes = np.unique(np.concatenate(both), axis=0, return_inverse=True)
    return total - _equal(*cameras) + _equal(codes[: len(queries)], codes[len(queries) :])


def _equal(first: np.ndarray, second: np.ndarray) -> int:
    """Number of pairs of equal labels."""
    values, counts = np.unique(second, return_counts=True)
    place = np.searchsorted(values, first).clip(max=len(values) - 1)
    return int(counts[place][values[place] == first].sum())
