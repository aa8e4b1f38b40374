"""Masks and joints follow the picture: drawn where the augmentation puts them, flagged where they are not known."""

from __future__ import annotations

import math
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regard.data import TrainTransform, load_dataset, train_loader
from regard.data.labels import FLIPPED, JOINTS, TrainingLabels, draw_heatmaps, gaussian_size, read_mask
from regard.data.transforms import Geometry, draw_geometry, resize
from regard.errors import ConfigError, DataError
from regard.structures import Sample

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")

STORED = (48, 24)
POINTS = tuple((4.0 + (7 * j) % 16, 3.0 + 2.5 * j, 0 if j == 6 else 1 + j % 2) for j in range(17))


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Sample:
    """A picture whose red is 255 on the person, with the mask and joints to go with it."""
    folder = tmp_path_factory.mktemp("labels")
    person = np.zeros(STORED, np.uint8)
    person[6:40, 5:17] = 3
    Image.fromarray(np.dstack([np.where(person, 255, 0).astype(np.uint8)] * 3)).save(folder / "0001_c1s1_000001_00.png")
    mask = Image.fromarray(person)
    mask.putpalette([0, 0, 0, *[17] * 9])
    mask.save(folder / "mask.png")
    return Sample(folder / "0001_c1s1_000001_00.png", 1, 1, mask=folder / "mask.png", keypoints=POINTS)


def picture(sample: Sample) -> np.ndarray:
    with Image.open(sample.path) as image:
        return np.array(image)


def test_joints_are_coco_s():
    assert len(JOINTS) == len(FLIPPED) == 17
    assert [FLIPPED[joint] for joint in FLIPPED] == list(range(17))
    mirrored = [name.replace("left", "x").replace("right", "left").replace("x", "right") for name in JOINTS]
    assert [JOINTS[joint] for joint in FLIPPED] == mirrored


def naive_heatmap(x: float, y: float, height: int, width: int, sigma: tuple[float, float]) -> np.ndarray:
    out = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            if abs(row - y) <= 3 * sigma[0] and abs(column - x) <= 3 * sigma[1]:
                squared = (column - x) ** 2 / (2 * sigma[1] ** 2) + (row - y) ** 2 / (2 * sigma[0] ** 2)
                out[row, column] = math.exp(-squared)
    return out


@settings(max_examples=30, deadline=None)
@given(st.floats(-30, 60), st.floats(-30, 60), st.floats(0.5, 4), st.floats(0.5, 4))
def test_a_heat_map_is_its_naive_twin(x, y, down, across):
    (drawn,) = draw_heatmaps(np.array([[x, y]]), 20, 12, (down, across))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, naive_heatmap(x, y, 20, 12, (down, across)), atol=1e-6)


