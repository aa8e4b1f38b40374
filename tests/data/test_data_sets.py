from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import regard
from regard.data import detect, load_dataset, unmatched_queries
from regard.data.datasets import Counts, count, count_differences, published_counts, shared_ids
from regard.data.datasets.layout import LAYOUTS, list_images
from regard.data.datasets.market1501 import NAMING, market1501
from regard.data.datasets.synthetic import read_keypoints
from regard.errors import DataError, UnknownNameError
from regard.registry import DATASETS
from regard.structures import Sample


def fault(call, *words: str) -> None:
    """The call fails with a one-line message that holds all the words."""
    with pytest.raises(DataError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


@pytest.fixture
def crowd(market, picture) -> Path:
    """The miniature market with labels for two of its pictures."""
    (market / "dataset.json").write_text("{}")
    picture(market / "masks/bounding_box_train/0001_c1s1_000000_01.png")
    joints = [[float(j), j + 0.5, j % 3] for j in range(17)]
    names = ["bounding_box_train/0001_c1s1_000000_01.jpg", "query/0101_c1s1_000001_00.jpg"]
    content = {
        "images": [{"id": i, "file_name": name, "width": 8, "height": 16} for i, name in enumerate(names, start=5)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "keypoints": [n for joint in joints for n in joint]}
            for i in (6, 5)
        ],
        "categories": [],
    }
    (market / "keypoints.json").write_text(json.dumps(content))
    return market


def edit_keypoints(crowd: Path, edit) -> None:
    content = json.loads((crowd / "keypoints.json").read_text())
    edit(content)
    (crowd / "keypoints.json").write_text(json.dumps(content))


def test_market_as_published(shared_market):
    splits = load_dataset("market1501", shared_market)
    assert count(splits) == Counts(30, 6, 2, 2, 6, 1, 1)
    assert splits.num_ids == 6
    assert splits.query[0] == Sample(
        shared_market / "query/0101_c1s1_000001_00.jpg", pid=101, camid=1, sequence=1, frame=1
    )
    assert [(s.pid, s.camid, s.sequence, s.frame) for s in splits.gallery[:3]] == [
        (-1, 1, 1, 401),
        (0, 2, 1, 3),
        (101, 1, 2, 451),
    ]
    assert "train 30 images of 6 ids" in str(splits)
    assert regard.load_dataset("market1501", str(shared_market)) == splits


def test_order_is_by_name_in_code_points(tmp_path, picture):
    names = ["b.JPG", "a.jpg", "Z.png", "é.jpg", "10.jpg", "9.jpeg", "-1.bmp"]
    for name in reversed(names):
        picture(tmp_path / name)
    assert [path.name for path in list_images(tmp_path)] == sorted(names)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_splits_are_sorted(shared_market, split):
    names = [sample.path.name for sample in getattr(load_dataset("market1501", shared_market), split)]
    assert names == sorted(names)


def test_foreign_files_are_passed_over(market):
    expected = load_dataset("market1501", market)
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        for name in ("Thumbs.db", "readme.txt", ".DS_Store", "._0001_c1s1_000000_01.jpg", "names.jpg.txt"):
            (market / folder / name).write_bytes(b"x")
        (market / folder / "0001_c1s1_000000_01.jpg.d").mkdir()
        (market / folder / "backup.jpg").mkdir()
    assert load_dataset("market1501", market) == expected


def test_uppercase_endings_spaces_and_non_ascii(tmp_path, market, picture):
    root = tmp_path / "Personen im Café 人" / "my market"
    shutil.move(market, root)
    for index, name in enumerate(["0007_c6s4_012345_12.JPG", "0007_c5s4_012345_12.Png", "0008_c3s1_000001_00.jpeg"]):
        picture(root / "bounding_box_train" / name, seed=index)
    splits = load_dataset("market1501", root)
    added = [sample for sample in splits.train if sample.pid in (7, 8)]
    assert [(s.pid, s.camid, s.frame) for s in added] == [(7, 5, 12345), (7, 6, 12345), (8, 3, 1)]
    assert detect(root) == "market1501"


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("0002_c1s1_000451_03.jpg", (2, 1, 1, 451)),
        ("1501_c6s4_001877_01.jpg", (1501, 6, 4, 1877)),
        ("-1_c1s1_000401_03.jpg", (-1, 1, 1, 401)),
        ("0000_c4s6_007891_05.jpg", (0, 4, 6, 7891)),
        ("0001_c1s1_001051_00.jpg.jpg", (1, 1, 1, 1051)),
        ("12345_c12_000004.png", (12345, 12, None, 4)),
        ("3_c2.png", (3, 2, None, None)),
    ],
)
def test_names(name, numbers):
    sample = NAMING.read(Path("folder") / name)
    assert (sample.pid, sample.camid, sample.sequence, sample.frame) == numbers


