"""Everybody's own pictures: one folder per identity, or a table."""

from __future__ import annotations

import contextlib
import csv
import itertools
from pathlib import Path

import dataset_trees as trees
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from regard.data import detect, load_dataset, unmatched_queries
from regard.data.datasets.own_pictures import divide, draw
from regard.errors import DataError
from regard.registry import DATASETS
from regard.structures import Sample

NAMES = ("anna", "bert", "çelik", "李", "dora", "emil")


@pytest.fixture
def friends(tmp_path) -> Path:
    """Six people, two pictures from each of two cameras."""
    names = [f"{name}/party_cam{camera}_{shot}.JPG" for name in NAMES for camera in (3, 12) for shot in (1, 2)]
    return trees.write_pictures(tmp_path / "my friends", names)


def identities(samples) -> set[str]:
    return {sample.extra["identity"] for sample in samples}


def test_folder_with_cameras(friends):
    splits = load_dataset("folder", friends, camera=r"_cam(\d+)", split=4)
    assert {s.camid for s in splits.train} == {3, 12}
    assert len(splits.train) == 12
    assert len(splits.query) == 6  # one per person and camera
    assert [s.path.name for s in splits.query] == ["party_cam12_1.JPG", "party_cam3_1.JPG"] * 3
    assert len(splits.gallery) == 6
    assert identities(splits.train) | identities(splits.query) == set(NAMES)
    assert not identities(splits.train) & identities(splits.query)
    assert unmatched_queries(splits) == []
    pids = {s.extra["identity"]: s.pid for s in (*splits.train, *splits.gallery)}
    assert pids == {name: index for index, name in enumerate(sorted(NAMES), start=1)}


def test_folder_without_cameras(friends):
    splits = load_dataset("folder", friends, split=4)
    assert {s.camid for s in (*splits.train, *splits.query)} == {0}
    assert {s.camid for s in splits.gallery} == {1}
    assert (len(splits.query), len(splits.gallery)) == (3, 9)
    assert unmatched_queries(splits) == []


def test_folder_options(friends):
    assert identities(load_dataset("folder", friends, split=4, test_share=0.45).query) == {"bert", "李"}
    assert len(load_dataset("folder", friends, split=4, query=r"_2\.").query) == 6
    kept = [identities(load_dataset("folder", friends, split=split).query) for split in (0, 1, 4, 5)]
    assert kept == [{"bert"}, {"anna", "bert", "dora"}, {"anna", "bert", "李"}, {"bert", "dora"}]


def test_too_few_people_on_a_side(friends, tmp_path, fault):
    """Nobody is moved to fill it: the message names a split that suits, and it does."""
    fault(lambda: load_dataset("folder", friends, split=2), "puts 6 into training and 0 into the test", "split=0")
    fault(lambda: load_dataset("folder", friends, test_share=0.01), "0 into the test", "test_share")
    two = trees.write_pictures(tmp_path / "two", ["anna/1.jpg", "anna/2.jpg", "bert/1.jpg", "bert/2.jpg"])
    fault(lambda: load_dataset("folder", two), "of the 2 people", "add people", "train, query and gallery")


PEOPLE = st.sets(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12), max_size=40)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(before=PEOPLE, added=PEOPLE, share=st.floats(0.01, 0.99), more=st.floats(0, 1), split=st.integers(0, 9))
def test_growing_moves_nobody(before, added, share, more, split):
    """Whoever was trained on, or tested on, stays there whoever joins; a larger share keeps those it kept."""

    def test_people(names, share):
        people = [(name, Sample(Path(name) / "1.jpg", 0, 0)) for name in sorted(names)]
        parts = divide(people, share, None, split)
        return {name for part in ("query", "gallery") for name, _ in parts[part]}, {name for name, _ in parts["train"]}

    tested, trained = test_people(before, share)
    tested_later, trained_later = test_people(before | added, share)
    assert tested <= tested_later
    assert trained <= trained_later
    assert not tested_later & trained_later
    assert tested <= test_people(before, share + more * (1 - share))[0]
    assert tested | trained == before


