"""Exact search at the price of a rough one: a first pass over 8-bit codes, a second over the few rows that may count.

Shapes: Q queries, N rows, R rows looked at, D descriptor length.

A row g is kept a second time as ``step * code`` with an integer code from -127 to 127 for each of its D numbers. With
the query q coded the same way, Cauchy and Schwarz bound what the coding can have changed::

    |g.q - step code . step' code'|  <=  |g - step code| |q|  +  |step code| |q - step' code'|

The integer product is exact, so the bound is a proof and not an estimate: a row whose upper bound lies below the k-th
best lower bound is none of the k best. What is left, some hundred rows of a million as a rule and in the worst case all
of them, is scored in float64 and rounded to float32. Memory bandwidth is the floor of such a search, and codes are a
quarter of the bytes; no more than a block of rows is ever held.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BrokenBoundsError", "Coded", "encode", "nearest", "reading"]

LEVELS = 127
BLOCK = 16_384
"""Rows of one product: 8 MB of codes at D = 512."""

TOGETHER = 16
"""Queries of one product."""

FEW = 1024
"""Rows that are not worth a first pass."""

AT_ONCE = 128
"""Rows that are scored before the bounds of the next are looked at."""

SPARSE = 0.4
"""Below this share of accepted rows, picking them out costs less than passing over the others."""

ROUNDING = 2.0**-20
"""Sixteen times the unit rounding of float32: more than the operations of :func:`limits` lose together."""

TINY = 1e-37
"""What underflow may lose."""

EXACT_FLOATS = 1024
"""Products of this many pairs of codes have sums below 2**24, which float32 holds exactly."""

ALONE = 1 << 18
"""Multiplications of one product of floats: so few that they stay in the processor's cache, and that OpenBLAS, which
NumPy brings, does them in this thread. Its threads spin while they wait for each other: beside busy programs a search
took thirty times its CPU time."""

SOME = 64
"""Rows that are coded at a time, so that they stay in the processor's cache."""

MANY = 50_000_000
"""Codes of a search from which on the processor's 8-bit arithmetic, which torch brings, is worth a thought."""

PAYS = 8_000_000_000
"""Codes that float32 takes longer for, by as much as torch takes to be imported."""


class BrokenBoundsError(Exception):
    """Scores lie outside of what was proven for them, so bounds are not those that were computed."""


class Coded(NamedTuple):
    """What a scan reads; memory-mapped, so none of it need be in memory.

    Attributes:
        vectors: (N, D) float32, finite, of a length below 1e18.
        codes: (N, D) int8.
        bounds: (N, 3) float32: step of the codes, length of the coded row, length of what the coding lost.
        keys: (N,) ids as 16 bytes; they order rows of equal score.
    """

    vectors: np.ndarray
    codes: np.ndarray
    bounds: np.ndarray
    keys: np.ndarray


def encode(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) int8 codes and (N, 3) float32 bounds of (N, D) rows; both lengths are rounded up."""
    codes, bounds = np.empty(vectors.shape, np.int8), np.empty((len(vectors), 3), np.float32)
    for start in range(0, len(vectors), SOME):
        part = slice(start, start + SOME)
        codes[part], bounds[part] = encode_some(vectors[part])
    return codes, bounds


def encode_some(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes and bounds of so few rows that they stay in the processor's cache."""
    most = np.maximum(vectors.max(1, initial=0), -vectors.min(1, initial=0)).astype(np.float32)
    step = np.where(most > 1e-30, most / np.float32(LEVELS), np.float32(0))[:, None]
    levels = np.rint(vectors / np.where(step > 0, step, np.float32(1)))
    levels = np.where(step > 0, levels, 0).clip(-LEVELS, LEVELS)
    coded = step.astype(np.float64) * levels
    lost = vectors - coded
    lengths = np.sqrt(np.stack([np.einsum("nd,nd->n", each, each) for each in (coded, lost)], 1))
    up = np.nextafter((lengths * (1 + 1e-9)).astype(np.float32), np.float32(np.inf))
    return levels.astype(np.int8), np.concatenate([step, up], 1)


