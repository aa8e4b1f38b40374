"""Is a difference real? Intervals and paired tests whose unit is the person, not the query.

Shapes: Q queries, C identities among them, M figures, B resamples.

Queries of one person succeed and fail together, so a resample draws whole identities: C of them with replacement, each
with all its queries. A figure is a mean over queries; resampled, it is a ratio of two weighted sums over identities,
and B of them are two matrix products. Two runs on the same queries are compared query by query: the interval of the
difference resamples identities as above, the test flips the sign of an identity's differences, all of them at once,
which under the null hypothesis (who wins on whom is a coin toss) changes nothing.

Sources: Field and Welsh, Bootstrapping clustered data, JRSS B 2007; Efron, Better bootstrap confidence intervals, JASA
1987 (BCa); Phipson and Smyth, Permutation p-values should never be zero, 2010 (the +1); Holm, Scand. J. Statist. 1979.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from regard.errors import ConfigError, DataError, nearest
from regard.metrics.average_precision import RANKS
from regard.metrics.feature_set import Ids, as_ids
from regard.metrics.ranking_report import RankingReport

__all__ = [
    "INTERVALS", "Difference", "Interval", "holm", "intervals", "over_seeds", "paired_differences", "query_scores",
]  # fmt: skip

INTERVALS = ("percentile", "bca")
"""How an interval is read off the resamples: their quantiles, or quantiles corrected for bias and skew."""

_NUMBERS_AT_ONCE = 2**20


class Interval(NamedTuple):
    """A figure and where it lies; fractions.

    Attributes:
        value: on the queries as they are.
        low, high: ends of the confidence interval.
    """

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """Second run minus first on the same queries; fractions.

    Attributes:
        value: on the queries as they are.
        low, high: ends of the confidence interval.
        p: two-sided, by flipping signs of identities.
        p_bootstrap: two-sided, by the share of resamples on the other side of zero.
    """

    value: float
    low: float
    high: float
    p: float
    p_bootstrap: float


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of what several trainings reached, with the 95 percent interval of Student's t over them.

    Args:
        values: one for each seed, two or more.
    """
    mean = statistics.fmean(values)
    reach = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - reach, mean + reach)


def query_scores(report: RankingReport, ranks: Sequence[int] = RANKS) -> dict[str, np.ndarray]:
    """Name of a figure -> (Q,) what each query adds to its mean; NaN where a query does not count.

    The mean over what is not NaN is the report's own figure. Ranks are given for the usual CMC only, where a query's
    first hit says all.
    """
    matched = report.first_hit > 0
    scores = {"mAP": report.ap, "mINP": report.inp}
    if not report.options.get("CMC", "market1501").startswith("market1501"):
        ranks = ()
    scores |= {f"rank-{k}": np.where(matched, report.first_hit <= k, np.nan) for k in ranks}
    if report.options["unmatched"] == "zero":
        return {name: np.where(matched, values, 0.0) for name, values in scores.items()}
    return scores


