"""Runs as users start them: kill and resume, one process and two, errors that lose nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import regard
from command_words import once
from regard.config import load_config
from regard.engine.run import resume_run, start_run
from regard.engine.training_state import Average, save_state
from regard.errors import CheckpointError, ConfigError, DataError, StorageError
from regard.evaluation.embed import loader_workers
from regard.evaluation.run import open_run
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history
from regard.run_folder.opened_data import open_data
from regard.run_folder.opened_data import tested_on as own_data
from regard.run_folder.origin import read_origin, resolve
from regard.run_folder.saved_state import read_saved
from warm import python


def command(*arguments: str | Path) -> list[str]:
    return [python(), "-m", "regard", *once(arguments)]


def environment() -> dict[str, str]:
    """One thread, as conftest.py sets here: to the last bit runs are equal only with the same number of them."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def losses(folder: Path) -> list[dict[str, float]]:
    steps = [record for record in read_history(folder) if record["event"] == "step"]
    return [{k: v for k, v in step.items() if k.startswith("loss") or k in ("step", "epoch", "lr")} for step in steps]


CENTER = "losses.center={loss: center, on: features.global, weight: 5e-4}"
CLASSES = "losses.classes={loss: arcface, on: embedding, weight: 0.1, scale: 16}"
PAIRS = "losses.pairs={loss: multi_similarity, on: features.global}"


def centers_of(folder: Path) -> dict[str, torch.Tensor]:
    """What losses have learned themselves, from the state of a run: centers, and classes with the network."""
    tensors = load_file(folder / "last.safetensors")
    return {name: value for name, value in tensors.items() if name.endswith((".centers", ".classes"))}


def config_for(recipe: str, overrides: list[str], *more: str):
    return read_recipe(recipe).config([*overrides, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, market):
    """A run of two epochs, and the folder it is in."""
    overrides = [
        f"data.root={market}", "data.height=48", "data.width=32", "data.ids_per_batch=4", "data.images_per_id=2",
        "data.workers=0", "data.pad=2", "model.backbone=test_resnet.r160_in1k", "train.epochs=2",
        "train.eval_every=1", "train.accelerator=cpu", "schedule.warmup_epochs=0", "data.name=market1501",
        "train.precision=fp32",
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("finished") / "run"
    config = config_for("apnet_crowd", overrides)
    model = start_run(config, folder, quiet=True)
    return folder, config, model


def test_a_run_leaves_everything_it_promises(finished):
    folder, config, model = finished
    names = {path.name for path in folder.iterdir()}
    states = {"last.safetensors", "previous.safetensors"}
    assert names == {"config.yaml", "metrics.jsonl", "tensorboard", "best", "final"} | states
    assert load_config((folder / "config.yaml").read_text()) == config == read_saved(folder).config
    history = read_history(folder)
    evaluations = [record for record in history if record["event"] == "eval"]
    assert len(evaluations) == 2
    assert evaluations[0].keys() >= {f"rank{k}" for k in (1, 5, 10, 15, 20)}
    assert evaluations[1]["options"] == open_run(folder, quiet=True).report().options
    steps = losses(folder)
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1))
    assert {"loss", "loss/id", "loss/triplet"} <= set(steps[0])
    assert any((folder / "tensorboard").iterdir())
    assert str(regard.load(folder / "final").input) == "48 x 32, bilinear"
    images = torch.rand(2, 3, 48, 32)
    for place in (folder, folder / "final"):
        torch.testing.assert_close(regard.load(place).embed(images), model.embed(images), rtol=1e-4, atol=1e-6)


def test_epochs_count_from_one_in_the_log_of_old_runs_too(finished, tmp_path):
    folder, config, _ = finished
    history = read_history(folder)
    assert {record["epoch"] for record in history} == {1, 2}
    assert [(record["epoch"], record["step"]) for record in history if record["event"] == "eval"] == [(1, 4), (2, 8)]
    old = [record | {"epoch": record["epoch"] - 1} for record in history]
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in old))
    assert read_history(tmp_path / "old") == history
    resume_run_from(tmp_path / "old", epochs=config.train.epochs + 1)
    assert [r["epoch"] for r in read_history(tmp_path / "old") if r["event"] == "step"] == [1] * 4 + [2] * 4 + [3] * 4


