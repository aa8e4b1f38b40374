from __future__ import annotations

import math
import pickle
import random
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regard.data.resizing import mirror, resample, resize
from regard.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Box,
    ErasingFill,
    Geometry,
    Interpolation,
    TestTransform,
    TrainTransform,
    draw_box,
    draw_geometry,
    erase,
    erasing_color,
    normalize,
)
from regard.errors import ConfigError, DataError

sizes = st.integers(1, 10)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(noise(5, 4)).resize((width, height), Image.Resampling.BICUBIC))


def naive_warp(picture, geometry, fill):
    """Flip, pad and crop, pixel by pixel."""
    out = np.empty_like(picture)
    for y in range(geometry.height):
        for x in range(geometry.width):
            source_y, source_x = y + geometry.top - geometry.pad, x + geometry.left - geometry.pad
            if 0 <= source_y < geometry.height and 0 <= source_x < geometry.width:
                out[y, x] = picture[source_y, geometry.width - 1 - source_x if geometry.flip else source_x]
            else:
                out[y, x] = fill
    return out


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.booleans(), st.integers(0, 15), st.data())
@pytest.mark.parametrize("shape", [(), (1,), (3,), (17,)])
def test_warp_equals_the_naive_twin(shape, height, width, flip, pad, data):
    top, left = data.draw(st.integers(0, 2 * pad)), data.draw(st.integers(0, 2 * pad))
    geometry = Geometry(height, width, flip, pad, top, left)
    picture = np.random.default_rng(1).integers(0, 256, (height, width, *shape), dtype=np.uint8)
    kept = picture.copy()
    assert (geometry.warp(picture, 7) == naive_warp(picture, geometry, 7)).all()
    assert (picture == kept).all()


def test_warp_keeps_floats_and_never_shares_memory():
    heat = np.random.default_rng(0).random((6, 4, 17), dtype=np.float32)
    warped = Geometry(6, 4).warp(heat)
    assert warped.dtype == np.float32
    assert (warped == heat).all()
    assert not np.shares_memory(warped, heat)


def test_warp_fills_by_channel():
    warped = Geometry(4, 4, pad=4, top=0, left=0).warp(noise(4, 4), np.array([1, 2, 3]))
    assert (warped == [1, 2, 3]).all()


@settings(deadline=None)
@given(sizes, sizes, st.booleans(), st.integers(0, 6), st.data())
def test_points_follow_the_pixels(height, width, flip, pad, data):
    """A lit pixel and its point arrive at the same place, through resizing by whole factors as well."""
    factor = data.draw(st.integers(1, 3))
    geometry = Geometry(
        height * factor,
        width * factor,
        flip,
        pad,
        data.draw(st.integers(0, 2 * pad)),
        data.draw(st.integers(0, 2 * pad)),
    )
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    mask = np.zeros((height, width), np.uint8)
    mask[y, x] = 255
    warped = geometry.warp(resize(mask, geometry.height, geometry.width, mask=True))
    (moved,) = geometry.move(np.array([[x, y]], float), stored=(height, width))
    lit = np.argwhere(warped)
    whole_inside = lit.size and len(lit) == factor**2
    if whole_inside:
        np.testing.assert_allclose(lit.mean(axis=0)[::-1], moved)
    else:
        margin = (factor - 1) / 2
        outside = (moved - margin < 0) | (moved + margin > np.array([geometry.width, geometry.height]) - 1)
        assert outside.any()


@settings(deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90),
    st.sampled_from([1, 3]), st.booleans(),
)  # fmt: skip
def test_pictures_are_resized_to_the_same_bytes_without_torch(height, width, to_height, to_width, channels, hard):
    picture = noise(height, width, channels)
    picture = np.where(picture < 128, 0, 255).astype(np.uint8) if hard else picture
    assert np.array_equal(resample(picture, to_height, to_width), resize(picture, to_height, to_width))


def test_flipping_twice_changes_nothing():
    picture = noise(7, 5)
    assert (mirror(mirror(picture)) == picture).all()
    geometry = Geometry(7, 5, flip=True)
    points = np.array([[0.0, 0.0], [4.0, 6.0], [1.3, 2.6]])
    np.testing.assert_allclose(geometry.move(geometry.move(points, (7, 5)), (7, 5)), points)


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 60), st.integers(1, 90), st.integers(1, 60))
def test_resize_is_pillow_s_bilinear(height, width, to_height, to_width):
    picture = noise(height, width)
    expected = Image.fromarray(picture).resize((to_width, to_height), Image.Resampling.BILINEAR)
    resized = resize(picture, to_height, to_width)
    assert resized.dtype == np.uint8
    assert np.abs(resized.astype(int) - np.asarray(expected)).max() <= 2


