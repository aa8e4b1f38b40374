"""The sample holds every pair of one person, pairs of two people at random, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from ranking_cases import sets

from regard.errors import ConfigError, DataError
from regard.metrics.pair_sampling import sample_pairs


def a_set(queries=40, gallery=90, people=9, cameras=3, seed=0):
    generator = np.random.default_rng(seed)
    return {
        "query": generator.normal(size=(queries, 5)),
        "gallery": generator.normal(size=(gallery, 5)),
        "query_pids": generator.integers(1, people, queries),
        "gallery_pids": generator.integers(-1, people, gallery),
        "query_camids": generator.integers(1, cameras + 1, queries),
        "gallery_camids": generator.integers(1, cameras + 1, gallery),
    }


def twin(query, gallery, query_pids, gallery_pids, query_camids=None, gallery_camids=None, metric="cosine"):
    """All pairs that may be drawn, one by one: (similarity, same, cameras), sorted."""
    found = []
    for i, q in enumerate(query):
        for j, g in enumerate(gallery):
            if gallery_pids[j] == -1 or query_pids[i] < 1:
                continue
            if query_camids is not None and query_camids[i] == gallery_camids[j]:
                continue
            cosine = q @ g / np.linalg.norm(q) / np.linalg.norm(g)
            similarity = cosine if metric == "cosine" else -np.linalg.norm(q - g)
            cameras = () if query_camids is None else tuple(sorted((query_camids[i], gallery_camids[j])))
            found.append((similarity, bool(query_pids[i] == gallery_pids[j]), cameras))
    return sorted(found)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("cameras", [True, False])
def test_without_a_limit_it_is_the_double_loop(metric, cameras):
    data = a_set()
    if not cameras:
        del data["query_camids"], data["gallery_camids"]
    pairs = sample_pairs(*sets(**data), metric=metric, limit=10**6)
    wanted = twin(**data, metric=metric)
    order = np.argsort(pairs.similarity)
    np.testing.assert_allclose(pairs.similarity[order], [similarity for similarity, _, _ in wanted], atol=1e-5)
    assert pairs.same[order].tolist() == [same for _, same, _ in wanted]
    assert pairs.share == pytest.approx(np.mean([same for _, same, _ in wanted]), abs=1e-12)
    if cameras:
        assert [tuple(row) for row in pairs.cameras[order]] == [pair for _, _, pair in wanted]
    else:
        assert pairs.cameras is None


def test_people_are_named_and_every_distractor_is_its_own():
    data = a_set()
    pairs = sample_pairs(*sets(**data), limit=10**6)
    assert (pairs.people[pairs.same, 0] == pairs.people[pairs.same, 1]).all()
    assert (pairs.people[~pairs.same, 0] != pairs.people[~pairs.same, 1]).all()
    kept = data["gallery_pids"][data["gallery_pids"] != -1]
    assert len(np.unique(pairs.people[pairs.people < 0])) == (kept == 0).sum() > 1


@pytest.mark.parametrize("limit", [50, 400, 1500])
def test_a_limit_keeps_all_pairs_of_one_person_and_draws_the_others_evenly(limit):
    data = a_set(60, 150)
    whole, part = sample_pairs(*sets(**data), limit=10**6), sample_pairs(*sets(**data), limit=limit)
    assert part.share == whole.share
    assert part.same.sum() == whole.same.sum()
    np.testing.assert_array_equal(np.sort(part.similarity[part.same]), np.sort(whole.similarity[whole.same]))
    assert (~part.same).sum() == limit
    assert len(np.unique(part.similarity[~part.same])) == len(part.similarity[~part.same])
    assert np.isin(part.similarity[~part.same].round(5), whole.similarity[~whole.same].round(5)).all()
    drawn = [
        sample_pairs(*sets(**data), limit=limit, seed=seed).similarity[part.same.sum() :].mean() for seed in range(20)
    ]
    spread = whole.similarity[~whole.same].std() / np.sqrt(20 * limit)
    assert abs(np.mean(drawn) - whole.similarity[~whole.same].mean()) < 4 * spread


def test_the_seed_fixes_the_sample():
    data = a_set(60, 150)
    one, two, three = (sample_pairs(*sets(**data), limit=100, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.similarity, two.similarity)
    assert not np.array_equal(one.similarity, three.similarity)


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"metric": "cosin"}, ConfigError, "did you mean 'cosine'?"),
        ({"gallery_pids": np.full(90, -1)}, DataError, "junk"),
        ({"gallery_pids": np.full(90, 77)}, DataError, "no query has a match"),
        (
            {"query_pids": np.ones(40, int), "gallery_pids": np.ones(90, int)},
            DataError,
            "no two people seen by different",
        ),
        ({"query_camids": None}, DataError, "query_camids is missing"),
    ],
)
def test_a_mistake_is_said_in_one_line(change, error, wanted):
    options = {key: change[key] for key in change if key == "metric"}
    change = {key: change[key] for key in change if key != "metric"}
    with pytest.raises(error, match=wanted.replace("?", r"\?")):
        sample_pairs(*sets(**(a_set() | change)), **options)
