"""Can the probabilities be trusted, and where does a wished false-alarm rate lie?

Shapes: M pairs, b bins, B resamples.

Pairs of one person have together the weight of the prior, pairs of two people the rest, however many there are of each.

    Brier      mean of (p - y)²                         log loss   mean of -y ln p - (1 - y) ln(1 - p)
    ECE        Σ over bins of equal mass: mass · |mean of p - share of y|

A threshold is an order statistic: of n pairs of two people take the k-th most alike, k = floor(rate · (n + 1)); a new
pair exceeds it with a probability that has the distribution Beta(k, n + 1 - k), whose mean is at most the rate. That is
exact for pairs that have nothing to do with each other. Pairs share people, so intervals are widened to what resampling
people gives.

Sources: Naeini et al., AAAI 2015 (ECE); Nguyen and O'Connor, EMNLP 2015 (bins of equal mass); David and Nagaraja, Order
Statistics, 2003, 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv

from regard.errors import ConfigError, DataError

__all__ = ["Reliability", "Threshold", "class_weights", "log_loss", "reliability", "threshold", "widen"]

LEVEL = 0.95
RESAMPLES = 200


class Threshold(NamedTuple):
    """Take two pictures for one person where their similarity is above.

    Attributes:
        rate: wished share of pairs of two people that are taken for one.
        similarity: pairs above it are taken for one person.
        low, high: 95 % interval of the share it will have on new pairs.
        hits: share of same-person pairs above it; NaN where none were given.
    """

    rate: float
    similarity: float
    low: float
    high: float
    hits: float


class Reliability(NamedTuple):
    """Predicted probabilities beside what happened, at one prior.

    Attributes:
        prior: share of same-person pairs the figures are for.
        predicted, observed: (b,) mean probability and share of same-person pairs in each bin.
        low, high: (b,) 95 % interval of ``observed``, over people.
        mass: (b,) weight of each bin; they sum to 1.
        ece, ece_low, ece_high: expected calibration error with its 95 % interval, over people.
        brier: mean squared error of the probabilities.
        log_loss: in nats.
    """

    prior: float
    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mass: np.ndarray
    ece: float
    ece_low: float
    ece_high: float
    brier: float
    log_loss: float

    def __str__(self) -> str:
        return (
            f"ECE {100 * self.ece:.2f} % [{100 * self.ece_low:.2f}, {100 * self.ece_high:.2f}], "
            f"Brier {self.brier:.4f}, log loss {self.log_loss:.4f} at prior {self.prior:g}"
        )


def class_weights(same: np.ndarray, prior: float) -> np.ndarray:
    """(M,) weights that sum to 1, those of same-person pairs to the prior.

    Raises:
        DataError: one of the two kinds of pairs is missing.
    """
    right = int(same.sum())
    if not 0 < right < len(same):
        raise DataError(
            f"{right} pairs of one person and {len(same) - right} of two: both kinds are needed; give more pictures"
        )
    return np.where(same, prior / right, (1 - prior) / (len(same) - right))


def log_loss(log_odds: np.ndarray, same: np.ndarray, weights: np.ndarray) -> float:
    """Weighted log loss of probabilities given as log odds, in nats."""
    return float(weights @ np.logaddexp(0, np.where(same, -log_odds, log_odds)))


def reliability(
    probability: np.ndarray,
    same: np.ndarray,
    people: np.ndarray | None = None,
    *,
    prior: float = 0.5,
    bins: int = 15,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Reliability:
    """Compare probabilities with what happened.

    Args:
        probability: (M,) that a pair shows one person, at the prior given.
        same: (M,) bool, whether it does.
        people: (M, 2) who is on them, whom intervals resample; None resamples pairs.
        prior: share of same-person pairs to give the figures for.
        bins: of equal mass; fewer where equal probabilities fill several.
        resamples: of the intervals.
        seed: of the resampling.

    Raises:
        DataError: one of the two kinds of pairs is missing, or a probability is not one.
    """
    probability, same = np.asarray(probability, np.float64), np.asarray(same, bool)
    if probability.shape != same.shape or not ((probability >= 0) & (probability <= 1)).all():
        raise DataError(
            f"probabilities of shape {probability.shape} for {same.shape} pairs: give one in [0, 1] for each pair"
        )
    weights = class_weights(same, prior)
    place, count = _equal_mass(probability, weights, bins)
    cells = place + count * same
    predicted, observed, mass, ece = _binned(weights, probability, cells, count)
    drawn = []
    for resampled in _pair_weights(people, same, prior, resamples, seed):
        _, share, _, error = _binned(resampled, probability, cells, count)
        drawn.append((*share, error))
    ends = np.nanquantile(np.array(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    bias = np.mean([row[-1] for row in drawn]) - ece  # resampling scatters the bins once more
    surprise = np.where(same, probability, 1 - probability)
    return Reliability(
        prior, predicted, observed, ends[0, :-1], ends[1, :-1], mass, ece,
        ece_low=float(max(0, min(ece, ends[0, -1] - bias))),
        ece_high=float(max(ece, ends[1, -1] - bias)),
        brier=float(weights @ (1 - surprise) ** 2),
        log_loss=float(-weights @ np.log(np.maximum(surprise, 1e-300))),
    )  # fmt: skip


def threshold(different: np.ndarray, rate: float, same: np.ndarray | None = None) -> Threshold:
    """The similarity that a wished share of pairs of two people exceeds, at most.

    Args:
        different: (n,) similarities of pairs of two people, drawn at random.
        rate: wished false-alarm rate.
        same: similarities of pairs of one person, to say how many of them are found.

    Raises:
        ConfigError: the rate is not between 0 and 1.
        DataError: too few pairs to know a rate that small.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"false-alarm rate is {rate}: give a share between 0 and 1, for example 0.001")
    count = len(different)
    k = int(rate * (count + 1) * (1 + 1e-12))
    if k < 1:
        raise DataError(
            f"a false-alarm rate of {rate:g} needs {int(np.ceil(1 / rate)) - 1:,} pairs of two people, there are "
            f"{count:,}: wish for {1 / (count + 1):.2g} or more, or calibrate on more pictures"
        )
    value = float(np.partition(different, count - k)[count - k])
    low, high = betaincinv(k, count + 1 - k, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    hits = float(np.mean(np.asarray(same) > value)) if same is not None and len(same) else float("nan")
    return Threshold(rate, value, float(low), float(high), hits)


def widen(
    thresholds: list[Threshold], similarity: np.ndarray, people: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> list[Threshold]:
    """The same thresholds, their intervals widened to what resampling people gives.

    Args:
        thresholds: of these pairs.
        similarity: (n,) of pairs of two people.
        people: (n, 2) who is on them.
        resamples, seed: of the resampling.
    """
    if not thresholds:
        return []
    nobody = np.zeros(len(similarity), bool)
    above = [np.flatnonzero(similarity > found.similarity) for found in thresholds]
    rates = [[weights[rows].sum() for rows in above] for weights in _pair_weights(people, nobody, 0.0, resamples, seed)]
    low, high = np.quantile(rates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).tolist()
    return [
        found._replace(low=min(found.low, low[i]), high=max(found.high, high[i])) for i, found in enumerate(thresholds)
    ]


def _equal_mass(probability: np.ndarray, weights: np.ndarray, bins: int) -> tuple[np.ndarray, int]:
    """(M,) bin of every pair, and the number of bins; equal probabilities share a bin."""
    _, place = np.unique(probability, return_inverse=True)
    mass = np.bincount(place, weights)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    used, number = np.unique((middle * bins).astype(int).clip(max=bins - 1), return_inverse=True)
    return number[place], len(used)


def _binned(
    weights: np.ndarray, probability: np.ndarray, cells: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(b,) mean probability, share of same-person pairs and mass of each bin, and the ECE; NaN where a bin is empty."""
    wrong, right = np.bincount(cells, weights, 2 * count).reshape(2, count)
    total = np.bincount(cells, weights * probability, 2 * count).reshape(2, count).sum(0)
    mass = wrong + right
    safe = np.where(mass > 0, mass, np.nan)
    return total / safe, right / safe, mass, float(np.abs(total - right).sum())


def _pair_weights(
    people: np.ndarray | None, same: np.ndarray, prior: float, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """(M,) weights of the pairs in every resample of people: a pair of two counts as often as both were drawn."""
    generator = np.random.default_rng(seed)
    if people is None:
        people = np.arange(len(same))[:, None].repeat(2, 1)
    names, codes = np.unique(people, return_inverse=True)
    first, second = codes.reshape(people.shape).T
    alone = first == second
    for _ in range(resamples):
        times = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names)).astype(np.float64)
        drawn = np.where(alone, times[first], times[first] * times[second])
        right, wrong = drawn @ same, drawn @ ~same
        yield drawn * np.where(same, prior / max(right, 1), (1 - prior) / max(wrong, 1))
