from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.metrics import distance_blocks, neighbors
from regard.metrics.neighbors import nearest_neighbors
from regard.metrics.ranking import nearest_images

METRICS = ("cosine", "sqeuclidean")


def whole(features, k, metric):
    """Neighbors and farthest distance by float32 distances of all with all."""
    matrix = torch.cat([block for _, block in distance_blocks(features, features, metric=metric)])
    return nearest_images(matrix, k)[1].numpy(), matrix.amax(1).numpy(), matrix.numpy()


def check(features, k, metric, memory_mb):
    """Neighbors are the nearest, up to distances that float32 rounds differently; -> the result."""
    features = torch.as_tensor(features, dtype=torch.float32)
    got = nearest_neighbors(features, k, metric=metric, memory_mb=memory_mb)
    order, farthest, matrix = whole(features, k, metric)
    rounding = 4e-6 * (1 + features.square().sum(1).max().item())
    near = np.take_along_axis(matrix, got.order.astype(int), 1)
    np.testing.assert_allclose(near, np.take_along_axis(matrix, order, 1), rtol=0, atol=rounding)
    assert all(len(set(row)) == k for row in got.order.tolist())
    np.testing.assert_allclose(got.farthest, farthest, rtol=0, atol=rounding)
    return got, order


def images(seed, count, dim, persons=0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, dim))
    return noise if not persons else rng.normal(size=(persons, dim))[rng.integers(0, persons, count)] + 0.5 * noise


@pytest.mark.slow
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 400),
    dim=st.integers(1, 70),
    persons=st.sampled_from([0, 3, 30]),
    k=st.integers(1, 30),
    metric=st.sampled_from(METRICS),
    memory_mb=st.sampled_from([256, 0.1, 1e-6]),
)
@settings(deadline=None, max_examples=40)
def test_neighbors_are_those_of_the_whole_matrix(seed, count, dim, persons, k, metric, memory_mb):
    check(images(seed, count, dim, persons), min(k, count), metric, memory_mb)


@pytest.mark.parametrize("memory_mb", [256, 0.05])
@pytest.mark.parametrize("dim", [1, 3, 8])
def test_integers_are_exact_ties_and_all(dim, memory_mb):
    features = np.random.default_rng(dim).integers(-1, 2, (600, dim))
    got, order = check(features, 21, "sqeuclidean", memory_mb)
    np.testing.assert_array_equal(got.order, order)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_lengths_of_any_size(metric, scale):
    features = images(1, 300, 20) * np.random.default_rng(2).uniform(0.1, 10, (300, 1))
    features[7] *= 0 if metric == "sqeuclidean" else 1
    features = torch.as_tensor(features * scale, dtype=torch.float32)
    got = nearest_neighbors(features, 9, metric=metric)
    order, farthest, _ = whole(features, 9, metric)
    np.testing.assert_array_equal(np.delete(got.order, 7, 0), np.delete(order, 7, 0))  # a zero is equally far from all
    np.testing.assert_allclose(got.farthest, farthest, rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_images_are_ordered_by_index(metric):
    features = np.concatenate([images(3, 50, 16)] * 3)[np.random.default_rng(3).permutation(150)]
    features = torch.as_tensor(features, dtype=torch.float32)
    got = nearest_neighbors(features, 3, metric=metric)
    for row, nearest in enumerate(got.order):
        same = (features == features[row]).all(1).nonzero().flatten()
        np.testing.assert_array_equal(nearest, same)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_score_is_never_off_by_more_than_its_bound(metric, dtype, monkeypatch):
    monkeypatch.setattr(neighbors, "_bfloat16_is_fast", lambda device: dtype == torch.bfloat16)
    features = torch.as_tensor(images(4, 200, 128, 5), dtype=torch.float32) * torch.linspace(0.1, 3, 200)[:, None]
    scores = neighbors._Scores(features, metric, 256)
    exact = features.double()
    if metric == "cosine":
        exact = exact / exact.norm(dim=1, keepdim=True)
        exact = exact @ exact.T
    else:
        exact = -(torch.cdist(exact, exact) ** 2) / 2
    (span,) = scores.spans
    got = scores.block(span, span)[:200, :200].double()
    bound = scores.error[:200, None] + scores.rounding * exact.abs() * 1.01
    assert ((got - exact).abs() <= bound).all()
    assert (dtype == torch.float32) == (scores.rounding == 0)


@pytest.mark.parametrize("metric", METRICS)
def test_precision_of_the_search_changes_nothing(metric, monkeypatch):
    features = torch.as_tensor(images(5, 500, 64, 20), dtype=torch.float32)
    results = []
    for fast in (True, False):
        monkeypatch.setattr(neighbors, "_bfloat16_is_fast", lambda device, fast=fast: fast)
        near, _ = neighbors._search(features, 21, metric, 0.2, progress=False)
        assert near.counts()[:500].min() >= 21
        assert near.counts().float().mean() < 60  # few are left to settle
        results.append(nearest_neighbors(features, 21, metric=metric, memory_mb=0.2))
    np.testing.assert_array_equal(results[0].order, results[1].order)
    np.testing.assert_array_equal(results[0].farthest, results[1].farthest)


@pytest.mark.parametrize("metric", METRICS)
def test_crowds_are_settled_in_float32(metric, monkeypatch):
    monkeypatch.setattr(neighbors, "_LEAST_CROWD", 1)
    rng = np.random.default_rng(6)
    features = torch.as_tensor(np.concatenate([rng.normal(size=(300, 16)), np.ones((100, 16))]), dtype=torch.float32)
    near, far = neighbors._search(features, 2, metric, 0.1, progress=False)
    crowded = near.crowded | far.crowded
    assert crowded[300:400].all()
    assert not crowded[:300].all()
    check(features, 2, metric, 0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("metric", METRICS)
def test_a_device_gives_the_same_neighbors(metric):
    features = torch.as_tensor(images(7, 700, 64, 20), dtype=torch.float32)
    host, device = (nearest_neighbors(some, 21, metric=metric, memory_mb=0.2) for some in (features, features.cuda()))
    np.testing.assert_array_equal(device.order, host.order)
    np.testing.assert_allclose(device.farthest, host.farthest, rtol=1e-5)
