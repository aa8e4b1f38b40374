"""Reading pictures: from files, and from bytes nobody vouches for. The one door for training, embedding and service.

Shapes: H x W pixels of the stored picture, upright.

What a picture would cost is asked before anything is decoded (:mod:`regard.data.header`). Person crops are small JPEG
files, of which Pillow spends most of its time outside the decoder. The common ones go to libjpeg-turbo directly, in
less than half the time and to the same pixels (``benchmarks/loader.py``); whatever is unusual about a file, and whether
it is damaged, is Pillow's to say.

A NumPy array (``.npy``) is a picture where it is (H, W, 3), or (3, H, W) as tensors lie, of uint8, or of real numbers
from 0 to 1. Its header is read here, byte by byte, and nothing is ever unpickled.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from regard.data.header import (
    ARRAY,
    FORMATS,
    MAX_BYTES,
    MAX_EXTRA,
    MAX_PIXELS,
    MAX_RATIO,
    SMALL,
    Header,
    check_blob,
    kind_of,
    read_header,
)
from regard.errors import DataError

__all__ = [
    "MAX_BYTES", "MAX_PIXELS", "Picture", "claimed", "decode_image", "list_pictures", "measure_image", "open_image",
    "read_bytes", "read_image", "read_picture", "to_rgb",
]  # fmt: skip

Picture = str | Path | Image.Image | np.ndarray
"""A picture as it may be given: a file, a Pillow image, or (H, W, 3) uint8 in RGB."""

MAX_SIDE = 65_535
"""Longest side, which is JPEG's; what is long and thin costs far more to resize than its pixels say."""

MARKERS = 1 << 17
"""Bytes at the beginning of a JPEG file in which an orientation is looked for; one segment takes half of that."""

FEW_SCANS = 16
"""Scans up to which a JPEG file is as cheap as others; the usual progressive one has ten."""

STRIP = 256
"""Rows of which transparency is taken out at a time."""

MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
"""Pillow's names of kinds of pixels that become RGB without a guess; besides these, 16-bit gray."""

RAW_EXIF = "Raw profile type exif"
"""Where older PNG files keep their EXIF, as digits."""

TURNING = (b"Exif\0\0", b"eXIf", b"EXIF", RAW_EXIF.encode())
"""What stands in a file that may say how its picture lies; TIFF files may do so without."""

ORIENTATION = 0x0112

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright."""

MAX_ARRAY_HEADER = 4096
"""Bytes of a header of a NumPy array; one of three axes takes 118."""

ARRAY_FIELDS = re.compile(
    r"\{'descr': '(?P<type>[<>|=]?\w{1,8})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[\d, ]{0,64})\), ?\}\s*"
)
"""The one form in which NumPy writes a header of plain numbers (numpy.lib.format); no other is read."""

WANTED_ARRAY = "expected (H, W, 3) or (3, H, W) of uint8, or of real numbers from 0 to 1; save it so"


def read_image(path: str | Path) -> np.ndarray:
    """Decode a file to RGB, as :func:`decode_image` does.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: the file is missing, no regular file, empty, not a picture, damaged, or costs too much.
    """
    return decode_image(read_bytes(path), f"'{path}'")


def read_picture(picture: Picture, name: str = "the picture") -> np.ndarray:
    """Return a picture that is given in any way as the pixels that a network sees of it.

    A Pillow image is turned upright and converted as its file would be (:func:`decode_image`).

    Args:
        picture: a file, a Pillow image, or pixels.
        name: what to call one that is no file, in an error.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: it is none of these, or cannot be read.
    """
    if isinstance(picture, str | PathLike):
        return read_image(Path(picture))
    if isinstance(picture, Image.Image):
        check_size(picture.height, picture.width, name)
        with told(name):
            return np.array(to_rgb(turned_upright(picture), name))
    if not isinstance(picture, np.ndarray) or picture.shape[2:] != (3,) or picture.dtype != np.uint8:
        shape = f" of shape {tuple(picture.shape)}" if hasattr(picture, "shape") else ""
        raise DataError(
            f"{name} is {getattr(picture, 'dtype', type(picture).__name__)}{shape}, expected the path of a picture, a "
            "Pillow image, or an (H, W, 3) uint8 array in RGB; convert it"
        )
    check_size(picture.shape[0], picture.shape[1], name)
    return np.ascontiguousarray(picture)


def list_pictures(pictures: Any) -> list[Picture]:
    """Return several pictures as a list.

    Raises:
        DataError: it is one picture, or no list of anything.
    """
    one = isinstance(pictures, str | PathLike | Image.Image) or (isinstance(pictures, np.ndarray) and pictures.ndim < 4)
    if one or isinstance(pictures, bytes) or not isinstance(pictures, Iterable):
        given = "one picture" if one else type(pictures).__name__
        raise DataError(f"got {given}, wanted a list of pictures; put it in [ ]")
    return list(pictures)


def read_bytes(path: str | Path, limit: int = MAX_BYTES, what: str = "image") -> bytes:
    """The bytes of a picture's file; a pipe, a socket or a device is never waited for.

    Args:
        path: the file.
        limit: larger files are refused unread.
        what: it should be, for an error.

    Raises:
        DataError: the file is missing, cannot be opened, is no regular file, or is too large.
    """
    try:
        with io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe, socket or device"
                raise DataError(f"cannot open '{path}' (it is a {kind}), expected a file with the {what}; name one")
            if status.st_size > limit:
                raise DataError(f"'{path}' has more than {limit:,} bytes, expected a smaller {what}; shrink it")
            return file.readall()
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            f"cannot open '{path}': there is no {what} of that name; check the name, or restore the file"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot open '{path}' ({reason}), expected a readable {what}; check the path and its permissions"
        ) from None


def decode_image(content: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode the bytes of a picture to RGB.

    Turned upright by its EXIF orientation. Gray, palette and CMYK pictures are converted, 16-bit gray keeps its upper
    byte, transparent pixels become black. Real numbers of an array are rounded to the nearest of 256 levels.

    Args:
        content: the bytes of a file.
        name: what to call it in an error.
        max_pixels: more are refused before any is decoded.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: empty, no picture of a format that is read, several in one, damaged, of pixels whose scale no file
            says (32 bits), or it claims to be larger or to cost more than any photograph.
    """
    if (picture := read_plain_jpeg(content, max_pixels)) is not None:
        return picture
    if claimed(content, name, max_pixels).format == ARRAY:
        return in_levels(read_array(content, name), name)
    with opened(content, name) as image:
        return np.array(to_rgb(turned_upright(image), name))