def nearest(
    coded: Coded, queries: np.ndarray, k: int, accepted: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The k best rows for each query, exactly.

    Args:
        coded: the rows.
        queries: (Q, D) float32.
        k: how many.
        accepted: (N,) which rows count; None for all.

    Returns:
        For each query (R,) rows and (R,) float32 scores, best first, at equal scores by key; R is at most k.

    Raises:
        BrokenBoundsError: the bounds are damaged, and may have cost more than the rows they belong to.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if accepted is not None and accepted.all():
        accepted = None
    found = []
    for start in range(0, len(queries), TOGETHER):
        some = queries[start : start + TOGETHER]
        found += [settle(coded, query, k, race) for query, race in zip(some, first_pass(coded, some, k, accepted))]
    return found


def first_pass(
    coded: Coded, queries: np.ndarray, k: int, accepted: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray, np.float32]]:
    """For each query the (R,) rows that may be among the k best, (R,) upper bounds of their scores, and a lower bound.

    That many scores as there are, and at most k, reach the lower bound.
    """
    races = [Race(k) for _ in queries]
    total = len(coded.codes) if accepted is None else int(np.count_nonzero(accepted))
    if total <= max(FEW, k):
        rows = np.arange(total) if accepted is None else np.flatnonzero(accepted)
        return [(rows, np.full(total, np.inf, np.float32), np.float32(-np.inf))] * len(queries)
    reading(total * queries.shape[1])
    codes, bounds = encode(queries)
    lengths = np.nextafter(np.linalg.norm(queries.astype(np.float64), axis=1).astype(np.float32), np.float32(np.inf))
    for rows, within in pieces(len(coded.codes), accepted, total):
        products = multiply(codes, coded.codes[rows] if isinstance(rows, slice) else coded.codes.take(rows, 0))
        about = coded.bounds[rows]
        if within is not None:
            products, about = products[:, within], about[within]
        numbers = rows if not isinstance(rows, slice) else np.arange(rows.start, rows.stop)
        numbers = numbers if within is None else numbers[within]
        for race, product, bound, length in zip(races, products, bounds, lengths):
            race.enter(numbers, *limits(product, about, bound, length))
    return [race.finish() for race in races]


