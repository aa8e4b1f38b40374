"""``regard serve`` as it is typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from regard.cli import main as command_line
from regard.gallery import Gallery

PROGRAM = "import sys; from regard.cli import main; main.VERBS['serve'] = ''; sys.exit(main.main())"


@contextmanager
def stopped(process):
    """A process that does not outlive the block."""
    try:
        yield
    finally:
        process.kill()


@pytest.fixture
def gallery(made, tmp_path):
    shutil.copytree(made["people"][0], tmp_path / "people")
    return tmp_path / "people"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_makes_its_export_and_serves_without_torch_until_it_is_ended(gallery, made, ending):
    environment = {**os.environ, "REGARD_TOKEN": "0123456789abcdef0123", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, "serve", str(gallery), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as serving, stopped(serving):
        assert serving.stdout is not None
        line = serving.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address
        assert "0123456789abcdef" not in line, "a token in what may be a journal"
        request = urllib.request.Request(
            address[0] + "api/galleries", headers={"Authorization": "Bearer 0123456789abcdef0123"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)[0]["pictures"] == 48
        assert len(list((made["people"][1] / "exports").glob("*.onnx"))) == 1
        assert "onnxruntime" in (loaded := Path(f"/proc/{serving.pid}/maps").read_text())
        assert "libtorch" not in loaded
        host, _, port = address[0].split("/")[2].partition(":")
        with socket.create_connection((host, int(port))) as stalled:  # an upload that does not go on
            head = "POST /api/queries HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 0123456789abcdef0123\r\n"
            stalled.sendall(f"{head}Content-Length: 9999\r\n\r\n--x".encode())
            serving.send_signal(ending)
            serving.wait(60)
        assert serving.wait(60) == (130 if ending == signal.SIGINT else 0)
    assert not list(gallery.glob("*-wal"))
    Gallery.open(gallery).close()  # the lock is free again


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["nowhere"], "there is no gallery in nowhere"),
        (["{gallery}", "--host", "0.0.0.0"], "wants a token"),
        (["{gallery}", "--max-mb", "0"], "want numbers above 0"),
        (["{gallery}", "--two-person"], "wants two people who may mark, got none"),
        (["{gallery}", "--model", "a", "--model", "b"], "got 1 galleries and 2 --model"),
        (["{gallery}", "--model", "nowhere"], "no model.safetensors in nowhere"),
        (["{gallery}", "--model", "{other}"], "embedded by another model"),
        (["{gallery}", "--port", "{taken}"], "cannot listen on 127.0.0.1"),
    ],
)
def test_mistakes_are_one_line(gallery, made, monkeypatch, capsys, arguments, wanted):
    monkeypatch.setitem(command_line.VERBS, "serve", "of this test")
    monkeypatch.delenv("REGARD_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"gallery": gallery, "other": made["others"][1], "taken": taken.getsockname()[1]}
        code = command_line.main(["serve", *(text.format(**values) for text in arguments)])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert wanted in err
    assert err.count("\n") == 1
    Gallery.open(gallery).close()