def test_the_share_is_kept_about():
    names = [f"person {number}" for number in range(4000)]
    assert sum(draw(name, 0) < 0.3 for name in names) == pytest.approx(1200, abs=120)


def test_folder_with_splits_as_they_are(tmp_path):
    names = ["train/anna/1.jpg", "train/bert/1.jpg", "query/carl/c2.jpg", "gallery/carl/c1.jpg", "gallery/dora/c1.jpg"]
    root = trees.write_pictures(tmp_path, names)
    assert detect(root) == "folder"
    splits = load_dataset("folder", root)
    gallery = [(s.pid, s.extra["identity"]) for s in splits.gallery]
    assert gallery == [(3, "carl"), (4, "dora")]
    assert [s.pid for s in splits.query] == [3]
    assert len(splits.train) == 2


def test_folder_with_numbers_for_names(tmp_path, fault):
    root = trees.write_pictures(
        tmp_path, [f"{p}/c{c}.jpg" for p in ("-1", "0000", "0007", "12", "345", "5") for c in (1, 2)]
    )
    splits = load_dataset("folder", root, query="c1")
    pids = {s.pid: s.extra.get("identity") for s in (*splits.train, *splits.query)}
    assert pids == {5: None, 7: None, 12: None, 345: None, 346: "-1", 347: "0000"}
    assert {s.pid for s in splits.gallery} == {s.pid for s in splits.query}
    trees.write_pictures(root, ["007/c1.jpg"])
    fault(lambda: load_dataset("folder", root), "'0007' and '007' are the same number")


def test_wrong_folders(tmp_path, friends, fault):
    fault(lambda: load_dataset("folder", friends, camera=r"_kam(\d+)"), "cannot find a camera", "party_cam", "_kam")
    fault(lambda: load_dataset("folder", friends, camera=r"_(cam)\d+"), "cannot find a camera number")
    fault(lambda: load_dataset("folder", friends, camera="_cam"), "has no group", "_cam(")
    fault(lambda: load_dataset("folder", friends, camera="(("), "no regular expression")
    fault(lambda: load_dataset("folder", friends, camera=3), "no regular expression")
    fault(lambda: load_dataset("folder", friends, test_share=1), "test_share is 1", "between 0 and 1")
    fault(lambda: load_dataset("folder", friends, test_share="half"), "test_share is 'half'")
    (tmp_path / "empty").mkdir()
    fault(lambda: load_dataset("folder", tmp_path / "empty"), "empty train split")


def test_people_a_level_too_deep_are_counted_and_the_folder_to_pass_is_named(tmp_path, friends):
    (tmp_path / "all").mkdir()
    friends.rename(tmp_path / "all" / "site")
    for look in (lambda: detect(tmp_path / "all"), lambda: DATASETS.create("folder", tmp_path / "all")):
        with pytest.raises(DataError, match=rf"24 pictures a level deeper.* pass '{tmp_path}/all/site'"):
            look()


@pytest.mark.parametrize("part", ["test", "probe", "bounding_box_test", "cam_b"])
def test_half_a_data_set_is_no_folder_of_people(tmp_path, fault, part):
    root = trees.write_pictures(tmp_path, [f"{part}/1.jpg", "other/1.jpg", "more/1.jpg"])
    fault(lambda: detect(root), "no data set in", part)


