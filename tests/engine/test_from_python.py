"""Training from Python: the run that the command line leaves, settings as values, faults in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import regard
from regard.cli.main import main
from regard.config import load_config
from regard.errors import ConfigError
from regard.models.saved import weights_digest
from regard.run_folder.folders import read_history
from regard.run_folder.origin import resolve

QUICK = {"height": 48, "width": 32, "ids_per_batch": 4, "images_per_id": 2, "workers": 0, "pad": 2}
CPU = {"epochs": 1, "accelerator": "cpu", "precision": "fp32", "seed": 3}


@pytest.fixture
def given(market) -> dict[str, Any]:
    """Settings as values: sections, a dotted name, and a path."""
    return {
        "data": {"root": market, "name": "market1501", **QUICK}, "train": CPU,
        "model": {"backbone": "test_resnet.r160_in1k"}, "schedule.warmup_epochs": 0,
    }  # fmt: skip


def test_it_is_the_run_of_the_command_line(given, market, tmp_path, capsys):
    run = regard.train("baseline_crowd", folder=tmp_path / "python", quiet=True, **given)
    typed = [f"data.{key}={value}" for key, value in QUICK.items()] + [
        f"train.{key}={value}" for key, value in CPU.items()
    ]
    typed += [f"data.root={market}", "data.name=market1501", "model.backbone=test_resnet.r160_in1k"]
    assert (
        main(["train", "baseline_crowd", *typed, "schedule.warmup_epochs=0", "-q", "-o", str(tmp_path / "typed")]) == 0
    )
    assert (run.folder / "config.yaml").read_bytes() == (tmp_path / "typed" / "config.yaml").read_bytes()
    assert (run.folder / "recipe.json").read_bytes() == (tmp_path / "typed" / "recipe.json").read_bytes()
    assert weights_digest(run.model) == weights_digest(regard.load(tmp_path / "typed"))
    assert os.fspath(run) == str(run.folder)
    assert run.own.train.seed == 3
    assert not run.model.training
    score = [record for record in read_history(run.folder) if record["event"] == "eval"][-1]
    assert run.report().mAP == pytest.approx(score["mAP"], abs=1e-6)
    capsys.readouterr()
    again = regard.train(run.own, folder=run, go_on=True, quiet=True)
    assert capsys.readouterr().out == ""
    torch.testing.assert_close(again.model.state_dict(), run.model.state_dict())
    with pytest.raises(ConfigError, match="holds a run already"):
        regard.train(run.own.to_dict(), folder=run.folder, quiet=True)


def test_faults_are_told_before_anything_is_written(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wanted, call in {
        "there is no|unknown recipe 'nobody'": lambda: regard.train("nobody", **given),
        "cannot read recipe .*own.yaml": lambda: regard.train(tmp_path / "own.yaml", **given),
        "settings have no name to call their run by; give folder=": lambda: regard.train(resolve("baseline").config),
        "epochs: no such key": lambda: regard.train("baseline", epochs=3, **given),
        "train.epochs is given twice": lambda: regard.train("baseline", **given, **{"train.epochs": 3}),
        "losses.centre is null, .* no such term": lambda: regard.train("baseline", **given, losses={"centre": None}),
    }.items():
        with pytest.raises(ConfigError, match=wanted):
            call()
    assert list(Path(tmp_path).iterdir()) == []


def test_a_bare_system_takes_the_recipe_of_the_data_it_is_pointed_at(market, tmp_path):
    texts = resolve("apnet", [f"data.root={market}"])
    assert resolve("apnet", {"data": {"root": market}}) == texts == resolve("apnet", {"data.root": str(market)})
    several = {"data": {"train": ("grid", "prid"), "root": tmp_path}}
    assert resolve("apnet", several) == resolve("apnet", ["data.train=[grid, prid]", f"data.root={tmp_path}"])


def test_names_are_listed():
    assert {"apnet", "baseline", "mudeep"} <= set(regard.list_models())
    assert regard.list_models() == sorted(regard.list_models())
    assert {"market1501", "crowd", "folder"} <= set(regard.list_datasets())
    assert all(load_config({"model": {"name": name}, "losses": {}}).model.name == name for name in regard.list_models())
