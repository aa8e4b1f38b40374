"""What would end a command is found before the work: a package that is missing, a place that cannot be written.

None of the runs, pictures and data sets named here exists, so a command that looked at them first would say that.
"""

from __future__ import annotations

import os

import pytest

from regard.cli.main import main
from regard.errors import ConfigError, StorageError
from regard.storage import check_writable, write_atomic

OUTPUTS = [
    ("report", ["RUN", "-o", "PLACE"]),
    ("explain", ["sheet", "a.jpg", "--runs", "RUN", "-o", "PLACE.png"]),
    ("compare", ["RUN", "--png", "PLACE"]),
    ("compare", ["RUN", "--json", "PLACE"]),
    ("compare", ["RUN", "--md", "PLACE"]),
    ("compare", ["RUN", "--csv", "PLACE"]),
    ("eval", ["RUN", "--json", "PLACE"]),
    ("eval", ["RUN", "--corruptions", "--png", "PLACE"]),
    ("calibrate", ["RUN", "--json", "PLACE"]),
    ("export", ["RUN", "--to", "onnx", "-o", "PLACE"]),
    ("data", ["check", "crowd", "--json", "PLACE"]),
    ("gallery", ["export", "GALLERY", "PLACE"]),
]
FOLDERS = [
    ("explain", ["attention", "RUN", "a.jpg", "-o", "PLACE"]),
    ("explain", ["curves", "RUN", "-o", "PLACE"]),
    ("import", ["dsp", "weights.pth", "-o", "PLACE"]),
]


def line(capsys) -> str:
    (said,) = capsys.readouterr().err.splitlines()
    return said


@pytest.mark.parametrize(("verb", "arguments"), OUTPUTS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_folder_where_a_file_should_be(verb, arguments, tmp_path, capsys):
    place = tmp_path / "there"
    (tmp_path / "there.png").mkdir()
    place.mkdir()
    assert main([verb, *(one.replace("PLACE", str(place)) for one in arguments)]) == 2
    assert "is a folder, wanted a file to write" in line(capsys)


@pytest.mark.parametrize(("verb", "arguments"), [*OUTPUTS, *FOLDERS], ids=lambda v: v if isinstance(v, str) else "")
def test_a_file_on_the_way(verb, arguments, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    place = tmp_path / "file" / "deeper" / "out"
    assert main([verb, *(one.replace("PLACE", str(place)) for one in arguments)]) == 2
    assert f"{tmp_path / 'file'} is a file, wanted a folder" in line(capsys)


@pytest.mark.parametrize(("verb", "arguments"), FOLDERS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_file_where_a_folder_should_be(verb, arguments, tmp_path, capsys):
    (tmp_path / "out").write_text("x")
    assert main([verb, *(one.replace("PLACE", str(tmp_path / "out")) for one in arguments)]) == 2
    assert "is a file, wanted a folder" in line(capsys)


def test_no_permission(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StorageError, match="no permission to write in"):
        check_writable(tmp_path / "new" / "a.json")
    assert not (tmp_path / "new").exists()


def test_what_can_be_written_passes(tmp_path):
    check_writable(tmp_path / "new" / "deeper" / "a.json")
    check_writable(tmp_path / "new", folder=True)
    check_writable(tmp_path, folder=True)
    check_writable("report.html")
    check_writable("/dev/null")
    assert not (tmp_path / "new").exists()


def test_a_pipe_or_a_device_is_written_to_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match=r"could not write .*pipe: No such device"):
        write_atomic(pipe, b"nobody reads")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, b"scores")
    assert os.read(reader, 99) == b"scores"
    os.close(reader)
    assert pipe.is_fifo()
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"could not write .*full: No space left"):
        write_atomic(tmp_path / "full", b"scores")
    assert (tmp_path / "full").is_char_device()


def test_a_run_folder_whose_name_is_no_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"n\xe9")
    for arguments in (["train", "apnet", "-o", name], ["eval", name]):
        (tmp_path / name).mkdir(exist_ok=arguments[0] == "eval")
        (tmp_path / name / "config.json").write_text('{"model": "baseline", "num_ids": 2, "options": {}}')
        (tmp_path / name / "model.safetensors").write_bytes(b"")
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert "is no text in UTF-8, so no network can be kept there; rename it" in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("value", [3, None, 2.5, True, ["cosine"]])
def test_a_name_or_a_count_of_another_kind_is_one_line(value):
    import regard

    pids = {"query_pids": [1], "gallery_pids": [1]}
    for option in ("metric", "cmc", "ap", "unmatched", "junk"):
        with pytest.raises(ConfigError, match=r"unknown .*; known: "):
            regard.evaluate_ranking([[1.0, 0.0]], [[1.0, 0.0]], **pids, **{option: value})
    with pytest.raises(ConfigError, match="unknown model"):
        regard.create_model(value, num_ids=2)
    if value not in (3, True):
        with pytest.raises(ConfigError, match="max_rank is"):
            regard.evaluate_ranking([[1.0, 0.0]], [[1.0, 0.0]], **pids, max_rank=value)
        with pytest.raises(ConfigError, match="num_ids is"):
            regard.create_model("baseline", num_ids=value, backbone="resnet18")
