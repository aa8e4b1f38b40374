"""A cheap video stream: block transform, quantization and coarse color.

The transform runs on whole numbers small enough for double precision to hold every sum exactly, so the order in
which a library adds them up does not matter.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["compress"]

BASIS_BITS = 12
PIXEL_BITS = 2
STEP_BITS = 6


def cosine_basis() -> np.ndarray:
    """Return the 8-point DCT-II matrix in units of 2^-12; (8, 8) float64 of whole numbers."""
    k, n = np.arange(8)[:, None], np.arange(8)[None]
    basis = np.cos((2 * n + 1) * k * math.pi / 16) * math.sqrt(2 / 8)
    basis[0] = math.sqrt(1 / 8)
    return np.floor(basis * (1 << BASIS_BITS) + 0.5)


BASIS = cosine_basis()
WEIGHTS = np.array(
    [
        *([16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55]),
        *([14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62]),
        *([18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92]),
        *([49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]),
    ],
    np.float64,
)
"""The luminance table of JPEG (ITU-T T.81, table K.1)."""


def compress(picture: np.ndarray, step: float) -> np.ndarray:
    """Send a picture through the stream.

    Args:
        picture: (3, h, w) sRGB from 0 to 1.
        step: of the quantization, of 255; below 1 nothing happens.
    """
    if step < 1:
        return picture
    red, green, blue = picture * np.float32(255)
    luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    tints = (blue - luma) * np.float32(0.564), (red - luma) * np.float32(0.713)
    luma = quantized(luma, step, 0.8)
    to_blue, to_red = (coarse(tint, 1.4 * step) for tint in tints)
    red, blue = luma + to_red / np.float32(0.713), luma + to_blue / np.float32(0.564)
    green = (luma - np.float32(0.299) * red - np.float32(0.114) * blue) / np.float32(0.587)
    return np.clip(np.stack([red, green, blue]) * np.float32(1 / 255), 0, 1)


def coarse(plane: np.ndarray, step: float) -> np.ndarray:
    """Return a plane at half resolution, quantized; (h, w) float32."""
    h, w = plane.shape
    even = filled(plane, h + h % 2, w + w % 2)
    half = (even[0::2, 0::2] + even[1::2, 0::2] + even[0::2, 1::2] + even[1::2, 1::2]) * np.float32(0.25)
    return quantized(half, step, 0.6).repeat(2, 0).repeat(2, 1)[:h, :w]


def quantized(plane: np.ndarray, step: float, detail: float) -> np.ndarray:
    """Return a plane after its 8 x 8 blocks were transformed, rounded and transformed back; (h, w) float32.

    Args:
        plane: (h, w) from -255 to 255.
        step: of the quantization.
        detail: 0 treats all frequencies alike, 1 as JPEG does.
    """
    h, w = plane.shape
    rows, columns = -(-h // 8), -(-w // 8)
    whole = filled(plane, rows * 8, columns * 8).astype(np.float64)
    blocks = np.floor(whole * (1 << PIXEL_BITS) + 0.5).reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
    table = (WEIGHTS * detail + 16 * (1 - detail)) * (step / 16)
    table = np.maximum(np.floor(table * (1 << STEP_BITS) + 0.5), 1.0)
    scale = 2.0 ** (STEP_BITS - PIXEL_BITS - 2 * BASIS_BITS)
    levels = np.floor(np.matmul(np.matmul(BASIS, blocks), BASIS.T) * scale / table + 0.5) * table
    back = np.matmul(np.matmul(BASIS.T, levels), BASIS)
    merged = back.transpose(0, 2, 1, 3).reshape(rows * 8, columns * 8)[:h, :w]
    return (merged * 2.0 ** (-STEP_BITS - 2 * BASIS_BITS)).astype(np.float32)


def filled(plane: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return a plane made larger by repeating its last row and column."""
    h, w = plane.shape
    if (h, w) == (rows, columns):
        return plane
    return plane[np.minimum(np.arange(rows), h - 1)[:, None], np.minimum(np.arange(columns), w - 1)]
