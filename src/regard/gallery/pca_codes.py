"""Short codes: descriptors along the few directions in which those of a gallery differ most.

Shapes: N rows, D descriptor length, S directions, Q queries.

Descriptors of people fill few of their D dimensions. With axes A (S, D) a row is nearly ``A' y``, y being S coded
numbers, and for a query q with the rest ``t = q - A' A q``::

    |g.q - y.A q|  <=  |g - A' y| |t|  +  |A (g - A' y)| |A q|

so a pass over S bytes a row proves that most rows are none of the k best, and the scan of
:mod:`regard.gallery.int8_scan` has to look at what is left. That stays exact. An approximate search leaves the proof
out and looks at the rows that score best along the axes; how many it takes for ``WANTED`` of the best matches is
measured on the gallery itself. A filter comes before either, so a narrow one costs no recall. Rows added after the
codes were made are always looked at.

Descriptors that fill all their dimensions alike gain nothing; :func:`make_short` measures that too, and searches then
pass over the whole descriptors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regard.gallery.int8_scan import BLOCK, LEVELS, ROUNDING, SPARSE, TINY, Coded, encode, exact, multiply, nearest

__all__ = ["Short", "load_short", "make_short", "narrow", "pays", "save_short"]

CHOICES = (32, 64, 128, 256)
SAMPLE = 10_000
"""Rows from which the axes are made."""

QUERIES, BEST, WANTED = 50, 50, 0.97
"""Rows to measure with, matches of each, and the share of these that an approximate search shall find."""

TOGETHER = 4
"""Queries of one pass."""

LEAST = 256
"""Rows that are scored in any case."""

PICKING = 2.5
"""What a byte costs that has to be picked out, beside one that is passed over."""

NARROW = 1 / 16
"""Below this share of accepted rows the short codes do not pay."""


class Short(NamedTuple):
    """The short codes of a gallery.

    Attributes:
        codes: (M, S) int8 of the first M rows.
        rest: (M,) float32, what is left of each row, |g - A' y|, rounded up.
        axes: (S, D) float64.
        step: of the codes.
        loss: the largest |A (g - A' y)|.
        reach: the largest |g| or |y|.
        look: rows that an approximate search looks at.
        prunes: whether they make exact searches faster.
    """

    codes: np.ndarray
    rest: np.ndarray
    axes: np.ndarray
    step: float
    loss: float
    reach: float
    look: int
    prunes: bool


def pays(short: Short, accepted: np.ndarray, k: int, *, exactly: bool) -> bool:
    """Whether a search for the k best of the (N,) accepted rows gains by the short codes."""
    total = int(np.count_nonzero(accepted))
    useful = short.prunes if exactly else max(short.look, k, LEAST) < SPARSE * total
    return useful and total > max(NARROW * len(short.codes), 4 * k)


def narrow(
    short: Short, coded: Coded, queries: np.ndarray, k: int, accepted: np.ndarray, *, exactly: bool
) -> Iterator[np.ndarray]:
    """For each query the (N,) rows of the (N,) accepted ones that have to be looked at for the k best."""
    covered, most = len(short.codes), max(short.look, k, LEAST)
    for start in range(0, len(queries), TOGETHER):
        some = queries[start : start + TOGETHER]
        sides = [aside(short, query) for query in some]
        tops = rough(short, [side[0] for side in sides], np.array([side[1] for side in sides]), accepted)
        for query, scores, (_, _, rest, slack) in zip(some, tops, sides):
            first = best_rows(scores, max(4 * k, LEAST) if exactly else most)
            chosen = accepted.copy()
            if exactly:
                known = np.sort(exact(coded.vectors[first], query))
                floor = known[-k] if len(known) >= k else -np.inf
                chosen[:covered] &= scores + (short.rest * rest + slack) >= floor
            else:
                chosen[:covered] = False
                chosen[first] = True
            yield chosen


def aside(short: Short, query: np.ndarray) -> tuple[np.ndarray, np.float32, np.float32, np.float32]:
    """(S,) codes of a query, what a product of codes is worth, |t| rounded up, and the slack all rows have."""
    query = query.astype(np.float64)
    along = short.axes @ query
    codes, ((step, _, lost),) = encode(along[None])
    length = np.linalg.norm(query) + np.linalg.norm(along) + lost
    slack = short.reach * lost + short.loss * np.linalg.norm(along) + 2 * ROUNDING * short.reach * length + TINY
    rest = np.linalg.norm(query - short.axes.T @ along) * (1 + ROUNDING) + 1e-9 * length
    return codes[0], np.float32(step * short.step), np.float32(rest), np.float32(slack * (1 + ROUNDING))


def rough(short: Short, codes: list[np.ndarray], worth: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """(Q, M) float32 scores along the axes; minus infinity where a row is not accepted."""
    scores, together = np.empty((len(codes), len(short.codes)), np.float32), np.stack(codes)
    for start in range(0, len(short.codes), BLOCK):
        part = slice(start, start + BLOCK)
        some = scores[:, part]
        np.multiply(multiply(together, short.codes[part]), worth[:, None], out=some)
        np.copyto(some, -np.inf, where=~accepted[start : start + some.shape[1]])
    return scores


def best_rows(scores: np.ndarray, count: int) -> np.ndarray:
    """About the ``count`` best of (M,) scores, and no fewer where there are as many above minus infinity."""
    rows, floor = np.empty(0, np.int64), np.float32(-np.inf)
    for start in range(0, len(scores), BLOCK):
        rows = np.concatenate([rows, start + np.flatnonzero(scores[start : start + BLOCK] > floor)])
        if len(rows) > count:
            rows = rows[np.argpartition(scores[rows], -count)[-count:]]
            floor = scores[rows].min()
    return rows


def make_short(coded: Coded, accepted: np.ndarray) -> Short:
    """Short codes of (N, D) rows, from those that are accepted; at least one is."""
    random, rows = np.random.default_rng(0), np.flatnonzero(accepted)
    sample = coded.vectors[np.sort(random.permutation(rows)[:SAMPLE])].astype(np.float64)
    axes, prunes = choose_axes(sample, random)
    step = float(np.abs(sample @ axes.T).max() / LEVELS) or 1.0
    codes = np.empty((len(coded.vectors), len(axes)), np.int8)
    rest, loss, reach = np.empty(len(codes), np.float32), 0.0, 0.0
    for start in range(0, len(codes), BLOCK // 8):
        part = slice(start, start + BLOCK // 8)
        vectors = coded.vectors[part].astype(np.float64)
        along = vectors @ axes.T
        codes[part] = np.rint(along / step).clip(-LEVELS, LEVELS)
        near = step * codes[part]
        left = vectors - near @ axes
        lengths = [np.linalg.norm(each, axis=1) for each in (left, left @ axes.T, vectors, near)]
        rest[part] = np.nextafter((lengths[0] * (1 + 1e-9)).astype(np.float32), np.float32(np.inf))
        loss = max(loss, float(lengths[1].max()))
        reach = max(reach, float(lengths[2].max()), float(lengths[3].max()))
    short = Short(codes, rest, axes, step, loss * (1 + 1e-9), reach * (1 + 1e-9), 0, prunes)
    return short._replace(look=rows_to_see(short, coded, accepted, np.sort(random.permutation(rows)[:QUERIES])))


def choose_axes(sample: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, bool]:
    """(S, D) axes with the cheapest searches, told from (R, D) rows of the gallery, and whether they save anything."""
    axes = np.linalg.eigh(sample.T @ sample)[1].T[::-1]
    asked = sample[random.permutation(len(sample))[:QUERIES]]
    scores = asked @ sample.T
    floor = np.sort(scores, 1)[:, -min(BEST, len(sample)), None]
    costs = {}
    for count in [count for count in CHOICES if count < len(axes)] or [len(axes)]:
        one, two = asked @ axes[:count].T, sample @ axes[:count].T
        rests = [np.sqrt((np.square(a).sum(1) - np.square(b).sum(1)).clip(0)) for a, b in ((asked, one), (sample, two))]
        left = np.mean(one @ two.T + np.outer(*rests) >= floor)
        costs[count] = count / len(axes) + PICKING * left
    cheapest = min(costs, key=costs.__getitem__)
    return np.ascontiguousarray(axes[:cheapest]), bool(costs[cheapest] < 0.7)


def rows_to_see(short: Short, coded: Coded, accepted: np.ndarray, asked: np.ndarray) -> int:
    """How many rows hold ``WANTED`` of the best matches of some rows, themselves left out."""
    vectors, needs = coded.vectors[asked], []
    for row, vector, (best, _) in zip(asked, vectors, nearest(coded, vectors, BEST + 1, accepted)):
        codes, worth, _, _ = aside(short, vector)
        scores = np.sort(rough(short, [codes], np.array([worth]), accepted)[0])
        own = np.float32(worth) * multiply(codes[None], short.codes[best[best != row]])[0]
        needs.append(len(scores) - np.searchsorted(scores, own))
    needed = np.concatenate(needs)
    return int(np.quantile(needed, WANTED, method="higher")) if len(needed) else 1


def save_short(short: Short, folder: Path, number: int) -> list[Path]:
    """Write short codes to files of a folder, under a number; the files."""
    paths = [folder / f"short{number}_{part}" for part in ("codes", "rest", "axes.npz")]
    short.codes.tofile(paths[0])
    short.rest.astype("<f4").tofile(paths[1])
    plain = {name: value for name, value in short._asdict().items() if name not in ("codes", "rest")}
    with paths[2].open("wb") as file:
        np.savez(file, **plain)
    return paths


def load_short(folder: Path, number: int) -> Short:
    """What :func:`save_short` wrote, the codes and what is left of the rows memory-mapped."""
    with np.load(folder / f"short{number}_axes.npz") as file:
        plain = {name: file[name].item() for name in ("step", "loss", "reach", "look", "prunes")}
        axes = file["axes"]
    codes = np.asarray(np.memmap(folder / f"short{number}_codes", "i1", mode="c")).reshape(-1, len(axes))
    rest = np.asarray(np.memmap(folder / f"short{number}_rest", "<f4", mode="c"))
    return Short(codes, rest, axes, **plain)
