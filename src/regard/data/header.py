"""What the file of a picture says of itself, and what decoding it would cost, before any of it is decoded.

A small file can ask for hours: 136 KB of progressive JPEG with 882 scans take 14 s of processor time, and tags of a
TIFF file can claim the whole file each. Every format that is read is walked here as its specification lays it out,
from the parts' own lengths, and refused where it claims more than any photograph has. The limits are the same for
training, embedding and the service.
"""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from typing import NamedTuple

__all__ = [
    "ARRAY", "FORMATS", "MAX_BYTES", "MAX_EXTRA", "MAX_PIXELS", "MAX_RATIO", "SMALL", "Header", "check_blob", "kind_of",
    "read_header",
]  # fmt: skip

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Formats that are read, by Pillow's names, told by the bytes themselves, whatever the file is called."""

ARRAY = "NumPy array"
"""Read where it is named as a picture, and none where a folder is searched: see :mod:`regard.data.listing`."""

MARKS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF picture": rb".{4}ftyp(?:avi[fs]|mif1.{4}(?:.{4}){0,3}avif)",
    "HEIC picture": rb".{4}ftyp(?:hei[cx]|mif1|msf1)",
    "video": rb"RIFF.{4}AVI |.{4}ftyp|\x1aE\xdf\xa3",
    ARRAY: rb"\x93NUMPY",
    "JPEG XL picture": rb"\xff\x0a|.{4}JXL \r\n\x87\n",
    "JPEG 2000 picture": rb".{4}jP  \r\n\x87\n",
}
"""How a file begins, by what it is; the first that fits says so. A BMP file is known by the size of its header too."""

KINDS = tuple(MARKS)
MARK = re.compile(b"|".join(b"(%b)" % mark for mark in MARKS.values()), re.DOTALL)

MAX_BYTES = 64 << 20
"""Larger files are refused: no person crop is that large."""

MAX_PIXELS = 64 << 20
"""Pictures with more pixels are refused: no person crop is that large, and small files can claim to be."""

MAX_PASSES = 100
"""Scans of a JPEG file; a progressive one has about ten."""

MAX_WORK = 16 * MAX_PIXELS
"""Pixels times the passes that are made over them."""

MAX_PARTS = 1 << 16
"""Segments, chunks, strips or values of one tag."""

MAX_TAGS = 1 << 12
"""Tags of one directory of a TIFF file or of EXIF."""

MAX_EXTRA = 8 << 20
"""Bytes that are no pixels: text, color profiles, previews, what lies between the parts."""

SMALL = 4 << 20
"""Pixels up to which a picture may be as empty as it likes."""

MAX_RATIO = 1000
"""Pixels per byte of a larger one; a white page has about 350."""

SLOW = 1000
"""Passes that one pass of a decoder written in Python counts as: Pillow's for run lengths in BMP."""

MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])", re.DOTALL)
"""A marker of a JPEG file, but for those within a scan; FF may be repeated before it, and is not looked at twice."""

