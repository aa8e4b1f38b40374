"""Marks become people, contradictions are named, and nothing that is read is trusted."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import uuid
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from regard.errors import ConfigError, DataError, StorageError
from regard.gallery import Filter, Gallery, Item, Record
from regard.gallery.database import seal
from regard.gallery.marks import KeptMarks, Mark, MissingPictureError
from regard.gallery.repair import repair
from regard.service.feedback import Marks, Pair, people_of

ID = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in "abcdxyz"}
JPEG = b"\xff\xd8jpeg"


def pair(query, match, gallery="g"):
    return Pair(query, match, gallery, "1")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "marks"


@pytest.fixture
def marks(folder):
    marks = Marks(folder)
    yield marks
    marks.close()


def left_in(folder, *traces):
    """Names of the files that hold any of some bytes."""
    found = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return sorted(name for name, data in found.items() if any(trace in data for trace in traces))


def test_right_marks_join_people():
    marks = {
        pair("a", "x"): True,
        pair("a", "y"): True,
        pair("b", "y"): True,
        pair("c", "z"): True,
        pair("c", "x"): False,
    }
    people = people_of(marks)
    assert people["a"] == people["b"] == people["x"] == people["y"]
    assert people["c"] == people["z"] != people["a"]
    assert sorted(set(people.values())) == [1, 2]


def test_wrong_marks_alone_make_nobody():
    assert people_of({pair("a", "x"): False}) == {}


def test_marks_that_contradict_each_other_are_named():
    marks = {pair("a", "x"): True, pair("b", "x"): True, pair("b", "y"): True, pair("a", "y"): False}
    with pytest.raises(DataError, match="a and y are marked wrong"):
        people_of(marks)


def test_the_last_word_counts_and_half_a_line_is_none(marks, folder):
    assert marks.all() == {}
    assert not folder.exists()
    for right in (True, False, None, False):
        marks.set(pair("sha256:00", "x"), right=right, photo=JPEG)
    marks.set(pair("sha256:00", "y"), right=True, photo=b"other bytes")
    assert marks.all() == {pair("sha256:00", "x"): False, pair("sha256:00", "y"): True}
    (folder / "marks.jsonl").write_text('{"query": "sha2')  # an earlier version beside this one, ended in a line
    assert (marks.photo("sha256:00"), len(marks.all()), marks.damaged()) == (JPEG, 2, 1)
    assert not (folder / "marks.jsonl").exists()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))
    with pytest.raises(DataError, match="no marks to export"):
        marks.export(lambda gallery, id: b"")


def test_a_person_has_one_row_on_a_pair_however_often_he_speaks(marks, folder):
    def rows():
        with closing(sqlite3.connect(folder / "marks.sqlite")) as db:
            return db.execute("SELECT count(*), count(nullif(word, zeroblob(length(word)))) FROM marks").fetchone()

    for right in (True, False, None, True) * 3:
        marks.set(pair("sha256:00", "x"), right=right, photo=JPEG, by="anna")
    assert rows() == (1, 1)
    for by in ("ben", "anna"):
        marks.set(pair("sha256:00", "x"), right=False, photo=JPEG, by=by)
    assert rows() == (3, 2)
    assert marks.words() == {
        pair("sha256:00", "x"): Mark(False, by=("anna",), time=next(iter(marks.words().values())).time)
    }
    marks.two_people = True
    assert next(iter(marks.words().values())).by == ("ben", "anna")
    with closing(sqlite3.connect(folder / "marks.sqlite")) as db:
        db.executemany("INSERT INTO marks (word) VALUES (zeroblob(9))", [()] * 501)
        db.commit()
    marks.set(pair("sha256:00", "x"), right=True, photo=JPEG, by="ben")
    assert rows() == (2, 2)
    marks.clear()
    assert rows() == (0, 0)


def test_a_row_with_the_last_number_stops_no_mark(marks, folder):
    marks.set(pair("sha256:00", "x"), right=True, photo=JPEG)
    with closing(sqlite3.connect(folder / "marks.sqlite")) as db:
        db.executescript(
            f"INSERT INTO marks VALUES ({2**63 - 1}, x'41'); INSERT INTO photos VALUES ({2**63 - 1}, 'a', 'b')"
        )
    for query in ("sha256:01", "sha256:02"):
        marks.set(pair(query, "x"), right=True, photo=JPEG)
    assert (len(marks.all()), marks.damaged(), marks.photo("sha256:02")) == (3, 1, JPEG)


@pytest.mark.parametrize(
    "wrong",
    [Pair("a", "x", "g", "c" * 1001), Pair("a", "x", "g" * 1001), Pair("a", "x", "\ud800"), Pair("a", "/x", "g")],
)
def test_a_mark_that_could_not_be_read_again_is_refused(marks, folder, wrong):
    with pytest.raises(DataError, match=r"got a mark on '/?x' .* at most 1,000 characters") as refused:
        marks.set(wrong, right=True, photo=JPEG)
    assert "\n" not in str(refused.value)
    assert not folder.exists()


def test_a_photograph_goes_with_the_last_mark_of_its_query(marks):
    for match in "xy":
        marks.set(pair("sha256:aa", match), right=True, photo=JPEG)
    marks.set(pair("sha256:aa", "x"), right=None, photo=JPEG)
    assert marks.photo("sha256:aa") == JPEG
    marks.set(pair("sha256:aa", "y"), right=None, photo=JPEG)
    assert marks.photo("sha256:aa") == b""


def test_two_people_must_agree(marks):
    marks.two_people = True

    def say(by, right):
        mark = marks.set(pair("sha256:aa", "x"), right=right, photo=JPEG, by=by)
        return mark and (mark.right, mark.state, mark.by)

    with pytest.raises(ConfigError, match="two people with names"):
        say("", True)
    assert say("anna", True) == (True, "pending", ("anna",))
    assert say("anna", True) == (True, "pending", ("anna",))
    assert marks.all() == {}
    with pytest.raises(DataError, match="1 wait for a second person"):
        marks.export(lambda gallery, id: JPEG)
    assert say("ben", True) == (True, "confirmed", ("anna", "ben"))
    assert marks.all() == {pair("sha256:aa", "x"): True}
    assert say("ben", False) == (False, "disputed", ("anna", "ben"))
    assert marks.all() == {}
    assert say("anna", False) == (False, "confirmed", ("ben", "anna"))
    assert say("ben", None) == (False, "pending", ("anna",))
    assert say("anna", None) is None


HOSTILE = [
    {"query": "../../secret", "match": "x", "gallery": "g", "camera": None, "right": True},
    {"query": "sha256:aa", "match": "/etc/passwd", "gallery": "g", "camera": None, "right": True},
    {"query": "sha256:aa", "match": "x\x00", "gallery": "g", "camera": None, "right": True},
    {"query": "sha256:aa", "match": "x", "gallery": "g", "camera": None, "right": 1},
    {"query": "sha256:aa", "match": ["x"], "gallery": "g", "camera": None, "right": True},
    {"query": "sha256:aa", "match": "x", "gallery": "g" * 5000, "camera": None, "right": True},
    {"query": "sha256:aa", "match": "x", "gallery": "\ud800", "camera": None, "right": True},
    {"query": "sha256:aa", "match": "x", "gallery": "g", "camera": {"a": 1}, "right": True},
    {"query": "sha256:aa", "match": "x", "gallery": "g", "camera": "1", "right": True, "time": "99999-13-41T00:00"},
    {"query": "sha256:aa", "match": "x", "gallery": "g", "camera": "1", "right": True, "time": 1e300},
    {"query": "sha256:aa", "match": "x", "gallery": "g", "camera": "1", "right": True, "by": None},
    ["no", "object"],
    17,
]


def line(query, match=ID["x"], right=True, gallery="g", camera="1", **more):
    return json.dumps({"query": query, "match": match, "gallery": gallery, "camera": camera, "right": right} | more)


def test_a_hostile_file_harms_nobody(marks, folder, tmp_path, capsys):
    """Each line of it is set aside, said and counted; what can be a mark stays one, and no cell computes."""
    (tmp_path / "secret.jpg").write_bytes(JPEG + b"of somebody else")
    folder.mkdir()
    cameras = {ID["a"]: "=1+1", ID["b"]: "  @SUM(A1)", ID["c"]: "\\u202egpj.exe", ID["d"]: "\uff1d1"}
    good = [line(query, gallery="g\\u2028g", camera=camera).encode() for query, camera in cameras.items()]
    bad = [json.dumps(each).encode() for each in HOSTILE]
    bad += [b"\xff" + good[0], b"", b"[" * 10**5, good[0][:-9], b"\x00" * 100]
    (folder / "marks.jsonl").write_bytes(b"\n".join([*good, *bad]) + b"\n")
    for query, photo in ((ID["a"], JPEG), (ID["c"], b"<script>"), (ID["d"], JPEG), (ID["y"], JPEG)):
        (folder / f"{query}.jpg").write_bytes(photo)
    (folder / f"{ID['b']}.jpg").symlink_to(tmp_path / "secret.jpg")
    assert marks.damaged() == len(bad)
    assert set(marks.all().values()) == {True}
    assert len(marks.all()) == 4
    told = capsys.readouterr().err.splitlines()
    assert f"{len(bad)} lines (5, 6, 7, 8, 9, ...) of {folder / 'marks.jsonl'} can be no mark; kept aside" in told[0]
    assert told[1:] == [f"regard: {folder / ID['b']}.jpg is no photograph of a mark; it is left there, look what it is"]
    assert [path.name for path in folder.iterdir() if path.suffix != ".sqlite" and ".sqlite-" not in path.name] == [
        f"{ID['b']}.jpg"
    ]
    with zipfile.ZipFile(io.BytesIO(marks.export(lambda gallery, id: JPEG))) as archive:
        names = [f"gallery/{ID['x']}.jpg", f"query/{ID['a']}.jpg", f"query/{ID['d']}.jpg"]
        assert set(archive.namelist()) == {"table.csv", "marks.csv", *names}
        rows = list(csv.DictReader(io.StringIO(archive.read("marks.csv").decode())))
    assert [row["camera"] for row in rows] == ["'=1+1", "'  @SUM(A1)", "\\u202egpj.exe", "'\uff1d1"]
    assert {row["gallery"] for row in rows} == {"g\\u2028g"}
    with pytest.raises(DataError, match=r"got a query called '\.\./x'"):
        marks.set(pair("../x", "x"), right=True, photo=JPEG)


@pytest.mark.parametrize("name", ["marks.jsonl", "marks.sqlite", ""])
def test_a_link_in_their_place_is_not_written_to(folder, marks, tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_bytes(b"") if name else victim.mkdir()
    if name:
        folder.mkdir()
    (folder / name).symlink_to(victim)
    with pytest.raises(StorageError, match=r"it is a link"):
        marks.set(pair("a", "x"), right=True, photo=JPEG)
    assert not (victim.read_bytes() if name else list(victim.iterdir()))


def test_what_is_forgotten_leaves_no_byte(marks, folder):
    """As match, as query, in words taken back, in damaged rows; the rest stays."""
    folder.mkdir()
    (folder / "marks.jsonl").write_bytes(b"\xff damaged " + ID["x"].encode() + b"\n\xff also\n")
    marks.set(Pair("sha256:aa", ID["x"], "g"), right=True, photo=JPEG + b"of aa" * 5000)
    marks.set(Pair("sha256:aa", ID["x"], "g"), right=False, photo=JPEG)
    marks.set(Pair(ID["x"], ID["y"], "g"), right=True, photo=JPEG + b"of x")
    marks.set(Pair("sha256:bb", ID["y"], "g"), right=True, photo=JPEG + b"of bb")
    assert left_in(folder, b"of aa", ID["x"].encode())
    assert (marks.forget([ID["z"]]), marks.forget([ID["x"]]), marks.damaged()) == (0, 3, 1)
    assert not left_in(folder, ID["x"].encode(), b"of x", b"of aa")
    assert marks.all() == {Pair("sha256:bb", ID["y"], "g"): True}
    marks.clear()
    assert (marks.all(), marks.damaged()) == ({}, 0)
    assert not left_in(folder, ID["y"].encode(), b"of bb", b"also")


def test_marks_are_taken_over_once(folder, monkeypatch):
    """What a kill leaves of the files is no second word; what an earlier version adds meanwhile is one."""
    folder.mkdir()
    lines = folder / "marks.jsonl"
    lines.write_text(line(ID["a"]) + "\n")
    with closing(KeptMarks(folder)) as marks:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", lambda path: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
            with pytest.raises(StorageError, match=r"marks could not be read from .*Read-only"):
                marks.words()
        with lines.open("a") as file:
            file.write(line(ID["a"], right=False) + "\n")
        assert list(marks.words().values()) == [Mark(False)]
        with marks._opened().reading() as db:
            assert db.execute("SELECT count(*) FROM marks").fetchone() == (2,)
        marks.clear()
        lines.write_text(line(ID["a"]) + "\n" + line(ID["a"], right=False) + "\n")  # put back from a backup
        assert list(marks.words().values()) == [Mark(False)]
        assert not lines.exists()


def test_marks_that_another_process_took_over_just_now_are_taken_over(gallery, monkeypatch, capsys):
    monkeypatch.setattr("regard.gallery.marks.are_there", lambda folder: True)
    assert gallery.marks.words() == {}
    with Gallery(gallery.marks.folder.parent) as other:
        assert other.delete(Filter(ids=(ID["x"],))) == 1
    assert not gallery.marks.folder.exists()
    assert capsys.readouterr().err == ""


@pytest.fixture
def gallery(tmp_path):
    with Gallery.create(tmp_path / "people", 4, {"name": "made up"}) as gallery:
        gallery.add([Item(Record(ID[name], name), np.eye(4)[n], JPEG) for n, name in enumerate("abx")])
        yield gallery


def test_a_picture_and_what_was_said_of_it_go_in_one_change(gallery, tmp_path, monkeypatch):
    folder = tmp_path / "people"
    gallery.marks.set(Pair("sha256:aa", ID["x"], "people"), right=True, photo=JPEG + b"of aa")
    gallery.marks.set(Pair(ID["a"], ID["b"], "people", "1"), right=True, photo=JPEG + b"of a")
    gallery.update(Filter(ids=(ID["b"],)), {"camera": "7", "person": "Ada"})
    with closing(KeptMarks(folder / "marks")) as same, monkeypatch.context() as patch:
        assert same.all() == {pair("sha256:aa", ID["x"], "people"): True, pair(ID["a"], ID["b"], "people"): True}
        patch.setattr(gallery._engine._store, "set_state", lambda *what: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(StorageError, match="nothing was changed"):
            gallery.delete(Filter(ids=(ID["x"],)))
        assert (len(gallery), len(same.all()), len(gallery.marks.all())) == (3, 2, 2)
        patch.undo()
        assert gallery.delete(Filter(ids=(ID["x"], ID["a"]))) == 2
        assert (same.all(), gallery.marks.all()) == ({}, {})
    assert not left_in(folder, ID["x"].encode(), ID["a"].encode(), b"of aa", b"of a")


def test_marks_belong_to_their_gallery_whatever_it_is_called(gallery, tmp_path):
    """Also those that earlier versions kept under a name, but none on a gallery that is elsewhere."""
    gallery.close()
    (tmp_path / "people" / "marks").mkdir()
    lines = [line("sha256:aa", right=right, gallery="of old") for right in (True, False)]
    lines += [line("sha256:cc", gallery="away"), line("sha256:dd", ID["z"], gallery="not served")]
    (tmp_path / "people" / "marks" / "marks.jsonl").write_text("\n".join(lines))
    with Gallery(tmp_path / "people") as first:
        Marks(None, own={"people-2": first.marks}).set(pair("sha256:bb", ID["x"], "people-2"), right=True, photo=JPEG)
        assert pair("sha256:bb", ID["x"], "people-2") in first.marks.all()
    (tmp_path / "people").rename(tmp_path / "of 2026")
    with Gallery(tmp_path / "of 2026") as again:
        assert pair("sha256:bb", ID["x"], "of 2026") in again.marks.all()
        marks = Marks(None, own={"of 2026": again.marks}, served=["of 2026", "away"])
        marks.set(pair("sha256:aa", ID["x"], "of 2026"), right=True, photo=JPEG)
        assert {(pair.query, pair.gallery): mark.right for pair, mark in marks.words().items()} == {
            ("sha256:aa", "of 2026"): True,
            ("sha256:bb", "of 2026"): True,
            ("sha256:cc", "away"): True,
            ("sha256:dd", "not served"): True,
        }
        assert marks.set(pair("sha256:aa", ID["x"], "of 2026"), right=None, photo=JPEG) is None
        assert len(marks.words()) == 3


def test_no_mark_is_made_on_a_picture_that_is_deleted_meanwhile(gallery, tmp_path):
    with Gallery(tmp_path / "people") as other:
        other.delete(Filter(ids=(ID["a"],)))
    for query, match, needs in (("sha256:aa", ID["a"], ID["a"]), (ID["a"], ID["b"], ID["a"])):
        with pytest.raises(MissingPictureError, match="not in the gallery any more"):
            gallery.marks.set(Pair(query, match, "people"), right=True, photo=JPEG + b"of aa", needs=[needs])
    assert not left_in(tmp_path / "people", ID["a"].encode(), b"of aa")


def test_a_gallery_takes_over_marks_or_says_why_not(gallery, tmp_path, capsys):
    """Those beside it, as earlier versions kept them; a store of before marks were in it gets their tables."""
    folder = tmp_path / "people"
    gallery.close()
    (folder / "marks" / "marks.jsonl").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "gallery.sqlite")) as db:
        db.executescript("DROP TABLE marks; DROP TABLE photos; PRAGMA user_version = 2")
    with Gallery(folder) as again:
        assert "marks could not be read from" in capsys.readouterr().err
        with pytest.raises(StorageError, match="marks could not be read"):
            again.delete(Filter(ids=(ID["x"],)))
        assert len(again) == 3
        (folder / "marks" / "marks.jsonl").rmdir()
        (folder / "marks" / "marks.jsonl").write_text(line("sha256:aa") + "\nno mark\n")
        (folder / "marks" / "sha256-aa.jpg").write_bytes(JPEG + b"of aa")
        assert again.delete(Filter(ids=(ID["a"],))) == 1
        assert (again.marks.photo("sha256:aa"), again.check().marks) == (JPEG + b"of aa", 1)
        assert not (folder / "marks").exists()
        assert (again.marks.discard(), again.check().marks) == (1, 0)
    damage_and_repair(folder)


def damage_and_repair(folder):
    """Marks that are damaged are never believed; what is whole is saved."""
    with closing(sqlite3.connect(folder / "gallery.sqlite")) as db:
        (word,) = db.execute("SELECT word FROM marks WHERE word != zeroblob(length(word))").fetchone()
        db.execute("UPDATE marks SET word = ? WHERE word = ?", (word.replace(b"true", b"null"), word))
        db.execute("INSERT INTO marks (word) VALUES (?)", (seal(line("sha256:bb").encode()),))
        db.commit()
    found = repair(folder)
    assert (found.pictures, found.marks) == (2, 1)
    with Gallery(folder) as saved:
        assert [mark.query for mark in saved.marks.all()] == ["sha256:bb"]
        assert saved.marks.photo("sha256:aa") == JPEG + b"of aa"
