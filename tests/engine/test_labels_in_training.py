"""Labels named in the configuration reach training: attached, packed, drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_runs import config_for

from knowing_teacher import write_teacher
from regard.cli.main import main
from regard.crowd import make_crowd
from regard.data import load_dataset
from regard.data.image import read_image
from regard.data.labels import read_labels
from regard.engine.run import start_run
from regard.errors import ConfigError, DataError
from regard.recipes import read_recipe
from regard.run_folder.opened_data import open_data


@pytest.fixture
def masks(market, tmp_path):
    """Masks of the training pictures in a folder of their own: the upper half is the person."""
    folder = tmp_path / "masks" / "bounding_box_train"
    folder.mkdir(parents=True)
    picture = np.zeros((48, 24), np.uint8)
    picture[:24] = 255
    for path in (market / "bounding_box_train").iterdir():
        Image.fromarray(picture).save(folder / path.name)
    return tmp_path / "masks"


def configured(tiny_overrides, *more):
    labels = ["data.labels=[mask]", "model.pab=false", "losses.pab=null"]
    return read_recipe("daaf_crowd").config([*tiny_overrides, *labels, *more])


def test_masks_of_a_folder_are_trained_on_and_packed(tiny_overrides, masks, tmp_path):
    pack = tmp_path / "labels.pack"
    config = configured(
        tiny_overrides, f"data.label_files.market1501.mask_root={masks}", f"data.label_files.market1501.pack={pack}",
        "train.epochs=1", "train.eval_every=null",
    )  # fmt: skip
    start_run(config, tmp_path / "run", quiet=True)
    assert pack.is_file()
    mask = read_labels(open_data(config, quiet=True).train[0]).mask
    assert mask is not None
    half = len(mask) // 2
    assert mask[: half - 2].min() == 255
    assert mask[half + 2 :].max() == 0


def test_gaps_are_told(tiny_overrides, masks):
    next((masks / "bounding_box_train").iterdir()).unlink()
    config = configured(tiny_overrides, f"data.label_files.market1501.mask_root={masks}")
    with pytest.raises(DataError, match="1 of 36 photos have no whole label 'mask'"):
        open_data(config, quiet=True)
    tolerant = configured(
        tiny_overrides, f"data.label_files.market1501.mask_root={masks}", "data.label_files.market1501.tolerance=0.1"
    )
    assert len(open_data(tolerant, quiet=True).train) == 36


def test_nothing_is_attached_where_nothing_is_trained_on(tiny_overrides, masks):
    overrides = [*tiny_overrides, f"data.label_files.market1501.mask_root={masks / 'gone'}"]
    assert len(open_data(config_for("baseline_crowd", overrides), quiet=True).train) == 36


def test_label_files_belong_to_a_data_set(tiny_overrides):
    with pytest.raises(ConfigError, match="unknown data set 'markt1501', did you mean 'market1501'"):
        configured(tiny_overrides, "data.label_files.markt1501.pack=x")


def taught(splits, path: Path) -> Path:
    """A network that knows the crowd's truth by heart, as it lies on a canvas of 96 x 96."""
    canvases, points, masks = [], [], []
    for sample in splits.train:
        h, w = (picture := read_image(sample.path)).shape[:2]
        rows, columns = round(h * 96 / (1.15 * h)), round(w * 96 / (1.15 * h))
        top, left = (96 - rows) // 2, (96 - columns) // 2
        border = ((top, 96 - rows - top), (left, 96 - columns - left))
        small = [Image.fromarray(part).resize((columns, rows), Image.Resampling.BILINEAR)
                 for part in (picture, read_labels(sample).mask)]  # fmt: skip
        canvases.append(np.pad(np.asarray(small[0]), (*border, (0, 0)), "edge"))
        masks.append(np.pad(np.asarray(small[1]) / 255, border)[None])
        x, y, level = np.array(sample.keypoints).T
        place = [
            left + (x + 0.5) * columns / w,
            top + (y + 0.5) * rows / h,
            np.choose(level.astype(int), [0, 0.2, 0.9]),
        ]
        points.append(np.stack(place, 1))
    write_teacher(path, canvases, np.stack(points), np.stack(masks))
    Path(f"{path}.yaml").write_text(
        "color: rgb\nscale: 255\nmean: [0, 0, 0]\nstd: [1, 1, 1]\nfit: edge\nmargin: 1.15\n"
        "joints: {kind: coordinates, output: points, order: coco17}\nmask: {kind: probabilities, output: masks}\n"
    )
    return path


def test_daaf_trains_on_labels_that_a_file_has_made(tiny_overrides, tmp_path):
    """A crowd's pictures without their labels; a network in a file makes them, and they are the crowd's truth."""
    root = tmp_path / "crowd"
    make_crowd(root, train_ids=3, test_ids=2, per_camera=1, height=96, width=48, workers=1, progress=False)
    splits = load_dataset("crowd", root)
    teacher, out = taught(splits, tmp_path / "teacher.onnx"), tmp_path / "labels"
    (root / "keypoints.json").rename(tmp_path / "truth.json")
    (root / "masks").rename(tmp_path / "truth")
    told = ["--coco", str(out / "keypoints.json"), "--masks", str(out / "masks")]
    assert main(["data", "labels", "make", str(root), str(out), "--pose", str(teacher), "-q"]) == 0
    assert main(["data", "labels", "check", str(root), *told, "-q", "--json", str(tmp_path / "report.json")]) == 0
    assert main(["data", "labels", "preview", str(root), str(tmp_path / "labels.png"), *told, "--photos", "2"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["masks"], report["keypoints"]) == (len(splits.train),) * 2
    assert report["on_mask"] > 0.95
    config = read_recipe("daaf_crowd").config([
        *tiny_overrides, f"data.root={root}", "data.name=crowd", "data.ids_per_batch=2", "train.epochs=1",
        "train.eval_every=null", f"data.label_files.crowd.coco={out / 'keypoints.json'}",
        f"data.label_files.crowd.mask_root={out / 'masks'}",
    ])  # fmt: skip
    for truth, sample in zip(splits.train, open_data(config, quiet=True).train, strict=True):
        right = read_labels(replace(truth, mask=tmp_path / "truth" / truth.mask.relative_to(root / "masks")))
        made = read_labels(sample)
        both, either = (right.mask > 0) & (made.mask > 0), (right.mask > 0) | (made.mask > 0)
        assert both.sum() > 0.9 * either.sum()
        known = (right.joints[:, 2] > 0) & (made.joints[:, 2] > 0)
        assert known.sum() >= (right.joints[:, 2] > 0).sum() - 2  # those on the edge
        assert np.abs(made.joints - right.joints)[known, :2].max() < 0.05
        body = known & (np.arange(17) > 2)  # faces of backs are hidden
        assert (made.joints[body, 2] == right.joints[body, 2]).all()
    start_run(config, tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss/pab" in line]
    assert losses
    assert all(line["loss/pab"] > 0 < line["loss/hab"] for line in losses)
