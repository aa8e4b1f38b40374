"""From pictures to network input: resize, flip, colors, pad and crop, random erasing, normalization.

Shapes: H x W pixels of the network's input, h x w of a stored picture or of a box in it, B images in a batch.

Pictures are (h, w, 3) uint8 arrays until the batch is on the device, where :func:`normalize` makes floats of all of
them at once. What happens to a training picture is drawn first, as a :class:`Geometry` and a :class:`Box`, and then
applied, so that a mask or keypoints can follow the same way. What moves nothing (:mod:`regard.data.appearance`) is
drawn after these. Every draw comes from the ``random.Random`` given.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from regard.data.image import Picture, read_picture
from regard.data.resizing import TestTransform, check_input, mirror, resize
from regard.errors import ConfigError, UnknownNameError
from regard.input_spec import IMAGENET_MEAN, IMAGENET_STD, MINDSPORE_MEAN, InputSpec, Interpolation

__all__ = [
    "IMAGENET_MEAN", "IMAGENET_STD", "Box", "Color", "ErasingFill", "Geometry", "Interpolation", "PadFill",
    "TestTransform", "TrainTransform", "draw_box", "draw_geometry", "erase", "erasing_color", "network_input",
    "normalize", "resize",
]  # fmt: skip

Color = Literal["rgb", "bgr"]
ErasingFill = Literal["mean", "released", "mindspore", "random", "normal"]
PadFill = Literal["black", "mean"]

ERASING_TRIES = 100

MINDSPORE_HOLE = (0.4914, 0.4822, 0.4465)
"""What DAAF's MindSpore code writes into the normalized picture where it erases a box."""

BLOCK = 1 << 18
"""Values that a CPU normalizes at a time: a megabyte of floats."""


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a picture already resized becomes the training crop: flipped, padded on all sides, cropped to H x W.

    Attributes:
        height, width: H and W.
        flip: whether left and right are swapped.
        pad: pixels added on every side.
        top, left: upper left corner of the crop in the padded picture.
        enlarged: height and width the picture was resized to; None is H and W, anything else is larger.
    """

    height: int
    width: int
    flip: bool = False
    pad: int = 0
    top: int = 0
    left: int = 0
    enlarged: tuple[int, int] | None = None

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width of the picture before it is flipped, padded and cropped."""
        return self.enlarged or (self.height, self.width)

    def warp(self, picture: np.ndarray, fill: int | np.ndarray = 0) -> np.ndarray:
        """Apply to a picture or a mask.

        Args:
            picture: of the size ``resized``, with or without a last axis of channels.
            fill: value, or one per channel, of what lies outside the picture.

        Returns:
            (H, W) or (H, W, C), a new array of the same type.
        """
        return self.crop(mirror(picture) if self.flip else picture, fill)

    def crop(self, picture: np.ndarray, fill: int | np.ndarray = 0, out: np.ndarray | None = None) -> np.ndarray:
        """:meth:`warp` without the flip, to ``out`` where that is given: (H, W) or (H, W, C) of the picture's type."""
        height, width = self.resized
        down, right = self.pad - self.top, self.pad - self.left
        crop = np.empty((self.height, self.width, *picture.shape[2:]), picture.dtype) if out is None else out
        crop[:] = fill
        above, below = covered(down, height, self.height)
        before, after = covered(right, width, self.width)
        crop[above:below, before:after] = picture[above - down : below - down, before - right : after - right]
        return crop

    def move(self, points: np.ndarray, stored: tuple[int, int]) -> np.ndarray:
        """Apply to points of the stored picture, its resizing included.

        Args:
            points: (n, 2) x and y of points in pixels, whole numbers being pixel centers.
            stored: height and width of the stored picture.

        Returns:
            (n, 2) positions in the crop, possibly outside of it. Which joint is the left one is the caller's concern.
        """
        height, width = self.resized
        moved = (points + 0.5) * (np.array([width, height]) / np.array(stored[::-1])) - 0.5
        if self.flip:
            moved[:, 0] = width - 1 - moved[:, 0]
        return moved + np.array([self.pad - self.left, self.pad - self.top])


def covered(shift: int, length: int, room: int) -> tuple[int, int]:
    """First and end of where ``range(length)`` lies in ``range(room)`` after moving by ``shift``; equal for nowhere."""
    first = min(max(shift, 0), room)
    return first, max(first, min(shift + length, room))


def draw_geometry(
    generator: random.Random, height: int, width: int, *,
    flip: float = 0.5, pad: int = 10, enlarged: tuple[int, int] | None = None,
) -> Geometry:  # fmt: skip
    """Draw flip (with the given probability) and crop position (uniform); always takes three random numbers."""
    flipped = generator.random() < flip
    resized = enlarged or (height, width)
    top = draw_integer(generator, 2 * pad + resized[0] - height)
    left = draw_integer(generator, 2 * pad + resized[1] - width)
    return Geometry(height, width, flipped, pad, top, left, enlarged)


