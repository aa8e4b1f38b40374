"""Fine-tuning: what is taken from another run, what stays frozen, and what is refused."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import regard
from command_words import once
from regard.cli.main import main
from regard.engine.build import freeze
from regard.engine.run import resume_run, start_run
from regard.engine.step import build_optimizer
from regard.engine.training_state import save_state
from regard.errors import CheckpointError, ConfigError, RegardError
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history

BACKBONE = "test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Path:
    """A saved network of 6 identities, with batch statistics that are not those of a fresh one."""
    torch.manual_seed(1)
    model = regard.create_model("apnet", 6, backbone=BACKBONE).train()
    model(torch.rand(4, 3, 48, 32))
    folder = tmp_path_factory.mktemp("old") / "run"
    model.save(folder / "final")
    return folder


def test_everything_but_the_head_is_taken_and_that_is_said(old):
    torch.manual_seed(2)
    for place in (old, old / "final", str(old), old / "final" / "model.safetensors"):
        model = regard.create_model("apnet", 4, pretrained=place, backbone=BACKBONE)
        saved, own = load_file(old / "final" / "model.safetensors"), model.state_dict()
        heads = [name for name in own if name.startswith("classifier.")]
        assert heads
        assert all(torch.equal(saved[name], own[name]) for name in own if name not in heads)
        assert all(saved[name].shape != own[name].shape for name in heads)
        assert model.start_report == (
            f"start from {old / 'final'}: {len(own) - len(heads)} of {len(own)} tensors taken; "
            f"new for 4 identities instead of 6: {', '.join(heads)}"
        )
    same = regard.create_model("apnet", 6, pretrained=old, backbone=BACKBONE)
    assert same.start_report == f"start from {old / 'final'}: {len(saved)} of {len(saved)} tensors taken"
    images = torch.rand(2, 3, 48, 32)
    assert torch.equal(same.embed(images), regard.load(old).embed(images))


@pytest.mark.parametrize("system", ["baseline", "daaf", "dsp", "msea", "mudeep", "sa"])
def test_every_system_starts_from_its_own_stripped_or_not(system, tmp_path):
    model = regard.create_model(system, 5, backbone=BACKBONE)
    model.save(tmp_path / "whole")
    model.strip().save(tmp_path / "stripped")
    for folder in ("whole", "stripped"):
        fresh = regard.create_model(system, 3, pretrained=tmp_path / folder, backbone=BACKBONE)
        saved, own = load_file(tmp_path / folder / "model.safetensors"), fresh.state_dict()
        taken = [name for name in own if name in saved and own[name].shape == saved[name].shape]
        assert all(torch.equal(own[name], saved[name]) for name in taken)
        assert f"{len(taken)} of {len(own)} tensors taken; new for 3 identities instead of 5: " in fresh.start_report
        assert len(taken) >= len([name for name in own if name.startswith("backbone.")])


def test_other_options_that_fit_are_said(old):
    model = regard.create_model("apnet", 6, pretrained=old, backbone=BACKBONE, last_stride=2)
    assert model.start_report.endswith("tensors taken; last_stride was 1 and is 2")


@pytest.mark.parametrize(
    ("system", "options", "wanted"),
    [
        ("baseline", {}, "holds a network of apnet, and baseline cannot start from it; train apnet, or give"),
        (
            "apnet",
            {"level": 1},
            r"holds another apnet: level is 2 there, 1 here \(\d+ tensors do not fit\); build it as",
        ),
        ("apnet", {"backbone": "resnet18"}, r"model\.backbone=\"test_resnet\.r160_in1k\"\), or give"),
    ],
)
def test_another_network_is_refused_in_one_line(old, system, options, wanted):
    with pytest.raises(RegardError, match=wanted) as caught:
        regard.create_model(system, 4, pretrained=old, **({"backbone": BACKBONE} | options))
    assert "\n" not in str(caught.value)


def test_what_holds_no_network_is_refused_in_one_line(old, tmp_path):
    shutil.copytree(old, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors in .* nor in its final/ or best/"):
        regard.create_model("apnet", 4, pretrained=tmp_path, backbone=BACKBONE)
    with pytest.raises(CheckpointError, match=r"no file .*typo"):
        regard.create_model("apnet", 4, pretrained=tmp_path / "typo", backbone=BACKBONE)
    (tmp_path / "run" / "final" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json .*does not describe a model"):
        regard.create_model("apnet", 4, pretrained=tmp_path / "run", backbone=BACKBONE)


def overrides_of(tiny: list[str], root: Path, *more: str) -> list[str]:
    return [*(text for text in tiny if not text.startswith("data.root")), f"data.root={root}", *more]


def test_frozen_parts_stay_to_the_bit_and_the_rest_moves(old, tmp_path, tiny_overrides, write_market):
    """With averaged weights, in pieces and computed again, whose extra passes could count batches too."""
    frozen = ("backbone.stages.0", "backbone.stages.1")
    root = write_market(tmp_path / "friends", train_ids=5)
    extra = ["train.ema=0.9", "train.accumulate=2", "train.checkpointing=true", "optim.lr_scale={backbone: 0.1}"]
    more = [f"model.pretrained={old}", f"optim.freeze=[{', '.join(frozen)}]", *extra]
    config = read_recipe("apnet_crowd").config(overrides_of(tiny_overrides, root, *more))
    model = start_run(config, tmp_path / "new", quiet=True)
    assert model.num_ids == 5
    before = load_file(old / "final" / "model.safetensors")
    after = load_file(tmp_path / "new" / "final" / "model.safetensors")
    for name, value in before.items():
        if name.startswith(tuple(f"{part}." for part in frozen)):
            assert torch.equal(after[name], value), name
    moved = [
        name for name in before if name.startswith("backbone.stages.3.") and not torch.equal(after[name], before[name])
    ]
    assert any(name.endswith("running_mean") for name in moved)
    assert any(name.endswith("weight") for name in moved)


def test_a_fine_tuned_run_resumes_without_the_folder_it_began_with(old, tmp_path, tiny_overrides, market):
    before = regard.load(old)
    before.input = regard.InputSpec(48, 32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    before.origin = {"source": "a friend", "licence": "MIT"}
    before.save(tmp_path / "gone" / "final")
    more = [f"model.pretrained={tmp_path / 'gone'}", "optim.freeze=[backbone.stages.0]", "train.save_every=1"]
    config = read_recipe("apnet_crowd").config([*tiny_overrides, *more, "train.eval_every=null"])
    start_run(config, tmp_path / "whole", quiet=True)

    def save_and_stop(state):
        save_state(state)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regard.engine.train.save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            start_run(config, tmp_path / "cut", quiet=True)
    shutil.rmtree(tmp_path / "gone")
    resume_run(tmp_path / "cut", quiet=True)
    losses = [
        [record["loss"] for record in read_history(tmp_path / name) if record["event"] == "step"]
        for name in ("whole", "cut")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 2
    whole, cut = (regard.load(tmp_path / name) for name in ("whole", "cut"))
    assert whole.input == cut.input
    assert cut.input.mean == (0.5, 0.4, 0.3)
    assert whole.origin == cut.origin == before.origin


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (["backbone.stem"], r"no part 'backbone.stem'.*; the network has backbone\.stages\.0, .*classifier"),
        (["backbon"], "no part 'backbon', did you mean 'backbone'"),
        (
            ["backbone", "neck", "classifier"],
            "neck, classifier is all there is, and nothing is left to train",
        ),
    ],
)
def test_what_cannot_be_frozen_is_said_in_one_line(parts, wanted):
    model = regard.create_model("baseline", 4, backbone=BACKBONE)
    with pytest.raises(ConfigError, match=wanted) as caught:
        freeze(model, parts)
    assert "\n" not in str(caught.value)


def test_a_rate_of_a_frozen_part_is_no_fault():
    config = read_recipe("baseline_crowd").config(["optim.lr_scale={backbone.stages.0: 0.1}"])
    model = regard.create_model("baseline", 4, backbone=BACKBONE)
    freeze(model, ["backbone.stages.0"])
    held = {
        id(parameter) for group in build_optimizer(model, config.optim).param_groups for parameter in group["params"]
    }
    assert held == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def test_the_documented_command_runs(old, tmp_path, tiny_overrides, monkeypatch, capsys, write_market):
    """As docs/how-to/training.md writes it, on other data, in the folder it is written for."""
    text = (Path(regard.__file__).parents[2] / "docs" / "how-to" / "training.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^regard (train apnet data\.root=friends(?:.*\\\n)*.*)$", text, re.M)
    arguments = shlex.split(command.replace("\\\n", " "), comments=True)
    (tmp_path / "runs").mkdir()
    shutil.copytree(old, tmp_path / "runs" / "apnet_market1501")
    write_market(tmp_path / "friends", train_ids=5)
    monkeypatch.chdir(tmp_path)
    kept = ("train.epochs", "optim.", "schedule.", "data.root", "model.pretrained")
    small = [override for override in tiny_overrides if not override.startswith(kept)]
    assert main(once([*arguments, *small, "train.epochs=1"])) == 0
    out = capsys.readouterr().out
    assert re.search(r"start from .*runs/apnet_market1501/final: \d+ of \d+ tensors taken; new for 5 identities", out)
    assert main(["train", "--resume", str(tmp_path / "runs" / "apnet_friends"), "-q"]) == 0
