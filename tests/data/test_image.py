from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from regard.data.image import MAX_PIXELS, measure_image, read_image, read_picture, read_plain_jpeg
from regard.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def fault(path) -> str:
    with pytest.raises(DataError) as error:
        read_image(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert "expected" in message or "restore" in message
    return message


def test_png_comes_back_exactly_and_writable(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    picture = read_image(tmp_path / "a.png")
    assert picture.dtype == np.uint8
    assert (picture == PIXELS).all()
    assert (read_image(str(tmp_path / "a.png")) == PIXELS).all()
    picture[0] = 0


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    gray = np.repeat(np.arange(0, 240, 10, dtype=np.uint8).reshape(6, 4, 1), 3, axis=2)
    if mode == "I;16":
        image = Image.fromarray(gray[..., 0].astype(np.uint16) * 257)
    elif mode == "P":
        image = Image.fromarray(gray).quantize(256)
    else:
        image = Image.fromarray(gray).convert(mode)
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    image.save(path, quality=100)
    picture = read_image(path)
    assert picture.shape == (6, 4, 3)
    assert picture.dtype == np.uint8
    if mode != "1":
        assert np.abs(picture.astype(int) - gray).max() <= 6


def test_transparent_pixels_become_black(tmp_path):
    layers = np.full((2, 2, 4), 200, np.uint8)
    layers[..., 3] = [[0, 255], [255, 0]]
    Image.fromarray(layers).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[..., 0].tolist() == [[0, 200], [200, 0]]


def test_palette_with_transparent_entry(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png").tolist() == [[[0, 0, 0], [40, 50, 60]]]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_applied(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    assert (read_image(tmp_path / "a.png") == upright(PIXELS)).all()


@pytest.mark.parametrize("orientation", [1, 2, 5, 6, 8])
@pytest.mark.parametrize(
    ("mode", "ending"), [("RGB", "jpg"), ("L", "jpg"), ("RGBA", "png"), ("P", "png"), ("RGB", "tif")]
)
def test_a_picture_is_the_same_however_it_is_given(tmp_path, mode, ending, orientation):
    """Its file, its file opened by Pillow, and its pixels; and it is measured as it is seen."""
    layers = np.dstack([PIXELS, np.full((6, 4), 255, np.uint8)])
    layers[:3, :, 3] = 0
    image, exif = Image.fromarray(layers if mode == "RGBA" else PIXELS), Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    image.convert(mode).save(path, exif=exif)
    wanted = read_image(path)
    assert wanted.shape == ((4, 6, 3) if orientation >= 5 else (6, 4, 3))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(read_picture(opened), wanted)
    np.testing.assert_array_equal(read_picture(wanted), wanted)
    np.testing.assert_array_equal(read_picture(path), wanted)
    assert measure_image(path) == wanted.shape[:2]


def test_what_is_no_picture_is_told(tmp_path):
    cut = tmp_path / "cut.jpg"
    Image.fromarray(np.tile(PIXELS, (9, 9, 1))).save(cut)
    cut.write_bytes(cut.read_bytes()[:900])
    others = [
        PIXELS[..., 0],
        PIXELS / 255,
        PIXELS.transpose(2, 0, 1),
        np.zeros((0, 4, 3), np.uint8),
        None,
        [1],
        b"a.jpg",
    ]
    for other in others:
        with pytest.raises(DataError, match=r"^mine is .*(expected the path of a picture|have no area)"):
            read_picture(other, "mine")
    with Image.open(cut) as opened, pytest.raises(DataError, match="mine is damaged"):
        read_picture(opened, "mine")
    with pytest.raises(DataError, match="mine has pixels that are real numbers"):
        read_picture(Image.new("F", (2, 2)), "mine")


def test_faults_are_told_in_one_line(tmp_path):
    good = io.BytesIO()
    Image.fromarray(np.tile(PIXELS, (8, 8, 1))).save(good, "JPEG")
    files = {
        "cut.jpg": good.getvalue()[: len(good.getvalue()) // 2],
        "empty.jpg": b"",
        "text.jpg": b"this is no picture\n" * 20,
        "Größe 1.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert "damaged" in fault(tmp_path / "cut.jpg")
    assert "is empty (0 bytes)" in fault(tmp_path / "empty.jpg")
    assert "is no picture" in fault(tmp_path / "text.jpg")
    fault(tmp_path / "Größe 1.png")
    assert "there is no image" in fault(tmp_path / "gone.jpg")
    assert "cannot open" in fault(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    assert "Permission denied" in fault(tmp_path / "a.png")


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 10_000, 60_000])
def test_decompression_bomb_is_refused(tmp_path, side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(content)
    assert "pixels" in fault(tmp_path / "bomb.png")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), form=st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WEBP"]))
def test_corruption_is_read_or_told_but_never_crashes(tmp_path, data, form):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, form)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.jpg"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        picture = read_image(path)
    except DataError:
        return
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3


@pytest.mark.parametrize("space", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 20}, {"exif": True}])
def test_jpeg_gives_the_pixels_pillow_gives(tmp_path, space, options):
    options = dict(options)
    if options.pop("exif", False):
        options["exif"] = exif = Image.Exif()
        exif[0x0112] = 6
    path = tmp_path / "a.JPG"
    noise = np.random.default_rng(1).integers(0, 256, (37, 21, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(space).save(path, "JPEG", **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    picture = read_image(path)
    assert (picture == expected).all()
    picture[0] = 0


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_is_judged_as_pillow_judges_it(data):
    stream = io.BytesIO()
    Image.fromarray(np.tile(PIXELS, (4, 4, 1))).save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    picture = read_plain_jpeg(content)
    if picture is not None:
        with Image.open(io.BytesIO(content)) as image:
            assert (picture == np.asarray(image.convert("RGB"))).all()
