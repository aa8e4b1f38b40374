"""The command line: one voice, one line for every mistake, exit code 2, nothing lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from types import ModuleType

import pytest
import torch

from regard import __version__
from regard.cli.main import VERBS, main
from regard.cli.models_verb import _about
from regard.errors import DataError
from regard.registry import MODELS
from warm import python


def run(*arguments, capsys) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_overview_names_every_command(flag, capsys):
    code, out, _ = run(flag, capsys=capsys)
    assert code == 0
    for verb in VERBS:
        assert f"  {verb} " in out


def test_nothing_at_all_is_a_call_for_help(capsys):
    assert run(capsys=capsys)[1].startswith("regard: person re-identification with attention")


def test_version(capsys):
    assert run("--version", capsys=capsys)[1] == f"regard {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: regard {verb}")
    assert "--debug" in out


def test_help_needs_no_heavy_import():
    code = "import sys; from regard.cli.main import main; main(['--help']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip().endswith("False")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["trian"], "unknown command 'trian', did you mean 'train'?"),
        (["train"], "regard train wants a system, a recipe or a YAML file"),
        (["train", "apnat_crowd"], "unknown recipe 'apnat_crowd', did you mean 'apnet_crowd'?"),
        (["train", "apnt"], "unknown recipe 'apnt', did you mean 'apnet'?; systems: apnet, "),
        (["train", "apnet", "optim.lrr=1"], "optim.lrr: no such key, did you mean 'lr'?"),
        (["train", "apnet", "model.levl=1"], "levl: no such key, did you mean 'level'?"),
        (["train", "apnet", "nonsense"], "cannot read override 'nonsense'"),
        (["train", "apnet", "data.root=/not/there"], "/not/there"),
        (["train", "nowhere.yaml"], "cannot read recipe nowhere.yaml"),
        (["train", "--resume", "/not/there"], "holds no last.safetensors"),
        (["train", "apnet", "--resume", "x"], "drop NAME, KEY=VALUE overrides may stay"),
        (["train", "apnet", "--bogus"], "unrecognized arguments: --bogus"),
        (["eval", "/not/there"], "/not/there"),
        (["eval"], "give a run folder, or --features QUERY GALLERY"),
        (["import", "/not/there.pt", "--network", "apnet", "-o", "x"], "/not/there.pt"),
        (["import", "/not/there.pt", "--network", "apnat", "-o", "x"], "apnat"),
        (["data", "make", "x", "--set", "blur"], "--set 'blur' wants KNOB=NUMBER"),
        (["data", "make", "x", "--set", "blurr=1"], "blur"),
        (["data", "make", "x", "--cause", "pose"], "dose is None, wanted a number from 0 (none) to 1 (heavy)"),
        (["data", "doses", "x", "y"], "no crowd in 'x'"),
        (["compare", "x", "--doses", "y"], "holds no crowd without a cause"),
        (["models", "apnat"], "unknown model 'apnat', did you mean 'apnet'?"),
        (["recipes", "apnet_crowdd"], "did you mean 'apnet_crowd'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, wanted, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments, capsys=capsys)
    assert code == 2
    assert err.startswith("regard: ")
    assert len(err.strip().splitlines()) == 1
    assert wanted in err
    assert not out
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="unknown model"):
        main(["models", "apnat", "--debug"])
    with pytest.raises(DataError, match="/not/there"):
        main(["data", "check", "/not/there", "--debug"])


def test_recipes_can_be_listed_and_printed(tmp_path, capsys):
    lines = run("recipes", "--json", str(tmp_path / "all.json"), capsys=capsys)[1].splitlines()
    row = next(line for line in lines if line.startswith("apnet_market1501 "))
    assert row.split()[1:5] == ["ours", "90.5", "96.2", "APNet-C"]
    out = run("recipes", "apnet_market1501", "--json", str(tmp_path / "one.json"), capsys=capsys)[1]
    assert "lr: 4e-4" in out
    assert "\npublished  mAP 90.5, rank-1 96.2\n" in out
    every, one = (json.loads((tmp_path / name).read_text()) for name in ("all.json", "one.json"))
    assert one in every
    assert one["published"] == {"mAP": 90.5, "rank-1": 96.2}
    (tmp_path / "mine.yaml").write_text("base: apnet_market1501\noptim: {lr: 1}")
    out = run("recipes", str(tmp_path / "mine.yaml"), capsys=capsys)[1]
    assert "base       apnet_market1501" in out
    assert "kind       yours" in out


@pytest.mark.slow
def test_models_can_be_listed_and_shown(capsys):
    out = run("models", capsys=capsys)[1]
    assert {"apnet", "baseline"} <= {line.split()[0] for line in out.splitlines() if line}
    assert "level = 2" in run("models", "apnet", capsys=capsys)[1]


def test_a_system_whose_file_says_nothing_is_shown_with_what_its_class_says(monkeypatch):
    def plain(num_ids: int) -> None:
        """Stripes alone.

        Of no paper.

        Args:
            num_ids: people.
        """

    monkeypatch.setattr(MODELS, "_entries", {**MODELS._entries, "plain": plain, "bare": lambda num_ids: None})
    monkeypatch.setattr("inspect.getmodule", lambda entry: ModuleType("of_somebody", None))
    assert _about("plain") == "Stripes alone.\n\nOf no paper."
    assert _about("bare") == "bare"


def test_show_prints_settings_that_train_again(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run("train", "apnet_crowd", "train.seed=5", "--show", capsys=capsys)[1]
    (tmp_path / "copy.yaml").write_text(first)
    assert run("train", "copy.yaml", "--show", capsys=capsys)[1] == first
    assert "seed: 5" in first


@pytest.mark.slow
def test_train_and_evaluate_by_hand(capsys, tmp_path, tiny_overrides, market):
    folder = tmp_path / "run"
    code, out, err = run("train", "baseline_crowd", *tiny_overrides, "-o", folder, capsys=capsys)
    assert code == 0, err
    assert "baseline on cpu in fp32, run folder" in out
    assert "epoch 2/2: loss" in out
    closing = out.splitlines()[-1]
    assert re.fullmatch(rf"wrote {folder}/final; mAP [\d.]+, rank-1 [\d.]+; next: regard eval {folder}", closing)
    quiet = run("train", "-q", "baseline_crowd", "-o", tmp_path / "quiet", *tiny_overrides, capsys=capsys)[
        1
    ].splitlines()
    assert len(quiet) == 3
    assert quiet[0].startswith("epoch 1: mAP")
    assert closing.split("; ")[1] == quiet[-1].split("; ")[1]
    scores = tmp_path / "scores.json"
    code, out, _ = run("eval", folder, "--json", scores, "--no-flip", "-q", capsys=capsys)
    assert code == 0
    assert "mAP" in out
    assert 0 < json.loads(scores.read_text())["mAP"] <= 1
    code, out, _ = run("eval", folder / "final", "--root", market, "-q", capsys=capsys)
    assert code == 0
    assert "market1501: train 36 images of 6 ids" in out
    assert out.endswith(f"next: regard report {folder / 'final'} --root {market}\n")
    assert run("eval", folder / "final", "-q", capsys=capsys)[1] == out.replace(f" --root {market}", "")
    lone = shutil.copytree(folder / "final", tmp_path / "lone")
    code, _, err = run("eval", lone, "-q", capsys=capsys)
    assert code == 2
    assert "names no data set; say --root FOLDER" in err


def test_a_checkpoint_of_another_architecture_is_refused(capsys, tmp_path):
    import regard

    regard.create_model("baseline", 5, backbone="test_resnet.r160_in1k").save(tmp_path / "one")
    regard.create_model("apnet", 5, backbone="test_resnet.r160_in1k").save(tmp_path / "two")
    (tmp_path / "one" / "model.safetensors").replace(tmp_path / "two" / "model.safetensors")
    code, _, err = run("eval", tmp_path / "two", "--root", tmp_path, capsys=capsys)
    assert code == 2
    assert "model.safetensors" in err
    assert "missing" in err
    torch.save({"weights": [1, 2]}, tmp_path / "other.pt")
    code, _, err = run("import", tmp_path / "other.pt", "--network", "apnet", "-o", tmp_path / "x", capsys=capsys)
    assert code == 2
    assert "other.pt" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_broken_picture_in_training_is_named(capsys, tmp_path, tiny_overrides, market):
    import shutil

    root = tmp_path / "market"
    shutil.copytree(market, root)
    broken = sorted((root / "bounding_box_train").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:200])
    overrides = [*(o for o in tiny_overrides if "root" not in o and "workers" not in o), f"data.root={root}"]
    for workers in (0, 1):
        folder = tmp_path / f"run{workers}"
        code, _, err = run(
            "train", "baseline_crowd", *overrides, f"data.workers={workers}", "-q", "-o", folder, capsys=capsys
        )
        assert code == 2
        assert broken.name in err
        assert "Traceback" not in err
        assert len([line for line in err.splitlines() if line.startswith("regard: ")]) == 1


def test_an_empty_split_is_named(capsys, tmp_path, tiny_overrides, market):
    import shutil

    root = tmp_path / "market"
    shutil.copytree(market, root)
    for path in (root / "query").iterdir():
        path.unlink()
    overrides = [*(o for o in tiny_overrides if "root" not in o), f"data.root={root}"]
    code, _, err = run("train", "baseline_crowd", *overrides, "-q", "-o", tmp_path / "run", capsys=capsys)
    assert code == 2
    assert "query" in err
    assert "empty" in err or "no image" in err.lower()


@pytest.mark.slow
def test_making_a_crowd_prints_what_to_do_with_it(capsys, tmp_path):
    root = tmp_path / "crowd"
    code, out, _ = run(
        "data", "make", root, "--train-ids", 4, "--test-ids", 3, "--cameras", 2, "--per-camera", 1,
        "--workers", 1, "-q", capsys=capsys,
    )  # fmt: skip
    assert code == 0
    assert "of 4 ids" in out
    assert f"regard train apnet data.root={root}" in out
    assert (root / "dataset.json").is_file()


@pytest.mark.slow
def test_the_demo_end_to_end_at_a_small_size(tmp_path, capsys):
    """The real demo command, with fewer people and epochs; a second call finds everything and trains nothing."""
    arguments = ["demo", "-o", str(tmp_path / "demo"), "--train-ids", "16", "--test-ids", "6", "--epochs", "1"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    outputs = []
    for _ in range(2):
        result = subprocess.run(
            [python(), "-m", "regard", *arguments, "-q"], capture_output=True, text=True, env=environment
        )
        assert result.returncode == 0, result.stderr
        printed = result.stdout[result.stdout.index("on people never seen") :]  # behind the scores while it trained
        outputs.append((printed, (tmp_path / "demo" / "run" / "metrics.jsonl").read_text()))
    assert outputs[0] == outputs[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regard.demo.similarity_cam", lambda *_: [][0])
        assert main([*arguments, "-q"]) == 0
    said = capsys.readouterr()
    assert "pictures of the demo failed (IndexError: list index out of range); the network is in" in said.err
    assert "report.html" not in said.out
    assert "trained apnet" in said.out
    metrics = json.loads((tmp_path / "demo" / "metrics.json").read_text())
    labels = ["color histogram", "color histogram, true masks", "untrained apnet", "trained apnet"]
    assert list(metrics["evaluations"]) == labels
    for label in labels:
        assert label in outputs[0][0]
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="data:image' in page or "src='data:image" in page
    for name in ("ranked.png", "attention.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 10_000
