from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.errors import ConfigError, DataError
from regard.metrics import evaluate_ranking, pool_features


@given(
    seed=st.integers(0, 10**6),
    how=st.sampled_from(["mean", "max"]),
    normalize=st.booleans(),
    cameras=st.booleans(),
    tracks=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_equals_the_slow_loop(seed, how, normalize, cameras, tracks):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(25, 4)).astype(np.float32)
    features[3] *= normalize
    pids, camids, tracklets = rng.integers(-1, 4, 25), rng.integers(1, 3, 25), rng.integers(0, 3, 25)
    keys = [pids, *([camids] if cameras else []), *([tracklets] if tracks else [])]
    got = pool_features(
        features, pids, camids if cameras else None, tracklets if tracks else None, how=how, normalize=normalize
    )
    groups = {}
    for i, key in enumerate(zip(*keys)):
        length = np.linalg.norm(features[i]) if normalize else 1
        groups.setdefault(key, []).append(features[i] / (length or 1))
    expected = sorted(groups)
    assert got.pids.tolist() == [key[0] for key in expected]
    assert (got.camids is None) == (not cameras)
    if got.camids is not None:
        assert got.camids.tolist() == [key[1] for key in expected]
    assert got.sizes.tolist() == [len(groups[key]) for key in expected]
    pooled = [(np.mean if how == "mean" else np.max)(groups[key], axis=0) for key in expected]
    np.testing.assert_allclose(got.features, pooled, atol=1e-6)


def test_many_queries_of_a_person_are_better_than_one():
    rng = np.random.default_rng(1)
    pids, gallery_pids = np.repeat(np.arange(1, 21), 6), np.repeat(np.arange(1, 21), 5)
    center = rng.normal(size=(21, 16))
    query, gallery = (center[p] + 1.5 * rng.normal(size=(len(p), 16)) for p in (pids, gallery_pids))
    one = evaluate_ranking(query, gallery, pids, gallery_pids)
    for how in ("mean", "max"):
        pooled = pool_features(query, pids, how=how)
        many = evaluate_ranking(pooled.features, gallery, pooled.pids, gallery_pids)
        assert many.num_queries == 20
        if how == "mean":
            assert many.mAP > one.mAP + 0.1


def test_bad_input_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"unknown pooling 'median'.*known: mean, max"):
        pool_features(np.eye(3), [1, 2, 3], how="median")
    with pytest.raises(DataError, match=r"tracklets has shape \(2,\) for 3"):
        pool_features(np.eye(3), [1, 2, 3], tracklets=[1, 2])