class Race:
    """Rows that may still be among the k best, and the score that k of them reach for sure."""

    def __init__(self, k: int):
        self.k = k
        self.floor = np.float32(-np.inf)
        self.lowest = np.empty(0, np.float32)
        self.kept: list[tuple[np.ndarray, np.ndarray]] = []

    def enter(self, rows: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Take (R,) rows with the bounds of their scores."""
        may = np.flatnonzero(upper >= self.floor)
        if not len(may):
            return
        self.kept.append((rows[may], upper[may]))
        lowest = np.concatenate([self.lowest, lower[may]])
        if len(lowest) >= self.k:
            lowest = np.partition(lowest, len(lowest) - self.k)[-self.k :]
            self.floor = lowest[0]
        self.lowest = lowest

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.float32]:
        """(R,) rows, (R,) upper bounds, and the score that k of them reach."""
        if len(self.lowest) < self.k:
            raise BrokenBoundsError
        rows, upper = (np.concatenate(each) for each in zip(*self.kept))
        may = upper >= self.floor
        return rows[may], upper[may], self.floor


def settle(
    coded: Coded, query: np.ndarray, k: int, race: tuple[np.ndarray, np.ndarray, np.float32]
) -> tuple[np.ndarray, np.ndarray]:
    """Score what is left, the most promising first, until no upper bound reaches the k-th best.

    Raises:
        BrokenBoundsError: that is below the floor.
    """
    rows, upper, floor = race
    order = np.argsort(-upper, kind="stable")
    rows, upper = rows[order], upper[order]
    best, scores = np.empty(0, np.int64), np.empty(0, np.float32)
    for start in range(0, len(rows), AT_ONCE):
        if len(best) == k and scores[-1] > upper[start]:
            break
        some = rows[start : start + AT_ONCE]
        best, scores = np.concatenate([best, some]), np.concatenate([scores, exact(coded.vectors[some], query)])
        first = np.lexsort((coded.keys[best], -scores))[:k]
        best, scores = best[first], scores[first]
    if floor > -np.inf and (len(best) < k or scores[-1] < floor):
        raise BrokenBoundsError
    return best, scores


def exact(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """(R,) inner products of (R, D) rows and a query, summed in float64 and rounded to float32.

    Every row is summed by itself in one order, so equal rows have equal scores wherever they lie.
    """
    return np.einsum("rd,d->r", vectors.astype(np.float64), query.astype(np.float64)).astype(np.float32)


def pieces(
    count: int, accepted: np.ndarray | None, total: int
) -> Iterator[tuple[slice | np.ndarray, np.ndarray | None]]:
    """Rows of one product each, and which of them count; None for all."""
    if accepted is not None and total < SPARSE * count:
        rows = np.flatnonzero(accepted)
        yield from ((rows[start : start + BLOCK], None) for start in range(0, total, BLOCK))
        return
    for start in range(0, count, BLOCK):
        rows = slice(start, min(start + BLOCK, count))
        yield rows, None if accepted is None else np.flatnonzero(accepted[rows])


def limits(
    products: np.ndarray, bounds: np.ndarray, bound: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R,) lower and upper bounds of the scores, from (R,) products of codes, (R, 3) and (3,) bounds, and |q|."""
    step, size, lost = bounds.T
    middle = products * (step * bound[0])
    slack = size * np.float32(bound[2] + ROUNDING * bound[1]) + lost * np.float32(length * (1 + ROUNDING))
    slack += np.float32(TINY)
    return middle - slack, middle + slack


_read = 0


def reading(codes: int) -> None:
    """Note that a search is about to read so many codes, and import torch once all of them would have paid for it.

    A process that searches once, or in a small gallery, never does: seconds and a quarter of a gigabyte are saved.
    """
    global _read
    if codes >= MANY and "torch" not in sys.modules:
        _read += codes
        if _read > PAYS:
            import torch  # noqa: F401


def multiply(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(Q, R) float32 products of (Q, D) and (R, D) codes, from exact integers."""
    fast = "torch" in sys.modules and rows.shape[1] > 1 and integers_are_right()
    return (by_integers if fast else by_floats)(queries, rows).astype(np.float32, copy=False)


def by_integers(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The products in the processor's 8-bit arithmetic.

    torch 2.14 answers with garbage where an axis of length 1 has an unusual stride, hence :func:`plain`, and no
    descriptors of length 1.
    """
    import torch

    product = torch._int_mm(plain(queries), plain(rows).T)  # pyright: ignore[reportPrivateImportUsage]
    return product.numpy()


def plain(codes: np.ndarray) -> Tensor:
    """(R, D) codes as a tensor with the strides (D, 1) in any case."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(codes)).as_strided(codes.shape, (codes.shape[1], 1))


def by_floats(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The products in float32, in pieces whose sums it holds exactly."""
    dim = queries.shape[1]
    total = np.zeros((len(queries), len(rows)), np.float32 if dim <= EXACT_FLOATS else np.float64)
    parts = [slice(start, start + EXACT_FLOATS) for start in range(0, dim, EXACT_FLOATS)]
    asked = [queries[:, part].astype(np.float32) for part in parts]
    few = max(ALONE // max(queries.size, 1), 1)
    for start in range(0, len(rows), few):
        some = slice(start, start + few)
        for part, factor in zip(parts, asked):
            total[:, some] += factor @ rows[some, part].astype(np.float32).T
    return total


@cache
def integers_are_right() -> bool:
    """Whether this processor's 8-bit products hold at the ends of the range, where some saturate."""
    signs = np.where(np.arange(64) % 3, 1, -1)
    rows = np.stack([np.full(64, LEVELS), np.full(64, -LEVELS), LEVELS * signs]).astype(np.int8)
    try:
        return all(
            bool((by_integers(rows[:count], rows) == by_floats(rows[:count], rows)).all()) for count in range(1, 4)
        )
    except RuntimeError:
        return False
