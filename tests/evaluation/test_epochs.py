"""Networks kept epoch by epoch: what is written, that it can be resumed, their scores as one table and one curve."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import regard
from regard.cli.main import main
from regard.config import TrainConfig, load_config
from regard.engine.checks import epochs_to_keep
from regard.engine.run import resume_run, start_run
from regard.engine.train import Interrupted
from regard.errors import CheckpointError, ConfigError, StorageError
from regard.evaluation.epochs import find_checkpoints, score_epochs
from regard.evaluation.evaluate import evaluate_on
from regard.evaluation.run import open_run
from regard.places import run_home
from regard.recipes import read_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory, market) -> Path:
    """Five epochs, every second of them kept."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    overrides = [
        f"data.root={market}", "data.name=market1501", "data.height=48", "data.width=32", "data.ids_per_batch=4",
        "data.images_per_id=2", "data.workers=0", "model.backbone=test_resnet.r160_in1k", "train.epochs=5",
        "train.eval_every=null", "train.accelerator=cpu", "train.precision=fp32", "schedule.warmup_epochs=0",
        "schedule.name=constant", "train.ema=0.5", "train.keep_every=2",
    ]  # fmt: skip
    start_run(read_recipe("baseline_crowd").config(overrides), folder, quiet=True)
    return folder


@pytest.fixture
def copied(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / "run")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "epochs").iterdir())


def test_which_epochs_are_kept():
    def kept(every: int | None, *span: int) -> list[int]:
        return list(epochs_to_keep(TrainConfig(epochs=10, keep_every=every), *span))

    assert kept(None, 0) == []
    assert kept(3, 0) == [3, 6, 9]
    assert kept(3, 3) == [6, 9]
    assert kept(3, 5, 6) == [6]
    assert kept(3, 6, 7) == kept(3, -1, 0) == []
    assert kept(1, 8) == [9, 10]


def test_every_second_network_is_there_and_the_average_at_its_end(run, market, tmp_path):
    """The kept ones are those of a run that ended there: its final network."""
    assert names(run) == ["0002", "0004"]
    config = load_config((run / "config.yaml").read_text(), ["train.epochs=4", "train.keep_every=null"])
    start_run(config, tmp_path / "shorter", quiet=True)
    images = torch.rand(2, 3, 48, 32)
    kept = regard.load(run / "epochs" / "0004")
    assert torch.equal(kept.embed(images), regard.load(tmp_path / "shorter").embed(images))
    assert not torch.equal(kept.embed(images), regard.load(run).embed(images))
    assert not (tmp_path / "shorter" / "epochs").exists()
    assert run_home(run / "epochs" / "0004") == run


def test_an_interrupted_run_keeps_what_an_uninterrupted_one_does(run, tmp_path, monkeypatch, capsys):
    """Ended right after an epoch's network and before its state, the network is written again."""
    config = load_config((run / "config.yaml").read_text())
    folder, save = tmp_path / "run", regard.engine.train.save_state

    def killed(state: Any) -> None:
        if state.progress.epoch == 4:
            raise Interrupted("here")
        save(state)

    monkeypatch.setattr("regard.engine.train.save_state", killed)
    with pytest.raises(Interrupted):
        start_run(config, folder)
    monkeypatch.undo()
    said = capsys.readouterr().out
    assert "keeping every network of train.keep_every=2 in " in said
    assert "2 models to come, 1.5 MB each, 3 MB in all" in said
    resume_run(folder, quiet=True)
    assert names(folder) == names(run)
    for name in ("epochs/0002", "epochs/0004", "final"):
        one, two = (regard.load(place / name).state_dict() for place in (run, folder))
        assert all(torch.equal(one[key], two[key]) for key in one), name


def test_keeping_begins_and_ends_where_it_is_asked_for(copied, capsys):
    settings = copied / "config.yaml"
    ended = settings.read_text()
    settings.write_text(ended.replace("epochs: 5", "epochs: 8"))  # as a run that goes on has it: its final is of before
    assert [each.epoch for each in find_checkpoints(copied)] == [2, 4]
    settings.write_text(ended)
    assert [each.epoch for each in find_checkpoints(copied)] == [2, 4, 5]
    shutil.rmtree(copied / "epochs")
    resume_run(copied, ["train.epochs=8", "train.keep_every=5"], quiet=True)
    assert names(copied) == ["0005"]  # it had just ended with epoch 5
    resume_run(copied, ["train.epochs=10", "train.keep_every=null"], quiet=True)
    resume_run(copied, ["train.epochs=12", "train.keep_every=4"], quiet=True)
    assert names(copied) == ["0005", "0012"]


def test_too_little_room_for_all_of_them_is_refused_before_the_first_step(run, tmp_path, monkeypatch):
    config = load_config((run / "config.yaml").read_text(), ["train.keep_every=1", "train.epochs=100"])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000_000))
    with pytest.raises(StorageError, match="three training states and 102 models at most"):
        start_run(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "epochs").exists()