def test_size_of_the_gaussian_follows_the_resolution():
    assert gaussian_size(256, 128) == (5.6, 3.7)
    assert gaussian_size(128, 64) == (2.8, 1.85)
    points = np.array([[30.0, 50.0]])
    np.testing.assert_array_equal(draw_heatmaps(points, 128, 64), draw_heatmaps(points, 128, 64, (2.8, 1.85)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("enlarge", [1.0, 1.25])
def test_labels_lie_where_the_picture_lies(sample, stride, enlarge):
    """The mask is the picture's own red; every joint's map peaks at the point that the geometry moves it to."""
    transform = TrainTransform(48, 24, pad=6, erasing=0, enlarge=enlarge)
    labels = TrainingLabels(transform, stride=stride)
    flips = set()
    for seed in range(30):
        image = transform(picture(sample), random.Random(seed))
        drawn = labels(sample, STORED, seed)
        mask, known = drawn["mask"]
        cells = image[0].reshape(48 // stride, stride, 24 // stride, stride).mean((1, 3)) / 255
        assert known.all()
        assert mask.shape == (1, 48 // stride, 24 // stride)
        if enlarge == 1:
            np.testing.assert_allclose(mask[0], cells)
        else:
            assert np.abs(mask[0] - cells).max() < 0.7
            assert np.abs(mask[0] - cells).mean() < 0.06
        maps, visible = drawn["keypoints"]
        geometry = transform.draw_geometry(random.Random(seed))
        flips.add(geometry.flip)
        points = geometry.move(np.array(POINTS)[:, :2], STORED)
        for joint, heat in enumerate(maps):
            source = FLIPPED[joint] if geometry.flip else joint
            assert visible[joint, 0, 0] == (POINTS[source][2] > 0)
            x, y = (points[source] + 0.5) / stride - 0.5
            if not visible[joint]:
                assert not heat.any()
            elif 0 <= x <= heat.shape[1] - 1 and 0 <= y <= heat.shape[0] - 1:
                row, column = np.unravel_index(heat.argmax(), heat.shape)
                assert abs(row - y) <= 0.51
                assert abs(column - x) <= 0.51
    assert flips == {True, False}


def test_points_and_warped_maps_agree():
    """Drawn after the geometry, or drawn before and warped like a picture: the peaks are within a pixel."""
    generator = random.Random(0)
    for _ in range(40):
        geometry = draw_geometry(generator, 64, 32, pad=5)
        points = np.array([[generator.uniform(4, 19), generator.uniform(6, 41)]])
        before = (draw_heatmaps(points, *STORED, (3.0, 3.0))[0] * 255).round().astype(np.uint8)
        warped = geometry.warp(resize(before, 64, 32))
        (moved,) = geometry.move(points, STORED)
        (drawn,) = draw_heatmaps(moved[None], 64, 32, (4.0, 4.0))
        if 1 <= moved[0] <= 30 and 1 <= moved[1] <= 62:
            peaks = [np.argwhere(heat == heat.max()).mean(0) for heat in (warped, drawn)]
            assert np.abs(peaks[0] - peaks[1]).max() <= 1


def test_flipping_swaps_left_and_right(sample):
    straight, mirrored = (
        TrainingLabels(TrainTransform(48, 24, flip=flip, pad=0, erasing=0))(sample, STORED, 0)["keypoints"][0]
        for flip in (0.0, 1.0)
    )
    np.testing.assert_allclose(mirrored[list(FLIPPED)][:, :, ::-1], straight, atol=1e-3)
    as_released = TrainingLabels(TrainTransform(48, 24, flip=1.0, pad=0, erasing=0), swap_on_flip=False)
    np.testing.assert_allclose(as_released(sample, STORED, 0)["keypoints"][0][:, :, ::-1], straight, atol=1e-3)


def test_what_is_missing_is_flagged_and_zero(sample):
    labels = TrainingLabels(TrainTransform(48, 24))
    bare = replace(sample, mask=None, keypoints=None)
    for seed in range(5):
        for maps, known in labels(bare, STORED, seed).values():
            assert not maps.any()
            assert not known.any()
    with pytest.raises(DataError, match="none of the 2 training pictures has a label 'mask'") as caught:
        labels.check([bare, replace(sample, mask=None)])
    assert "\n" not in str(caught.value)
    labels.check([bare, sample])


def test_what_is_erased_stays_or_is_flagged(sample):
    transform = TrainTransform(48, 24, pad=0, erasing=1.0)
    keep, ignore = (TrainingLabels(transform, stride=2, erased=erased) for erased in ("keep", "ignore"))
    hidden = 0
    for seed in range(20):
        generator = random.Random(seed)
        geometry = transform.draw_geometry(generator)
        top, left, height, width = transform.draw_erasing(generator)
        box = np.zeros((48, 24), bool)
        box[top : top + height, left : left + width] = True
        touched = box.reshape(24, 2, 12, 2).any((1, 3))
        full, masked = keep(sample, STORED, seed), ignore(sample, STORED, seed)
        assert full["mask"][1].all()
        assert (masked["mask"][1][0] == ~touched).all()
        assert (masked["mask"][0][0] == np.where(touched, 0, full["mask"][0][0])).all()
        points = np.rint(geometry.move(np.array(POINTS)[:, :2], STORED)).astype(int)
        if geometry.flip:
            points = points[list(FLIPPED)]
        under = np.array([0 <= y < 48 and 0 <= x < 24 and box[y, x] for x, y in points])
        visible = full["keypoints"][1][:, 0, 0]
        assert visible.sum() == 16
        assert (masked["keypoints"][1][:, 0, 0] == (visible & ~under)).all()
        assert not masked["keypoints"][0][under].any()
        hidden += under.sum()
    assert hidden > 10


@pytest.mark.parametrize(
    ("mode", "values", "threshold", "expected"),
    [
        ("P", [0, 1, 7], 1, [0, 255, 255]),
        ("L", [0, 99, 100], 100, [0, 0, 255]),
        ("L", [0, 1, 255], 1, [0, 255, 255]),
        ("1", [0, 1, 0], 1, [0, 255, 0]),
        ("RGB", [0, 50, 200], 100, [0, 0, 255]),
    ],
)
def test_masks_of_every_kind(tmp_path, mode, values, threshold, expected):
    row = np.array([values], np.uint8)
    image = Image.fromarray(row if mode != "RGB" else np.dstack([row] * 3))
    if mode == "P":
        image.putpalette([0] * 24)
    elif mode == "1":
        image = Image.fromarray(row.astype(bool))
    image.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", threshold).tolist() == [expected]


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_a_broken_mask_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "mask.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read mask .*mask\.png") as caught:
        read_mask(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("masks",)}, "labels hold 'masks', which is none; choose from mask, keypoints"),
        ({"stride": 5}, "label stride is 5, which does not divide the input of 48 x 24"),
        ({"stride": 0}, "label stride is 0"),
        ({"sigma": (1.0, 0.0)}, "sigma is"),
        ({"erased": "drop"}, "erased is 'drop'; choose keep or ignore"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        TrainingLabels(TrainTransform(48, 24), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_fills_extra(shared_market, sample, workers):
    """Half of the pictures have labels; the images are those of a loader without."""
    splits = load_dataset("market1501", shared_market)
    train = [
        replace(s, mask=sample.mask, keypoints=POINTS) if number % 2 else s for number, s in enumerate(splits.train)
    ]
    transform = TrainTransform(32, 16, pad=2, erasing_fill="random")
    labels = TrainingLabels(transform, stride=2)
    assert pickle.loads(pickle.dumps(labels)) == labels
    options = {"ids_per_batch": 4, "images_per_id": 2, "workers": workers}
    plain = list(train_loader(train, transform, **options))
    batches = list(train_loader(train, transform, labels=labels, **options))
    assert len(plain) == len(batches)
    seen = set()
    for bare, batch in zip(plain, batches):
        assert torch.equal(bare.images, batch.images)
        assert bare.extra == {}
        assert list(batch.extra) == ["mask", "keypoints"]
        mask, keypoints = batch.extra["mask"], batch.extra["keypoints"]
        assert (mask.maps.shape, mask.valid.shape) == ((8, 1, 16, 8), (8, 1, 16, 8))
        assert (keypoints.maps.shape, keypoints.valid.shape) == ((8, 17, 16, 8), (8, 17, 1, 1))
        for target in batch.extra.values():
            assert target.maps.dtype == torch.float16
            assert target.valid.dtype == torch.bool
            assert 0 <= target.maps.min() <= target.maps.max() <= 1
        known = keypoints.valid.flatten(1).any(1)
        assert torch.equal(known, mask.valid.flatten(1).any(1))
        seen |= set(known.tolist())
    assert seen == {True, False}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_mask_stops_the_loader_in_one_line(market, workers):
    splits = load_dataset("market1501", market)
    broken = market / "mask.png"
    broken.write_bytes(b"no picture")
    train = [replace(s, mask=broken) for s in splits.train]
    transform = TrainTransform(32, 16)
    loader = train_loader(
        train, transform, ids_per_batch=4, images_per_id=2, workers=workers, labels=TrainingLabels(transform, ("mask",))
    )
    with pytest.raises(DataError, match=r"cannot read mask .*mask\.png"):
        list(loader)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 8), st.integers(0, 8), st.integers(0, 3), st.data())
def test_a_crop_of_an_enlarged_picture(height, width, more_rows, more_columns, pad, data):
    """Geometry with an enlarged picture against padding and slicing."""
    rows, columns = height + more_rows, width + more_columns
    top, left = data.draw(st.integers(0, 2 * pad + more_rows)), data.draw(st.integers(0, 2 * pad + more_columns))
    flip = data.draw(st.booleans())
    geometry = Geometry(height, width, flip, pad, top, left, enlarged=(rows, columns))
    big = np.random.default_rng(0).integers(1, 256, (rows, columns), dtype=np.uint8)
    padded = np.pad(big[:, ::-1] if flip else big, pad)
    assert (geometry.warp(big) == padded[top : top + height, left : left + width]).all()
    y, x = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    lone = np.zeros_like(big)
    lone[y, x] = 255
    (moved,) = geometry.move(np.array([[x, y]], float), (rows, columns))
    inside = 0 <= moved[0] < width and 0 <= moved[1] < height
    assert np.argwhere(geometry.warp(lone))[:, ::-1].tolist() == ([moved.tolist()] if inside else [])


def test_crops_of_an_enlarged_picture_cover_all_of_it():
    transform = TrainTransform(32, 16, pad=0, erasing=0, enlarge=1.125)
    drawn = [transform.draw_geometry(random.Random(seed)) for seed in range(300)]
    assert {geometry.resized for geometry in drawn} == {(36, 18)}
    assert {geometry.top for geometry in drawn} == set(range(5))
    assert {geometry.left for geometry in drawn} == set(range(3))
    with pytest.raises(ConfigError, match=r"enlarge is 0\.9"):
        TrainTransform(32, 16, enlarge=0.9)
