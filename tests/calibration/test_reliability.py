"""Quality of probabilities and thresholds: by hand, by loop, and on fresh draws."""

from __future__ import annotations

import numpy as np
import pytest

from regard.calibration.reliability import class_weights, log_loss, reliability, threshold, widen
from regard.errors import ConfigError, DataError


@pytest.mark.slow
def test_ece_brier_and_log_loss_by_hand():
    probability = np.array([0.1, 0.1, 0.6, 0.6, 0.9, 0.9])
    same = np.array([False, False, True, False, True, True])
    found = reliability(probability, same, prior=0.5, bins=3)
    assert found.predicted == pytest.approx([0.1, 0.6, 0.9])
    assert found.observed == pytest.approx([0, 0.5, 1])
    assert found.mass == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert found.ece == pytest.approx((0.1 + 0.1 + 0.1) / 3)
    assert found.brier == pytest.approx((0.01 + 0.01 + 0.16 + 0.36 + 0.01 + 0.01) / 6)
    assert found.log_loss == pytest.approx(-(4 * np.log(0.9) + np.log(0.6) + np.log(0.4)) / 6)
    assert "ECE 10.00 %" in str(found)


def test_the_prior_weighs_the_two_kinds():
    """Three pairs of two people stand for nine tenths of all: the share in the one bin is the prior."""
    found = reliability(np.full(4, 0.3), np.array([True, False, False, False]), prior=0.1)
    assert found.predicted == pytest.approx([0.3])
    assert found.observed == pytest.approx([0.1])
    assert found.ece == pytest.approx(0.2)
    assert found.brier == pytest.approx(0.1 * 0.49 + 0.9 * 0.09)


def test_equal_probabilities_share_a_bin_and_bins_have_equal_mass():
    generator = np.random.default_rng(0)
    probability = generator.random(3000).round(2)
    found = reliability(probability, generator.random(3000) < probability, bins=10)
    assert len(found.mass) == 10
    assert found.mass == pytest.approx(np.full(10, 0.1), abs=0.03)
    assert np.all(np.diff(found.predicted) > 0)


def test_binning_is_the_loop():
    generator = np.random.default_rng(1)
    probability, same = generator.random(200), generator.random(200) < 0.4
    found = reliability(probability, same, prior=0.3, bins=7)
    weights = [0.3 / same.sum() if one else 0.7 / (~same).sum() for one in same]
    bins = [[] for _ in range(7)]
    before = 0.0
    for i in np.argsort(probability):
        bins[min(6, int((before + weights[i] / 2) * 7))].append(i)
        before += weights[i]
    ece = 0
    for rows in bins:
        ece += abs(sum(weights[i] * (probability[i] - same[i]) for i in rows))
    assert found.ece == pytest.approx(ece, abs=1e-12)
    assert found.mass == pytest.approx([sum(weights[i] for i in rows) for rows in bins])


@pytest.mark.slow
def test_the_interval_of_ece_holds_the_true_error():
    """Probabilities that are a tenth too high everywhere: the true calibration error is 0.1."""
    held = 0
    for trial in range(60):
        generator = np.random.default_rng(trial)
        truth = generator.uniform(0, 0.9, 2000)
        same = generator.random(2000) < truth
        found = reliability(truth + 0.1, same, prior=0.45, bins=10, resamples=100, seed=trial)
        assert found.ece_low <= found.ece <= found.ece_high
        held += found.ece_low <= 0.1 <= found.ece_high
    assert 53 <= held <= 60


def test_pairs_of_few_people_give_wider_intervals():
    generator = np.random.default_rng(2)
    people = np.repeat(np.arange(20), 100)
    probability = generator.uniform(0.3, 0.7, 2000)
    steeper = generator.normal(0, 0.2, 20)[people] * np.sign(probability - 0.5)  # some are easier to judge than others
    same = generator.random(2000) < probability + steeper
    by_people = reliability(probability, same, np.column_stack([people, people]), prior=0.5, bins=3)
    by_pairs = reliability(probability, same, prior=0.5, bins=3)
    assert by_people.ece == by_pairs.ece
    assert (by_people.high - by_people.low).mean() > 1.5 * (by_pairs.high - by_pairs.low).mean()


def test_threshold_is_the_order_statistic():
    different = np.random.default_rng(3).permutation(np.arange(1000.0))
    found = threshold(different, 0.01, same=np.array([980.0, 989.0, 990.0, 995.0, 999.0, 2000.0]))
    assert found.similarity == 990  # the 10th most alike of 1000
    assert (different > found.similarity).mean() == 0.009
    assert found.hits == pytest.approx(3 / 6)
    assert threshold(np.arange(999.0), 0.001).similarity == 998
    assert np.isnan(threshold(different, 0.5).hits)


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.002])
def test_on_fresh_draws_the_rate_is_kept_on_average_and_lies_in_its_interval(rate):
    """The true rate of a threshold is known, as the law of the similarities is: 1 - Phi(t)."""
    from scipy.stats import norm

    rates, held = [], 0
    for seed in range(300):
        found = threshold(np.random.default_rng(seed).normal(size=1000), rate)
        true = norm.sf(found.similarity)
        rates.append(true)
        held += found.low <= true <= found.high
    assert np.mean(rates) == pytest.approx(int(rate * 1001) / 1001, rel=0.12)
    assert 0.91 <= held / 300 <= 0.985


def test_ties_only_lower_the_rate():
    found = threshold(np.array([0.5] * 50 + [0.9] * 50), 0.2)
    assert found.similarity == 0.9


def test_people_widen_an_interval():
    generator = np.random.default_rng(4)
    people = np.column_stack([generator.integers(0, 15, 4000), generator.integers(15, 30, 4000)])
    similarity = generator.normal(size=30)[people].sum(1) + generator.normal(0, 0.2, 4000)
    exact = threshold(similarity, 0.05)
    (wide,) = widen([exact], similarity, people)
    assert wide.similarity == exact.similarity
    assert wide.high - wide.low > 3 * (exact.high - exact.low)
    assert wide.low <= exact.low <= 0.05 <= exact.high <= wide.high
    assert widen([], similarity, people) == []


def test_log_loss_does_not_overflow():
    same = np.array([True, False])
    assert log_loss(np.array([1000.0, -1000.0]), same, class_weights(same, 0.5)) == 0
    assert log_loss(np.array([-1000.0, 1000.0]), same, class_weights(same, 0.5)) == 1000


@pytest.mark.parametrize(
    ("call", "error", "wanted"),
    [
        (lambda: threshold(np.arange(99.0), 0.001), DataError, "needs 999 pairs of two people, there are 99"),
        (lambda: threshold(np.arange(99.0), 1.5), ConfigError, "false-alarm rate is 1.5"),
        (lambda: threshold(np.empty(0), 0.5), DataError, "there are 0"),
        (lambda: reliability(np.array([0.5]), np.array([True])), DataError, "1 pairs of one person and 0 of two"),
        (lambda: reliability(np.array([1.5, 0]), np.array([True, False])), DataError, r"one in \[0, 1\]"),
        (lambda: reliability(np.array([np.nan, 0]), np.array([True, False])), DataError, r"one in \[0, 1\]"),
    ],
)
def test_a_mistake_is_said_in_one_line(call, error, wanted):
    with pytest.raises(error, match=wanted):
        call()
