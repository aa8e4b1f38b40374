"""Records, filters and times."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from regard.errors import DataError
from regard.gallery.record import Filter, Record, format_time, parse_time, read_records, record_id, said_digest

MORNING = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, None), ("", None), (float("nan"), None), (12, 12.0), ("12.5", 12.5),
        ("2026-05-01T08:30:00", MORNING.timestamp()), ("2026-05-01T10:30:00+02:00", MORNING.timestamp()),
        (MORNING, MORNING.timestamp()), ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC).timestamp()),
    ],
)  # fmt: skip
def test_times_are_understood(given, wanted):
    assert parse_time(given) == wanted


@pytest.mark.parametrize("given", ["yesterday", "inf", float("-inf"), [1], "2026-13-01", 253_402_300_800, -1e18])
def test_what_is_no_time_is_said(given):
    with pytest.raises(DataError, match="got the time"):
        parse_time(given)


def test_times_are_shown():
    assert format_time(MORNING.timestamp()) == "2026-05-01 08:30:00"
    assert format_time(None) == ""
    assert format_time(1e18) == "1e+18 s"


def test_a_record_survives_json():
    record = Record(record_id("a"), "a.jpg", "1", 5.0, "t", "p", {"color": "red"})
    assert Record.from_dict(record.to_dict()) == record
    before = replace(record, time=1e300)  # times without limits were stored before
    assert Record.from_dict(before.to_dict()) == before
    assert Record.from_dict({"id": "x", "path": "p", "camera": 3, "person": float("nan")}).camera == "3"
    assert Record.from_dict({"id": "x", "path": "p", "camera": 3, "person": float("nan")}).person is None


@pytest.mark.parametrize("values", [{"id": "x"}, {"path": "x"}, {"id": "x", "path": "x", "attributes": {"a.b": "1"}}])
def test_what_is_no_record_is_refused(values):
    with pytest.raises(DataError):
        Record.from_dict(values)


def test_the_same_source_has_the_same_id():
    assert record_id("a.jpg") == record_id("a.jpg") != record_id("b.jpg")


def test_a_filter_says_what_it_asks_for():
    assert Filter().to_dict() == {}
    asked = Filter(cameras=("1",), since=0.0, attributes={"color": ("red",)}, not_ids=("x",))
    assert asked.to_dict() == {"cameras": ("1",), "since": 0.0, "attributes": {"color": ["red"]}, "not_ids": ("x",)}
    assert Filter(cameras=()).to_dict() == {"cameras": ()}


def test_choices_with_nothing_to_choose_from_are_impossible():
    assert not Filter().is_impossible
    assert not Filter(cameras=("1",), not_cameras=("1",)).is_impossible
    assert all(f.is_impossible for f in (Filter(ids=()), Filter(cameras=()), Filter(attributes={"a": ()})))


def test_until_is_not_included():
    record = Record("x", "x", time=10.0)
    assert Filter(since=10.0, until=11.0).accepts(record)
    assert not Filter(until=10.0).accepts(record)
    assert not Filter(since=0.0).accepts(Record("y", "y"))


@pytest.mark.parametrize("attributes", [{}, {"coat": "red"}])
def test_what_sources_said_comes_back(attributes):
    """As digests, also of a record without attributes and of one that kept texts; what is no such thing is not."""
    plain = {"own": {"camera": "1", "time": 5.0, "person": None}, "told": {".coat": "blue"}}
    said = {
        who: {name: said_digest(record_id("a"), name, value) for name, value in words.items()}
        for who, words in plain.items()
    }
    record = Record(record_id("a"), "a", camera="9", attributes=attributes, said=said)
    assert read_records([json.dumps(record.to_dict())]) == [record]
    assert Record.from_dict(record.to_dict() | {"said": plain}) == record
    assert said["own"]["person"] is None
    assert len({said["own"]["camera"], said["own"]["time"]}) == 2
    for odd in ("x", 5, ["own"], {"own": "x", "they": {}}):
        assert Record.from_dict({"id": record.id, "path": "a", "said": odd}).said == {}
