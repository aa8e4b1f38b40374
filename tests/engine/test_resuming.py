"""What a run that goes on may and may not differ in: its pictures, its settings, the folder it stands in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from regard.cli.main import main
from regard.config import Config, load_config
from regard.engine.checks import check_evaluation
from regard.engine.run import resume_run, start_run
from regard.errors import CheckpointError, ConfigError, DataError
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history
from regard.run_folder.opened_data import open_data
from regard.run_folder.saved_state import read_saved, write_saved


def configure(market: Path, *more: str) -> Config:
    overrides = [
        f"data.root={market}", "data.name=market1501", "data.height=48", "data.width=32", "data.ids_per_batch=4",
        "data.images_per_id=2", "data.workers=0", "model.backbone=test_resnet.r160_in1k", "train.epochs=2",
        "train.accelerator=cpu", "train.precision=fp32", "train.eval_every=null", "schedule.name=constant",
        "schedule.warmup_epochs=1", *more,
    ]  # fmt: skip
    return read_recipe("baseline_crowd").config(overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory, market) -> Path:
    folder = tmp_path_factory.mktemp("resuming") / "run"
    start_run(configure(market), folder, quiet=True)
    return folder


@pytest.fixture
def folder(run, tmp_path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def moved(market, tmp_path) -> Path:
    shutil.copytree(market, tmp_path / "elsewhere" / "data")
    return tmp_path / "elsewhere" / "data"


def pictures(root: Path) -> list[Path]:
    return sorted((root / "bounding_box_train").iterdir())


def swap(root: Path) -> None:
    one, other = pictures(root)[0], pictures(root)[-1]
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)


def rename(root: Path) -> None:
    """Give the last person's pictures to the first."""
    for path in pictures(root)[-6:]:
        path.rename(path.with_name(path.name.replace("0006_", "0001_").replace("s1_", "s2_")))


def mislabel(root: Path) -> None:
    """Give one picture of a person to another."""
    path = pictures(root)[-1]
    path.rename(path.with_name(path.name.replace("0006_", "0001_").replace("s1_", "s2_")))


LISTS = [
    (
        swap,
        r"of 36 pictures, 2 are not what they were; .*0001_c1s1_000100_00.jpg",
    ),
    (lambda root: pictures(root)[3].write_bytes(pictures(root)[4].read_bytes()), r"of 36 .*differs is .*0001_c2s1"),
    (lambda root: pictures(root)[5].unlink(), r"35 pictures where it was 36; the first that differs is .*0002_c1s1"),
    (lambda root: pictures(root)[-1].unlink(), r"35 pictures where it was 36 \("),
    (rename, r"of 36 pictures, \d+ are not what they were"),
    (mislabel, r"of 36 pictures, \d+ are not what they were; the first that differs is .*0001_c2s2"),
]


@pytest.mark.parametrize(
    ("change", "wanted"), LISTS, ids=["swapped", "other-bytes", "fewer", "last-gone", "renamed", "mislabeled"]
)
def test_another_training_list_is_refused_with_what_differs(folder, moved, change, wanted):
    change(moved)
    before = (folder / "last.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=wanted) as caught:
        resume_run(folder, [f"data.root={moved}"], quiet=True)
    assert "\n" not in str(caught.value)
    assert (folder / "last.safetensors").read_bytes() == before
    assert str(moved) not in (folder / "config.yaml").read_text()


def test_data_elsewhere_and_more_epochs_give_the_run_that_was_never_cut(run, folder, market, moved, tmp_path):
    """Three epochs at once, or two, and one more on moved data, read otherwise: the same bits, with one thread."""
    start_run(configure(market, "train.epochs=3"), tmp_path / "whole", quiet=True)
    line = ["train", "--resume", str(folder), f"data.root={moved.parent / 'data'}", "data.workers=1", "data.cache=disk"]
    line += [f"data.cache_folder={tmp_path / 'cache'}", "train.epochs=3", "train.log_every=3", "train.save_every=2"]
    assert main([*line, "eval.batch_size=5", "train.checkpointing=true", "-q"]) == 0
    whole, parts = (load_file(place / "final" / "model.safetensors") for place in (tmp_path / "whole", folder))
    assert all(torch.equal(whole[name], parts[name]) for name in whole | parts)
    steps = [
        [(r["step"], r["lr"], r["loss"]) for r in read_history(place) if r["event"] == "step"]
        for place in (tmp_path / "whole", folder)
    ]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 12
    config = load_config((folder / "config.yaml").read_text())
    assert config == read_saved(folder).config
    assert (config.data.root, config.train.epochs, config.data.workers) == (moved, 3, 1)


def test_training_on_several_moved_and_started_again_with_go_on(market, moved, tmp_path):
    """The folders in data.train have changed, and so have data.root and the loader."""
    there = configure(market, f"data.train=[market1501={market}]", "train.epochs=1", "data.name=null")
    start_run(there, tmp_path / "run", quiet=True)
    here = load_config(
        there.to_dict(), [f"data.train=[market1501={moved}]", f"data.root={moved}", "data.workers=1", "train.epochs=2"]
    )
    start_run(here, tmp_path / "run", quiet=True, go_on=True)
    assert read_saved(tmp_path / "run").config == here
    assert read_saved(tmp_path / "run").progress.epoch == 2
    with pytest.raises(ConfigError, match=r"data\.train is"):
        resume_run(tmp_path / "run", ["data.train=[crowd=elsewhere]"], quiet=True)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_is_one_line(market, tmp_path, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("regard.engine.step.TrainStep.__call__", fail)
    with pytest.raises(ConfigError, match=r"memory ran out while training; .*nothing was saved yet"):
        start_run(configure(market), tmp_path / "run", quiet=True)


FREE = ["train.devices=1", "train.eval_every=1", "train.profile=3", "schedule.milestones=[5]", "train.epochs=2"]


def test_settings_that_change_no_step_may_change(folder):
    resume_run(folder, FREE, quiet=True)
    assert read_saved(folder).config.train.eval_every == 1


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("optim.lr=1e-5", "optim.lr is 0.001 there, 1e-05 here"),
        ("optim.fused=true", "optim.fused is False there, True here"),
        ("train.seed=7", "train.seed is 1 there, 7 here"),
        ("data.ids_per_batch=2", "data.ids_per_batch"),
        ("data.name=grid", "data.name is market1501 there, grid here"),
        ("data.train=[market1501, crowd]", "data.train"),
        ("losses.id.smoothing=0.3", "losses.id.smoothing is 0.1 there, 0.3 here"),
        ("eval.rerank=true", "eval.rerank"),
        ("train.epochs=1", "train.epochs is 2 there, 1 here; 2 epochs and 0 batches are done already"),
        ("schedule.name=cosine", "schedule has had other learning rates in the 2 epochs done"),
        ("schedule.warmup_epochs=2", "schedule.warmup_epochs is 1.0 there, 2.0 here"),
        ("optim.lrr=1", "no such key, did you mean 'lr'"),
    ],
)
def test_settings_that_would_make_another_run_are_refused_by_name(folder, override, wanted, capsys):
    before = (folder / "last.safetensors").read_bytes(), (folder / "config.yaml").read_bytes()
    assert main(["train", "--resume", str(folder), "data.workers=1", override]) == 2
    error = capsys.readouterr().err
    assert wanted in error
    assert error.count("\n") == 1
    assert "lrr" in override or "data.root, data.workers" in error
    assert before == ((folder / "last.safetensors").read_bytes(), (folder / "config.yaml").read_bytes())


