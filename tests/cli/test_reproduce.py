from __future__ import annotations

import json
from pathlib import Path

import pytest

from regard.cli.main import main
from regard.engine.train import Interrupted
from regard.errors import ConfigError
from regard.recipes import list_recipes, read_recipe
from regard.report.reproduction import Compared
from regard.reproduce import _changes, _configure, _departures, find_recipe
from regard.structures import Splits


@pytest.mark.parametrize(
    ("published", "reach", "ours", "verdict"),
    [
        (0.80, 0, (0.81, 0.79, 0.83), "same"),
        (0.80, 0, (0.81, 0.805, 0.83), "better"),
        (0.80, 0.01, (0.81, 0.805, 0.83), "same"),
        (0.80, 0, (0.79, 0.78, 0.795), "worse"),
        (0.80, 0.01, (0.77, 0.75, 0.78), "worse"),
        (0.80, 0, (0.80, 0.80, 0.80), "same"),
    ],
)
def test_the_published_figure_lies_in_our_interval_or_on_one_side(published, reach, ours, verdict):
    assert Compared("mAP", published, reach, ours).verdict == verdict


def test_a_row_is_found_by_system_and_data_set():
    assert find_recipe("apnet", "market1501").name == "apnet_market1501"
    assert find_recipe("apnet", "market1501", released=True).kind == "released"
    for name, said in (("apnett", "no recipe apnett_market1501"), ("demo", "no recipe demo_market1501")):
        with pytest.raises(ConfigError, match=said):
            find_recipe(name, "market1501")


def test_every_listed_row_is_found_by_its_whole_name():
    rows = [name for name in list_recipes() if (about := read_recipe(name).about) and about.published]
    assert "mudeep_market1501_2020" in rows
    assert [find_recipe(name, None).name for name in rows] == rows


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["baseline", "train.epochs=2", "market1501"], "give --root FOLDER"),
        (["baseline_market1501", "train.epochs=2"], "give --root FOLDER"),
        (["baseline", "market1501", "dukemtmc"], "got market1501 and dukemtmc, wanted one data set"),
        (["baseline", "market1501", "--data", "dukemtmc"], "got market1501 and dukemtmc, wanted one data set"),
        (["baseline", "market1501", "train.seed=7"], "train.seed is not a setting of reproduce; seeds run from 0 on"),
        (["baseline", "market1501", "train={seed: 1}"], "train.seed is not a setting of reproduce"),
        (["baseline", "market1501", "data.name=dukemtmc"], "data.name is not a setting of reproduce"),
        (["baseline", "data.root=x", "market1501"], "data.root is not a setting of reproduce; give --root FOLDER"),
        (["train.epochs=2", "baseline", "market1501"], "give --root FOLDER"),
        (
            [],
            "wants a system and a data set, or a recipe: regard reproduce apnet market1501 --root FOLDER; 'regard",
        ),
        (["train.epochs=2", "--data", "market1501"], "wants a system and a data set, or a recipe: regard reproduce"),
    ],
)
def test_the_row_is_named_once_and_nothing_of_it_is_changed_unsaid(words, said, capsys):
    assert main(["reproduce", *words]) == 2
    assert said in capsys.readouterr().err