def intervals(
    scores: Mapping[str, np.ndarray],
    pids: Ids,
    *,
    level: float = 0.95,
    method: str = "percentile",
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Confidence interval of every figure, by resampling identities.

    Args:
        scores: name -> (Q,) per query, NaN where it does not count (see :func:`query_scores`).
        pids: (Q,) identity of each query.
        level: share of repetitions in which such an interval holds the true figure.
        method: one of ``INTERVALS``.
        resamples: B.
        seed: of the resampling; the same resamples serve all figures.

    Raises:
        ConfigError: an option is wrong.
        DataError: fewer than two identities count, or shapes do not fit.
    """
    _check_options(level, method, resamples)
    found, _, _ = _resampled(scores, pids, level=level, method=method, resamples=resamples, seed=seed)
    return {name: Interval(*map(float, row)) for name, row in zip(scores, found)}


def paired_differences(
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    pids: Ids,
    *,
    level: float = 0.95,
    method: str = "percentile",
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Difference]:
    """What the second run gains on the first, figure by figure, and whether that can be chance.

    Args:
        first, second: name -> (Q,) of the same queries in the same order; names of both are compared.
        pids, level, method, resamples, seed: as for :func:`intervals`; resamples are also the number of sign flips.

    Raises:
        ConfigError: an option is wrong.
        DataError: not the same queries count in both, fewer than two identities do, or shapes do not fit.
    """
    _check_options(level, method, resamples)
    names = [name for name in first if name in second]
    for name in names:
        if not np.array_equal(np.isnan(first[name]), np.isnan(second[name])):
            raise DataError(
                f"the runs count different queries for {name}, so they cannot be paired; score both on one data set, "
                f"with the same option for unmatched queries"
            )
    gained = {name: second[name] - first[name] for name in names}
    found, drawn, sums = _resampled(gained, pids, level=level, method=method, resamples=resamples, seed=seed)
    p = _sign_flip(sums, resamples, seed)
    beyond = np.minimum((drawn <= 0).sum(0), (drawn >= 0).sum(0))
    p_bootstrap = np.minimum(1, 2 * (1 + beyond) / (1 + resamples))
    rows = np.column_stack([found, p, p_bootstrap])
    return {name: Difference(*map(float, row)) for name, row in zip(names, rows)}


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number: reject those below 5 % and err once or more in at most 5 % of all families.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    scaled = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(scaled, 1)
    return adjusted.tolist()


def _check_options(level: float, method: str, resamples: int) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}: give a share between 0 and 1, for example 0.95")
    if method not in INTERVALS:
        raise ConfigError(
            f"unknown interval {method!r}{nearest(str(method), INTERVALS)}; known: {', '.join(INTERVALS)}"
        )
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}: give a positive number, for example 10000")


def _by_identity(scores: Mapping[str, np.ndarray], pids: Ids) -> tuple[np.ndarray, np.ndarray]:
    """(C, M) sums of the scores of each identity, and how many queries count in each."""
    values = np.column_stack([np.asarray(column, np.float64) for column in scores.values()])
    known = ~np.isnan(values)
    ids = as_ids(pids, len(values), "pids")
    ids, known, values = (array[known.any(1)] for array in (ids, known, values))
    identities, rows = np.unique(ids, return_inverse=True)
    if len(identities) < 2:
        raise DataError(
            f"{len(ids)} queries of {len(identities)} identities count: an interval needs two identities at least; "
            f"score more people"
        )
    count = len(identities)
    sums = [np.bincount(rows, column, count) for column in np.where(known, values, 0).T]
    counts = [np.bincount(rows, column, count) for column in known.T]
    return np.column_stack(sums), np.column_stack(counts)


def _parts(resamples: int, width: int) -> Iterator[slice]:
    """Resamples some at a time, so that their (b, C) weights stay small."""
    step = max(1, _NUMBERS_AT_ONCE // width)
    for start in range(0, resamples, step):
        yield slice(start, min(start + step, resamples))


def _bootstrap(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(B, M) figures of resampled identities; a resample in which nothing counts repeats the figure itself."""
    generator = np.random.default_rng(seed)
    width = len(sums)
    both = np.hstack([sums, counts])
    drawn = np.empty((resamples, sums.shape[1]))
    for part in _parts(resamples, width):
        rows = part.stop - part.start
        chosen = generator.integers(width, size=(rows, width)) + width * np.arange(rows)[:, None]
        weights = np.bincount(chosen.ravel(), minlength=rows * width).reshape(rows, width)
        total, number = np.hsplit(weights.astype(np.float64) @ both, 2)
        drawn[part] = np.where(number > 0, total / np.maximum(number, 1), sums.sum(0) / counts.sum(0))
    return drawn


def _resampled(
    scores: Mapping[str, np.ndarray], pids: Ids, *, level: float, method: str, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(M, 3) figures and the ends of their intervals, (B, M) resampled figures, and (C, M) sums of each identity."""
    sums, counts = _by_identity(scores, pids)
    values = sums.sum(0) / counts.sum(0)
    drawn = _bootstrap(sums, counts, resamples, seed)
    left = counts.sum(0) - counts
    without = np.where(left > 0, (sums.sum(0) - sums) / np.maximum(left, 1), values)  # (C, M), one identity less each
    return np.column_stack([values, _ends(drawn, values, without, level, method)]), drawn, sums


def _ends(drawn: np.ndarray, values: np.ndarray, without: np.ndarray, level: float, method: str) -> np.ndarray:
    """(M, 2) ends of the intervals."""
    shares = np.tile([(1 - level) / 2, (1 + level) / 2], (len(values), 1))
    if method == "bca":
        below = ((drawn < values).sum(0) + (drawn <= values).sum(0)) / 2
        bias = ndtri(below.clip(0.5, len(drawn) - 0.5) / len(drawn))[:, None]
        lean = without.mean(0) - without
        spread = (lean**2).sum(0)
        skew = np.divide((lean**3).sum(0), 6 * spread**1.5, out=np.zeros_like(spread), where=spread > 0)[:, None]
        shifted = bias + ndtri(shares)
        shares = ndtr(bias + shifted / (1 - skew * shifted))
    return np.array([np.quantile(column, share) for column, share in zip(drawn.T, shares)])


def _sign_flip(sums: np.ndarray, flips: int, seed: int) -> np.ndarray:
    """(M,) two-sided p-values of no difference: the observed assignment of signs counts as one of the flips."""
    generator = np.random.default_rng([seed, 1])
    observed = np.abs(sums.sum(0))
    rounding = 1e-12 * np.abs(sums).sum(0)
    reached = np.ones(sums.shape[1])
    for part in _parts(flips, len(sums)):
        signs = generator.integers(2, size=(part.stop - part.start, len(sums))) * 2.0 - 1
        reached += (np.abs(signs @ sums) >= observed - rounding).sum(0)
    return reached / (flips + 1)