@settings(deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 60), st.integers(1, 90), st.integers(1, 60), st.sampled_from([(), (1,), (3,)])
)  # fmt: skip
def test_resize_is_pillow_s_bicubic(height, width, to_height, to_width, channels):
    """To the last byte: a network imported from another toolkit tells one gray level from none."""
    picture = noise(height, width)[..., 0] if channels == () else noise(height, width, *channels)
    small = Image.fromarray(picture.reshape(height, width, *(channels if channels == (3,) else ())))
    wanted = np.asarray(small.resize((to_width, to_height), Image.Resampling.BICUBIC)).reshape(
        to_height, to_width, *channels
    )
    resized = resize(picture, to_height, to_width, interpolation="bicubic")
    assert resized.dtype == np.uint8
    assert np.array_equal(resized, wanted)


def test_resize_of_a_person_crop_is_pillow_s():
    picture = smooth(128, 64)
    for height, width in ((256, 128), (384, 192), (96, 48)):
        expected = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        difference = np.abs(resize(picture, height, width).astype(int) - expected)
        assert difference.max() <= 1
        assert difference.mean() < 0.01


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 200), st.integers(1, 200), st.sampled_from(
        get_args(Interpolation)
    ), st.booleans(),
)  # fmt: skip
def test_flipping_within_resize_is_flipping_afterwards(height, width, to_height, to_width, interpolation, mask):
    picture = noise(height, width)
    flipped = resize(picture, to_height, to_width, mask=mask, interpolation=interpolation, flip=True)
    assert (flipped == resize(picture, to_height, to_width, mask=mask, interpolation=interpolation)[:, ::-1]).all()


def test_transforms_write_where_they_are_told():
    picture, batch = noise(30, 20), np.full((4, 32, 16, 3), 9, np.uint8)
    for number, transform in enumerate((TrainTransform(32, 16, erasing=1.0), TestTransform(32, 16)), start=1):
        transform(picture, random.Random(5), batch[number])
        assert (batch[number] == transform(picture, random.Random(5)).transpose(1, 2, 0)).all()
    assert (batch[[0, 3]] == 9).all()


@pytest.mark.parametrize("pad", [0, 3, 40])
def test_a_crop_may_miss_the_picture(pad):
    """Every place the crop can have, also those where the padding alone is left."""
    picture = noise(4, 3)
    for top in range(2 * pad + 1):
        geometry = Geometry(4, 3, False, pad, top, pad)
        assert (geometry.warp(picture, 7) == naive_warp(picture, geometry, 7)).all()


def test_resize_takes_what_it_is_given():
    picture = noise(8, 6)
    assert resize(picture, 8, 6) is picture
    picture.flags.writeable = False
    assert resize(picture, 4, 3).shape == (4, 3, 3)
    assert resize(picture[:, ::-1], 4, 3).shape == (4, 3, 3)
    mask = (noise(8, 6, 1)[..., 0] > 127).astype(np.uint8)
    assert set(np.unique(resize(mask, 20, 15, mask=True))) <= {0, 1}
    assert resize(mask, 20, 15, mask=True).shape == (20, 15)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0, 3), (5, 0)])
def test_a_picture_without_area_is_refused_in_one_line(shape):
    picture = np.zeros(shape, np.uint8)
    for made in (lambda: resize(picture, 8, 6), lambda: TestTransform(8, 6)(picture)):
        with pytest.raises(DataError, match=rf"a picture of {shape[0]} x {shape[1]} pixels .* wanted at least 1 x 1"):
            made()
    with pytest.raises(DataError, match="leave out boxes without area"):
        TrainTransform(8, 6)(picture, random.Random(0))


def naive_box(generator, height, width, area, ratio):
    """Random erasing once more: the box by a loop."""
    for _ in range(100):
        target = (area[0] + (area[1] - area[0]) * generator.random()) * height * width
        aspect = ratio[0] + (ratio[1] - ratio[0]) * generator.random()
        h = int(round(math.sqrt(target * aspect)))  # noqa: RUF046
        w = int(round(math.sqrt(target / aspect)))  # noqa: RUF046
        if 1 <= w < width and 1 <= h < height:
            top = math.floor(generator.random() * (height - h + 1))
            left = math.floor(generator.random() * (width - w + 1))
            return Box(top, left, h, w)
    return None


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 10**9))
def test_box_equals_the_naive_twin_and_fits(height, width, seed):
    area, ratio = (0.02, 0.4), (0.3, 1 / 0.3)
    box = draw_box(random.Random(seed), height, width, area, ratio)
    assert box == naive_box(random.Random(seed), height, width, area, ratio)
    if box is not None:
        assert 0 <= box.top <= box.top + box.height <= height
        assert 0 <= box.left <= box.left + box.width <= width
        assert box.height < height
        assert box.width < width