def test_all_epochs_are_scored_into_one_table_and_one_curve(copied, market, capsys, monkeypatch, tmp_path):
    json_file = tmp_path / "all.json"
    asked = ["eval", str(copied), "--all-epochs", "--data", "market1501", f"market1501={tmp_path / 'again'}", "--json"]
    again = shutil.copytree(market, tmp_path / "again" / "market1501")
    next(iter(sorted((again / "query").iterdir()))).unlink()
    assert main([*asked, str(json_file)]) == 0
    out = capsys.readouterr().out
    content = json.loads(json_file.read_text())
    assert len(content) == 2
    for label, found in content.items():
        assert f"\n{label}\n" in f"\n{out}"
        assert [row["epoch"] for row in found["epochs"]] == [2, 4, 5]
        assert [row["model"] for row in found["epochs"]] == ["0002", "0004", "final"]
    first = next(iter(content.values()))["epochs"]
    for row, place in zip(first, ("epochs/0002", "epochs/0004", "final"), strict=True):
        report = open_run(copied / place, quiet=True).report()
        assert (row["mAP"], row["options"]) == (report.mAP, report.options)
        assert row["cmc"] == report.cmc.tolist()
        figures = [f"{100 * value:.2f}" for value in report.figures().values()]
        assert [str(row["epoch"]), *figures] in [line.split() for line in out.splitlines()]
    assert (copied / "epochs" / "scores.txt").read_text() in out
    with Image.open(copied / "epochs" / "scores.png") as picture:
        assert picture.width > 900
    before = (copied / "epochs" / "scores.txt").read_bytes()
    monkeypatch.setattr("regard.evaluation.run.load", lambda _: pytest.fail("scored before"))
    assert main([*asked, str(json_file), "-q"]) == 0
    assert (copied / "epochs" / "scores.txt").read_bytes() == before


def test_ended_on_the_way_it_goes_on_and_other_questions_are_asked_anew(copied, monkeypatch):
    loaded, load = [], regard.load

    def some(folder: Path) -> Any:
        loaded.append(folder.name)
        if len(loaded) == 2:
            raise CheckpointError("ended here")
        return load(folder)

    monkeypatch.setattr("regard.evaluation.run.load", some)
    with pytest.raises(CheckpointError, match="ended here"):
        score_epochs(copied, quiet=True)
    found = score_epochs(copied, quiet=True)[0]
    assert loaded == ["0002", "0004", "0004", "final"]
    assert [epoch for epoch, _ in found.figures()] == [2, 4, 5]
    other = score_epochs(copied, changes={"flip": False}, quiet=True)[0]
    assert len(loaded) == 7
    assert all(row["options"]["mirrored"] == "no" for row in other.rows)
    assert score_epochs(copied, quiet=True)[0].rows == found.rows
    scores = copied / "epochs" / "scores.json"
    scores.write_text(scores.read_text().replace('"mAP": ', '"mAP": 0.0'))
    assert len(loaded) == 7
    assert score_epochs(copied, quiet=True)[0].rows == found.rows  # a table that was changed is not believed
    assert len(loaded) == 10
    model = regard.load(copied / "epochs" / "0002")
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    model.save(copied / "epochs" / "0002")
    assert len(score_epochs(copied, quiet=True)[0].rows) == 3
    assert loaded[10:] == ["0002"]


def test_a_folder_of_models_is_scored_by_the_numbers_of_their_names(run, market, tmp_path, capsys):
    """As MuDeep tests a folder of its checkpoints: here without a run, so the data have to be said."""
    for number, epoch in ((10, "0002"), (9, "0004")):
        shutil.copytree(run / "epochs" / epoch, tmp_path / f"market_{number}")
    assert [each.epoch for each in find_checkpoints(tmp_path)] == [9, 10]
    with pytest.raises(ConfigError, match="a model without a run, so it names no data set; say --root FOLDER"):
        score_epochs(tmp_path, quiet=True)
    found = score_epochs(tmp_path, root=market, quiet=True)[0]
    wanted = evaluate_on(tmp_path / "market_9", root=market, quiet=True)[0].report
    assert found.figures()[0] == (9, wanted.figures())
    assert np.isfinite([row["mAP"] for row in found.rows]).all()


def test_what_is_not_to_be_scored_is_said_in_one_line(run, copied, tmp_path, capsys):
    with pytest.raises(CheckpointError, match="holds no model folders"):
        find_checkpoints(tmp_path)
    shutil.copytree(run / "epochs" / "0002", tmp_path / "a" / "first")
    with pytest.raises(CheckpointError, match="does not say which epoch it is of"):
        find_checkpoints(tmp_path / "a")
    for name in ("x_02", "y_2"):
        shutil.copytree(run / "epochs" / "0002", tmp_path / "b" / name)
    with pytest.raises(CheckpointError, match="are both of epoch 2; keep one of them"):
        find_checkpoints(tmp_path / "b")
    shutil.rmtree(copied / "epochs")
    assert main(["eval", str(copied), "--all-epochs"]) == 2
    assert "has kept the networks of no epochs; train with train.keep_every=N" in capsys.readouterr().err
    assert main(["eval", str(run), "--all-epochs", "--corruptions"]) == 2
    assert "--corruptions does not go with --all-epochs" in capsys.readouterr().err
