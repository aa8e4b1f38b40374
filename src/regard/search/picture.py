"""Pictures from bytes nobody vouches for, and the thumbnails a gallery keeps.

Shapes: H x W pixels of a picture, upright.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageFilter

from regard.data.image import MAX_PIXELS, decode_image
from regard.errors import DataError

__all__ = ["FORMATS", "decode", "thumbnail"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""Formats that are read, told by the bytes themselves, whatever the file is called."""

HEAD = 0.22
"""Part of an upright person crop, from the top, in which the head lies."""


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a picture to RGB, turned upright by its EXIF orientation.

    Args:
        data: the file's bytes.
        name: what to call it in an error message.
        max_pixels: more are refused before any is decoded.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: empty, no picture of a known format, damaged, or too large.
    """
    if not data:
        raise DataError(f"{name} is empty (0 bytes), wanted a picture; choose another file")
    try:
        with warnings.catch_warnings(action="ignore"):
            return decode_image(data, max_pixels, FORMATS)
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"{name} claims more than {max_pixels:,} pixels, wanted a photograph; shrink it") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{name} is no picture, wanted {', '.join(FORMATS)}; choose another file") from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name} is damaged ({reason}), wanted a whole picture; choose another file") from error


def thumbnail(picture: np.ndarray, height: int = 192, blur_head: bool = False) -> bytes:
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
