"""What a picture may cost: told from its parts before anything is decoded, alike for files and uploads."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from regard.data.header import FORMATS, MAX_PASSES, kind_of, read_header
from regard.data.image import decode_image, measure_image, read_image
from regard.errors import DataError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8))


def encode(image: Image.Image = NOISE, format: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def fault(content: bytes) -> str:
    with pytest.raises(DataError) as error:
        decode_image(content, "it")
    assert str(error.value).startswith("it ")
    assert "\n" not in str(error.value)
    return str(error.value)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + encode()[2:]


def with_scans(count: int, size: tuple[int, int] = (16, 24)) -> bytes:
    """A progressive JPEG whose last scan comes again and again, as decoders allow."""
    whole = encode(NOISE.resize(size), progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * (count - whole.count(b"\xff\xda") + 1) + whole[-2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def shared_tags(count: int) -> bytes:
    """Directories of TIFF that overlap, each with ``count`` tags, the last of which names the next directory."""
    values = [count] * count + [20 + 12 * (place + 1) for place in range(count)]
    tags = b"".join(struct.pack(">HHII", 34665, 1, 0, value) for value in values)
    return b"MM\0*" + struct.pack(">IH", 20, 0) + tags + bytes(8)


def png(width: int, height: int, *chunks: bytes, depth: int = 8) -> bytes:
    rows = zlib.compress(bytes((1 + width * depth // 8) * height), 9)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int, int, int], padding: int = 0) -> bytes:
    """A little-endian TIFF file: tag, type, count and value of each entry."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4 + padding)


EXIF = segment(0xE1, b"Exif\0\0")
"""Takes a file to Pillow, whose walk through the segments is slow; libjpeg-turbo alone would not mind them."""

GREEDY = tiff(*((0x9000 + number, 7, 60_000, 8) for number in range(4_000)))
"""Tags that claim all of the file each: 240 MB of 48 KB, and 4 GB where the file is larger."""


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(16, 24), (1, 1), (255, 3)])
def test_the_header_says_what_decoding_gives(tmp_path, format, size):
    content = encode(NOISE.resize(size), format)
    header = read_header(content)
    assert (header.format, header.width, header.height, header.frames) == (format, *size, 1)
    assert decode_image(content, "it").shape == (size[1], size[0], 3)
    (tmp_path / "it.xyz").write_bytes(content)
    assert measure_image(tmp_path / "it.xyz") == (size[1], size[0])


