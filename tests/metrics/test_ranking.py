from __future__ import annotations

import re
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ranking_twin as twin
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import sets

import regard
from regard.errors import ConfigError, DataError
from regard.metrics import FeatureSet, rank
from regard.metrics.average_precision import cmc_curve, score_ranks
from regard.metrics.protocol import Protocol
from regard.metrics.ranking import nearest_images, positive_ranks


def uniform(name, n):
    """n float64 values in [0, 1) from a name: splitmix64 over (crc32(name) << 32) + index."""
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint64) + (np.uint64(zlib.crc32(name.encode())) << np.uint64(32))
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) / (1 << 53)


def ranks_of(distances, *labels, memory_mb: float = 256):
    """Ranks of positives per query, of (Q, G) distances without junk."""
    block = torch.tensor(distances, dtype=torch.float32)
    parts = list(positive_ranks([(slice(0, len(block)), block)], Protocol(*map(np.asarray, labels)), memory_mb))
    return np.concatenate([ranks for _, ranks, _ in parts]), np.concatenate([counts for _, _, counts in parts])


def test_released_evaluators_reference():
    """Values a released evaluator gave on distances drawn from a hash."""
    distances = uniform("dist", 480).reshape(6, 80)
    j = np.arange(80)
    ranks, counts = ranks_of(distances, [1, 1, 2, 3, 4, 9], j % 6, [0, 1, 0, 2, 1, 0], j // 6 % 3)
    scores = score_ranks(ranks, counts)
    valid = counts > 0
    assert valid.sum() == 5
    assert scores.ap[valid].mean() == pytest.approx(0.1453731, abs=5e-8)
    np.testing.assert_array_equal(cmc_curve(scores.first_hit[valid], 10)[[0, 4, 9]], [0, 0.4, 0.8])


@pytest.mark.slow
def test_ranks_of_a_case_done_by_hand():
    #            gallery  0    1    2    3    4    5
    distances = [[0.3, 0.1, 0.3, 0.3, 0.9, 0.2]]
    ranks, counts = ranks_of(distances, [7], [8, 7, 8, 7, 7, 7], [1], [2, 1, 2, 2, 2, 3])
    # column 1 is by the own camera; order 5, 0, 2, 3, 4: the tie 0, 2, 3 stands by index
    assert ranks.tolist() == [1, 4, 5]
    assert counts.tolist() == [3]


@pytest.mark.parametrize("levels", [2, 5, 10**6])
def test_counting_ranks_equals_sorting(levels):
    rng = np.random.default_rng(levels)
    distances = rng.integers(0, levels, (40, 90)) / 8
    pids, camids = rng.integers(1, 6, 90), rng.integers(1, 4, 90)
    query_pids, query_camids = rng.integers(1, 7, 40), rng.integers(1, 4, 40)
    for memory_mb in (256, 1e-9):
        ranks, counts = ranks_of(distances, query_pids, pids, query_camids, camids, memory_mb=memory_mb)
        expected = []
        for row, pid, camid in zip(distances, query_pids, query_camids):
            order = np.argsort(row, kind="stable")
            order = order[~((pids[order] == pid) & (camids[order] == camid))]
            expected.append(np.flatnonzero(pids[order] == pid) + 1)
        np.testing.assert_array_equal(ranks, np.concatenate(expected))
        np.testing.assert_array_equal(counts, list(map(len, expected)))


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_nearest_images_are_those_of_a_stable_sort(data):
    height, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 30))
    k = data.draw(st.integers(1, width))
    levels = st.sampled_from([0.0, 0.25, 0.5, 1e-38, float("inf")])
    block = data.draw(st.lists(st.lists(levels, min_size=width, max_size=width), min_size=height, max_size=height))
    distances, columns = nearest_images(torch.tensor(block), k)
    np.testing.assert_array_equal(columns, np.argsort(block, axis=1, kind="stable")[:, :k])
    np.testing.assert_array_equal(distances, np.sort(np.float32(block), axis=1)[:, :k])


