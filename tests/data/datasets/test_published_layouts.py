"""Every published layout in miniature: what is read, what is told apart, and what is said where something is wrong."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from regard.data import detect, load_dataset, unmatched_queries
from regard.data.datasets import Counts, count, find_datasets, published_counts, shared_ids
from regard.data.datasets.small_sets import pick_training_ids
from regard.registry import DATASETS
from regard.structures import Sample


def write_occluded_duke(root: Path) -> Path:
    return trees.write_duke(root)


def write_release(root: Path) -> Path:
    trees.write_cuhk03_release(root)
    return root


def write_table(root: Path) -> Path:
    trees.write_pictures(root, ["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    (root / "table.csv").write_text("path,pid,split\n1.jpg,1,train\n2.jpg,2,train\n3.jpg,3,query\n4.jpg,3,gallery\n")
    return root


def write_people(root: Path) -> Path:
    return trees.write_pictures(root, [f"{name}/{i}.jpg" for name in ("anna", "bert", "carl", "dora") for i in (1, 2)])


# name in the registry, usual folder, writer
LAYOUTS = [
    ("dukemtmc", "DukeMTMC-reID", trees.write_duke),
    ("dukemtmc", "duke", trees.write_duke),
    ("occluded_duke", "Occluded_Duke", write_occluded_duke),
    ("msmt17", "MSMT17_V2", trees.write_msmt17),
    ("msmt17", "MSMT17_V1", lambda root: trees.write_msmt17(root, "train", "test")),
    ("msmt17", "msmt17", trees.write_converted_msmt17),
    ("cuhk03", "cuhk03-np", trees.write_extracted_cuhk03),
    ("cuhk03", "cuhk03_release", write_release),
    ("occluded_reid", "Occluded_REID", lambda root: trees.write_partial(
        root, "occluded_body_images", "whole_body_images", "{pid:03d}/{pid:03d}_{shot:02d}.tif")),
    ("partial_reid", "Partial_REID", lambda root: trees.write_partial(
        root, "partial_body_images", "whole_body_images")),
    ("partial_ilids", "Partial_iLIDS", lambda root: trees.write_partial(root, "Probe", "Gallery", "{pid:03d}.jpg")),
    ("viper", "VIPeR", trees.write_viper),
    ("grid", "underground_reid", trees.write_grid),
    ("prid", "prid_2011", trees.write_prid),
]  # fmt: skip
OWN = [("table", "list", write_table), ("folder", "friends", write_people)]

IDS = [f"{name}-{folder}" for name, folder, _ in (*LAYOUTS, *OWN)]


@pytest.mark.parametrize(("name", "folder", "write"), [*LAYOUTS, *OWN], ids=IDS)
def test_told_apart_and_read_with_spaces_and_non_ascii(tmp_path, name, folder, write):
    root = write(tmp_path / "Fußgänger 人 x" / folder)
    for part in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for foreign in ("Thumbs.db", ".DS_Store", "._0001_c1s1_000000_01.jpg", "readme.txt"):
            (part / foreign).write_bytes(b"x")
    assert detect(root) == name
    splits = load_dataset(name, root)
    assert splits.name == name
    assert splits.query
    assert splits.gallery
    assert all(sample.path.is_file() for part in (splits.train, splits.query, splits.gallery) for sample in part)
    assert unmatched_queries(splits) == []
    assert shared_ids(splits) == []
    assert all(sample.pid > 0 for sample in (*splits.train, *splits.query))


@pytest.mark.parametrize(("name", "folder", "write"), LAYOUTS, ids=IDS[: len(LAYOUTS)])
def test_found_below_by_the_usual_name(tmp_path, name, folder, write):
    write(tmp_path / folder.upper())
    (tmp_path / "unrelated").mkdir()
    assert detect(tmp_path) == name
    assert load_dataset(name, tmp_path).root == tmp_path / folder.upper()


def test_every_data_set_is_tested_here():
    assert {name for name, _, _ in (*LAYOUTS, *OWN)} | {"market1501", "crowd"} == set(DATASETS)


@pytest.mark.parametrize(
    ("name", "outer", "inner", "write"),
    [
        ("grid", "grid", "underground_reid", trees.write_grid),
        ("viper", "viper", "VIPeR", trees.write_viper),
        ("prid", "prid2011", "prid_2011", trees.write_prid),
        ("msmt17", "msmt17", "MSMT17_V1", lambda root: trees.write_msmt17(root, "train", "test")),
        ("dukemtmc", "dukemtmc-reid", "DukeMTMC-reID", trees.write_duke),
        ("cuhk03", "cuhk03", "cuhk03_release", write_release),
    ],
)
def test_one_usual_name_inside_another(tmp_path, name, outer, inner, write):
    write(tmp_path / outer / inner)
    assert detect(tmp_path) == name
    assert load_dataset(name, tmp_path).root == tmp_path / outer / inner


def test_several_side_by_side(tmp_path, market, fault):
    trees.write_duke(tmp_path / "data" / "duke")
    trees.write_viper(tmp_path / "data" / "viper")
    shutil.move(market, tmp_path / "data" / "market1501")
    assert find_datasets(tmp_path / "data") == {
        tmp_path / "data/duke": "dukemtmc",
        tmp_path / "data/market1501": "market1501",
        tmp_path / "data/viper": "viper",
    }
    fault(lambda: detect(tmp_path / "data"), "several", "dukemtmc in", "market1501 in", "viper in", "pass")
    assert load_dataset("dukemtmc", tmp_path / "data").root == tmp_path / "data/duke"


def test_duke_as_published(tmp_path):
    splits = load_dataset("dukemtmc", trees.write_duke(tmp_path))
    assert count(splits) == Counts(6, 3, 2, 2, 3, 0, 0)
    assert splits.train[1] == Sample(tmp_path / "bounding_box_train/0001_c8_f0001001.jpg", 1, 8, frame=1001)
    assert published_counts("dukemtmc") == Counts(16_522, 702, 2_228, 702, 17_661, 0, 0)
    assert published_counts("occluded_duke") == Counts(15_618, 702, 2_210, 519, 17_661, 0, 0)


def test_duke_is_not_read_from_a_market_folder(market, fault):
    fault(lambda: load_dataset("dukemtmc", market), "0001_c1s1", "expected one like 0001_c2_f0046182.jpg")


def test_occluded_duke_by_its_number_of_queries(tmp_path, monkeypatch):
    monkeypatch.setattr("regard.data.datasets.dukemtmc.OCCLUDED_QUERIES", 5)  # 2,210 in truth
    root = trees.write_duke(tmp_path / "copy")
    assert detect(root) == "dukemtmc"
    for frame in range(3):
        (root / f"query/0002_c2_f{frame:07d}.jpg").touch()
    assert detect(root) == "occluded_duke"


@pytest.mark.parametrize("folders", [("mask_train_v2", "mask_test_v2"), ("train", "test")])
def test_msmt17_as_published(tmp_path, folders):
    root = trees.write_msmt17(tmp_path, *folders)
    splits = load_dataset("msmt17", root)
    assert count(splits) == Counts(5, 2, 2, 2, 3, 0, 0)
    assert {s.camid for s in splits.train} == {1, 14, 5, 15, 9}
    assert [s.camid for s in splits.query] == [10, 11]
    first = splits.train[0]
    assert first == Sample(root / folders[0] / "0000/0000_000_01_0303morning_0015_0.jpg", 1, 1, frame=15)
    assert {s.pid for s in splits.train} == {1, 2}
    assert {s.pid for s in splits.query} == {1_042, 1_043}
    assert {s.pid for s in splits.gallery} == {1_042, 1_043, 1_044}
    names = [s.path.name for s in splits.train]
    assert names == sorted(names)


def test_msmt17_without_validation(tmp_path):
    splits = load_dataset("msmt17", trees.write_msmt17(tmp_path), val=False)
    assert len(splits.train) == 4
    everything, train = published_counts("msmt17"), published_counts("msmt17", val=False)
    assert everything is not None
    assert train is not None
    assert (everything.train_images, train.train_images) == (32_621, 30_248)
    assert everything[1:] == train[1:] == (1_041, 11_659, 3_060, 82_161, 0, 0)


def test_converted_msmt17_has_the_same_numbers(tmp_path):
    listed = load_dataset("msmt17", trees.write_msmt17(tmp_path / "lists"), val=False)
    converted = load_dataset("msmt17", trees.write_converted_msmt17(tmp_path / "plain"))
    for split in ("train", "query", "gallery"):
        pairs = [sorted((s.pid, s.camid) for s in getattr(read, split)) for read in (converted, listed)]
        assert pairs[0] == pairs[1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0000/0000_000_01_0303morning_0015_0.jpg", ["line 3", "expected one like"]),
        ("0000/0000_000_01_0303morning_0015_0.jpg x", ["line 3", "expected one like"]),
        ("person.jpg 3", ["line 3", "person.jpg"]),
        ("0009/0009_000_01_0303morning_0015_0.jpg 9", ["line 3", "there is no", "0009_000_01"]),
    ],
)
def test_damaged_lists(tmp_path, fault, line, words):
    root = trees.write_msmt17(tmp_path)
    with (root / "list_query.txt").open("a") as file:
        file.write(line + "\n")
    fault(lambda: load_dataset("msmt17", root), "list_query.txt", *words)


def test_incomplete_msmt17(tmp_path, fault):
    root = trees.write_msmt17(tmp_path / "a")
    (root / "list_val.txt").unlink()
    fault(lambda: load_dataset("msmt17", root), "incomplete", "list_val.txt")
    root = trees.write_msmt17(tmp_path / "b")
    shutil.rmtree(root / "mask_test_v2")
    fault(lambda: load_dataset("msmt17", root), "incomplete", "mask_test_v2")
    root = trees.write_msmt17(tmp_path / "c")
    (root / "list_train.txt").write_bytes(b"\xff\xfe\x00")
    fault(lambda: load_dataset("msmt17", root), "cannot read the list", "list_train.txt")


def test_extracted_cuhk03(tmp_path, fault):
    root = trees.write_extracted_cuhk03(tmp_path / "cuhk03-np")
    assert count(load_dataset("cuhk03", root)) == Counts(4, 2, 2, 1, 2, 0, 0)
    labeled = load_dataset("cuhk03", root, boxes="labeled")
    assert count(labeled) == Counts(5, 2, 2, 1, 2, 0, 0)
    assert labeled.train[0] == Sample(root / "labeled/bounding_box_train/0001_c1_1.png", 1, 1, frame=1)
    assert detect(root / "labeled") == "cuhk03"
    assert load_dataset("cuhk03", root / "labeled", boxes="labeled").train == labeled.train
    fault(lambda: load_dataset("cuhk03", root / "labeled"), "does not hold the detected boxes", "boxes=labeled")
    fault(lambda: load_dataset("cuhk03", root, boxes="labelled"), "boxes", "'labelled'", "detected, labeled")


def test_cuhk03_with_one_kind_of_boxes(tmp_path, fault):
    root = trees.write_extracted_cuhk03(tmp_path, kinds=("labeled",))
    assert len(load_dataset("cuhk03", root, boxes="labeled").train) == 5
    fault(lambda: load_dataset("cuhk03", root), "no folder detected", "boxes=labeled")


def test_cuhk03_counts():
    detected, labeled = published_counts("cuhk03"), published_counts("cuhk03", boxes="labeled")
    assert detected == Counts(7_365, 767, 1_400, 700, 5_332, 0, 0)
    assert labeled == Counts(7_368, 767, 1_400, 700, 5_328, 0, 0)


def test_cuhk03_release(tmp_path):
    pictures = trees.write_cuhk03_release(tmp_path)
    splits = load_dataset("cuhk03", tmp_path)
    assert [(s.path.name, s.pid, s.camid) for s in splits.train] == [
        ("1_001_1_01.png", 1, 1), ("1_001_2_06.png", 1, 2), ("2_001_1_02.png", 2, 1), ("2_001_2_10.png", 2, 2),
    ]  # fmt: skip
    assert [(s.path.name, s.pid, s.camid) for s in splits.query] == [("1_002_1_01.png", 3, 1), ("1_002_2_07.png", 3, 2)]
    assert [s.path.name for s in splits.gallery] == trees.CUHK["gallery"]
    extracted = {path.name: np.asarray(Image.open(path)) for path in (tmp_path / "images_detected").iterdir()}
    assert set(extracted) == set(pictures)
    assert all(np.array_equal(extracted[name], pixels) for name, pixels in pictures.items())
    assert not (tmp_path / "images_labeled").exists()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_cuhk03_release_is_written_once(tmp_path, fault):
    trees.write_cuhk03_release(tmp_path)
    first = load_dataset("cuhk03", tmp_path, boxes="labeled")
    (tmp_path / "cuhk-03.mat").write_bytes(b"no longer needed")
    assert load_dataset("cuhk03", tmp_path, boxes="labeled") == first
    (tmp_path / "images_labeled/1_002_1_01.png").unlink()
    fault(lambda: load_dataset("cuhk03", tmp_path, boxes="labeled"), "1_002_1_01.png", "remove the folder")


def test_damaged_cuhk03_release(tmp_path, fault):
    trees.write_cuhk03_release(tmp_path)
    config = tmp_path / "cuhk03_new_protocol_config_detected.mat"
    release = (tmp_path / "cuhk-03.mat").read_bytes()
    (tmp_path / "cuhk-03.mat").write_bytes(release[: len(release) // 2])
    fault(lambda: load_dataset("cuhk03", tmp_path), "cannot read", "cuhk-03.mat")
    assert not (tmp_path / "images_detected").exists()
    (tmp_path / "cuhk-03.mat").write_bytes(release)
    content = {key: value for key, value in loadmat(config).items() if not key.startswith("__")}
    savemat(config, content | {"query_idx": np.array([[99]])})
    fault(lambda: load_dataset("cuhk03", tmp_path), config.name, "different lengths")
    config.write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    fault(lambda: load_dataset("cuhk03", tmp_path), "cannot read", config.name)
    config.unlink()
    fault(lambda: load_dataset("cuhk03", tmp_path), "there is no", config.name)


def test_partial_sets_have_no_training_part_and_two_cameras(tmp_path):
    partial = load_dataset(
        "partial_reid", trees.write_partial(tmp_path / "p", "partial_body_images", "whole_body_images")
    )
    assert count(partial) == Counts(0, 0, 6, 3, 6, 0, 0)
    assert {s.camid for s in partial.query} == {0}
    assert {s.camid for s in partial.gallery} == {1}
    assert [s.pid for s in partial.query] == [1, 1, 2, 2, 60, 60]
    ilids = load_dataset("partial_ilids", trees.write_partial(tmp_path / "i", "Probe", "Gallery", "{pid:03d}.JPG"))
    assert count(ilids) == Counts(0, 0, 3, 3, 3, 0, 0)
    assert published_counts("occluded_reid") == Counts(0, 0, 1_000, 200, 1_000, 0, 0)
    assert published_counts("partial_reid") == Counts(0, 0, 300, 60, 300, 0, 0)
    assert published_counts("partial_ilids") == Counts(0, 0, 119, 119, 119, 0, 0)


def test_partial_reid_with_its_occluded_pictures(tmp_path):
    root = trees.write_partial(tmp_path, "partial_body_images", "whole_body_images")
    trees.write_partial(tmp_path, "occluded_body_images", "whole_body_images")
    assert detect(root) == "partial_reid"


def test_occluded_reid_with_pictures_in_one_folder(tmp_path, fault):
    root = trees.write_partial(tmp_path, "occluded_body_images", "whole_body_images")
    assert len(load_dataset("occluded_reid", root).query) == 6
    trees.write_pictures(root, ["whole_body_images/somebody.tif"])
    fault(lambda: load_dataset("occluded_reid", root), "somebody.tif", "expected one like 001_001.jpg")


@pytest.mark.parametrize("split", range(10))
def test_viper(tmp_path, split):
    splits = load_dataset("viper", trees.write_viper(tmp_path), split=split)
    train, query = {s.pid for s in splits.train}, {s.pid for s in splits.query}
    assert len(train) == len(query) == 4
    assert train | query == set(range(1, 9))
    assert {s.pid for s in splits.gallery} == query
    assert {s.camid for s in splits.query} == {1}
    assert {s.camid for s in splits.gallery} == {2}
    assert count(splits) == Counts(8, 4, 4, 4, 4, 0, 0)


def test_viper_counts():
    assert published_counts("viper", split=3) == Counts(632, 316, 316, 316, 316, 0, 0)


def test_grid(tmp_path):
    splits = load_dataset("grid", trees.write_grid(tmp_path), split=1)
    assert count(splits) == Counts(8, 4, 4, 4, 7, 3, 0)
    assert {s.camid for s in splits.query} <= {1, 2, 3, 4}
    assert published_counts("grid") == Counts(250, 125, 125, 125, 900, 775, 0)


def test_grid_with_its_published_partitions(tmp_path, fault):
    root = trees.write_grid(tmp_path)
    cells = np.empty((1, 10), dtype=object)
    for split in range(10):
        cells[0, split] = {"a": 0, "b": 1, "idx": np.array([[1, 2, 3, 4 + split % 5]])}
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": cells})
    assert {s.pid for s in load_dataset("grid", root, split=0).train} == {1, 2, 3, 4}
    assert {s.pid for s in load_dataset("grid", root, split=3).train} == {1, 2, 3, 7}
    fault(lambda: load_dataset("grid", root, split=10), "split is 10", "0, 1, 2")
    (root / "features_and_partitions.mat").write_bytes(b"x" * 300)
    fault(lambda: load_dataset("grid", root), "cannot read partition 0", "features_and_partitions.mat")


def test_prid(tmp_path):
    splits = load_dataset("prid", trees.write_prid(tmp_path))
    assert count(splits) == Counts(4, 2, 2, 2, 5, 0, 0)
    assert {s.pid for s in splits.gallery} - {s.pid for s in splits.query} == {201, 385, 749}
    assert load_dataset("prid", tmp_path / "single_shot").query[0].pid == splits.query[0].pid
    assert published_counts("prid") == Counts(200, 100, 100, 100, 649, 0, 0)


def test_random_halves():
    halves = [pick_training_ids("viper", range(1, 633), split) for split in range(10)]
    assert {len(half) for half in halves} == {316}
    assert len(set(map(frozenset, halves))) == 10
    assert halves[0] == pick_training_ids("viper", reversed(range(1, 633)), 0)
    assert halves[0] != pick_training_ids("prid", range(1, 633), 0)
    assert sorted(halves[0])[:6] == [5, 7, 8, 10, 14, 16]  # pinned: figures of old runs stay comparable
    shares = [sum(pid in half for half in halves) for pid in range(1, 633)]
    assert 4.5 < sum(shares) / 632 < 5.5


@pytest.mark.parametrize("split", [-1, 10, True, "0", 1.0, None])
def test_wrong_split(tmp_path, fault, split):
    root = trees.write_viper(tmp_path)
    fault(
        lambda: load_dataset("viper", root, split=split), "viper: option split is", repr(split), "expected one of 0, 1"
    )


def test_wrong_option(tmp_path, fault):
    root = trees.write_viper(tmp_path)
    fault(lambda: load_dataset("viper", root, spilt=1), "no option 'spilt'", "did you mean 'split'")


@pytest.mark.parametrize(
    ("write", "name", "file"),
    [
        (trees.write_viper, "viper", "cam_b/portrait.bmp"),
        (trees.write_grid, "grid", "probe/portrait.jpeg"),
        (trees.write_prid, "prid", "single_shot/cam_a/portrait.png"),
        (trees.write_converted_msmt17, "msmt17", "query/portrait.jpg"),
        (trees.write_duke, "dukemtmc", "bounding_box_test/portrait.jpg"),
    ],
)
def test_names_not_understood(tmp_path, fault, write, name, file):
    root = trees.write_pictures(write(tmp_path), [file])
    fault(lambda: load_dataset(name, root), "portrait", "expected one like")


def test_counts_that_differ_are_a_warning_or_an_error(tmp_path, fault, caplog):
    root = trees.write_duke(tmp_path)
    with caplog.at_level(logging.WARNING):
        load_dataset("dukemtmc", root)
        load_dataset("dukemtmc", root)  # a command may read it several times, and says so once
    assert [record.name for record in caplog.records] == ["regard.data.datasets"]
    assert "train images: 6 found, 16,522 published" in caplog.text
    assert "2 more" in caplog.text
    fault(lambda: load_dataset("dukemtmc", root, strict=True), "is not as published", "6 found, 16,522 published")
    caplog.clear()
    load_dataset("folder", write_people(tmp_path / "people"), strict=True)
    assert caplog.text == ""


def test_uppercase_endings(tmp_path):
    root = trees.write_viper(tmp_path)
    for path in root.rglob("*.bmp"):
        path.rename(path.with_suffix(".BMP"))
    assert len(load_dataset("viper", root).train) == 8
