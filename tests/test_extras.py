"""What the bare package carries, and that whatever else something needs is named with the line that installs it."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

import regard
from regard.cli.main import main
from regard.data.datasets.cuhk03 import read_pictures
from regard.data.labels.make import load_mask_model, load_pose_model
from regard.data.modern import decode_file
from regard.detection import open_detector
from regard.engine.log import TrainingLog
from regard.errors import RegardError, require
from regard.export import open_engine
from regard.recipes import read_recipe
from regard.structures import Ranking

ROOT = Path(__file__).parents[1]
SOURCE = Path(regard.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
BEHIND_A_CHECK = {
    "service/app.py", "service/changes.py", "service/connections.py", "service/health.py",
    "gallery/compaction.py", "gallery/milvus.py",
}  # fmt: skip
"""Files that import packages of an extra when they are loaded, which the code that loads them has asked for."""

MADE_OF = {"h11": "uvicorn", "starlette": "fastapi", "grpc": "pymilvus"}
"""Module -> the one that brings it and is asked for."""

# module, the extra that brings it, what asks for it: a command line, or a call
ASKING = [
    ("fastapi", "serve", ["serve", "EMPTY"]),
    ("uvicorn", "serve", ["serve", "EMPTY"]),
    ("umap", "umap", ["report", "EMPTY", "--map", "umap"]),
    ("sklearn.manifold", "report", ["report", "EMPTY"]),
    ("onnx", "export", ["export", "EMPTY", "--to", "onnx"]),
    ("onnxscript", "export", ["export", "EMPTY", "--to", "onnx"]),
    ("openvino", "export", ["export", "EMPTY", "--to", "openvino"]),
    ("onnxruntime", "export", ["export", "EMPTY", "--to", "onnx", "--int8"]),
    ("onnxruntime", "export", lambda folder: open_engine(folder, "onnxruntime")),
    ("openvino", "export", lambda folder: open_engine(folder, "openvino")),
    ("pymilvus", "milvus", ["search", "a.jpg", "--gallery", "http://localhost:1/x"]),
    ("pymilvus", "milvus", ["gallery", "list", "http://localhost:1/x"]),
    ("h5py", "cuhk03", lambda folder: next(read_pictures(folder / "cuhk-03.mat", "detected"))),
    ("pandas", "pandas", lambda folder: Ranking(np.zeros((1, 1), int), np.zeros((1, 1))).to_pandas()),
    ("torchvision", "labels", lambda folder: load_pose_model("keypointrcnn_resnet50_fpn")),
    ("torchvision", "labels", lambda folder: load_mask_model("deeplabv3_resnet50")),
    ("torchvision", "detect", lambda folder: open_detector(f"fasterrcnn_resnet50_fpn={folder}/a.pth")),
    ("wandb", "wandb", ["train", "baseline_crowd", "train.loggers=[wandb]", "train.accelerator=cpu", "-o", "EMPTY"]),
    ("mlflow", "mlflow", ["train", "baseline_crowd", "train.loggers=[mlflow]", "train.accelerator=cpu", "-o", "EMPTY"]),
    ("pillow_heif", "heic", lambda folder: decode_file(b"\0\0\0\x18ftypheic" + bytes(40), "a.heic")),
    ("transformers", "labels", lambda folder: load_pose_model("somebody/vitpose")),
]


@pytest.mark.parametrize(("package", "extra", "asking"), ASKING, ids=[f"{n}-{row[0]}" for n, row in enumerate(ASKING)])
def test_a_missing_package_is_named_with_its_install_line(package, extra, asking, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    if isinstance(asking, list):
        assert main([str(tmp_path) if word == "EMPTY" else word for word in asking]) == 2
        said = capsys.readouterr().err
        assert said.startswith("regard: ")
        assert said.count("\n") == 1
    else:
        with pytest.raises(RegardError) as raised:
            asking(tmp_path)
        said = str(raised.value)
    assert re.search(rf"needs {re.escape(package)}, which cannot be imported .*; pip install 'regard\[{extra}\]'", said)


def test_without_tensorboard_the_training_says_so_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    runtime: Any = SimpleNamespace(is_main=True)
    with TrainingLog(tmp_path, runtime, read_recipe("baseline_crowd").config(), quiet=True) as log:
        log.evaluation({"epoch": 1, "step": 3, "mAP": 0.5})
    assert "pip install 'regard[tensorboard]'; the training goes on" in capsys.readouterr().err
    assert '"mAP": 0.5' in (tmp_path / "metrics.jsonl").read_text()
    assert not (tmp_path / "tensorboard").exists()


def test_require_gives_the_module():
    assert require("json", "this", "serve") is sys.modules["json"]
    with pytest.raises(RegardError, match=r"that needs no_such_package_here, which cannot be.*\[serve\]', or stop$"):
        require("no_such_package_here", "that", "serve", "stop")


def names(requirements: list[str]) -> set[str]:
    return {Requirement(line).name.lower().replace("_", "-") for line in requirements}


def homes() -> dict[str, set[str]]:
    """Module -> distributions that bring it."""
    absent = {"umap": {"umap-learn"}, "transformers": {"transformers"}, "wandb": {"wandb"}, "mlflow": {"mlflow-skinny"}}
    found = importlib.metadata.packages_distributions()
    return absent | {top: {name.lower().replace("_", "-") for name in all_} for top, all_ in found.items()}


IMPORTS = re.compile(r"^( *)(?:from (\w+)[\w.]* import |import (\w+)[\w.]*(?: as \w+)?$)", re.MULTILINE)


def foreign() -> list[tuple[str, str, bool]]:
    """File, top module and whether it is imported as the file is, of all that is neither ours nor the language's."""
    ours = sys.stdlib_module_names | {"regard"}
    rows = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found = [(whence or plain, not indent) for indent, whence, plain in IMPORTS.findall(text)]
        found += [(name, False) for name in re.findall(r'(?:require|install)\(\s*"(\w+)', text)]
        rows += [(str(path.relative_to(SOURCE)), top, at_once) for top, at_once in found if top not in ours]
    return rows


