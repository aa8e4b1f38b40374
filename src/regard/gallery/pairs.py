"""Which of many descriptors are near one another: every pair is looked at, most of them along a few directions only.

Shapes: N descriptors, D their length, S directions, P pairs.

Descriptors of people differ in few directions. With y the S coordinates of a descriptor g along the directions in which
they differ most, and r = sqrt(|g|^2 - |y|^2) the length of what is left, Cauchy and Schwarz bound every cosine::

    g.h  <=  y.y' + r r'

which is one product of S + 1 numbers a pair. Pairs whose bound reaches the threshold are compared as they are; where
these are many, as in a gallery of one still scene, a block of them at once. Products are in float32 with a margin for
what it loses; what lies within the margin is decided in float64, so the answer is that of comparing every pair.
Memory holds S + 1 numbers a descriptor and one block of products, whatever the number of pairs that are near.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Groups", "group_near"]

ROWS, COLUMNS = 512, 2048
"""Descriptors on the two sides of a block: 4 MB of products."""

CHOICES = (16, 32, 64, 128, 256)
SAMPLE = 2000
"""Descriptors from which the directions are made."""

PICKING = 60
"""What a pair costs that is picked out and compared alone, beside one of a block."""

CHUNK = 2048
"""Pairs that are compared alone at a time."""

Progress = Callable[[int, int], None] | None


class Groups(NamedTuple):
    """Descriptors that belong together.

    Attributes:
        leaders: (N,) the row that stands for each one's group; its own where it is near to none.
        best: (N,) cosine to the nearest other one; minus infinity where none is near.
    """

    leaders: np.ndarray
    best: np.ndarray


def group_near(vectors: np.ndarray, rows: np.ndarray, threshold: float, progress: Progress = None) -> Groups:
    """Group those of (M, D) descriptors of length 1 that are near, directly or by others between them.

    Args:
        vectors: float32, mapped or not.
        rows: (N,) which of them.
        threshold: inner product from which on two are near, above 0.
        progress: called with (descriptors done, N).
    """
    links = Links(len(rows), threshold)
    if len(rows) < 2:
        return Groups(links.parent, links.best)
    axes = choose_axes(vectors, rows, threshold)
    short = along(vectors, rows, axes) if axes is not None else None
    for start in range(0, len(rows), ROWS):
        one = slice(start, min(start + ROWS, len(rows)))
        for first in range(start, len(rows), COLUMNS):
            other = slice(first, min(first + COLUMNS, len(rows)))
            compare(links, vectors, rows, short, (one, other))
        if progress:
            progress(round(len(rows) * (1 - (1 - one.stop / len(rows)) ** 2)), len(rows))
    linked = np.flatnonzero(links.partner >= 0)
    links.best[linked] = exact(vectors, rows[linked], rows[links.partner[linked]])
    return Groups(links.leaders(np.arange(len(rows))), links.best)


class Links:
    """Which descriptors belong together by now, and the nearest one of each."""

    def __init__(self, count: int, threshold: float):
        self.threshold = threshold
        self.parent = np.arange(count)
        self.best = np.full(count, -np.inf)
        self.partner = np.full(count, -1)

    def leaders(self, rows: np.ndarray) -> np.ndarray:
        """Who stands for the group of each of (P,) rows."""
        found = self.parent[rows]
        while not np.array_equal(next_ := self.parent[found], found):
            found = next_
        self.parent[rows] = found
        return found

    def tell(self, one: np.ndarray, other: np.ndarray, most: np.ndarray) -> np.ndarray:
        """(P,) whether pairs whose cosines are at most so much may change anything."""
        apart = self.leaders(one) != self.leaders(other)
        return apart | (most > self.best[one]) | (most > self.best[other])

    def add(self, one: np.ndarray, other: np.ndarray, scores: np.ndarray) -> None:
        """Take pairs that are near."""
        order = np.argsort(scores, kind="stable")  # of several for a row, the last stays
        one, other, scores = one[order], other[order], scores[order]
        for side, its in ((one, other), (other, one)):
            better = scores > self.best[side]
            self.best[side[better]], self.partner[side[better]] = scores[better], its[better]
        firsts, seconds = self.leaders(one), self.leaders(other)
        apart = firsts != seconds
        for first, second in {*zip(firsts[apart].tolist(), seconds[apart].tolist())}:
            self._join(first, second)

    def _join(self, first: int, second: int) -> None:
        while (up := int(self.parent[first])) != first:
            first = up
        while (up := int(self.parent[second])) != second:
            second = up
        self.parent[max(first, second)] = min(first, second)


def compare(
    links: Links, vectors: np.ndarray, rows: np.ndarray, short: np.ndarray | None, block: tuple[slice, slice]
) -> None:
    """Find the near pairs of a block: of one slice by another."""
    one, other = block
    left, right = (vectors[rows[part]] if short is None else short[part] for part in block)
    about, margin = left @ right.T, margin_of(left.shape[1])
    over = reached(about, links.threshold - margin, block)
    many = np.count_nonzero(over)
    if short is not None and many * PICKING > about.size:
        about, margin, short = vectors[rows[one]] @ vectors[rows[other]].T, margin_of(vectors.shape[1]), None
        if np.count_nonzero(np.abs(about - links.threshold) <= margin) * PICKING > about.size:
            left, right = (vectors[rows[part]].astype(np.float64) for part in block)
            about, margin = left @ right.T, 2.0**-29 * margin
        over = reached(about, links.threshold - margin, block)
    if short is None and many:
        over &= join_nearest(links, about, over, block, margin)
    places = np.flatnonzero(over)
    first, second = places // about.shape[1] + one.start, places % about.shape[1] + other.start
    scores = about.ravel()[places].astype(np.float64)
    useful = links.tell(first, second, scores + margin)
    first, second, scores = first[useful], second[useful], scores[useful]
    unsure = np.abs(scores - links.threshold) <= margin if short is None else np.ones(len(first), bool)
    scores[unsure] = exact(vectors, rows[first[unsure]], rows[second[unsure]])
    near = scores >= links.threshold
    if near.any():
        links.add(first[near], second[near], scores[near])


def reached(about: np.ndarray, least: float, block: tuple[slice, slice]) -> np.ndarray:
    """(R, C) which products of a block reach a value, every pair once."""
    over = about >= about.dtype.type(least)
    return np.triu(over, 1) if block[0].start == block[1].start else over


def join_nearest(
    links: Links, about: np.ndarray, over: np.ndarray, block: tuple[slice, slice], margin: float
) -> np.ndarray:
    """Join rows, columns of a block to their nearest ones where these are surely near; (R, C) what else may count."""
    shown = np.where(over, about, -np.inf)
    for axis in (0, 1):
        places = [shown.argmax(axis), np.arange(shown.shape[1 - axis])]
        first, second = places if axis == 0 else places[::-1]
        scores = shown[first, second].astype(np.float64)
        sure = scores >= links.threshold + margin
        links.add(first[sure] + block[0].start, second[sure] + block[1].start, scores[sure])
    groups = [links.leaders(np.arange(part.start, part.stop)) for part in block]
    alone = [np.isinf(links.best[part]) for part in block]
    return (groups[0][:, None] != groups[1]) | alone[0][:, None] | alone[1]


def margin_of(dim: int) -> float:
    """What a float32 product of rows of length 1 may be off, coordinates rounded and summed in any order."""
    return (dim + 8) * 2.0**-23


def exact(vectors: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) inner products in float64 of pairs of rows."""
    scores = np.empty(len(one))
    for start in range(0, len(one), CHUNK):
        part = slice(start, start + CHUNK)
        left, right = (vectors[rows[part]].astype(np.float64) for rows in (one, other))
        scores[part] = np.einsum("nd,nd->n", left, right)
    return scores


