"""The kinds of corruption: noise, blur, weather, digital faults, and something in front of the person.

Levels are those of ImageNet-C (Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations", ICLR 2019), lengths in pixels of its 224 x 224 pictures. The exceptions, which the corrupted re-ID
benchmark has too: rain is that of Chen et al. ("Benchmarks for Corruption Invariant Person Re-identification", NeurIPS
2021 Datasets and Benchmarks), lengths in pixels of a 128 x 64 crop, and elastic bending that of Michaelis et al.
("Benchmarking Robustness in Object Detection", 2019). Lengths are multiplied by ``scale``; at 64 x 64 that gives about
what the authors of ImageNet-C chose for pictures of that size. Noise, contrast, pixels as a share of the picture, zoom
and JPEG quality have no length.

Shapes: h x w pixels of the stored picture.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from regard.data.corruptions.filters import disk, gaussian, plasma, resample, smooth_noise, streak, warp

__all__ = ["KINDS", "SEVERITIES", "Kind"]

SEVERITIES = (1, 2, 3, 4, 5)

IMAGENET_SIDE = 224.0
"""Side, in pixels, of the pictures that the published levels were chosen for."""

RAIN_SIDE = (128 * 64) ** 0.5
"""The same of the crops that the levels of rain are for."""

GRAY = np.array([0.299, 0.587, 0.114], np.float32)
WATER = np.array([175, 238, 238], np.float32) / 255
MUD = np.array([63, 42, 20], np.float32) / 255
ICE = np.array([0.86, 0.93, 1.0], np.float32)
DROP = 200
"""Gray level of rain."""

BEND = 0.005 * 224 / 3**0.5 / (2 * math.pi**0.5 * 2.24)
"""Deviation, in published pixels, of uniform noise within 0.005 of the height after the smoothing."""

SOFTNESS = 0.01 * 224
"""Deviation of the smoothing, in published pixels."""

Apply = Callable[[np.ndarray, Any, float, np.random.Generator], np.ndarray]
"""(h, w, 3) float32 picture in 0..1, level, scale of lengths, source of draws -> the corrupted picture.

The result may leave 0..1; the caller cuts it off.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of corruption.

    Attributes:
        name: as the benchmarks call it.
        family: noise, blur, weather, digital or occlusion.
        levels: what ``apply`` gets at severity 1 to 5; lengths are in pixels of a picture of side ``reference``.
        apply: the corruption.
        reference: side of that picture, the square root of its pixels.
    """

    name: str
    family: str
    levels: tuple[Any, ...]
    apply: Apply
    reference: float = IMAGENET_SIDE

    def scale(self, height: int, width: int) -> float:
        """Factor on the lengths for a picture of another size: the ratio of the square roots of the pixels."""
        return (height * width) ** 0.5 / self.reference


KINDS: dict[str, Kind] = {}
"""All kinds by name: the 20 of the corrupted re-ID benchmark, then occlusion."""


def kind(family: str, *levels: Any, reference: float = IMAGENET_SIDE) -> Callable[[Apply], Apply]:
    """Add a function to ``KINDS`` under its own name."""

    def add(apply: Apply) -> Apply:
        KINDS[apply.__name__] = Kind(apply.__name__, family, levels, apply, reference)
        return apply

    return add


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(255 * picture).astype(np.uint8))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


@kind("noise", 0.08, 0.12, 0.18, 0.26, 0.38)
def gaussian_noise(picture: np.ndarray, deviation: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Normal noise, every value by itself."""
    return picture + deviation * rng.standard_normal(picture.shape, np.float32)


