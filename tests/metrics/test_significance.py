"""Intervals and tests are what they claim: equal to loops, and right as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from regard.errors import ConfigError, DataError
from regard.metrics import evaluate_ranking
from regard.metrics.significance import (
    _bootstrap,
    _by_identity,
    _sign_flip,
    holm,
    intervals,
    paired_differences,
    query_scores,
)


def clustered(generator, identities=50, effect=0.2, noise=0.1, size=6):
    """Scores and pids of people with 1 to ``size`` queries each, who differ by ``effect``; the true mean is 0.5."""
    sizes = generator.integers(1, size + 1, identities)
    pids = np.repeat(np.arange(1, identities + 1), sizes)
    person = generator.normal(0, effect, identities + 1)
    return 0.5 + person[pids] + generator.normal(0, noise, len(pids)), pids


def a_report(unmatched="skip"):
    generator = np.random.default_rng(3)
    pids = generator.integers(1, 15, 60)
    pids[:4] = 90  # nobody in the gallery
    gallery_pids = generator.integers(1, 15, 200)
    query, gallery = generator.normal(size=(60, 8)), generator.normal(size=(200, 8))
    query[:, 0] += pids
    gallery[:, 0] += gallery_pids
    return evaluate_ranking(query, gallery, pids, gallery_pids, metric="euclidean", unmatched=unmatched), pids


@pytest.mark.parametrize("unmatched", ["skip", "zero"])
def test_means_of_query_scores_are_the_reports_figures(unmatched):
    report, pids = a_report(unmatched)
    found = intervals(query_scores(report), pids, resamples=200)
    assert found["mAP"].value == pytest.approx(report.mAP, abs=1e-12)
    assert found["mINP"].value == pytest.approx(report.mINP, abs=1e-12)
    for k in (1, 5, 10):
        assert found[f"rank-{k}"].value == pytest.approx(report.rank(k), abs=1e-12)
    for figure in found.values():
        assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_a_resample_is_whole_identities_drawn_with_replacement():
    """The twin: draw identities from the same stream, gather their queries one by one, take the plain mean."""
    values, pids = clustered(np.random.default_rng(0), identities=7)
    scores = {"a": values, "b": values**2}
    scores["b"][2] = np.nan
    drawn = _bootstrap(*_by_identity(scores, pids), resamples=30, seed=5)
    chosen = np.random.default_rng(5).integers(7, size=(30, 7))
    for column, name in enumerate(scores):
        for figure, people in zip(drawn[:, column], chosen):
            queries = [scores[name][q] for person in people for q in range(len(pids)) if pids[q] == person + 1]
            assert figure == pytest.approx(np.nanmean(queries), abs=1e-12)


def test_flipping_signs_is_the_loop_over_identities():
    values, pids = clustered(np.random.default_rng(1), identities=6)
    values -= 0.45
    sums, _ = _by_identity({"a": values}, pids)
    signs = np.random.default_rng([2, 1]).integers(2, size=(99, 6)) * 2 - 1
    reached = 0
    for row in signs:
        total = sum(sign * value for person, sign in enumerate(row) for value in values[pids == person + 1])
        reached += abs(total) >= abs(values.sum()) - 1e-9
    assert _sign_flip(sums, 99, 2) == pytest.approx((reached + 1) / 100)


def test_bca_is_the_formula():
    """The twin of Efron's formula, one figure at a time, with scipy's normal distribution."""
    from scipy.stats import norm

    generator = np.random.default_rng(4)
    pids = np.repeat(np.arange(20), 3)
    values = generator.exponential(size=20)[pids] + generator.normal(0, 0.01, 60)
    found = intervals({"a": values}, pids, method="bca", resamples=999, level=0.9)["a"]
    drawn = np.sort(_bootstrap(*_by_identity({"a": values}, pids), resamples=999, seed=0)[:, 0])
    z0 = norm.ppf(np.mean(drawn < values.mean()))
    without = np.array([values[pids != person].mean() for person in range(20)])
    lean = without.mean() - without
    skew = (lean**3).sum() / (6 * (lean**2).sum() ** 1.5)
    for end, share in ((found.low, 0.05), (found.high, 0.95)):
        z = z0 + norm.ppf(share)
        assert end == pytest.approx(np.quantile(drawn, norm.cdf(z0 + z / (1 - skew * z))), abs=1e-9)
    assert skew > 0.02


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_95_percent_interval_holds_the_truth_in_about_95_percent(method):
    generator = np.random.default_rng(11)
    held = 0
    for trial in range(400):
        values, pids = clustered(generator)
        low, high = intervals({"a": values}, pids, method=method, resamples=500, seed=trial)["a"][1:]
        held += low <= 0.5 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_taking_queries_for_independent_would_promise_too_much():
    """Why identities are drawn: the same data, every query its own identity."""
    generator = np.random.default_rng(12)
    held = 0
    for trial in range(200):
        values, _ = clustered(generator)
        low, high = intervals({"a": values}, np.arange(len(values)), resamples=300, seed=trial)["a"][1:]
        held += low <= 0.5 <= high
    assert held / 200 < 0.85


def test_two_equal_systems_differ_significantly_in_about_5_percent():
    generator = np.random.default_rng(13)
    wrong = 0
    for trial in range(400):
        values, pids = clustered(generator, identities=30)
        taste = generator.normal(0, 0.1, 31)[pids]  # some people suit one system, some the other
        found = paired_differences({"a": values}, {"a": values + taste}, pids, resamples=300, seed=trial)["a"]
        wrong += found.p <= 0.05
    assert 0.025 <= wrong / 400 <= 0.08


def test_a_real_difference_is_found_where_intervals_overlap():
    generator = np.random.default_rng(14)
    values, pids = clustered(generator, identities=60)
    better = values + 0.02 + generator.normal(0, 0.02, len(values))
    first, second = (intervals({"a": scores}, pids, resamples=2000)["a"] for scores in (values, better))
    assert first.high > second.low
    found = paired_differences({"a": values}, {"a": better}, pids, resamples=2000)["a"]
    assert found.value == pytest.approx(better.mean() - values.mean(), abs=1e-12)
    assert 0 < found.low < 0.02 < found.high
    assert found.p == found.p_bootstrap / 2 == 1 / 2001


def test_a_run_against_itself_is_no_difference():
    values, pids = clustered(np.random.default_rng(15))
    assert paired_differences({"a": values}, {"a": values}, pids, resamples=50)["a"] == (0, 0, 0, 1, 1)


def test_the_direction_of_the_comparison_changes_the_sign_only():
    generator = np.random.default_rng(16)
    values, pids = clustered(generator)
    other = values + generator.normal(0.01, 0.1, len(values))
    one = paired_differences({"a": values}, {"a": other}, pids, resamples=500)["a"]
    two = paired_differences({"a": other}, {"a": values}, pids, resamples=500)["a"]
    assert two.value == -one.value
    assert (two.low, two.high) == pytest.approx((-one.high, -one.low))
    assert two.p == one.p


def test_seeds_fix_everything_and_memory_changes_nothing(monkeypatch):
    values, pids = clustered(np.random.default_rng(17))
    whole = intervals({"a": values}, pids, resamples=300, seed=1)
    monkeypatch.setattr("regard.metrics.significance._NUMBERS_AT_ONCE", 1000)
    assert intervals({"a": values}, pids, resamples=300, seed=1)["a"] == pytest.approx(whole["a"], abs=1e-12)
    assert intervals({"a": values}, pids, resamples=300, seed=2) != whole


@pytest.mark.slow
def test_holm_against_the_step_down_by_hand():
    p = [0.011, 0.02, 0.5, 0.012]
    assert holm(p) == pytest.approx([0.044, 0.044, 0.5, 0.044])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"level": 95}, ConfigError, "level is 95"),
        ({"method": "bcaa"}, ConfigError, "did you mean 'bca'?"),
        ({"resamples": 0}, ConfigError, "resamples is 0"),
        ({"pids": np.ones(10, int)}, DataError, "10 queries of 1 identities count"),
        ({"pids": np.ones(9, int)}, DataError, r"shape \(9,\)"),
        ({"scores": {"a": np.full(10, np.nan)}}, DataError, "0 queries of 0 identities"),
    ],
)
def test_a_mistake_is_said_in_one_line(change, error, wanted):
    arguments = {"scores": {"a": np.arange(10.0)}, "pids": np.arange(10)} | change
    with pytest.raises(error, match=wanted) as caught:
        intervals(arguments.pop("scores"), arguments.pop("pids"), **arguments)
    assert "\n" not in str(caught.value)


def test_runs_that_count_different_queries_are_not_paired():
    values = np.arange(6.0)
    other = np.where(values == 2, np.nan, values)
    with pytest.raises(DataError, match="count different queries for a"):
        paired_differences({"a": values}, {"a": other}, np.arange(6))


def test_a_cmc_that_is_not_of_first_hits_has_no_rank_per_query():
    generator = np.random.default_rng(0)
    pids = np.repeat(np.arange(1, 11), 3)
    features = generator.normal(size=(10, 4))[pids - 1] + generator.normal(size=(30, 4))
    report = evaluate_ranking(features, features, pids, pids, cmc="allshots")
    assert set(query_scores(report)) == {"mAP", "mINP"}
