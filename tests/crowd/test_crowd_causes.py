"""One cause at a time: more of it is more of it, and nothing else changes."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from regard.crowd import CAUSES, dose_sheet, make_crowd, make_doses
from regard.crowd.cause import Cause
from regard.crowd.dataset.doses import find_sets
from regard.data import load_dataset
from regard.errors import ConfigError, DataError

FEW = {"train_ids": 2, "test_ids": 2, "cameras": 2, "per_camera": 1, "height": 64, "width": 32, "distractors": 1}
DOSES = (0.0, 0.5, 1.0)


def make(root, **options):
    return make_crowd(root, **(FEW | {"workers": 1, "progress": False} | options))


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    root = tmp_path_factory.mktemp("causes") / "crowd"
    make(root)
    return root


@pytest.fixture(scope="module")
def dosed(tmp_path_factory):
    """Takes the pictures of one crowd with another cause: cause, dose -> sittings."""
    from crowd_album import Album

    album = Album(tmp_path_factory.mktemp("dosed"), train_ids=3, height=64, width=32)
    plain, kept = album.studio.request, {}

    def take(cause, dose):
        if (cause, dose) not in kept:
            album.studio.request = dataclasses.replace(plain, cause=Cause(cause, dose) if dose else None)
            kept[cause, dose] = list(album.sit())
        return kept[cause, dose]

    return take


def test_no_dose_is_the_crowd_without_a_cause(crowd, tmp_path):
    make(tmp_path / "none", cause="people", dose=0)
    assert files(tmp_path / "none") == files(crowd)


def area(take):
    return (take.labels > 0).mean()


MEASURES = {
    "objects": lambda take: take.visible,
    "people": lambda take: take.visible,
    "shift": lambda take: take.visible if take.shown is None else take.shown,
    "loose": area,
    "parts": lambda take: take.visible if take.shown is None else take.shown,
    "scale": lambda take: take.native[1],
}
"""What falls with the dose."""


@pytest.mark.parametrize("cause", MEASURES)
def test_more_of_a_cause_is_more_of_it(dosed, cause):
    found = [np.mean([MEASURES[cause](sitting.take) for sitting in dosed(cause, dose)]) for dose in DOSES]
    assert all(before > after for before, after in pairwise(found)), found
    assert found[-1] < 0.75 * found[0], found


@pytest.mark.parametrize("cause", CAUSES)
def test_nothing_else_changes(dosed, cause):
    for plain, heavy in zip(dosed(cause, 0.0), dosed(cause, 1.0), strict=True):
        assert plain.shot == heavy.shot
        assert plain.scene.moment == heavy.scene.moment
        assert heavy.take.shown is not None
        if cause not in ("loose", "parts", "scale", "shift", "pose"):
            assert heavy.take.native == plain.take.native
            assert heavy.take.keypoints[0::3] == plain.take.keypoints[0::3]
        if cause in ("objects", "people"):  # what is seen of the person is a part of what was
            assert not ((heavy.take.labels != plain.take.labels) & (heavy.take.labels > 0)).any()


def test_clutter_lies_behind_the_person_in_what_they_wear_half_of(dosed):
    plain, heavy = dosed("clutter", 0.0), dosed("clutter", 1.0)
    assert all((one.take.labels == other.take.labels).all() for one, other in zip(plain, heavy))
    for one, other in zip(plain, heavy):
        away = (one.take.labels == 0) & (np.abs(one.take.pixels.astype(int) - other.take.pixels).max(2) > 24)
        assert away.sum() > 0.1 * (one.take.labels == 0).sum()


def test_a_pose_bends_and_turns_the_body_alone(dosed):
    for plain, heavy in zip(dosed("pose", 0.0), dosed("pose", 1.0)):
        assert heavy.scene.stance.lean > plain.scene.moment.lean + 0.1
        assert (heavy.scene.stance.x, heavy.scene.stance.z) == (plain.scene.moment.x, plain.scene.moment.z)
        assert heavy.take.keypoints != plain.take.keypoints


def test_sets_of_doses_pair_picture_by_picture(crowd, tmp_path):
    made = make_doses(crowd, tmp_path, causes=["objects"], doses=[0.0, 1.0], workers=1, progress=False)
    assert list(made) == ["plain", "objects_1"]
    assert make_doses(crowd, tmp_path, causes=["objects"], doses=[1.0], workers=1, progress=False) == made
    assert find_sets(tmp_path) == {None: tmp_path / "plain", Cause("objects", 1.0): tmp_path / "objects_1"}
    whole, plain = files(crowd), files(tmp_path / "plain")
    for folder in ("query/", "bounding_box_test/", "masks/query/"):
        there = {name: content for name, content in whole.items() if name.startswith(folder)}
        assert there == {name: content for name, content in plain.items() if name.startswith(folder)}
    splits = load_dataset("crowd", tmp_path / "objects_1")
    assert not splits.train
    assert [sample.path.name for sample in splits.query] == sorted(path.name for path in (crowd / "query").iterdir())
    images = json.loads((tmp_path / "objects_1/keypoints.json").read_text())["images"]
    assert all(image["shown"] <= image["visible"] for image in images)
    assert "shown" not in json.loads((crowd / "keypoints.json").read_text())["images"][0]
    sheet = dose_sheet(tmp_path, people=2, scale=2)
    assert sheet.size == (52 + 2 * (2 * 64 + 4), 14 + 128)
    first = np.asarray(sheet)[14:, 52 : 52 + 64]
    with Image.open(
        tmp_path / "plain" / min(image["file_name"] for image in images if "query" in image["file_name"])
    ) as p:
        assert (first == np.asarray(p.resize((64, 128), Image.Resampling.BICUBIC))).all()
    with pytest.raises(DataError, match=r"has the cause 'objects' itself"):
        make_doses(tmp_path / "objects_1", tmp_path / "more", progress=False)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cause": "ocean", "dose": 1}, "unknown cause 'ocean'"),
        ({"cause": "objekts", "dose": 1}, "did you mean 'objects'"),
        ({"cause": "pose"}, "dose is None, wanted a number from 0 "),
        ({"cause": "pose", "dose": 1.5}, "dose is 1.5, wanted"),
        ({"cause": "pose", "dose": float("nan")}, "dose is nan, wanted"),
        ({"cause": "pose", "dose": True}, "dose is True, wanted"),
        ({"dose": 0.5}, "of which cause"),
        ({"test_only": "no"}, "test_only"),
    ],
)
def test_causes_and_doses_that_are_none(tmp_path, asked, said):
    with pytest.raises(ConfigError, match=said):
        make(tmp_path / "crowd", **asked)
    for options, error in (({"causes": "pose"}, ConfigError), ({"doses": [2.0]}, ConfigError), ({}, DataError)):
        with pytest.raises(error):
            make_doses(tmp_path / "crowd", tmp_path / "doses", **options)
    with pytest.raises(DataError, match="sets of doses"):
        dose_sheet(tmp_path)
