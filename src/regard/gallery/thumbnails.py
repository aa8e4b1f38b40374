"""Small pictures that a gallery keeps beside its records, and heads in them that nobody is to recognize.

Shapes: H x W pixels of a picture.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

from regard.data.image import decode_image

__all__ = ["blurred", "thumbnail"]

HEAD = 0.22
"""Part of an upright person crop, from the top, in which the head lies."""


def thumbnail(picture: np.ndarray, height: int = 192, *, blur_head: bool = False) -> bytes:
    """A small JPEG without any metadata.

    Args:
        picture: (H, W, 3) uint8.
        height: of the thumbnail at most, in pixels.
        blur_head: make the upper part of the crop, where the head is, unrecognizable.
    """
    image = Image.fromarray(picture)
    image.thumbnail((2 * height, height), Image.Resampling.LANCZOS)
    if blur_head:
        box = (0, 0, image.width, max(1, round(HEAD * image.height)))
        tiny = image.crop(box).resize((4, 3), Image.Resampling.BOX)
        image.paste(tiny.resize(box[2:], Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2)), box[:2])
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def blurred(small: bytes) -> bytes:
    """The same thumbnail with an unrecognizable head; nothing of nothing, and of what cannot be read.

    One that cannot be read is not kept as it is: nobody knows what it shows.
    """
    try:
        picture = decode_image(small, "a thumbnail") if small else None
    except ValueError:
        return b""
    return b"" if picture is None else thumbnail(picture, max(picture.shape[0], 1), blur_head=True)
