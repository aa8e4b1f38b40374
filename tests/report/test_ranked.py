"""Which queries are shown, and what of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.errors import ConfigError, DataError
from regard.report.ranked import find_queries, pick_queries, pictures_of, random_queries, ranked_lists
from regard.structures import Ranking, Sample

QUERY = [Sample(Path(f"q{i}.jpg"), i + 1, 1) for i in range(4)]
GALLERY = [Sample(Path(f"g{i}.jpg"), i + 1, 2) for i in range(3)]
RANKING = Ranking(
    indices=np.array([[0, 2, 1], [2, 1, 0], [2, -1, -1], [0, 1, 2]]),
    distances=np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.5, np.inf, np.inf], [0.1, 0.2, 0.3]], np.float32),
    matches=np.array([[True, False, False], [False, True, False], [True, False, False], [False] * 3]),
)
AP = np.array([1.0, 0.5, 1.0, np.nan])


def test_easy_median_and_hard():
    assert pick_queries(np.array([0.2, 0.9, 0.5, np.nan, 0.7, 0.1])) == [1, 2, 5]
    assert pick_queries(np.array([0.2, 0.9, 0.5, np.nan, 0.7, 0.1]), 1) == [2]
    assert pick_queries(np.array([0.5, 1.0, 1.0, 0.0]), 2) == [1, 3]


def test_fewer_queries_than_asked_for():
    assert pick_queries(np.array([0.2, np.nan, 0.9])) == [2, 0]
    assert pick_queries(np.array([np.nan])) == []
    assert pick_queries(np.array([])) == []
    with pytest.raises(ConfigError, match="count=0"):
        pick_queries(AP, 0)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), max_size=30), st.integers(1, 8))
def test_picks_are_distinct_valid_ordered_and_span_the_range(ap, count):
    ap = np.array(ap)
    picks = pick_queries(ap, count)
    valid = np.flatnonzero(~np.isnan(ap))
    assert len(picks) == len(set(picks)) == min(count, len(valid))
    assert set(picks) <= set(valid)
    assert all(a >= b for a, b in zip(ap[picks], ap[picks][1:]))
    if count > 1 and len(valid):
        assert ap[picks[0]] == ap[valid].max()
        assert ap[picks[-1]] == ap[valid].min()


def test_lists_hold_what_the_ranking_says():
    easy, median, hard = ranked_lists(RANKING, QUERY, GALLERY, AP, depth=2)
    assert [item.title for item in (easy, median, hard)] == ["easy", "median", "hard"]
    assert [item.query for item in (easy, median, hard)] == [QUERY[0], QUERY[2], QUERY[1]]
    assert [item.ap for item in (easy, median, hard)] == [1.0, 1.0, 0.5]
    assert [(hit.sample, hit.rank, hit.match) for hit in hard.hits] == [(GALLERY[2], 1, False), (GALLERY[1], 2, True)]
    assert [hit.distance for hit in easy.hits] == pytest.approx([0.1, 0.2])
    assert len(median.hits) == 1  # the gallery ran out


def test_identities_may_be_unknown():
    lists = ranked_lists(Ranking(RANKING.indices, RANKING.distances), QUERY, GALLERY, AP, count=2)
    assert [item.title for item in lists] == ["easy", "hard"]
    assert all(hit.match is None for item in lists for hit in item.hits)


def test_titles_of_many_lists():
    ap = np.linspace(1, 0, 5)
    ranking = Ranking(np.zeros((5, 1), int), np.zeros((5, 1), np.float32))
    lists = ranked_lists(ranking, [QUERY[0]] * 5, GALLERY, ap, count=5)
    assert [item.title for item in lists] == ["easy", "25 % down the list", "median", "75 % down the list", "hard"]


def test_what_does_not_belong_together():
    with pytest.raises(ConfigError, match="4 queries, 3 query samples"):
        ranked_lists(RANKING, QUERY[:3], GALLERY, AP)
    with pytest.raises(ConfigError, match="gallery image 2, the gallery has 2"):
        ranked_lists(RANKING, QUERY, GALLERY[:2], AP)


def test_random_queries_are_drawn_among_those_that_can_be_answered():
    ap = np.array([0.2, np.nan, 0.9, 0.1, np.nan, 0.5])
    draws = [random_queries(ap, 2, seed) for seed in range(20)]
    assert {index for draw in draws for index in draw} == {0, 2, 3, 5}
    assert all(draw == sorted(set(draw)) and len(draw) == 2 for draw in draws)
    assert random_queries(ap, 2, 7) == draws[7]
    assert random_queries(ap, 99) == [0, 2, 3, 5]
    with pytest.raises(ConfigError, match="count=0"):
        random_queries(ap, 0)


def test_queries_are_found_by_what_people_call_them():
    query = [*QUERY, Sample(Path("folder/q9.jpg"), 2, 3)]
    assert find_queries(["3", "pid=2", "folder/q9.jpg", "q0.jpg"], query) == [3, 1, 4, 0]
    for text, said in (
        ("5", "there are 5: 0 to 4"), ("pid=9", "no query shows person '9'; there are 4, from 1 to 4"),
        ("q8.jpg", "did you mean 'q9.jpg'"), ("-1", "give a number, pid=N or a file name"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said):
            find_queries([text], query)


def test_picked_lists_keep_their_order_and_titles():
    lists = ranked_lists(RANKING, QUERY, GALLERY, AP, picks={2: "mine", 0: "yours"})
    assert [(item.title, item.query) for item in lists] == [("mine", QUERY[2]), ("yours", QUERY[0])]


def test_junk_has_no_rank_and_does_not_count():
    query = [Sample(Path("q.jpg"), 5, 1)]
    gallery = [
        Sample(Path("a.jpg"), -1, 2), Sample(Path("b.jpg"), 5, 1), Sample(Path("c.jpg"), 7, 1),
        Sample(Path("d.jpg"), 5, 2), Sample(Path("e.jpg"), 0, 1),
    ]  # fmt: skip
    ranking = Ranking(np.array([[1, 2, 0, 3, 4, -1]]), np.arange(6, dtype=np.float32)[None])
    (found,) = ranked_lists(ranking, query, gallery, np.array([0.5]), picks={0: "it"}, junk=True)
    assert [(hit.kind, hit.rank) for hit in found.hits] == [
        ("junk", None), ("wrong", 1), ("junk", None), ("right", 2), ("wrong", 3),
    ]  # fmt: skip
    said = found.to_dict()
    assert said["hits"][3] == {
        "rank": 2, "kind": "right", "distance": 3.0, "path": "d.jpg", "pid": 5, "camid": 2
    }  # fmt: skip
    assert said["query"] == {"path": "q.jpg", "pid": 5, "camid": 1}


def test_pictures_are_those_of_the_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = [Sample(Path("a/1.jpg"), 1, 1), Sample(Path("b/1.jpg"), 2, 1), Sample(Path("b/2.jpg"), 3, 1)]
    there = [Sample(Path("c/2.jpg"), 4, 1), Sample(Path("a/1.jpg"), 9, 1)]
    for names, pids in (
        (None, [1, 2, 3]), (["b/2.jpg", "a/1.jpg"], [3, 1]), (["2.jpg", Path("b/1.jpg")], [3, 2]),
        ([str(tmp_path / "a/1.jpg"), "c/2.jpg"], [1, 4]), (np.array([], str), []),
    ):  # fmt: skip
        assert [sample.pid for sample in pictures_of(names, here, "query", there)] == pids
    for name, said in (("1.jpg", "is the file of 2 pictures"), ("z.jpg", "no picture"), ("d/2.jpg", "no picture")):
        with pytest.raises(ConfigError, match=f"the ranking's query '{name}' is .*{said.removeprefix('is ')}"):
            pictures_of([name], here, "query", there)
    ranking = Ranking(
        RANKING.indices[1:3], RANKING.distances[1:3], None, ["q1.jpg", "q2.jpg"], ["g1.jpg", "g0.jpg", "g2.jpg"]
    )
    first, _ = ranked_lists(ranking, QUERY, GALLERY, AP[1:3], picks={0: "", 1: ""})
    assert (first.query, [hit.sample for hit in first.hits]) == (QUERY[1], [GALLERY[2], GALLERY[0], GALLERY[1]])
