"""Corruptions of crowd crops: same size, same every time, worse with severity, and what each promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from regard.crowd import make_crowd
from regard.data.corruptions import FAMILIES, KINDS, SEVERITIES, Corruption, Mixed, Occlusion, Resolution, choose_kinds
from regard.data.corruptions.filters import blend, disk, gaussian, plasma, resample, smooth_noise, streak, warp
from regard.data.datasets import load_dataset
from regard.data.image import read_image
from regard.data.loaders import test_loader as loader_of
from regard.data.transforms import TestTransform
from regard.errors import ConfigError, UnknownNameError

# Published levels change in character, not in amount alone: frost and fog get other weights and textures, water
# becomes mud, and color is taken away before it is added.
NOT_MONOTONE = {"frost", "fog", "spatter", "saturate"}


@pytest.fixture(scope="session")
def crops(tmp_path_factory) -> list[np.ndarray]:
    """Pictures of twelve persons, 128 x 64."""
    root = tmp_path_factory.mktemp("crowd") / "small"
    make_crowd(root, train_ids=2, test_ids=4, cameras=3, per_camera=1, cameras_per_id=(3, 3), progress=False, workers=1,
               distractors=0, junk=0)  # fmt: skip
    splits = load_dataset("crowd", root)
    return [read_image(sample.path) for sample in (*splits.query, *splits.gallery)][:12]


@pytest.fixture
def crop() -> np.ndarray:
    """A picture with edges, shades and noise, 32 x 16."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(40, 200, 32)[:, None, None] + np.array([0, 20, -30])
    picture = np.broadcast_to(ramp, (32, 16, 3)).copy()
    picture[8:20, 4:11] = (170, 30, 60)
    return (picture + rng.normal(0, 5, picture.shape)).clip(0, 255).astype(np.uint8)


def error(first: np.ndarray, second: np.ndarray) -> float:
    return float(((first.astype(np.float64) - second) ** 2).mean())


def test_the_benchmark_has_twenty_kinds_in_four_families_and_occlusion_comes_on_top():
    assert FAMILIES == ("noise", "blur", "weather", "digital", "occlusion")
    sizes = [sum(kind.family == family for kind in KINDS.values()) for family in FAMILIES]
    assert sizes == [4, 5, 6, 5, 1]
    assert all(len(kind.levels) == 5 for kind in KINDS.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_corruptions_get_worse_with_severity_on_crowd_crops(kind, crops):
    errors = [
        np.mean([error(crop, Corruption(kind, severity)(crop, str(i))) for i, crop in enumerate(crops)])
        for severity in SEVERITIES
    ]
    assert errors[0] > 0.2
    if kind not in NOT_MONOTONE:
        assert errors == sorted(errors)
    assert errors[4] > 1.2 * errors[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(32, 16), (7, 3), (1, 1), (1, 40), (90, 2)])
