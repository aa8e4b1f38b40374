"""How pictures look, changed at random: every change against a pixel-by-pixel twin, every draw from its seed."""

from __future__ import annotations

import colorsys
import io
import itertools
import math
import pickle
import random

import numpy as np
import pytest
from PIL import Image

from regard.config import DataConfig
from regard.data.appearance import (
    Appearance,
    add_noise,
    blur,
    compress,
    jitter,
    lower_resolution,
    normal_parts,
    take_colors_out,
)
from regard.data.resizing import resize
from regard.data.transforms import TrainTransform
from regard.engine.build import build_appearance
from regard.errors import ConfigError
from regard.parsing import parse_yaml

AMOUNTS = (0.3, -0.4, 0.8, -0.21)

ALL = {
    "jitter": (0.4, 0.4, 0.4, 0.2), "gray": 0.3, "blur": 0.5, "low_resolution": 0.5, "noise": 0.5, "jpeg": 0.5,
}  # fmt: skip


def picture(height: int = 12, width: int = 7, seed: int = 0) -> np.ndarray:
    """Noise, with grays, primaries, black and white among it: where hues are undefined or two channels are equal."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    corners = list(itertools.product((0, 255), repeat=3))
    for place, color in enumerate([*corners, (90, 90, 90), (200, 200, 30), (30, 200, 200), (200, 30, 200)]):
        values[place % height, place // height] = color
    values.flags.writeable = False
    return values


def slow_gray(color):
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def slow_jitter(values, amounts, order):
    """One change after the other, pixel by pixel, in fractions of white; hue by the standard library."""
    pixels = [[channel / 255 for channel in color] for row in values.tolist() for color in row]
    for one in order:
        mean = sum(map(slow_gray, pixels)) / len(pixels)
        changed = []
        for color in pixels:
            if one == 3:
                hue, saturation, value = colorsys.rgb_to_hsv(*color)
                changed.append(colorsys.hsv_to_rgb((hue + amounts[3]) % 1, saturation, value))
            else:
                towards = (0, mean, slow_gray(color))[one]
                changed.append([min(1, max(0, towards + (1 + amounts[one]) * (c - towards))) for c in color])
        pixels = changed
    return 255 * np.array(pixels).reshape(values.shape)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
def test_jitter_equals_its_slow_twin_in_every_order(order):
    values = picture()
    alone = [tuple(a if i == one else 0.0 for i, a in enumerate(AMOUNTS)) for one in range(4)]
    for amounts in (AMOUNTS, (-0.3, 0.6, -0.5, 0.37), *alone):
        assert np.abs(jitter(values, amounts, order) - slow_jitter(values, amounts, order)).max() <= 0.501


def test_orders_differ_and_nothing_changes_nothing():
    values = picture()
    found = {jitter(values, AMOUNTS, order).tobytes() for order in itertools.permutations(range(4))}
    assert len(found) > 12
    assert np.array_equal(jitter(values, (0, 0, 0, 0), (0, 1, 2, 3)), values)
    turns = [jitter(values, (0, 0, 0, 1 / 3 * turn), (3,)) for turn in (-1, 1)]
    assert np.array_equal(turns[0], values[..., [1, 2, 0]])  # a third of the circle is a change of channels
    assert np.array_equal(turns[1], values[..., [2, 0, 1]])


def test_gray_blur_resolution_noise_and_compression_equal_their_slow_twins():
    values = picture()
    height, width, _ = values.shape
    gray = [[[math.floor(slow_gray(color) + 0.5)] * 3 for color in row] for row in values.tolist()]
    assert np.abs(take_colors_out(values) - np.array(gray)).max() <= 1e-6
    sigma = 1.3
    steps = range(-4, 5)  # three deviations
    weights = [math.exp(-(s**2) / (2 * sigma**2)) for s in steps]
    found = blur(values, sigma)
    for y, x, c in itertools.product(range(height), range(width), range(3)):
        total = sum(
            a * b * int(values[min(max(y + i, 0), height - 1), min(max(x + j, 0), width - 1), c])
            for i, a in zip(steps, weights)
            for j, b in zip(steps, weights)
        )
        assert abs(int(found[y, x, c]) - total / sum(weights) ** 2) <= 0.51
    assert np.array_equal(lower_resolution(values, 0.4), resize(resize(values, 5, 3), height, width))
    draws = random.Random(0).randbytes(values.size)
    noisy = add_noise(values, 0.1, draws).ravel().tolist()
    for value, draw, after in zip(values.ravel().tolist(), draws, noisy):
        assert abs(min(255, max(0, value + 25.5 * normal_parts()[draw])) - after) <= 0.51
    assert np.array_equal(compress(values, 40), saved(values, 40))


def saved(values: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))


def test_noise_is_normal_with_the_deviation_asked_for():
    noise = add_noise(np.full((100, 100, 3), 128, np.uint8), 0.05, random.Random(1).randbytes(30_000)) - 128.0
    assert abs(noise.mean()) < 0.3
    assert noise.std() == pytest.approx(0.05 * 255, rel=0.02)
    inside = [np.mean(np.abs(noise) < reach * noise.std()) for reach in (1, 2)]
    assert inside == pytest.approx([0.683, 0.954], abs=0.02)


def test_draws_follow_from_the_seed_and_probabilities_hold():
    values = picture(16, 8)
    appearance = Appearance(**ALL)
    assert pickle.loads(pickle.dumps(appearance)) == appearance
    found = [appearance(values, random.Random(seed)) for seed in range(40)]
    assert all(np.array_equal(appearance(values, random.Random(seed)), found[seed]) for seed in range(40))
    assert len({one.tobytes() for one in found}) == 40
    assert {(one.shape, one.dtype) for one in found} == {((16, 8, 3), np.dtype(np.uint8))}
    for name in ("gray", "blur", "low_resolution", "noise", "jpeg"):
        one = Appearance(**{name: 0.25})
        changed = [not np.array_equal(one(values, random.Random(seed)), values) for seed in range(200)]
        assert 0.15 < np.mean(changed) < 0.36, name
    half = Appearance(jitter=(0.5, 0, 0, 0), jitter_probability=0.5)
    assert 0.38 < np.mean([not np.array_equal(half(values, random.Random(s)), values) for s in range(200)]) < 0.62
    factors = [half._draw_jitter(random.Random(seed))[0][0] for seed in range(200)]
    assert -0.5 <= min(factors) < -0.46 < 0.46 < max(factors) <= 0.5


def test_a_training_picture_is_cropped_and_erased_as_without_and_its_border_and_hole_keep_their_colors():
    values = picture(40, 20)
    options = {"erasing": 1.0, "erasing_fill": "mean", "pad": 6}
    plain = TrainTransform(32, 16, **options)
    changed = TrainTransform(32, 16, **options, appearance=Appearance(jitter=(0.4, 0.4, 0.4, 0.2), blur=0.5))
    for seed in range(20):
        one, two = plain(values, random.Random(seed)), changed(values, random.Random(seed))
        outside, hole = (one == 0).all(0), (one == np.array([124, 116, 104])[:, None, None]).all(0)
        for place in (hole, outside & (two == 0).all(0)):
            assert np.array_equal(one[:, place], two[:, place])
        assert hole.any()
        assert not np.array_equal(one, two)
        first, second = random.Random(seed), random.Random(seed)
        assert (plain.draw_geometry(first), plain.draw_erasing(first)) == (
            changed.draw_geometry(second), changed.draw_erasing(second),
        )  # fmt: skip


def test_settings_make_it_and_by_default_nothing_is_drawn():
    assert build_appearance(DataConfig()) is None
    assert build_appearance(DataConfig(jitter=(0.1, 0, 0, 0), jitter_probability=0.0)) is None
    settings = parse_yaml("{jitter: [0.4, 0.4, 0.4, 0.1], gray: 0.1, blur_sigma: [1, 2], jpeg_quality: [10, 20]}", "x")
    built = build_appearance(DataConfig(**settings))
    assert built == Appearance((0.4, 0.4, 0.4, 0.1), gray=0.1, blur_sigma=(1, 2), jpeg_quality=(10, 20))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"gray": 1.5}, "gray is 1.5, expected a probability"),
        ({"jitter": (0, 0, 0, 0.6)}, r"jitter is \[0, 0, 0, 0.6\], expected brightness"),
        ({"jitter": (1.2, 0, 0, 0)}, "jitter is "),
        ({"blur_sigma": (2, 1)}, r"blur_sigma is \[2, 1\], expected 0 < low <= high <= 16"),
        ({"noise_deviation": (0, 0.1)}, "noise_deviation is"),
        ({"low_resolution_scale": (0.5, 1.5)}, "low_resolution_scale is"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality is"),
    ],
)
def test_ranges_that_are_none_are_told_in_one_line(options, wanted):
    with pytest.raises(ConfigError, match=wanted) as caught:
        Appearance(**options)
    assert "\n" not in str(caught.value)