def choose_axes(vectors: np.ndarray, rows: np.ndarray, threshold: float) -> np.ndarray | None:
    """(S, D) directions with the cheapest comparison, told from a sample; None where all D cost no more."""
    random = np.random.default_rng(0)
    sample = vectors[rows[np.sort(random.permutation(len(rows))[:SAMPLE])]].astype(np.float64)
    axes = np.linalg.eigh(sample.T @ sample)[1].T[::-1]
    dim = len(axes)
    costs: dict[int, float] = {dim: dim}
    for count in (count for count in CHOICES if count < dim):
        short = coordinates(sample, axes[:count])
        over = np.count_nonzero(short @ short.T >= threshold - margin_of(count)) - len(sample)
        share = over / max(len(sample) ** 2 - len(sample), 1)
        costs[count] = count + 1 + min(PICKING * share, 1) * dim
    cheapest = min(costs, key=costs.__getitem__)
    return None if cheapest == dim else np.ascontiguousarray(axes[:cheapest])


def coordinates(vectors: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(N, S + 1) coordinates of (N, D) float64 rows along axes, and the length of what is left of each."""
    short = vectors @ axes.T
    rest = np.einsum("nd,nd->n", vectors, vectors) - np.einsum("ns,ns->n", short, short)
    return np.concatenate([short, np.sqrt(rest.clip(0) + 1e-12)[:, None]], 1)


def along(vectors: np.ndarray, rows: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(N, S + 1) float32 of :func:`coordinates` of every row."""
    short = np.empty((len(rows), len(axes) + 1), np.float32)
    for start in range(0, len(rows), ROWS):
        part = slice(start, start + ROWS)
        short[part] = coordinates(vectors[rows[part]].astype(np.float64), axes)
    return short