def test_shape_and_type_stay_and_the_picture_is_left_alone(kind, shape, crop):
    picture = np.resize(crop, (*shape, 3))
    before = picture.copy()
    for severity in (1, 5):
        corrupted = Corruption(kind, severity)(picture, "a.jpg")
        assert corrupted.shape == picture.shape
        assert corrupted.dtype == np.uint8
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_pictures_stay_numbers(kind):
    for value in (0, 255):
        picture = np.full((24, 12, 3), value, np.uint8)
        for severity in SEVERITIES:
            with np.errstate(all="raise", under="ignore"):
                Corruption(kind, severity)(picture, "a.jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_corrupted_by_its_name_the_severity_and_the_seed(kind, crop):
    def once(name="q/1.jpg", severity=3, seed=0):
        return Corruption(kind, severity, seed)(crop, name)

    assert np.array_equal(once(), once())
    assert not np.array_equal(once(), once(severity=5))
    fixed = {"defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "contrast", "pixelate", "jpeg_compression",
             "saturate"}  # fmt: skip
    for other in (once(name="q/2.jpg"), once(seed=1)):
        assert np.array_equal(once(), other) == (kind in fixed)


def test_severity_zero_is_the_picture(crop):
    for kind in KINDS:
        assert np.array_equal(Corruption(kind, 0)(crop, "a"), crop)
    assert np.array_equal(Occlusion(0)(crop, "a"), crop)
    assert np.array_equal(Resolution(32)(crop, "a"), crop)


def test_lengths_follow_the_size_of_the_picture(crop):
    large = np.kron(crop, np.ones((4, 4, 1), np.uint8))
    blurred = Corruption("gaussian_blur", 5)(crop, "a")
    shrunk = Corruption("gaussian_blur", 5)(large, "a").reshape(32, 4, 16, 4, 3).mean((1, 3))
    published = Corruption("gaussian_blur", 5, published_lengths=True)(crop, "a")
    assert error(blurred, shrunk) < 0.1 * error(published, shrunk)
    assert error(published, crop) > 2 * error(blurred, crop)


def test_published_lengths_are_those_of_the_benchmark_on_its_reference(crop):
    square = np.resize(crop, (224, 224, 3))
    assert np.array_equal(
        Corruption("motion_blur", 4)(square, "a"), Corruption("motion_blur", 4, published_lengths=True)(square, "a")
    )


def test_noise_has_the_published_amount():
    gray = np.full((200, 200, 3), 128, np.uint8)
    assert (Corruption("gaussian_noise", 1)(gray, "a") / 255).std() == pytest.approx(0.08, rel=0.02)
    assert (Corruption("shot_noise", 1)(gray, "a") / 255).var() == pytest.approx(128 / 255 / 60, rel=0.05)
    changed = Corruption("impulse_noise", 5)(gray, "a")
    assert ((changed == 0) | (changed == 255)).mean() == pytest.approx(0.27, abs=0.01)
    assert (Corruption("speckle_noise", 2)(gray, "a") / 255).std() == pytest.approx(0.2 * 128 / 255, rel=0.03)


def test_color_changes_are_those_of_hsv(crop):
    import colorsys

    pixels = [(200, 90, 30), (40, 60, 170), (90, 90, 90), (0, 0, 0), (250, 250, 10)]
    picture = np.array([pixels], np.uint8)
    for severity, (factor, offset) in enumerate(KINDS["saturate"].levels, 1):
        for pixel, found in zip(pixels, Corruption("saturate", severity)(picture, "a")[0]):
            hue, saturation, value = colorsys.rgb_to_hsv(*(v / 255 for v in pixel))
            wanted = colorsys.hsv_to_rgb(hue, min(saturation * factor + offset, 1), value)
            assert np.abs(found - 255 * np.array(wanted)).max() < 0.6
    for severity, amount in enumerate(KINDS["brightness"].levels, 1):
        for pixel, found in zip(pixels, Corruption("brightness", severity)(picture, "a")[0]):
            hue, saturation, value = colorsys.rgb_to_hsv(*(v / 255 for v in pixel))
            wanted = colorsys.hsv_to_rgb(hue, saturation, min(value + amount, 1))
            assert np.abs(found - 255 * np.array(wanted)).max() < 0.6


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 1.0])
def test_an_occlusion_covers_its_share_and_what_a_smaller_one_did(share):
    black = np.zeros((100, 50, 3), np.uint8)
    covered = Occlusion(share)(black, "a").any(-1)
    assert covered.mean() == pytest.approx(share, abs=0.02)
    less = Occlusion(share / 2)(black, "a").any(-1)
    assert (less & ~covered).sum() <= 0.02 * less.sum()


def test_a_lower_resolution_keeps_the_aspect_and_never_enlarges(crop):
    assert Resolution(16)(crop, "a").shape == (16, 8, 3)
    assert Resolution(1)(crop, "a").shape == (1, 1, 3)
    assert Resolution(64)(crop, "a").shape == crop.shape
    assert Resolution(8)(crop, "a").mean() == pytest.approx(crop.mean(), abs=1)


def test_mixed_draws_kinds_and_severities_by_name(crop):
    kinds = ("gaussian_noise", "contrast")
    mixed = Mixed(kinds, (1, 5), seed=3)
    everything = {Corruption(kind, s, 3)(crop, str(n)).tobytes(): (kind, s)
                  for n in range(40) for kind in kinds for s in (1, 5)}  # fmt: skip
    drawn = [everything[mixed(crop, str(n)).tobytes()] for n in range(40)]
    assert len(set(drawn)) == 4
    assert [everything[mixed(crop, str(n)).tobytes()] for n in range(40)] == drawn