def test_boxes_have_the_asked_areas_and_ratios():
    generator = random.Random(0)
    boxes = [draw_box(generator, 256, 128, (0.02, 0.4), (0.3, 1 / 0.3)) for _ in range(2000)]
    areas = np.array([box.height * box.width / (256 * 128) for box in boxes if box])
    assert len(areas) == 2000
    assert 0.019 < areas.min() < 0.04
    assert 0.36 < areas.max() < 0.405
    corners = np.array([(box.top + box.height == 256, box.left + box.width == 128) for box in boxes if box])
    assert corners.any(axis=0).all()


def test_box_that_never_fits_is_none():
    assert draw_box(random.Random(0), 1, 1, (0.02, 0.4), (0.3, 1 / 0.3)) is None


def test_geometry_draws_are_uniform():
    generator = random.Random(0)
    drawn = [draw_geometry(generator, 8, 4, flip=0.5, pad=2) for _ in range(5000)]
    assert 0.47 < np.mean([geometry.flip for geometry in drawn]) < 0.53
    places, counts = np.unique([(g.top, g.left) for g in drawn], axis=0, return_counts=True)
    assert len(places) == 25
    assert counts.min() > 140
    assert {draw_geometry(generator, 8, 4, flip=1.0, pad=0).flip for _ in range(50)} == {True}
    assert {draw_geometry(generator, 8, 4, flip=0.0, pad=0).flip for _ in range(50)} == {False}


@pytest.mark.parametrize("fill", get_args(ErasingFill))
def test_erase_paints_the_box_and_nothing_else(fill):
    picture, box = np.zeros((20, 10, 3), np.uint8), Box(3, 2, 6, 5)
    erase(picture, box, erasing_color(fill, IMAGENET_MEAN, IMAGENET_STD), random.Random(0))
    inside = picture[3:9, 2:7]
    outside = picture.copy()
    outside[3:9, 2:7] = 0
    assert not outside.any()
    if fill in ("random", "normal"):
        assert len(np.unique(inside)) > 50
        repeated = np.zeros_like(picture)
        erase(repeated, box, erasing_color(fill, IMAGENET_MEAN, IMAGENET_STD), random.Random(0))
        assert (repeated == picture).all()
    else:
        assert (inside == inside[0, 0]).all()


def test_erasing_colors_after_normalization():
    """The mean is zero, the released color the mean's own values, both up to half a gray level."""
    half = 0.5 / 255 / torch.tensor(IMAGENET_STD)
    expected: dict[ErasingFill, tuple[float, ...]] = {"mean": (0.0, 0.0, 0.0), "released": IMAGENET_MEAN}
    expected["mindspore"] = (0.4914, 0.4822, 0.4465)  # where pixels are centered on that code's own mean
    for fill, values in expected.items():
        color = erasing_color(fill, IMAGENET_MEAN, IMAGENET_STD)
        mean = (0.486, 0.459, 0.408) if fill == "mindspore" else IMAGENET_MEAN
        painted = normalize(torch.from_numpy(color).view(1, 3, 1, 1), mean).flatten()
        assert ((painted - torch.tensor(values)).abs() <= half + 1e-6).all()


@pytest.mark.parametrize("fill", ["random", "normal"])
def test_erasing_noise_has_its_distribution_after_normalization(fill):
    """random is uniform over the gray levels, normal is N(0, 1) cut off at black and white."""
    picture = np.zeros((200, 200, 3), np.uint8)
    erase(picture, Box(0, 0, 200, 200), erasing_color(fill, IMAGENET_MEAN, IMAGENET_STD), random.Random(0))
    generator = np.random.default_rng(0)
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD)):
        wanted = generator.random(40_000) if fill == "random" else mean + std * generator.standard_normal(40_000)
        found, wanted = np.sort(picture[..., channel].ravel() / 255), np.sort(wanted.clip(0, 1))
        assert np.abs(found - wanted).max() < 0.03
    noise = picture.reshape(-1, 3).astype(float)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("area", [(0.02, 0.2), (0.3, 0.3)])
def test_erased_boxes_keep_to_their_area(area):
    transform = TrainTransform(64, 32, flip=0, pad=0, erasing=1.0, erasing_area=area)
    shares = [np.count_nonzero(transform(np.zeros((64, 32, 3), np.uint8), random.Random(s))[0]) for s in range(300)]
    low, high = np.array(area) * 64 * 32
    assert low * 0.9 <= min(shares) <= max(shares) <= high * 1.1
    assert max(shares) - min(shares) >= 0.7 * (high - low)