# ---- table


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder with four pictures."""
    return trees.write_pictures(tmp_path_factory.mktemp("table") / "Fotos 人", [f"{i}.jpg" for i in range(1, 5)])


HEADER = "path,pid,camid,split"
ROWS = ("1.jpg,1,1,train", "2.jpg,2,1,train", "3.jpg,3,1,query", "4.jpg,3,2,gallery")


def write_csv(photos: Path, *lines: str, header: str = HEADER, newline: str = "\n", name: str = "table.csv") -> Path:
    file = photos / name
    file.write_bytes((newline.join((header, *lines)) + newline).encode())
    return file


def test_table(photos):
    write_csv(photos, *reversed(ROWS))
    splits = load_dataset("table", photos)
    assert splits == load_dataset("table", photos / "table.csv")
    assert detect(photos) == detect(photos / "table.csv") == "table"
    assert splits.train == [Sample(photos / "1.jpg", 1, 1), Sample(photos / "2.jpg", 2, 1)]
    assert splits.query == [Sample(photos / "3.jpg", 3, 1)]
    assert splits.gallery == [Sample(photos / "4.jpg", 3, 2)]


def test_table_as_spreadsheets_save_it(photos):
    file = photos / "list.CSV"
    lines = [HEADER, "", *(f'"{row.split(",")[0]}",{row.split(",", 1)[1]}' for row in ROWS), ""]
    file.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode())
    assert len(load_dataset("table", file).train) == 2


def test_table_without_cameras_and_with_other_columns(photos):
    header = "split,note,path,pid,mask,frame,sequence"
    rows = ['train,"a, ""b""",1.jpg,1,2.jpg,7,', "train,,2.jpg,2,,,3", "query,,3.jpg,3,,,", "gallery,,4.jpg,3,,,"]
    file = write_csv(photos, *rows, f"train,,{photos / '3.jpg'},1,,,", header=header, name="other.csv")
    splits = load_dataset("table", file)
    first = splits.train[0]
    expected = Sample(photos / "1.jpg", 1, 0, None, 7, photos / "2.jpg", extra={"note": 'a, "b"'})
    assert first == expected
    assert hash(first) == hash(expected)
    assert splits.train[1].sequence == 3
    assert splits.train[2].path == photos / "3.jpg"
    assert (splits.query[0].camid, splits.gallery[0].camid) == (0, 1)


BAD_ROWS = [
    ("1.jpg,1,1", "has 3 values, expected 4"),
    ("1.jpg,1,1,train,x", "has 5 values, expected 4"),
    ("nowhere.jpg,1,1,train", "there is no file"),
    (",1,1,train", "path is empty"),
    (".,1,1,train", "there is no file"),
    ("1.jpg,one,1,train", "pid is 'one', expected a whole number"),
    ("1.jpg,1.5,1,train", "pid is '1.5'"),
    ("1.jpg,,1,train", "pid is ''"),
    ("1.jpg,-2,1,train", "pid is -2"),
    ("1.jpg,٣,1,train", "pid is '٣'"),
    ("1.jpg,1,c1,train", "camid is 'c1'"),
    ("1.jpg,1,1,test", "split is 'test', expected train, query, gallery"),
    ("1.jpg,1,1,Train", "split is 'Train'"),
    ("1.jpg,5,1,train", "repeats '1.jpg' of line 2 in train"),
    ("\0.jpg,1,1,train", "there is no file"),
    ("x" * 5000 + ",1,1,train", "there is no file"),
]


