"""What teachers find comes back to the pixels it was found at, and what they make is read as it was described."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from regard.data.labels import FLIPPED, JOINTS
from regard.data.labels.canvas import Canvas, lay_out
from regard.data.labels.facing import is_back
from regard.data.labels.joints import BLAZEPOSE
from regard.data.labels.make import make_labels
from regard.data.labels.outputs import JointReader, MaskReader
from regard.data.labels.teacher import Found, Teacher, by_function
from regard.errors import ConfigError, DataError

FITS = [("stretch", 1.0), ("letterbox", 1.0), ("letterbox", 1.25), ("edge", 1.15)]


@pytest.mark.parametrize(("fit", "margin"), FITS)
@pytest.mark.parametrize("shape", [(96, 40), (31, 77), (1, 400), (64, 64)])
def test_there_and_back(fit, margin, shape):
    """A smooth picture is found again, and points lie where their pixels came from."""
    h, w = shape
    smooth = 40 + 150 * np.add.outer(np.linspace(0, 1, h), np.linspace(0, 1, w)) / 2
    picture = np.repeat(smooth[..., None], 3, 2).round().astype(np.uint8)
    made, canvas = lay_out(picture, (128, 160), fit, margin=margin, fill=7)
    assert made.shape == (128, 160, 3)
    top, left, height, width = canvas.place
    if fit != "stretch":
        assert max(h / 128, w / 160) * margin == pytest.approx(max(h / height, w / width), rel=0.02)
        assert abs(top - (128 - height - top)) <= 1 >= abs(left - (160 - width - left))
    border = made[0, 0, 0] if (top and left) else None
    assert border is None or border == (7 if fit == "letterbox" else made[top, left, 0])
    back = canvas.map_back(made[..., 0].astype(np.float32))
    assert back.shape == shape
    inner = (slice(1, -1) if h > 2 else slice(None), slice(2, -2))
    assert np.abs(back - picture[..., 0])[inner].max() < 3
    corners = canvas.points_back(np.array([[left, top], [left + width, top + height]]))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [w - 0.5, h - 0.5]], atol=1e-9)


def test_a_map_back_is_its_naive_twin():
    canvas, found = Canvas((5, 3), (16, 12), (2, 3, 10, 6)), np.random.default_rng(0).random((8, 4))
    back = canvas.map_back(found)
    for row in range(5):
        for column in range(3):
            y = ((row + 0.5) * 10 / 5 + 2) * 8 / 16 - 0.5
            x = ((column + 0.5) * 6 / 3 + 3) * 4 / 12 - 0.5
            y0, x0 = int(y), int(x)
            corners = found[y0 : y0 + 2, x0 : x0 + 2]
            mixed = np.array([1 - y + y0, y - y0]) @ corners @ np.array([1 - x + x0, x - x0])
            assert back[row, column] == pytest.approx(mixed, abs=1e-6)


CANVAS = Canvas((64, 32), (64, 32), (0, 0, 64, 32))
POINTS = np.stack([np.arange(17) + 8.0, 3.0 * np.arange(17) + 6], 1)
"""Pixels of the picture, which are those of its canvas."""


def peaked(height: int = 64, width: int = 32) -> np.ndarray:
    maps = np.zeros((17, height, width), np.float32)
    for joint, (x, y) in enumerate(POINTS.astype(int)):
        maps[joint, y, x] = 0.5 + joint / 40
    return maps


def coordinates(order, columns) -> np.ndarray:
    rows = np.full((len(order), len(columns)), 5.0)
    for row, name in enumerate(order):
        joint = JOINTS.index(name) if name else 0
        values = {"x": POINTS[joint, 0] + 0.5, "y": POINTS[joint, 1] + 0.5, "score": 0.5 + joint / 40}
        rows[row] = [values.get(column, 100.0) for column in columns]
    return rows.ravel()


@pytest.mark.parametrize(
    ("told", "arrays"),
    [
        ({"kind": "heatmaps"}, [peaked()]),
        ({"kind": "heatmaps", "channels": "last"}, [np.moveaxis(peaked(), 0, -1)]),
        ({"kind": "heatmaps", "scores": "logits"}, [np.log(peaked().clip(1e-9) / (1 - peaked().clip(1e-9)))]),
        ({"kind": "simcc", "output": ["a", "b"]}, [peaked().max(1), peaked().max(2)]),
        ({"kind": "coordinates"}, [coordinates(JOINTS, ("x", "y", "score"))]),
        ({"kind": "coordinates", "unit": "fractions"}, [coordinates(JOINTS, ("x", "y", "score"))
         / np.tile([32, 64, 1], 17)]),
        ({"kind": "coordinates", "columns": ["y", None, "score", "x"]},
         [coordinates(JOINTS, ("y", None, "score", "x"))]),
        ({"kind": "coordinates", "order": "mediapipe33"}, [coordinates(BLAZEPOSE, ("x", "y", "score"))]),
        ({"kind": "coordinates", "order": list(reversed(JOINTS))}, [coordinates(JOINTS[::-1], ("x", "y", "score"))]),
    ],
)  # fmt: skip
def test_joints_of_every_kind_are_the_same(told, arrays):
    joints = JointReader.told({"order": "coco17", **told}, "first", "a file").read(arrays, CANVAS)
    np.testing.assert_allclose(joints[:, :2], POINTS, atol=1e-6)
    np.testing.assert_allclose(joints[:, 2], 0.5 + np.arange(17) / 40, atol=1e-6)


def test_scores_are_the_product_of_what_counts_and_nothing_lies_outside():
    reader = JointReader.told(
        {"kind": "coordinates", "order": ["left_hip", None, "nose"], "scores": "logits",
         "columns": ["x", "y", "visibility", "presence"]}, "first", "a file",
    )  # fmt: skip
    joints = reader.read([np.array([[10, 20, 0, 40], [1, 1, 9, 9], [32.1, 5, 9, 9]])], CANVAS)
    assert joints[11] == pytest.approx([9.5, 19.5, 0.5])
    assert joints[0, 2] == 0
    assert not joints[1:11].any()
    with pytest.raises(DataError, match="no numbers"):
        reader.read([np.full((3, 4), np.nan)], CANVAS)


def square() -> np.ndarray:
    person = np.zeros((64, 32))
    person[10:50, 8:20] = 1
    return person


@pytest.mark.parametrize(
    ("told", "array"),
    [
        ({"kind": "probabilities"}, square()),
        ({"kind": "probabilities", "threshold": 0.9}, 0.95 * square()),
        ({"kind": "logits"}, (2000 * square() - 1000)[None]),
        ({"kind": "logits", "channels": "last"}, (2 * square() - 1)[..., None]),
        ({"kind": "probabilities", "channel": 1}, np.stack([1 - square(), square()])),
        ({"kind": "classes", "person": 2}, np.stack([1 - square(), 0 * square(), 3 * square()])),
        ({"kind": "classes", "background": [0, 1], "channels": "last"}, np.stack([1 - square(), square() - 1, square()],
         2)),
        ({"kind": "classes", "person": [4, 15]}, np.where(square(), np.where(np.arange(32) > 12, 15, 4), 7)),
    ],
)  # fmt: skip
def test_masks_of_every_kind_are_the_same(told, array):
    mask = MaskReader.told(told, "first", "a file").read(array, CANVAS)
    assert mask.dtype == np.uint8
    assert (mask == 255 * square()).all()


@pytest.mark.parametrize(
    ("reader", "told", "message"),
    [
        (JointReader, [], "joints in a file is .*wanted a mapping"),
        (JointReader, {"kind": "heatmap"}, "kind of joints in a file is 'heatmap', wanted .*mean 'heatmaps'"),
        (JointReader, {"kind": "heatmaps", "ordr": 1}, "says 'ordr', did you mean 'order'"),
        (JointReader, {"kind": "heatmaps", "order": "coco"}, "order of joints in a file is 'coco', wanted coco17"),
        (JointReader, {"kind": "heatmaps", "order": ["nose", "left_sholder"]}, "did you mean 'left_shoulder'"),
        (JointReader, {"kind": "heatmaps", "order": ["nose", "nose"]}, "each of the joints it knows once"),
        (JointReader, {"kind": "heatmaps", "order": "coco17", "unit": "pixels"}, "unit means nothing there"),
        (JointReader, {"kind": "simcc", "order": "coco17", "output": "x"}, r"OF COLUMNS, OF ROWS"),
        (JointReader, {"kind": "coordinates", "order": "coco17", "columns": ["x", "score"]}, "x and y in it"),
        (JointReader, {"kind": "coordinates", "order": "coco17", "columns": ["x", "y", "z"]}, "hold 'z', wanted"),
        (MaskReader, {"kind": "classes"}, "says no class, wanted person: NUMBER or background"),
        (MaskReader, {"kind": "classes", "person": -1}, "says the number -1"),
        (MaskReader, {"kind": "logits", "person": 1}, "person means nothing there"),
        (MaskReader, {"kind": "logits", "threshold": 1}, "threshold of mask in a file is 1, wanted a probability"),
        (MaskReader, {"kind": "logits", "output": ["a", "b"]}, "wanted one name"),
    ],
)
def test_a_description_that_says_something_else_is_refused(reader, told, message):
    with pytest.raises(ConfigError, match=message) as caught:
        reader.told(told, "first", "a file")
    assert "\n" not in str(caught.value)


def test_outputs_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match=r"\(17, 64\) for a picture, wanted heatmaps of 17 points"):
        JointReader.told({"kind": "heatmaps", "order": "coco17"}, "first", "a").read([np.zeros((17, 64))], CANVAS)
    with pytest.raises(ConfigError, match="wanted one map; say channel: NUMBER"):
        MaskReader.told({"kind": "logits"}, "first", "a").read(np.zeros((2, 8, 4)), CANVAS)
    with pytest.raises(ConfigError, match="has 2 channels, first; there is no 5"):
        MaskReader.told({"kind": "classes", "person": 5}, "first", "a").read(np.zeros((2, 8, 4)), CANVAS)


@pytest.mark.parametrize(
    ("reader", "told", "made", "message"),
    [
        (MaskReader, {"kind": "probabilities"}, 4 * square() - 2, "numbers from -2 to 2, wanted .* say kind: logits"),
        (JointReader, {"kind": "heatmaps"}, [9 * peaked()], r"numbers up to 8\.1, wanted 0 to 1; say scores: logits"),
        (JointReader, {"kind": "coordinates"}, [coordinates(JOINTS, ("x", "y", "score")) / np.tile([32, 64, 1], 17)],
         "points from 0 to 1, wanted pixels; say unit: fractions"),
        (JointReader, {"kind": "coordinates", "unit": "fractions"}, [coordinates(JOINTS, ("x", "y", "score"))],
         "wanted fractions from 0 to 1; say unit: pixels"),
    ],
)  # fmt: skip
def test_what_another_unit_would_be_is_refused(reader, told, made, message):
    told |= {} if reader is MaskReader else {"order": "coco17"}
    with pytest.raises((ConfigError, DataError), match=message):
        reader.told(told, "first", "a").read(made, CANVAS)


def test_functions_of_somebody_s_own():
    picture = np.zeros((64, 32, 3), np.uint8)
    joints = np.concatenate([POINTS, np.full((17, 1), 0.7)], 1)
    blaze = np.zeros((33, 3))
    blaze[[index for index, name in enumerate(BLAZEPOSE) if name]] = joints[[JOINTS.index(n) for n in BLAZEPOSE if n]]
    for made, masks in (
        ((joints, square()), False),
        ((blaze.tolist(), square() > 0), False),
        ((joints, 255 * square().astype(np.uint8)), True),
    ):
        (found,) = by_function(lambda _, made=made: made, "own:find", masks=masks).find([picture])
        np.testing.assert_allclose(found.joints, joints)
        assert (found.mask == 255 * square()).all()
    assert by_function(lambda _: square(), "f", masks=True).find([picture])[0].joints is None
    for made, message in (
        (None, "own:find made nothing"),
        (np.zeros((5, 3)), r"joints of \(5, 3\), wanted \(17, 3\)"),
        ("text", "joints of str"),
        (joints / [32, 64, 1], "made joints in fractions of the picture, wanted pixels; multiply x"),
        ((None, np.zeros((3, 3))), r"mask of \(3, 3\) float64 for a picture of \(64, 32\)"),
        ((None, 7 * square()), "numbers from 0 to 7, wanted 0 to 1"),
    ):
        with pytest.raises(DataError, match=message):
            by_function(lambda _, made=made: made, "own:find", masks=False).find([picture])


def test_a_back_is_known_by_its_shoulders_and_a_profile_by_its_nose(points):
    facing, known = points(0), np.ones(17, bool)
    assert not is_back(facing, known)
    back = facing[list(FLIPPED)]
    assert is_back(back, known)
    aside = back.copy()
    aside[0, 0] += 6
    assert not is_back(aside, known)
    assert is_back(aside, known & (np.arange(17) != 3))
    assert not is_back(back, known & (np.arange(17) != 12))
    narrow = back.copy()
    narrow[[5, 6, 11, 12], 0] = 16 + np.array([-0.5, 0.5, -0.5, 0.5])
    assert not is_back(narrow, known)


# Making labels


@pytest.fixture
def pictures(tmp_path, photos):
    return {s.path.relative_to(tmp_path).as_posix(): s.path for s in photos(tmp_path)}


def test_faces_of_backs_are_hidden(tmp_path, pictures, points):
    """Two in three photos show backs; the visible face stays where it is and is hidden."""
    backs = [number % 3 > 0 for number in range(6)]
    answers = iter([points(n)[list(FLIPPED)] if back else points(n) for n, back in enumerate(backs)])
    pose = lambda _: np.concatenate([next(answers), np.full((17, 1), 0.9)], 1)  # noqa: E731
    made = make_labels(pictures, tmp_path / "a", pose, None, "x", progress=False)
    assert (made.backs, made.mostly_backs) == (4, True)
    answers = iter([points(n) for n in range(6)])
    assert make_labels(pictures, tmp_path / "b", pose, None, "x", progress=False).backs == 0
    from regard.data.labels.coco import read_coco

    for (name, person), back in zip(read_coco(made.path)[0].items(), backs):
        levels = [level for _, _, level in person.keypoints]
        assert levels == ([1, 1, 1] if back else [2, 2, 2]) + [2] * 14, name
        assert person.scores[:4] == ((0.1, 0.1, 0.1, 0.9) if back else (0.9,) * 4)


def test_a_teacher_that_ends_the_program_fails(tmp_path, pictures):
    def find(group):
        raise SystemExit(0)

    with pytest.raises(DataError, match=r"none of \d+ photos could be labeled; .*: SystemExit: 0"):
        make_labels(pictures, tmp_path / "out", Teacher(find), None, "x", progress=False)


@pytest.mark.parametrize(("batch", "workers"), [(4, 1), (2, 3)])
def test_photos_that_fail_are_named_and_tried_again(tmp_path, pictures, batch, workers):
    """One file is broken and one picture breaks the teacher; the others get the labels they get alone."""
    names = list(pictures)
    (tmp_path / names[1]).write_bytes(b"no picture")
    with Image.open(pictures[names[4]]) as image:
        poison, broken = np.array(image), True
    asked = []

    def find(group):
        asked.append(len(group))
        if broken and any(np.array_equal(picture, poison) for picture in group):
            raise RuntimeError("out of\nluck")
        return [Found(np.full((17, 3), picture[0, 0, 0] / 255), 255 * (picture[..., 0] > 99)) for picture in group]

    teacher = Teacher(lambda group: [Found(f.joints, f.mask.astype(np.uint8)) for f in find(group)], batch, workers)
    made = make_labels(pictures, tmp_path / "out", teacher, None, "x", progress=False)
    assert max(asked) == min(batch, 3)
    assert list(made.failed) == [names[1], names[4]]
    assert "is no picture" in made.failed[names[1]]
    assert made.failed[names[4]] == "RuntimeError: out of luck"
    assert (made.labeled, made.joints, made.masks) == (4, True, True)
    assert len(list((tmp_path / "out" / "masks" / "bounding_box_train").iterdir())) == 4
    asked.clear()
    broken = False
    Image.fromarray(poison).save(tmp_path / names[1])
    made = make_labels(pictures, tmp_path / "out", teacher, None, "x", progress=False)
    assert sum(asked) == 2
    assert (made.labeled, made.failed) == (6, {})
    alone = Teacher(teacher.find)
    again = make_labels(pictures, tmp_path / "alone", alone, alone, "x", progress=False)
    assert made.path.read_bytes() == again.path.read_bytes()


def test_nothing_is_made_of_nothing(tmp_path, pictures):
    nothing = Teacher(lambda group: [Found(np.full((17, 3), 2.0)) for _ in group])
    with pytest.raises(DataError, match=r"none of 6 photos could be labeled; .*scores of joints from 2 to 2"):
        make_labels(pictures, tmp_path / "out", nothing, None, "x", progress=False)
    many = {f"{number}.jpg": next(iter(pictures.values())) for number in range(50)}
    with pytest.raises(DataError, match=r"the first 20 photos all fail; 0\.jpg: scores"):
        make_labels(many, tmp_path / "many", nothing, None, "x", progress=False)
    same = {"a/1.jpg": tmp_path, "a/1.png": tmp_path}
    with pytest.raises(DataError, match=r"masks of a/1\.jpg and a/1\.png would be one file"):
        make_labels(same, tmp_path / "same", nothing, None, "x", progress=False)
