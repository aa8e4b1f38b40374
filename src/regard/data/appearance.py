"""How a training picture looks, changed at random: light, colors, sharpness, pixels, noise, compression.

Other cameras show the same clothes in other colors, softer, in fewer pixels, with noise. A network that has met such
pictures leans less on what one camera makes of a color. Nothing moves, so masks and keypoints stay where they are.

Shapes: H x W pixels of the picture. Everything takes and gives (H, W, 3) uint8, and rounds once.

Jitter: brightness, contrast and saturation are the blends of A. Howard, "Some Improvements on Deep Convolutional Neural
Network Based Image Classification", 2013, arXiv 1312.5402, towards black, the mean gray and each pixel's own gray; hue
turns around the hexagon of A. R. Smith, "Color Gamut Transform Pairs", SIGGRAPH 1978 (HSV).
"""

from __future__ import annotations

import functools
import io
import random
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from PIL import Image

from regard.data.corruptions.filters import gaussian
from regard.data.corruptions.kinds import GRAY
from regard.data.resizing import resize
from regard.errors import ConfigError

__all__ = ["Appearance", "add_noise", "blur", "compress", "jitter", "lower_resolution", "take_colors_out"]

HUE = 3
"""Place of the hue among the four that are jittered."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """What is drawn for a picture, in the order in which it happens to light on its way into a file.

    Attributes:
        jitter: brightness, contrast and saturation change by factors from 1 - x to 1 + x, hue by up to x of its circle
            either way; in an order that is drawn too.
        jitter_probability: of doing so.
        gray: probability of taking the colors out.
        blur: probability of a Gaussian blur.
        blur_sigma: range of its deviation in pixels.
        low_resolution: probability of shrinking the picture and enlarging it again.
        low_resolution_scale: range of the factor by which it is shrunk.
        noise: probability of normal noise.
        noise_deviation: range of its deviation, as a share of white.
        jpeg: probability of JPEG compression.
        jpeg_quality: range of its quality.

    Raises:
        ConfigError: an option is out of range.
    """

    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_probability: float = 1.0
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.3, 1.5)
    low_resolution: float = 0.0
    low_resolution_scale: tuple[float, float] = (0.25, 0.8)
    noise: float = 0.0
    noise_deviation: tuple[float, float] = (0.01, 0.08)
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (20, 80)

    def __post_init__(self):
        for name in ("jitter_probability", "gray", "blur", "low_resolution", "noise", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a probability; set it between 0 and 1")
        *blends, hue = self.jitter
        if not (all(0 <= one <= 1 for one in blends) and 0 <= hue <= 0.5):
            raise ConfigError(
                f"jitter is {list(self.jitter)}, expected brightness, contrast and saturation from 0 to 1 and hue from "
                "0 to 0.5, half of its circle; [0, 0, 0, 0] changes nothing"
            )
        bounds = {"blur_sigma": (0, 16), "low_resolution_scale": (0, 1), "noise_deviation": (0, 1)}
        for name, (least, most) in {**bounds, "jpeg_quality": (0, 100)}.items():
            low, high = getattr(self, name)
            if not least < low <= high <= most:
                raise ConfigError(f"{name} is [{low}, {high}], expected {least} < low <= high <= {most}")

    @property
    def changes(self) -> bool:
        """Whether anything can happen to a picture."""
        jittered = self.jitter_probability > 0 and any(self.jitter)
        return jittered or any((self.gray, self.blur, self.low_resolution, self.noise, self.jpeg))

    def __call__(self, picture: np.ndarray, generator: random.Random) -> np.ndarray:
        """Change one (H, W, 3) uint8 picture; the one given stays as it is.

        Args:
            picture: of the size of the network's input, so that lengths are in its pixels.
            generator: source of every draw.
        """
        if any(self.jitter) and generator.random() < self.jitter_probability:
            picture = jitter(picture, *self._draw_jitter(generator))
        if self.gray and generator.random() < self.gray:
            picture = take_colors_out(picture)
        if self.blur and generator.random() < self.blur:
            picture = blur(picture, _draw(generator, self.blur_sigma))
        if self.low_resolution and generator.random() < self.low_resolution:
            picture = lower_resolution(picture, _draw(generator, self.low_resolution_scale))
        if self.noise and generator.random() < self.noise:
            deviation = _draw(generator, self.noise_deviation)
            picture = add_noise(picture, deviation, generator.randbytes(picture.size))
        if self.jpeg and generator.random() < self.jpeg:
            picture = compress(picture, round(_draw(generator, self.jpeg_quality)))
        return picture

    def _draw_jitter(self, generator: random.Random) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """By how much each of the four changes, and in what order: eight random numbers, whatever the ranges."""
        amounts = [(2 * generator.random() - 1) * reach for reach in self.jitter]
        keys = [generator.random() for _ in self.jitter]
        return tuple(amounts), tuple(sorted(range(len(keys)), key=keys.__getitem__))


def _draw(generator: random.Random, bounds: tuple[float, float]) -> float:
    """Uniform between the bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * generator.random()