@pytest.mark.parametrize(
    "name", ["person.jpg", "0002.jpg", "0002_1.jpg", "-2_c1s1_1_1.jpg", "_c1s1_1.jpg", "2_cs1.jpg", "٣_c1.jpg"]
)
def test_names_not_understood(name):
    fault(lambda: NAMING.read(Path("folder") / name), name, "0002_c1s1_000451_03.jpg", "rename")


@pytest.mark.parametrize("folder", ["Market-1501-v15.09.15", "market1501", "MARKET1501", "Market-1501"])
def test_one_level_below(tmp_path, market, folder):
    root = tmp_path / "all"
    root.mkdir()
    shutil.move(market, root / folder)
    (root / "unrelated").mkdir()
    splits = load_dataset("market1501", root)
    assert splits.root == root / folder
    assert detect(root) == detect(root / folder) == "market1501"


def test_detects_the_most_specific(tmp_path, crowd):
    assert detect(crowd) == "crowd"
    (tmp_path / "all").mkdir()
    shutil.move(crowd, tmp_path / "all" / "crowd")
    assert detect(tmp_path / "all") == "crowd"


def test_detect_names_several(tmp_path, market):
    root = tmp_path / "all"
    shutil.copytree(market, root / "crowd")
    shutil.copytree(market, root / "market1501")
    (root / "crowd/dataset.json").write_text("{}")
    fault(lambda: detect(root), "several", "crowd in", "market1501 in", "pass")


def test_detect_finds_nothing(tmp_path):
    (tmp_path / "photos").mkdir()
    fault(lambda: detect(tmp_path), str(tmp_path), "like none of crowd, cuhk03", "photos")
    fault(lambda: detect(tmp_path / "nowhere"), "no folder", "nowhere", "photos")


