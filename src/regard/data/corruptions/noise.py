"""Noise: of the sensor's electronics, of few photons, of broken pixels, of gain.

Levels are those of ImageNet-C (Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations", ICLR 2019). Noise has no length: it is the same at every picture size.
"""

from __future__ import annotations

import numpy as np

from regard.data.corruptions.kind import Kind

__all__ = ["KINDS"]


def gaussian_noise(picture: np.ndarray, deviation: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Normal noise, every value by itself."""
    return picture + deviation * _normal(picture, rng)


def shot_noise(picture: np.ndarray, photons: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A Poisson count for every value, white being ``photons`` on average."""
    return (rng.poisson(picture * photons) / photons).astype(np.float32)


def impulse_noise(picture: np.ndarray, share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the values is black or white, evenly."""
    draw = rng.random(picture.shape, np.float32)
    return np.where(draw < share / 2, np.float32(0), np.where(draw < share, np.float32(1), picture))


def speckle_noise(picture: np.ndarray, deviation: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Normal noise in proportion to the value."""
    return picture * (1 + deviation * _normal(picture, rng))


def _normal(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(picture.shape, np.float32)


KINDS = (
    Kind("gaussian_noise", "noise", (0.08, 0.12, 0.18, 0.26, 0.38), gaussian_noise),
    Kind("shot_noise", "noise", (60, 25, 12, 5, 3), shot_noise),
    Kind("impulse_noise", "noise", (0.03, 0.06, 0.09, 0.17, 0.27), impulse_noise),
    Kind("speckle_noise", "noise", (0.15, 0.2, 0.35, 0.45, 0.6), speckle_noise),
)
