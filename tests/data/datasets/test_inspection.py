"""``regard data check``: what it finds, what it prints, and the exit code."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from regard.cli.main import main
from regard.crowd import make_crowd
from regard.data import load_dataset
from regard.data.datasets.inspection import Inspection, inspect, inspect_all
from regard.errors import DataError, UnknownNameError


def texts(findings) -> str:
    return "\n".join(map(str, findings))


@pytest.fixture
def table(tmp_path) -> Path:
    """A data set without published counts and without anything to find: two people to train on, two to search for."""
    lines = ["path,pid,camid,split"]
    for pid, split in ((1, "train"), (2, "train"), (3, "test"), (4, "test")):
        for camera in (1, 2):
            name = f"{pid}_{camera}.jpg"
            lines.append(f"{name},{pid},{camera},{split if split == 'train' else ('query', 'gallery')[camera - 1]}")
    trees.write_pictures(tmp_path / "own", [line.split(",")[0] for line in lines[1:]])
    (tmp_path / "own/table.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "own"


def add_row(table: Path, row: str) -> None:
    with (table / "table.csv").open("a") as file:
        file.write(row + "\n")


def test_nothing_to_find(table):
    report = inspect("table", table)
    assert (report.faults, report.warnings) == ([], [])
    assert report.parts["train"][:3] == (4, 2, 2)
    assert report.parts["query"][:3] == (2, 2, 1)
    assert (report.height, report.width) == ((16, 16.0, 16), (8, 8.0, 8))
    assert report.published is None
    assert "no fault: every file decoded" in str(report)
    assert "no fault: headers only" in str(inspect("table", table, quick=True))


def test_counts(market):
    report = inspect("market1501", market)
    assert "train images: 30 found, 12,936 published" in texts(report.faults)
    assert len(report.faults) == 7
    assert report.published is not None
    assert report.published["query_images"] == 3_368
    assert report.parts["gallery"][3:5] == (1, 1)


def test_a_data_set_as_published_has_no_fault(tmp_path):
    """Partial-iLIDS is small enough to be written whole."""
    for part in ("Probe", "Gallery"):
        trees.write_pictures(tmp_path / "Partial_iLIDS", [f"{part}/{pid:03d}.png" for pid in range(1, 120)])
    for pid in range(1, 120):
        pixels = np.random.default_rng(1000 + pid).integers(0, 256, (16, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"Partial_iLIDS/Gallery/{pid:03d}.png")
    (report,) = inspect_all(tmp_path)
    assert (report.faults, report.warnings) == ([], [])
    assert "counts as published" in str(report)


def test_unreadable_files(table):
    whole = (table / "1_1.jpg").read_bytes()
    (table / "1_1.jpg").write_bytes(whole[:-40])
    report = inspect("table", table)
    assert "1_1.jpg' is damaged" in texts(report.faults)
    assert len(report.faults) == 1
    assert inspect("table", table, quick=True).faults == []
    (table / "2_1.jpg").write_bytes(b"")
    (table / "3_1.jpg").write_text("no picture")
    found = inspect("table", table).faults
    assert [finding.files for finding in found] == [["1_1.jpg", "2_1.jpg", "3_1.jpg"]]
    assert "3 files cannot be read: 1_1.jpg, 2_1.jpg, 3_1.jpg" in str(found[0])
    assert inspect("table", table, quick=True).faults[0].files == ["2_1.jpg", "3_1.jpg"]


@pytest.mark.parametrize(
    ("source", "row", "fault", "warning"),
    [
        ("1_1.jpg", "copy.jpg,2,1,train", "1 pictures are there under several identities", ""),
        ("1_1.jpg", "copy.jpg,3,2,gallery", "1 pictures are there under several identities", ""),
        ("1_1.jpg", "copy.jpg,0,2,gallery", "1 pictures of query or gallery are in train", ""),
        ("1_1.jpg", "copy.jpg,1,2,train", "", "1 pictures are there more than once in a split"),
        ("3_1.jpg", "copy.jpg,3,2,gallery", "", "1 pictures are both in query and in gallery"),
        ("4_2.jpg", "copy.jpg,-1,2,gallery", "", "1 pictures are there more than once in a split"),
    ],
)
def test_duplicates(table, source, row, fault, warning):
    shutil.copy(table / source, table / "copy.jpg")
    add_row(table, row)
    report = inspect("table", table)
    assert [fault] * bool(fault) == [finding.text.removesuffix(" as well") for finding in report.faults]
    nobody = [finding for finding in report.warnings if "have pid" in finding.text]
    warnings = [finding for finding in report.warnings if finding not in nobody]
    assert [warning] * bool(warning) == [finding.text for finding in warnings]
    pid = row.split(",")[1]
    said = f"1 pictures have pid {pid} and are {'junk' if pid == '-1' else 'distractors'}"
    assert [finding.text.split(":")[0] for finding in nobody] == [said] * (pid in ("0", "-1"))
    for finding in (*report.faults, *warnings):
        assert finding.files[0].count("=") == 1
        assert source in finding.files[0]
        assert "copy.jpg" in finding.files[0]
    assert inspect("table", table, quick=True).faults == []


def test_identities(table):
    trees.write_pictures(table, [f"x{i}.png" for i in range(20, 24)])
    for i, row in enumerate(["5,1,train", "6,1,query", "1,1,query", "1,2,gallery"], start=20):
        Image.fromarray(np.full((9, 5, 3), i, dtype=np.uint8)).save(table / f"x{i}.png")
        add_row(table, f"x{i}.png,{row}")
    report = inspect("table", table)
    assert texts(report.faults) == "1 identities are both in train and in query (pid 1)"
    assert "1 of 3 identities in train are seen by one camera only (pid 5)" in texts(report.warnings)
    assert "1 of 4 identities in query and gallery are seen by one camera only (pid 6)" in texts(report.warnings)
    assert "1 of 4 queries have no match by another camera and are skipped: x21.png" in texts(report.warnings)
    assert (report.height, report.width) == ((9, 16.0, 16), (5, 8.0, 8))


def test_queries_that_all_lack_a_match_are_a_fault(table):
    text = (table / "table.csv").read_text().replace("2,gallery", "1,gallery")
    (table / "table.csv").write_text(text)
    assert "2 of 2 queries have no match" in texts(inspect("table", table).faults)


def test_label_coverage(tmp_path):
    rows = ["1.png,1,1,train,m1.png", "2.png,1,2,train,", "3.png,2,1,train,m3.png", "4.png,2,2,train,",
            "5.png,3,1,query,", "6.png,3,2,gallery,"]  # fmt: skip
    trees.write_pictures(tmp_path, [row.split(",")[0] for row in rows])
    Image.new("L", (8, 16)).save(tmp_path / "m1.png")
    Image.new("L", (4, 4)).save(tmp_path / "m3.png")
    (tmp_path / "table.csv").write_text("path,pid,camid,split,mask\n" + "\n".join(rows))
    report = inspect("table", tmp_path)
    assert report.parts["train"].masks == 2
    assert report.faults == []
    assert "train: masks for 2 of 4 pictures" in texts(report.warnings)
    assert "1 masks are of another size than the picture: m3.png" in texts(report.warnings)
    (tmp_path / "m1.png").write_bytes(b"")
    assert "m1.png' is empty" in texts(inspect("table", tmp_path).faults)


def test_processes_find_the_same(tmp_path):
    """With more files than are worth starting processes for."""
    names = [f"{part}/{pid:03d}.png" for part in ("Probe", "Gallery") for pid in range(1, 140)]
    trees.write_pictures(tmp_path, names)
    (tmp_path / "Probe/007.png").write_bytes(b"x")
    alone, together = (inspect("partial_ilids", tmp_path, workers=workers) for workers in (1, 2))
    assert alone == together
    assert "007.png" in texts(alone.faults)


def test_what_cannot_be_read_at_all(tmp_path):
    root = trees.write_viper(tmp_path / "viper")
    trees.write_pictures(root, ["cam_a/me.bmp"])
    (report,) = inspect_all(tmp_path)
    assert (report.name, report.root) == ("viper", root)
    assert "me.bmp" in texts(report.faults)
    assert "no fault" not in str(report)
    with pytest.raises(DataError, match="no folder"):
        inspect_all(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no data set in"):
        inspect_all(root / "cam_a")
    with pytest.raises(UnknownNameError, match="did you mean 'viper'"):
        inspect_all(root, "vipr")


@pytest.mark.slow
def test_a_crowd_below_any_name_is_a_crowd(tmp_path, capsys):
    """Not a Market-1501 with seven faults, and not passed over either."""
    for name in ("crowd", "market", "hard", "deep/crowd"):
        make_crowd(tmp_path / name, train_ids=2, test_ids=2, cameras=2, per_camera=1, height=32, width=16, workers=1,
                   progress=False)  # fmt: skip
    reports = inspect_all(tmp_path, quick=True)
    assert [(report.name, report.root.relative_to(tmp_path).as_posix(), report.faults) for report in reports] == [
        ("crowd", name, []) for name in ("crowd", "deep/crowd", "hard", "market")
    ]


def test_people_called_nobody_and_what_is_left_out(tmp_path, caplog):
    """Persons 0 to 5 of a plain folder are six people; what is no picture is counted."""
    root = trees.write_pictures(tmp_path / "friends", [f"{name}/{i}.jpg" for name in range(6) for i in (1, 2)])
    (root / "3/gone.jpg").symlink_to("nowhere")
    (root / "Thumbs.db").touch()
    trees.write_pictures(root, ["stray.jpg", "4/old/1.jpg"])
    (root / "empty").mkdir()
    report = inspect("folder", root, split=2)
    assert report.faults == []
    assert sum(report.parts[part].ids for part in ("train", "query")) == 6
    assert report.parts["gallery"].distractors == 0
    said = [(finding.text, finding.files) for finding in (*report.others, *report.warnings)]
    assert [entry for entry in said if "left out" in entry[0] or "read as people" in entry[0]] == [
        ("1 other file left out", ["Thumbs.db"]),
        ("1 stray picture left out", ["stray.jpg"]),
        ("1 dangling link left out", ["3/gone.jpg"]),
        ("1 nested picture left out", ["4/old/1.jpg"]),
        ("1 empty folder left out", ["empty"]),
        ("1 folders are read as people; distractors and junk are told in a table only", ["0"]),
    ]
    load_dataset("folder", root, split=2)
    (line,) = caplog.messages
    assert "1 dangling link (" in line
    assert "Thumbs.db" not in line


def test_command(table, tmp_path, capsys):
    assert main(["data", "check", str(table), "-q"]) == 0
    out = capsys.readouterr().out
    assert "table in" in out
    assert "no fault" in out
    (table / "1_1.jpg").write_bytes(b"")
    assert main(["data", "check", str(table), "-q", "--json", str(tmp_path / "report.json")]) == 2
    assert "FAULT" in capsys.readouterr().out
    (content,) = json.loads((tmp_path / "report.json").read_text())["datasets"]
    assert content["name"] == "table"
    assert content["parts"]["train"]["images"] == 4
    assert "is empty" in content["faults"][0]["text"]
    assert content["height"] == [16, 16.0, 16]


def test_command_with_warnings_only(table, capsys):
    shutil.copy(table / "1_1.jpg", table / "copy.jpg")
    add_row(table, "copy.jpg,1,2,train")
    assert main(["data", "check", str(table), "-q"]) == 0
    assert "warning  1 pictures are there more than once in a split: train/1_1.jpg = train/copy.jpg" in (
        capsys.readouterr().out
    )


def test_command_with_options_and_several_data_sets(tmp_path, capsys):
    trees.write_extracted_cuhk03(tmp_path / "cuhk03-np")
    trees.write_viper(tmp_path / "viper")
    assert main(["data", "check", str(tmp_path), "-q", "--quick"]) == 2
    out = capsys.readouterr().out
    assert out.index("cuhk03 in") < out.index("viper in")
    arguments = ["data", "check", str(tmp_path), "--data", "cuhk03", "-q"]
    assert main([*arguments, "--set", "boxes=labeled"]) == 2
    assert "5 found, 7,368 published" in capsys.readouterr().out
    for wrong, words in [
        (["--set", "boxes"], "wants OPTION=VALUE"),
        (["--set", "boxes=3"], "boxes is 3, expected one of detected, labeled"),
        (["--set", "box=labeled"], "did you mean 'boxes'"),
    ]:
        assert main([*arguments, *wrong]) == 2
        assert words in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path), "--set", "boxes=labeled"]) == 2
    assert "add --data NAME" in capsys.readouterr().err


def test_labels_have_a_command_of_their_own(capsys):
    assert main(["data", "labels"]) == 2
    assert "regard data labels --help" in capsys.readouterr().err


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> tuple[Path, bytes, Inspection]:
    """Partial-iLIDS in miniature, the bytes of one of its pictures, and its report."""
    root = trees.write_partial(tmp_path_factory.mktemp("fuzz"), "Probe", "Gallery", "{pid:03d}.jpg")
    return root, (root / "Probe/001.jpg").read_bytes(), inspect("partial_ilids", root)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_corrupted_picture_changes_no_count(fuzzed, data):
    """Fuzz: whatever happens to the bytes of a picture, it is counted, and it is a fault or it has a size."""
    root, whole, before = fuzzed
    content = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (root / "Probe/001.jpg").write_bytes(bytes(content))
    for quick in (False, True):
        report = inspect("partial_ilids", root, quick=quick)
        assert report.parts == before.parts
        others = [finding for finding in report.faults if "001.jpg" not in str(finding)]
        assert others == [finding for finding in before.faults if "published" in finding.text]
        assert "\n" not in texts(report.faults[len(others) :])
        if bytes(content) == whole:
            assert replace(report, quick=False) == before
