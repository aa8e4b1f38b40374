"""Whatever fails behind the last step, or between two steps: the weights are there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from regard.config import Config
from regard.engine.log import TrainingLog
from regard.engine.run import resume_run, start_run
from regard.errors import DataError, StorageError
from regard.models import ReIDModel
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history
from regard.run_folder.saved_state import read_saved
from warm import python

KILLS = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"


def configure(market: Path, *more: str) -> Config:
    overrides = [
        f"data.root={market}", "data.name=market1501", "data.height=48", "data.width=32", "data.ids_per_batch=4",
        "data.images_per_id=2", "data.workers=0", "model.backbone=test_resnet.r160_in1k", "train.epochs=2",
        "train.accelerator=cpu", "train.precision=fp32", "train.eval_every=1", "train.ema=0.9", *more,
    ]  # fmt: skip
    return read_recipe("baseline_crowd").config(overrides)


def final_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "final" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, market) -> Path:
    """A run in which nothing failed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    start_run(configure(market), folder, quiet=True)
    return folder


def failing(error: Exception, only: Any = lambda *_: True, otherwise: Any = None) -> Any:
    def fail(*arguments: Any, **options: Any) -> Any:
        if only(*arguments):
            raise error
        return otherwise(*arguments, **options)

    return fail


save_model = ReIDModel.save
FULL = OSError(28, "No space left on device")
STAGES = {
    "a picture of the query": ("regard.engine.train.embed_run", failing(DataError("cannot read q.jpg")), True),
    "memory": ("regard.engine.train.embed_run", failing(RuntimeError("out of\nmemory")), True),
    "the scores": ("regard.engine.train.score_features", failing(DataError("no query has a match")), True),
    "best/": (
        "regard.models.ReIDModel.save",
        failing(FULL, lambda _, folder: folder.name == "best", save_model),
        True,
    ),
    "the log of the scores": ("regard.engine.log.TrainingLog.evaluation", failing(FULL), True),
    "TensorBoard": (
        "torch.utils.tensorboard.writer.SummaryWriter.add_scalar",
        failing(RuntimeError("its thread has died")),
        False,
    ),
}


def check_same_weights(folder: Path, whole: Path) -> None:
    found, wanted = final_of(folder), final_of(whole)
    assert all(torch.equal(found[name], wanted[name]) for name in found | wanted)
    assert read_saved(folder).progress.epoch == 2


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_behind_the_training_that_fails_is_a_warning(stage, whole, market, tmp_path, monkeypatch, capsys):
    target, fail, scored = STAGES[stage]
    monkeypatch.setattr(target, fail)
    start_run(configure(market), tmp_path / "run", quiet=True)
    check_same_weights(tmp_path / "run", whole)
    lines = capsys.readouterr().err.splitlines()
    if scored:
        assert [line.partition("failed: ")[0] for line in lines] == [
            f"regard: the evaluation after epoch {epoch} " for epoch in (1, 2)
        ]
        assert "; the training goes on" in lines[0]
        assert f"the trained weights are safe in {tmp_path / 'run' / 'final'}" in lines[1]
        assert f"repeat it with: regard eval {tmp_path / 'run'}" in lines[1]
        monkeypatch.undo()
        resume_run(tmp_path / "run", quiet=True)
        records = [record for record in read_history(tmp_path / "run") if record["event"] == "eval"]
        assert records[-1] == read_history(whole)[-1]
        assert (tmp_path / "run" / "best" / "model.safetensors").is_file()
    else:
        assert len(lines) == 1
        assert "could not write tensorboard/ (RuntimeError: its thread has died); the training goes on" in lines[0]


class Refusing:
    """A file on a full disk."""

    def write(self, _: str) -> int:
        raise FULL

    def close(self) -> None:
        raise FULL


def test_a_log_that_cannot_be_written_is_told_of_once(whole, market, tmp_path, monkeypatch, capsys):
    begin = TrainingLog.__init__

    def refuse(log: TrainingLog, *arguments: Any, **more: Any) -> None:
        begin(log, *arguments, **more)
        assert log._file
        log._file.close()
        monkeypatch.setattr(log, "_file", Refusing())

    monkeypatch.setattr(TrainingLog, "__init__", refuse)
    start_run(configure(market), tmp_path / "run", quiet=True)
    check_same_weights(tmp_path / "run", whole)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "could not write metrics.jsonl (No space left on device); the training goes on" in said