@pytest.mark.slow
def test_every_import_is_mandatory_or_asked_for():
    mandatory = names(PROJECT["dependencies"])
    table = {row[0].split(".")[0] for row in ASKING} | {"tensorboard"}
    known = homes()
    for file, top, at_once in foreign():
        if known[top] & mandatory:
            continue
        assert MADE_OF.get(top, top) in table, f"{file} imports {top}, which is no dependency and in no row of ASKING"
        assert not at_once or file in BEHIND_A_CHECK, f"{file} imports {top} of an extra at once"


@pytest.mark.slow
def test_every_extra_that_is_named_exists_and_brings_what_it_says():
    known = homes()
    for package, extra, _ in ASKING:
        assert names(EXTRAS[extra]) & known[package.split(".")[0]], f"{extra} does not bring {package}"
    texts = [*SOURCE.rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        found = set(re.findall(r"regard\[([a-z0-9,_-]+)\]", text))
        assert {name for each in found for name in each.split(",")} <= set(EXTRAS), path


BARE = """
import importlib.metadata as metadata, pathlib, pkgutil, re, sys
from packaging.requirements import Requirement

def plain(name): return re.sub("[-_.]+", "-", name).lower()

carried, ahead = set(), [Requirement(line) for line in {dependencies!r}]
while ahead:
    one = ahead.pop()
    if plain(one.name) not in carried and (one.marker is None or one.marker.evaluate({{"extra": ""}})):
        carried.add(plain(one.name))
        try:
            ahead += map(Requirement, metadata.requires(one.name) or ())
        except metadata.PackageNotFoundError:
            pass  # of another platform
homes = metadata.packages_distributions()
refused = {{top for top, names in homes.items() if not carried & set(map(plain, names))}} - {{"regard", "packaging"}}

class Bare:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in refused else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Bare, sys.meta_path)
assert {{"sklearn", "h5py", "fastapi", "tensorboard", "onnx", "pymilvus"}} <= refused, refused
import importlib, regard
from regard.cli.main import main
for module in pkgutil.walk_packages(regard.__path__, "regard."):
    if module.name not in {behind!r} and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
crowd = {folder!r} + "/demo/crowd"
for line in (
    ["demo", "-o", {folder!r} + "/demo", "--train-ids", "16", "--test-ids", "3", "--epochs", "1", "-q"],
    ["eval", {folder!r} + "/demo/run", "-q"],
    ["embed", crowd + "/bounding_box_test", "--model", {folder!r} + "/demo/run", "-o", {folder!r} + "/people", "-q"],
    ["search", "PHOTO", "--gallery", {folder!r} + "/people"],
):
    photo = min(map(str, pathlib.Path(crowd, "query").glob("*.jpg")), default="")
    assert not main([photo if word == "PHOTO" else word for word in line]), line
"""


@pytest.mark.slow
def test_the_bare_package_runs_the_demo_scores_and_fills_a_gallery(tmp_path):
    behind = [f"regard.{file[:-3].replace('/', '.')}" for file in BEHIND_A_CHECK]
    code = BARE.format(dependencies=PROJECT["dependencies"], behind=behind, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "pictures of the demo failed" not in done.stderr
    assert (tmp_path / "demo" / "report.html").stat().st_size > 50_000
    assert (tmp_path / "people").is_dir()