def test_both_transforms_resize_as_they_are_told():
    picture = noise(30, 20)
    for interpolation in get_args(Interpolation):
        expected = resize(picture, 32, 16, interpolation=interpolation).transpose(2, 0, 1)
        train = TrainTransform(32, 16, flip=0, pad=0, erasing=0, interpolation=interpolation)
        assert (train(picture, random.Random(0)) == expected).all()
        assert (TestTransform(32, 16, interpolation)(picture) == expected).all()
    assert (resize(picture, 32, 16) != resize(picture, 32, 16, interpolation="bicubic")).any()


def test_train_transform_is_its_parts_in_order():
    picture = noise(30, 20)
    transform = TrainTransform(32, 16, erasing=1.0, pad_fill="mean")
    for seed in range(30):
        generator = random.Random(seed)
        geometry = draw_geometry(generator, 32, 16, flip=0.5, pad=10)
        expected = naive_warp(resize(picture, 32, 16), geometry, [124, 116, 104])
        assert generator.random() < 1.0
        box = naive_box(generator, 32, 16, (0.02, 0.4), (0.3, 1 / 0.3))
        assert box is not None
        top, left, height, width = box
        expected[top : top + height, left : left + width] = [124, 116, 104]
        assert (transform(picture, random.Random(seed)) == expected.transpose(2, 0, 1)).all()
        assert transform.draw_geometry(random.Random(seed)) == geometry


def test_transforms_leave_the_picture_alone():
    picture = noise(32, 16)
    kept = picture.copy()
    picture.flags.writeable = False
    transform = TrainTransform(32, 16, flip=0.5, pad=0, erasing=1.0)
    for seed in range(10):
        out = transform(picture, random.Random(seed))
        assert out.shape == (3, 32, 16)
        assert out.dtype == np.uint8
    assert (picture == kept).all()


def test_nothing_to_do_is_test_transform():
    picture = noise(30, 20)
    plain = TrainTransform(32, 16, flip=0, pad=0, erasing=0)(picture, random.Random(0))
    assert (plain == TestTransform(32, 16)(picture)).all()
    assert (plain == resize(picture, 32, 16).transpose(2, 0, 1)).all()


def test_transforms_cross_processes():
    for transform in (TrainTransform(32, 16, erasing_fill="random"), TestTransform(32, 16)):
        assert pickle.loads(pickle.dumps(transform)) == transform


def test_normalize_equals_the_formula():
    images = torch.from_numpy(np.stack([noise(6, 4, seed=seed) for seed in range(3)])).permute(0, 3, 1, 2)
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    out = normalize(images)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, (images / 255 - mean) / std, atol=1e-6, rtol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert normalize(images.contiguous()).is_contiguous()
    assert images.dtype == torch.uint8
    assert normalize(out) is out
    other = normalize(images, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    torch.testing.assert_close(other, images / 127.5 - 1, atol=1e-6, rtol=1e-5)


def test_normalize_first_used_in_inference_serves_training():
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    statistics = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    with torch.inference_mode():
        normalize(images, *statistics)
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (normalize(images, *statistics) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"height": 0}, ["0 x 16", "1 or more"]),
        ({"flip": 1.5}, ["flip is 1.5", "between 0 and 1"]),
        ({"erasing": -0.1}, ["erasing is -0.1", "between 0 and 1"]),
        ({"flip": float("nan")}, ["flip is nan"]),
        ({"pad": -1}, ["pad is -1", "0 or more"]),
        ({"erasing_area": (0.4, 0.02)}, ["erasing_area", "(0.4, 0.02)"]),
        ({"erasing_area": (0.1, 1.2)}, ["erasing_area", "<= 1"]),
        ({"erasing_ratio": (0.0, 3.0)}, ["erasing_ratio"]),
        ({"erasing_fill": "grey"}, ["'grey'", "mean or released or mindspore or random or normal"]),
        ({"pad_fill": "white"}, ["'white'", "black or mean"]),
        ({"interpolation": "nearest"}, ["'nearest'", "bilinear or bicubic"]),
    ],
)
def test_bad_options_are_told_in_one_line(options, words):
    arguments: dict[str, Any] = {"height": 32, "width": 16, **options}
    with pytest.raises(ConfigError) as error:
        TrainTransform(**arguments)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)
    if "height" in options:
        with pytest.raises(ConfigError):
            TestTransform(0, 16)
