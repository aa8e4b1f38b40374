"""A file of one's own: what it registers trains, resumes, is scored, explained, exported and compared by commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regard.cli.main import main
from regard.errors import PluginError
from regard.plugins import load_plugins
from regard.registry import MODELS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "extending.md"
COMMANDS = """
import json, sys
from regard.cli.main import main
for line in json.loads(sys.argv[1]):
    code = main(line)
    assert code == 0, line
"""


def commands(folder: Path, *lines: str, **environment: str) -> str:
    """What commands print that are given one after the other in a process of their own."""
    asked = json.dumps([line.split() for line in lines])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, asked],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def own(tmp_path):
    """A folder with the file and the recipe of the page, and small pictures for them."""
    page = PAGE.read_text(encoding="utf-8")
    for name, kind in (("mine.py", "python"), ("my.yaml", "yaml")):
        (tmp_path / name).write_text(re.findall(rf"```{kind}\n(.*?)```", page, re.S)[0], encoding="utf-8")
    random = np.random.default_rng(0)
    for pid in range(1, 9):
        color = random.uniform(40, 215, 3)
        for camera, shot in ((1, 0), (1, 1), (2, 0), (2, 1)):
            part = "train" if pid < 5 else "query" if shot else "gallery"
            (tmp_path / "crops" / part).mkdir(parents=True, exist_ok=True)
            picture = (color * (0.8 + 0.1 * camera) + random.normal(0, 12, (48, 24, 3))).clip(0, 255)
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "crops" / part / f"{pid}_{camera}_{shot}.jpg")
    return tmp_path


@pytest.mark.slow
def test_a_network_loss_and_data_set_of_ones_own_through_the_commands(own, capsys):
    small = "data.height=48 data.width=32 data.ids_per_batch=4 data.images_per_id=2 data.workers=0 train.precision=fp32"
    more = "data.root=crops train.accelerator=cpu train.epochs=1 schedule.warmup_epochs=0 -o run -q"
    commands(own, f"train my.yaml {small} {more} --plugin mine.py")

    copied, elsewhere = own / "copied", own / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(own / "run" / "final", copied)  # knows the file without the run
    lines = (f"eval {copied} --root ../crops --data crops -q", "train --resume ../run train.epochs=2 -q", "models mine")
    said = commands(elsewhere, *lines)
    assert "epoch 2: mAP" in said
    assert "As baseline_market1501 has it (256 x 128, 751 identities): 14,449 parameters" in said
    assert "channels of the last map, and length of the descriptor." in said

    moved = own / "moved" / "mine.py"
    moved.parent.mkdir()
    (own / "mine.py").rename(moved)
    assert main(["eval", str(own / "run")]) == 2
    told = capsys.readouterr().err
    assert f"needs the plug-in {own}/mine.py, which is not there; say where mine.py is now: --plugin FILE.py" in told
    assert told.count("\n") == 1

    picture, other = "../crops/query/5_1_1.jpg", "../crops/gallery/5_2_0.jpg"
    commands(
        elsewhere,
        "eval ../run --json eval.json -q",
        f"explain attention ../run {picture} -o attention",
        f"explain cam ../run {picture} -o cam",
        f"explain features ../run {picture} -o features",
        f"explain pair ../run {picture} {other} --heads -o pair",
        "export ../run --to onnx -o mine.onnx",
        "compare ../run ../copied --root ../crops --data crops --json compare.json -q",
        REGARD_PLUGINS=str(moved),
    )
    found = {name: json.loads((elsewhere / name).read_text()) for name in ("eval.json", "compare.json")}
    assert json.dumps(found["eval.json"]).count("mAP") > 0
    assert {"run", "copied"} <= set(re.findall(r"\w+", json.dumps(found["compare.json"])))
    gate = json.loads((elsewhere / "attention/attention.json").read_text())["pictures"]["5_1_1"]["gate"]
    assert (gate["over"], gate["shape"]) == ("positions", [12, 8])
    assert json.loads((elsewhere / "cam/cam.json").read_text())["heads"].keys() == {"global"}
    maps = json.loads((elsewhere / "features/features.json").read_text())["maps"]
    assert [(one["layer"], one["shape"][0]) for one in maps] == [("stem", 16), ("body", 32), ("gate", 32)]
    assert json.loads((elsewhere / "pair/pair.json").read_text())["similarity"].keys() == {"global"}
    assert (elsewhere / "mine.onnx").stat().st_size > 4 * 14_449


def test_a_file_that_fails_is_told_with_its_line(tmp_path, capsys):
    path = tmp_path / "mine.py"
    for text, said in (
        ("import nothing_here", "ModuleNotFoundError: No module named 'nothing_here'"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("@MODELS.register('apnet')\nclass A: ...", "model 'apnet' is registered twice, by regard.models.apnet and by"),
        ("raise OSError('a\\nb')", "OSError: a b"),
    ):
        path.write_text(f"from regard.registry import MODELS\n{text}\n")
        assert main(["recipes", "--plugin", str(path)]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"regard: plug-in {path} cannot be loaded: line 2: {said}")
        assert told.count("\n") == 1
    assert MODELS.plugin_of("apnet") is None


def test_a_plugin_that_is_none(tmp_path, monkeypatch):
    for text, said in (
        ("", "a plug-in without a name, wanted FILE.py, or a module that Python finds"),
        (str(tmp_path / "no.py"), "no.py is not there; wanted FILE.py, or a module that Python finds"),
        ("no_such_module", "plug-in no_such_module cannot be loaded: ModuleNotFoundError"),
    ):
        with pytest.raises(PluginError, match=said):
            load_plugins([text])
    with pytest.raises(PluginError, match=r"/a/me@home/mine.py, which is not there"):  # a folder's name, no module's
        load_plugins(["/a/me@home/mine.py"], wanted_by="runs/a")
    with pytest.raises(PluginError, match=r"runs/a needs the plug-in gone@/a/gone.py, which cannot be loaded: .*; say"):
        load_plugins(["gone@/a/gone.py"], wanted_by="runs/a")
    monkeypatch.setenv("REGARD_PLUGINS", os.pathsep.join(["", "no_such_module"]))
    with pytest.raises(PluginError, match="plug-in no_such_module cannot"):
        load_plugins()