def test_scans_are_counted_and_bounded():
    assert read_header(with_scans(40)).passes == 40
    assert (decode_image(with_scans(MAX_PASSES), "it") == decode_image(with_scans(20), "it")).all()
    assert "more than 100 scans" in fault(with_scans(MAX_PASSES + 1))
    assert "more than 100 scans" in fault(with_scans(882))
    thumbnail = segment(0xE1, b"Exif\0\0" + b"\xff\xda" * 500)
    assert read_header(with_segments(thumbnail)).passes == 1  # only those that are scans
    assert read_header(with_scans(90)[:-2] + thumbnail * 2 + b"\xff\xd9").passes == 90
    large = with_scans(60).replace(struct.pack(">HH", 24, 16), struct.pack(">HH", 8_000, 8_000), 1)
    assert "64,000,000 pixels in 60 passes" in fault(large + bytes(64_000))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_segments(*[segment(0xFE, bytes(65_000))] * 140), "more than 8 MB of other things"),
        (with_segments(EXIF, *[segment(0xFE, b"")] * 70_000), "more than 65,536 parts"),
        (b"\xff\xd8" + b"\xff" * (9 << 20) + encode()[2:], "more than 8 MB of other things"),
        (b"\xff\xd8" + b"\xff" * (9 << 20) + bytes(9), "no area"),  # hours where bytes are tried twice
        (shared_tags(4_000), "more than 65,536 parts"),
        (png(8, 8, chunk(b"eXIf", shared_tags(4_000))), "more than 65,536 parts"),
        (with_segments(*[segment(0xE1, b"Exif\0\0" + shared_tags(250))] * 2), "more than 65,536 parts"),
        (with_segments(segment(0xE1, b"Exif\0\0" + GREEDY)), "more than 8 MB of other things"),
        (with_segments(EXIF, segment(0xE2, b"MPF\0" + GREEDY)), "more than 8 MB of other things"),
        (png(8, 8, chunk(b"tEXt", b"a\0" + b"x" * (9 << 20))), "more than 8 MB of other things"),
        (png(8, 8, *[chunk(b"tEXt", b"a\0b")] * 70_000), "more than 65,536 parts"),
        (png(8, 8, chunk(b"eXIf", GREEDY)), "more than 8 MB of other things"),
        (png(8_000, 8_000, depth=1), "64,000,000 pixels in"),
        (png(0, 8), "no area"),
        (png(8, 8, chunk(b"acTL", struct.pack(">II", 5, 0))), "several pictures"),
        (tiff((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1 << 20, 0), padding=1 << 21), "more than 65,536 parts"),
        (tiff(*[(256, 4, 1, 8)] * 5_000), "more than 4,096 tags"),
        (tiff((256, 4, 1, 8), (257, 4, 1, 8), (34665, 4, 1, 50)) + GREEDY[8:], "more than 8 MB of other things"),
        (tiff((256, 4, 1, 0), (257, 4, 1, 8)), "no area"),
        (b"GIF89a" + bytes(40), "no area"),
        (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 2_000, 2_000, 1, 8, 1) + bytes(9_000), "1,000 passes"),
        (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 8, 8, 1, 8, 1) + bytes(90_000), "more run lengths"),
        (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 0, -8, 1, 8, 0) + bytes(90), "no area"),
        (b"RIFF\0\1\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6 + bytes(80), "claims more than 67,108,864 pixels"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "is no picture but HEIC picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no picture, expected JPEG"),
    ],
)  # fmt: skip
def test_what_costs_too_much_is_refused(content, words):
    assert words in fault(content)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_several_pictures_in_one_are_refused(format):
    others = [NOISE.transpose(Image.Transpose.ROTATE_180), NOISE.point(lambda value: 255 - value)]
    assert "several pictures" in fault(encode(NOISE, format, save_all=True, append_images=others))


@pytest.mark.parametrize(("mode", "words"), [("I", "whole numbers of 32 bits"), ("F", "real numbers"), ("LAB", "LAB")])
def test_pixels_without_a_scale_are_refused(mode, words):
    assert words in fault(encode(Image.new(mode, (4, 6)), "TIFF"))


@pytest.mark.parametrize("order", [">", "<"])
def test_16_bit_gray_keeps_its_upper_byte(order):
    tall = Image.fromarray(np.array([[0, 255, 256, 65_535]], order + "u2"))
    assert decode_image(encode(tall, "TIFF"), "it")[..., 0].tolist() == [[0, 0, 1, 255]]


def test_only_regular_files_are_opened(tmp_path):
    """None of these is waited for."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "socket.jpg"))
        for name in ("pipe.jpg", "zero.jpg", "socket.jpg", "."):
            with pytest.raises(DataError, match="cannot open"):
                read_image(tmp_path / name)
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match="more than 67,108,864 bytes"):
        read_image(tmp_path / "large.jpg")


HEADS = [encode(NOISE, format)[:size] for format in FORMATS for size in (4, 16, 40, 200)]


@settings(max_examples=300, deadline=None)
@given(head=st.sampled_from([b"", *HEADS]), rest=st.binary(max_size=300), cut=st.integers(0, 40))
@example(head=b"GIF89a", rest=bytes(7) + b"\x2c", cut=0)
@example(head=b"MM\0+", rest=bytes(20), cut=0)
@example(head=b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0", rest=b"", cut=0)
def test_any_bytes_are_a_picture_or_an_error_of_ours(head, rest, cut):
    content = head[: len(head) - cut] + rest
    try:
        picture = decode_image(content, "it")
    except DataError:
        return
    assert kind_of(content[:32]) in FORMATS
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.dtype == np.uint8
    assert picture.size
