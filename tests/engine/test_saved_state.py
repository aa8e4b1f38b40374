"""Training states that were damaged: each is refused in one line, and the one before it is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from regard.engine.run import resume_run, start_run
from regard.engine.training_state import save_state
from regard.errors import CheckpointError, ConfigError
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history
from regard.run_folder.saved_state import PICTURES, read_saved

LAST, PREVIOUS = "last.safetensors", "previous.safetensors"


@pytest.fixture(scope="module")
def run(tmp_path_factory, market) -> Path:
    """A run of two epochs, a state after each."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    overrides = [
        f"data.root={market}", "data.name=market1501", "data.height=48", "data.width=32", "data.ids_per_batch=4",
        "data.images_per_id=2", "data.workers=0", "model.backbone=test_resnet.r160_in1k", "train.epochs=2",
        "train.accelerator=cpu", "train.precision=fp32", "train.eval_every=null", "train.ema=0.9",
    ]  # fmt: skip

    def save_and_keep(state):
        save_state(state)
        if state.progress.epoch == 1:
            shutil.copy(folder / LAST, folder.parent / "first")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regard.engine.train.save_state", save_and_keep)
        start_run(read_recipe("baseline_crowd").config(overrides), folder, quiet=True)
    assert read_saved(folder).progress.epoch == 2
    (folder.parent / "first").replace(folder / PREVIOUS)
    return folder


@pytest.fixture
def folder(run, tmp_path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def rewrite(path: Path, signed: bool, change: Any) -> None:
    """Change tensors and metadata; without the digest, the file is one of an earlier version, which had none."""
    tensors, metadata = read(path)
    if not signed:
        metadata = {key: metadata[key] for key in ("config", "progress", "optimizer")} | {"format": "regard-training-1"}
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def check_refused(folder: Path, what: object) -> None:
    """The state before it is taken, and without one the damage is told in one line."""
    found = read_saved(folder)
    assert (found.path.name, found.progress.epoch) == (PREVIOUS, 1), what
    assert str(folder / LAST) in found.fault, what
    (folder / PREVIOUS).rename(folder / "kept")
    with pytest.raises(CheckpointError, match=r"(damaged|cannot read|is not a training state).*backup") as caught:
        read_saved(folder)
    assert "\n" not in str(caught.value), what
    assert len(str(caught.value)) < 1000, what
    (folder / "kept").rename(folder / PREVIOUS)


TEXTS = [None, "", "{", "[]", "{}", "null", "7", '"text"', "[1, 2]", "1e999", "[" * 200_000, '{"a":' * 100_000]


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "older"])
def test_metadata_that_is_missing_or_of_another_kind(folder, signed):
    whole = (folder / LAST).read_bytes()
    keys = ["format", "config", "progress", "optimizer", *(["machine", "digest"] if signed else [])]
    for key in keys:
        for text in TEXTS[:3] if signed else TEXTS:
            rewrite(folder / LAST, signed, lambda _, metadata: (metadata.pop(key), metadata.update({key: text} if text is not None else {})))  # fmt: skip # noqa: B023, E501
            check_refused(folder, (key, (text or "")[:9]))
            (folder / LAST).write_bytes(whole)


WRONG = [
    {"epoch": -1}, {"epoch": True}, {"epoch": 1.5}, {"epoch": "1"}, {"epoch": None}, {"epoch": 10**9}, {"batch": -3},
    {"step": 0}, {"step": [8]}, {"best": float("nan")}, {"best": 7}, {"best": "x"}, {"seconds": float("inf")},
    {"seconds": -1}, {"evaluated": 2, "epoch": 1}, {"more": 1},
]  # fmt: skip


def test_progress_that_cannot_be(folder):
    whole = (folder / LAST).read_bytes()
    for wrong in WRONG:
        rewrite(folder / LAST, False, lambda _, m: m.update(progress=json.dumps(json.loads(m["progress"]) | wrong)))  # noqa: B023
        check_refused(folder, wrong)
        (folder / LAST).write_bytes(whole)


def drop(prefix: str) -> Any:
    def change(tensors: dict[str, torch.Tensor], _: object) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return change


def put(name: str, value: Any) -> Any:
    def change(tensors: dict[str, torch.Tensor], _: object) -> None:
        tensors[name] = value(tensors[name]) if callable(value) else value

    return change