def draw_box(
    generator: random.Random, height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]
) -> Box | None:
    """Draw the rectangle to erase (Zhong et al.: Random Erasing Data Augmentation, AAAI 2020).

    Area (as a fraction of H * W) and ratio h / w are uniform in their ranges, drawn anew up to 100 times until the
    box is smaller than the picture both ways (and not empty, as it could be in a tiny one).

    Returns:
        The box, or None when none fitted.
    """
    for _ in range(ERASING_TRIES):
        pixels = height * width * draw_float(generator, *area)
        aspect = draw_float(generator, *ratio)
        h, w = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < h < height and 0 < w < width:
            return Box(draw_integer(generator, height - h), draw_integer(generator, width - w), h, w)
    return None


def draw_float(generator: random.Random, low: float, high: float) -> float:
    """Uniform between ``low`` and ``high``."""
    return low + (high - low) * generator.random()


def draw_integer(generator: random.Random, most: int) -> int:
    """Uniform among 0 .. ``most``, by the one method of ``random.Random`` whose stream Python promises to keep."""
    return int(generator.random() * (most + 1))


def erase(picture: np.ndarray, box: Box, color: np.ndarray, generator: random.Random) -> None:
    """Paint a box of a picture over, in place.

    Args:
        picture: (H, W, 3) uint8.
        color: (3,) uint8, or (256, 3) to paint noise: every value is one of its channel's 256, drawn evenly.
        generator: source of the noise.
    """
    top, left, height, width = box
    hole = picture[top : top + height, left : left + width]
    if color.ndim == 2:
        noise = np.frombuffer(generator.randbytes(height * width * 3), np.uint8).reshape(height, width, 3)
        hole[:] = color[noise, np.arange(3)]
    else:
        hole[0] = color
        hole[1:] = hole[0]  # whole rows: several times faster than pixel by pixel


