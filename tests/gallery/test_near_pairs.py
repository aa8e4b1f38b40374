"""Near pairs beside their slow twin, which compares every pair."""

from __future__ import annotations

import numpy as np
import pytest

from regard.gallery import pairs
from regard.gallery.pairs import group_near


def slow(vectors: np.ndarray, threshold: float) -> tuple[set[frozenset[int]], np.ndarray]:
    """Groups of two and more, and the best cosine of each."""
    cosines = vectors.astype(float) @ vectors.astype(float).T
    np.fill_diagonal(cosines, -np.inf)
    reached = cosines >= threshold
    near = reached | np.eye(len(vectors), dtype=bool)
    for _ in range(9):
        near = (near.astype(np.float32) @ near.astype(np.float32)) > 0
    groups = {frozenset(np.flatnonzero(row).tolist()) for row in near if row.sum() > 1}
    return groups, np.where(reached.any(1), cosines.max(1, initial=-np.inf), -np.inf)


@pytest.mark.parametrize("choices", [(2, 4, 8), (), (23,)])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.3])
def test_every_near_pair_is_found(monkeypatch, choices, spread):
    """Along few directions, along all; of pictures that are all alike, most of them, hardly any; with a blank row."""
    for name, value in {"ROWS": 17, "COLUMNS": 40, "CHUNK": 30, "CHOICES": choices}.items():
        monkeypatch.setattr(pairs, name, value)
    random, told = np.random.default_rng(7), []
    for people in (1, 9, 60):
        centers = random.normal(size=(people, 5)) @ random.normal(size=(5, 24))
        vectors = centers[random.integers(people, size=150)] + spread * random.normal(size=(150, 24))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        vectors[3] = 0
        rows = random.permutation(150)[:130]
        for threshold in (0.5, 0.98, 1 - 1e-6):
            wanted, best = slow(vectors[rows], threshold)
            found = group_near(vectors, rows, threshold, lambda *at: told.append(at))
            members = [frozenset(np.flatnonzero(found.leaders == n).tolist()) for n in np.unique(found.leaders)]
            assert {group for group in members if len(group) > 1} == wanted
            assert found.best == pytest.approx(best, abs=1e-6)
        assert told[-1] == (130, 130)


def test_one_picture_has_no_duplicate():
    assert group_near(np.eye(3, dtype=np.float32), np.arange(1), 0.5).leaders.tolist() == [0]
    assert group_near(np.eye(3, dtype=np.float32), np.arange(0), 0.5).best.tolist() == []