def test_kinds_are_chosen_by_name_and_family():
    assert choose_kinds(["rain", "noise"]) == ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "rain"]
    assert choose_kinds([]) == list(KINDS)
    with pytest.raises(UnknownNameError, match="did you mean 'gaussian_blur'"):
        choose_kinds(["gausian_blur"])


@pytest.mark.parametrize(
    "wrong",
    [lambda: Corruption("rain", 6), lambda: Resolution(0), lambda: Occlusion(1.5), lambda: Corruption("hail", 1)],
)
def test_what_does_not_exist_is_refused(wrong):
    with pytest.raises(ConfigError):
        wrong()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_all_samples_under_one_corruption_after_the_other(market, workers):
    samples = load_dataset("market1501", market).train[:5]
    corruptions = [Corruption("shot_noise", 2), Occlusion(0.4)]
    loader = loader_of(samples, TestTransform(20, 10), corruptions=corruptions, batch_size=3, workers=workers)
    batches = list(loader)
    assert [len(batch.images) for batch in batches] == [3, 3, 3, 1]
    images = np.concatenate([batch.images.numpy() for batch in batches])
    pids = np.concatenate([batch.pids.numpy() for batch in batches])
    wanted = [
        TestTransform(20, 10)(c(read_image(s.path), f"bounding_box_train/{s.path.name}"))
        for c in corruptions
        for s in samples
    ]
    assert np.array_equal(images, np.stack(wanted))
    assert pids.tolist() == 2 * [sample.pid for sample in samples]


def naive_blend(picture, offsets, weights):
    height, width = picture.shape[:2]
    out = np.zeros(picture.shape)
    for y in range(height):
        for x in range(width):
            for (dy, dx), weight in zip(offsets, weights):
                out[y, x] += weight * picture[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
    return out


def test_shifts_are_those_of_a_loop_over_pixels():
    rng = np.random.default_rng(1)
    picture = rng.random((6, 5, 3), np.float32)
    offsets, weights = rng.integers(-4, 5, (7, 2)), rng.random(7)
    assert np.allclose(blend(picture, offsets, weights), naive_blend(picture, offsets, weights), atol=1e-5)


def test_blurs_have_the_width_they_say():
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = 1
    rows, columns = np.indices(point.shape) - 30

    def spread(image):
        assert image.sum() == pytest.approx(1, abs=1e-4)
        return math.sqrt((image * (rows**2 + columns**2)).sum() / 2)

    assert spread(gaussian(point, 4)) == pytest.approx(4, rel=0.03)
    assert spread(disk(point, 8)) == pytest.approx(8 / 2, rel=0.05)
    assert np.array_equal(gaussian(point, 0), point)
    line = streak(point, 6, 3, 0)
    assert np.flatnonzero(line.any(1)).tolist() == [30]
    assert np.flatnonzero(line.any(0)).tolist() == list(range(18, 31))


def test_reading_from_elsewhere():
    picture = np.random.default_rng(2).random((9, 7, 3), np.float32)
    still = np.zeros((9, 7))
    assert np.allclose(warp(picture, still, still), picture, atol=1e-5)
    moved = warp(picture, still + 2, still - 1)
    assert np.allclose(moved[:7, 1:], picture[2:, :6], atol=1e-5)
    between = warp(picture, still + 0.5, still)
    assert np.allclose(between[:8], (picture[:8] + picture[1:]) / 2, atol=1e-5)


def test_fields_are_as_smooth_as_they_say():
    field = smooth_noise(64, 48, 3, np.random.default_rng(0))
    assert (field.mean(), field.std()) == pytest.approx((0, 1), abs=1e-4)
    apart = [np.mean(field * np.roll(field, step, 0)) for step in (1, 3, 6)]
    assert apart == pytest.approx([math.exp(-(step**2) / (4 * 9)) for step in (1, 3, 6)], abs=0.15)
    rough, fine = (plasma(64, 32, decay, np.random.default_rng(0)) for decay in (1.2, 3))
    assert rough.shape == (64, 32)
    assert min(rough.min(), fine.min()) >= 0
    assert max(rough.max(), fine.max()) <= 1
    assert np.abs(np.diff(rough, axis=0)).mean() > 3 * np.abs(np.diff(fine, axis=0)).mean()
    assert resample(field, 20, 90).shape == (20, 90)