def test_nobody_reads_what_is_printed_any_more(whole, market, tmp_path, monkeypatch):
    monkeypatch.setattr("tqdm.tqdm.write", failing(BrokenPipeError(32, "Broken pipe")))
    start_run(configure(market), tmp_path / "run")
    check_same_weights(tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("target", "only"),
    [
        ("regard.engine.train.save_state", lambda state: state.progress.epoch == 2),
        ("regard.models.ReIDModel.save", lambda _, folder: folder.name == "final"),
    ],
    ids=["state", "final"],
)
def test_of_state_and_final_weights_one_that_fails_leaves_the_other(target, only, whole, market, tmp_path, monkeypatch):
    """The disk is full; with room, --resume makes up for what is missing."""
    module, _, name = target.rpartition(".")
    owner = ReIDModel if name == "save" else sys.modules[module]
    monkeypatch.setattr(target, failing(StorageError("the disk is full"), only, getattr(owner, name)))
    with pytest.raises(StorageError, match="the disk is full"):
        start_run(configure(market), tmp_path / "run", quiet=True)
    found = read_saved(tmp_path / "run").progress
    assert (found.epoch == 2) == (name == "save")
    assert (tmp_path / "run" / "final").exists() == (name != "save")
    monkeypatch.undo()
    resume_run(tmp_path / "run", quiet=True)
    check_same_weights(tmp_path / "run", whole)
    assert read_history(tmp_path / "run")[-1] == read_history(whole)[-1]


def test_a_picture_that_cannot_be_read_in_the_middle_loses_no_step(whole, market, tmp_path, monkeypatch):
    from regard.data import loaders

    read, asked = loaders.read_image, []

    def damaged(path: Path, *rest: Any) -> Any:
        asked.append(path)
        if len(asked) > 48:
            raise DataError(f"cannot read {path}")
        return read(path, *rest)

    monkeypatch.setattr(loaders, "read_image", damaged)
    with pytest.raises(DataError, match=r"cannot read .*; the state after step (\d) is saved, go on with: .*--resume"):
        start_run(configure(market, "train.eval_every=null"), tmp_path / "run", quiet=True)
    done = read_saved(tmp_path / "run").progress
    assert (done.epoch, done.batch, done.step) == (1, 2, 6)
    monkeypatch.undo()
    resume_run(tmp_path / "run", quiet=True)
    check_same_weights(tmp_path / "run", whole)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the loader's processes in /proc")
@pytest.mark.parametrize("whom", ["a loader's process", "all"])
def test_a_lost_loader_and_a_signal_to_all_lose_no_step(market, tmp_path, whom):
    folder = tmp_path / "a run"
    config = tmp_path / "long.yaml"
    config.write_text(configure(market, "train.epochs=400", "train.eval_every=null", "train.log_every=1").to_yaml())
    process = subprocess.Popen(
        [sys.executable, "-m", "regard", "train", str(config), "data.workers=2", "-q", "-o", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while len(read_history(folder)) < 7 and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    if whom == "all":
        os.killpg(process.pid, signal.SIGTERM)
    else:
        loaders = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(loaders[0]), signal.SIGKILL)
    _, error = process.communicate(timeout=120)
    line = [line for line in error.splitlines() if line.startswith("regard: ")]
    assert "Traceback" not in error
    assert len(line) == 1
    assert f"go on with: regard train --resume '{folder}'" in line[0]
    assert process.returncode == (130 if whom == "all" else 2)
    assert ("was ended from outside" in line[0]) == (whom != "all")
    done = read_saved(folder).progress
    assert done.step == read_history(folder)[-1]["step"] >= 7
    assert f"step {done.step}" in line[0]


def test_killed_at_random_it_comes_to_the_same_numbers():
    """Six rounds of those that benchmarks/kills.py plays, with one thread: losses, scores, weights are equal bits."""
    result = subprocess.run(
        [python(), str(KILLS), "--rounds", "6", "--seed", "5"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(": equal (") == 6


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("[1]", "it is list"),
        ('{"event": "eval"}', "it has no mAP, rank1, step"),
        ('{"event": "step", "step": "x"}', "step is 'x'"),
        ('{"event": "step", "step": -1, "epoch": 1}', "step is -1"),
        ('{"event": "step", "step": 1e400, "epoch": 1}', "step is inf"),
        ('{"event": "eval", "step": 1, "epoch": 1, "mAP": null, "rank1": 0.5}', "mAP is None"),
        ('{"event": 3, "step": 1, "epoch": 1}', "event is 3"),
        (
            '{"event": "eval", "step": 1, "epoch": 1, "mAP": 1, "rank1": 1, "precision": "fp32"}\n{"step": 2}',
            "it has no event",
        ),
    ],
)
def test_a_line_of_metrics_that_is_no_record_is_named(line, wanted, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"event": "step", "step": 1, "epoch": 1, "loss": 2.5}\n' + line + "\n")
    with pytest.raises(
        DataError, match=re.escape(f"line {2 + line.count(chr(10))} of {tmp_path}/metrics.jsonl is no record ({wanted}")
    ):
        read_history(tmp_path)
