"""Resizing pictures to a network's input, with torch or without it, to the same bytes.

Shapes: H x W pixels of the network's input, h x w of a stored picture, K pixels that make one of the other size.
"""

from __future__ import annotations

import functools
import math
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from regard.errors import ConfigError, DataError
from regard.input_spec import InputSpec, Interpolation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TestTransform", "check_input", "mirror", "resample", "resize"]


def resize(
    picture: np.ndarray,
    height: int,
    width: int,
    *,
    mask: bool = False,
    interpolation: Interpolation = "bilinear",
    flip: bool = False,
) -> np.ndarray:
    """Resize, ignoring the aspect: antialiased, or nearest neighbor for a mask.

    Values are Pillow's, which every system here was trained on: bicubic by Pillow itself, bilinear to one gray level
    (two in rare pixels of pure noise). Torch computes bilinear where it has been imported, for it is fast;
    :func:`resample` gives the same bytes without.

    Args:
        picture: (h, w, C) or (h, w) uint8.
        mask: take the nearest neighbor.
        interpolation: of anything but a mask.
        flip: swap left and right of the result. Where a width grows bilinearly, the small picture is mirrored instead,
            which gives the same pixels.

    Returns:
        (H, W, C) or (H, W) uint8; the picture itself where it has that size and is not flipped.

    Raises:
        DataError: the picture has no pixels, as the crop of a box beyond its frame.
    """
    if 0 in picture.shape[:2]:
        raise DataError(
            f"got a picture of {picture.shape[0]} x {picture.shape[1]} pixels (height x width), wanted at least 1 x 1; "
            "leave out boxes without area or outside their frame"
        )
    if picture.shape[:2] == (height, width):
        return mirror(picture) if flip else picture
    if not mask and (interpolation == "bicubic" or "torch" not in sys.modules):
        other = resample_bicubic if interpolation == "bicubic" else resample
        image = other(np.atleast_3d(picture), height, width).reshape(height, width, *picture.shape[2:])
        return mirror(image) if flip else image
    from torch.nn import functional

    image = as_tensor(picture)
    first = flip and not mask and width >= picture.shape[1]
    if first:
        image = image.flip(3)
    mode = "nearest-exact" if mask else "bilinear"
    image = functional.interpolate(image, (height, width), mode=mode, antialias=not mask)
    if flip and not first:
        image = image.flip(3)
    return as_array(image).reshape(height, width, *picture.shape[2:])


def mirror(picture: np.ndarray) -> np.ndarray:
    """Swap left and right of an (h, w, C) or (h, w) picture; torch is several times faster than a negative stride."""
    if "torch" not in sys.modules:
        return np.ascontiguousarray(picture[:, ::-1])
    return as_array(as_tensor(picture).flip(3)).reshape(picture.shape)


def as_tensor(picture: np.ndarray) -> Tensor:
    """(1, C, h, w) view of an (h, w, C) or (h, w) picture, channels last in memory; a copy of one not writable."""
    if picture.ndim < 3 or not (picture.flags.c_contiguous and picture.flags.writeable):
        picture = np.require(np.atleast_3d(picture), requirements=["C", "W"])
    import torch

    return torch.from_numpy(picture).unsqueeze(0).permute(0, 3, 1, 2)


def as_array(image: Tensor) -> np.ndarray:
    """(h, w, C) view of a (1, C, h, w) tensor."""
    return image.numpy()[0].transpose(1, 2, 0)


def resample_bicubic(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's bicubic pixels of an (h, w, C) uint8 picture, C of 1 or 3; (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    seen = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    return np.array(seen.resize((width, height), Image.Resampling.BICUBIC))


def resample(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """What ``torch.nn.functional.interpolate(antialias=True)`` makes of bytes bilinearly, to the last: widths first.

    Args:
        picture: (h, w, C) uint8.
        height, width: H and W.

    Returns:
        (H, W, C) uint8.
    """
    wide = resample_rows(picture, width)
    return np.ascontiguousarray(resample_rows(wide.transpose(1, 0, 2), height).transpose(1, 0, 2))


def resample_rows(picture: np.ndarray, width: int) -> np.ndarray:
    """(h, W, C) uint8 of an (h, w, C) one, whose sums are whole numbers that are rounded once."""
    if picture.shape[1] == width:
        return picture
    first, weights, bits = taps(picture.shape[1], width)
    sums = np.full((len(picture), width, picture.shape[2]), 1 << bits >> 1, np.int32)
    for step, weight in enumerate(weights):
        pixels = picture.take(np.minimum(first + step, picture.shape[1] - 1), axis=1)
        sums += pixels * weight[:, None]
    return (sums >> bits).clip(0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=32)
def taps(size: int, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Which of ``size`` pixels make each of ``width``, and with what weights.

    Returns:
        (W,) the first pixel of each; (K, W) int32 weights of it and of those behind it, in units of 2 to the power of
        minus the last number returned, so that the largest takes 15 bits.
    """
    scale = size / width
    support, sharpness = (scale, 1 / scale) if scale >= 1 else (1.0, 1.0)
    most, center = 2 * math.ceil(support) + 1, scale * (np.arange(width) + 0.5)
    first = (center - support + 0.5).astype(np.int64).clip(0)
    count = (np.minimum((center + support + 0.5).astype(np.int64), size) - first).clip(0, most)
    steps = np.arange(most)[:, None]
    weights = np.where(steps < count, triangle((steps + first - center + 0.5) * sharpness), 0.0)
    total = functools.reduce(np.add, weights)  # in order: a sum by halves rounds otherwise
    weights = np.divide(weights, total, out=weights, where=total != 0)
    largest = weights.max()
    bits = next((bits for bits in range(22) if int(0.5 + largest * (1 << (bits + 1))) >= 1 << 15), 22)
    scaled = weights * (1 << bits)
    return first, np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32), bits


def triangle(x: np.ndarray) -> np.ndarray:
    """The bilinear kernel."""
    return (1 - np.abs(x)).clip(0)


@dataclass(frozen=True, slots=True)
class TestTransform:
    """Resize only: the side of query and gallery.

    Attributes:
        height, width: H and W of the network's input.
        interpolation: how the picture is resized; descriptors want the one the network was trained with.

    Raises:
        ConfigError: a size below 1, or no such interpolation.
    """

    __test__ = False

    height: int
    width: int
    interpolation: Interpolation = "bilinear"

    def __post_init__(self):
        check_input(self.height, self.width, self.interpolation)

    @classmethod
    def of(cls, seen: InputSpec) -> TestTransform:
        """Return the transform to what a network sees."""
        return cls(seen.height, seen.width, seen.interpolation)

    def __call__(
        self, picture: np.ndarray, generator: random.Random | None = None, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Resize one (h, w, 3) uint8 picture to (3, H, W), a view of an (H, W, 3) array; nothing is random."""
        resized = resize(picture, self.height, self.width, interpolation=self.interpolation)
        if out is not None:
            out[:] = resized
        return resized.transpose(2, 0, 1)


def check_input(height: int, width: int, interpolation: str) -> None:
    """Check how pictures are to be resized.

    Raises:
        ConfigError: to no pixels, or by an interpolation that there is not.
    """
    if height < 1 or width < 1:
        raise ConfigError(f"input size is {height} x {width} (height x width); set both to 1 or more")
    if interpolation not in get_args(Interpolation):
        raise ConfigError(f"interpolation is {interpolation!r}; choose {' or '.join(get_args(Interpolation))}")
