"""Conversions lose nothing that matters, the check sees what is wrong, the preview shows what there is."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from regard.cli import labels_verb
from regard.cli.main import main
from regard.data.labels import FLIPPED, LabeledSample, LabelRoots, attach_labels, find_peaks, read_labels
from regard.data.labels.check import check_labels
from regard.data.labels.coco import read_coco
from regard.data.labels.convert import joints_of, to_coco, to_maps
from regard.data.labels.preview import PANELS, choose_shown, preview_labels
from regard.errors import ConfigError, DataError, RegardError


@pytest.fixture
def attached(tmp_path, photos, released):
    """Six photos with released masks and heat maps."""
    samples = photos(tmp_path / "data")
    masks, keypoints = released(tmp_path, samples)
    return attach_labels(samples, tmp_path / "data", LabelRoots(masks, keypoints))[0]


def naive_peak(heat: np.ndarray) -> tuple[float, float]:
    best = max(range(heat.size), key=lambda i: (heat.flat[i], -i))
    y, x = divmod(best, heat.shape[1])

    def at(row, column):
        return int(heat[min(max(row, 0), heat.shape[0] - 1), min(max(column, 0), heat.shape[1] - 1)])

    def quarter(low, high):
        return 0.25 * ((high > low) - (high < low))

    return x + quarter(at(y, x - 1), at(y, x + 1)), y + quarter(at(y - 1, x), at(y + 1, x))


def test_peaks_are_their_naive_twin():
    maps = np.random.default_rng(0).integers(0, 6, (200, 5, 4), dtype=np.uint8)
    points, heights = find_peaks(maps)
    assert [tuple(point) for point in points] == [naive_peak(heat) for heat in maps]
    assert (heights == maps.max((1, 2))).all()


def test_released_maps_to_json_and_back(tmp_path, attached, points, silhouette):
    """Maps -> JSON -> maps -> JSON: joints stay within half a pixel of the photo, masks exactly."""
    root = tmp_path / "data"
    assert to_coco(attached, root, tmp_path / "a.json") == 6
    persons, _ = read_coco(tmp_path / "a.json")
    for number, sample in enumerate(attached):
        person = persons[f"bounding_box_train/{sample.path.name}"]
        assert (person.height, person.width) == (64, 32)
        assert np.abs(np.array(person.keypoints)[:, :2] - points(number)).max() <= 0.25
        assert {v for _, _, v in person.keypoints} == {2}
        assert min(person.scores) > 0.95
    plain = [LabeledSample(s.path, s.pid, s.camid) for s in attached]
    from_json, _ = attach_labels(plain, root, LabelRoots(coco=tmp_path / "a.json"))
    assert to_maps(from_json, tmp_path / "maps") == 6 * 18
    roots = LabelRoots(tmp_path / "maps" / "mask-anno", tmp_path / "maps" / "keypoints")
    again, _ = attach_labels(plain, root, roots)
    for number, (first, second) in enumerate(zip(attached, again)):
        one, two = read_labels(first), read_labels(second)
        assert (one.mask == two.mask).all()
        assert two.heatmaps.shape == (17, 256, 128)
        joints = joints_of(two, (64, 32))
        assert np.abs(joints[:, :2] - points(number)).max() <= 0.5
        assert np.abs(one.heatmaps.astype(int) - two.heatmaps).mean() < 1


def test_thresholds_of_visibility(tmp_path, attached):
    """Peaks of 60, 40 and 10 percent: seen, there, absent; an absent joint is zeros and a black map."""
    sample = attached[0]
    for joint, share in ((3, 0.6), (4, 0.2), (5, 0.04)):
        with Image.open(sample.heatmaps[joint]) as image:
            weak = (np.asarray(image) * share).round().astype(np.uint8)
        Image.fromarray(weak).save(sample.heatmaps[joint])
    root = tmp_path / "data"
    to_coco([sample], root, tmp_path / "a.json")
    person = read_coco(tmp_path / "a.json")[0][f"bounding_box_train/{sample.path.name}"]
    assert [v for _, _, v in person.keypoints[2:7]] == [2, 2, 1, 0, 2]
    assert person.keypoints[5] == (0, 0, 0)
    assert person.scores[3:6] == pytest.approx((0.6, 0.2, 0), abs=0.02)
    to_coco([sample], root, tmp_path / "b.json", visible=0.1, present=0.01)
    assert read_coco(tmp_path / "b.json")[0].popitem()[1].keypoints[5][2] == 1
    with pytest.raises(ConfigError, match=r"thresholds are 0\.5 and 0\.2"):
        to_coco([sample], root, tmp_path / "c.json", visible=0.2, present=0.5)
    plain = [LabeledSample(sample.path, 1, 1)]
    to_maps(attach_labels(plain, root, LabelRoots(coco=tmp_path / "a.json"))[0], tmp_path / "maps")
    black = tmp_path / "maps" / "keypoints" / "bounding_box_train_256_2" / f"{sample.path.stem}_05.png"
    with Image.open(black) as image:
        assert image.getextrema() == (0, 0)
    again, coverage = attach_labels(
        plain, root, LabelRoots(tmp_path / "maps" / "mask-anno", tmp_path / "maps" / "keypoints")
    )
    assert coverage.keypoints == 1
    assert np.flatnonzero(~read_labels(again[0]).drawn).tolist() == [5]


def test_the_check_counts(attached):
    report = check_labels(attached)
    assert (report.photos, report.masks, report.keypoints, report.unreadable) == (6, 6, 6, [])
    assert (report.visible, report.hidden, report.absent, report.outside) == (102, 0, 0, 0)
    assert report.mask_sizes == {"64 x 32": 6}
    assert report.heatmap_sizes == {"256 x 128": 6}
    assert report.on_mask == 1
    assert (report.facing, report.facing_swapped) == (6, 0)
    assert report.faults() == []
    assert report.person_share == pytest.approx(56 * 18 / (64 * 32), abs=0.01)


def test_the_check_finds_faults(tmp_path, photos, points, silhouette):
    """Mirrored people, joints beside the mask, empty and unreadable masks."""
    samples = photos(tmp_path, 24)

    def labeled(number, sample, order=range(17), shift=0.0, mask=silhouette):
        path = tmp_path / f"{number}.png"
        Image.fromarray(mask).save(path)
        keypoints = tuple((float(x) + shift, float(y), 2) for x, y in points(number)[list(order)])
        return replace(sample, mask=path, keypoints=keypoints)

    mirrored = check_labels([labeled(n, s, FLIPPED) for n, s in enumerate(samples)])
    assert (mirrored.facing, mirrored.facing_swapped) == (24, 24)
    assert [fault for fault in mirrored.faults() if "swap them" in fault]
    aside = check_labels([labeled(n, s, shift=20.0) for n, s in enumerate(samples)])
    assert aside.on_mask < 0.5
    assert aside.outside > 0
    assert [fault for fault in aside.faults() if "lie on the mask" in fault]
    empty = check_labels([labeled(n, s, mask=silhouette * np.uint8(n > 3)) for n, s in enumerate(samples)])
    assert empty.empty_masks == 4
    assert [fault for fault in empty.faults() if fault.startswith("4 of 24 masks")]
    (tmp_path / "5.png").write_bytes(b"no picture")
    broken = check_labels([replace(samples[5], mask=tmp_path / "5.png"), samples[6]])
    assert (broken.photos, broken.masks, len(broken.unreadable)) == (2, 0, 1)
    assert len(broken.faults()) == 2
    assert json.loads(json.dumps(broken.to_dict()))["faults"] == broken.faults()


def test_the_preview_shows_every_label(tmp_path, attached):
    full = preview_labels(attached, columns=2, height=64)
    assert full.size == (2 * 28 + 2 * (4 * 32 + 3 * 6) + 28, 74 + 3 * (64 + 26 + 6) + 28)
    bare = preview_labels([LabeledSample(s.path, s.pid, s.camid) for s in attached], columns=2, height=64)
    for panel in range(len(PANELS)):
        box = (28 + panel * 38, 74, 28 + panel * 38 + 32, 74 + 64)
        same = np.array_equal(np.asarray(full.crop(box)), np.asarray(bare.crop(box)))
        assert same == (panel == 0)
    mask = np.asarray(full.crop((28 + 38, 74, 28 + 38 + 32, 74 + 64))).astype(int)
    photo = np.asarray(full.crop((28, 74, 28 + 32, 74 + 64))).astype(int)
    assert np.abs(mask[10:50, 12:22] - photo[10:50, 12:22]).max() == 0
    assert np.ptp(mask[:, :5], axis=2).max() == 0
    with pytest.raises(ConfigError, match="preview of 0 photos"):
        preview_labels([])


def test_labeled_photos_are_shown_first(attached):
    bare = replace(attached[1], mask=None, heatmaps=None)
    half = replace(attached[3], heatmaps=None)
    samples = [bare, half, *(replace(sample, pid=number) for number, sample in enumerate(attached))]
    assert [sample.pid for sample in choose_shown(samples, 3)] == [0, 2, 4]
    assert choose_shown(samples, 7) == [*samples[2:], half]
    assert choose_shown(samples, 99) == [*samples[2:], half, bare]


def test_masks_lie_below_the_whole_folder_of_a_photo(tmp_path, photos, silhouette):
    """As ``labels make`` writes them of a data set with a folder for each person."""
    samples = photos(tmp_path / "data" / "train" / "0007")
    masks = tmp_path / "masks" / "train" / "0007" / "bounding_box_train"
    masks.mkdir(parents=True)
    for sample in samples:
        Image.fromarray(silhouette).save(masks / f"{sample.path.stem}.png")
    labeled, coverage = attach_labels(samples, tmp_path / "data", LabelRoots(tmp_path / "masks"))
    assert coverage.masks == len(samples)
    assert {sample.mask.parent for sample in labeled} == {masks}


def test_visible_faces_of_backs_are_a_fault(tmp_path, photos, points):
    """Backs whose faces are called visible, but not so many that left and right would be exchanged."""
    (photo,) = photos(tmp_path, 1)

    def labeled(face: int, *, back: bool):
        places = points(0)[list(FLIPPED)] if back else points(0)
        keypoints = tuple((x, y, face if joint < 3 else 2) for joint, (x, y) in enumerate(places.tolist()))
        return replace(photo, keypoints=keypoints)

    seen = check_labels([labeled(2, back=True)] * 24 + [labeled(2, back=False)] * 30)
    assert (seen.backs, seen.backs_with_face) == (24, 24)
    assert [fault for fault in seen.faults() if "in 24 of 24 photos of people seen from behind" in fault]
    assert "24 people seen from behind, 24 with a visible face (100%)" in str(seen)
    hidden = check_labels([labeled(1, back=True)] * 24 + [labeled(2, back=False)] * 30)
    assert (hidden.backs, hidden.backs_with_face, hidden.faults()) == (24, 0, [])


# The verb


def run(*arguments) -> int | None:
    parser = argparse.ArgumentParser()
    labels_verb.add_arguments(parser)
    return labels_verb.run(parser.parse_args([*map(str, arguments), "-q"]))


@pytest.fixture
def home(tmp_path, market, released):
    """Market-1501 in miniature with labels in the released layout beside it."""
    from regard.data import load_dataset

    masks, keypoints = released(tmp_path, load_dataset("market1501", market).train)
    return market, ("--masks", masks, "--heatmaps", keypoints)


@pytest.mark.slow
def test_the_verb_from_maps_to_json_and_back(tmp_path, home, capsys):
    root, roots = home
    assert run("check", root, *roots, "--json", tmp_path / "report.json") == 0
    assert "30 photos: 30 with mask, 30 with keypoints" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["faults"] == []
    run("to-coco", root, tmp_path / "labels.json", *roots)
    run("to-maps", root, tmp_path / "maps", "--coco", tmp_path / "labels.json", "--size", "64x32")
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 30 * 18
    run("preview", root, tmp_path / "sheet.png", "--coco", tmp_path / "labels.json", "--photos", 3, "--height", 48)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 100
    run("pack", root, *roots, "--size", "32x16")
    assert (root / "labels.pack").exists()
    assert "; 30 photos" in capsys.readouterr().out
    assert run("check", root) == 2
    assert "fault: no photo has a label" in capsys.readouterr().out


def test_the_verb_is_part_of_the_command_line(home, tmp_path, capsys):
    root, roots = home
    assert main(["data", "labels", "check", str(root), *map(str, roots), "-q"]) == 0
    assert main(["data", "labels", "pack", str(root), "--coco", "nowhere.json"]) == 2
    assert "cannot read labels from 'nowhere.json'" in capsys.readouterr().err


def test_the_verb_says_what_is_wrong(home):
    for (action, *rest), message in (
        (("pack", "--size", "big"), "--size is 'big'"),
        (("check", "--masks", "nowhere"), "cannot list 'nowhere'"),
        (("check", "--split", "query", "--coco", "nowhere.json"), "cannot read labels from 'nowhere.json'"),
        (("make", "out"), "no model is named"),
    ):
        with pytest.raises(RegardError, match=message) as caught:
            run(action, home[0], *rest)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, ConfigError | DataError)