@functools.lru_cache(maxsize=16)
def erasing_color(fill: ErasingFill, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """Color of an erased box, in gray levels: (3,), or (256, 3) to draw noise from.

    ``mean`` is the mean color, zero after normalization up to the rounding to a gray level. ``released`` is what the
    released code of APNet, MSEA and DAAF paints: the mean's values written into the already normalized picture, hence
    the color mean + std * mean. ``mindspore`` is that of DAAF's MindSpore code, which takes off one mean, whatever
    ``mean`` is here, and writes another. ``random`` is uniform noise. ``normal`` is noise that is N(0, 1) after
    normalization, as far as black and white let it: what SA's code paints.
    """
    if fill == "random":
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    center, spread = np.asarray(mean), np.asarray(std)
    match fill:
        case "mean":
            color = center
        case "released":
            color = center * (1 + spread)
        case "mindspore":
            color = np.asarray(MINDSPORE_MEAN) + spread * MINDSPORE_HOLE
        case "normal":
            middles = [NormalDist().inv_cdf((part + 0.5) / 256) for part in range(256)]  # of equally likely parts
            color = center + spread * np.array(middles)[:, None]
    return np.rint(255 * color).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class TrainTransform:
    """Resize, flip, change colors, pad and crop, erase: the training side.

    Attributes:
        height, width: H and W of the network's input.
        flip: probability of swapping left and right.
        pad: pixels added on every side before cropping to H x W.
        pad_fill: color of the padding.
        erasing: probability of erasing a box.
        erasing_fill: what the box is painted with, see :func:`erasing_color`.
        erasing_area: range of its area as a fraction of the picture.
        erasing_ratio: range of its height / width.
        mean, std: of the pixels, in fractions of white, as the network's normalization has them.
        enlarge: the picture is resized to this many times H x W first; the random crop takes H x W of it.
        interpolation: how it is resized.
        enlarge_probability: of being enlarged; the others are resized to H x W at once.
        appearance: from the resized picture and the source of draws to one that looks otherwise, such as
            :class:`regard.data.appearance.Appearance`; None leaves it. Padding and erased boxes stay as they are.

    Raises:
        ConfigError: an option is out of range.
    """

    height: int
    width: int
    flip: float = 0.5
    pad: int = 10
    pad_fill: PadFill = "black"
    erasing: float = 0.5
    erasing_fill: ErasingFill = "mean"
    erasing_area: tuple[float, float] = (0.02, 0.4)
    erasing_ratio: tuple[float, float] = (0.3, 1 / 0.3)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    enlarge: float = 1.0
    interpolation: Interpolation = "bilinear"
    enlarge_probability: float = 1.0
    appearance: Callable[[np.ndarray, random.Random], np.ndarray] | None = None

    def __post_init__(self):
        check_input(self.height, self.width, self.interpolation)
        if not self.enlarge >= 1:
            raise ConfigError(f"enlarge is {self.enlarge}, expected 1 or more; set it to 1 to crop nothing away")
        for name in ("flip", "erasing", "enlarge_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a probability; set it between 0 and 1")
        if self.pad < 0:
            raise ConfigError(f"pad is {self.pad} pixels, expected 0 or more; set it to 0 for no padding")
        for name, most in (("erasing_area", 1.0), ("erasing_ratio", math.inf)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise ConfigError(f"{name} is ({low}, {high}), expected 0 < low <= high <= {most:g}; order the range")
        for name, choices in (("pad_fill", get_args(PadFill)), ("erasing_fill", get_args(ErasingFill))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; choose {' or '.join(choices)}")

    def __call__(self, picture: np.ndarray, generator: random.Random, out: np.ndarray | None = None) -> np.ndarray:
        """Augment one picture.

        Args:
            picture: (h, w, 3) uint8.
            generator: source of every draw; the geometry is drawn first.
            out: (H, W, 3) uint8 to put it into; None makes a new one.

        Returns:
            (3, H, W) uint8, a view of an (H, W, 3) array.
        """
        geometry = self.draw_geometry(generator)
        fill = erasing_color("mean", self.mean, self.std) if self.pad_fill == "mean" else 0
        box = self.draw_erasing(generator)
        resized = resize(picture, *geometry.resized, interpolation=self.interpolation, flip=geometry.flip)
        if self.appearance:
            resized = self.appearance(resized, generator)
        crop = geometry.crop(resized, fill, out)
        if box is not None:
            erase(crop, box, erasing_color(self.erasing_fill, self.mean, self.std), generator)
        return crop.transpose(2, 0, 1)

    def draw_geometry(self, generator: random.Random) -> Geometry:
        """The first draw of a call: with a generator of the same seed, masks and keypoints follow the picture."""
        enlarged = None
        if self.enlarge > 1 and (self.enlarge_probability == 1 or generator.random() < self.enlarge_probability):
            enlarged = round(self.height * self.enlarge), round(self.width * self.enlarge)
        return draw_geometry(generator, self.height, self.width, flip=self.flip, pad=self.pad, enlarged=enlarged)

    def draw_erasing(self, generator: random.Random) -> Box | None:
        """The second draw of a call: the box to erase, None for none."""
        if generator.random() >= self.erasing:
            return None
        return draw_box(generator, self.height, self.width, self.erasing_area, self.erasing_ratio)


def network_input(
    pictures: Iterable[Picture], seen: InputSpec, device: torch.device | str = "cpu", color: Color = "rgb"
) -> Tensor:
    """Read, resize, stack and normalize pictures: the one way for files, Pillow's images and arrays.

    Args:
        pictures: at least one, as :func:`~regard.data.image.read_picture` takes them.
        seen: what the network sees.
        device: where the batch is to be.
        color: order of the channels of arrays; files and Pillow's images say theirs themselves.

    Returns:
        (B, 3, H, W) float32, channels last in memory.

    Raises:
        UnknownNameError: there is no such order.
        DataError: one cannot be read, or is none.
    """
    if color not in get_args(Color):
        raise UnknownNameError("order of colors", color, get_args(Color))
    read = [
        read_picture(each)[:, :, :: -1 if color == "bgr" and isinstance(each, np.ndarray) else 1] for each in pictures
    ]
    resized = np.stack([resize(pixels, *seen.size, interpolation=seen.interpolation) for pixels in read])
    return normalize(torch.from_numpy(resized).to(device).permute(0, 3, 1, 2), seen.mean, seen.std)


def normalize(images: Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Tensor:
    """Make network input of a batch: (images / 255 - mean) / std, on the batch's device and in its memory format.

    Rows of pixels at a time where the channels lie next to one another: five times faster on a CPU than three channels
    at a time. A CPU takes as many rows as its cache holds.

    Args:
        images: (B, 3, H, W) uint8; floats count as normalized already and come back as they are.
        mean, std: per channel, in fractions of white.

    Returns:
        (B, 3, H, W) float32.
    """
    if images.is_floating_point():
        return images
    scale, shift = affine(tuple(mean), tuple(std), images.device)
    if not images.is_contiguous(memory_format=torch.channels_last):
        return images.float().mul_(scale).add_(shift)
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(batch * height, width * channels)
    scale, shift = scale.flatten().repeat(width), shift.flatten().repeat(width)
    out = torch.empty(rows.shape, device=rows.device)
    block = max(1, BLOCK // rows.shape[1]) if rows.device.type == "cpu" else len(rows)
    for pixels, place in zip(rows.split(block), out.split(block)):
        torch.add(pixels.float().mul_(scale), shift, out=place)
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=16)
def affine(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift, each (3, 1, 1), of the normalization; kept per device, as each copy there stalls its queue."""
    with torch.inference_mode(False):
        scale = torch.tensor([1 / (255 * s) for s in std], device=device)
        shift = torch.tensor([-m / s for m, s in zip(mean, std)], device=device)
    return scale[:, None, None], shift[:, None, None]
