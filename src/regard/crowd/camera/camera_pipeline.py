"""From scene light to pixels: optics, sensor, processing, video stream, and the enlargement of the crop.

Pictures are (3, h, w) float32 until the last step. Sums are explicit, so that no library chooses their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache, lru_cache

import numpy as np

from regard.crowd.camera.city_cameras import Sensor
from regard.crowd.camera.video_compression import compress
from regard.crowd.rng import Rng, rounded, tabulate

__all__ = ["Exposure", "blurred", "develop", "resized"]

HEADROOM = 1.6
"""Light at which the sensor clips."""
LEVELS = 4096
Exposure = tuple[float, float, float]
"""Factors on red, green and blue at the moment of a shot."""


def develop(
    light: np.ndarray, sensor: Sensor, rng: Rng, *, size: tuple[int, int], exposure: Exposure, smear: float
) -> np.ndarray:
    """Photograph a scene.

    Args:
        light: (3, h, w) linear light on the native pixels of the crop.
        sensor: from light to numbers.
        rng: stream of the noise.
        size: height and width of the picture.
        exposure: the moment's factors beside the sensor's.
        smear: native pixels a point moves sideways while the shutter is open.

    Returns:
        (height, width, 3) uint8 sRGB.
    """
    _, h, w = light.shape
    picture = blurred(smeared(light, smear), sensor.blur)
    gains = [np.float32(sensor.exposure * b * e) for b, e in zip(sensor.balance, exposure)]
    picture = np.stack([channel * gain for channel, gain in zip(picture, gains)])
    gray = picture[0] * np.float32(0.25) + picture[1] * np.float32(0.62) + picture[2] * np.float32(0.13)
    picture = gray + (picture - gray) * np.float32(sensor.saturation)
    picture = responded(picture, response(*(round(v, 3) for v in (sensor.gamma, sensor.contrast, sensor.haze))))
    if sensor.noise > 0:
        grain = rng.grain(4, h, w)
        strength = np.float32(sensor.noise) * (np.float32(1.4) - picture)
        picture = picture + strength * (grain[0] * np.float32(0.8) + grain[1:] * np.float32(0.6))
    if sensor.sharpen > 0.05:
        picture = picture + np.float32(sensor.sharpen) * (picture - blurred(picture, 0.8))
    picture = compress(np.clip(picture, 0, 1), sensor.codec)
    pixels = np.clip(resized(picture, *size), 0, 1) * np.float32(255) + np.float32(0.5)
    return np.ascontiguousarray(pixels.astype(np.uint8).transpose(1, 2, 0))


def responded(picture: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Apply the sensor's curve to linear light."""
    place = np.clip(picture * np.float32(LEVELS / HEADROOM), 0, np.float32(LEVELS - 1))
    level = place.astype(np.intp)
    below = curve[level]
    return below + (curve[level + 1] - below) * (place - level)


@lru_cache(maxsize=64)
def response(gamma: float, contrast: float, haze: float) -> np.ndarray:
    """Tabulate sRGB with a soft shoulder against linear light; (LEVELS + 1,) float32."""
    light = np.arange(LEVELS + 1) * (HEADROOM / LEVELS)
    light = np.minimum(1.0, light / (1 + 0.12 * light * light))
    value = tabulate(lambda v: v ** (1 / (2.2 * gamma)), light)
    value = value + contrast * (value * value * (3 - 2 * value) - value)
    return np.minimum(1.0, haze + (1 - haze) * value).astype(np.float32)


def blurred(picture: np.ndarray, deviation: float) -> np.ndarray:
    """Blur along the last two axes like a Gaussian."""
    if deviation < 0.15:
        return picture
    reach = max(1, math.ceil(2.2 * deviation))
    weights = [rounded(math.exp(-0.5 * (i / deviation) ** 2)) for i in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    shares = [np.float32(weight / total) for weight in weights]
    return weighted(weighted(picture, shares, -1), shares, -2)


def smeared(picture: np.ndarray, length: float) -> np.ndarray:
    """Blur sideways over a fractional number of pixels."""
    if length < 0.5:
        return picture
    reach = max(1, math.ceil(length / 2))
    weights = [min(1.0, max(0.0, length / 2 - (i - 0.5))) for i in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return weighted(picture, [np.float32(weight / total) for weight in weights], -1)


def weighted(picture: np.ndarray, shares: list[np.float32], axis: int) -> np.ndarray:
    """Filter along an axis, symmetrically, the outermost pixels going on; ``shares`` from the middle outward."""
    reach, size = len(shares) - 1, picture.shape[axis]
    padded = picture.take(np.clip(np.arange(-reach, size + reach), 0, size - 1), axis)

    def moved(by: int) -> np.ndarray:
        window = slice(reach + by, reach + by + size)
        return padded[..., window] if axis == -1 else padded[..., window, :]

    result = picture * shares[0]
    for i in range(1, reach + 1):
        result += (moved(i) + moved(-i)) * shares[i]
    return result


@cache
def taps(size: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a triangle filter that resizes a line: (taps, wanted) pixels and their weights."""
    scale = size / wanted
    reach = max(1.0, scale)
    center = (np.arange(wanted) + 0.5) * scale - 0.5
    first = np.floor(center - reach).astype(np.intp) + 1
    pixels = first + np.arange(2 * math.ceil(reach) + 1)[:, None]
    weights = np.maximum(0.0, 1 - np.abs(pixels - center) / reach)
    used = weights.max(axis=1) > 0
    total = np.zeros(wanted)
    for line in weights:
        total += line
    return np.clip(pixels[used], 0, size - 1), (weights[used] / total).astype(np.float32)


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a picture, without aliasing when it shrinks."""
    if height != picture.shape[-2]:
        lines = zip(*taps(picture.shape[-2], height))
        picture = added(picture[..., pixels, :] * weight[:, None] for pixels, weight in lines)
    if width != picture.shape[-1]:
        lines = zip(*taps(picture.shape[-1], width))
        picture = added(picture[..., pixels] * weight for pixels, weight in lines)
    return picture


def added(terms: Iterable[np.ndarray]) -> np.ndarray:
    """Add up arrays in their order."""
    total, *rest = terms
    for term in rest:
        total += term
    return total