def test_the_gradients_length_is_that_before_clipping(tmp_path, tiny_overrides):
    """The same first step with and without a limit; the limit changes what is learned, not what is reported."""
    for limit in ("null", "1e-3"):
        config = config_for("baseline_crowd", tiny_overrides, f"optim.clip_norm={limit}", "optim.name=sgd")
        config = load_config(config.to_dict(), ["train.epochs=1", "train.eval_every=null"])
        start_run(config, tmp_path / limit, quiet=True)
    free, cut = ([r for r in read_history(tmp_path / limit) if r["event"] == "step"] for limit in ("null", "1e-3"))
    assert free[0]["grad_norm"] == pytest.approx(cut[0]["grad_norm"], rel=1e-5)
    assert free[0]["grad_norm"] > 1e-2
    assert free[1]["loss"] != cut[1]["loss"]


def test_tensorboard_has_rate_speed_and_gradient_norm(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(finished[0] / "tensorboard"))
    board.Reload()
    steps = [record for record in read_history(finished[0]) if record["event"] == "step"]
    for name in ("lr", "images_per_s", "grad_norm", "loss"):
        events = board.Scalars(f"step/{name}")
        assert [event.step for event in events] == list(range(1, 9))
        assert [event.value for event in events] == pytest.approx([step[name] for step in steps], rel=1e-6)


def test_losses_are_logged_as_they_add_up(finished):
    for step in losses(finished[0]):
        assert step["loss"] == pytest.approx(step["loss/id"] + step["loss/triplet"], rel=1e-5)


def test_evaluating_the_folder_gives_the_logged_score(finished):
    folder, _, _ = finished
    report = open_run(folder, quiet=True).report()
    last = [record for record in read_history(folder) if record["event"] == "eval"][-1]
    assert report.mAP == pytest.approx(last["mAP"], abs=1e-9)
    assert report.rank(1) == pytest.approx(last["rank1"], abs=1e-9)


def test_the_same_seed_gives_the_same_losses_whatever_the_workers(finished, tmp_path):
    folder, config, _ = finished
    data = config.data.model_copy(update={"workers": 2})
    start_run(config.model_copy(update={"data": data}), tmp_path / "again", quiet=True)
    assert losses(tmp_path / "again") == losses(folder)


def test_a_folder_with_a_run_is_not_overwritten(finished):
    folder, config, _ = finished
    before = (folder / "last.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="holds a run already; go on with it"):
        start_run(config, folder, quiet=True)
    assert (folder / "last.safetensors").read_bytes() == before


def test_resuming_a_finished_run_changes_nothing(finished):
    folder, _, _ = finished
    before = (folder / "metrics.jsonl").read_text()
    resume_run(folder, quiet=True)
    assert (folder / "metrics.jsonl").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["train.ema=0.9", "optim.name=sgd"],
        [CENTER, "data.sampler=shuffle"],
        ["optim.fused=true", "train.accumulate=2", "train.checkpointing=true", CLASSES],
    ],
    ids=["adamw", "sgd-ema", "center-shuffle", "fused-pieces-checkpointing"],
)
def test_killed_between_two_steps_and_resumed_to_the_same_numbers(tmp_path, tiny_overrides, extra):
    more = [*tiny_overrides, "train.epochs=6", "train.log_every=1", "train.save_every=2", "train.eval_every=3", *extra]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command("train", "apnet_crowd", *more, "-q", "-o", whole), check=True, env=environment())
    process = subprocess.Popen(command("train", "apnet_crowd", *more, "-q", "-o", killed), env=environment())
    while len(losses(killed)) < 5 and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 5 <= len(losses(killed)) < len(losses(whole))
    subprocess.run(command("train", "--resume", killed, "-q"), check=True, env=environment())
    assert losses(killed) == losses(whole)
    scores = [[r["mAP"] for r in read_history(f) if r["event"] == "eval"] for f in (whole, killed)]
    assert scores[0] == scores[1]
    images = torch.rand(2, 3, 48, 32)
    assert torch.equal(regard.load(whole).embed(images), regard.load(killed).embed(images))
    for name, centers in centers_of(whole).items():
        assert torch.equal(centers, centers_of(killed)[name])


