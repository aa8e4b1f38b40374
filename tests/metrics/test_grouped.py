"""Groups of seeds: how often their intervals hold the truth, and what they are made of."""

from __future__ import annotations

import numpy as np
import pytest

from regard.errors import DataError
from regard.metrics.grouped import group_difference, group_interval
from regard.metrics.significance import intervals, over_seeds

REPEATS = 1500
LIKE_OURS = {"seed": 0.02, "person": 0.22, "both": 0.1, "query": 0.2}
"""Standard deviations of what a seed, a person, the two together and a query add to an AP, as on the crowd."""


def draw(generator: np.random.Generator, seeds: int, pids: np.ndarray, people: np.ndarray, spread: float) -> np.ndarray:
    """Scores (S, Q) around 0.5, of seeds that are new and people that are given."""
    both = generator.normal(0, LIKE_OURS["both"], (seeds, len(people)))
    scores = 0.5 + generator.normal(0, spread, (seeds, 1)) + people[pids] + both[:, pids]
    return scores + generator.normal(0, LIKE_OURS["query"], scores.shape)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spread", [0.01, 0.03])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds, spread):
    generator = np.random.default_rng([seeds, int(1000 * spread)])
    held = np.zeros(2)
    for _ in range(REPEATS):
        pids = np.repeat(np.arange(80), generator.integers(2, 8, 80))
        people = generator.normal(0, LIKE_OURS["person"], 80)
        first, second = (draw(generator, count, pids, people, spread) for count in (seeds, 3))
        one, (gap, _) = group_interval(list(first), pids), group_difference(list(first), list(second), pids)
        held += [one.low <= 0.5 <= one.high, gap.low <= 0 <= gap.high]
    assert (held / REPEATS > 0.93).all(), held / REPEATS
    assert (held / REPEATS < 0.975).all(), held / REPEATS


def test_one_source_alone_is_the_interval_known_for_it():
    generator = np.random.default_rng(0)
    pids = np.repeat(np.arange(60), 5)
    people = generator.normal(0.5, 0.1, 60)[pids].clip(0, 1)
    alone, bootstrap = group_interval([people], pids), intervals({"mAP": people}, pids)["mAP"]
    assert alone == pytest.approx(bootstrap, abs=2e-3)
    levels = [0.4, 0.45, 0.47]
    seeds = group_interval([np.full(300, level) for level in levels], pids)
    assert seeds == pytest.approx(over_seeds(levels))
    gap, p = group_difference([people], [people + 0.1], pids)
    assert (gap.value, p) == (pytest.approx(0.1), pytest.approx(0, abs=1e-9))
    assert group_difference([people], [people], pids) == ((0, 0, 0), 1)


def test_no_end_of_a_difference_is_beyond_what_fractions_can_differ_by():
    pids, seeds = np.repeat([1, 2, 3], 2), [np.full(6, level) for level in (0.1, 0.9)]
    gap, p = group_difference([np.full(6, 0.4)], seeds, pids)  # one degree of freedom: t is 12.7
    assert gap == (pytest.approx(0.1), -1.0, 1.0)
    wide, again = group_difference([np.full(6, 0.4)], seeds, pids, furthest=np.inf)
    assert wide == pytest.approx((0.1, 0.1 - 0.4 * 12.7062, 0.1 + 0.4 * 12.7062), abs=1e-3)
    assert p == again == pytest.approx(0.8440, abs=1e-4)


def test_what_does_not_go_together_is_refused():
    pids, scores = np.repeat([1, 2], 2), np.array([0.1, np.nan, 0.3, 0.4])
    group_interval([scores, scores], pids)
    with pytest.raises(DataError, match="no run"):
        group_interval([], pids)
    with pytest.raises(DataError, match="count different queries"):
        group_interval([scores, np.ones(4)], pids)
    with pytest.raises(DataError, match="groups count different queries"):
        group_difference([np.ones(4)], [scores], pids)
    with pytest.raises(DataError, match="fewer than two identities"):
        group_interval([np.ones(4)], np.ones(4, int))
