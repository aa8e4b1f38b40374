"""Weather: snow, frost, fog, sunlight, spatter on the lens, rain.

Levels are those of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), lengths in pixels of its 224 x 224 pictures, and
for rain those of Chen et al. ("Benchmarks for Corruption Invariant Person Re-identification", NeurIPS 2021 Datasets and
Benchmarks), lengths in pixels of a 128 x 64 crop. Lengths are multiplied by ``scale``.

Departures:

- Frost: ImageNet-C lays photographs of frozen windows over the picture. Here the windows are drawn: ferns of ice over
  a veil, so that nothing has to be downloaded. Weights are as published, textures are not.
- Fog: a fractal of the published roughness, made from its spectrum instead of by diamond-square.
- Spatter: drops cover as much as published at every size; what shines on water is the slope of a drop toward one
  side, which takes the place of a chain of edge detection, distance transform and embossing.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from regard.data.corruptions.filters import gaussian, plasma, resample, smooth_noise, streak
from regard.data.corruptions.kind import Kind

__all__ = ["KINDS"]

GRAY = np.array([0.299, 0.587, 0.114], np.float32)
WATER = np.array([175, 238, 238], np.float32) / 255
MUD = np.array([63, 42, 20], np.float32) / 255
ICE = np.array([0.86, 0.93, 1.0], np.float32)
DROP = np.float32(200 / 255)
RAIN_PIXELS = 128 * 64
"""Pixels of the crop that the levels of rain are for."""


def snow(picture: np.ndarray, level: tuple[float, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Whitened, with flakes in front that leave streaks, and the same turned by half a circle.

    Args:
        picture: the picture.
        level: mean and deviation of the noise flakes are cut from, their size, the threshold, radius and deviation of
            the streaks, and the share of the picture that is not whitened.
        scale: of lengths.
        rng: source of draws.
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


def frost(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Ice added to the picture, a part of one of six windows: weight of the picture, weight of the ice."""
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
    ferns = np.asarray(sheet.resize((side, side), Image.Resampling.BOX), np.float32) / 255
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


def fog(picture: np.ndarray, level: tuple[float, float], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A fractal added, of given amount and decay, and the sum brought back to the old brightest value."""
    amount, decay = level
    height, width = picture.shape[:2]
    brightest = picture.max()
    cloud = plasma(height, width, decay, rng)
    return (picture + amount * cloud[..., None]) * brightest / (brightest + amount)


def brightness(picture: np.ndarray, amount: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """HSV value raised; hue and saturation stay."""
    value = picture.max(-1, keepdims=True)
    wanted = np.minimum(value + amount, 1)
    return np.where(value > 0, picture * (wanted / np.maximum(value, 1e-6)), wanted)


def spatter(
    picture: np.ndarray, level: tuple[float, float, float, float, float, bool], scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Drops of water (severities 1 to 3) or mud (4 and 5) on the lens.

    Args:
        picture: the picture.
        level: mean and deviation of noise, the deviation of the blur it goes through, and the threshold above which
            drops are; brightness of water or softness of mud; whether it is mud.
        scale: of lengths.
        rng: source of draws.
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


def rain(
    picture: np.ndarray, level: tuple[float, float, float, float], scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Slanted gray drops, a box blur, and less light.

    Args:
        picture: the picture.
        level: pixels (of 128 x 64) per drop, length of a drop, width of the blur, light taken away.
        scale: of lengths.
        rng: source of draws.
    """
    room, length, blur, darker = level
    height, width = picture.shape[:2]
    image = Image.fromarray(np.rint(255 * picture).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    slant = rng.uniform(-10, 10) * scale
    gray = (round(255 * float(DROP)),) * 3
    for _ in range(round(height * width / max(room * scale**2, 1e-6))):
        x, y = rng.uniform(-abs(slant), width + abs(slant)), rng.uniform(-length * scale / 2, height)
        pen.line([x, y, x + slant, y + length * scale], fill=gray, width=max(1, round(scale)))
    image = image.filter(ImageFilter.BoxBlur((blur - 1) / 2 * scale))
    return np.asarray(image, np.float32) / 255 - darker


KINDS = (
    Kind(
        "snow",
        "weather",
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        snow,
    ),
    Kind("frost", "weather", ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), frost),
    Kind("fog", "weather", ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)), fog),
    Kind("brightness", "weather", (0.1, 0.2, 0.3, 0.4, 0.5), brightness),
    Kind(
        "spatter",
        "weather",
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
        spatter,
    ),
    Kind(
        "rain",
        "weather",
        ((770, 10, 3, 0.1), (600, 30, 4, 0.15), (600, 30, 5, 0.2), (500, 60, 6, 0.25), (500, 60, 7, 0.3)),
        rain,
        RAIN_PIXELS**0.5,
    ),
)
