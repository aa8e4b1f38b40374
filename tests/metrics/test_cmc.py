from __future__ import annotations

import numpy as np
import pytest
import ranking_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import case, distances, labels

from regard.errors import ConfigError
from regard.metrics import evaluate_ranking
from regard.metrics.average_precision import all_shots


@given(seed=st.integers(0, 10**6), integer=st.booleans(), dim=st.integers(1, 8))
@settings(deadline=None, max_examples=25)
def test_all_shots_equal_the_slow_loop(seed, integer, dim):
    data = case(seed, integer=integer, dim=dim)
    report = evaluate_ranking(**data, metric="sqeuclidean", cmc="allshots")
    np.testing.assert_allclose(report.cmc, twin.all_shots(distances(data), *labels(data)), atol=1e-12)


@given(seed=st.integers(0, 10**6), integer=st.booleans(), memory_mb=st.sampled_from([256, 1e-4]))
@settings(deadline=None, max_examples=15)
def test_single_shots_equal_the_slow_loop(seed, integer, memory_mb):
    data = case(seed, integer=integer, dim=3)
    report = evaluate_ranking(
        **data, metric="sqeuclidean", cmc="cuhk03", draws=4, seed=seed, max_rank=6, memory_mb=memory_mb
    )
    expected = twin.single_shot(distances(data), *labels(data), draws=4, seed=seed, max_rank=6)
    np.testing.assert_allclose(report.cmc, expected, atol=1e-12)


@pytest.mark.slow
def test_all_shots_by_hand():
    # hits at ranks 1, 3, 4: no wrong image before the first, one before the others
    np.testing.assert_allclose(all_shots(np.array([1, 3, 4]), np.array([3]), 3), [1 / 3, 1, 1])


def test_flavors_change_the_curve_alone_and_are_printed():
    data = case(5)
    market, single, every = (evaluate_ranking(**data, cmc=cmc) for cmc in ("market1501", "cuhk03", "allshots"))
    for other in (single, every):
        assert (other.mAP, other.mINP) == (market.mAP, market.mINP)
        np.testing.assert_array_equal(other.first_hit, market.first_hit)
    assert single.rank(10) == 1  # of seven persons and the distractors
    assert len({report.rank(1) for report in (market, single, every)}) == 3
    assert "CMC market1501" in str(market)
    assert "CMC cuhk03 (100 draws, seed 0)" in str(single)
    assert "CMC allshots" in str(every)


def test_the_seed_decides_the_draws():
    data = case(6)
    curves = [evaluate_ranking(**data, cmc="cuhk03", draws=3, seed=seed).cmc for seed in (0, 0, 1)]
    np.testing.assert_array_equal(curves[0], curves[1])
    assert (curves[0] != curves[2]).any()


@pytest.mark.parametrize("cmc", ["market1501", "cuhk03", "allshots"])
def test_queries_without_a_match_count_as_failures_if_asked(cmc):
    data = case(7)
    skip, zero = (evaluate_ranking(**data, cmc=cmc, unmatched=unmatched) for unmatched in ("skip", "zero"))
    np.testing.assert_allclose(zero.cmc, skip.cmc * skip.num_valid / skip.num_queries)


def test_without_cameras_single_shots_draw_from_all():
    data = case(8) | {"query_camids": None, "gallery_camids": None}
    everyone = data | {"query_camids": np.zeros(20, int), "gallery_camids": np.ones(60, int)}
    curves = [evaluate_ranking(**some, cmc="cuhk03", draws=5).cmc for some in (data, everyone)]
    np.testing.assert_array_equal(*curves)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"cmc": "cuhk3"}, "did you mean 'cuhk03'"), ({"draws": 0}, "draws is 0"), ({"junk": "never"}, "known: before")],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        evaluate_ranking(**case(0), **options)


def test_junk_left_out_later_takes_part_in_re_ranking_only():
    data = case(9, gallery=200)
    plain = [evaluate_ranking(**data, junk=junk) for junk in ("before", "query")]
    np.testing.assert_array_equal(plain[0].ap, plain[1].ap)
    reranked = [evaluate_ranking(**data, junk=junk, rerank=True) for junk in ("before", "query")]
    assert reranked[0].mAP != reranked[1].mAP
    assert reranked[1].options["junk"] == "dropped per query"
