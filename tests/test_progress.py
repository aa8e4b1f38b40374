"""How long work shows how far it is: in a terminal, in a pipe, in a notebook, and not at all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import tqdm.notebook
from tqdm import tqdm as terminal_bar

from regard import progress
from regard.progress import Lines, progress_bar

SCRIPT = """
from regard.progress import progress_bar
for _ in progress_bar(range(40), "epoch 1/2", unit="batch"):
    pass
with progress_bar(total=4, title="writing", unit="file", quiet={quiet}, leave=True) as bar:
    bar.set_description("reading")
    bar.update(3)
    bar.set_postfix_str("loss 0.5")
    bar.update(4 - bar.n)
"""


def run(stream: int, *, quiet: bool = False) -> None:
    code = SCRIPT.format(quiet=quiet)
    subprocess.run([sys.executable, "-c", code], stderr=stream, check=True, env={**os.environ, "COLUMNS": "100"})


@pytest.mark.slow
def test_a_pipe_gets_whole_lines():
    reader, writer = os.pipe()
    run(writer)
    os.close(writer)
    with os.fdopen(reader, newline="") as pipe:
        said = pipe.read()
    assert "\r" not in said
    first, second = said.splitlines()
    assert re.fullmatch(r"epoch 1/2: 100% 40/40, [\d,.]+ batch/s, 0:00 passed, 0:00 left", first)
    assert re.fullmatch(r"reading: 100% 4/4, [\d,.]+ file/s, 0:00 passed, 0:00 left, loss 0\.5", second)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo terminals")
def test_a_terminal_has_a_bar_that_stays_where_it_is_meant_to():
    reader, writer = os.openpty()
    run(writer)
    os.close(writer)
    said = b""
    try:
        while piece := os.read(reader, 1 << 16):
            said += piece
    except OSError:  # nobody writes any more
        pass
    os.close(reader)
    text = said.decode()
    assert "\repoch 1/2: " in text
    assert re.search(r"\rreading: 100%\|█+\| 4/4 \[00:00<00:00, .* file/s, loss 0\.5\]", text)
    assert text.rstrip("\r\n").rpartition("\r")[2].startswith("reading")
    assert text.count("\n") == 1


def test_quiet_says_nothing_anywhere(capfd):
    assert list(progress_bar(range(3), quiet=True)) == [0, 1, 2]
    with progress_bar(total=2, quiet=True) as bar:
        bar.update(2)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.seconds)
    return now


def test_a_line_every_ten_seconds_and_one_at_the_end(clock, capsys):
    bar = progress_bar(title="embedding", total=1000, initial=100, unit="image")
    for _ in range(90):
        clock.seconds += 4
        bar.update(10)
    bar.close()
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 90 // 3 + 1
    assert lines[0] == "embedding:  13% 130/1,000, 2.5 image/s, 0:12 passed, 5:48 left"
    assert lines[-1] == "embedding: 100% 1,000/1,000, 2.5 image/s, 6:00 passed, 0:00 left"


def test_slow_steps_unknown_ends_and_what_is_not_worth_a_line(clock, capsys):
    with progress_bar(title="x", unit="block") as bar:
        clock.seconds += 9000
        bar.update(3)
    with progress_bar(title="short", total=2, delay=1) as bar:
        clock.seconds += 0.5
        bar.update(2)
    with pytest.raises(ZeroDivisionError), progress_bar(title="nothing done", total=2):
        _ = 1 / 0
    assert capsys.readouterr().err.splitlines() == ["x: 3, 3,000.0 s/block, 2:30:00 passed"] * 2


def test_nobody_reads_it_any_more(monkeypatch):
    class Closed:
        def isatty(self) -> bool:
            return False

        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Closed())
    assert list(progress_bar(range(3), "x")) == [0, 1, 2]
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress_bar(range(3), "x")) == [0, 1, 2]


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_has_the_widget_where_there_is_one(widgets, monkeypatch):
    python: ModuleType = ModuleType("IPython")
    python.get_ipython = lambda: SimpleNamespace(config={"IPKernelApp": {}})  # pyright: ignore
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if widgets else None)
    monkeypatch.setattr(tqdm.notebook, "tqdm", lambda *given, **more: "widget")
    found = progress_bar(range(2), "x")
    if widgets:
        assert found == "widget"
    else:
        assert type(found) is terminal_bar
        found.close()


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch):
    python: ModuleType = ModuleType("IPython")
    python.get_ipython = lambda: SimpleNamespace(config={})  # pyright: ignore
    monkeypatch.setitem(sys.modules, "IPython", python)
    assert isinstance(progress_bar(range(2), "x"), Lines)
