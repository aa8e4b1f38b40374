"""Calibration recovers a truth that is known, never falls, and says no to what it cannot do."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from regard.calibration.curves import evidence_at, fit_cameras, fit_isotonic, fit_logistic
from regard.calibration.reliability import reliability
from regard.calibration.similarity import Calibration, Camera, fit_calibration
from regard.errors import CheckpointError, ConfigError, DataError
from regard.metrics.pair_sampling import PairSample

GRID = np.linspace(-0.2, 0.4, 25)


def simulated(people=120, each=30, wrong=20_000, distance=2.0, offsets=None, seed=0):
    """Similarities x / 10 with x ~ N(distance, 1) for one person and N(0, 1) for two, so that the evidence is
    distance * x - distance² / 2; ``offsets`` are added to x by the pair of cameras."""
    generator = np.random.default_rng(seed)
    right = np.repeat(np.arange(1, people + 1), each)
    two = generator.integers(1, people + 1, (wrong, 2))
    two = two[two[:, 0] != two[:, 1]]
    same = np.arange(len(right) + len(two)) < len(right)
    x = generator.normal(size=len(same)) + distance * same
    cameras = None
    if offsets:
        pairs = np.array(list(offsets))
        which = generator.integers(len(pairs), size=len(same))
        cameras, x = pairs[which], x + np.array(list(offsets.values()))[which]
    return PairSample(x / 10, same, np.concatenate([np.column_stack([right, right]), two]), cameras, 0.01)


def truth(similarity, prior=0.5, distance=2.0):
    return expit(distance * 10 * similarity - distance**2 / 2 + logit(prior))


def naive_pava(values, weights):
    """Merge neighbors that fall, again and again, until none does."""
    pools = [[value, weight, 1] for value, weight in zip(values, weights)]
    i = 0
    while i < len(pools) - 1:
        if pools[i][0] >= pools[i + 1][0]:
            (a, v, m), (b, w, n) = pools[i], pools.pop(i + 1)
            pools[i] = [(a * v + b * w) / (v + w), v + w, m + n]
            i = max(i - 1, 0)
        else:
            i += 1
    return [value for value, _, count in pools for _ in range(count)]


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=2, max_size=40))
def test_the_isotonic_curve_is_pooled_neighbors(pairs):
    similarity = np.array([value for value, _ in pairs], float)
    same = np.array([one for _, one in pairs])
    knots = fit_isotonic(similarity, same)
    values = np.unique(similarity)
    right = np.array([(same & (similarity == value)).sum() for value in values], float)
    wrong = np.array([(~same & (similarity == value)).sum() for value in values], float)
    right[0] += 1
    wrong[-1] += 1
    right, wrong = right / right.sum(), wrong / wrong.sum()
    pooled = np.array(naive_pava(right / (right + wrong), right + wrong))
    shares = np.unique(pooled.round(9))
    np.testing.assert_allclose(np.unique(expit(knots[:, 1]).round(9)), shares, atol=1e-8)
    assert np.isfinite(knots).all()
    assert (np.diff(knots, axis=0) >= 0).all()
    for center, evidence in knots:
        pool = np.isclose(pooled, expit(evidence), atol=1e-8)
        assert values[pool].min() - 1e-9 <= center <= values[pool].max() + 1e-9


def test_the_logistic_curve_is_the_minimum():
    """The twin: scipy's general minimizer on the same loss."""
    from scipy.optimize import minimize

    pairs = simulated(10, 5, 200)
    knots = fit_logistic(pairs.similarity, pairs.same)
    right, wrong = pairs.same.sum(), (~pairs.same).sum()
    targets = np.where(pairs.same, (right + 1) / (right + 2), 1 / (wrong + 2))
    weights = np.where(pairs.same, 0.5 / right, 0.5 / wrong)

    def loss(line):
        z = line[0] + line[1] * pairs.similarity
        return weights @ (np.logaddexp(0, z) - targets * z)

    best = minimize(loss, [0, 0], method="BFGS", options={"gtol": 1e-10}).x
    slope = np.diff(knots[:, 1]) / np.diff(knots[:, 0])
    assert slope[0] == pytest.approx(best[1], rel=1e-4)
    assert evidence_at(knots, np.array([0.0]), "logistic")[0] == pytest.approx(best[0], abs=1e-4)


