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

from regard.data.image import read_image, upright_rgb
from regard.data.transforms import TestTransform, normalize
from regard.errors import DataError, UnknownNameError
from regard.input_spec import InputSpec

__all__ = ["Color", "Picture", "listed", "network_input", "read_picture"]

Picture = str | Path | Image.Image | np.ndarray
Color = Literal["rgb", "bgr"]

WANTED = "a path, a Pillow image or an (h, w, 3) uint8 array"


def read_picture(item: Picture, color: Color = "rgb", name: str = "the picture") -> np.ndarray:
    """Return the pixels of one picture.

    Args:
        item: the path of a file; a Pillow image of any mode, turned upright by its EXIF orientation as a file is; or an
            (h, w, 3) uint8 array.
        color: order of an array's channels; files and Pillow's images say theirs themselves.
        name: what to call it in an error.

    Returns:
        (h, w, 3) uint8, RGB.

    Raises:
        UnknownNameError: there is no such order.
        DataError: the file cannot be read, or it is something else.
    """
    if color not in get_args(Color):
        raise UnknownNameError("order of colors", color, get_args(Color))
    if isinstance(item, str | Path):
        return read_image(item)
    if isinstance(item, Image.Image):
        return upright_rgb(item, name)
    if not isinstance(item, np.ndarray) or item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3:
        raise DataError(f"{name} is {_kind_of(item)}, wanted {WANTED}")
    return np.ascontiguousarray(item[:, :, ::-1]) if color == "bgr" else item


def network_input(
    pictures: Iterable[Picture], seen: InputSpec, device: torch.device | str = "cpu", color: Color = "rgb"
) -> Tensor:
    """Read, resize, stack and normalize pictures.

    Args:
        pictures: at least one, as :func:`read_picture` takes them.
        seen: what the network sees.
        device: where the batch is to be.
        color: order of the channels of arrays.

    Returns:
        (N, 3, H, W) float32, channels last in memory.

    Raises:
        DataError: one cannot be read, or is none.
    """
    transform = TestTransform.of(seen)
    resized = np.stack([transform(read_picture(each, color)).transpose(1, 2, 0) for each in pictures])
    return normalize(torch.from_numpy(resized).to(device).permute(0, 3, 1, 2), seen.mean, seen.std)


def listed(pictures: Any) -> list[Picture]:
    """Several pictures as a list.

    Raises:
        DataError: it is one picture, or no list of anything.
    """
    one = isinstance(pictures, str | Path | Image.Image) or (isinstance(pictures, np.ndarray) and pictures.ndim < 4)
    if one or isinstance(pictures, bytes) or not isinstance(pictures, Iterable):
        raise DataError(f"got {_kind_of(pictures)}, wanted a list of pictures, each {WANTED}")
    return list(pictures)


def _kind_of(item: Any) -> str:
    """What something is, in a few words."""
    if isinstance(item, str | Path | Image.Image):
        return "one picture"
    shape = getattr(item, "shape", None)
    kind = type(item).__name__
    return kind if shape is None else f"{kind} of {getattr(item, 'dtype', '?')} and shape {tuple(shape)}"