@pytest.mark.parametrize(("row", "words"), BAD_ROWS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_wrong_row_is_named_by_its_line(photos, fault, row, words, newline):
    file = write_csv(photos, *ROWS, row, newline=newline, name="bad.csv")
    fault(lambda: load_dataset("table", file), "line 6 of", "bad.csv", words)


def test_line_after_one_that_goes_on(photos, fault):
    file = write_csv(photos, '1.jpg,1,1,train,"a\nb\nc"', "2.jpg,x,1,train,", header=HEADER + ",note", name="long.csv")
    fault(lambda: load_dataset("table", file), "line 5 of", "pid is 'x'")


def test_wrong_tables(tmp_path, photos, fault):
    for header, words in [
        ("path,pid,camid", "has no column split"),
        ("path;pid;camid;split", "has no column path, pid, split"),
        ("path,pid,camid,split,pid", "two columns 'pid'"),
        ("", "has no column path, pid, split"),
    ]:
        file = write_csv(photos, header=header, name="header.csv")
        fault(lambda file=file: load_dataset("table", file), "header.csv", words)
    for content, words in [
        (b"", "has no column"),
        (b"path,pid,split" + b",x" * 1_000_000, "more than 1,048,576 characters"),
        (b"path,pid,split," + ",".join(map(str, range(100_000))).encode(), "has 100,003 columns"),
        (HEADER.encode() + b'\n"1.jpg', "line 2"),
        (HEADER.encode() + b"\n\xff\xfe.jpg,1,1,train\n", "UTF-8"),
        (HEADER.encode() + b"\n" + b"x" * 200_000 + b",1,1,train\n", "line 2"),
    ]:
        (photos / "bytes.csv").write_bytes(content)
        fault(lambda: load_dataset("table", photos / "bytes.csv"), "bytes.csv", words)
    fault(lambda: load_dataset("table", tmp_path / "none.csv"), "none.csv")
    fault(lambda: load_dataset("table", write_csv(photos, ROWS[0], name="short.csv")), "empty query split")


def test_parquet(photos, fault):
    import pyarrow
    from pyarrow import parquet

    columns = {
        "path": ["1.jpg", "2.jpg", "3.jpg", "4.jpg"],
        "pid": [1, 2, 3, 3],
        "camid": [1, 1, 1, 2],
        "split": ["train", "train", "query", "gallery"],
        "height_cm": [180.5, None, 160.0, 160.0],
    }
    parquet.write_table(pyarrow.table(columns), photos / "list.parquet")
    splits = load_dataset("table", photos / "list.parquet")
    assert splits.train[0] == Sample(photos / "1.jpg", 1, 1, extra={"height_cm": 180.5})
    assert splits.train[1] == Sample(photos / "2.jpg", 2, 1, extra={"height_cm": ""})
    assert detect(photos / "list.parquet") == "table"
    parquet.write_table(pyarrow.table(columns | {"pid": [1, None, 3, 3]}), photos / "list.parquet")
    fault(lambda: load_dataset("table", photos / "list.parquet"), "row 2 of", "pid is ''")
    (photos / "list.parquet").write_bytes(b"PAR1 no more")
    fault(lambda: load_dataset("table", photos / "list.parquet"), "expected Parquet")


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda text: text not in (".", "..") and len(text.encode()) < 120
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
numbering = itertools.count()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(names, min_size=4, max_size=8, unique=True),
    notes=st.lists(texts, min_size=8, max_size=8),
    column=texts.filter(lambda name: name not in ("path", "pid", "camid", "split", "mask", "sequence", "frame")),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    pids=st.lists(st.integers(1, 10**17), min_size=8, max_size=8, unique=True),
)
@example(['a"b.jpg', "a,b.jpg", "a\nb.jpg", "é 人.JPG"], ['"'] * 8, "", csv.QUOTE_MINIMAL, list(range(1, 9)))
@example(["\ufeff", "a\r", "\r\n", " "], ["\r", "\n", "\r\n", "\ufeff", '""', ",", "", " "], "\r", 0, list(range(1, 9)))
def test_any_name_survives_the_round_trip(tmp_path, files, notes, column, quoting, pids):
    root = tmp_path / str(next(numbering))
    root.mkdir()
    for file in files:
        (root / file).touch()
    splits = ["train", "train", "query", *["gallery"] * (len(files) - 3)]
    rows = list(zip(files, pids, range(8), splits, notes))
    with (root / "the table.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=quoting)
        writer.writerows([["path", "pid", "camid", "split", column], *rows])
    read = load_dataset("table", root / "the table.csv")
    back = [
        (str(s.path.relative_to(root)), s.pid, s.camid, split, s.extra[column])
        for split in ("train", "query", "gallery")
        for s in getattr(read, split)
    ]
    assert sorted(back) == sorted(rows)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 200), cut=st.integers(0, 6), new=st.binary(max_size=6))
def test_a_corrupted_table_is_an_error_or_says_what_it_says(photos, at, cut, new):
    """Fuzz: whatever bytes change, the answer is an error of ours or exactly the rows that a plain split finds."""
    content = "\n".join((HEADER, *ROWS, "")).encode()
    content = content[:at] + new + content[at + cut :]
    file = photos / "fuzz.csv"
    file.write_bytes(content)
    splits = None
    with contextlib.suppress(DataError):
        splits = load_dataset("table", file)
    if splits is None:
        return
    rows = [row for row in csv.reader(content.decode("utf-8-sig").splitlines(keepends=True)) if row][1:]
    assert len(splits.train) + len(splits.query) + len(splits.gallery) == len(rows)
