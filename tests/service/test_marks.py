"""Marks become people, contradictions are named, and nothing that is read is trusted."""

from __future__ import annotations

import csv
import io
import json
import uuid
import zipfile

import pytest

from regard.errors import ConfigError, DataError, StorageError
from regard.gallery.marks import KeptMarks
from regard.service.feedback import Marks, Pair, people_of

ID = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in "abcdxyz"}
JPEG = b"\xff\xd8jpeg"


def pair(query, match):
    return Pair(query, match, "g", "1")


@pytest.fixture
def marks(tmp_path):
    return Marks(tmp_path / "marks")


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


def test_the_last_word_counts_and_half_a_line_is_none(marks):
    assert marks.all() == {}
    for right in (True, False, None, False):
        marks.set(pair("sha256:00", "x"), right=right, photo=JPEG)
    marks.set(pair("sha256:00", "y"), right=True, photo=b"other bytes")
    with (marks.folder / "marks.jsonl").open("a") as file:
        file.write('{"query": "sha2')
    assert marks.all() == {pair("sha256:00", "x"): False, pair("sha256:00", "y"): True}
    assert (marks.photo("sha256:00"), marks.damaged()) == (JPEG, [6])
    marks.set(pair("sha256:00", "z"), right=True, photo=JPEG)  # stands on a line of its own
    assert (len(marks.all()), marks.damaged()) == (3, [6])
    assert all(path.stat().st_mode & 0o077 == 0 for path in (marks.folder, *marks.folder.iterdir()))
    with pytest.raises(DataError, match="no marks to export"):
        marks.export(lambda gallery, id: b"")


def test_a_photograph_goes_with_the_last_mark_of_its_query(marks):
    for match in "xy":
        marks.set(pair("sha256:aa", match), right=True, photo=JPEG)
    marks.set(pair("sha256:aa", "x"), right=None, photo=JPEG)
    assert marks.photo("sha256:aa") == JPEG
    marks.set(pair("sha256:aa", "y"), right=None, photo=JPEG)
    assert marks.photo("sha256:aa") == b""


def test_two_people_must_agree(tmp_path):
    marks = Marks(tmp_path / "marks", two_people=True)

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


def test_a_hostile_file_harms_nobody(marks, tmp_path):
    """Each line of it is passed over and counted; what can be a mark stays one, and no cell computes."""
    (tmp_path / "secret.jpg").write_bytes(JPEG + b"of somebody else")
    for query, camera in ((ID["a"], "=1+1"), (ID["b"], "  @SUM(A1)"), (ID["c"], "\u202egpj.exe"), (ID["d"], "＝1")):
        marks.set(Pair(query, ID["x"], "g\u2028\x85g", camera), right=True, photo=JPEG)
    path = marks.folder / "marks.jsonl"
    good = path.read_bytes()
    lines = [json.dumps(line).encode() for line in HOSTILE]
    lines += [b"\xff" + good.splitlines()[0], b"", b"[" * 10**5, good.splitlines()[0][:-9], b"\x00" * 100]
    path.write_bytes(good + b"\n".join(lines) + b"\n")
    assert marks.damaged() == list(range(5, 5 + len(lines)))
    assert set(marks.all().values()) == {True}
    assert len(marks.all()) == 4
    (marks.folder / f"{ID['b']}.jpg").unlink()
    (marks.folder / f"{ID['b']}.jpg").symlink_to(tmp_path / "secret.jpg")
    (marks.folder / f"{ID['c']}.jpg").write_bytes(b"<script>")
    with zipfile.ZipFile(io.BytesIO(marks.export(lambda gallery, id: JPEG))) as archive:
        names = [f"gallery/{ID['x']}.jpg", f"query/{ID['a']}.jpg", f"query/{ID['d']}.jpg"]
        assert set(archive.namelist()) == {"table.csv", "marks.csv", *names}
        rows = list(csv.DictReader(io.StringIO(archive.read("marks.csv").decode())))
    assert [row["camera"] for row in rows] == ["'=1+1", "'  @SUM(A1)", "\\u202egpj.exe", "'＝1"]
    assert {row["gallery"] for row in rows} == {"g\\u2028\\x85g"}
    with pytest.raises(DataError, match=r"got a query called '\.\./x'"):
        marks.set(pair("../x", "x"), right=True, photo=JPEG)


@pytest.mark.parametrize("name", ["marks.jsonl", ""])
def test_a_link_in_their_place_is_not_written_to(tmp_path, name):
    victim, marks = tmp_path / "victim", KeptMarks(tmp_path / "marks")
    victim.write_bytes(b"") if name else victim.mkdir()
    if name:
        marks.folder.mkdir()
    (marks.folder / name).symlink_to(victim)
    with pytest.raises(StorageError, match=r"could not be written to .*it is a link"):
        marks.set(pair("a", "x"), right=True, photo=JPEG)
    assert not (victim.read_bytes() if name else list(victim.iterdir()))


def test_what_is_forgotten_leaves_no_byte(marks):
    """As match, as query, in words taken back, in damaged lines, in what a kill left; the rest stays."""
    own = marks.folder / "holiday.jpg"
    marks.set(Pair("sha256:aa", ID["x"], "g"), right=True, photo=JPEG + b"of aa")
    marks.set(Pair("sha256:aa", ID["x"], "g"), right=False, photo=JPEG)
    marks.set(Pair(ID["x"], ID["y"], "g"), right=True, photo=JPEG + b"of x")
    marks.set(Pair("sha256:bb", ID["y"], "g"), right=True, photo=JPEG + b"of bb")
    own.write_bytes(b"somebody's own")
    (marks.folder / f".{ID['x']}.jpg.17.tmp").write_bytes(JPEG + b"of x")
    with (marks.folder / "marks.jsonl").open("ab") as file:
        file.write(b"\xff damaged " + ID["x"].encode() + b"\n\xff also\n")
    assert marks.forget([ID["z"]]) == 0
    assert marks.forget([ID["x"]]) == 4
    left = {path.name: path.read_bytes() for path in marks.folder.iterdir()}
    assert set(left) == {"marks.jsonl", "sha256-bb.jpg", "holiday.jpg"}
    assert not any(ID["x"].encode() in data or b"of x" in data or b"of aa" in data for data in left.values())
    assert marks.all() == {Pair("sha256:bb", ID["y"], "g"): True}
    marks.clear()
    assert list(marks.folder.iterdir()) == [own]


def test_a_full_disk_leaves_what_was_there(marks, monkeypatch):
    marks.set(Pair("sha256:aa", ID["x"], "g"), right=True, photo=JPEG)
    before = (marks.folder / "marks.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.write", lambda descriptor, data: 3)
        with pytest.raises(StorageError, match="marks could not be written"):
            marks.set(Pair("sha256:bb", ID["y"], "g"), right=True, photo=JPEG)
    assert (marks.folder / "marks.jsonl").read_bytes() == before
    assert not (marks.folder / "sha256-bb.jpg").exists()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match="No space left"):
            marks.forget([ID["x"]])
    assert (marks.folder / "marks.jsonl").read_bytes() == before
