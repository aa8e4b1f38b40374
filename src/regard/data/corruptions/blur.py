"""Blur: out of focus, behind frosted glass, in motion, while zooming, and Gaussian.

Levels are those of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), lengths in pixels of its 224 x 224 pictures; they
are multiplied by ``scale``. At 64 x 64 that gives about what its authors chose for pictures of that size.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from regard.data.corruptions.filters import disk, gaussian, streak, warp
from regard.data.corruptions.kind import Kind

__all__ = ["KINDS"]


def defocus_blur(picture: np.ndarray, radius: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A disk for every point; its edge is soft by one pixel, the published one by up to half."""
    return disk(picture, radius * scale)


def glass_blur(
    picture: np.ndarray, level: tuple[float, float, int], scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Pixels read from random places nearby, between two Gaussian blurs.

    Published as swaps of whole pixels; here the way is any fraction of a pixel, or small crops would have no levels.

    Args:
        picture: the picture.
        level: deviation of the blur, longest way along an axis, times it is repeated.
        scale: of lengths.
        rng: source of draws.
    """
    sigma, reach, times = level
    picture = gaussian(picture, sigma * scale)
    for _ in range(times):
        rows, columns = rng.uniform(-reach * scale, reach * scale, (2, *picture.shape[:2]))
        picture = warp(picture, rows, columns)
    return gaussian(picture, sigma * scale)


def motion_blur(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A streak of given radius and deviation, within 45 degrees of the horizontal."""
    return streak(picture, level[0] * scale, level[1] * scale, rng.uniform(-45, 45))


def zoom_blur(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Mean of the picture and of itself at growing zoom: largest zoom and step. Zooms have no length."""
    height, width = picture.shape[:2]
    image = Image.fromarray(np.rint(255 * picture).astype(np.uint8))
    largest, step = level
    zooms = np.arange(1, largest + step / 2, step)
    total = picture.copy()
    for zoom in zooms:
        left, top = (width - width / zoom) / 2, (height - height / zoom) / 2
        box = (left, top, width - left, height - top)
        total += np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box), np.float32) / 255
    return total / (len(zooms) + 1)


def gaussian_blur(picture: np.ndarray, sigma: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur."""
    return gaussian(picture, sigma * scale)


KINDS = (
    Kind("defocus_blur", "blur", (3, 4, 6, 8, 10), defocus_blur),
    Kind("glass_blur", "blur", ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), glass_blur),
    Kind("motion_blur", "blur", ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), motion_blur),
    Kind("zoom_blur", "blur", ((1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03)), zoom_blur),
    Kind("gaussian_blur", "blur", (1, 2, 3, 4, 6), gaussian_blur),
)