@pytest.mark.slow
def test_interrupted_by_a_signal_it_saves_and_says_how_to_go_on(tmp_path, tiny_overrides):
    run = tmp_path / "run"
    more = [*tiny_overrides, "train.epochs=500", "train.eval_every=null", "train.log_every=1"]
    process = subprocess.Popen(
        command("train", "baseline_crowd", *more, "-q", "-o", run), env=environment(), stderr=subprocess.PIPE, text=True
    )
    while len(losses(run)) < 3 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: regard train --resume {run}" in error
    assert "Traceback" not in error
    assert read_saved(run).config.train.epochs == 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "processes", "extra"),
    [
        ("baseline_crowd", 2, []),
        ("apnet_crowd", 2, []),
        ("baseline_crowd", 2, [CENTER, CLASSES, "optim.clip_norm=1"]),
        (
            "baseline_crowd",
            2,
            [
                *(term.replace("}", ", gather: true}") for term in (CENTER, CLASSES, PAIRS)),
                "losses.triplet=null",
                "data.rounds=1",
            ],
        ),
        ("baseline_crowd", 2, ["data.sampler=shuffle"]),
        ("baseline_crowd", 2, ["train.checkpointing=true", "optim.fused=true"]),
        ("apnet_crowd", 4, ["data.ids_per_batch=4"]),
        ("apnet_crowd", 2, ["train.sync_bn=false", "train.bn_share=2", "train.checkpointing=true", "train.ema=0.9"]),
    ],
    ids=["baseline", "apnet", "center", "center-gathered-rounds", "shuffle", "checkpointing-fused", "four", "shares"],
)
def test_one_process_and_several_give_the_same_losses(tmp_path, tiny_overrides, recipe, processes, extra):
    more = [*tiny_overrides, "train.sync_bn=true", "optim.name=sgd", "optim.lr=1e-3", "data.ids_per_batch=6"]
    more += ["data.images_per_id=3", "train.epochs=2", "train.eval_every=null", *extra]
    for devices in (1, processes):
        subprocess.run(
            command("train", recipe, *more, f"train.devices={devices}", "-q", "-o", tmp_path / str(devices)),
            check=True, env=environment(),
        )  # fmt: skip
    one, several = losses(tmp_path / "1"), losses(tmp_path / str(processes))
    assert len(one) == len(several) == (2 if "data.rounds=1" in extra else 4)
    for a, b in zip(one, several):
        assert a.keys() == b.keys()
        for key in a:
            assert b[key] == pytest.approx(a[key], rel=1e-4, abs=2e-5), (key, a["step"])
    if "train.bn_share=2" in extra:  # averaged weights, and the running statistics of one share
        ones, others = (regard.load(tmp_path / str(devices)).state_dict() for devices in (1, processes))
        for name, value in ones.items():
            torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-4, msg=name)
    for name, centers in centers_of(tmp_path / "1").items():
        torch.testing.assert_close(centers_of(tmp_path / str(processes))[name], centers, rtol=1e-4, atol=1e-5)


