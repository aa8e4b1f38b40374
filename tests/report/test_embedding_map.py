"""Descriptors on a plane: neighbors stay neighbors, shares are what they say, people are chosen fairly."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from regard.errors import ConfigError, DataError
from regard.report.embedding_map import aligned, embedding_map, pick_people
from regard.structures import Sample


def clusters(people: int = 6, pictures: int = 8, spread: float = 0.05, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors far apart between people and close within, in mixed order."""
    random = np.random.default_rng(0)
    pids = random.permutation(np.repeat(np.arange(1, people + 1), pictures))
    centers = random.normal(size=(people + 1, size))
    return centers[pids] + spread * random.normal(size=(len(pids), size)), pids


def share(points: np.ndarray, pids: np.ndarray) -> float:
    """Naive: how many have somebody of their own nearest, among those who can."""
    hits = []
    for i in range(len(points)):
        if (pids == pids[i]).sum() < 2:
            continue
        distances = [np.linalg.norm(points[i] - points[j]) if j != i else np.inf for j in range(len(points))]
        hits.append(pids[int(np.argmin(distances))] == pids[i])
    return float(np.mean(hits))


def test_pictures_of_one_person_become_neighbors():
    features, pids = clusters()
    found = embedding_map(features, pids)
    assert found.method == "t-SNE"
    assert found.places.shape == (48, 2)
    assert found.on_map == found.in_full == 1.0
    assert np.abs(found.places).max() == pytest.approx(1)
    for person in set(pids.tolist()):
        own, others = found.places[pids == person], found.places[pids != person]
        middle = own.mean(0)
        assert np.linalg.norm(own - middle, axis=1).max() < np.linalg.norm(others - middle, axis=1).min()


def test_the_same_seed_gives_the_same_map():
    features, pids = clusters(3, 5)
    assert np.array_equal(embedding_map(features, pids, seed=3).places, embedding_map(features, pids, seed=3).places)


def test_shares_are_counted_as_by_hand():
    random = np.random.default_rng(1)
    features, pids = random.normal(size=(30, 3)), random.integers(1, 8, 30)
    pids[0] = 99  # alone: never counted
    found = embedding_map(features, pids, metric="euclidean", method="pca")
    assert found.in_full == pytest.approx(share(features, pids))
    assert found.on_map == pytest.approx(share(found.places, pids))
    cosine = embedding_map(features, pids, method="pca")
    assert cosine.in_full == pytest.approx(share(features / np.linalg.norm(features, axis=1, keepdims=True), pids))


def test_principal_components_are_those_of_the_covariance():
    features, pids = np.random.default_rng(2).normal(size=(20, 4)) * [5, 3, 1, 0.1], np.arange(20)
    places = embedding_map(features, pids, metric="euclidean", method="pca").places
    values, vectors = np.linalg.eigh(np.cov(features.T))
    wanted = (features - features.mean(0)) @ vectors[:, np.argsort(-values)[:2]]
    for axis in (0, 1):
        assert abs(np.corrcoef(places[:, axis], wanted[:, axis])[0, 1]) == pytest.approx(1)
    assert np.ptp(places[:, 0]) / np.ptp(places[:, 1]) == pytest.approx(np.ptp(wanted[:, 0]) / np.ptp(wanted[:, 1]))


@pytest.mark.parametrize("count", [1, 2, 9])
def test_too_few_pictures_for_neighborhoods(count):
    features, pids = clusters(3, 3)
    found = embedding_map(features[:count], pids[:count])
    assert found.method == "principal components"
    assert np.isfinite(found.places).all()
    assert np.isnan(found.on_map) == (count == 1)


def test_descriptors_that_are_all_the_same():
    found = embedding_map(np.ones((20, 4)), np.arange(20) // 2)
    assert found.method == "principal components"
    assert np.allclose(found.places, 0)


def test_a_turned_and_mirrored_map_is_turned_back():
    places = np.random.default_rng(3).uniform(-1, 1, (25, 2))
    places /= np.abs(places).max()
    places -= (places.min(0) + places.max(0)) / 2
    turned = places @ np.array([[0.6, 0.8], [-0.8, 0.6]]) @ np.diag([1, -1])
    assert np.allclose(aligned(turned, places), places / np.abs(places).max())


def test_umap_where_it_is_installed(monkeypatch):
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, features):
            return features[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    found = embedding_map(*clusters(2, 6), method="umap", seed=5)
    assert found.method == "UMAP"
    assert asked["random_state"] == 5
    assert asked["n_neighbors"] == 11
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match=r"UMAP needs umap, .*regard\[umap\].*tsne"):
        embedding_map(*clusters(2, 6), method="umap")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "som"}, "map method 'som', wanted one of umap, tsne, pca"),
        ({"metric": "manhattan"}, "metric 'manhattan'"),
        ({"features": np.array([[1.0, np.nan]])}, r"shape \(1, 2\)"),
        ({"features": np.ones(3)}, r"shape \(3,\)"),
        ({"pids": np.ones(2)}, "48 descriptors and 2 pids"),
    ],
)
def test_mistakes_are_named(change, message):
    features, pids = clusters()
    with pytest.raises((ConfigError, DataError), match=message):
        embedding_map(**{"features": features, "pids": pids} | change)


def test_people_are_chosen_fairly():
    pids = [-1, 0, *np.repeat(np.arange(1, 8), 10).tolist(), 9]
    samples = [Sample(Path(f"{i}.jpg"), pid, i % 3) for i, pid in enumerate(pids)]
    picked = pick_people(samples, people=5, pictures=4, seed=1)
    shown = [samples[i].pid for i in picked]
    assert len(picked) == len(set(picked)) == 20
    assert set(shown) <= set(range(1, 8)), "junk, a distractor or somebody alone was picked"
    assert shown == sorted(shown)
    assert all(shown.count(pid) == 4 for pid in shown)
    assert picked == pick_people(samples, people=5, pictures=4, seed=1)
    assert picked != pick_people(samples, people=5, pictures=4, seed=2)
    assert len(pick_people(samples, people=100, pictures=100)) == 70


def test_a_gallery_that_has_nobody():
    with pytest.raises(DataError, match="none of 2 gallery pictures"):
        pick_people([Sample(Path("a.jpg"), -1, 1), Sample(Path("b.jpg"), 0, 1)])
    assert pick_people([Sample(Path("a.jpg"), 4, 1)]) == [0]
    with pytest.raises(ConfigError, match="got 0 people"):
        pick_people([], people=0)
