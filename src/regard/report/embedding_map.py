"""An embedding map: descriptors of many pictures on a plane, alike ones close together; and as the page draws it.

Shapes: N pictures, D descriptor length.

Three methods: t-SNE (L. van der Maaten and G. Hinton, JMLR 2008) of scikit-learn; UMAP (L. McInnes et al.,
arXiv:1802.03426) of umap-learn, which is to be installed for it; principal components, also taken where there are too
few pictures for neighborhoods. Neighborhoods are what such a map keeps: sizes of groups and distances between them say
nothing. How well it kept them stands beside it: the share of pictures whose nearest other picture shows the same
person, on the map and among the descriptors themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from scipy.linalg import orthogonal_procrustes

from regard.errors import ConfigError, DataError, require
from regard.explain.figures.overlay import data_uri, open_picture
from regard.explain.figures.svg import SERIES
from regard.explain.rounding import rounding
from regard.structures import Sample

__all__ = [
    "METHODS", "EmbeddingMap", "MapMethod", "aligned", "check_method", "embedding_map", "map_content", "pick_people",
    "thumbnails",
]  # fmt: skip

MapMethod = Literal["umap", "tsne", "pca"]
NAMES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "principal components"}
METHODS = tuple(NAMES)

FEWEST = 10
"""Pictures that neighborhoods can be spoken of; fewer are drawn by their principal components."""

WIDTH, MARGIN = 1000, 40
"""Of the drawing, in its own units."""

SHAPES = 4
"""Forms of points; with the colors they tell neighbors on the map apart, not people from each other."""

THUMB_WIDTH, THUMB_HEIGHT, THUMB_COLUMNS = 48, 96, 20


class EmbeddingMap(NamedTuple):
    """Places of pictures on a plane.

    Attributes:
        places: (N, 2) float64 in [-1, 1], the same scale on both axes.
        method: what made them, as it is called: ``"UMAP"``, ``"t-SNE"`` or ``"principal components"``.
        on_map: share of the pictures whose nearest other one on the map shows the same person.
        in_full: the same among the descriptors; NaN, as ``on_map``, where nobody has two pictures, or where all
            descriptors are the same but for rounding.
    """

    places: np.ndarray
    method: str
    on_map: float
    in_full: float


def pick_people(samples: Sequence[Sample], people: int = 40, pictures: int = 12, seed: int = 0) -> list[int]:
    """Pictures of random people, ready for a map that can still be read.

    Args:
        samples: the gallery; junk and distractors are never picked.
        people: at most; those with at least two pictures are preferred.
        pictures: of each at most, evenly spread over what there is.
        seed: of the choice of people.

    Returns:
        Indices into ``samples``, person after person, both in ascending order.

    Raises:
        ConfigError: a number below one.
        DataError: nobody is known in the gallery.
    """
    if people < 1 or pictures < 1:
        raise ConfigError(f"got {people} people and {pictures} pictures of each for the map, wanted one or more")
    by_person: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        if sample.pid > 0:
            by_person.setdefault(sample.pid, []).append(index)
    if not by_person:
        raise DataError(f"none of {len(samples)} gallery pictures shows a known person; a map needs people")
    known = sorted(pid for pid, found in by_person.items() if len(found) > 1) or sorted(by_person)
    chosen = np.random.default_rng(seed).permutation(known)[:people]
    picked = []
    for pid in sorted(chosen.tolist()):
        found = by_person[pid]
        spread = np.linspace(0, len(found) - 1, min(pictures, len(found))).round().astype(int)
        picked += [found[place] for place in spread]
    return picked


def embedding_map(
    features: np.ndarray,
    pids: np.ndarray,
    *,
    metric: str = "cosine",
    method: MapMethod = "tsne",
    seed: int = 0,
) -> EmbeddingMap:
    """Lay descriptors out on a plane.

    Args:
        features: (N, D) descriptors.
        pids: (N,) who is on each picture; only for the shares, the places do not depend on them.
        metric: "cosine" (descriptors are brought to length 1 first) or "euclidean".
        method: ``"umap"``, ``"tsne"`` or ``"pca"``. Fewer than ten pictures, or ones that are all the same, are always
            drawn by principal components.
        seed: of the layout; the same descriptors and seed give the same map on the same machine.

    Raises:
        ConfigError: an unknown method or metric, or UMAP, which is not installed.
        DataError: not (N, D) finite numbers, or not one pid each.
    """
    coarse = rounding(np.asarray(features).dtype)
    features, pids = np.asarray(features, np.float64), np.asarray(pids)
    if features.ndim != 2 or not features.size or not np.isfinite(features).all():
        raise DataError(f"got descriptors of shape {features.shape}, wanted (N, D) finite numbers")
    if len(pids) != len(features):
        raise DataError(f"got {len(features)} descriptors and {len(pids)} pids; give every descriptor one pid")
    if metric not in ("cosine", "euclidean"):
        raise ConfigError(f"got the metric {metric!r} for a map, wanted cosine or euclidean")
    if method not in METHODS:
        raise ConfigError(f"got the map method {method!r}, wanted one of {', '.join(METHODS)}")
    if metric == "cosine":
        features = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    flat = np.ptp(features, axis=0).max() <= coarse * np.abs(features).max()
    if len(features) < FEWEST or flat:
        method = "pca"
    if flat:  # apart by rounding alone: all in one place
        return EmbeddingMap(np.zeros((len(features), 2)), NAMES[method], np.nan, np.nan)
    layout = {"umap": _umap, "tsne": _tsne, "pca": _pca}[method]
    places = _framed(layout(features, seed))
    return EmbeddingMap(places, NAMES[method], _share_of_neighbors(places, pids), _share_of_neighbors(features, pids))


def check_method(method: MapMethod) -> ModuleType | None:
    """Look for what a method needs, before there is anything to lay out.

    Raises:
        ConfigError: it is not installed.
    """
    if method == "umap":
        return require("umap", "a map by UMAP", "umap", "take the method tsne or pca")
    return require("sklearn.manifold", "a map by t-SNE", "report", "take the method pca") if method == "tsne" else None


def aligned(places: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """A map turned or mirrored so that it lies as well as it can over another one of the same pictures.

    Args:
        places, reference: (N, 2); the reference stays as it is.
    """
    turn, _ = orthogonal_procrustes(places, reference)
    return _framed(places @ turn)


def _umap(features: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler it brings, and that a seed means one thread
        umap: Any = check_method("umap")
        maker = umap.UMAP(n_neighbors=min(15, len(features) - 1), min_dist=0.2, random_state=seed, init="pca")
        return np.asarray(maker.fit_transform(features))


def _tsne(features: np.ndarray, seed: int) -> np.ndarray:
    manifold: Any = check_method("tsne")
    perplexity = min(30, (len(features) - 1) / 3)
    start: Any = _pca(features, seed) * 1e-4
    maker = manifold.TSNE(perplexity=perplexity, init=start, random_state=seed)
    return np.asarray(maker.fit_transform(features))


def _pca(features: np.ndarray, _seed: int) -> np.ndarray:
    """The two main directions, (N, 2), of unit spread in the first; the sign is that of the largest entry."""
    centered = features - features.mean(0)
    vectors, lengths, _ = np.linalg.svd(centered, full_matrices=False)
    found = np.zeros((len(features), 2))
    count = min(2, len(lengths))
    found[:, :count] = vectors[:, :count] * lengths[:count]
    largest = np.abs(found).argmax(0)
    found *= np.where(found[largest, [0, 1]] < 0, -1, 1)
    return found / (found[:, 0].std() or 1)


def _framed(places: np.ndarray) -> np.ndarray:
    """Moved and scaled into [-1, 1], the same on both axes."""
    places = np.asarray(places, np.float64)
    places = places - (places.min(0) + places.max(0)) / 2
    return places / (np.abs(places).max() or 1)


def _share_of_neighbors(points: np.ndarray, pids: np.ndarray) -> float:
    """Share of the points, of people with two or more, whose nearest other point has their pid."""
    if len(points) < 2:
        return float("nan")
    squared = (points**2).sum(1)
    distances = squared[:, None] + squared[None] - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    _, index, counts = np.unique(pids, return_inverse=True, return_counts=True)
    several = counts[index] > 1
    return float((pids[distances.argmin(1)] == pids)[several].mean()) if several.any() else float("nan")


def map_content(label: str, found: EmbeddingMap, samples: Sequence[Sample]) -> dict[str, Any]:
    """A map as the template takes it.

    Args:
        label: whose it is.
        found: places of the pictures.
        samples: the pictures, N of them.
    """
    places = found.places * (WIDTH / 2 - MARGIN)
    tall = float(np.abs(places[:, 1]).max()) + MARGIN
    x, y = places[:, 0] + WIDTH / 2, tall - places[:, 1]
    pids = np.array([sample.pid for sample in samples])
    people = []
    for order, pid in enumerate(dict.fromkeys(pids.tolist())):
        members = np.flatnonzero(pids == pid).tolist()
        person = {"pid": pid, "series": order % len(SERIES) + 1, "shape": order // len(SERIES) % SHAPES}
        person["middle"] = tuple(round(float(np.median(along[members])), 1) for along in (x, y))
        person["dots"] = [(i, round(float(x[i]), 1), round(float(y[i]), 1), samples[i].camid) for i in members]
        people.append(person)
    told = {"label": label, "method": found.method, "on_map": found.on_map, "in_full": found.in_full}
    return told | {"size": (WIDTH, round(2 * tall)), "pictures": len(samples), "people": people}


def thumbnails(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """All pictures small, on one sheet; None where there is none."""
    if not samples:
        return None
    columns = min(THUMB_COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * THUMB_WIDTH, rows * THUMB_HEIGHT))
    for place, sample in enumerate(samples):
        row, column = divmod(place, columns)
        thumb = open_picture(sample.path).resize((THUMB_WIDTH, THUMB_HEIGHT), Image.Resampling.LANCZOS)
        sheet.paste(thumb, (column * THUMB_WIDTH, row * THUMB_HEIGHT))
    return {"uri": data_uri(sheet, quality=72), "columns": columns, "rows": rows}
