"""Labels are found, read and packed as they are; what is damaged is named, what is missing is counted."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from regard.data import TrainTransform
from regard.data.labels import (
    LabeledSample,
    LabelPack,
    LabelRoots,
    TrainingLabels,
    attach_labels,
    has_label,
    label_training,
    open_pack,
    pack_labels,
    read_labels,
    stack_targets,
)
from regard.data.labels.coco import (
    Outline,
    Person,
    draw_polygons,
    draw_runs,
    draw_segmentation,
    read_coco,
    runs_of,
    unpack_runs,
    write_coco,
)
from regard.data.labels.labeled import read_gray
from regard.errors import ConfigError, DataError
from regard.structures import Sample, Splits

KEYPOINTS = tuple((1.5 * j, 3.25 * j, (2, 1, 0)[j % 3]) for j in range(17))


# Runs and polygons


def naive_runs(mask: np.ndarray) -> list[int]:
    runs, value = [0], 0
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if (mask[row, column] > 0) != value:
                runs.append(0)
                value = 1 - value
            runs[-1] += 1
    return runs


def compressed(runs: list[int]) -> str:
    """COCO's text of run lengths, five bits a character."""
    text = ""
    for number, run in enumerate(runs):
        rest = run - (runs[number - 2] if number > 2 else 0)
        while True:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 9))))
def test_runs_are_their_naive_twin_and_come_back(mask):
    mask = mask * np.uint8(255)
    runs = runs_of(mask)
    assert runs == naive_runs(mask)
    assert (draw_runs(runs, *mask.shape) == mask).all()
    assert unpack_runs(compressed(runs)) == runs
    for counts in (runs, compressed(runs)):
        assert (draw_segmentation({"size": list(mask.shape), "counts": counts}, *mask.shape) == mask).all()


def test_compressed_text_as_coco_writes_it():
    """Worked by hand: 6 = '6'; 200 = 0b110_01000 -> 8 with more, then 6; -1 as a difference = '_' less the flag."""
    assert unpack_runs("6") == [6]
    assert unpack_runs(chr(48 + 32 + 8) + chr(48 + 6)) == [200]
    assert unpack_runs("123" + chr(48 + 31)) == [1, 2, 3, 1]


def naive_polygon(points: list[tuple[float, float]], height: int, width: int) -> np.ndarray:
    out = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]]):
                if (y1 > y) != (y2 > y):
                    edge = x1 + (y - y1) * (x2 - x1) / (y2 - y1)
                    assume(abs(x - edge) > 1e-9)  # on an edge the last digit decides, and either answer is right
                    inside ^= x >= edge
            out[row, column] = inside
    return out


sides = st.floats(-3, 15, allow_nan=False).map(lambda value: round(value, 3) + 0.0001234)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sides, sides), min_size=3, max_size=7))
def test_polygons_are_their_naive_twin(points):
    flat = [number for point in points for number in point]
    assert ((draw_polygons([flat], 11, 9) > 0) == naive_polygon(points, 11, 9)).all()


def test_polygons_are_united():
    square, other = [0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]
    drawn = draw_polygons([square, other], 8, 8) > 0
    assert drawn.sum() == 16 + 16 - 4
    assert drawn[:4, :4].all()
    assert drawn[2:6, 2:6].all()


@pytest.mark.parametrize(
    "segmentation",
    [
        "text", 7, {"size": [4, 4]}, {"size": [4, 5], "counts": [16]}, {"size": [4, 4], "counts": [15]},
        {"size": [4, 4], "counts": [-1, 17]}, {"size": [4, 4], "counts": [8.0, 8.0]}, {"size": [4, 4], "counts": "é"},
        {"size": [4, 4], "counts": "P"}, {"size": [4, 4], "counts": "o" * 40}, [[1, 2]], [[1, 2, 3]], [["a"] * 6],
        [[0, 0, 1, 1, float("nan"), 2]], [7], {"size": [4, 4], "counts": [True, 15]}, [[0, 10**400, 1, 1, 2, 2]],
    ],
)  # fmt: skip
def test_a_wrong_segmentation_is_refused(segmentation):
    with pytest.raises(ValueError, match=r"\brun|polygon"):
        draw_segmentation(segmentation, 4, 4)