def test_going_on_where_an_epoch_ended_between_its_last_step_and_its_end(tmp_path, tiny_overrides):
    """The checkpoint of an epoch's last step leaves no batch of that epoch to do."""
    config = config_for("baseline_crowd", tiny_overrides, "train.eval_every=null", "train.save_every=4")
    start_run(config, tmp_path / "whole", quiet=True)
    (tmp_path / "cut").mkdir()
    saves = []

    def save_and_stop(state):
        save_state(state)
        saves.append(state.progress.step)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regard.engine.train.save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            start_run(config, tmp_path / "cut", quiet=True)
    assert saves == [4]
    assert read_saved(tmp_path / "cut").progress.batch == 4
    resume_run(tmp_path / "cut", quiet=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_failed_save_ends_in_one_line(tmp_path, tiny_overrides):
    """A write that the system refuses half-way, as a full disk does."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "from regard.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    result = subprocess.run(
        [python(), "-c", code, "train", "baseline_crowd", *tiny_overrides, "-q", "-o", str(tmp_path / "full")],
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if "is not as published" not in line]
    assert len(errors) == 1
    assert "could not write" in errors[0]
    assert not list((tmp_path / "full").glob("**/*.tmp"))


def test_a_failed_write_of_the_state_leaves_the_previous_one(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    before = (folder / "last.safetensors").read_bytes()

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("regard.storage._write_through", full)
    with pytest.raises(StorageError, match="No space left on device"):
        resume_run_from(folder, epochs=3)
    monkeypatch.undo()
    assert (folder / "last.safetensors").read_bytes() == before
    resume_run(folder, quiet=True)


def resume_run_from(folder: Path, epochs: int) -> None:
    """Continue a copy of a run for longer than it was planned."""
    from regard.engine.train import train
    from regard.runtime.fabric import Runtime

    config = read_saved(folder).config
    config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
    train(config, open_data(config), folder, Runtime(config.train), resume=read_saved(folder), quiet=True)


def test_centers_are_trained_saved_and_resumed_but_not_exported(tmp_path, tiny_overrides):
    """Two epochs at once, or one and one more: the same losses and centers to the last bit."""
    more = [CENTER, CLASSES, "data.jitter=[.4, .4, .4, .1]", "train.eval_every=null", "schedule.name=constant"]
    config = config_for("baseline_crowd", tiny_overrides, *more)
    start_run(config, tmp_path / "whole", quiet=True)
    short = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})
    start_run(short, tmp_path / "parts", quiet=True)
    first = centers_of(tmp_path / "parts")
    resume_run_from(tmp_path / "parts", epochs=2)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    whole, parts = (centers_of(tmp_path / name) for name in ("whole", "parts"))
    assert [value.shape for value in whole.values()] == [(6, 96), (6, 96)]
    assert whole.keys() == parts.keys() == first.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name])
        assert not torch.equal(value, first[name])
    weights = {"id": 1, "triplet": 1, "center": 5e-4, "classes": 0.1}
    for step in losses(tmp_path / "whole"):
        assert step["loss"] == pytest.approx(sum(weight * step[f"loss/{name}"] for name, weight in weights.items()))
    for name in load_file(tmp_path / "whole" / "final" / "model.safetensors"):
        assert not name.endswith((".centers", ".classes"))


def test_a_state_of_other_losses_is_refused(finished, tmp_path):
    from regard.engine.train import train
    from regard.runtime.fabric import Runtime

    folder, config, _ = finished
    shutil.copytree(folder, tmp_path / "run")
    config = load_config(config.to_dict(), [CENTER])
    saved = read_saved(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"belongs to other losses .*centers.*; start a new run") as caught:
        train(config, open_data(config), tmp_path / "run", Runtime(config.train), resume=saved, quiet=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("on", "wanted"),
    [
        ("features.*", "losses.c.on is 'features.*', which is 2 outputs; center wants one"),
        ("features.neck", "the model's features are global, part0"),
        ("maps.gate", "losses.c.on is 'maps.gate', which is a map"),
    ],
)
def test_centers_want_one_output(on, wanted):
    class Two(regard.models.ReIDModel):
        def __init__(self, num_ids: int):
            super().__init__(num_ids, embed_dim=5)
            self.weight = torch.nn.Parameter(torch.ones(5))

        def forward(self, images):
            feature = self.weight.expand(len(images), 5)
            gate = images[:, :1]
            return regard.Output(feature, {"global": feature, "part0": feature}, {}, {"gate": gate})

    from regard.engine.build import build_criterion

    config = load_config({"model": {}, "losses": {"c": {"loss": "center", "on": on}}})
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        build_criterion(config, Two(3))


def test_wrong_losses_and_too_few_people_are_told_at_once_before_anything_begins(tmp_path, tiny_overrides, monkeypatch):
    monkeypatch.setattr("regard.models.backbone._announce_download", lambda name: pytest.fail("fetched"))
    overrides = ["data.ids_per_batch=500", "losses.id.on=logits.glob", "optim.freeze=[nose]", "model.pretrained=true"]
    config = config_for("baseline_crowd", tiny_overrides, *overrides, CENTER.replace("global", "globe"))
    with pytest.raises(ConfigError) as caught:
        start_run(config, tmp_path / "run", quiet=True)
    for wanted in (
        "a batch asks for 500 identities, the training split has", "; lower data.ids_per_batch or add",
        "losses.id.on is 'logits.glob', but the model's logits are global",
        "losses.center.on is 'features.globe', but", "optim.freeze: no part 'nose'",
    ):  # fmt: skip
        assert wanted in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_diverging_loss_stops_with_advice(tmp_path, tiny_overrides):
    config = config_for("baseline_crowd", tiny_overrides, "optim.lr=1e30", "optim.name=sgd", "train.epochs=20")
    with pytest.raises(ConfigError, match=r"no longer a finite number at step \d+ .* lower optim.lr"):
        start_run(config, tmp_path / "run", quiet=True)


def test_the_average_follows_its_formula():
    model = torch.nn.BatchNorm1d(2)
    average = Average(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(5)
    average.update(model)
    assert average.weights["weight"].tolist() == pytest.approx([1.2, 1.2])
    assert average.weights["num_batches_tracked"] == 5
    average.swap(model)
    assert model.weight.tolist() == pytest.approx([1.2, 1.2])
    assert average.weights["weight"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "cannot read"),
        (lambda path: path.write_bytes(b""), "cannot read"),
        (lambda path: path.unlink(), "holds no last.safetensors"),
    ],
    ids=["truncated", "empty", "missing"],
)
def test_a_damaged_state_is_refused_in_one_line(finished, tmp_path, damage, wanted):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    damage(folder / "last.safetensors")
    (folder / "previous.safetensors").unlink()
    with pytest.raises(CheckpointError, match=wanted) as caught:
        resume_run(folder, quiet=True)
    assert "\n" not in str(caught.value)


def test_a_model_file_is_not_a_training_state(finished, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(finished[0] / "final" / "model.safetensors", folder / "last.safetensors")
    with pytest.raises(CheckpointError, match="is not a training state of regard"):
        resume_run(folder, quiet=True)


def test_a_bare_system_takes_the_recipe_of_its_data(market, tmp_path):
    assert resolve("apnet").name == "apnet_crowd"
    assert resolve("apnet", [f"data.root={market}"]).name == "apnet_market1501"
    assert resolve("baseline", ["data.name=market1501", "data.root=/nowhere"]).name == "baseline_market1501"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(read_recipe("apnet_crowd").text)
    chosen = resolve(str(recipe), ["optim.lr=1"])
    assert chosen.config.optim.lr == 1
    assert chosen.lines == (f"recipe {recipe} (ours)", "changed: optim.lr=1.0")


@pytest.mark.parametrize("system", ["apnet", "baseline", "daaf", "dsp", "msea", "mudeep", "sa"])
def test_a_system_without_a_recipe_for_the_data_takes_its_recipe_for_market1501(system, tmp_path, market, monkeypatch):
    """A folder of people, a table, and every data set that a system has no recipe of its own for."""
    monkeypatch.chdir(tmp_path)
    for person in ("anna", "ben"):
        shutil.copytree(market / "query", tmp_path / "friends" / person)
    (tmp_path / "people.csv").write_text("path,pid,camid\nfriends/anna/x.jpg,1,1\n")
    base = resolve(f"{system}_market1501").config
    for overrides, data in (
        (["data.root=friends"], "folder"),
        (["data.root=people.csv"], "table"),
        (["data.name=grid", "data.root=/nowhere"], "grid"),
        (["data={name: viper, root: /nowhere}"], "viper"),
        (["data.train=[prid, grid]", "data.root=/nowhere"], "prid"),
    ):
        chosen = resolve(system, overrides)
        assert chosen.name == f"{system}_{data}"
        assert chosen.lines[0].startswith(f"recipe {system}_market1501 (")
        assert chosen.lines[0].endswith(f": {system} has no recipe for {data} and takes that for market1501")
        assert own_data(chosen.config) == data
        assert (chosen.config.model, chosen.config.optim) == (base.model, base.optim)
    own = resolve(system, ["data.name=msmt17", "data.root=/nowhere"])
    assert own.config.data.name == "msmt17"
    assert ("no recipe" in own.lines[0]) == (system not in ("apnet", "msea"))


def test_training_begins_with_what_differs_from_the_recipe(market, tmp_path, tiny_overrides, capsys):
    chosen = resolve(
        "baseline", [*tiny_overrides, "model.pretrained=false", "train.epochs=1", "losses.id.smoothing=0.1"]
    )
    start_run(chosen.config, tmp_path / "run", about=chosen.lines, recipe=chosen.recipe)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"recipe baseline_market1501 ({chosen.recipe.kind})"
    changed = lines[1].removeprefix("changed: ").split(", ")
    assert f"data.root={market}" in changed
    assert "train.epochs=1" in changed
    assert not any("smoothing" in text or "data.name" in text for text in changed)  # as the recipe has them
    assert lines[2].startswith("market1501: train")
    assert lines[3] == f"baseline on cpu in fp32, run folder {tmp_path / 'run'} (config.yaml: all settings)"
    assert len(lines) < 8
    config = load_config((tmp_path / "run" / "config.yaml").read_text())
    assert str(read_origin(tmp_path / "run", config)) == f"{lines[0].removeprefix('recipe ')}, {lines[1]}"


def test_more_loader_processes_than_the_machine_can_mean_are_refused(monkeypatch):
    for place in ("regard.evaluation.embed.allowed_cores", "regard.threads.allowed_cores"):
        monkeypatch.setattr(place, lambda: 2)
    assert [loader_workers(None), loader_workers(None, 2), loader_workers(0), loader_workers(16)] == [2, 1, 0, 16]
    with pytest.raises(ConfigError, match=r"data\.workers is 17, but this process may use 2 cores; choose"):
        loader_workers(17)
    for place in ("regard.evaluation.embed.allowed_cores", "regard.threads.allowed_cores"):
        monkeypatch.setattr(place, lambda: 64)
    assert [loader_workers(None), loader_workers(200)] == [8, 200]


def test_a_real_data_set_without_a_root_asks_for_it():
    config = read_recipe("apnet_market1501").config()
    with pytest.raises(DataError, match=r"say where market1501 lies: data.root=FOLDER"):
        open_data(config)


def test_flip_averaging_makes_the_descriptor_blind_to_mirroring(market, tmp_path):
    from dataclasses import replace

    from PIL import Image, ImageOps

    from regard.evaluation.embed import extract

    torch.manual_seed(0)
    model = regard.create_model("baseline", 3, backbone="test_resnet.r160_in1k").eval()
    plain, mirrored = [], []
    for sample in regard.load_dataset("market1501", market).query[:2]:
        image = Image.open(sample.path)
        for samples, picture, kind in ((plain, image, "plain"), (mirrored, ImageOps.mirror(image), "mirrored")):
            path = tmp_path / f"{kind}_{sample.path.stem}.png"
            picture.save(path)
            samples.append(replace(sample, path=path))
    for flip in (True, False):
        how = {"seen": regard.InputSpec(48, 24, flip=flip), "workers": 0}
        gap = extract(model, plain, **how) - extract(model, mirrored, **how)
        if flip:
            np.testing.assert_allclose(gap, 0, atol=1e-4)
    assert np.abs(gap).max() > 1e-3