@pytest.mark.parametrize("curve", ["isotonic", "logistic", "auto"])
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_recover_the_truth(curve, seed):
    fitted, found = fit_calibration(simulated(seed=seed), curve=curve)
    steps = 0 if fitted.curve == "logistic" else 0.04
    for prior, tolerance in ((0.5, 0.02 + steps), (0.05, 0.03 + 2 * steps)):
        assert np.abs(fitted.probability(GRID, prior=prior) - truth(GRID, prior)).max() < tolerance
    assert found.ece < 0.02
    assert found.ece_low <= found.ece <= found.ece_high
    fresh = simulated(seed=seed + 50)
    observed = np.mean(fresh.same[(fresh.similarity > 0.1) & (fresh.similarity < 0.12)])
    share = fresh.same.mean()
    assert fitted.probability(0.11, prior=share) == pytest.approx(observed, abs=0.06)


def test_auto_takes_the_curve_that_fits():
    """Evidence that stops growing: half of the most alike pairs of two people are look-alikes."""
    pairs = simulated()
    assert fit_calibration(pairs)[0].curve == "logistic"
    similarity = np.where(pairs.same, pairs.similarity, np.minimum(pairs.similarity, 0.1))
    look_alikes = ~pairs.same & (np.arange(len(pairs.same)) % 8 == 0)
    similarity = np.where(look_alikes, 0.25, similarity.clip(max=0.25))
    assert fit_calibration(pairs._replace(similarity=similarity))[0].curve == "isotonic"


def test_cameras_shift_where_there_is_enough_data():
    offsets = {(1, 2): 0.0, (1, 3): 1.0, (2, 3): -1.0}
    pairs = simulated(offsets=offsets)
    few = np.flatnonzero(pairs.same & (pairs.cameras[:, 0] == 1))[:6]
    pairs.cameras[few] = (4, 5)  # 6 pairs of one person: too few for a curve of their own
    fitted, found = fit_calibration(pairs, curve="logistic")
    assert set(fitted.cameras) == set(offsets)
    for cameras, offset in offsets.items():
        for order in (cameras, cameras[::-1]):
            given = fitted.probability(GRID, cameras=order)
            assert np.abs(given - truth(GRID - offset / 10)).max() < 0.06
    np.testing.assert_array_equal(fitted.probability(GRID, cameras=(4, 5)), fitted.probability(GRID))
    without, worse = fit_calibration(pairs._replace(cameras=None), curve="logistic")
    assert not without.cameras
    assert found.log_loss < worse.log_loss - 0.02


def test_cameras_that_do_not_differ_are_left_alone():
    fitted, _ = fit_calibration(simulated(offsets={(1, 2): 0.0, (1, 3): 0.0}), curve="logistic")
    for camera in fitted.cameras.values():
        assert camera == pytest.approx((0, 1), abs=0.15)


def test_the_penalty_draws_cameras_to_the_common_curve():
    pairs = simulated(20, 10, 2000, offsets={(1, 2): -1.0, (1, 3): 1.0})
    evidence = evidence_at(fit_logistic(pairs.similarity, pairs.same), pairs.similarity, "logistic")
    shifts = [
        abs(fit_cameras(evidence, pairs.same, pairs.cameras, penalty)[1, 2].shift) for penalty in (1, 10, 100, 1e6)
    ]
    assert shifts == sorted(shifts, reverse=True)
    assert shifts[0] > 1
    assert shifts[-1] < 0.01


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from(["isotonic", "logistic"]), st.integers(1, 3))
def test_more_alike_is_never_less_likely(seed, curve, decimals):
    """Ties, few people, cameras, similarities that know nothing: the curve never falls."""
    generator = np.random.default_rng(seed)
    pairs = simulated(5, 6, 300, distance=generator.uniform(-1, 3), offsets={(1, 2): 0.0, (1, 3): 2.0}, seed=seed)
    pairs = pairs._replace(similarity=pairs.similarity.round(decimals))
    if np.ptp(pairs.similarity) == 0:
        return
    fitted, _ = fit_calibration(pairs, curve=curve, rates=())
    for cameras in (None, *fitted.cameras):
        given = fitted.probability(np.linspace(-2, 2, 200), cameras=cameras)
        assert (np.diff(given) >= 0).all()
        assert (given > 0).all()
        assert (given < 1).all()


def test_people_told_apart_perfectly_do_not_become_certain():
    pairs = simulated(distance=100.0)
    for curve in ("isotonic", "logistic"):
        fitted, _ = fit_calibration(pairs, curve=curve)
        assert 0.99 < fitted.probability(11.0) < 1
        assert 0 < fitted.probability(-0.3) < 0.01


def test_similarity_that_knows_nothing_leaves_the_prior():
    fitted, _ = fit_calibration(simulated(distance=0.0), prior=0.3, curve="logistic")
    assert fitted.probability(GRID) == pytest.approx(np.full(len(GRID), 0.3), abs=0.03)


