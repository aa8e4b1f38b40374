"""``regard gallery`` as it is typed."""

from __future__ import annotations

import argparse
import json
import time
import uuid

import numpy as np
import pyarrow.parquet as pq
import pytest
from gallery_items import DIM, make_items

from regard.cli import gallery_verb
from regard.cli import main as command_line
from regard.errors import UnknownNameError
from regard.gallery import Filter, Gallery, Item, Record
from regard.gallery.audit import AuditLog
from regard.gallery.record import record_id
from regard.gallery.thumbnails import thumbnail

DAY = 86_400


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures, one for each of the last twelve days, and three without a time."""
    now = time.time()
    items = [
        Item(
            Record(record_id(f"{n}"), f"{n}.jpg", camera=str(n % 3), person=str(n % 4), time=now - (n + 0.5) * DAY),
            item.vector,
        )
        for n, item in enumerate(make_items(12))
    ]
    undated = [Item(Record(record_id(f"u{n}"), f"u{n}.jpg"), item.vector) for n, item in enumerate(make_items(3, 1))]
    with Gallery.create(tmp_path / "people", DIM, {"name": "made up"}) as gallery:
        gallery.add([*items, *undated])
    return tmp_path / "people"


@pytest.fixture
def run(folder, capsys):
    """``run(action, *arguments) -> (exit code, stdout, stderr)`` on the gallery."""

    def call(action, *arguments):
        code = command_line.main(["gallery", action, str(folder), *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def paths(folder) -> set[str]:
    with Gallery.open(folder) as gallery:
        return {record.path for record in gallery.records()}


@pytest.mark.parametrize(("age", "kept"), [("3d", 3), ("72h", 3), ("1w", 7), ("0.5d", 0), ("4320m", 3), ("259200s", 3)])
def test_what_is_older_than_an_age_goes(run, folder, age, kept):
    assert run("purge", "--older-than", age) == (0, f"{12 - kept} pictures removed\n", "")
    assert paths(folder) == {f"{n}.jpg" for n in range(kept)} | {"u0.jpg", "u1.jpg", "u2.jpg"}


def test_undated_pictures_go_when_asked(run, folder):
    assert run("purge", "--older-than", "3d", "--undated")[1] == "12 pictures removed\n"
    assert paths(folder) == {"0.jpg", "1.jpg", "2.jpg"}


def test_what_is_chosen_is_listed_and_deleted(run, folder):
    assert {line.split()[-1] for line in run("list", "--person", 1, "--camera", 2)[1].splitlines()} == {"5.jpg"}
    code, out, err = run("list")
    assert (code, len(out.splitlines())) == (0, 15)
    assert err.splitlines() == ["id  camera  time (UTC)  person  picture", "15 pictures"]
    assert sorted(line.split("  ")[3] for line in out.splitlines()) == [*"---", *"000111222333"]
    assert run("delete", "--person", 1)[1] == "3 pictures removed\n"
    assert run("delete", "--id", record_id("2"), "--id", record_id("3"), "--id", record_id("1"))[1].startswith("2 ")
    assert paths(folder) == {f"{n}.jpg" for n in (0, 4, 6, 7, 8, 10, 11)} | {"u0.jpg", "u1.jpg", "u2.jpg"}


def test_what_would_be_removed_is_listed_and_stays(run, folder):
    for arguments in (["purge", "--older-than", "9d"], ["delete", "--camera", "1", "--until", "2100-01-01"]):
        code, out, err = run(*arguments, "--dry-run")
        lines = out.splitlines()
        assert (code, err, lines[-1]) == (0, "", f"{len(lines) - 1} pictures would be removed; nothing was")
        listed = {line.split()[-1] for line in lines[:-1]}
        before = paths(folder)
        assert run(*arguments)[1] == f"{len(lines) - 1} pictures removed\n"
        assert before - paths(folder) == listed


def test_names_that_are_not_there_are_told_with_those_that_are(run, folder):
    with Gallery.open(folder) as gallery:
        gallery.update(Filter(persons=("1",)), {"camera": "door", "attributes": {"coat": "red"}})
        gallery.update(Filter(persons=("2",)), {"camera": "gate", "attributes": {"coat": "blue"}})
    for action in ("list", "delete"):
        for arguments, wanted in [
            (("--camera", "Dor"), "has no camera 'Dor', did you mean 'door'? there are: door, 0, 1, 2, gate"),
            (("--person", "12"), "has no person '12'"),
            (("--where", "coat=rde"), "has no picture whose coat is 'rde', did you mean 'red'? there are: red, blue"),
            (("--where", "cot=red"), "has no attribute 'cot', did you mean 'coat'? there are: coat"),
            (("--camera", "door", "--camera", "gat"), "did you mean 'gate'?"),
            (("--camera", "\x1b[2Jx\ny"), r"has no camera '\x1b[2Jx\ny'; there are"),
        ]:
            code, out, err = run(action, *arguments)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert wanted in err
    assert len(run("list", "--where", "coat=red")[1].splitlines()) == 3
    with Gallery.open(folder) as gallery:
        gallery.update(Filter(persons=("3",)), {"camera": "\x1b[2J\nx"})
    assert (
        run("list", "--person", 3)[1].count("  \\x1b[2J\\nx  ") == len(run("list", "--person", 3)[1].splitlines()) == 3
    )
    code, out, err = run("list", "--camera", "door", "--since", "2100-01-01")
    assert (code, out) == (0, "")
    assert "none of the 15 pictures in" in err
    assert "their times (UTC) go from 20" in err
    assert run("list", "--id", record_id("nobody"))[2].endswith(f"has no picture {record_id('nobody')}\n")
    assert len(paths(folder)) == 15


def test_people_are_named_and_merged(run, folder):
    assert (
        run("name", "--id", record_id("0"), "--id", record_id("1"), "--person", "Ada")[1]
        == "2 pictures called Ada now\n"
    )
    assert (
        run("merge", "--person", "Ada", "--person", "2", "--into", "Ada")[1] == "3 pictures of Ada, 2 called Ada now\n"
    )
    with Gallery.open(folder) as gallery:
        assert gallery.values("person") == {"0": 2, "1": 2, "3": 3, "Ada": 5}
        assert gallery.merge(["Ada"], "Ada") == 0
        item = gallery.get([record_id("0")])[0]
    assert run("name", "--id", record_id("0"), "--person", "")[1] == "1 picture called nobody now\n"
    for arguments, wanted in [
        (("name", "--person", "x"), "which pictures?"),
        (("name", "--id", record_id("zero"), "--person", "x"), "there is no picture"),
        (("name", "--id", record_id("0"), "--person", "a\nb"), "wanted a name of 1 to 200 characters"),
        (("merge", "--person", "Adah", "--into", "3"), "has no person 'Adah', did you mean 'Ada'?"),
        (("merge", "--person", "Ada", "--into", " "), "wanted a name"),
    ]:
        code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert wanted in err
    with Gallery.open(folder) as gallery:
        after = gallery.get([record_id("0")])[0]
        assert (after.record.person, after.record.time) == (None, item.record.time)
        assert (after.vector == item.vector).all()


def test_near_duplicates_are_found(run, folder, tmp_path):
    """The same files first; then near ones, in groups; against every pair, for several thresholds."""
    rng = np.random.default_rng(5)
    centers = rng.normal(size=(40, DIM))
    with Gallery.open(folder) as gallery:
        gallery.delete(Filter())
        vectors = [centers[n % 40] + (n // 40) * 0.06 * rng.normal(size=DIM) for n in range(200)]
        digests = ["same" if n in (3, 77, 150) else f"{n}" for n in range(200)]
        small = thumbnail(np.zeros((40, 20, 3), np.uint8))
        gallery.add(
            [Item(Record(record_id(f"d{n}"), f"d{n}.jpg", digest=digests[n]), v, small) for n, v in enumerate(vectors)]
        )
        items = gallery.get([record.id for record in gallery.records()])
        for threshold in (0.9, 0.98, 1.0):
            first, *rest = gallery.duplicates(threshold)
            assert (first.same_file, {record.path for record in first.records}) == (
                True,
                {"d3.jpg", "d77.jpg", "d150.jpg"},
            )
            keep = [item for item in items if item.record.digest != "same" or item.record == first.records[0]]
            near = np.stack([item.vector for item in keep])
            linked = np.linalg.matrix_power((near @ near.T >= threshold - 1e-6).astype(float), 64) > 0
            wanted = {frozenset(keep[i].record.path for i in np.flatnonzero(row)) for row in linked if row.sum() > 1}
            assert {frozenset(record.path for record in group.records) for group in rest} == wanted
            assert [group.cosine for group in rest] == sorted((group.cosine for group in rest), reverse=True)
    code, out, err = run("duplicates", "--json", tmp_path / "d.json", "--picture", tmp_path / "d.png")
    assert (code, out.splitlines()[0]) == (0, "1: the same file, 3 pictures")
    assert " to spare, among 200 pictures, near from cosine 0.98 on" in err
    assert json.loads((tmp_path / "d.json").read_text())["groups"][0]["same_file"] is True
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    assert "threshold is 2.0, wanted a cosine" in run("duplicates", "--threshold", 2)[2]


def test_everything_is_exported(run, tmp_path):
    assert run("export", tmp_path / "all.parquet")[1].startswith("15 rows written")
    assert "vector" in pq.read_table(tmp_path / "all.parquet").column_names
    run("export", tmp_path / "known.parquet", "--no-vectors")
    assert "vector" not in pq.read_table(tmp_path / "known.parquet").column_names


def test_an_index_is_built_and_measured(run, folder):
    code, out, err = run("index")
    assert (code, err) == (0, "building the index of 15 pictures ...\n")
    assert out.startswith("recall of the 10 best: ")
    with Gallery.open(folder) as gallery:
        assert gallery.meta["index"]["recall"] == pytest.approx(float(out.split()[-1]), abs=1e-3)


def test_the_log_is_checked(run, folder):
    assert run("audit")[1].startswith("0 searches logged")
    log = AuditLog(folder / "audit.jsonl")
    for number in range(3):
        log.append(who="test", query=[f"q{number}"])
    assert run("audit")[1].startswith("3 searches logged")
    log.path.write_text(log.path.read_text().replace("q1", "qX"))
    code, out, err = run("audit")
    assert (code, out) == (2, "")
    assert "line 3 of" in err


def test_what_is_no_action_builds_no_index(folder):
    asked = argparse.Namespace(action="reindex", gallery=str(folder))
    with pytest.raises(UnknownNameError, match="unknown action 'reindex', did you mean 'index'"):
        gallery_verb.run(asked)
    with Gallery.open(folder) as gallery:
        assert gallery.meta.get("index") is None


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["delete"], "what goes?"),
        (["purge", "--older-than", "soon"], "got the age 'soon', wanted a number"),
        (["purge", "--older-than", "-3d"], "expected one argument"),
        (["delete", "--since", "noon"], "got the time 'noon'"),
    ],
)
def test_mistakes_remove_nothing(run, folder, arguments, wanted):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert wanted in err
    with Gallery.open(folder) as gallery:
        assert gallery.count(Filter()) == 15


def test_searches_on_a_server_are_logged_where_the_command_runs(milvus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    where, items = f"{milvus}/test_{uuid.uuid4().hex}", make_items(9)
    with Gallery.create(where, DIM, {"name": "made up"}) as gallery:
        gallery.add(items)
    arguments = ["search", "--id", items[0].record.id, "--gallery", where, "-k", "3", "--json", "matches.json"]
    assert command_line.main(arguments) == 0
    assert len(json.loads((tmp_path / "matches.json").read_text())["matches"]) == 3
    capsys.readouterr()
    assert command_line.main(["gallery", "audit", where]) == 0
    assert capsys.readouterr().out.startswith("1 searches logged in audit.jsonl")
    with Gallery.open(where) as gallery:
        gallery._engine.drop()


def test_nothing_of_a_gallery_steers_the_screen(run, folder):
    """Escapes of a terminal in texts of records, in what a refusal lists, and in what was typed, are written out."""
    odd = "\x1b[2J\u202e"
    with Gallery.open(folder) as gallery:
        gallery.update(Filter(cameras=("0",)), {"camera": f"c{odd}", "person": f"p{odd}", "track": f"t{odd}"})
    shown = [
        run("list", "--camera", f"c{odd}"), run("list", "--camera", "q"), run("list", "--person", f"p{odd}?"),
        run("list", "--id", f"i{odd}"), run("duplicates", "--threshold", "0.1"), run("audit", "--key", f"k{odd}"),
        run("merge", "--person", f"p{odd}", "--into", "Ada"),
    ]  # fmt: skip
    texts = ["".join(streams) for _, *streams in shown]
    assert not any("\x1b" in text or "\u202e" in text for text in texts)
    assert all(r"\x1b[2J\u202e" in text for text in texts)
