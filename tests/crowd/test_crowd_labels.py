"""Masks and keypoints say what the pictures show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from crowd_album import CLEAR
from scipy.ndimage import binary_dilation, binary_erosion

from regard.crowd.clothes.canvas import LABELS
from regard.crowd.dataset.label_files import JOINTS
from regard.crowd.dataset.worker import bounds


def shown(studio, sitting):
    """Pixels half or more of which change when the person turns from black to gray, evenly lit."""
    upward = np.zeros_like(sitting.figure.normals)
    upward[1] = 1
    light = []
    for brightness in (0, 0.3):
        body = replace(sitting.figure.body, albedo=np.full_like(sitting.figure.body.albedo, brightness))
        figure = replace(sitting.figure, body=body, normals=upward)
        pixels = studio.take(sitting.job, sitting.scene, figure, figure).pixels
        light.append((pixels / 255).mean(axis=2) ** 2.2)
    change = light[1] - light[0]
    return change > 0.5 * np.percentile(change, 98)


def overlap(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


@pytest.mark.parametrize("knobs", [{"occlusion": 0}, {"occlusion": 1, "min_visible": 0.2}])
def test_mask_is_what_the_picture_shows(album, knobs):
    book = album(knobs=CLEAR | {"truncation": 0.3, "passersby": 0} | knobs)
    for sitting in book.sittings:
        mask, seen = sitting.take.labels > 0, shown(book.studio, sitting)
        assert overlap(mask, seen) > 0.92
        assert (binary_erosion(mask, iterations=2) & ~seen).sum() <= 3
        assert (seen & ~binary_dilation(mask, iterations=2)).sum() <= 3


def test_mask_does_not_depend_on_what_is_behind(album, clear_album):
    knobs = CLEAR | {"occlusion": 0, "detector_jitter": 0, "truncation": 0, "plain_background": 1}
    plain = album(train_ids=5, knobs=knobs)
    for there, here in zip(clear_album.takes, plain.takes, strict=True):
        assert np.array_equal(there.labels, here.labels)
        assert there.keypoints == here.keypoints
        assert not np.array_equal(there.pixels, here.pixels)


def test_keypoints_lie_on_the_person(clear_album):
    for take in clear_album.takes:
        near = binary_dilation(take.labels > 0, iterations=3)
        for x, y, visibility in np.reshape(take.keypoints, (-1, 3)):
            assert visibility in (0, 1, 2)
            if visibility:
                assert 0 <= x < 64
                assert 0 <= y < 128
            if visibility == 2:
                assert near[int(y), int(x)]


@pytest.mark.parametrize(
    ("joint", "parts"),
    [
        ("nose", {"face"}),
        ("left_knee", {"leg", "lower", "upper", "arm", "shoe"}),
        ("right_ankle", {"leg", "lower", "shoe"}),
        ("left_wrist", {"arm", "upper", "bag"}),
    ],
)
def test_visible_joints_lie_on_their_part(clear_album, joint, parts):
    wanted = [LABELS[part] for part in parts]
    hits = []
    for take in clear_album.takes:
        x, y, visibility = take.keypoints[3 * JOINTS.index(joint) : 3 * JOINTS.index(joint) + 3]
        if visibility == 2:
            window = take.labels[max(0, int(y) - 2) : int(y) + 3, max(0, int(x) - 2) : int(x) + 3]
            hits.append(np.isin(window, wanted).any())
    assert len(hits) >= 3
    assert all(hits)


def test_left_and_right_are_the_persons_own(clear_album):
    faces = 0
    for take in clear_album.takes:
        points = dict(zip(JOINTS, np.reshape(take.keypoints, (-1, 3))))
        if points["left_eye"][2] == points["right_eye"][2] == points["nose"][2] == 2:
            faces += 1
            assert points["left_eye"][0] > points["right_eye"][0] - 1
            apart = points["left_shoulder"][0] - points["right_shoulder"][0]
            assert apart > -5  # the head may be turned further than the chest
    assert faces >= 2


def test_heads_are_above_feet(clear_album):
    for take in clear_album.takes:
        rows = {part: np.nonzero(take.labels == LABELS[part])[0] for part in ("hair", "face", "shoe")}
        head = np.concatenate([rows["hair"], rows["face"]])
        assert head.mean() < 40
        assert rows["shoe"].mean() > 90


def test_nobody_has_no_labels(album):
    book = album(distractors=5)
    nobody = [sitting for sitting in book.sittings if sitting.figure is None]
    assert len(nobody) == 1
    for sitting in nobody:
        assert not sitting.take.labels.any()
        assert not any(sitting.take.keypoints)
        assert sitting.take.visible == 0
        assert sitting.take.pixels.std() > 3  # there is a street, at least


def test_junk_shows_less_of_the_person(album):
    book = album(train_ids=1, junk=6, knobs={"occlusion": 0, "truncation": 0, "detector_jitter": 0})
    areas = {junk: [] for junk in (True, False)}
    for sitting in book.sittings:
        areas[sitting.job.pid == -1].append((sitting.take.labels > 0).sum())
    assert np.mean(areas[True]) < 0.6 * np.mean(areas[False])


def test_long_visits_stay_before_the_camera(album):
    book = album(train_ids=1, per_camera=25, height=64, width=32, knobs={"occlusion": 0, "truncation": 0})
    assert len(book.takes) > 80
    for take in book.takes:
        assert 0.1 < (take.labels > 0).mean() < 0.8


def test_bounds():
    labels = np.zeros((9, 7), np.uint8)
    assert bounds(labels) == (0, 0, 0, 0)
    labels[2:5, 3] = 4
    labels[4, 6] = 1
    assert bounds(labels) == (3, 2, 4, 3)


def test_larger_pictures_show_the_same_scene_in_more_detail(album):
    knobs = CLEAR | {"native_scale": 2, "occlusion": 0}
    small, large = album(train_ids=1, knobs=knobs), album(train_ids=1, knobs=knobs, height=256, width=128)
    for low, high in zip(small.takes, large.takes, strict=True):
        assert high.pixels.shape == (256, 128, 3)
        assert overlap(low.labels > 0, high.labels[1::2, 1::2] > 0) > 0.9
        reduced = high.pixels.reshape(128, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(reduced - low.pixels).mean() < 12
        enlarged = low.pixels.repeat(2, axis=0).repeat(2, axis=1).astype(float)
        assert np.abs(high.pixels - enlarged).mean() > 1.2 * np.abs(reduced - low.pixels).mean()