def test_similarity_the_wrong_way_round_is_flat():
    fitted, _ = fit_calibration(simulated(distance=-2.0), curve="logistic")
    assert fitted.probability(GRID) == pytest.approx(np.full(len(GRID), 0.5))


def test_quality_is_about_people_left_out(monkeypatch):
    """Everyone is checked once, by a fit that has seen no pair with them in it."""
    pairs = simulated(12, 4, 400)
    seen, checked = [], []

    def fit(part, kind):
        seen.append(set(part.people.ravel()))
        return fit_isotonic(part.similarity, part.same)

    def measure(probability, same, people, **options):
        checked.append(people)
        return reliability(probability, same, people, **options)

    monkeypatch.setattr("regard.calibration.similarity._fit", fit)
    monkeypatch.setattr("regard.calibration.similarity.reliability", measure)
    fit_calibration(pairs, curve="isotonic", rates=())
    *left_out, whole = seen
    assert len(left_out) == 5
    assert whole == set(range(1, 13))
    assert len(checked[0][checked[0][:, 0] == checked[0][:, 1]]) == pairs.same.sum()
    absent = [whole - fitted for fitted in left_out]
    assert sorted(person for group in absent for person in group) == list(range(1, 13))
    assert all(any({a, b} <= group for group in absent) for a, b in checked[0])


def test_thresholds_come_for_the_rates_that_can_be_known():
    fitted, _ = fit_calibration(simulated(wrong=2000), rates=(0.1, 0.01, 1e-6))
    assert [found.rate for found in fitted.thresholds] == [0.1, 0.01]
    found = fitted.threshold(0.01)
    assert found.low < 0.01 < found.high
    fresh = simulated(wrong=50_000, seed=9)
    assert found.low <= np.mean(fresh.similarity[~fresh.same] > found.similarity) <= found.high
    with pytest.raises(ConfigError, match=r"no threshold for a false-alarm rate of 1e-06 \(there are: 0.1, 0.01\)"):
        fitted.threshold(1e-6)


def test_it_goes_through_json():
    fitted, _ = fit_calibration(simulated(wrong=2000, offsets={(1, 2): 0.5, (1, 3): -0.5}))
    again = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again.to_dict() == fitted.to_dict()
    assert again.cameras == fitted.cameras
    assert isinstance(next(iter(again.cameras.values())), Camera)
    np.testing.assert_array_equal(again.probability(GRID, cameras=(3, 1)), fitted.probability(GRID, cameras=(1, 3)))
    assert again.threshold(0.01) == fitted.threshold(0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"curve": "spline"},
        {"knots": [[1, 2], [0, 3]]},
        {"knots": []},
        {"curve": "logistic", "knots": [[1, 2]]},
        {"knots": None},
        {"prior": 2},
    ],
)
def test_what_is_no_calibration_is_refused(change):
    content = fit_calibration(simulated(wrong=2000), rates=())[0].to_dict() | change
    with pytest.raises(CheckpointError, match="not a calibration that regard can read"):
        Calibration.from_dict(content)


def test_an_empty_file_is_refused():
    with pytest.raises(CheckpointError, match="regard calibrate RUN"):
        Calibration.from_dict({})


@pytest.mark.parametrize(
    ("change", "options", "error", "wanted"),
    [
        ({}, {"curve": "isotonc"}, ConfigError, "did you mean 'isotonic'?"),
        ({}, {"prior": 0.0}, ConfigError, "prior is 0.0"),
        ({}, {"rates": (2.0,)}, ConfigError, "false-alarm rate is 2.0"),
        ({"people": 3}, {}, DataError, "3 people: calibration needs 10 of each kind and 4 people"),
        ({"people": 4, "each": 2}, {}, DataError, "8 pairs of one person"),
        ({"wrong": 5}, {}, DataError, "calibration needs 10 of each kind"),
    ],
)
def test_a_mistake_is_said_in_one_line(change, options, error, wanted):
    with pytest.raises(error, match=wanted.replace("?", r"\?")) as caught:
        fit_calibration(simulated(**change), **options)
    assert "\n" not in str(caught.value)


def test_a_collapsed_model_is_named_as_such():
    pairs = simulated(wrong=100)
    with pytest.raises(DataError, match=r"have the similarity 1, so it tells nobody apart"):
        fit_calibration(pairs._replace(similarity=np.ones(len(pairs.same))))
    with pytest.raises(DataError, match="NaN"):
        fit_calibration(pairs._replace(similarity=np.full(len(pairs.same), np.nan)))
