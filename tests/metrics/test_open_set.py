from __future__ import annotations

import json

import numpy as np
import pytest
import ranking_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import case, distances, labels, sets

from regard.errors import ConfigError
from regard.metrics import evaluate_open_set

RATES = (0.0, 0.003, 0.05, 0.3, 1.0)


@pytest.mark.slow
@given(seed=st.integers(0, 10**6), integer=st.booleans(), memory_mb=st.sampled_from([256, 1e-4]))
@settings(deadline=None, max_examples=12)
def test_rates_are_those_counted_at_the_thresholds(seed, integer, memory_mb):
    data = case(seed, integer=integer, dim=3)
    got = evaluate_open_set(*sets(**data), metric="sqeuclidean", rates=RATES, memory_mb=memory_mb)
    right, wrong = twin.pairs(distances(data), *labels(data))
    assert (got.num_right, got.num_wrong) == (len(right), len(wrong))
    for point in got.verification:
        assert point.false_rate == pytest.approx((wrong < point.threshold).mean(), abs=1e-12)
        assert point.true_rate == pytest.approx((right < point.threshold).mean(), abs=1e-12)
        assert point.false_rate <= point.wanted
        if point.wanted < 1:  # a threshold higher by a step gives more than was wished
            assert (wrong < point.threshold * (1 + 2**-12) + 1e-30).mean() > point.wanted

    least, correct, known = twin.nearest(distances(data), *labels(data))
    assert (got.num_known, got.num_unknown) == (known.sum(), (~known).sum())
    for point in got.identification:
        alarms = least[~known]
        assert point.false_rate == pytest.approx((alarms < point.threshold).mean())
        assert point.false_rate <= point.wanted
        assert point.true_rate == pytest.approx((correct & (least < point.threshold))[known].mean())
        assert np.isinf(point.threshold) or (alarms <= point.threshold).mean() > point.wanted


@pytest.mark.parametrize("ignore_cameras", [False, True])
def test_leaving_one_out_within_a_list_is_the_same_with_the_others_as_gallery(ignore_cameras):
    whole = case(7, dim=3)
    features, pids, camids = whole["gallery"], whole["gallery_pids"], whole["gallery_camids"]
    one = evaluate_open_set(*sets(features, features, pids, pids, camids, camids), metric="sqeuclidean", rates=RATES,
                            ignore_cameras=ignore_cameras, leave_one_out=True)  # fmt: skip
    apart = distances({"query": features, "gallery": features})
    np.fill_diagonal(apart, np.inf)
    cameras = (camids, -1 - camids) if ignore_cameras else (camids, camids)
    right, wrong = twin.pairs(apart, pids, pids, *cameras)
    assert (one.num_right, one.num_wrong) == (np.isfinite(right).sum(), np.isfinite(wrong).sum())
    least, _, known = twin.nearest(apart, pids, pids, *cameras)
    for point in one.identification:
        assert point.false_rate == pytest.approx((least[~known] < point.threshold).mean())


def test_thresholds_are_in_the_metric_asked_for():
    data = case(3)
    root, square = (evaluate_open_set(*sets(**data), metric=metric) for metric in ("euclidean", "sqeuclidean"))
    for ours, theirs in zip(root.identification + root.verification, square.identification + square.verification):
        assert ours.threshold**2 == pytest.approx(theirs.threshold)
        assert ours.true_rate == theirs.true_rate


def test_without_unknown_queries_there_is_no_identification():
    pids = [1, 2, 3]
    got = evaluate_open_set(*sets(np.eye(3), np.eye(3), pids, pids))
    assert got.identification == ()
    assert got.verification[0].true_rate == 1
    assert "-" in str(got)


def test_reads_well_and_goes_through_json():
    got = evaluate_open_set(*sets(**case(4)))
    assert json.loads(json.dumps(got.to_dict(), allow_nan=False))["verification"][1]["wanted"] == 0.01
    assert "queries with a match" in str(got)
    strangers = evaluate_open_set(*sets(**case(4) | {"query_pids": np.full(20, 99)}))
    assert json.loads(json.dumps(strangers.to_dict(), allow_nan=False))["identification"][0]["true_rate"] is None
    assert strangers.num_known == 0


@pytest.mark.parametrize("rates", [(), (1.5,), (-0.1,)])
def test_rates_that_are_none_are_refused(rates):
    with pytest.raises(ConfigError, match="false alarm rates"):
        evaluate_open_set(*sets(**case(0)), rates=rates)