# COCO


def coco_text(**changes) -> str:
    content = {
        "images": [{"id": 4, "file_name": "train/a.jpg", "width": 32, "height": 64}],
        "annotations": [{"image_id": 4, "keypoints": [number for k in KEYPOINTS for number in k]}],
    }
    content["annotations"][0] |= changes
    return json.dumps(content)


def test_coco_comes_back(tmp_path):
    outline = Outline({"size": [64, 32], "counts": [100, 20, 1928]}, 64, 32)
    person = Person(64, 32, KEYPOINTS, tuple(j / 20 for j in range(17)), outline)
    write_coco(tmp_path / "a.json", [("train/a.jpg", person), ("train/b.jpg", Person(8, 4))], "test")
    persons, several = read_coco(tmp_path / "a.json")
    assert persons == {"train/a.jpg": person, "train/b.jpg": Person(8, 4)}
    assert several == []
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["annotations"][0]["num_keypoints"] == 12
    assert content["annotations"][0]["bbox"] == [0, 0, 32, 64]
    assert len(content["categories"][0]["skeleton"]) == 19


def test_of_several_persons_the_largest_and_then_the_most_central(tmp_path):
    boxes = [[0, 0, 4, 4], [0, 0, 10, 20], [11, 22, 10, 20], [5, 5, 3, 3], None]
    annotations = [{"image_id": 1, "bbox": box, "keypoints": [number, 0, 2] * 17} for number, box in enumerate(boxes)]
    image = {"id": 1, "file_name": "a.jpg", "width": 32, "height": 64}
    (tmp_path / "a.json").write_text(json.dumps({"images": [image], "annotations": annotations}))
    persons, several = read_coco(tmp_path / "a.json")
    assert persons["a.jpg"].keypoints[0][0] == 2
    assert several == ["a.jpg"]


SURE = [round(0.05 * joint, 2) for joint in range(17)]
RESULTS = [
    {"image_id": name, "category_id": 1, "score": score, "keypoints": [x for s in SURE for x in (3.5, 4.0, s)]}
    for name, score in (("train/a.jpg", 0.9), ("train/b.jpg", 0.2), ("train/b.jpg", 0.7))
]
"""What a pose estimator writes: each joint with how sure it is."""


