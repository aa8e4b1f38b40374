"""The hardest failures, on an evaluation small enough to see them."""

from __future__ import annotations

import numpy as np
import pytest

from regard.errors import ConfigError
from regard.metrics import FeatureSet, RankingReport, evaluate_ranking, rank
from regard.report.ranked import hardest
from regard.structures import Ranking

DISTANCES = np.array([[0.1, 0.2, 0.3], [0.05, 0.2, 0.3], [0.4, 0.5, 0.6], [0.4, 0.5, 0.6], [0.01, 0.02, 0.03]])
MATCHES = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
AP = np.array([1.0, 0.58, 0.1, 0.5, np.nan])
FIRST = np.array([1, 2, 9, 2, -1])
RANKING = Ranking(np.tile([7, 8, 9], (5, 1)), DISTANCES.astype(np.float32), MATCHES)
REPORT = RankingReport(0.5, 0.2, np.ones(3), AP, AP, FIRST, {})


def test_worst_first_and_each_query_once():
    found = hardest(RANKING, REPORT, 2)
    assert [(failure.query, failure.kinds) for failure in found] == [
        (2, ("buried", "fooled")), (3, ("buried",)), (1, ("fooled",)),
    ]  # fmt: skip
    assert [failure.query for failure in hardest(RANKING, REPORT, 9, ("fooled",))] == [1, 2, 3]


def test_what_is_said_of_a_failure():
    buried, _, fooled = hardest(RANKING, REPORT, 2)
    assert (buried.first_right, buried.wrong, buried.right_distance) == (9, 7, None)  # the ranking ends before rank 9
    assert fooled.to_dict() == {
        "query": 1, "kinds": ["fooled"], "ap": 0.58, "first_right": 2, "wrong": 7,
        "wrong_distance": pytest.approx(0.05), "right_distance": pytest.approx(0.2),
    }  # fmt: skip
    assert "first at distance 0.05, the right one at 0.20" in str(fooled)
    assert "average precision 10.0 %, first right answer at rank 9" in str(buried)


def test_a_late_answer_behind_a_right_one_is_no_wrong_first():
    report = RankingReport(0.5, 0.2, np.ones(3), np.array([0.7]), np.array([0.7]), np.array([1]), {})
    ranking = Ranking(np.array([[7, 8, 9]]), DISTANCES[:1].astype(np.float32), MATCHES[:1])
    (failure,) = hardest(ranking, report)
    assert (failure.kinds, failure.wrong, failure.wrong_distance) == (("buried",), None, None)
    assert "somebody else" not in str(failure)


def test_nothing_failed():
    report = RankingReport(1, 1, np.ones(3), np.array([1.0, np.nan]), np.ones(2), np.array([1, -1]), {})
    assert hardest(Ranking(np.zeros((2, 1), int), np.zeros((2, 1)), np.ones((2, 1), bool)), report) == []


def test_against_a_slow_search():
    random = np.random.default_rng(0)
    query, gallery = random.normal(size=(40, 8)).round(1), random.normal(size=(60, 8)).round(1)
    pids = random.integers(1, 12, 40), random.integers(1, 10, 60)  # some queries have no match
    report = evaluate_ranking(query, gallery, pids[0], pids[1])
    ranking = rank(FeatureSet(query, pids[0]), FeatureSet(gallery, pids[1]), k=60)
    expected = []
    for q in range(40):
        right = np.flatnonzero(ranking.matches[q])
        if len(right) and right[0] > 0:
            expected.append((ranking.distances[q, 0], q, right[0] + 1, ranking.distances[q, right[0]]))
    found = hardest(ranking, report, 100, ("fooled",))
    assert [
        (failure.wrong_distance, failure.query, failure.first_right, failure.right_distance) for failure in found
    ] == sorted(expected)
    lowest = [failure.ap for failure in hardest(ranking, report, 100, ("buried",))]
    assert lowest == sorted(ap for ap in report.ap.tolist() if ap < 1)


def test_mistakes():
    with pytest.raises(ConfigError, match="count=0"):
        hardest(RANKING, REPORT, 0)
    with pytest.raises(ConfigError, match="no matches and a report of 5"):
        hardest(Ranking(RANKING.indices, RANKING.distances), REPORT)
    with pytest.raises(ConfigError, match="with 2 queries and a report of 5"):
        hardest(Ranking(RANKING.indices[:2], RANKING.distances[:2], MATCHES[:2]), REPORT)
