from __future__ import annotations

import numpy as np
import pytest
import ranking_twin as twin
import torch
from scipy.spatial.distance import cdist

from regard.errors import ConfigError
from regard.metrics import KReciprocal, evaluate_ranking, rerank_blocks


def clustered(seed, queries=10, gallery=40, persons=8, dim=12, spread=0.8, integer=False):
    rng = np.random.default_rng(seed)
    person = rng.integers(0, persons, queries + gallery)
    features = rng.normal(size=(persons, dim))[person] + spread * rng.normal(size=(len(person), dim))
    features = np.round(2 * features) if integer else features
    return features[:queries].astype(np.float32), features[queries:].astype(np.float32)


def joined(*args, **options):
    return torch.cat([block for _, block in rerank_blocks(*args, **options)]).numpy()


def dense(query, gallery, metric, options):
    features = np.concatenate([query, gallery]).astype(np.float64)
    squared = cdist(features, features, "cosine" if metric == "cosine" else "sqeuclidean")
    power = 1 if options.squared == "once" else 2
    return twin.rerank(squared, len(query), options.k1, options.k2, options.lam, power)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(
    "options",
    [
        KReciprocal(),
        KReciprocal(squared="twice"),
        KReciprocal(k1=5, k2=3, lam=0.1),
        KReciprocal(k1=6, k2=1),
        KReciprocal(k1=3, k2=9, lam=0),
        KReciprocal(k1=1, k2=1, lam=1),
    ],
    ids=str,
)
def test_equals_dense_set_algebra(metric, options):
    query, gallery = clustered(1)
    got = joined(query, gallery, options, metric=metric)
    np.testing.assert_allclose(got, dense(query, gallery, metric, options), atol=2e-6)


def test_equals_dense_set_algebra_on_ties_and_duplicates():
    query, gallery = clustered(2, integer=True, dim=4, spread=0.5)
    gallery[20:40] = gallery[0]
    options = KReciprocal(k1=8, k2=4)
    got = joined(query, gallery, options, metric="euclidean")
    np.testing.assert_allclose(got, dense(query, gallery, "euclidean", options), atol=2e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fewer_images_than_neighbors(count):
    query, gallery = clustered(3, queries=2, gallery=count)
    np.testing.assert_allclose(joined(query, gallery), dense(query, gallery, "cosine", KReciprocal()), atol=2e-6)


def test_block_size_changes_nothing():
    query, gallery = clustered(4, queries=40)
    np.testing.assert_array_equal(joined(query, gallery, memory_mb=1e-6), joined(query, gallery))


def test_equal_images_everywhere_are_all_equally_far():
    got = joined(np.ones((2, 3)), np.ones((30, 3)), KReciprocal(lam=0), metric="euclidean")
    assert np.isfinite(got).all()
    assert (got >= 0).all()


def test_brings_images_of_a_person_closer():
    query, gallery = clustered(5, queries=60, gallery=400, persons=30, spread=1.0)
    person = np.random.default_rng(5).integers(0, 30, 460) + 1
    labels = (person[:60], person[60:], np.zeros(60, int), np.ones(400, int))
    plain = evaluate_ranking(query, gallery, *labels)
    reranked = evaluate_ranking(query, gallery, *labels, rerank=True)
    assert reranked.mAP > plain.mAP + 0.02
    assert reranked.options["re-ranking"] == "k1=20 k2=6 lambda=0.3 squared once"


@pytest.mark.parametrize(
    ("options", "says"),
    [({"k1": 0}, "k1=0"), ({"k2": 0}, "k2=0"), ({"lam": 1.5}, "lam=1.5"), ({"squared": "thrice"}, "'thrice'")],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        KReciprocal(**options)


def test_an_unknown_metric_is_refused_before_any_work():
    with pytest.raises(ConfigError, match="did you mean 'cosine'"):
        rerank_blocks(*clustered(0), metric="cosin")
