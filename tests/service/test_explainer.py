"""The process that looks into pictures: it may die, stall, lie or be left alone, and the service goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regard.errors import ConfigError, DataError
from regard.gallery import Embedder
from regard.models.folder import WEIGHTS, model_folder
from regard.service import explanation
from regard.service.explainer import Explainer
from regard.service.journal import ElsewhereError, place_of
from regard.service.limits import BusyError, Limits

PICTURE = np.zeros((6, 4, 3), np.uint8)

ANSWERS = """
import json, os, sys, time
def read(): return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "big"))
def write(text): os.write(1, len(text).to_bytes(8, "big") + text.encode())
def say(**answer): write(json.dumps({**answer, "lengths": []}))
while True:
    picture, file = [sys.stdin.buffer.read(length) for length in json.loads(read())["lengths"]]
    exec(file.decode())
"""
WELL = "say(found={'pid': os.getpid(), 'secret': os.environ.get('REGARD_TOKEN')})"


class Model:
    """A model as far as the service speaks of it."""

    def __init__(self, made_by=None):
        self.made_by = made_by

    def describe(self):
        return self.made_by


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setenv("REGARD_TOKEN", "0123456789abcdef")
    made = Explainer(Limits(why=20, why_idle=0.2), [sys.executable, "-c", ANSWERS])
    yield made
    made.close()


def ask(explainer: Explainer, does: str):
    return explainer.explain(Model(), PICTURE, does.encode())


def is_gone(pid: int) -> bool:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_one_process_answers_until_it_is_left_alone(fake):
    fake.limits = Limits(why_idle=60)
    first = ask(fake, WELL)
    assert first == {"pid": fake.pid, "secret": None}
    fake.limits = Limits(why_idle=0.1)
    assert ask(fake, WELL) == first
    assert is_gone(first["pid"])
    assert fake.pid is None
    assert ask(fake, WELL)["pid"] != first["pid"]
    fake.close()
    assert fake.pid is None
    with pytest.raises(BusyError, match="the service is ending"):
        ask(fake, WELL)


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("os.kill(os.getpid(), 9)", "ended by signal 9; ask again"),
        ("sys.exit(3)", "ended with 3; ask again"),
        ("say()", "ended by signal 9"),
        ("write('[]')", "ended by signal 9"),
        ("os.write(1, (8 << 40).to_bytes(8, 'big'))", "ended by signal 9"),
        ("os.write(1, bytes(7)); sys.exit(0)", "ended with 0"),
    ],
)
def test_a_process_that_ends_or_lies_is_one_line_and_a_fresh_one(fake, does, told):
    with pytest.raises(BusyError, match=f"looking into the pictures {told}") as raised:
        ask(fake, does)
    assert (raised.value.status, "\n" in str(raised.value)) == (503, False)
    assert ask(fake, WELL)["pid"]


def test_one_that_takes_too_long_is_stopped(fake):
    pid = ask(fake, WELL)["pid"]
    fake.limits = Limits(why=0.3)
    with pytest.raises(BusyError, match=r"took more than 0\.3 s and was stopped"):
        ask(fake, "time.sleep(60)")
    assert is_gone(pid)


def test_errors_of_the_process_are_told_as_they_are(fake):
    with pytest.raises(DataError, match="no picture"):
        ask(fake, "say(error='no picture', kind='DataError')")
    with pytest.raises(ElsewhereError) as raised:
        ask(fake, "say(failed='KeyError at there.py:3')")
    assert place_of(raised.value) == "KeyError at there.py:3"


SERVICE = """
import json, sys, time
import numpy as np
from regard.errors import DataError
from regard.service.explainer import Explainer
class Model:
    def describe(self):
        return json.loads(sys.argv[1])
explainer = Explainer()
try:
    explainer.explain(Model(), np.zeros((6, 4, 3), np.uint8), b"x")
except DataError as error:
    print(explainer.pid, error, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def made_by(made) -> dict[str, Any]:
    _, model, size = made["people"]
    return Embedder(model, size=size, device="cpu").describe()


def test_the_real_one_says_what_is_no_picture_and_ends_with_a_service_that_is_killed(made_by):
    command = [sys.executable, "-c", SERVICE, json.dumps(made_by)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        pid, _, told = service.stdout.readline().partition(" ")
        assert "a thumbnail" in told
        service.kill()
    assert is_gone(int(pid))


def test_a_model_that_was_replaced_is_said(explainer, made_by):
    with pytest.raises(ConfigError, match="was replaced meanwhile; start the service again"):
        explainer.explain(Model(made_by | {"fingerprint": "0" * 16}), PICTURE, b"")


def test_a_process_of_ours_imports_nothing_that_lies_where_one_stands(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('of somebody else')")
    (tmp_path / "own").mkdir()
    told = "import importlib.util, os; print(importlib.util.find_spec('torch').origin, os.environ.get('REGARD_TOKEN'))"
    (tmp_path / "own" / "probe.py").write_text(told)
    code = (
        "import subprocess, sys; sys.path[:] = [*filter(None, sys.path), sys.argv[1]]\n"
        "from regard.plugins import child_environment\n"
        "subprocess.run([sys.executable, '-m', 'probe'], env=child_environment(), check=True)"
    )
    environment = os.environ | {"PYTHONSAFEPATH": "1", "REGARD_TOKEN": "secret"}
    command = [sys.executable, "-c", code, str(tmp_path / "own")]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert "site-packages" in found
    assert found.split()[-1] == "None"


def test_a_network_that_comes_with_regard_is_explained(monkeypatch):
    """A gallery knows it by its name, which is no folder: the page failed at every Why? of the default model."""
    bounds: list[int] = []
    monkeypatch.setattr(explanation, "bound_memory", bounds.append)
    embedder = Embedder("regard-s", engine="torch", device="cpu")
    found = explanation.Models().of(embedder.describe(), 1000)
    assert bounds == [1000 + 8 * (model_folder(Path("regard-s")) / WEIGHTS).stat().st_size]
    picture = np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8)
    told = explanation.explanation(found, picture, picture[:, ::-1].copy())
    assert told["levels"]
    assert told["similarity"] > 0.5
