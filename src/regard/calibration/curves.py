"""Curves from similarity to evidence, and what pairs of cameras change about them.

Shapes: M pairs, K knots of a curve, N any number of similarities.

What the curves mean and where they come from is said in :mod:`regard.calibration.similarity`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from regard.calibration.reliability import class_weights

__all__ = ["FEWEST", "Camera", "apply_cameras", "evidence_at", "fit_cameras", "fit_isotonic", "fit_logistic"]

FEWEST = 10
"""Pairs of each kind that anything is fitted to, at least."""

_STEPS = 50


class Camera(NamedTuple):
    """How a pair of cameras differs from all: evidence becomes ``shift + stretch * evidence``."""

    shift: float
    stretch: float


def evidence_at(knots: np.ndarray, similarity: np.ndarray, curve: str) -> np.ndarray:
    """(N,) evidence of similarities, read off a curve's (K, 2) knots."""
    x, y = knots.T
    if curve == "isotonic":
        return np.interp(similarity, x, y)
    return y[0] + (similarity - x[0]) * (y[1] - y[0]) / (x[1] - x[0])


def fit_isotonic(similarity: np.ndarray, same: np.ndarray) -> np.ndarray:
    """(K, 2) centers of the pools, ties pooled first, one pair of the other kind at either end."""
    values, place = np.unique(similarity, return_inverse=True)
    right = np.bincount(place, same).astype(np.float64)
    wrong = np.bincount(place, ~same).astype(np.float64)
    right[0] += 1
    wrong[-1] += 1
    right /= right.sum()
    wrong /= wrong.sum()
    mass = right + wrong
    pooled = isotonic_regression(right / mass, weights=mass)
    starts = pooled.blocks[:-1]
    centers = np.add.reduceat(values * mass, starts) / np.add.reduceat(mass, starts)
    share = np.add.reduceat(right, starts) / np.add.reduceat(mass, starts)
    return np.column_stack([np.maximum.accumulate(centers), np.maximum.accumulate(logit(share))])


def fit_logistic(similarity: np.ndarray, same: np.ndarray) -> np.ndarray:
    """(2, 2) two points of the line, which does not fall."""
    low = float(similarity.min())
    high = max(float(similarity.max()), float(np.nextafter(low, np.inf)))
    columns = np.column_stack([np.ones(len(same)), (similarity - low) / (high - low)])
    right = same.sum()
    wrong = len(same) - right
    targets = np.where(same, (right + 1) / (right + 2), 1 / (wrong + 2))
    weights = class_weights(same, 0.5)
    line = np.zeros(2)
    for _ in range(_STEPS):
        p = expit(columns @ line)
        gradient = columns.T @ (weights * (p - targets))
        curvature = (columns.T * (weights * p * (1 - p))) @ columns + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1, 5 / max(np.abs(step).max(), 1e-300))
        line -= step
        if np.abs(step).max() < 1e-10:
            break
    if line[1] < 0:  # more alike means less likely: the best line that does not fall is flat, and says nothing
        line[:] = 0
    return np.array([[low, line[0]], [high, line.sum()]])


def fit_cameras(
    evidence: np.ndarray, same: np.ndarray, cameras: np.ndarray, penalty: float
) -> dict[tuple[int, int], Camera]:
    """Shift and stretch of every pair of cameras with enough pairs of both kinds, by Newton steps for all at once."""
    names, place = _by_cameras(cameras)
    size = len(names)
    right = np.bincount(place, same, size)
    wrong = np.bincount(place, ~same, size)
    enough = (right >= FEWEST) & (wrong >= FEWEST)
    share = np.where(same, 1.0, (right / np.maximum(wrong, 1))[place])  # two people weigh together as one person
    found = np.tile([0.0, 1.0], (size, 1))
    for _ in range(_STEPS):
        p = expit(found[place, 0] + found[place, 1] * evidence)
        slope, bend = share * (p - same), share * p * (1 - p)
        sums = [
            np.bincount(place, values, size)
            for values in (slope, slope * evidence, bend, bend * evidence, bend * evidence**2)
        ]
        gradient = np.column_stack(sums[:2]) + penalty * (found - [0, 1])
        a, b, c = sums[2] + penalty, sums[3], sums[4] + penalty
        step = np.column_stack([c * gradient[:, 0] - b * gradient[:, 1], a * gradient[:, 1] - b * gradient[:, 0]])
        step = (step / (a * c - b * b)[:, None]).clip(-0.5, 0.5)
        found -= step
        if np.abs(step).max() < 1e-8:
            break
    found[:, 1] = np.maximum(found[:, 1], 0)
    return {(int(a), int(b)): Camera(*map(float, found[i])) for i, (a, b) in enumerate(names) if enough[i]}


def apply_cameras(evidence: np.ndarray, cameras: np.ndarray, fitted: Mapping[tuple[int, int], Camera]) -> np.ndarray:
    """(M,) evidence, shifted and stretched by cameras."""
    names, place = _by_cameras(cameras)
    values = np.array([fitted.get((int(a), int(b)), Camera(0.0, 1.0)) for a, b in names]).reshape(-1, 2)
    return values[place, 0] + values[place, 1] * evidence


def _by_cameras(cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of cameras there are, and (M,) which of them each row is."""
    numbers, ends = np.unique(cameras, return_inverse=True)
    first, second = ends.reshape(cameras.shape).T
    codes, place = np.unique(first * len(numbers) + second, return_inverse=True)
    return numbers[np.column_stack(np.divmod(codes, len(numbers)))], place