def small_set(seed=0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    query, gallery = rng.integers(-1, 2, (12, 5)), rng.integers(-1, 2, (30, 5))
    return {
        "query": query,
        "gallery": gallery,
        "query_pids": rng.integers(1, 6, 12),
        "gallery_pids": rng.integers(-1, 6, 30),
        "query_camids": rng.integers(1, 4, 12),
        "gallery_camids": rng.integers(1, 4, 30),
    }


@pytest.mark.parametrize("k", [1, 7, 30, 44])
@pytest.mark.parametrize("memory_mb", [256, 1e-6])
def test_ranking_leaves_out_junk_breaks_ties_by_index_and_pads(k, memory_mb):
    case = small_set()
    got = rank(*sets(**case), k=k, metric="euclidean", memory_mb=memory_mb)
    squared = ((case["query"][:, None] - case["gallery"]) ** 2).sum(-1)
    same_person = case["query_pids"][:, None] == case["gallery_pids"]
    junk = same_person & (case["query_camids"][:, None] == case["gallery_camids"]) | (case["gallery_pids"] == -1)
    expected = twin.first(squared, k, junk)
    assert isinstance(got, regard.Ranking)
    np.testing.assert_array_equal(got.indices, expected)
    there = expected >= 0
    queries = np.arange(12)[:, None]
    np.testing.assert_allclose(got.distances, np.where(there, np.sqrt(squared[queries, expected]), np.inf), rtol=1e-6)
    np.testing.assert_array_equal(got.matches, there & same_person[queries, expected])
    assert (got.indices.dtype, got.distances.dtype) == (np.int64, np.float32)


def test_ranking_without_identities_keeps_everything():
    case = small_set()
    got = rank(*sets(case["query"], case["gallery"]), k=3, metric="sqeuclidean")
    squared = ((case["query"][:, None] - case["gallery"]) ** 2).sum(-1)
    np.testing.assert_array_equal(got.indices, twin.first(squared, 3, np.zeros_like(squared)))
    assert got.matches is None


def test_roots_that_round_to_the_same_number_are_no_tie():
    gallery = np.array([[4095, 90, 9, 3, 0], [4095, 90, 9, 2, 2]])  # squares 16,777,215 and 16,777,214
    ranking = rank(*sets(np.zeros((1, 5)), gallery), k=2, metric="euclidean")
    assert ranking.distances[0, 0] == ranking.distances[0, 1]
    assert ranking.indices.tolist() == [[1, 0]]


def test_a_distractor_is_nobodys_match():
    ranking = rank(*sets(np.eye(2), np.eye(2), [0, 1], [0, 1]), k=2)
    np.testing.assert_array_equal(ranking.matches, [[False, False], [True, False]])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"k": 0}, ConfigError, "k is 0"),
        ({"query_pids": None}, DataError, "query_pids is missing: give the identities of both sides"),
        ({"query_camids": None}, DataError, "query_camids is missing"),
        ({"gallery_pids": np.full(30, -1)}, DataError, "all 30 gallery images are junk"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, error, says):
    with pytest.raises(error, match=says) as caught:
        rank(*sets(**small_set() | {key: value for key, value in change.items() if key != "k"}), k=change.get("k", 3))
    assert "\n" not in str(caught.value)


def test_a_ranking_is_cut_and_made_a_table_of():
    query, gallery = sets(**small_set())
    names = [f"{row}.jpg" for row in range(30)]
    ranking = rank(query, replace(gallery, names=names), metric="euclidean")
    top = ranking.top(3)
    np.testing.assert_array_equal(top.indices, rank(query, gallery, k=3, metric="euclidean").indices)
    np.testing.assert_array_equal(top.matches, ranking.matches[:, :3])
    table = ranking.to_pandas()
    assert list(table) == ["query", "rank", "gallery", "distance", "match", "gallery_name"]
    assert len(table) == (ranking.indices >= 0).sum() < ranking.indices.size  # the gallery ran out
    assert (table["gallery_name"] == [names[row] for row in table["gallery"]]).all()
    first = table[table["rank"] <= 3].groupby("query")["gallery"].agg(list)
    assert first.tolist() == top.indices.tolist()
    for k in (0, 101, 2.5, True, np.array([3]), None):
        with pytest.raises(ConfigError, match=re.escape(f"top {k!r} asked of a ranking of 100 ranks")) as caught:
            ranking.top(k)
        assert ("rank with k=101" in str(caught.value)) == (k is not None and np.array_equal(k, 101))


