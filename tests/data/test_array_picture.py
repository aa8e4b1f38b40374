"""Pictures as NumPy arrays: read by the one reader where they are named, never unpickled, no more than they claim."""

from __future__ import annotations

import io
import pickle
import struct

import numpy as np
import pytest

from regard.data.image import MAX_PIXELS, decode_image, measure_image, read_image
from regard.data.listing import list_images, noting
from regard.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)


def saved(array, **how) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **how)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        PIXELS,
        PIXELS.transpose(2, 0, 1),
        np.asfortranarray(PIXELS),
        np.ascontiguousarray(PIXELS.transpose(2, 0, 1)),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32).transpose(2, 0, 1),
        (PIXELS / 255).astype(np.float16),
        (PIXELS / 255).astype(">f4"),
    ],
    ids=["last", "first", "fortran", "copied", "f8", "f4 first", "f2", "big endian"],
)
def test_arrays_are_the_picture(array, tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, array)
    found = read_image(file)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable
    np.testing.assert_array_equal(found, PIXELS)
    assert measure_image(file) == (9, 5)


def test_every_version_of_the_header():
    for version in ((1, 0), (2, 0), (3, 0)):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, PIXELS, version=version)
        np.testing.assert_array_equal(decode_image(stream.getvalue(), "a"), PIXELS)


class Bomb:
    """What an unpickler would run."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def header(text: str, length: int | None = None) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text) if length is None else length) + text.encode()


def of_shape(shape: str, kind: str = "|u1") -> bytes:
    return header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (saved(PIXELS[..., 0]), r"shape \(9, 5\), expected"),
        (saved(PIXELS[None]), r"shape \(1, 9, 5, 3\), expected"),
        (saved(PIXELS[..., :2]), r"shape \(9, 5, 2\), expected"),
        (saved(PIXELS[:3]), r"shape \(3, 5, 3\) and may be either of two pictures"),
        (saved(PIXELS[:0]), "no area"),
        (saved(PIXELS.astype(np.int64)), "NumPy array of <i8, expected"),
        (saved(PIXELS > 9), r"of \|b1, expected"),
        (saved(PIXELS / 100.0), "holds numbers from 0 to 2.49, expected 0 to 1"),
        (saved(PIXELS / 255 - 0.1), "holds numbers from -0.1"),
        (saved(np.where(PIXELS > 9, np.nan, 0.0)), "holds numbers from nan to nan"),
        (saved(np.array([[[Bomb()] * 3] * 4] * 5), allow_pickle=True), "of Python objects, which is never opened"),
        (saved(np.zeros((4, 4, 3), [("r", "u1")])), "of no plain numbers"),
        (pickle.dumps(PIXELS), "is no picture"),
        (saved(PIXELS)[:-1], "holds 134 bytes of numbers, expected 135"),
        (saved(PIXELS) + b"\0", "holds 136 bytes of numbers, expected 135"),
        (saved(PIXELS)[:9], "it ends too early"),
        (saved(PIXELS)[:6], "unknown version"),
        (b"\x93NUMPY\7\0" + bytes(99), "unknown version"),
        (header("{}", 60_000), "header of 60,000 bytes"),
        (header("{}"), "of no plain numbers"),
        (header("__import__('os').abort()"), "of no plain numbers"),
        (of_shape("99999, 99999, 3"), f"claims more than {MAX_PIXELS:,} pixels"),
        (of_shape("9" * 60), "of shape"),
        (of_shape("8, 8, 3", "<f4") + bytes(9), "holds 9 bytes of numbers, expected 768"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(content, said, tmp_path):
    with pytest.raises(DataError, match=said) as caught:
        decode_image(content, "'a.npy'")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_damaged_arrays_end_in_one_line():
    whole, draw = saved(PIXELS / 255), np.random.default_rng(1)
    for _ in range(400):
        content = bytearray(whole)
        for place in draw.integers(0, 140, draw.integers(1, 5)):
            content[place] = draw.integers(256)
        try:
            assert decode_image(bytes(content), "a").shape[2] == 3
        except DataError as error:
            said = str(error)
            assert "\n" not in said.replace("\\n", "")


def test_a_folder_has_no_arrays_among_its_pictures(tmp_path, picture):
    np.save(tmp_path / "a.npy", PIXELS)
    np.save(tmp_path / "map.npy", np.zeros((1, 8, 4, 2)))
    picture(tmp_path / "b.png")
    with noting() as skipped:
        assert [path.name for path in list_images(tmp_path)] == ["b.png"]
    assert str(skipped) == f"2 NumPy arrays ({tmp_path / 'a.npy'})"