def test_unknown_name(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'market1501'"):
        load_dataset("market1051", tmp_path)


def test_every_data_set_is_described():
    assert {"crowd", "market1501"} <= set(DATASETS)
    assert set(LAYOUTS) == set(DATASETS)
    assert market1501.__doc__
    assert market1501.__name__ == "market1501"


def test_wrong_roots(tmp_path, market):
    (tmp_path / "a.zip").write_bytes(b"PK")
    fault(lambda: load_dataset("market1501", tmp_path / "a.zip"), "a.zip", "is a file", "unpack")
    fault(
        lambda: load_dataset("market1501", tmp_path / "x" / "y"),
        f"no folder '{tmp_path / 'x' / 'y'}'",
        f"'{tmp_path}'",
        "folders there: market",
    )
    elsewhere = tmp_path / "elsewhere"
    for name in [f"d{i:02d}" for i in range(12)]:
        (elsewhere / name).mkdir(parents=True)
    fault(
        lambda: load_dataset("market1501", elsewhere),
        "market1501 not found",
        "bounding_box_train, query, bounding_box_test",
        "Market-1501-v15.09.15",
        "d00, d01",
        "4 more",
        "pass the folder that holds bounding_box_train",
    )
    shutil.move(market, elsewhere / "d05" / "mine")
    fault(lambda: load_dataset("market1501", elsewhere / "d05"), f"try '{elsewhere / 'd05' / 'mine'}'")
    fault(
        lambda: load_dataset("market1501", elsewhere / "d05" / "mine" / "query"), f"try '{elsewhere / 'd05' / 'mine'}'"
    )


def test_missing_part(market):
    shutil.rmtree(market / "query")
    fault(lambda: load_dataset("market1501", market), "incomplete", "no query", "bounding_box_test, bounding_box_train")
    fault(lambda: load_dataset("crowd", market), "crowd not found", "dataset.json")


def test_part_that_is_a_file(market):
    shutil.rmtree(market / "query")
    (market / "query").write_text("")
    fault(lambda: load_dataset("market1501", market), "cannot list", "query")


@pytest.mark.parametrize(
    ("folder", "split"), [("bounding_box_train", "train"), ("query", "query"), ("bounding_box_test", "gallery")]
)
def test_empty_split(market, folder, split):
    for path in (market / folder).iterdir():
        path.unlink()
    (market / folder / "Thumbs.db").write_bytes(b"x")
    fault(lambda: load_dataset("market1501", market), f"empty {split} split", str(market))


@pytest.mark.parametrize("name", ["-1_c1s1_000001_00.jpg", "0000_c1s1_000001_00.jpg"])
@pytest.mark.parametrize("folder", ["bounding_box_train", "query"])
def test_nobody_to_train_on_or_search_for(market, picture, folder, name):
    picture(market / folder / name)
    fault(lambda: load_dataset("market1501", market), name, "belongs in the gallery")


def test_single_training_identity(market):
    for path in (market / "bounding_box_train").iterdir():
        if not path.name.startswith("0001"):
            path.unlink()
    fault(lambda: load_dataset("market1501", market), "single training identity", "at least 2")


def test_unmatched_queries(market, picture):
    assert unmatched_queries(load_dataset("market1501", market)) == []
    picture(market / "query/0777_c1s1_000001_00.jpg")
    picture(market / "query/0102_c2s1_000009_00.jpg")
    (market / "bounding_box_test/0101_c2s2_000451_03.jpg").unlink()
    unmatched = unmatched_queries(load_dataset("market1501", market))
    assert [(query.pid, query.camid) for query in unmatched] == [(101, 1), (777, 1)]


def test_shared_ids(market, picture):
    assert shared_ids(load_dataset("market1501", market)) == []
    picture(market / "query/0003_c1s1_000001_00.jpg")
    assert shared_ids(load_dataset("market1501", market)) == [3]


def test_counts_against_the_published_ones(shared_market):
    published = published_counts("market1501")
    assert published is not None
    assert published == Counts(12_936, 751, 3_368, 750, 19_732, 2_798, 3_819)
    assert published.gallery_images - published.junk == 15_913
    splits = load_dataset("market1501", shared_market)
    assert count_differences(splits, count(splits)) == []
    differences = count_differences(splits, published)
    assert "train images: 30 found, 12,936 published" in differences
    assert len(differences) == 7
    assert published_counts("crowd") is None


def test_crowd_brings_masks_and_keypoints(crowd):
    splits = load_dataset("crowd", crowd)
    assert splits.name == "crowd"
    first, second = splits.train[:2]
    assert first.mask == crowd / "masks/bounding_box_train/0001_c1s1_000000_01.png"
    assert first.keypoints is not None
    assert len(first.keypoints) == 17
    assert first.keypoints[5] == (5.0, 5.5, 2)
    assert second.mask is None
    assert second.keypoints is None
    assert splits.query[0].keypoints == first.keypoints
    assert splits.query[0].mask is None
    assert [sample.path for sample in splits.train] == [s.path for s in load_dataset("market1501", crowd).train]


def test_crowd_without_labels(crowd):
    (crowd / "keypoints.json").unlink()
    shutil.rmtree(crowd / "masks")
    assert all(s.mask is None and s.keypoints is None for s in load_dataset("crowd", crowd).train)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"images": [{}], "annotations": []}', '{"images": 3}'])
def test_keypoints_that_are_no_coco(crowd, content):
    (crowd / "keypoints.json").write_text(content)
    fault(lambda: load_dataset("crowd", crowd), "keypoints.json", "COCO", "make it again")


def test_keypoints_in_another_encoding(crowd):
    (crowd / "keypoints.json").write_bytes(b"\xff\xfe{\x00}\x00")
    fault(lambda: load_dataset("crowd", crowd), "keypoints.json", "COCO")


@pytest.mark.parametrize("flat", [[], [1.0] * 50, [float("nan")] * 51, ["1"] * 51, None, 3, {"a": 1}, [[1, 2, 3]] * 51])
def test_malformed_keypoints(crowd, flat):
    edit_keypoints(crowd, lambda content: content["annotations"][0].update(keypoints=flat))
    fault(lambda: load_dataset("crowd", crowd), "query/0101", "51 finite numbers")


def test_keypoints_of_nobody_and_of_two(crowd):
    edit_keypoints(crowd, lambda content: content["annotations"].append(content["annotations"][0]))
    fault(lambda: read_keypoints(crowd / "keypoints.json"), "two annotations", "query/0101")
    edit_keypoints(crowd, lambda content: content["annotations"][2].update(image_id=99))
    fault(lambda: read_keypoints(crowd / "keypoints.json"), "99")