def measure_image(path: str | Path) -> tuple[int, int]:
    """Return height and width in pixels of a picture turned upright.

    They are the header's. Only a file that may say that it lies on its side is decoded for it.

    Raises:
        DataError: as :func:`read_image`, but for what only decoding tells.
    """
    content, name = read_bytes(path), f"'{path}'"
    if kind_of(content[:32]) == ARRAY:
        height, width, _ = read_array(content, name).shape
        return height, width
    header = examine(content, name)
    if header.format == "TIFF" or any(mark in content for mark in TURNING):
        with opened(content, name) as image:
            upright = turned_upright(image)
            return upright.height, upright.width
    return header.height, header.width


@contextmanager
def open_image(path: str | Path, what: str) -> Iterator[Image.Image]:
    """A file as Pillow sees it, upright, for those that want its own kind of pixels, such as the labels of a mask.

    Args:
        path: the file.
        what: it is, such as "mask", for an error.

    Raises:
        DataError: as :func:`read_image`, also for whatever Pillow raises in the block.
    """
    content, name = read_bytes(path), f"{what} '{path}'"
    examine(content, name)
    with opened(content, name) as image:
        yield turned_upright(image)


@contextmanager
def opened(content: bytes, name: str) -> Iterator[Image.Image]:
    """Bytes that have been examined, opened by Pillow.

    Raises:
        DataError: Pillow says that they are damaged, here or in the block.
    """
    with told(name), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        check_size(image.height, image.width, name)
        yield image


@contextmanager
def told(name: str) -> Iterator[None]:
    """Make whatever Pillow raises in the block an error that says which picture is damaged.

    Raises:
        DataError: Pillow raised something.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (MemoryError, DataError):
        raise
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them stumble over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name} is damaged ({reason}), expected a complete image; restore or remove it") from error


def examine(content: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Header:
    """What a picture claims, where that is not too much.

    Raises:
        DataError: empty, no picture, several in one, or it claims too much.
    """
    if not content:
        raise DataError(f"{name} is empty (0 bytes), expected an image; restore or remove it")
    kind = kind_of(content[:32])
    if kind not in FORMATS:
        reads = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise DataError(f"{name} is no picture{' but ' * bool(kind)}{kind}, expected {reads}; save it so or remove it")
    try:
        header = read_header(content)
        excess = header.excess(len(content))
    except (struct.error, IndexError):
        raise DataError(f"{name} is damaged (it ends too early), expected a complete image; restore it") from None
    except ValueError as error:
        header, excess = None, str(error)
    if header is not None:
        check_size(header.height, header.width, name, max_pixels)
        if header.frames > 1:
            raise DataError(f"{name} holds several pictures (a film or pages), expected one; save the one you mean")
    if header is None or excess:
        raise DataError(f"{name} would cost too much to decode ({excess}), expected a photograph; save it again")
    return header


def claimed(content: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Header:
    """What a picture or an array claims, where :func:`decode_image` would not refuse it for that.

    Raises:
        DataError: empty, no picture, several in one, or it claims too much.
    """
    if kind_of(content[:32]) != ARRAY:
        return examine(content, name, max_pixels)
    height, width, _ = read_array(content, name).shape
    check_size(height, width, name, max_pixels)
    return Header(ARRAY, height, width)


def check_size(height: int, width: int, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Check that a picture has an area, and not too much of it.

    Raises:
        DataError: it has none, or too much.
    """
    if height < 1 or width < 1:
        raise DataError(f"{name} is no picture: {height} x {width} pixels have no area; restore or remove it")
    if height * width > max_pixels:
        raise DataError(f"{name} claims more than {max_pixels:,} pixels, expected a person crop; shrink or remove it")
    if max(height, width) > MAX_SIDE:
        raise DataError(f"{name} claims a side of {max(height, width):,} pixels, expected a person crop; shrink it")


