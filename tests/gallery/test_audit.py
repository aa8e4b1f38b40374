"""The log of searches only grows, and shows where it was touched."""

from __future__ import annotations

import json

import pytest

from regard.errors import StorageError
from regard.gallery.audit import AuditLog


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(5):
        log.append(who="test", query=[f"q{number}"])
    return log


def test_lines_follow_each_other(log):
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [line["query"] for line in lines] == [[f"q{n}"] for n in range(5)]
    assert log.verify() is None
    AuditLog(log.path).append(who="another process")
    assert log.verify() is None
    assert log.path.stat().st_mode & 0o077 == 0


def test_two_processes_write_one_chain(log):
    """Two logs of one file, as two processes have them, take turns."""
    other = AuditLog(log.path)
    for number in range(4):
        (log, other)[number % 2].append(who="both", query=[f"r{number}"])
    assert log.verify() is None
    assert log.count() == 9


@pytest.mark.parametrize(
    ("touch", "line"),
    [
        (lambda lines: [*lines[:1], lines[1].replace("q1", "qX"), *lines[2:]], 3),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:4], "nonsense"], 5),
    ],
)
def test_a_touched_line_shows(log, touch, line):
    log.path.write_text("\n".join(touch(log.path.read_text().splitlines())) + "\n")
    assert log.verify() == line


def test_what_cannot_be_logged_is_said(log, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="could not be logged"):
        AuditLog(tmp_path / "folder" / "x" / "audit.jsonl").append(who="test")
