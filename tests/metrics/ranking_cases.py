"""Random descriptors and labels for the tests of evaluations, and the distances our blocks hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from regard.metrics import FeatureSet, distance_blocks


def case(seed, queries=20, gallery=60, persons=6, cameras=3, integer=False, dim=8) -> dict[str, Any]:
    """Junk, distractors, persons of one image, queries without a match; full of ties if ``integer``."""
    rng = np.random.default_rng(seed)
    draw = (lambda n: whole_rows(rng, n, dim)) if integer else (lambda n: rng.normal(size=(n, dim)))
    return {
        "query": draw(queries),
        "gallery": draw(gallery),
        "query_pids": np.append(rng.integers(0, persons + 4, queries - 1), 1),
        "gallery_pids": np.append(rng.integers(-1, persons + 1, gallery - 1), 1),
        "query_camids": np.append(rng.integers(1, cameras + 1, queries - 1), 1),
        "gallery_camids": np.append(rng.integers(1, cameras + 1, gallery - 1), 2),
    }


def whole_rows(rng, rows, dim):
    """(rows, dim) numbers -1, 0 and 1, none of the rows without a direction."""
    drawn = rng.integers(-1, 2, (rows, dim)).astype(float)
    return np.where(drawn.any(1, keepdims=True), drawn, 1)


def labels(data):
    return [data[key] for key in ("query_pids", "gallery_pids", "query_camids", "gallery_camids")]


def distances(data, metric="sqeuclidean"):
    return np.concatenate([b.numpy() for _, b in distance_blocks(data["query"], data["gallery"], metric=metric)])


def sets(query, gallery, query_pids=None, gallery_pids=None, query_camids=None, gallery_camids=None):
    """Six arrays as a query and a gallery."""
    return FeatureSet(query, query_pids, query_camids), FeatureSet(gallery, gallery_pids, gallery_camids)
