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
from regard.data.labels import (
    FLIPPED,
    JOINTS,
    LabeledSample,
    Target,
    TrainingLabels,
    draw_heatmaps,
    gaussian_size,
    read_mask,
    stack_targets,
)
from regard.data.transforms import Geometry, draw_geometry, resize
from regard.errors import ConfigError, DataError
from regard.losses.map_mse import MapMSE
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


def draw(labels: TrainingLabels, sample: Sample, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Maps (N, h, w) and flags of one sample, drawn as the engine has them drawn."""
    targets = {name: label.to("cpu") for name, label in stack_targets([labels(sample, STORED, seed)]).items()}
    return {name: (target.maps[0].numpy(), target.valid[0].numpy()) for name, target in targets.items()}


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
    (drawn,) = draw_heatmaps(torch.tensor([[x, y]], dtype=torch.float64), 20, 12, (down, across))
    np.testing.assert_allclose(drawn, naive_heatmap(x, y, 20, 12, (down, across)), atol=1e-6)


def test_size_of_the_gaussian_follows_the_resolution():
    assert gaussian_size(256, 128) == (5.6, 3.7)
    assert gaussian_size(128, 64) == (2.8, 1.85)
    points = torch.tensor([[30.0, 50.0]])
    assert torch.equal(draw_heatmaps(points, 128, 64), draw_heatmaps(points, 128, 64, (2.8, 1.85)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("enlarge", [1.0, 1.25])
def test_labels_lie_where_the_picture_lies(sample, stride, enlarge):
    """The mask is the picture's own red; every joint's map peaks at the point that the geometry moves it to."""
    transform = TrainTransform(48, 24, pad=6, erasing=0, enlarge=enlarge)
    labels = TrainingLabels(transform, stride=stride)
    flips = set()
    for seed in range(30):
        image = transform(picture(sample), random.Random(seed))
        drawn = draw(labels, sample, seed)
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
        before = (draw_heatmaps(torch.from_numpy(points), *STORED, (3.0, 3.0))[0] * 255).round().byte().numpy()
        warped = geometry.warp(resize(before, 64, 32))
        (moved,) = geometry.move(points, STORED)
        drawn = draw_heatmaps(torch.from_numpy(moved[None]), 64, 32, (4.0, 4.0))[0].numpy()
        if 1 <= moved[0] <= 30 and 1 <= moved[1] <= 62:
            peaks = [np.argwhere(heat == heat.max()).mean(0) for heat in (warped, drawn)]
            assert np.abs(peaks[0] - peaks[1]).max() <= 1


def test_flipping_swaps_left_and_right(sample):
    straight, mirrored = (
        draw(TrainingLabels(TrainTransform(48, 24, flip=flip, pad=0, erasing=0)), sample, 0)["keypoints"][0]
        for flip in (0.0, 1.0)
    )
    np.testing.assert_allclose(mirrored[list(FLIPPED)][:, :, ::-1], straight, atol=1e-3)
    as_released = TrainingLabels(TrainTransform(48, 24, flip=1.0, pad=0, erasing=0), swap_on_flip=False)
    np.testing.assert_allclose(draw(as_released, sample, 0)["keypoints"][0][:, :, ::-1], straight, atol=1e-3)


def test_what_is_missing_is_flagged_and_zero(sample):
    labels = TrainingLabels(TrainTransform(48, 24))
    bare = replace(sample, mask=None, keypoints=None)
    for seed in range(5):
        for maps, known in draw(labels, bare, seed).values():
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
        full, masked = draw(keep, sample, seed), draw(ignore, sample, seed)
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
        ("P", [0, 1, 7], 100, [0, 255, 255]),
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
    with pytest.raises(DataError, match=r"mask\.png") as caught:
        read_mask(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("masks",)}, "labels hold 'masks', which is none; choose from mask, keypoints"),
        ({"stride": 5}, "label stride is 5, expected 1 to 15 that divides the input of 48 x 24"),
        ({"stride": 0}, "label stride is 0"),
        ({"sigma": (1.0, 0.0)}, "sigma is"),
        ({"stride": 24}, "label stride is 24, expected 1 to 15"),
        ({"erased": "drop"}, "erased is 'drop'; choose keep or ignore"),
        ({"peak": "high"}, "peak is 'high'; choose one or score"),
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
        extra = {name: label.to("cpu") for name, label in batch.extra.items()}
        mask, keypoints = extra["mask"], extra["keypoints"]
        assert (mask.maps.shape, mask.valid.shape) == ((8, 1, 16, 8), (8, 1, 1, 1))
        assert (keypoints.maps.shape, keypoints.valid.shape) == ((8, 17, 16, 8), (8, 17, 1, 1))
        for target in extra.values():
            assert target.maps.dtype == torch.float32
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
    with pytest.raises(DataError, match=r"mask .*mask\.png' is"):
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


def test_a_picture_is_enlarged_with_the_probability_given():
    """RGA's translation: half of the pictures are resized and nothing else; labels follow, as both draw the same."""
    transform = TrainTransform(32, 16, flip=0, pad=0, erasing=0, enlarge=1.125, enlarge_probability=0.5)
    drawn = [transform.draw_geometry(random.Random(seed)) for seed in range(2000)]
    plain = [geometry for geometry in drawn if geometry.enlarged is None]
    assert 0.45 < len(plain) / len(drawn) < 0.55
    assert all((geometry.resized, geometry.top, geometry.left) == ((32, 16), 0, 0) for geometry in plain)
    larger = [geometry for geometry in drawn if geometry.enlarged]
    assert {(*geometry.resized, geometry.top) for geometry in larger} == {(36, 18, top) for top in range(5)}
    always, never = (TrainTransform(32, 16, enlarge=1.125, enlarge_probability=p) for p in (1, 0))
    assert always.draw_geometry(random.Random(3)) == TrainTransform(32, 16, enlarge=1.125).draw_geometry(
        random.Random(3)
    )
    assert all(never.draw_geometry(random.Random(seed)).enlarged is None for seed in range(50))
    with pytest.raises(ConfigError, match=r"enlarge_probability is 1\.5"):
        TrainTransform(32, 16, enlarge=1.125, enlarge_probability=1.5)


@pytest.fixture(scope="module")
def mapped(sample, tmp_path_factory) -> Sample:
    """The sample with a heat map for every joint, drawn from its points, in place of the points."""
    folder = tmp_path_factory.mktemp("maps")
    points = torch.tensor(POINTS, dtype=torch.float64)[:, :2]
    for joint, heat in enumerate(draw_heatmaps(points, *STORED, (2.5, 2.0))):
        Image.fromarray((heat * 255).round().byte().numpy()).save(folder / f"{joint:02d}.png")
    paths = tuple(None if joint == 6 else folder / f"{joint:02d}.png" for joint in range(17))
    return LabeledSample(sample.path, 1, 1, mask=sample.mask, heatmaps=paths)


def naive_interpolation(heat: np.ndarray, rows: int, columns: int, y: float, x: float) -> float:
    """Bilinear value of a map that shows the same as a picture of rows x columns, at (y, x) in the picture."""
    if not (-0.5 < y < rows - 0.5 and -0.5 < x < columns - 0.5):
        return 0.0
    v = np.clip((y + 0.5) * heat.shape[0] / rows - 0.5, 0, heat.shape[0] - 1)
    u = np.clip((x + 0.5) * heat.shape[1] / columns - 0.5, 0, heat.shape[1] - 1)
    top, left = int(v), int(u)
    bottom, right = min(top + 1, heat.shape[0] - 1), min(left + 1, heat.shape[1] - 1)
    a, b = v - top, u - left
    upper = (1 - b) * heat[top, left] + b * heat[top, right]
    return (1 - a) * upper + a * ((1 - b) * heat[bottom, left] + b * heat[bottom, right])


@pytest.mark.parametrize(("size", "stride", "enlarge"), [((48, 24), 1, 1.0), ((64, 40), 2, 1.25)])
def test_stored_maps_are_warped_as_the_naive_twin_does(mapped, size, stride, enlarge):
    """Every pixel of the maps is looked up in the stored map, through padding, crop and mirror."""
    transform = TrainTransform(*size, pad=5, erasing=0, enlarge=enlarge)
    stored = [None if path is None else np.asarray(Image.open(path)) / 255 for path in mapped.heatmaps]
    flips = set()
    for seed in range(6):
        maps, known = draw(TrainingLabels(transform, stride=stride), mapped, seed)["keypoints"]
        geometry = transform.draw_geometry(random.Random(seed))
        flips.add(geometry.flip)
        rows, columns = geometry.resized
        for joint in (0, 5, 6, 9):
            heat = stored[FLIPPED[joint] if geometry.flip else joint]
            assert known[joint, 0, 0] == (heat is not None)
            for row in range(0, maps.shape[1], 3):
                for column in range(maps.shape[2]):
                    y = (row + 0.5) * stride - 0.5 - geometry.pad + geometry.top
                    x = (column + 0.5) * stride - 0.5 - geometry.pad + geometry.left
                    x = columns - 1 - x if geometry.flip else x
                    wanted = 0.0 if heat is None else naive_interpolation(heat, rows, columns, y, x)
                    assert maps[joint, row, column] == pytest.approx(wanted, abs=1e-5)
    assert flips == {True, False}


def test_points_and_stored_maps_peak_at_the_same_pixel(sample, mapped):
    labels = TrainingLabels(TrainTransform(64, 32, pad=4, erasing=0))
    compared = 0
    for seed in range(20):
        drawn, warped = (draw(labels, source, seed)["keypoints"][0] for source in (sample, mapped))
        geometry = labels.transform.draw_geometry(random.Random(seed))
        points = geometry.move(np.array(POINTS)[:, :2], STORED)
        for joint in range(17):
            x, y = points[FLIPPED[joint] if geometry.flip else joint]
            if drawn[joint].any() and warped[joint].any() and 2 < x < 29 and 2 < y < 61:
                peaks = [np.argwhere(heat >= heat.max() - 1e-6).mean(0) for heat in (drawn[joint], warped[joint])]
                assert np.abs(peaks[0] - peaks[1]).max() <= 1
                compared += 1
    assert compared > 100


def test_mirroring_twice_changes_nothing(sample, mapped):
    """A picture mirrored on disk, with its labels, and mirrored again by the transform is the picture it was."""
    mirrored_points = tuple((23 - POINTS[j][0], *POINTS[j][1:]) for j in FLIPPED)
    with Image.open(sample.mask) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(sample.path.with_name("mirrored_mask.png"))
    folder = mapped.heatmaps[0].parent
    paths = []
    for joint, source in enumerate(FLIPPED):
        if source == 6:
            paths.append(None)
            continue
        paths.append(folder / f"mirrored_{joint:02d}.png")
        with Image.open(folder / f"{source:02d}.png") as image:
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(paths[-1])
    mask = sample.path.with_name("mirrored_mask.png")
    for straight, other in (
        (sample, replace(sample, mask=mask, keypoints=mirrored_points)),
        (mapped, replace(mapped, mask=mask, heatmaps=tuple(paths))),
    ):
        as_is, again = (
            draw(TrainingLabels(TrainTransform(48, 24, flip=flip, pad=0, erasing=0)), source, 0)
            for flip, source in ((0.0, straight), (1.0, other))
        )
        for kind in ("mask", "keypoints"):
            np.testing.assert_allclose(again[kind][0], as_is[kind][0], atol=1e-5)
            np.testing.assert_array_equal(again[kind][1], as_is[kind][1])


def test_scores_are_heights_where_asked_for(sample):
    scored = LabeledSample(sample.path, 1, 1, keypoints=POINTS, scores=tuple(0.5 + j / 40 for j in range(17)))
    transform = TrainTransform(48, 24, flip=0, pad=0, erasing=0)
    one, score = (draw(TrainingLabels(transform, peak=peak), scored, 0)["keypoints"][0] for peak in ("one", "score"))
    for joint in range(17):
        np.testing.assert_allclose(score[joint], one[joint] * (0.5 + joint / 40), atol=1e-6)


def test_a_batch_of_points_and_maps_and_nothing(sample, mapped):
    labels = TrainingLabels(TrainTransform(48, 24, erasing=0))
    bare = replace(sample, mask=None, keypoints=None)
    sources = [sample, mapped, bare]
    mixed = stack_targets([labels(source, STORED, seed) for seed, source in enumerate(sources)])
    assert isinstance(mixed["keypoints"], Target)
    for seed, source in enumerate(sources):
        maps, known = draw(labels, source, seed)["keypoints"]
        np.testing.assert_array_equal(mixed["keypoints"].maps[seed].numpy(), maps)
        np.testing.assert_array_equal(mixed["keypoints"].valid[seed].numpy(), known)


def test_the_loss_leaves_out_or_penalizes_what_is_missing(sample):
    labels = TrainingLabels(TrainTransform(48, 24, erasing=0))
    bare = replace(sample, mask=None, keypoints=None)
    target = stack_targets([labels(source, STORED, 3) for source in (sample, bare)])["keypoints"].to("cpu")
    maps = torch.full((2, 17, 48, 24), 0.25)
    squared = (maps - target.maps) ** 2
    known = [joint for joint in range(17) if target.valid[0, joint]]
    assert len(known) == 16
    torch.testing.assert_close(MapMSE()(maps, target), squared[0, known].mean())
    torch.testing.assert_close(MapMSE(missing="zero")(maps, target), squared.mean())


def test_erased_joints_of_stored_maps_are_flagged(mapped):
    transform = TrainTransform(48, 24, flip=0, pad=0, erasing=1.0)
    hidden = 0
    for seed in range(20):
        generator = random.Random(seed)
        transform.draw_geometry(generator)
        top, left, height, width = transform.draw_erasing(generator)
        maps, known = draw(TrainingLabels(transform, erased="ignore"), mapped, seed)["keypoints"]
        for joint, (x, y, _) in enumerate(POINTS):
            clear = min(
                abs(x + 0.5 - left), abs(x + 0.5 - left - width), abs(y + 0.5 - top), abs(y + 0.5 - top - height)
            )
            if joint != 6 and clear > 1:
                under = left < x + 0.5 < left + width and top < y + 0.5 < top + height
                assert known[joint, 0, 0] != under
                assert not (under and maps[joint].any())
                hidden += under
    assert hidden > 10


@pytest.mark.parametrize("source", ["points", "maps"])
def test_what_travels_is_small_and_fabric_draws_it(sample, mapped, source):
    """17 joints of 64 pictures at 128 x 64 would be 36 MB drawn."""
    from lightning_fabric.utilities.apply_func import move_data_to_device

    labels = TrainingLabels(TrainTransform(128, 64))
    chosen = sample if source == "points" else mapped
    batch = stack_targets([labels(chosen, STORED, seed) for seed in range(8)])
    size = sum(part.numel() * part.element_size() for label in batch.values() for part in label)
    assert size < 8 * (9_000 if source == "points" else 30_000)
    moved = move_data_to_device({"extra": batch}, torch.device("cpu"))["extra"]
    assert {type(target) for target in moved.values()} == {Target}
    assert moved["keypoints"].maps.shape == (8, 17, 128, 64)
