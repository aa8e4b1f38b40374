"""From scene light to pixels: optics, sensor, processing, video stream, and the enlargement of the crop.

Pictures are (3, h, w) float32 until the last step. Sums are explicit, so that no library chooses their order; the
block transform of the video stream runs on whole numbers small enough for double precision to hold every sum exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache, lru_cache

import numpy as np

from regard.crowd.camera.city_cameras import Sensor
from regard.crowd.color import Rgb
from regard.crowd.rng import Rng, rounded, tabulate

__all__ = ["blurred", "develop", "resized"]

HEADROOM = 1.6
"""Light at which the sensor clips."""
LEVELS = 4096

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


def develop(
    light: np.ndarray, sensor: Sensor, rng: Rng, *, size: tuple[int, int], exposure: Rgb, smear: float
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
    return weighted(weighted(picture, weights, -1), weights, -2)


def smeared(picture: np.ndarray, length: float) -> np.ndarray:
    """Blur sideways over a fractional number of pixels."""
    if length < 0.5:
        return picture
    reach = max(1, math.ceil(length / 2))
    weights = [min(1.0, max(0.0, length / 2 - (i - 0.5))) for i in range(reach + 1)]
    return weighted(picture, weights, -1)


def weighted(picture: np.ndarray, weights: list[float], axis: int) -> np.ndarray:
    """Filter along an axis, symmetrically, the outermost pixels going on; ``weights`` from the middle outward."""
    total = weights[0] + 2 * sum(weights[1:])
    shares = [np.float32(weight / total) for weight in weights]
    reach, size = len(shares) - 1, picture.shape[axis]
    ends = picture.take([0], axis), picture.take([-1], axis)
    padded = np.concatenate([ends[0]] * reach + [picture] + [ends[1]] * reach, axis)

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
