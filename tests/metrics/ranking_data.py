"""Synthetic descriptors with the composition of real re-ID test sets; the same name gives the same bytes.

``market`` counts like the test folder of Market-1501: 3,368 queries; 19,732 gallery images, of which 13,115 show 750
persons, 2,798 are distractors (pid 0) and 3,819 junk (pid -1); 6 cameras. ``msmt17`` counts like that of MSMT17:
11,659 queries, 82,161 gallery images of 3,060 persons, 15 cameras. ``small`` is a tenth of ``market``. ``edge`` and
``edge_tiny`` gather what evaluators disagree on: queries without a match, integer descriptors full of ties, junk, and
(``edge_tiny``) a gallery smaller than the maximum rank.

A descriptor is center(person) * quality(image) + bias(camera) + noise. Outside the edge sets every query has an image
of its person by another camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CENTER, CAMERA_BIAS = 0.5, 0.12


@dataclass(frozen=True)
class Composition:
    queries: int
    persons: int
    cameras: int
    right: int
    distractors: int
    junk: int
    one_camera: int = 0
    integer: bool = False


COMPOSITIONS = {
    "market": Composition(3368, 750, 6, 13115, 2798, 3819),
    "msmt17": Composition(11659, 3060, 15, 82161, 0, 0),
    "small": Composition(300, 75, 6, 1400, 300, 300),
    "edge": Composition(200, 50, 4, 600, 100, 60, one_camera=10, integer=True),
    "edge_tiny": Composition(20, 5, 3, 30, 5, 0, one_camera=2),
}


def make(name: str, dim: int = 2048) -> dict[str, np.ndarray]:
    """Keyword arguments of ``regard.evaluate_ranking``: float32 descriptors, int64 identities and cameras."""
    c = COMPOSITIONS[name]
    center = CENTER
    if c.integer:
        dim, center = 64, 1.1
    query_person, query_camids, gallery_person, gallery_pids, gallery_camids = _labels(c)
    rng = np.random.default_rng([0, 22])
    centers = rng.standard_normal((c.persons, dim), dtype=np.float32) * np.float32(center)
    bias = rng.standard_normal((c.cameras + 1, dim), dtype=np.float32) * np.float32(CAMERA_BIAS)

    def descriptors(person: np.ndarray, camids: np.ndarray) -> np.ndarray:
        x = rng.standard_normal((len(person), dim), dtype=np.float32)
        x += bias[camids]
        known = person >= 0
        x[known] += centers[person[known]] * rng.uniform(0.25, 1.25, (known.sum(), 1)).astype(np.float32)
        if not known.all():
            x[~known] += rng.standard_normal(((~known).sum(), dim), dtype=np.float32) * np.float32(center)
        return np.round(x) if c.integer else x / np.linalg.norm(x, axis=1, keepdims=True)

    return {
        "query": descriptors(query_person, query_camids),
        "gallery": descriptors(gallery_person, gallery_camids),
        "query_pids": query_person * 2 + 1,
        "gallery_pids": gallery_pids,
        "query_camids": query_camids,
        "gallery_camids": gallery_camids,
    }


def _labels(c: Composition) -> tuple[np.ndarray, ...]:
    """Persons (from 0, -1 for nobody) and cameras of both sides, and the gallery's pids (odd, 0 or -1)."""
    rng = np.random.default_rng([0, 11])
    seen_by = [rng.permutation(c.cameras)[: rng.integers(2, c.cameras + 1)] + 1 for _ in range(c.persons)]
    shown = [(person, camera) for person in range(c.persons) for camera in seen_by[person][:2]]
    share = rng.gamma(2.0, 1.0, c.persons)
    more = rng.choice(c.persons, c.right - len(shown), p=share / share.sum())
    shown += [(person, seen_by[person][rng.integers(len(seen_by[person]))]) for person in more]

    pairs = [(person, camera) for person in range(c.persons) for camera in seen_by[person]]
    asked = [pairs[i] for i in rng.permutation(len(pairs))[: c.queries]]
    while len(asked) < c.queries:
        asked.append(pairs[rng.integers(len(pairs))])
    query_person, query_camids = np.array(asked).T
    person, camids = np.array(shown).T

    nobody = c.distractors + c.junk
    pids = np.concatenate([person * 2 + 1, np.zeros(c.distractors, int), -np.ones(c.junk, int)])
    person = np.concatenate([person, np.full(nobody, -1)])
    camids = np.concatenate([camids, rng.integers(1, c.cameras + 1, nobody)])
    for i in query_person[: c.one_camera]:
        camids[person == i] = 1
        query_camids[query_person == i] = 1
    order = rng.permutation(len(pids))
    return query_person, query_camids, person[order], pids[order], camids[order]
