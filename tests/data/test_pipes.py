"""What should be a file and is a pipe is refused at once, wherever text, JSON and tables are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regard.config import read_settings
from regard.crowd.dataset.crowd_folder import read_description
from regard.crowd.dataset.label_files import contact_sheet
from regard.data.datasets.synthetic import read_keypoints
from regard.data.labels.coco import read_coco
from regard.data.labels.make import make_labels
from regard.data.labels.pack import LabelPack
from regard.data.rows import read_rows
from regard.errors import RegardError
from regard.gallery.audit import AuditLog
from regard.gallery.segments import held
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history
from regard.service.feedback import Marks, Pair
from regard.service.training_runs import read_records
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
        ("own.yaml", read_recipe),
        ("own.yaml", read_settings),
        ("keypoints.json.partial", lambda pipe: make_labels({}, pipe.parent, lambda _: np.zeros((17, 3)), None, "x")),
        ("marks.jsonl", lambda pipe: Marks(pipe.parent).all()),
        ("marks.jsonl", lambda pipe: Marks(pipe.parent).set(Pair("a", "b", "g"), right=True, photo=b"jpeg")),
        ("audit.jsonl", lambda pipe: AuditLog(pipe).append(query="x")),
        ("labels.pack", LabelPack),
        ("lock", lambda pipe: held(pipe.parent).__enter__()),
        ("metrics.jsonl", read_records),
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


def test_files_are_made_and_added_to_as_whoever_opens_them_says(tmp_path):
    for name, private, rights in (("own", True, 0o600), ("all", False, 0o666 & ~umask())):
        for text in ("a\n", "b\n"):
            with open_regular(tmp_path / name, "a", private=private, encoding="utf-8") as file:
                file.write(text)
        assert read_regular(tmp_path / name) == b"a\nb\n"
        assert (tmp_path / name).stat().st_mode & 0o777 == rights


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