@kind("noise", 60, 25, 12, 5, 3)
def shot_noise(picture: np.ndarray, photons: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A Poisson count for every value, white being ``photons`` on average."""
    return (rng.poisson(picture * photons) / photons).astype(np.float32)


@kind("noise", 0.03, 0.06, 0.09, 0.17, 0.27)
def impulse_noise(picture: np.ndarray, share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the values is black or white, evenly."""
    draw = rng.random(picture.shape, np.float32)
    return np.where(draw < share / 2, np.float32(0), np.where(draw < share, np.float32(1), picture))


@kind("noise", 0.15, 0.2, 0.35, 0.45, 0.6)
def speckle_noise(picture: np.ndarray, deviation: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Normal noise in proportion to the value."""
    return picture * (1 + deviation * rng.standard_normal(picture.shape, np.float32))


@kind("blur", 3, 4, 6, 8, 10)
def defocus_blur(picture: np.ndarray, radius: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A disk for every point; its edge is soft by one pixel, the published one by up to half."""
    return disk(picture, radius * scale)


@kind("blur", (0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
def glass_blur(
    picture: np.ndarray, level: tuple[float, float, int], scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Pixels read from random places nearby, between two Gaussian blurs.

    Published as swaps of whole pixels; here the way is any fraction of a pixel, or small crops would have no levels.
    A level is the deviation of the blur, the longest way along an axis, and how often it is repeated.
    """
    sigma, reach, times = level
    picture = gaussian(picture, sigma * scale)
    for _ in range(times):
        rows, columns = rng.uniform(-reach * scale, reach * scale, (2, *picture.shape[:2]))
        picture = warp(picture, rows, columns)
    return gaussian(picture, sigma * scale)


@kind("blur", (10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
def motion_blur(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A streak of given radius and deviation, within 45 degrees of the horizontal."""
    return streak(picture, level[0] * scale, level[1] * scale, rng.uniform(-45, 45))


@kind("blur", (1.1, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03))
def zoom_blur(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Mean of the picture and of itself at growing zoom: largest zoom and step. Zooms have no length."""
    height, width = picture.shape[:2]
    image = _image(picture)
    largest, step = level
    zooms = np.arange(1, largest + step / 2, step)
    total = picture.copy()
    for zoom in zooms:
        left, top = (width - width / zoom) / 2, (height - height / zoom) / 2
        box = (left, top, width - left, height - top)
        total += _pixels(image.resize((width, height), Image.Resampling.BILINEAR, box))
    return total / (len(zooms) + 1)


@kind("blur", 1, 2, 3, 4, 6)
def gaussian_blur(picture: np.ndarray, sigma: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur."""
    return gaussian(picture, sigma * scale)


@kind(
    "weather",
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
def snow(picture: np.ndarray, level: tuple[float, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Whitened, with flakes in front that leave streaks, and the same turned by half a circle.

    A level is the mean and deviation of the noise flakes are cut from, their size, the threshold, radius and deviation
    of the streaks, and the share of the picture that is not whitened.
    """
    mean, deviation, size, threshold, radius, sigma, kept = level
    height, width = picture.shape[:2]
    tall, wide = published_size(height, width, scale)
    flakes = rng.normal(mean, deviation, (math.ceil(tall / size), math.ceil(wide / size)))
    flakes = resample(flakes, tall, wide)
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    flakes = resample(streak(flakes, radius, sigma, rng.uniform(-135, -45)), height, width)
    white = np.maximum(picture, (picture @ GRAY)[..., None] * 1.5 + 0.5)
    return kept * picture + (1 - kept) * white + (flakes + flakes[::-1, ::-1])[..., None]


def published_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of the picture in published pixels: a layer made at this size and shrunk looks as published."""
    return max(1, round(height / scale)), max(1, round(width / scale))


@kind("weather", (1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
def frost(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Ice added to the picture, a part of one of six windows: weight of the picture, weight of the ice.

    ImageNet-C lays photographs of frozen windows over the picture. Here the windows are drawn, so that nothing has to
    be downloaded. Weights are as published, textures are not.
    """
    height, width = picture.shape[:2]
    window = frozen_window(int(rng.integers(6)))
    tall, wide = (min(length, len(window)) for length in published_size(height, width, scale))
    top, left = (int(rng.integers(len(window) - length + 1)) for length in (tall, wide))
    ice = window[top : top + tall, left : left + wide]
    return level[0] * picture + level[1] * resample(ice, height, width)


@functools.lru_cache(maxsize=6)
def frozen_window(number: int) -> np.ndarray:
    """(448, 448, 3) of a frozen window, made up: ferns of ice over a veil, bluish white."""
    rng = np.random.default_rng(number)
    side, fine = 448, 2
    sheet = Image.new("L", (fine * side, fine * side))
    pen = ImageDraw.Draw(sheet)
    for _ in range(70):
        root = rng.uniform(-0.1, 1.1, 2) * fine * side
        _fern(pen, root, rng.uniform(0, 2 * math.pi), fine * side * rng.uniform(0.15, 0.5), rng)
    ferns = _pixels(sheet.resize((side, side), Image.Resampling.BOX))
    veil, grain = (plasma(side, side, decay, rng) for decay in (1.8, 1.1))
    return np.clip(0.1 + 0.45 * veil + 0.25 * (grain - 0.5) + 0.8 * ferns, 0, 1)[..., None] * ICE


def _fern(pen: ImageDraw.ImageDraw, root: np.ndarray, turn: float, length: float, rng: np.random.Generator) -> None:
    """A stem with branches at sixty degrees on both sides, shorter toward the tip."""
    steps = max(4, int(length / 9))
    light = rng.uniform(110, 255)
    for i in range(steps):
        tip = root + length / steps * np.array([math.sin(turn), math.cos(turn)])
        pen.line([*root[::-1], *tip[::-1]], fill=int(light), width=4)
        for side in (-1, 1):
            branch = turn + side * math.pi / 3 + rng.uniform(-0.1, 0.1)
            reach = 0.4 * length * (1 - i / steps) * rng.uniform(0.4, 1)
            end = root + reach * np.array([math.sin(branch), math.cos(branch)])
            pen.line([*root[::-1], *end[::-1]], fill=int(0.75 * light), width=3)
        root, turn = tip, turn + rng.uniform(-0.12, 0.12)


@kind("weather", (1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))
def fog(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A fractal added, of given amount and decay, and the sum brought back to the old brightest value.

    It has the published roughness, and is made from its spectrum instead of by diamond-square.
    """
    amount, decay = level
    height, width = picture.shape[:2]
    brightest = picture.max()
    cloud = plasma(height, width, decay, rng)
    return (picture + amount * cloud[..., None]) * brightest / (brightest + amount)


@kind("weather", 0.1, 0.2, 0.3, 0.4, 0.5)
def brightness(picture: np.ndarray, amount: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """HSV value raised; hue and saturation stay."""
    value = picture.max(-1, keepdims=True)
    wanted = np.minimum(value + amount, 1)
    return np.where(value > 0, picture * (wanted / np.maximum(value, 1e-6)), wanted)


@kind(
    "weather",
    (0.65, 0.3, 4, 0.69, 0.6, False),
    (0.65, 0.3, 3, 0.68, 0.6, False),
    (0.65, 0.3, 2, 0.68, 0.5, False),
    (0.65, 0.3, 1, 0.65, 1.5, True),
    (0.67, 0.4, 1, 0.65, 1.5, True),
)
def spatter(picture: np.ndarray, level: tuple[float, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Drops of water (severities 1 to 3) or mud (4 and 5) on the lens.

    A level is the mean and deviation of noise, the deviation of the blur it goes through, and the threshold above which
    drops are; brightness of water or softness of mud; whether it is mud. Drops cover as much as published at every
    size; what shines on water is the slope of a drop toward one side, which takes the place of a chain of edge
    detection, distance transform and embossing.
    """
    mean, deviation, sigma, threshold, last, muddy = level
    height, width = picture.shape[:2]
    field = smooth_noise(*published_size(height, width, scale), sigma, rng)
    inside = field > (threshold - mean) / deviation * 2 * math.pi**0.5 * sigma
    if muddy:
        cover = gaussian(inside.astype(np.float32), last)
        cover = resample(np.where(cover < 0.8, np.float32(0), cover), height, width)[..., None]
        return picture * (1 - cover) + cover * MUD
    slope = np.diff(field, axis=0, prepend=field[:1]) + np.diff(field, axis=1, prepend=field[:, :1])
    shine = np.where(inside, 1 + slope / max(float(np.abs(slope).max()), 1e-6), 0)
    shine = resample(shine / max(float(shine.max()), 1e-6), height, width)
    return picture + last * shine[..., None] * WATER


@kind(
    "weather",
    (770, 10, 3, 0.1),
    (600, 30, 4, 0.15),
    (600, 30, 5, 0.2),
    (500, 60, 6, 0.25),
    (500, 60, 7, 0.3),
    reference=RAIN_SIDE,
)
def rain(picture: np.ndarray, level: tuple[float, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Slanted gray drops, a box blur, and less light.

    A level is the pixels (of 128 x 64) per drop, the length of a drop, the width of the blur, the light taken away.
    """
    room, length, blur, darker = level
    height, width = picture.shape[:2]
    image = _image(picture)
    pen = ImageDraw.Draw(image)
    slant = rng.uniform(-10, 10) * scale
    for _ in range(round(height * width / max(room * scale**2, 1e-6))):
        x, y = rng.uniform(-abs(slant), width + abs(slant)), rng.uniform(-length * scale / 2, height)
        pen.line([x, y, x + slant, y + length * scale], fill=(DROP,) * 3, width=max(1, round(scale)))
    image = image.filter(ImageFilter.BoxBlur((blur - 1) / 2 * scale))
    return _pixels(image) - darker


@kind("digital", 0.4, 0.3, 0.2, 0.1, 0.05)
def contrast(picture: np.ndarray, factor: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Every channel shrunk toward its mean."""
    mean = picture.mean((0, 1), keepdims=True)
    return (picture - mean) * factor + mean


@kind("digital", 12.5, 16.25, 21.25, 25.0, 30.0)
def elastic_transform(picture: np.ndarray, factor: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Bend by smooth noise, ``factor`` times as strong as ``BEND``; levels are those of Michaelis et al.

    The published code takes its lengths from the picture it gets, but noise smoothed over fewer pixels is stronger, so
    that a small crop falls to pieces; here it bends as a picture of 224 x 224 does.
    """
    height, width = picture.shape[:2]
    rows, columns = (factor * BEND * scale * smooth_noise(height, width, SOFTNESS * scale, rng) for _ in range(2))
    return warp(picture, rows, columns)


@kind("digital", 0.6, 0.5, 0.4, 0.3, 0.25)
def pixelate(picture: np.ndarray, share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk to a share of both sides and enlarged again, by boxes."""
    height, width = picture.shape[:2]
    image = _image(picture)
    image = image.resize((max(1, int(share * width)), max(1, int(share * height))), Image.Resampling.BOX)
    return _pixels(image.resize((width, height), Image.Resampling.BOX))


@kind("digital", 25, 18, 15, 10, 7)
def jpeg_compression(picture: np.ndarray, quality: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG of low quality, on top of whatever the file was stored with."""
    buffer = io.BytesIO()
    _image(picture).save(buffer, "JPEG", quality=quality)
    return _pixels(Image.open(buffer))


@kind("digital", (0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))
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


@kind("occlusion", 0.1, 0.2, 0.3, 0.4, 0.5)
def occlusion(picture: np.ndarray, share: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Something in front of the person: a patch over a share of the pixels, between 0 and 1. The levels are ours.

    The patch has the shape of the picture, a random color with cloudy texture, and lies anywhere inside. A larger share
    of the same picture covers what a smaller one did, around the same point.
    """
    height, width = picture.shape[:2]
    color, where = rng.random(3, np.float32), rng.random(2)
    patch = 0.8 * color + 0.2 * plasma(height, width, 1.8, rng)[..., None]
    tall, wide = (round(length * share**0.5) for length in (height, width))
    top, left = round((height - tall) * where[0]), round((width - wide) * where[1])
    covered = picture.copy()
    covered[top : top + tall, left : left + wide] = patch[top : top + tall, left : left + wide]
    return covered
