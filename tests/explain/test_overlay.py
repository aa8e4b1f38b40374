"""Pictures for people."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from regard.errors import DataError
from regard.explain.figures.overlay import data_uri, framed, heat_over, open_picture, sheet

GRAY = np.full((128, 64, 3), 120, np.uint8)


def test_no_heat_leaves_a_gray_picture_as_it_is():
    assert np.abs(np.asarray(heat_over(GRAY, np.zeros((8, 4)), height=128)).astype(int) - 120).max() <= 1


def test_a_turned_photo_is_upright_under_the_heat(tmp_path):
    """As the network sees it, whether its path is given or the image that Pillow opened; clear pixels are black."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((20, 40, 4), np.uint8)
    pixels[:, 20:] = (250, 10, 10, 255)
    Image.fromarray(pixels + np.uint8(0)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        for picture in (tmp_path / "a.png", str(tmp_path / "a.png"), opened):
            assert open_picture(picture).size == (20, 40)
            assert heat_over(picture, np.zeros((8, 4)), height=40).size == (20, 40)
            assert np.asarray(open_picture(picture))[[0, -1], 0].tolist() == [[0, 0, 0], [250, 10, 10]]
    with pytest.raises(DataError, match="float64 of shape"):
        heat_over(np.zeros((8, 4, 3)), np.zeros((8, 4)))


def test_heat_is_brightest_where_the_map_is_and_fades_away():
    heat = np.zeros((8, 4))
    heat[2, 1] = 1
    picture = np.asarray(heat_over(GRAY, heat, height=128)).astype(int)
    distance = np.abs(picture - 120).sum(axis=2)
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    assert (y // 16, x // 16) == (2, 1)
    assert distance[80:].max() <= 3


def test_more_heat_is_lighter():
    lightness = [np.asarray(heat_over(GRAY * 0, np.full((2, 2), h), height=32)).mean() for h in np.linspace(0, 1, 9)]
    assert lightness == sorted(lightness)
    assert len(set(lightness)) == 9


@pytest.mark.parametrize("heat", [np.zeros((1, 8, 4)), np.full((8, 4), np.nan), np.zeros(4)])
def test_a_map_must_be_a_map(heat):
    with pytest.raises(DataError, match="heat map of shape"):
        heat_over(GRAY, heat)


def test_frames_differ_in_form_not_in_color_alone():
    pictures = {kind: framed(GRAY, kind, height=128, width=4) for kind in ("query", "right", "wrong", "junk")}
    assert {picture.size for picture in pictures.values()} == {(72, 136)}
    left = {kind: np.asarray(picture)[:, 1].astype(int) for kind, picture in pictures.items()}
    for kind, column in left.items():
        white = (column > 250).all(axis=1).mean()
        assert (0.2 < white < 0.8) if kind in ("wrong", "junk") else white == 0
    r, g, _ = left["right"][0]
    assert g > r
    r, g, _ = left["wrong"][0]
    assert r > g


def test_sheet_keeps_columns_and_holes():
    small, tall = Image.new("RGB", (10, 20), "red"), Image.new("RGB", (30, 40), "blue")
    canvas = sheet([[small, tall], [None, small]], gap=2)
    assert canvas.size == (10 + 30 + 3 * 2, 40 + 20 + 3 * 2)
    assert canvas.getpixel((3, 3)) == (255, 0, 0)
    assert canvas.getpixel((15, 3)) == (0, 0, 255)
    assert canvas.getpixel((5, 50)) == (255, 255, 255)
    assert canvas.getpixel((15, 50)) == (255, 0, 0)
    with pytest.raises(DataError, match="no picture"):
        sheet([[None]])


def test_data_uri_holds_the_picture_at_the_size_asked_for():
    head, data = data_uri(GRAY, max_height=64).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (32, 64)
    with Image.open(io.BytesIO(base64.b64decode(data_uri(GRAY, max_height=500).split(",")[1]))) as image:
        assert image.size == (64, 128)


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "crop.jpg"
    path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"crop\.jpg"):
        open_picture(path)
    with pytest.raises(DataError, match="missing"):
        open_picture(tmp_path / "missing.jpg")
