"""Every knob does what it says, measured on pictures."""

from __future__ import annotations

import numpy as np
import pytest

from regard.crowd.clothes.roster import roster
from regard.crowd.dataset.worker import bounds, encode_picture
from regard.crowd.knobs import PRESETS, Knobs, resolve
from regard.errors import ConfigError


def mean(values):
    return float(np.mean(list(values)))


def sharpness(take):
    gray = take.pixels.astype(float).mean(axis=2)
    return mean([np.diff(gray, axis=0).std(), np.diff(gray, axis=1).std()])


def touches_border(take):
    mask = take.labels > 0
    return mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()


def test_occlusion_hides_people(tiny_album):
    free, busy = (tiny_album(train_ids=6, knobs={"occlusion": share, "min_visible": 0.1}) for share in (0, 1))
    assert {take.visible for take in free.takes} == {1.0}
    assert mean(take.visible for take in busy.takes) < 0.95


def test_min_visible_is_kept(tiny_album):
    book = tiny_album(train_ids=6, knobs={"occlusion": 1, "min_visible": 0.8})
    assert min(take.visible for take in book.takes) >= 0.8


def test_blur_softens(tiny_album):
    knobs = {"noise": 0, "codec": 0, "motion_blur": 0}
    sharp, soft = (tiny_album(knobs=knobs | {"blur": blur}) for blur in (0, 3))
    assert mean(map(sharpness, soft.takes)) < 0.7 * mean(map(sharpness, sharp.takes))


def test_motion_blur_softens(tiny_album):
    knobs = {"noise": 0, "codec": 0, "blur": 0}
    sharp, soft = (tiny_album(knobs=knobs | {"motion_blur": length}) for length in (0, 5))
    assert mean(map(sharpness, soft.takes)) < 0.9 * mean(map(sharpness, sharp.takes))


def test_noise_and_codec_change_pixels(tiny_album):
    knobs = {"noise": 0, "codec": 0, "plain_background": 1}
    clean, noisy, coarse = (tiny_album(knobs=knobs | more) for more in ({}, {"noise": 3}, {"codec": 3}))
    assert mean(map(sharpness, noisy.takes)) > 1.1 * mean(map(sharpness, clean.takes))
    errors = [np.abs(a.pixels.astype(float) - b.pixels).mean() for a, b in zip(clean.takes, coarse.takes)]
    assert 0.5 < mean(errors) < 30


def test_jpeg_quality_sets_the_size_of_files(album):
    take = album(train_ids=1).takes[0]
    sizes = [len(encode_picture(take.pixels, quality)) for quality in (30, 70, 95)]
    assert sizes[0] < 0.8 * sizes[1] < 0.64 * sizes[2]


def test_native_scale_shrinks_what_the_camera_saw(tiny_album):
    near, far = (tiny_album(knobs={"native_scale": scale}) for scale in (1.5, 0.4))
    assert mean(take.native[1] for take in far.takes) < 0.7 * mean(take.native[1] for take in near.takes)
    assert mean(map(sharpness, far.takes)) < mean(map(sharpness, near.takes))


def test_detector_jitter_moves_boxes(tiny_album):
    spreads = []
    for jitter in (0, 3):
        book = tiny_album(train_ids=6, knobs={"detector_jitter": jitter, "truncation": 0, "occlusion": 0})
        centers = [box[1] + box[3] / 2 for box in (bounds(take.labels) for take in book.takes)]
        spreads.append(np.std(centers))
    assert spreads[1] > 2 * spreads[0]


def test_truncation_cuts(tiny_album):
    whole, cut = (tiny_album(train_ids=6, knobs={"truncation": share, "detector_jitter": 0}) for share in (0, 1))
    assert mean(touches_border(take) for take in whole.takes) < 0.2
    assert mean(touches_border(sitting.take) for sitting in cut.sittings if sitting.shot.folder != "query") > 0.4