def test_an_interruption_names_the_command_that_goes_on(market, tmp_path, tiny_overrides, capsys, monkeypatch):
    def stop(*_, **__):
        raise Interrupted("stopped after step 3; go on with: regard train --resume seed_0")

    monkeypatch.setattr("regard.reproduce.start_run", stop)
    command = [
        "reproduce",
        "baseline",
        "market1501",
        "--root",
        str(market),
        "--other-data",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main([*command, *tiny_overrides[2:], "model.pretrained=false"]) == 130
    assert capsys.readouterr().err.endswith("regard: stopped in seed 0, 1 of 1; the same command goes on\n")


def test_a_row_of_our_own_is_not_held_against_authors():
    for name, expected in (
        ("baseline_crowd", []),
        ("baseline_market1501", ["trained in bf16", "trained on a", "one seed"]),
    ):
        recipe = read_recipe(name)
        config = recipe.config([*recipe.about.settings, "train.precision=bf16", "train.accelerator=cpu"])
        texts = [d.text for d in _departures(recipe, config, (), 1) if d.of == "computation"]
        assert [text[: len(start)] for text, start in zip(texts, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("name", "overrides", "gone", "told"),
    [
        ("daaf_trinet_market1501", ["data.swap_on_flip=false", "losses.hab.missing=zero"], "data.swap_on_flip, ", []),
        ("daaf_trinet_market1501", ["data.swap_on_flip=false"], "", ["recipe: data.swap_on_flip, losses.hab.missing: "
         "mirrored joints change sides; unknown labels count for nothing (here data.swap_on_flip is false)"]),
        ("dsp_market1501", ["data.erasing=0"], "data.erasing: ", []),
        ("dsp_market1501", ["data.erasing=0.2"], "data.erasing: ", [
         "settings: data.erasing is 0.2, the recipe has 0.5"]),
        ("baseline_market1501", ["losses.center=null", "train.devices=2"], "", [
         "settings: losses.center is none, the recipe has a term"]),
        ("daaf_mindspore_8_market1501", ["train.devices=1"], "train.devices: ", [
         "settings: train.devices is 1, the recipe has 8"]),
    ],
)  # fmt: skip
def test_an_override_that_undoes_a_change_takes_its_text_out(name, overrides, gone, told):
    recipe = read_recipe(name)
    before = [str(change) for change in recipe.about.changes]
    found = [
        f"{d.of}: {d.text}" for d in _changes(recipe, _configure(recipe, Path("x"), Path("y"), overrides, quiet=True))
    ]
    kept = [f"recipe: {text}" for text in before if not (gone and text.startswith(gone))]
    assert [text for text in found if text not in kept] == told
    assert len(found) == len([text for text in kept if text in found]) + len(told)


@pytest.mark.parametrize("words", [["apnet", "market1501", "--released"], ["baseline", "cuhk03"], ["apnet", "msmt17"]])
def test_the_counts_compared_are_those_of_the_row_with_its_options(words, monkeypatch, capsys, tmp_path):
    """Options of a data set in a recipe: without its distractors, labeled boxes, without its validation list."""
    published = {"market1501": 12_936, "cuhk03": 7_368, "msmt17": 30_248}

    def opened(config, quiet):
        return Splits(config.data.name, tmp_path, [], [], [], config.data.options.get(config.data.name, {}))

    monkeypatch.setattr("regard.reproduce.open_data", opened)
    assert main(["reproduce", *words, "--root", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert f"train images: 0 found, {published[words[1]]:,} published" in capsys.readouterr().err


def test_other_counts_than_the_published_ones_are_refused_before_anything_is_trained(market, tmp_path, capsys, caplog):
    assert main(["reproduce", "baseline", "market1501", "--root", str(market), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "train images: 36 found, 12,936 published" in said
    assert "--other-data" in said
    assert caplog.records == []  # nothing else says so
    assert not (tmp_path / "out").exists()
    assert main(["reproduce", "baseline", "market1501", "-o", str(tmp_path / "out")]) == 2
    assert "--root" in capsys.readouterr().err
    assert main(["reproduce", "baseline", "-o", str(tmp_path / "out")]) == 2
    assert "got no data set" in capsys.readouterr().err
    (tmp_path / "run" / "final").mkdir(parents=True)
    (tmp_path / "run" / "final" / "model.safetensors").touch()
    assert main(["reproduce", "baseline", "market1501", "--root", str(market), "-o", str(tmp_path / "run")]) == 2
    assert "run is the folder of a run, wanted one for a run per seed; name another" in capsys.readouterr().err


@pytest.mark.slow
def test_both_rows_stand_side_by_side_and_the_same_command_trains_nothing_again(
    market, tmp_path, tiny_overrides, capsys
):
    folder = tmp_path / "out"
    command = ["reproduce", "baseline", "market1501", "--root", str(market), "--other-data", "--seeds", "2"]
    command += ["-o", str(folder), "-q", *tiny_overrides[2:], "model.pretrained=false"]
    assert main(command) == 0
    said = capsys.readouterr().out
    found = json.loads((folder / "reproduction.json").read_text())
    assert [run["label"] for run in found["runs"]] == ["seed 0", "seed 1"]
    for figure in found["figures"]:
        values = [run["figures"][figure["name"]][0] for run in found["runs"]]
        mean, half = sum(values) / 2, abs(values[0] - values[1]) / 2 * 12.7062
        assert figure["ours"] == pytest.approx([mean, mean - half, mean + half], abs=1e-4)
    differed = [departure["text"] for departure in found["departures"]]
    assert any(text.startswith("train images: 36 found, 12,936 published") for text in differed)
    assert any(text.startswith("train.epochs is 2, the recipe has 120") for text in differed)
    assert not any(text.startswith("train.eval_every") for text in differed)
    assert "mAP" in said
    assert "Student's t over 2 seeds" in said
    page = (folder / "reproduction.html").read_text()
    assert "12,936 published" in page
    before = {
        path: path.read_bytes() for path in folder.rglob("*") if path.name in ("metrics.jsonl", "model.safetensors")
    }
    assert main(command) == 0
    assert before == {path: path.read_bytes() for path in before}
    assert capsys.readouterr().out.splitlines()[-1] == said.splitlines()[-1]
