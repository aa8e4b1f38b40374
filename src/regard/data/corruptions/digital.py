"""Digital: low contrast, elastic bending, coarse pixels, JPEG, wrong saturation.

Levels are those of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), except for the elastic one: that of Michaelis et
al. ("Benchmarking Robustness in Object Detection", 2019), which the corrupted re-ID benchmark uses. Contrast, pixels as
a share of the picture, and JPEG quality have no length.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from regard.data.corruptions.filters import smooth_noise, warp
from regard.data.corruptions.kind import Kind

__all__ = ["KINDS"]

BEND = 0.005 * 224 / 3**0.5 / (2 * math.pi**0.5 * 2.24)
"""Deviation, in published pixels, of uniform noise within 0.005 of the height after the smoothing."""

SOFTNESS = 0.01 * 224
"""Deviation of the smoothing, in published pixels."""


def contrast(picture: np.ndarray, factor: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Every channel shrunk toward its mean."""
    mean = picture.mean((0, 1), keepdims=True)
    return (picture - mean) * factor + mean


def elastic_transform(picture: np.ndarray, factor: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Bend by smooth noise, ``factor`` times as strong as ``BEND``.

    The published code takes its lengths from the picture it gets, but noise smoothed over fewer pixels is stronger, so
    that a small crop falls to pieces; here it bends as a picture of 224 x 224 does.
    """
    height, width = picture.shape[:2]
    rows, columns = (factor * BEND * scale * smooth_noise(height, width, SOFTNESS * scale, rng) for _ in range(2))
    return warp(picture, rows, columns)


def pixelate(picture: np.ndarray, share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk to a share of both sides and enlarged again, by boxes."""
    height, width = picture.shape[:2]
    image = Image.fromarray(np.rint(255 * picture).astype(np.uint8))
    image = image.resize((max(1, int(share * width)), max(1, int(share * height))), Image.Resampling.BOX)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32) / 255


def jpeg_compression(picture: np.ndarray, quality: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG of low quality, on top of whatever the file was stored with."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float32) / 255


def saturate(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """HSV saturation times a factor plus an offset: severities 1 and 2 take color away, 3 to 5 add it.

    Gray has no hue; as published it takes on red where an offset is added.
    """
    factor, offset = level
    value = picture.max(-1, keepdims=True)
    saturation = (value - picture.min(-1, keepdims=True)) / np.maximum(value, 1e-6)
    wanted = np.clip(factor * saturation + offset, 0, 1)
    gray = saturation < 1e-6
    missing = np.where(gray, value * np.array([0, 1, 1], np.float32), value - picture)
    return value - missing * np.where(gray, wanted, wanted / np.maximum(saturation, 1e-6))


KINDS = (
    Kind("contrast", "digital", (0.4, 0.3, 0.2, 0.1, 0.05), contrast),
    Kind("elastic_transform", "digital", (12.5, 16.25, 21.25, 25.0, 30.0), elastic_transform),
    Kind("pixelate", "digital", (0.6, 0.5, 0.4, 0.3, 0.25), pixelate),
    Kind("jpeg_compression", "digital", (25, 18, 15, 10, 7), jpeg_compression),
    Kind("saturate", "digital", ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)), saturate),
)
