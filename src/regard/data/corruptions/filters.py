"""What corruptions are built from: weighted shifts, random fields, and sampling between pixels.

Shapes: h x w pixels; a picture is (h, w, 3) or (h, w) float32, a field (h, w).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

__all__ = ["blend", "disk", "gaussian", "plasma", "resample", "smooth_noise", "streak", "warp"]


def blend(picture: np.ndarray, offsets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum of shifted copies; beyond the edge the nearest pixel is repeated.

    Args:
        picture: (h, w, 3) or (h, w).
        offsets: (n, 2) rows and columns, whole numbers: where each copy is read, relative to the pixel.
        weights: (n,) its weights.
    """
    height, width = picture.shape[:2]
    reach = np.abs(offsets).max(0)
    padded = np.pad(picture, [(reach[0],) * 2, (reach[1],) * 2, (0, 0)][: picture.ndim], mode="edge")
    total = np.zeros_like(picture)
    for (row, column), weight in zip(offsets + reach, weights.astype(np.float32)):
        total += weight * padded[row : row + height, column : column + width]
    return total


def gaussian(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur with a deviation of ``sigma`` pixels, cut off at three deviations."""
    steps = np.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1)
    weights = np.exp(-(steps**2) / max(2 * sigma**2, 1e-9))
    weights /= weights.sum()
    still = np.zeros_like(steps)
    return blend(blend(picture, np.stack([steps, still], 1), weights), np.stack([still, steps], 1), weights)


def disk(picture: np.ndarray, radius: float) -> np.ndarray:
    """Mean over a disk with a soft edge of one pixel, as a lens out of focus draws it."""
    steps = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    rows, columns = (axis.ravel() for axis in np.meshgrid(steps, steps, indexing="ij"))
    weights = np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1)
    inside = weights > 0
    return blend(picture, np.stack([rows, columns], 1)[inside], weights[inside] / weights.sum())


def streak(picture: np.ndarray, radius: float, sigma: float, angle: float) -> np.ndarray:
    """Motion blur: half a Gaussian along a line, ``2 * radius + 1`` pixels long.

    Args:
        picture: (h, w, 3) or (h, w).
        radius, sigma: pixels.
        angle: degrees, 0 along the rows.
    """
    steps = np.arange(2 * round(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    turn = math.radians(angle)
    offsets = np.rint(np.stack([steps * math.sin(turn), steps * math.cos(turn)], 1)).astype(np.int64)
    return blend(picture, offsets, weights / weights.sum())


def smooth_noise(height: int, width: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """(h, w) field of mean 0 and deviation 1: normal noise after a Gaussian blur that wraps around the edges."""
    rows, columns = _frequencies(height, width)
    field = rng.standard_normal((height, width))
    damping = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
    field = np.fft.irfft2(np.fft.rfft2(field) * damping, (height, width))
    return ((field - field.mean()) / max(field.std(), 1e-9)).astype(np.float32)


def plasma(height: int, width: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """(h, w) fractal field in 0..1, as the diamond-square method gives, without its grid.

    Args:
        height, width: h and w.
        decay: by how much the displacement shrinks when the step is halved; that of a fractal of Hurst exponent
            log2(decay), whose amplitudes fall with frequency to the power of -(1 + exponent).
        rng: source of draws.
    """
    side = max(height, width)
    rows, columns = _frequencies(side, side)
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * frequency ** -(1 + math.log2(decay))
    field = np.fft.irfft2(spectrum, (side, side))
    field -= field.min()
    return (field / max(field.max(), 1e-9))[:height, :width].astype(np.float32)


def _frequencies(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Cycles per pixel along rows (h, 1) and columns (1, w // 2 + 1) of a real Fourier transform."""
    return np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]


def resample(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture or field resized to (h, w): linear where it grows, antialiased where it shrinks."""
    resized = functional.interpolate(
        _tensor(np.atleast_3d(picture)), (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0).numpy().reshape(height, width, *picture.shape[2:])


def warp(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Read every pixel from elsewhere, by linear interpolation.

    Args:
        picture: (h, w, 3).
        rows, columns: (h, w) how far away, in pixels; beyond the edge the picture is mirrored.
    """
    height, width = picture.shape[:2]
    x = (np.arange(width) + columns + 0.5) * (2 / width) - 1
    y = (np.arange(height)[:, None] + rows + 0.5) * (2 / height) - 1
    grid = torch.from_numpy(np.stack([x, y], -1).astype(np.float32))[None]
    read = functional.grid_sample(_tensor(picture), grid, padding_mode="reflection", align_corners=False)
    return read[0].permute(1, 2, 0).numpy()


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