def jitter(picture: np.ndarray, amounts: tuple[float, ...], order: tuple[int, ...]) -> np.ndarray:
    """Change brightness, contrast, saturation and hue, one after the other; each stays between black and white.

    Args:
        picture: (H, W, 3) uint8.
        amounts: factors less 1 of the first three, and the part of the circle that hue turns by.
        order: which of them (0 to 3) comes when.
    """
    pixels = np.ascontiguousarray(picture.reshape(-1, 3).T, np.float32)
    for one in order:
        amount = np.float32(amounts[one])
        if not amount:
            continue
        if one == HUE:
            pixels = _turn_hue(pixels, amount)
            continue
        if one:  # towards gray: x + a (x - gray) = (1 + a) x - a gray
            gray = luma(pixels)
            shift = -amount * (gray.mean() if one == 1 else gray)
        pixels *= 1 + amount
        if one:
            pixels += shift
        np.maximum(np.minimum(pixels, 255, out=pixels), 0, out=pixels)
    pixels += np.float32(0.5)
    return np.ascontiguousarray(pixels.astype(np.uint8).T).reshape(picture.shape)


def luma(pixels: np.ndarray) -> np.ndarray:
    """(3, n) float32 red, green, blue -> (n,) gray."""
    red, green, blue = GRAY[:, None] * pixels
    red += green
    red += blue
    return red


def _turn_hue(pixels: np.ndarray, turn: np.float32) -> np.ndarray:
    """Turn (3, n) float32 red, green, blue by a part of the circle; a pixel's largest and smallest stay."""
    red, green, blue = pixels
    most = np.maximum(np.maximum(red, green), blue)
    least = np.minimum(np.minimum(red, green), blue)
    spread = most - least
    scale = np.reciprocal(np.maximum(spread, np.float32(1e-6)))
    sixths = np.where(most == green, (blue - red) * scale + 2, (red - green) * scale + 4)
    sixths = np.where(most == red, (green - blue) * scale, sixths)
    sixths += 6 * turn
    sixths -= 6 * np.floor(sixths * np.float32(1 / 6))
    turned = np.abs(sixths - np.array([[3], [2], [4]], np.float32))
    turned *= np.array([[1], [-1], [-1]], np.float32)
    turned += np.array([[-1], [2], [2]], np.float32)
    turned = np.maximum(np.minimum(turned, 1, out=turned), 0, out=turned)
    turned *= spread
    turned += least
    return turned


def take_colors_out(picture: np.ndarray) -> np.ndarray:
    """Give every pixel of an (H, W, 3) uint8 picture its gray, three times."""
    gray = luma(np.ascontiguousarray(picture.reshape(-1, 3).T, np.float32)) + np.float32(0.5)
    return np.repeat(gray.astype(np.uint8), 3).reshape(picture.shape)


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Blur an (H, W, 3) uint8 picture by a Gaussian of deviation ``sigma`` pixels; edges are repeated beyond."""
    return (gaussian(picture.astype(np.float32), sigma) + np.float32(0.5)).astype(np.uint8)


def lower_resolution(picture: np.ndarray, scale: float) -> np.ndarray:
    """Shrink an (H, W, 3) uint8 picture to ``scale`` of its height and width, antialiased, and enlarge it again."""
    height, width = picture.shape[:2]
    small = resize(picture, max(1, round(height * scale)), max(1, round(width * scale)))
    return resize(small, height, width)


def add_noise(picture: np.ndarray, deviation: float, draws: bytes) -> np.ndarray:
    """Add normal noise to every value of an (H, W, 3) uint8 picture.

    Args:
        picture: of n values.
        deviation: as a share of white.
        draws: n bytes, each an even choice among 256 equally likely parts of the normal distribution, which reaches 2.9
            deviations.
    """
    noise = (255 * deviation * normal_parts() + 0.5).astype(np.float32).take(np.frombuffer(draws, np.uint8))
    noise = noise.reshape(picture.shape)
    noise += picture
    return np.maximum(np.minimum(noise, 255, out=noise), 0, out=noise).astype(np.uint8)


@functools.cache
def normal_parts() -> np.ndarray:
    """Middles of 256 equally likely parts of a distribution that is normal but for its ends: mean 0, deviation 1."""
    middles = np.array([NormalDist().inv_cdf((part + 0.5) / 256) for part in range(256)])
    return middles / middles.std()


def compress(picture: np.ndarray, quality: int) -> np.ndarray:
    """Write an (H, W, 3) uint8 picture as JPEG of a quality from 1 to 100, and read it again."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))