def turned_upright(image: Image.Image) -> Image.Image:
    """Return an image of the same kind of pixels and format, turned as its EXIF says."""
    image.load()
    if isinstance(digits := image.info.get(RAW_EXIF), str):
        check_blob(bytes.fromhex("".join(digits.split("\n")[3:])))
    orientation = image.getexif().get(ORIENTATION)
    if not isinstance(orientation, int) or orientation not in UPRIGHT:
        return image
    turned = image.transpose(UPRIGHT[orientation])
    turned.format = image.format
    return turned


def read_plain_jpeg(content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray | None:
    """(H, W, 3) of an intact JPEG file in color or gray that nothing has to be turned in; None for any other file.

    Its few markers need not be walked: a short file in which few scans can begin costs no more than its pixels.
    """
    if not content.startswith(b"\xff\xd8\xff") or len(content) > MAX_EXTRA or b"Exif\0\0" in content[:MARKERS]:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        most = min(max_pixels, max(SMALL, MAX_RATIO * len(content)))
        scans = content.count(b"\xff\xda")
        if int(height) * int(width) > most or scans > FEW_SCANS or space not in ("YCbCr", "Gray"):
            return None
        return simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:
        return None


def to_rgb(image: Image.Image, name: str = "the picture") -> Image.Image:
    """Convert a picture to RGB.

    Args:
        image: of any kind of pixels with 8 bits, or of 16-bit gray, which keeps its upper byte.
        name: what to call it in an error.

    Raises:
        DataError: it has another kind of pixels, which has no one color on a screen.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in MODES:
        kind = {"I": "whole numbers of 32 bits", "F": "real numbers"}.get(image.mode, f"of the kind {image.mode}")
        raise DataError(f"{name} has pixels that are {kind}, expected 8 or 16 bits a color; save it so")
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP):  # a large picture is not in memory four times over
        layers = image.crop((0, top, image.width, min(top + STRIP, image.height))).convert("RGBA")
        opaque.paste(Image.alpha_composite(Image.new("RGBA", layers.size, "black"), layers).convert("RGB"), (0, top))
    return opaque


def read_array(content: bytes, name: str) -> np.ndarray:
    """(H, W, 3) view of the numbers of a ``.npy`` file.

    Raises:
        DataError: the header is damaged or too large, or of no picture (objects, records, another type or shape), or
            claims too many pixels, or fewer or more numbers than there are.
    """
    form = {1: "<H", 2: "<I", 3: "<I"}.get(content[6]) if len(content) > 6 else None
    if form is None:
        raise DataError(f"{name} is a NumPy array of an unknown version, expected 1 to 3; save it again")
    begin = 8 + struct.calcsize(form)
    if len(content) < begin:
        raise DataError(f"{name} is damaged (it ends too early), expected a complete array; save it again")
    (length,) = struct.unpack_from(form, content, 8)
    if length > MAX_ARRAY_HEADER:
        raise DataError(
            f"{name} has a header of {length:,} bytes, expected {MAX_ARRAY_HEADER:,} at most; save it again"
        )
    found = ARRAY_FIELDS.fullmatch(content[begin : begin + length].decode("latin-1"))
    if found is None or "O" in found["type"]:
        what = "Python objects" if found else "no plain numbers"
        raise DataError(f"{name} is a NumPy array of {what}, which is never opened, {WANTED_ARRAY}")
    kind, order = found["type"].lstrip("<>|="), ">" if found["type"].startswith(">") else "<"
    if kind not in ("u1", "f2", "f4", "f8"):
        raise DataError(f"{name} is a NumPy array of {found['type']}, {WANTED_ARRAY}")
    shape = tuple(int(size) for size in re.findall(r"\d+", found["shape"]))
    if len(shape) != 3 or (shape[0] == 3) == (shape[2] == 3):
        which = " and may be either of two pictures" if len(shape) == 3 and shape[0] == 3 else ""
        raise DataError(f"{name} is a NumPy array of shape {shape}{which}, {WANTED_ARRAY}")
    first = shape[0] == 3
    check_size(*(shape[1:] if first else shape[:2]), name)
    there, wanted = len(content) - begin - length, math.prod(shape) * int(kind[1])
    if there != wanted:
        raise DataError(f"{name} holds {there:,} bytes of numbers, expected {wanted:,}; save the array again")
    values = np.frombuffer(content, order + kind, offset=begin + length)
    values = values.reshape(shape, order="F" if found["fortran"] == "True" else "C")
    return np.moveaxis(values, 0, 2) if first else values


def in_levels(values: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) uint8 of an array; real numbers are rounded to the nearest of 256 levels.

    Raises:
        DataError: a real number is not from 0 to 1.
    """
    if values.dtype.kind == "f":
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):  # also where one is no number
            raise DataError(f"{name} holds numbers from {low:g} to {high:g}, expected 0 to 1, or uint8; scale them")
        values = np.rint(values.astype(np.float32) * 255)
    return np.array(values, np.uint8, order="C")