def test_more_epochs_of_a_schedule_over_all_of_them_are_refused(market, tmp_path):
    start_run(configure(market, "schedule.name=cosine", "schedule.per=step"), tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match=r"epochs is 2 there, 4 here; the cosine schedule .*model.pretrained=RUN"):
        resume_run(tmp_path / "run", ["train.epochs=4"], quiet=True)


def test_another_machine_is_told_of(folder, capsys):
    saved = read_saved(folder)
    machine = {**saved.machine, "processes": 4, "precision": "bf16"}
    write_saved(folder, saved.tensors, saved.config, saved.progress, saved.groups, machine=machine, start=saved.start)
    resume_run(folder, quiet=True)
    said = capsys.readouterr().err
    assert "from here on: processes 4 -> 1, precision bf16 -> fp32; sums are rounded differently" in said
    assert "batch statistics are of a process's share" in said


def test_a_start_that_failed_is_started_again_by_the_same_command(market, tmp_path, capsys):
    """A loss that is no number in the first epoch; then better settings, or --resume, in the same folder."""
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match="no longer a finite number"):
        start_run(configure(market, "optim.name=sgd", "optim.lr=1e30", "schedule.warmup_epochs=0"), folder, quiet=True)
    assert read_history(folder)
    shutil.copytree(folder, tmp_path / "other")
    start_run(configure(market), folder, quiet=True)
    assert "holds a start that ended before its first checkpoint; starting again" in capsys.readouterr().err
    assert [record["step"] for record in read_history(folder)] == [*range(1, 9), 8]
    assert load_config((folder / "config.yaml").read_text()) == configure(market)
    (tmp_path / "other" / "config.yaml").write_text(configure(market).to_yaml())
    resume_run(tmp_path / "other", quiet=True)
    one, other = (load_file(place / "final" / "model.safetensors") for place in (folder, tmp_path / "other"))
    assert all(torch.equal(one[name], other[name]) for name in one | other)


def test_weights_are_never_taken_for_a_failed_start(folder, market, tmp_path):
    for name in ("last.safetensors", "previous.safetensors"):
        (folder / name).unlink()
    with pytest.raises(ConfigError, match="holds a run already"):
        start_run(configure(market), folder, quiet=True)
    with pytest.raises(CheckpointError, match=re.escape(f"{folder} holds no last.safetensors")):
        resume_run(folder, quiet=True)


def remove_gallery(root: Path) -> None:
    for path in (root / "bounding_box_test").iterdir():
        path.unlink()


def one_camera(root: Path) -> None:
    for folder in ("query", "bounding_box_test"):
        for path in sorted((root / folder).iterdir()):
            path.rename(path.with_name(path.name.replace("_c2s1", "_c1s2")))


@pytest.mark.parametrize("change", [remove_gallery, one_camera])
def test_what_could_not_be_scored_is_refused_before_the_first_step(moved, tmp_path, change):
    change(moved)
    with pytest.raises(DataError) as caught:
        start_run(configure(moved), tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_picture_to_score_by_that_went_away_is_named(moved):
    splits = open_data(configure(moved))
    splits.query[2].path.unlink()
    name = splits.query[2].path.name
    with pytest.raises(DataError, match=rf"1 of 8 pictures of the query cannot be read, the first is .*{name}"):
        check_evaluation(splits, configure(moved).eval)


def test_a_folder_that_takes_no_results_is_refused_before_the_first_step(market, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").write_text("mine")
    with pytest.raises(ConfigError, match=r"best is a file, but the run keeps a folder of that name"):
        start_run(configure(market), tmp_path / "run", quiet=True)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"has room for 0 MB, but the run will write \d+ MB"):
        start_run(configure(market), tmp_path / "full", quiet=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="could not make the run folder"):
        start_run(configure(market), tmp_path / "file" / "run", quiet=True)
