"""AVIF and HEIC, the pictures of today's phones: read where a library for them is there, from files of one's own.

AVIF comes with most builds of Pillow, HEIC with the extra ``heic``. Their decoders are bounded by what the file claims,
by the library's own limits, and not part by part as the other formats are (:mod:`regard.data.header`): so they are
read where files are given by name or in folders, and never from an upload.

Shapes: H x W pixels of the stored picture, upright.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image, features

from regard.data.header import Header, kind_of
from regard.data.image import check_size, decode_image, examine, opened, to_rgb, told, turned_upright
from regard.errors import DataError, require

__all__ = ["AVIF", "HEIC", "decode_file", "how_to_read", "open_file", "readable_kinds"]

AVIF, HEIC = "AVIF picture", "HEIC picture"
"""As :func:`regard.data.header.kind_of` calls them."""


def readable_kinds() -> frozenset[str]:
    """Those of the two that can be read here."""
    there = {AVIF: features.check("avif"), HEIC: find_spec("pillow_heif") is not None}
    return frozenset(kind for kind, is_there in there.items() if is_there)


def how_to_read(kinds: Collection[str]) -> str:
    """What to install for those of some kinds that cannot be read here; empty where nothing would help."""
    help_ = {HEIC: "pip install 'regard[heic]' to read HEIC", AVIF: "update Pillow to read AVIF"}
    return ", ".join(text for kind, text in help_.items() if kind in kinds and kind not in readable_kinds())


def decode_file(content: bytes, name: str) -> np.ndarray:
    """Decode the bytes of a file of one's own to RGB: as :func:`~regard.data.image.decode_image`, and AVIF and HEIC.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: as :func:`~regard.data.image.decode_image`.
        ConfigError: it is HEIC, and what reads it is not installed.
    """
    if kind_of(content[:32]) not in (AVIF, HEIC):
        return decode_image(content, name)
    with open_file(content, name) as image:
        return np.array(to_rgb(turned_upright(image), name))


@contextmanager
def open_file(content: bytes, name: str) -> Iterator[Image.Image]:
    """The bytes of a file of one's own, examined and opened by Pillow; see :func:`decode_file`."""
    kind = kind_of(content[:32])
    if kind not in (AVIF, HEIC):
        examine(content, name)
        with opened(content, name) as image:
            yield image
        return
    with told(name), opener(kind)(io.BytesIO(content)) as image:
        check_size(image.height, image.width, name)
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(f"{name} holds several pictures (a film or pages), expected one; save the one you mean")
        if excess := Header(kind, image.height, image.width).excess(len(content)):
            raise DataError(f"{name} would cost too much to decode ({excess}), expected a photograph; save it again")
        yield image


def opener(kind: str) -> Any:
    """What opens pictures of a kind.

    Raises:
        ConfigError: it is not installed.
        DataError: this build of Pillow has none.
    """
    if kind == HEIC:
        return require("pillow_heif", "a HEIC picture", "heic").HeifImageFile
    if not features.check("avif"):
        raise DataError("this build of Pillow reads no AVIF; update it, or save the picture as JPEG")
    return lambda file: Image.open(file, formats=("AVIF",))
