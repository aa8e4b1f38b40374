"""What is too small to be seen: maps whose numbers come from rounding alone are empty, not attention.

A map is stretched to its own range before it is drawn, so that rounding would look like heat wherever there is nothing
else: between two equal pictures, or in a gate that is the same everywhere. Everything that stretches a map asks here
first. Numbers are rounded twice: pictures to whole gray levels when they are resized, and every sum to the digits of
its type. Pictures that are nowhere further apart than one gray level are the same picture, and a map that is not
clearly above what rounding does to it is all zero; it is labeled ``NOTHING``.

Shapes: B pictures, 3 x H x W pixels, h x w positions of a map.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from regard.data.transforms import IMAGENET_STD
from regard.precision import DIGITS, precision_of

__all__ = [
    "LEVELS",
    "NOTHING",
    "above",
    "alike",
    "rounded_otherwise",
    "rounding",
    "summed_otherwise",
    "varies",
]

NOTHING = "nothing above rounding"
"""What is written beside an empty map."""

LEVELS = 2
"""How many times as high a map has to be as the map of a picture and itself, rounded otherwise."""

LEVEL = tuple(1 / 255 / deviation for deviation in IMAGENET_STD)
"""One gray level of a normalized picture, per channel."""


def rounding(kind: np.dtype) -> float:
    """How far apart equal numbers can be by rounding, as a share of them; networks compute in float32 at best."""
    own = np.finfo(kind).eps if kind.kind == "f" else 0
    return float(DIGITS * max(own, np.finfo(np.float32).eps))


def varies(values: np.ndarray) -> bool:
    """Whether the numbers of an array differ by more than rounding."""
    low, high = float(values.min()), float(values.max())
    return high - low > rounding(values.dtype) * max(abs(low), abs(high))


def above(maps: Tensor, floor: Tensor) -> Tensor:
    """Maps divided by their highest number, all zero where that is not above the floor.

    Args:
        maps: (B, h, w), not negative.
        floor: (B,) how high rounding alone may be.

    Returns:
        (B, h, w) in [0, 1].
    """
    peak, floor = maps.amax(dim=(1, 2), keepdim=True), floor.to(maps.dtype)[:, None, None]
    return torch.where(peak > floor, maps / peak.clamp_min(torch.finfo(maps.dtype).tiny), 0.0)


def rounded_otherwise(images: Tensor) -> Tensor:
    """Normalized pictures (B, 3, H, W), each number half a gray level up or down: what rounding may make of them."""
    return images + images.new_tensor(LEVEL)[:, None, None] * _signs(images) / 2


def summed_otherwise(descriptors: Tensor) -> Tensor:
    """Descriptors (B, D), each number up or down by what the digits of its type do to it."""
    return descriptors * (1 + DIGITS * precision_of(descriptors) * _signs(descriptors))


def _signs(values: Tensor) -> Tensor:
    """-1 or 1 at random, the same for everything in a batch and at every call."""
    return 2 * torch.rand(values.shape[1:], generator=torch.Generator().manual_seed(0)).round().to(values) - 1


def alike(images: Tensor, others: Tensor) -> Tensor:
    """Whether normalized pictures (B, 3, H, W) are nowhere further apart than one gray level, (B,)."""
    apart = (images - others).abs() / images.new_tensor(LEVEL)[:, None, None]
    return apart.amax(dim=(1, 2, 3)) < 1.01  # of a level: numbers are rounded too