@pytest.mark.parametrize("form", ["list", "annotations"])
def test_what_a_pose_estimator_writes_is_read(tmp_path, form):
    """By file name, or as annotations of images; joints are hidden from a score of 0.1 and seen from 0.3."""
    results = [dict(result, keypoints=list(result["keypoints"])) for result in RESULTS]
    results[1]["keypoints"][0] = 9.0  # of the person that is less sure
    content = results
    if form == "annotations":
        images = [{"id": number, "file_name": f"train/{name}.jpg"} for number, name in enumerate("ab")]
        content = {
            "images": images,
            "annotations": [{**r, "image_id": int(r["image_id"] != "train/a.jpg")} for r in results],
        }
    (tmp_path / "results.json").write_text(json.dumps(content))
    persons, several = read_coco(tmp_path / "results.json")
    assert several == ["train/b.jpg"]
    for name in ("train/a.jpg", "train/b.jpg"):
        assert persons[name].scores == tuple(SURE)
        assert [v for _, _, v in persons[name].keypoints] == [0, 0, *[1] * 4, *[2] * 11]
        assert persons[name].keypoints[0] == (0, 0, 0)
        assert persons[name].keypoints[16] == (3.5, 4, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected COCO JSON"),
        ("[]", "expected COCO JSON"),
        ('{"images": []}', "no entry 'annotations'"),
        (coco_text(image_id=5), "no entry 5"),
        (coco_text(image_id=[]), "expected COCO JSON"),
        (coco_text(keypoints=[1.0] * 50), "are not 51 finite numbers"),
        (coco_text(keypoints=[10**400] * 51), "too large"),
        (coco_text(keypoint_scores=[0.5] * 16), "not 17 numbers from 0 to 1"),
        (coco_text(keypoint_scores=[1.5] * 17), "not 17 numbers from 0 to 1"),
        (coco_text(segmentation=[[0, 0, 1, 1, 2, 0]]).replace('"width": 32, ', ""), "no width and height"),
        (coco_text().replace('"train/a.jpg"', "7"), "file_name .* no text"),
        (
            json.dumps(RESULTS[:1]).replace('"train/a.jpg"', "7"),
            "list of results by number of image, .* say what photos",
        ),
        ("[3]", "expected COCO JSON"),
        ('[{"keypoints": []}]', "no entry 'image_id'"),
        (coco_text(keypoints=[1, 1, 0.5, 1, 1, 1.5] * 8 + [1, 1, 0]), "not 17 numbers from 0 to 1"),
        (coco_text(keypoints=[1, 1, 7] * 17), "neither visibility .* nor scores"),
    ],
)
def test_a_wrong_coco_file_is_named_in_one_line(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


# Attaching


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_the_released_layout(tmp_path, photos, released, points, silhouette, ending):
    samples = photos(tmp_path)
    masks, keypoints = released(tmp_path, samples, ending)
    roots = LabelRoots(mask_root=masks, keypoint_root=keypoints)
    labeled, coverage = attach_labels(samples, tmp_path, roots)
    assert str(coverage) == "6 photos: 6 with mask, 6 with keypoints"
    for number, sample in enumerate(labeled):
        labels = read_labels(sample)
        assert (labels.mask == silhouette).mean() > 0.98
        assert labels.heatmaps.shape == (17, 256, 128)
        assert labels.drawn.all()
        for (x, y), heat in zip(points(number), labels.heatmaps):
            row, column = np.unravel_index(heat.argmax(), heat.shape)
            assert abs(row - (4 * y + 1.5)) <= 1.5
            assert abs(column - (4 * x + 1.5)) <= 1.5


def test_mask_pictures_under_other_names(tmp_path, photos, silhouette):
    """A flat folder of PNG, and one folder per split; a palette is labels, whatever the threshold."""
    samples = photos(tmp_path, 2)
    flat, nested = tmp_path / "flat", tmp_path / "nested" / "bounding_box_train"
    for folder in (flat, nested):
        folder.mkdir(parents=True)
    for sample in samples:
        Image.fromarray(silhouette).save(flat / f"{sample.path.stem}.png")
        labels = Image.fromarray(silhouette // 100)
        labels.putpalette([0] * 12)
        labels.save(nested / f"{sample.path.stem}.png")
    for root in (flat, nested.parent):
        labeled, coverage = attach_labels(samples, tmp_path, LabelRoots(mask_root=root))
        assert (coverage.masks, coverage.keypoints) == (2, 0)
        assert (read_labels(labeled[1]).mask == silhouette).all()


def test_coco_labels_join_by_name_below_the_root(tmp_path, photos, silhouette):
    samples = photos(tmp_path, 3)
    names = [sample.path.relative_to(tmp_path).as_posix() for sample in samples]
    outline = Outline({"size": [64, 32], "counts": runs_of(silhouette)}, 64, 32)
    person = Person(64, 32, KEYPOINTS, (0.5,) * 17, outline)
    write_coco(tmp_path / "a.json", [(name, person) for name in names], "test")
    labeled, coverage = attach_labels(samples, tmp_path, LabelRoots(coco=tmp_path / "a.json"))
    assert (coverage.masks, coverage.keypoints) == (3, 3)
    labels = read_labels(labeled[2])
    assert (labels.mask == silhouette).all()
    assert labels.joints[:, :3].tolist() == [list(map(float, keypoint)) for keypoint in KEYPOINTS]
    assert (labels.joints[:, 3] == 0.5).all()
    assert read_labels(labeled[2], ("keypoints",)).mask is None


def test_gaps_are_counted_and_refused(tmp_path, photos, released):
    samples = photos(tmp_path)
    masks, keypoints = released(tmp_path, samples)
    folder = keypoints / "bounding_box_train_256_2"
    (masks / "bounding_box_train" / samples[0].path.name).unlink()
    (folder / f"{samples[1].path.stem}_04.png").unlink()
    for joint in range(17):
        (folder / f"{samples[2].path.stem}_{joint:02d}.png").unlink()
    Image.new("L", (128, 256)).save(folder / f"{samples[3].path.stem}_09.png")
    with pytest.raises(DataError, match="1 of 6 photos have no whole label 'mask'"):
        attach_labels(samples, tmp_path, LabelRoots(mask_root=masks))
    roots = LabelRoots(mask_root=masks, keypoint_root=keypoints)
    with pytest.raises(DataError, match="2 of 6 photos have no whole label 'keypoints'"):
        attach_labels(samples, tmp_path, replace(roots, tolerance=0.2))
    labeled, coverage = attach_labels(samples, tmp_path, replace(roots, tolerance=0.4))
    assert str(coverage) == "6 photos: 5 with mask, 5 with keypoints; 1 lack some of their heat maps"
    assert coverage.missing == {"mask": [samples[0].path.name], "keypoints": [samples[2].path.name]}
    assert [has_label(sample, "mask") for sample in labeled] == [False, True, True, True, True, True]
    assert read_labels(labeled[0]).mask is None
    assert np.flatnonzero(~read_labels(labeled[1]).drawn).tolist() == [4]
    assert read_labels(labeled[2]).heatmaps is None
    assert np.flatnonzero(~read_labels(labeled[3]).drawn).tolist() == [9]
    target = stack_targets([TrainingLabels(TrainTransform(32, 16, flip=0))(labeled[1], (64, 32), 0)])["keypoints"]
    target = target.to("cpu")
    assert np.flatnonzero(~target.valid[0, :, 0, 0].numpy()).tolist() == [4]
    assert not target.maps[0, 4].any()


def test_wrong_roots(tmp_path, photos, released):
    samples = photos(tmp_path, 2)
    with pytest.raises(DataError, match=r"cannot list .*nowhere"):
        attach_labels(samples, tmp_path, LabelRoots(mask_root=tmp_path / "nowhere"))
    write_coco(tmp_path / "empty.json", [], "test")
    with pytest.raises(DataError, match="annotates no photo"):
        attach_labels(samples, tmp_path, LabelRoots(coco=tmp_path / "empty.json"))
    (tmp_path / "empty" / "bounding_box_train_256_2").mkdir(parents=True)
    masks, keypoints = released(tmp_path, samples)
    write_coco(tmp_path / "others.json", [("elsewhere.jpg", Person(64, 32, keypoints=KEYPOINTS))], "test")
    labeled, _ = attach_labels(samples, tmp_path, LabelRoots(masks, keypoints))
    for options in (
        {"mask_root": tmp_path / "empty"},
        {"keypoint_root": tmp_path / "empty"},
        {"coco": tmp_path / "others.json"},
    ):
        with pytest.raises(DataError, match=r"holds no (mask|heat map|label) of any of the 2 photos, such as "):
            attach_labels(labeled, tmp_path, LabelRoots(**options, tolerance=1))
    for options in ({"tolerance": 1.5}, {"mask_threshold": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} is"):
            LabelRoots(**options)


def test_a_data_sets_own_masks_are_read_by_their_kind_of_file_or_by_the_threshold(tmp_path):
    """JPEG scatters grays around an edge, which are nobody; a PNG of ones is the person; a turned mask is upright."""
    mask = np.zeros((40, 20), np.uint8)
    mask[10:30, 5:15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(mask).save(tmp_path / "scattered.jpg", quality=50)
    Image.fromarray(np.rot90(mask)).save(tmp_path / "turned.jpg", quality=50, exif=exif)
    Image.fromarray(mask // 255).save(tmp_path / "ones.png")
    Image.fromarray(np.where(mask, 200, 60).astype(np.uint8)).save(tmp_path / "levels.png")
    own = [Sample(tmp_path / f"of_{name}", 1, 1, mask=tmp_path / name)
           for name in ("scattered.jpg", "turned.jpg", "ones.png", "levels.png")]  # fmt: skip
    assert [(read_labels(sample).mask > 0).sum() for sample in own] == [200, 200, 200, 800]
    for sample in own[:3]:
        np.testing.assert_array_equal(read_labels(sample).mask, mask)
    told, _ = attach_labels(own, tmp_path, LabelRoots(mask_threshold=100))
    assert [(read_labels(sample).mask > 0).sum() for sample in told] == [200, 200, 0, 200]
    packed = pack_labels(own[:3], tmp_path / "labels.pack")
    assert [(read_labels(sample).mask > 0).sum() for sample in packed] == [200, 200, 200]
    np.testing.assert_array_equal(read_gray(tmp_path / "turned.jpg") > 127, mask > 0)


# Packs


def assert_same(one, other):
    for mine, theirs in zip(one, other):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, theirs)


def test_a_pack_gives_the_labels_it_was_made_from(tmp_path, photos, released, silhouette):
    """Released maps, points, masks of files and outlines, and nothing at all, side by side."""
    samples = photos(tmp_path)
    masks, keypoints = released(tmp_path, samples[:2])
    mixed, _ = attach_labels(samples, tmp_path, LabelRoots(masks, keypoints, tolerance=1))
    outline = Outline({"size": [64, 32], "counts": runs_of(silhouette)}, 64, 32)
    mixed[3] = replace(mixed[3], keypoints=KEYPOINTS, scores=(0.25,) * 17, outline=outline)
    mixed[4] = replace(samples[4], keypoints=KEYPOINTS)
    packed = pack_labels(mixed, tmp_path / "labels.pack", heatmap_size=(256, 128))
    for source, sample in zip(mixed, packed):
        assert (sample.path, sample.pid, sample.camid) == (source.path, source.pid, source.camid)
        for kind in ("mask", "keypoints"):
            assert has_label(sample, kind) == has_label(source, kind)
        assert_same(read_labels(sample), read_labels(source))
        assert read_labels(sample, ("mask",)).heatmaps is None
        assert read_labels(sample, ("keypoints",)).mask is None
        assert_same(read_labels(pickle.loads(pickle.dumps(sample))), read_labels(source))
    assert len(pickle.dumps(packed[0])) < 1500


def test_a_pack_is_a_safetensors_file(tmp_path, photos, released):
    from safetensors.numpy import load_file

    samples = photos(tmp_path)
    attached, _ = attach_labels(samples, tmp_path, LabelRoots(*released(tmp_path, samples)))
    pack_labels(attached, tmp_path / "labels.pack", heatmap_size=(64, 32))
    tensors = load_file(tmp_path / "labels.pack")
    assert {name: (value.dtype.name, value.shape) for name, value in tensors.items()} == {
        "masks": ("uint8", (6, 64, 4)),
        "heatmaps": ("uint8", (6, 17, 64, 32)),
        "joints": ("float32", (6, 17, 4)),
        "known": ("bool", (6, 19)),
    }


def test_a_stale_pack_is_made_anew_and_a_fresh_one_kept(tmp_path, photos, released):
    samples = photos(tmp_path)
    masks, keypoints = released(tmp_path, samples)
    attached, _ = attach_labels(samples, tmp_path, LabelRoots(masks, keypoints))
    path = tmp_path / "labels.pack"

    def repack(labeled, size=(32, 16)) -> bool:
        before = path.stat().st_ino
        pack_labels(labeled, path, size)
        return path.stat().st_ino != before

    pack_labels(attached, path, (32, 16))
    assert not repack(attached)
    assert repack(attached, (64, 32))
    assert not repack(attached, None)
    assert repack(attached)
    changed = masks / "bounding_box_train" / samples[2].path.name
    Image.new("L", (32, 64), 255).save(changed)
    assert repack(attached)
    assert read_labels(open_pack(attached, path)[2]).mask.all()
    assert repack([replace(attached[0], heatmaps=None, keypoints=KEYPOINTS), *attached[1:]])
    assert repack(attached[:4])
    with pytest.raises(DataError, match="lacks 2 of 6 pictures"):
        open_pack(attached, path)


def test_a_pack_is_stale_where_the_bytes_of_a_source_differ_and_nowhere_else(tmp_path, photos, released):
    samples = photos(tmp_path)
    attached, _ = attach_labels(samples, tmp_path, LabelRoots(*released(tmp_path, samples)))
    path, mask = tmp_path / "labels.pack", attached[2].mask
    assert mask is not None
    pack_labels(attached, path, (32, 16))
    whole, before = path.read_bytes(), mask.stat()
    os.utime(mask, ns=(1, 1))
    pack_labels(attached, path)
    assert path.read_bytes() == whole
    with mask.open("ab") as file:
        file.write(b"\0")  # decoders pass it over, and the pack is made anew all the same
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    pack_labels(attached, path)
    again = path.read_bytes()
    assert again != whole
    mask.write_bytes(mask.read_bytes()[:-1] + b"\1")
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    pack_labels(attached, path)
    assert path.read_bytes() != again


def test_a_pack_with_a_changed_bit_is_refused_and_made_anew(tmp_path, photos, released):
    samples = photos(tmp_path)
    attached, _ = attach_labels(samples, tmp_path, LabelRoots(*released(tmp_path, samples)))
    path = tmp_path / "labels.pack"
    pack_labels(attached, path, (32, 16))
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in (whole.index(b"heatmap_size") + 1, whole.index(b'"content"') + 14, start, start + 999, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"is no pack of labels .*; delete it and pack again"):
            open_pack(attached, path)
    pack_labels(attached, path, (32, 16))
    assert path.read_bytes() == whole
    old = whole.replace(b'"content": "', b'"c0ntent": "', 1)  # as an earlier version wrote it: without
    path.write_bytes(old)
    assert len(open_pack(attached, path)) == len(attached)


def test_a_training_split_is_labeled_and_packed(tmp_path, photos, released):
    samples = photos(tmp_path)
    roots = LabelRoots(*released(tmp_path, samples))
    splits = Splits("test", tmp_path, train=samples, query=samples[:1], gallery=samples[1:])
    assert label_training(splits) == splits
    attached = label_training(splits, roots)
    assert attached.train == attach_labels(samples, tmp_path, roots)[0]
    assert (attached.query, attached.gallery) == (splits.query, splits.gallery)
    elsewhere = label_training(splits, roots, pack=tmp_path / "other.pack")
    assert {sample.pack.path for sample in elsewhere.train} == {tmp_path / "other.pack"}
    pack_labels(attached.train, tmp_path / "labels.pack", (32, 16))
    found = label_training(splits, roots)
    assert {sample.pack.path for sample in found.train} == {tmp_path / "labels.pack"}
    assert read_labels(found.train[0]).heatmaps.shape == (17, 32, 16)


def test_a_failed_pack_leaves_the_old_one(tmp_path, photos, released):
    samples = photos(tmp_path)
    masks, keypoints = released(tmp_path, samples)
    attached, _ = attach_labels(samples, tmp_path, LabelRoots(masks, keypoints))
    path = tmp_path / "labels.pack"
    pack_labels(attached, path, (32, 16))
    before = path.read_bytes()
    (masks / "bounding_box_train" / samples[2].path.name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"mask .* is no picture"):
        pack_labels(attached, path, (32, 16))
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_pictures_that_a_pack_cannot_tell_apart(tmp_path, photos):
    (sample,) = photos(tmp_path, 1)
    with pytest.raises(DataError, match="two pictures are called"):
        pack_labels([sample, sample], tmp_path / "labels.pack")


# Fuzz


def outcome(function):
    """Result and no message, or None and the message of a DataError; any other error is the test's failure."""
    try:
        return function(), ""
    except DataError as error:
        return None, str(error)


@pytest.fixture(scope="module")
def damaged_root(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def damage(content: bytes, draw) -> bytes:
    """Bytes changed, cut off or put in at random places."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["change", "cut", "insert", "drop"])):
            case "change" if content:
                content[place] = draw(st.integers(0, 255))
            case "cut":
                del content[place:]
            case "insert":
                content[place:place] = draw(st.binary(min_size=1, max_size=6))
            case "drop":
                del content[place : place + draw(st.integers(1, 8))]
    return bytes(content)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_json_is_an_error_or_valid_labels(damaged_root, data):
    outline = {"size": [64, 32], "counts": [100, 20, 1928]}
    text = coco_text(segmentation=outline, keypoint_scores=[0.5] * 17, bbox=[0, 0, 32, 64])
    path = damaged_root / "labels.json"
    path.write_bytes(damage(text.encode(), data.draw))
    found, message = outcome(lambda: read_coco(path))
    assert "\n" not in message
    persons, several = found or ({}, [])
    assert len(persons) <= 1
    assert several == []
    for name, person in persons.items():
        sample = LabeledSample(
            damaged_root / name.replace("\0", ""), 1, 1, keypoints=person.keypoints, scores=person.scores,
            outline=person.outline,
        )  # fmt: skip
        labels, message = outcome(lambda sample=sample: read_labels(sample))
        assert labels is not None or "segmentation" in message
        if labels and labels.joints is not None:
            assert labels.joints.shape == (17, 4)
        if labels and labels.mask is not None:
            assert labels.mask.shape == (person.height, person.width)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_mask_is_an_error_or_a_mask(damaged_root, data):
    pixels = np.zeros((24, 12), np.uint8)
    pixels[4:20, 3:9] = 200
    source = damaged_root / "whole.png"
    Image.fromarray(pixels).save(source)
    path = damaged_root / "mask.png"
    path.write_bytes(damage(source.read_bytes(), data.draw))
    sample = LabeledSample(damaged_root / "a.jpg", 1, 1, mask=path, heatmaps=(path,) * 17, mask_threshold=100)
    for kind in ("mask", "keypoints"):
        labels, message = outcome(lambda kind=kind: read_labels(sample, (kind,)))
        assert "\n" not in message
        if labels is None:
            continue
        if kind == "mask":
            assert labels.mask.dtype == np.uint8
            assert set(np.unique(labels.mask)) <= {0, 255}
        else:
            assert labels.heatmaps.dtype == np.uint8
            assert len(labels.heatmaps) == len(labels.drawn) == 17


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_pack_is_an_error_or_a_pack(damaged_root, data):
    source = damaged_root / "whole.pack"
    if not source.exists():
        pack_labels([LabeledSample(damaged_root / "x" / "a.jpg", 1, 1, keypoints=KEYPOINTS)], source)
    content = source.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    path = damaged_root / "damaged.pack"
    path.write_bytes(damage(content[:header], data.draw) + content[header:])
    pack, message = outcome(lambda: LabelPack(path))
    assert "\n" not in message
    assert pack is None or len(pack) == 1
    if pack:
        pack.read(0, ("mask", "keypoints"))
