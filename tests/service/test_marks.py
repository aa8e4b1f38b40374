"""Marks become people, and contradictions are named."""

from __future__ import annotations

import pytest

from regard.errors import DataError
from regard.service.feedback import Marks, Pair, people_of


def pair(query, match):
    return Pair(query, match, "g", "1")


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


def test_the_last_word_counts_and_half_a_line_is_none(tmp_path):
    marks = Marks(tmp_path / "marks")
    assert marks.all() == {}
    for right in (True, False, None, False):
        marks.set(pair("sha256:00", "x"), right=right, photo=b"jpeg")
    marks.set(pair("sha256:00", "y"), right=True, photo=b"other bytes")
    with (tmp_path / "marks" / "marks.jsonl").open("a") as file:
        file.write('{"query": "sha2')
    assert marks.all() == {pair("sha256:00", "x"): False, pair("sha256:00", "y"): True}
    assert (tmp_path / "marks" / "sha256-00.jpg").read_bytes() == b"jpeg"
    with pytest.raises(DataError, match="no marks to export"):
        marks.export(lambda gallery, id: b"")