TENSORS = [
    drop("model."), drop("random."), put("model.neck.weight", lambda t: t * torch.nan),
    put("model.neck.weight", lambda t: t / 0), put("optimizer.0.exp_avg", lambda t: t * torch.nan),
    put("average.neck.weight", lambda t: t * torch.inf), put("random.0.cpu", lambda t: t[:100]),
    put("random.0.cpu", lambda t: t.float()), put("optimizer.x.step", torch.zeros(())),
    put(PICTURES, torch.zeros(3)),
]  # fmt: skip
"""Damages that are found in any file."""

ALONE = [
    drop("optimizer."), drop("optimizer.3.exp_avg_sq"), put("optimizer.0.exp_avg", torch.zeros(3)),
    put("optimizer.0.exp_avg", lambda t: t.long()), put("optimizer.999.step", torch.zeros(())), drop("model.neck."),
    drop("average.neck."), put("model.neck.weight", torch.zeros(3)),
]  # fmt: skip
"""Damages that show in an older file only beside the network."""


def test_tensors_that_are_missing_or_of_another_kind(folder, capsys):
    whole = (folder / LAST).read_bytes()
    for signed in (True, False):
        for number, change in enumerate(TENSORS + (ALONE if signed else [])):
            rewrite(folder / LAST, signed, change)
            check_refused(folder, (signed, number))
            (folder / LAST).write_bytes(whole)
    (folder / PREVIOUS).unlink()
    for number, change in enumerate(ALONE):
        rewrite(folder / LAST, False, change)
        with pytest.raises(CheckpointError) as caught:
            resume_run(folder, quiet=True)
        assert "\n" not in str(caught.value), number
        (folder / LAST).write_bytes(whole)


def test_files_that_were_cut_or_have_other_bytes(folder):
    whole = (folder / LAST).read_bytes()
    cuts = [b"", whole[:7], whole[:1000], whole[:-1], b"\0" * len(whole), b"\xff" * 64, whole + b"x"]
    places = [0, 8, 300, len(whole) // 3, len(whole) // 2, len(whole) - 1]
    for content in [*cuts, *(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in places)]:
        (folder / LAST).write_bytes(content)
        check_refused(folder, len(content))


def test_going_on_from_the_state_before_a_damaged_one(run, folder, capsys):
    """It says so, keeps both, and comes to the numbers it had."""
    damaged = (folder / LAST).read_bytes()[:-5]
    (folder / LAST).write_bytes(damaged)
    resume_run(folder, quiet=True)
    assert "going on from the state before it, of step 4" in capsys.readouterr().err
    assert (folder / "damaged.safetensors").read_bytes() == damaged
    assert read_saved(folder).progress.epoch == 2
    for name in ("final", "best"):
        assert (folder / name / "model.safetensors").is_file()
    old, new = read(run / LAST)[0], read(folder / LAST)[0]
    assert all(torch.equal(old[name], new[name]) for name in old | new)
    assert [record["step"] for record in read_history(folder)] == [*range(1, 9), 8]


def test_a_kill_between_the_two_renames_leaves_a_state(folder):
    (folder / LAST).replace(folder / PREVIOUS)
    assert read_saved(folder).progress.epoch == 2


def test_numbers_that_are_not_finite_are_not_saved(run, tmp_path):
    from regard.run_folder.saved_state import write_saved

    saved = read_saved(run)
    broken = saved.tensors | {"model.neck.weight": torch.tensor([1.0, float("inf")])}
    with pytest.raises(ConfigError, match=r"no finite numbers any more after step 8 \(model.neck.weight holds 1 num"):
        write_saved(
            tmp_path, broken, saved.config, saved.progress, saved.groups, machine=saved.machine, start=saved.start
        )
    assert not list(tmp_path.iterdir())


def test_a_state_of_an_earlier_version_goes_on_with_a_note(folder, capsys):
    def earlier(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        del tensors[PICTURES]
        progress = json.loads(metadata["progress"])
        del progress["evaluated"]
        metadata["progress"] = json.dumps(progress)

    rewrite(folder / PREVIOUS, False, earlier)
    (folder / PREVIOUS).replace(folder / LAST)
    resume_run(folder, quiet=True)
    assert "was saved without a list of its pictures" in capsys.readouterr().err
    assert read_saved(folder).progress.step == 8
