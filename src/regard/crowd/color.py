"""Colors: sRGB as people name them, linear light as the renderer adds them up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from regard.crowd.rng import tabulate

__all__ = ["Rgb", "linear", "three"]

Rgb = tuple[float, float, float]
"""An sRGB color, each channel 0 to 255, or factors on linear red, green and blue."""


def three(values: Iterable[float]) -> Rgb:
    """Return a color of three channels."""
    red, green, blue = values
    return red, green, blue


def decode(srgb: np.ndarray) -> np.ndarray:
    """Apply the sRGB transfer function (IEC 61966-2-1) to values from 0 to 1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


LINEAR = tabulate(decode, np.arange(256) / 255.0)


def linear(rgb: Sequence[float]) -> np.ndarray:
    """Return the linear reflectance of an sRGB color; (3,) float32."""
    levels = np.clip(np.asarray(rgb, np.float64), 0, 255)
    below = np.minimum(levels.astype(np.intp), 254)
    part = levels - below
    return (LINEAR[below] * (1 - part) + LINEAR[below + 1] * part).astype(np.float32)