NUMBER_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by the type of a TIFF tag."""

WIDTH, HEIGHT, REDUCED = 256, 257, 254
DIRECTORIES = frozenset({34665, 34853, 40965})
"""Tags that hold the place of another directory: of EXIF, of the place, of interoperability."""


class Header(NamedTuple):
    """What a picture claims.

    Attributes:
        format: one of ``FORMATS``.
        height, width: in pixels, before it is turned upright.
        passes: how often its decoder goes over the pixels.
        frames: pictures in the file; 2 stands for any higher number.
    """

    format: str
    height: int
    width: int
    passes: int = 1
    frames: int = 1

    def excess(self, size: int) -> str:
        """What would cost too much in a file of ``size`` bytes; an empty text where nothing would."""
        pixels = self.height * self.width
        if self.format == "JPEG" and self.passes > MAX_PASSES:
            return f"more than {MAX_PASSES} scans"
        if pixels * self.passes > MAX_WORK:
            return f"{pixels:,} pixels in {self.passes:,} passes"
        if pixels > SMALL and pixels > MAX_RATIO * size:
            return f"{pixels:,} pixels in {size:,} bytes"
        return ""


def kind_of(head: bytes) -> str:
    """One of ``FORMATS``, the name of a kind that is not read, such as ``HEIC picture`` or ``video``, or nothing.

    Args:
        head: the beginning of a file, 32 bytes of it or more.
    """
    found = MARK.match(head)
    return KINDS[(found.lastindex or 0) - 1] if found else ""


def read_header(content: bytes) -> Header:
    """What a picture claims, from its bytes.

    Args:
        content: of a file that :func:`kind_of` calls one of ``FORMATS``.

    Raises:
        ValueError: it claims more parts, tags or bytes beside the pixels than any photograph has.
        IndexError, struct.error: it ends too early to say.
    """
    return WALKS[kind_of(content[:32])](content)


def check_parts(parts: int, extra: int) -> None:
    """Refuse what is mostly something else.

    Raises:
        ValueError: there are too many parts, or too many bytes beside the pixels.
    """
    if parts > MAX_PARTS:
        raise ValueError(f"more than {MAX_PARTS:,} parts")
    if extra > MAX_EXTRA:
        raise ValueError(f"more than {MAX_EXTRA >> 20} MB of other things than pixels")


def walk_jpeg(content: bytes) -> Header:
    """JPEG (ITU-T T.81, annex B): the segments before the first scan, and the number of scans."""
    at, parts, extra, scans, size = 2, 0, 0, 0, (0, 0)
    while found := MARKER.search(content, at):
        marker = found[1][0]
        parts, extra, at = parts + 1, extra if scans else extra + found.end() - at - 2, found.end()
        check_parts(parts, extra)
        if marker == 0xD9 and scans:
            break
        if marker in (0x01, 0xD8, 0xD9):
            continue
        length = max(int.from_bytes(content[at : at + 2]), 2)
        if marker == 0xDA:
            scans += 1
            later = content.count(b"\xff\xda", at) if scans == 1 else MAX_PASSES  # at most; exact where it matters
            if later < MAX_PASSES or scans > MAX_PASSES:
                return Header("JPEG", *size, scans + later)
        elif not scans:
            extra += length
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                size = struct.unpack_from(">HH", content, at + 3)
            elif marker in (0xE1, 0xE2):
                parts += check_blob(content[at + 2 : at + length])
        at += length
    return Header("JPEG", *size, max(scans, 1))


def walk_png(content: bytes) -> Header:
    """PNG (ISO/IEC 15948): every chunk; ``acTL`` says how many pictures an animation has."""
    at, parts, extra, frames = 8, 0, 0, 1
    width, height = struct.unpack_from(">II", content, 16)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"IEND":
            break
        if kind == b"acTL":
            frames = int.from_bytes(content[at + 8 : at + 12])
        elif kind == b"eXIf":
            parts += check_blob(content[at + 8 : at + 8 + length])
        parts, extra = parts + 1, extra if kind == b"IDAT" else extra + min(length, len(content) - at)
        check_parts(parts, extra)
        at += 12 + length
    return Header("PNG", height, width, frames=min(max(frames, 1), 2))


def walk_webp(content: bytes) -> Header:
    """WebP (RFC 9649): the canvas, and the frames of an animation."""
    at, parts, extra, frames, size = 12, 0, 0, 0, (0, 0)
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        body = content[at + 8 : at + 18]
        if kind == b"VP8X":
            size = 1 + int.from_bytes(body[7:10], "little"), 1 + int.from_bytes(body[4:7], "little")
        elif kind == b"VP8 " and size == (0, 0):
            width, height = struct.unpack_from("<HH", body, 6)
            size = height & 0x3FFF, width & 0x3FFF
        elif kind == b"VP8L" and size == (0, 0):
            bits = int.from_bytes(body[1:5], "little")
            size = 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
        elif kind == b"EXIF":
            parts += check_blob(content[at + 8 : at + 8 + length])
        frames += kind == b"ANMF"
        pixels = kind in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF")
        parts, extra = parts + 1, extra if pixels else extra + min(length, len(content) - at)
        check_parts(parts, extra)
        at += 8 + length + length % 2
    return Header("WEBP", *size, frames=min(max(frames, 1), 2))


def walk_gif(content: bytes) -> Header:
    """GIF89a: blocks up to the second picture; without any there are no pixels."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at, parts, extra, frames = 13 + color_bytes(flags), 0, 0, 0
    while at < len(content) and frames < 2 and (kind := content[at]) != 0x3B:
        if kind == 0x2C:
            frames += 1
            at += 11 + color_bytes(content[at + 9])
        else:
            at += 2 if kind == 0x21 else 1
        start = at
        while kind in (0x2C, 0x21) and at < len(content) and content[at]:
            at, parts = at + 1 + content[at], parts + 1
            check_parts(parts // 8, extra)  # a picture comes in blocks of 255 bytes
        extra += 0 if kind == 0x2C else at - start + 1
        at += kind in (0x2C, 0x21)
    return Header("GIF", height, width, frames=frames) if frames else Header("GIF", 0, 0)


def color_bytes(flags: int) -> int:
    """Bytes of a color table of GIF by its flags."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def walk_bmp(content: bytes) -> Header:
    """BMP: the header; run lengths are decoded in Python, slowly."""
    if content[14] == 12:
        width, height = struct.unpack_from("<HH", content, 18)
        return Header("BMP", height, width)
    width, height, _, _, packing = struct.unpack_from("<iiHHI", content, 18)
    slow = packing in (1, 2)
    if slow and len(content) > 4 * abs(width * height) + (1 << 16):
        raise ValueError("more run lengths than pixels")
    return Header("BMP", abs(height), abs(width), SLOW if slow else 1)


def walk_tiff(content: bytes) -> Header:
    """TIFF (6.0, and BigTIFF): every directory; those of previews are no pictures of their own."""
    pages = [tags for tags in directories(content)[0] if not tags.get(REDUCED, 0) & 1] or [{}]
    return Header("TIFF", pages[0].get(HEIGHT, 0), pages[0].get(WIDTH, 0), frames=min(len(pages), 2))


def directories(content: bytes) -> tuple[list[dict[int, int]], int]:
    """First value of every tag, for each directory that lies on the chain and thus is a picture; tags read in all.

    Directories may share their bytes: a few kilobytes can hold millions of tags.

    Raises:
        ValueError: there are too many tags, or they claim more bytes than any photograph has.
        struct.error: the file ends too early.
    """
    order, big = "<" if content[:2] == b"II" else ">", content[2:4] in (b"+\0", b"\0+")
    counted, place, start = (order + "Q", order + "Q", 8) if big else (order + "H", order + "I", 4)
    chain: list[dict[int, int]] = []
    seen, nested, extra, parts = set(), [], 0, 0
    (following,) = struct.unpack_from(place, content, start)
    while following or nested:
        at, following, on_chain = (following, 0, True) if following else (nested.pop(), 0, False)
        if at in seen:
            continue
        seen.add(at)
        try:
            tags, count, more, after = read_tags(content, at, counted, place)
            if on_chain:
                chain.append(tags)
                (following,) = struct.unpack_from(place, content, after)
        except struct.error:  # after the first one, what is damaged is passed over, as decoders do
            if not chain:
                raise
            continue
        nested += [tags[tag] for tag in DIRECTORIES & tags.keys()]
        parts, extra = parts + count, extra + more
        check_parts(parts + len(seen), extra)
    return chain, parts


def read_tags(content: bytes, at: int, counted: str, place: str) -> tuple[dict[int, int], int, int, int]:
    """First values of a directory's tags, how many they are, the bytes they claim elsewhere, and where it ends.

    Raises:
        ValueError: there are too many tags, or too many values in one.
        struct.error: the file ends too early.
    """
    (count,) = struct.unpack_from(counted, content, at)
    if count > MAX_TAGS:
        raise ValueError(f"more than {MAX_TAGS:,} tags")
    at, inline, tags, extra = at + struct.calcsize(counted), struct.calcsize(place), {}, 0
    if at + count * (4 + 2 * inline) > len(content):
        raise struct.error("the directory is cut off")  # before the rest of it is read
    for _ in range(count):
        tag, kind, number = struct.unpack_from(f"{place[0]}HH{place[1]}", content, at)
        at += 4 + inline
        tags[tag] = struct.unpack_from(place[0] + "H" if kind == 3 else place, content, at)[0]
        size = NUMBER_BYTES.get(kind, 0)
        check_parts(number if size > 1 else 0, 0)
        if size * number > inline:
            extra += min(size * number, max(len(content) - tags[tag], 0))
        at += inline
    return tags, count, extra, at


def check_blob(blob: bytes) -> int:
    """Refuse EXIF that claims more than it has; what is merely damaged is passed over, as decoders do.

    Args:
        blob: a segment or chunk of metadata, of any kind.

    Returns:
        How many tags it has, which count among the parts of the file.

    Raises:
        ValueError: there are too many tags, or they claim too many bytes.
    """
    for head in (b"Exif\0\0", b"MPF\0"):
        blob = blob.removeprefix(head)
    if kind_of(blob[:32]) == "TIFF":
        with suppress(struct.error):
            return directories(blob)[1]
    return 0


WALKS = {"JPEG": walk_jpeg, "PNG": walk_png, "WEBP": walk_webp, "BMP": walk_bmp, "TIFF": walk_tiff, "GIF": walk_gif}
