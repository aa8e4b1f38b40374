"""From whatever shows a person to a network's input: the one way there for files, Pillow's images and arrays.

Shapes: N pictures, h x w pixels of one, H x W of the network's input.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regard.data.image import Picture, read_picture
from regard.data.transforms import TestTransform, normalize
from regard.errors import DataError, UnknownNameError
from regard.input_spec import InputSpec

__all__ = ["Color", "listed", "network_input"]

Color = Literal["rgb", "bgr"]


def network_input(
    pictures: Iterable[Picture], seen: InputSpec, device: torch.device | str = "cpu", color: Color = "rgb"
) -> Tensor:
    """Read, resize, stack and normalize pictures.

    Args:
        pictures: at least one, as :func:`read_picture` takes them.
        seen: what the network sees.
        device: where the batch is to be.
        color: order of the channels of arrays; files and Pillow's images say theirs themselves.

    Returns:
        (N, 3, H, W) float32, channels last in memory.

    Raises:
        UnknownNameError: there is no such order.
        DataError: one cannot be read, or is none.
    """
    if color not in get_args(Color):
        raise UnknownNameError("order of colors", color, get_args(Color))
    transform = TestTransform.of(seen)
    read = [
        read_picture(each)[:, :, :: -1 if color == "bgr" and isinstance(each, np.ndarray) else 1] for each in pictures
    ]
    resized = np.stack([transform(pixels).transpose(1, 2, 0) for pixels in read])
    return normalize(torch.from_numpy(resized).to(device).permute(0, 3, 1, 2), seen.mean, seen.std)


def listed(pictures: Any) -> list[Picture]:
    """Return several pictures as a list.

    Raises:
        DataError: it is one picture, or no list of anything.
    """
    one = isinstance(pictures, str | Path | Image.Image) or (isinstance(pictures, np.ndarray) and pictures.ndim < 4)
    if one or isinstance(pictures, bytes) or not isinstance(pictures, Iterable):
        given = "one picture" if one else type(pictures).__name__
        raise DataError(f"got {given}, wanted a list of pictures; put it in [ ]")
    return list(pictures)
