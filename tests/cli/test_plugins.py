"""A file of one's own: what it registers trains, resumes, is scored, explained, exported and compared by commands."""

from __future__ import annotations

import json
import os
import re
import shlex
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
from warm import python

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "extending.md"
SMALL = "data.height=48 data.width=32 data.ids_per_batch=4 data.images_per_id=2 data.workers=0 train.precision=fp32"
TINY = ("model.backbone=test_resnet.r160_in1k", "model.pretrained=false")
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
        [python(), "-c", COMMANDS, asked],
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
    more = "data.root=crops train.accelerator=cpu train.epochs=1 schedule.warmup_epochs=0 -o run -q"
    commands(own, f"train my.yaml {SMALL} {more} --plugin mine.py")

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


EACH = """
import json, os, sys, traceback
import regard.cli.explain_verb, regard.engine.run, regard.evaluation.run
from regard.cli.main import main
for line in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        code = 1
        try:
            code = main(line)
        except Exception:
            traceback.print_exc()
        print(f"ends with {code}", flush=True)
        os._exit(code)
    os.waitpid(child, 0)
"""
"""Every command in a process of its own, which knows nothing of the others; what they import is imported once."""


def each(folder: Path, asked: list[list[str]], site: Path | None = None) -> list[tuple[int, str]]:
    """Exit code of commands, each in a process of its own, and what they say; ``site`` holds further packages."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if site:
        environment["PYTHONPATH"] = f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    program = [python(), "-c", EACH, json.dumps(asked)]
    done = subprocess.run(
        program, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    texts = re.split(r"^ends with (\d+)\n", done.stdout, flags=re.M)
    assert len(texts) == 2 * len(asked) + 1, done.stdout
    return [(int(code), text) for text, code in zip(texts[::2], texts[1::2])]


def each_works(folder: Path, asked: list[list[str]], site: Path | None = None) -> list[str]:
    """What commands say that end well."""
    ended = each(folder, asked, site)
    for line, (code, text) in zip(asked, ended):
        assert code == 0, f"{line}: {text}"
    return [text for _, text in ended]


ADDED = {
    "a-model": (), "an-attention-block": (), "a-loss": TINY, "a-data-set": TINY, "a-backbone": (), "a-recipe": TINY,
    "a-gallery-engine": (),
}  # fmt: skip
"""Page -> what makes its training small, besides what makes every one."""


def saved_and_asked(name: str, folder: Path) -> list[list[str]]:
    """Save the files that a page says to save; the commands that it gives."""
    text = (PAGE.parent / f"{name}.md").read_text(encoding="utf-8")
    for file, code in re.findall(r"`([\w/-]+\.(?:py|yaml|toml))`[^`]*:\n\n```\w+\n(.*?)```", text, re.S):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(code, encoding="utf-8")
    asked = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    return [shlex.split(line, comments=True)[1:] for block in asked for line in block.splitlines()]


@pytest.mark.slow
def test_every_page_that_adds_something_can_be_followed(tmp_path, write_market):
    market = write_market(tmp_path / "data" / "market1501")
    shutil.copy(next((market / "query").iterdir()), tmp_path / "photo.jpg")
    site = tmp_path / "data" / "site" / "pictures"
    site.mkdir(parents=True)
    for path in (*(market / "bounding_box_train").iterdir(), *(market / "query").iterdir()):
        person, camera, number = re.findall(r"^(\d+)_c(\d)s1_(\d+)", path.name)[0]
        shutil.copy(path, site / f"{camera}-{int(person)}-{number}.jpg")
    (site.parent / "test_people.txt").write_text("7 8 9 10\n")
    small = f"{SMALL} train.accelerator=cpu train.epochs=1 schedule.warmup_epochs=0 eval.batch_size=16 -q".split()
    asked = []
    for name, tiny in ADDED.items():
        lines = saved_and_asked(f"add-{name}", tmp_path)
        assert len(lines) > 1, name
        more = {"train": [*tiny, *small], "embed": ["--engine", "torch"]}
        asked += [[*line, *more.get(line[0], [])] for line in lines]
    said = each_works(tmp_path, asked)
    made = {path.name for path in (tmp_path / "runs").iterdir()}
    trained = {"halves", "gated_market1501", "baseline_market1501", "baseline_site", "apnet_market1501"}
    assert made == trained | {"baseline_small"}
    assert "wrote sqlite://people.db; 8 embedded" in said[-3]
    assert len(re.findall(r"^ *\d", said[-2], re.M)) >= 8
    assert json.loads((tmp_path / "runs/apnet_market1501/final/config.json").read_text())["plugin"].endswith(
        "narrow.py"
    )
    gates = json.loads((tmp_path / "looks" / "attention.json").read_text())["pictures"]["photo"]
    assert [gate["over"] for gate in gates.values()] == ["positions", "positions"]
    losses = (tmp_path / "runs" / "baseline_market1501" / "metrics.jsonl").read_text()
    assert '"loss/apart"' in losses


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


def install(site: Path, name: str, version: str, entry: str, code: str) -> None:
    """A package as an installer leaves it: a module, and what is known of it with its entry point."""
    about = site / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[regard.plugins]\n{entry}\n")
    (site / f"{entry.partition('= ')[2].partition(':')[0]}.py").write_text(code)


LAYER = "from torch import nn\nfrom regard.registry import LOSSES\n"
ONE = LAYER + "@LOSSES.register('mean')\nclass Mean(nn.Module):\n    'One.'\n"


@pytest.mark.slow
def test_an_installed_package_is_found_without_being_named(tmp_path, write_market):
    write_market(tmp_path / "data" / "market1501")
    asked = saved_and_asked("package-a-plugin", tmp_path)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), "./regard-tiny"], cwd=tmp_path, check=True, capture_output=True)
    install(site, "broken-one", "1.0", "broken = broken", "import nothing_here")
    small = f"{SMALL} train.accelerator=cpu train.epochs=1 schedule.warmup_epochs=0 eval.batch_size=16 -q".split()
    asked = [[*line, *small] if line[0] == "train" else line for line in asked]
    asked += [["recipes", "tiny_market1501"], ["models", "tiny", "--plugin", "tiny"]]
    shown, trained, scored, recipe, again = each_works(tmp_path, asked, site)
    assert "length of the descriptor." in shown
    assert shown.count("plug-in broken of the package broken-one 1.0 cannot be loaded") == 1
    assert shown.replace(shown.splitlines(keepends=True)[0], "") == again
    assert "broken" in trained
    assert "broken" not in scored  # the run names what it needs, and nothing else is looked at
    assert "# One convolution, on Market-1501." in recipe
    run = tmp_path / "runs" / "tiny_market1501"
    assert "- tiny@regard-tiny==0.3" in (run / "config.yaml").read_text()
    assert json.loads((run / "final" / "config.json").read_text())["plugin"] == "tiny@regard-tiny==0.3"
    shutil.rmtree(next(site.glob("regard_tiny-*.dist-info")))
    code, text = each(tmp_path, [["eval", "runs/tiny_market1501"]], site)[0]
    assert code == 2
    assert text.endswith(
        "config.yaml needs the plug-in tiny of the package regard-tiny 0.3, which is not installed; "
        "pip install 'regard-tiny==0.3'\n"
    )


@pytest.mark.slow
def test_a_package_that_is_broken_or_takes_a_name_harms_nobody_else(tmp_path):
    site = tmp_path / "site"
    install(site, "broken-one", "1.0", "broken = broken", f"{ONE.replace('mean', 'half')}\nraise OSError('a\\nb')")
    install(site, "twin-one", "1.0", "twin = twin_one:register", "def register():\n " + ONE.replace("\n", "\n "))
    install(site, "twin-two", "2.0", "twin = twin_two", ONE)
    show = ["train", "baseline_market1501", "--show"]
    half, mean = (f"losses.mine={{loss: {name}, on: features.global}}" for name in ("half", "mean"))
    two = "twin@twin-two==2.0"
    ended = each(
        tmp_path,
        [
            show, [*show, half], [*show, mean], [*show, "--plugin", "twin"], [*show, mean, "--plugin", two],
            [*show, mean, "--plugin", "twin@Twin_two==1.9"], [*show, "--plugin", "twin@three==1"],
        ],
        site,
    )  # fmt: skip
    assert [code for code, _ in ended] == [0, 2, 2, 2, 0, 0, 2]
    plain, unknown, contested, several, named, other, missing = (text for _, text in ended)
    assert "plug-in" not in plain
    first, second, last = unknown.splitlines()
    gone = "nothing of it is known until it is mended"
    assert first == f"regard: plug-in broken of the package broken-one 1.0 cannot be loaded: OSError: a b; {gone}"
    assert second.startswith(
        "regard: plug-in twin of the package twin-two 2.0 cannot be loaded: loss 'mean' is registered"
    )
    assert "unknown loss 'half'" in last
    ways = "--plugin 'twin@twin-one==1.0' or --plugin 'twin@twin-two==2.0'"
    assert contested.splitlines()[-1].endswith(f"; name one: {ways}")
    assert several == f"regard: plug-in twin is in several packages; say which: {ways}\n"
    assert f"- {two}" in named
    assert "cannot" not in named
    assert f"- {two}" in other
    assert "made with Twin_two 1.9; going on with the one installed, twin of the package twin-two 2.0" in other
    assert missing.endswith("three 1, which is not installed; pip install 'three==1'\n")
