"""What should be a file and is a pipe is refused at once, wherever text, JSON and tables are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regard.crowd.dataset.contact_sheet import contact_sheet
from regard.crowd.dataset.crowd_folder import read_description
from regard.data.datasets.keypoints import read_keypoints
from regard.data.labels.coco import read_coco
from regard.data.rows import read_rows
from regard.engine.log import read_history
from regard.errors import RegardError
from regard.storage import open_regular, read_regular


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("keypoints.json", read_keypoints),
        ("keypoints.json", read_coco),
        ("keypoints.json", lambda pipe: contact_sheet(pipe.parent)),
        ("table.csv", lambda pipe: list(read_rows(pipe, ["path"]))),
        ("table.jsonl", lambda pipe: list(read_rows(pipe, ["path"]))),
        ("table.parquet", lambda pipe: list(read_rows(pipe, ["path"]))),
    ],
)
def test_a_pipe_is_never_waited_for(name: str, read: Callable[[Path], Any], tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(RegardError, match="no regular file"):
        read(tmp_path / name)


def test_a_pipe_is_no_crowd_and_no_history(tmp_path):
    os.mkfifo(tmp_path / "dataset.json")
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert read_description(tmp_path) is None
    assert read_history(tmp_path) == []


def test_only_files_are_opened(tmp_path):
    (tmp_path / "a.txt").write_text("é\r\n", encoding="utf-8", newline="")
    assert read_regular(tmp_path / "a.txt") == "é\r\n".encode()
    (tmp_path / "link").symlink_to("a.txt")
    with open_regular(tmp_path / "link", "r", encoding="utf-8", newline="") as file:
        assert file.read() == "é\r\n"
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    with pytest.raises(OSError, match="no regular file"):
        read_regular(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")
