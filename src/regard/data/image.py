"""Reading pictures: from files, and from bytes nobody vouches for.

Shapes: H x W pixels of the stored picture, upright.

Person crops are small JPEG files, of which Pillow spends most of its time outside the decoder. The common ones go to
libjpeg-turbo directly, in less than half the time and to the same pixels (``benchmarks/loader.py``); whatever is
unusual about a file, and whether it is damaged, is Pillow's to say.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from regard.errors import DataError

__all__ = ["MAX_PIXELS", "decode_image", "read_image"]

MAX_PIXELS = 64 * 1024 * 1024
"""Pictures with more pixels are refused: no person crop is that large, and small files can claim to be."""

MARKERS = 1 << 17
"""Bytes at the beginning of a JPEG file in which an orientation is looked for; one segment takes half of that."""


def read_image(path: str | Path) -> np.ndarray:
    """Decode a file to RGB, as :func:`decode_image` does.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: the file is missing, empty, not an image, damaged, or larger than ``MAX_PIXELS``.
    """
    try:
        with io.FileIO(path) as file:
            return decode_image(file.readall())
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them stumble over
        raise DataError(explain(Path(path), error)) from error


def decode_image(content: bytes, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None) -> np.ndarray:
    """Decode the bytes of a picture to RGB.

    Turned upright by its EXIF orientation. Gray, palette and CMYK pictures are converted, 16-bit gray keeps its upper
    byte, transparent pixels become black.

    Args:
        content: the bytes of a file.
        max_pixels: more are refused before any is decoded.
        formats: Pillow's names of those that are read, JPEG among them; None for all.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DecompressionBombError: Pillow's; there are more pixels.
        Exception: no picture, or damaged; Pillow's decoders raise whatever such a file makes them stumble over.
    """
    if (picture := read_plain_jpeg(content, max_pixels)) is not None:
        return picture
    with Image.open(io.BytesIO(content), formats=formats) as image:
        if image.width * image.height > max_pixels:
            raise Image.DecompressionBombError
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(to_rgb(image))


def read_plain_jpeg(content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray | None:
    """(H, W, 3) of an intact JPEG file in color or gray that nothing has to be turned in; None for any other file."""
    if not content.startswith(b"\xff\xd8") or b"Exif\0\0" in content[:MARKERS]:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        if space not in ("YCbCr", "Gray") or int(height) * int(width) > max_pixels:
            return None
        return simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "black"), layers).convert("RGB")
    return image.convert("RGB")


def explain(path: Path, error: Exception) -> str:
    """What is wrong with an image file, what was expected, and what to do, in one line."""
    match error:
        case FileNotFoundError():
            return f"there is no image '{path}', though the data set lists it; restore it or read the data set again"
        case Image.DecompressionBombError() | Image.DecompressionBombWarning():
            return f"'{path}' claims more than {MAX_PIXELS:,} pixels, expected a person crop; shrink or remove it"
        case OSError(errno=int(), strerror=str(reason)):
            return f"cannot open '{path}' ({reason}), expected a readable image; check the path and its permissions"
    if path.stat().st_size == 0:
        return f"'{path}' is empty (0 bytes), expected an image; restore or remove it"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"'{path}' is not an image, expected JPEG, PNG or another format Pillow reads; restore or remove it"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"'{path}' is damaged ({reason}), expected a complete image; restore or remove it"