def test_queries_are_boxed_by_hand(tiny_album):
    book = tiny_album(train_ids=1, test_ids=4, knobs={"truncation": 1, "detector_jitter": 0, "occlusion": 0})
    assert not any(touches_border(sitting.take) for sitting in book.sittings if sitting.shot.folder == "query")


def test_camera_spread_sets_cameras_apart(tiny_album):
    gaps = []
    for spread in (0, 3):
        knobs = {"camera_spread": spread, "plain_background": 1, "light_jitter": 0, "places": 1}
        by_camera = {1: [], 2: []}
        for sitting in tiny_album(knobs=knobs).sittings:
            by_camera[sitting.scene.place.camera.index].append(sitting.take.pixels[:16].mean(axis=(0, 1)))
        first, second = (np.mean(colors, axis=0) for colors in by_camera.values())
        gaps.append(np.abs(first - second).max())
    assert gaps[1] > gaps[0] + 5


def test_lookalikes_dress_alike():
    kinds = []
    for share in (0, 1):
        people = roster(0, 60, Knobs(lookalikes=share, lookalike_family=10, lookalike_edits=1))
        kinds.append(len({(p.top.kind, p.top.color_name, p.bottom.kind, p.bottom.color_name) for p in people}))
    assert kinds[0] > 50
    assert kinds[1] < 20


def test_lookalikes_are_different_people():
    people = roster(0, 40, Knobs(lookalikes=1, lookalike_family=10, lookalike_edits=0))
    assert len({person.build for person in people}) > 36
    assert len({person.gait for person in people}) == 40
    assert len(set(people)) == 40


def test_standing_people_do_not_stride(tiny_album):
    for share, low, high in ((1, 0, 0.1), (0, 0.5, 1.3)):
        strides = {sitting.scene.moment.stride for sitting in tiny_album(knobs={"standing": share}).sittings}
        assert all(low <= stride <= high for stride in strides)


def test_bags_are_left_at_home(tiny_album):
    book = tiny_album(train_ids=8, knobs={"bag_change": 1})
    assert {sitting.figure.body.person.bag.kind for sitting in book.sittings} == {"none"}
    assert any(sitting.job.person.bag.kind != "none" for sitting in book.sittings)


def test_presets_bracket_each_other():
    easy, normal, hard = (PRESETS[name] for name in ("easy", "normal", "hard"))
    assert normal == Knobs()
    for name in ("lookalikes", "occlusion", "detector_jitter", "codec", "noise", "camera_spread", "light_jitter"):
        assert getattr(easy, name) < getattr(normal, name) < getattr(hard, name)
    assert easy.native_scale > normal.native_scale > hard.native_scale


def test_resolve_turns_single_knobs():
    knobs = resolve("easy", {"blur": 2, "lookalike_family": 4.0, "plain_background": True})
    assert (knobs.blur, knobs.lookalike_family, knobs.plain_background) == (2.0, 4, 1)
    assert type(knobs.lookalike_family) is int
    assert knobs.noise == PRESETS["easy"].noise


@pytest.mark.parametrize(
    ("difficulty", "overrides", "words"),
    [
        ("nomral", {}, "did you mean 'normal'"),
        ("normal", {"oclusion": 0.5}, "did you mean 'occlusion'"),
        ("normal", {"occlusion": 1.5}, "a number from 0 to 1"),
        ("normal", {"occlusion": float("nan")}, "a number from 0 to 1"),
        ("normal", {"occlusion": "much"}, "'much'"),
        ("normal", {"blur": None}, "None"),
        ("normal", {"lookalike_family": 2.5}, "a whole number from 2 to 50"),
        ("normal", {"jpeg_quality": 5}, "a whole number from 20 to 100"),
    ],
)
def test_bad_knobs_are_named(difficulty, overrides, words):
    with pytest.raises(ConfigError) as caught:
        resolve(difficulty, overrides)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