def test_sets_are_cut_and_joined():
    query, gallery = sets(**small_set())
    both = query + gallery
    assert len(both) == 42
    np.testing.assert_array_equal(both[12:].pids, gallery.pids)
    np.testing.assert_array_equal(sum([query, gallery]).embeddings, both.embeddings)
    for one, row in ((both[3], 3), (both[-1], 41), (both[np.int64(3)], 3)):
        assert len(one) == 1
        np.testing.assert_array_equal(one.embeddings, both.embeddings[[row]])
        assert one.pids.tolist() == [both.pids[row]]
    assert len([one for one in both]) == 42  # noqa: C416
    np.testing.assert_array_equal(both[[3, 1]].embeddings, query.embeddings[[3, 1]])
    assert both.names is both[:2].tracklets is None
    with pytest.raises(IndexError):
        both[42]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: FeatureSet(np.eye(3), names=["a"]), DataError, r"names has shape \(1,\) for 3 feature rows"),
        (lambda: FeatureSet(np.eye(3), names="abc"), DataError, r"names has shape \(\) for 3"),
        (lambda: FeatureSet(np.eye(3), tracklets="x"), DataError, r"tracklets has shape \(\) for 3"),
        (lambda: FeatureSet(np.eye(3), camids=[1, 2]), DataError, r"camids has shape \(2,\) for 3"),
        (lambda: FeatureSet(np.eye(3), [1.0, 2, 3]), DataError, "pids is of type float64"),
        (lambda: FeatureSet(None), DataError, r"embeddings are None: give an \(N, D\) array"),
        (lambda: FeatureSet(np.eye(3)) + None, ConfigError, "is None, wanted another FeatureSet"),
        (lambda: 1 + FeatureSet(np.eye(3)), ConfigError, "is 1, wanted another FeatureSet"),
        (lambda: FeatureSet(np.eye(3)) + FeatureSet(np.eye(4)), DataError, "have 3 and 4 columns"),
        (lambda: rank(np.eye(20), np.eye(20)), ConfigError, r"query is array.* \.\.\., wanted a set of descriptors"),
        (lambda: rank(FeatureSet(np.eye(3)), None), ConfigError, r"gallery is None, .* or run.features\('gallery'\)"),
    ],
)
def test_a_set_that_is_none_is_refused_in_one_line(make, error, says):
    with pytest.raises(error, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(({"k": k}, "wanted 1 to 1,000 ranks; the gallery has 30 images") for k in (True, np.array([3]), 10**12, "a")),
        *(({"memory_mb": size}, "memory_mb is ") for size in ("a", None, True, float("inf"), float("nan"))),
        *(({"device": name}, "device is .*, wanted auto, cpu, cuda") for name in ("foo", [], 3)),
        *(({"device": name}, "device is cuda:99, but torch sees") for name in ("cuda:99", torch.device("cuda:99"))),
    ],
)
def test_an_option_of_another_kind_is_refused_in_one_line(options, says):
    with pytest.raises(ConfigError, match=says) as caught:
        rank(*sets(**small_set()), **options)
    assert "\n" not in str(caught.value)


def test_all_of_a_large_gallery_can_be_asked_for():
    gallery = FeatureSet(np.arange(1.0, 1203)[:, None])
    assert rank(gallery[:1], gallery, k=1202, metric="euclidean").indices.tolist() == [list(range(1202))]
    with pytest.raises(ConfigError, match="wanted 1 to 1,202 ranks"):
        rank(gallery[:1], gallery, k=1203)
