"""Robustness: the sweep gives what corrupting the files and evaluating them gives, and says what it left out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import regard
from regard.cli.main import main
from regard.config import EvalConfig
from regard.data.corruptions import Corruption, Mixed, Occlusion, Resolution
from regard.data.datasets import load_dataset
from regard.data.image import read_image
from regard.data.loaders import picture_name
from regard.errors import ConfigError, DataError
from regard.evaluation.robustness import Measured, Plan, RobustnessReport, measure_robustness, some_people
from regard.evaluation.run import Run, open_run
from regard.recipes import read_recipe
from regard.run_folder.origin import resolve
from regard.structures import Splits


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return regard.create_model("baseline", 6, backbone="test_resnet.r160_in1k").eval()


@pytest.fixture
def splits(market) -> Splits:
    return load_dataset("market1501", market)


@pytest.fixture
def run_folder(tmp_path, model, tiny_overrides) -> Path:
    """A run folder as training leaves it."""
    config = read_recipe("baseline_crowd").config(tiny_overrides)
    model.save(tmp_path / "run" / "final")
    (tmp_path / "run" / "config.yaml").write_text(config.to_yaml())
    return tmp_path / "run"


def opened(model, splits, how=None, *more) -> Run:
    overrides = ["data.height=48", "data.width=32", "data.workers=0", "train.precision=fp32", "train.accelerator=cpu"]
    config = resolve("baseline_market1501", [*overrides, *more]).config.model_copy(update={"eval": how or EvalConfig()})
    return Run.of(model, splits, config, quiet=True)


def scored(model, splits, how):
    return opened(model, splits, how).report()


def written(splits: Splits, parts: tuple[str, ...], corrupt, folder: Path) -> Splits:
    """The same data set with corrupted files in place of some parts."""
    changed = {}
    for part in parts:
        changed[part] = []
        for sample in getattr(splits, part):
            path = folder / part / f"{sample.path.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(corrupt(read_image(sample.path), picture_name(sample))).save(path)
            changed[part].append(replace(sample, path=path))
    return replace(splits, **changed)


@pytest.mark.parametrize(
    ("plan", "corrupt"),
    [
        (Plan(kinds=("shot_noise",), severities=(3,)), Corruption("shot_noise", 3)),
        (Plan(kinds=("rain",), severities=(5,), published_lengths=True), Corruption("rain", 5, 0, True)),
        (Plan(resolutions=(12,)), Resolution(12)),
        (Plan(occlusions=(0.4,), seed=2), Occlusion(0.4, 2)),
    ],
)
def test_figures_are_those_of_evaluating_corrupted_files(model, splits, plan, corrupt, tmp_path):
    sides = {"query": ("query",), "gallery": ("gallery",), "both": ("query", "gallery")}
    config = EvalConfig(batch_size=7, five_crops=bool(plan.resolutions))
    found = measure_robustness(opened(model, splits, config), replace(plan, sides=tuple(sides)))
    clean = scored(model, splits, config)
    assert found.clean.mAP == pytest.approx(clean.mAP, abs=1e-6)
    for one in found.measured:
        worse = written(splits, sides[one.side], corrupt, tmp_path / one.side)
        report = scored(model, worse, config)
        assert one.figures == pytest.approx(report.figures(), abs=1e-6)
    assert found.sides() == list(sides)
    for side in sides:  # one side alone embeds only that side
        alone = measure_robustness(opened(model, splits, config), replace(plan, sides=(side,)))
        assert alone.measured[0].mAP == pytest.approx(found.select(found.measured[0].sweep, side)[0].mAP, abs=1e-6)


def test_mixed_draws_are_those_of_their_seeds(model, splits, tmp_path):
    plan = Plan(kinds=("contrast", "jpeg_compression"), severities=(1, 5), mixed=2, seed=4)
    found = measure_robustness(opened(model, splits), plan)
    for one in found.select("mixed", "both"):
        corrupt = Mixed(("contrast", "jpeg_compression"), (1, 5), 4 + int(one.level))
        worse = written(splits, ("query", "gallery"), corrupt, tmp_path / f"{one.level}")
        assert one.mAP == pytest.approx(scored(model, worse, EvalConfig()).mAP, abs=1e-6)
    assert [one.level for one in found.select("mixed", "both")] == [1, 2]


def test_workers_change_nothing(model, splits):
    plan = Plan(kinds=("noise",), severities=(2, 4), occlusions=(0.5,))
    first = measure_robustness(opened(model, splits, EvalConfig(batch_size=5)), plan)
    second = measure_robustness(opened(model, splits, EvalConfig(batch_size=16), "data.workers=2"), plan)
    for one, other in zip(first.measured, second.measured, strict=True):
        assert one[:4] == other[:4]
        assert one.figures == pytest.approx(other.figures, abs=1e-5)


def test_some_people_are_whole_and_the_same_for_a_seed(splits):
    few = some_people(splits, 9, seed=1)
    pids = {sample.pid for sample in few.query}
    assert len(pids) == 2  # four have six pictures each
    assert {sample.pid for sample in few.gallery} == pids
    for part in ("query", "gallery"):
        assert getattr(few, part) == [one for one in getattr(splits, part) if one.pid in pids]
    assert some_people(splits, 9, seed=1) == few
    assert len({tuple(sorted({s.pid for s in some_people(splits, 6, seed).query})) for seed in range(12)}) > 1
    assert some_people(splits, 1000, seed=1) is splits


def three(mean: float, first: float, last: float) -> dict[str, float]:
    return {"mAP": mean, "rank-1": first, "mINP": last}


def test_means_are_over_kinds_and_severities():
    clean = Measured("clean", "clean", 0, "", three(0.8, 0.9, 0.6))
    values = {("fog", 1): 0.4, ("fog", 2): 0.2, ("rain", 1): 0.5, ("rain", 2): 0.1, ("contrast", 1): 0.6,
              ("contrast", 2): 0.3}  # fmt: skip
    figures = {what: three(v, v / 2, v / 4) for what, v in values.items()}
    rows = [Measured("corruptions", kind, level, "query", found) for (kind, level), found in figures.items()]
    rows.append(Measured("resolution", "resolution", 32, "query", three(0.7, 0.7, 0.7)))
    report = RobustnessReport("data", "", "plan", clean, rows, {"AP": "step"})
    assert report.mean("query")["mAP"] == pytest.approx(np.mean(list(values.values())))
    assert report.mean("query", "weather") == pytest.approx({"mAP": 0.3, "rank-1": 0.15, "mINP": 0.075})
    content = json.loads(json.dumps(report.to_dict()))["corrupted"]["query"]
    assert content["kinds"]["rain"]["2"] == {"mAP": 0.1, "rank-1": 0.05, "mINP": 0.025}
    assert content["families"]["digital"]["mAP"] == pytest.approx(0.45)
    assert content["resolution"] == {"32": {"mAP": 0.7, "rank-1": 0.7, "mINP": 0.7}}
    table = str(report)
    assert re.search(r"^  fog +40\.00 +20\.00 +30\.00 +15\.00 +7\.50$", table, re.M)
    assert re.search(r"^weather, mean +45\.00 +15\.00 +30\.00", table, re.M)
    assert re.search(r"^mean of 3 kinds +50\.00 +20\.00 +35\.00", table, re.M)
    assert re.search(r"^kept of clean +43\.8%", table, re.M)
    assert re.search(r"^32 px high +70\.00", table, re.M)


def test_levels_that_nearly_agree_keep_a_row_each():
    levels = [("occlusion", 0.121), ("occlusion", 0.124), ("resolution", 1234567), ("resolution", 1234568)]
    measured = [Measured(sweep, sweep, level, "both", three(0.5, 0.5, 0.5)) for sweep, level in levels]
    report = RobustnessReport("", "", "", Measured("clean", "clean", 0, "", three(0.8, 0.9, 0.7)), measured, {})
    found = report.to_dict()["corrupted"]["both"]
    assert list(found["occlusion"]) == ["0.121", "0.124"]
    assert list(found["resolution"]) == ["1234567", "1234568"]
    assert all(words in str(report) for words in ("12.1% covered", "12.4% covered", "1234568 px high"))


def test_the_command_writes_table_json_and_picture(run_folder, tmp_path, capsys):
    files = [tmp_path / "found.json", tmp_path / "found.png"]
    arguments = ["eval", str(run_folder), "--corruptions", "--kinds", "contrast", "blur", "--severities", "1", "5",
                 "--mixed", "2", "--resolution", "24", "12", "--occlusion", "--worse", "query", "--images", "9", "-q",
                 "--json", str(files[0]), "--png", str(files[1])]  # fmt: skip
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    content = json.loads(files[0].read_text())
    found = content["corrupted"]["query"]
    assert list(found["kinds"]) == [
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "gaussian_blur",
        "contrast",
    ]
    assert list(found["kinds"]["contrast"]) == ["1", "5"]
    assert list(found["resolution"]) == ["24", "12"]
    assert list(found["occlusion"]) == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6"]
    assert len(found["mixed"]["draws"]) == 2
    assert "12 images of 2 random ids, no distractors" in printed
    *_, last = printed.splitlines()
    assert last.startswith(f"wrote {files[0]}, {files[1]}; clean mAP ")
    assert last.endswith(f"; next: regard report {run_folder}")
    assert {"rank-15", "rank-20"} < found["mean"].keys() == found["resolution"]["24"].keys() == content["clean"].keys()
    mean = " +".join(f"{100 * value:.2f}" for value in found["mean"].values())
    assert re.search(rf"^mean of 6 kinds .* {mean}$", printed, re.M)
    with Image.open(files[1]) as picture:
        assert picture.width > 1000
    again = measure_robustness(open_run(run_folder, quiet=True), Plan(resolutions=(24,), sides=("query",), images=9))
    assert again.measured[0].mAP == pytest.approx(found["resolution"]["24"]["mAP"], abs=1e-6)


def test_two_sides_give_two_pictures(run_folder, tmp_path, capsys):
    arguments = ["eval", str(run_folder), "--resolution", "12", "--worse", "query", "both", "-q", "--png"]
    assert main([*arguments, str(tmp_path / "curve.png")]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["curve_both.png", "curve_query.png"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--corruptions", "--kinds", "nois"], "did you mean 'noise'"),
        (["--corruptions", "--severities", "7"], "severity is 7; choose among 1, 2, 3, 4, 5"),
        (["--occlusion", "40"], "between 0 and 1"),
        (["--resolution", "0"], "set it to 1 or more"),
        (["--resolution", "--images", "1"], "images is 1"),
        (["--resolution", "--data", "market1501", "crowd"], "2 data sets"),
        (["--resolution", "--open-set"], "--open-set does not go with"),
        (["--occlusion", "0.2", "--queries", "mean"], "--queries does not go with"),
        (["--png", "chart.png"], "nothing to measure"),
    ],
)
def test_what_cannot_be_measured_is_one_line(run_folder, capsys, arguments, said):
    assert main(["eval", str(run_folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_features_have_no_pictures_to_make_worse(capsys):
    assert main(["eval", "--features", "query.npz", "gallery.npz", "--corruptions"]) == 2
    assert "--features does not go with worse pictures" in capsys.readouterr().err


def test_nothing_to_measure_is_refused(model, splits):
    with pytest.raises(ConfigError, match="nothing to measure"):
        Plan()
    with pytest.raises(ConfigError, match="side is top"):
        Plan(resolutions=(8,), sides=("top",))
    with pytest.raises(DataError, match=r"the gallery of .* is empty"):
        measure_robustness(opened(model, replace(splits, gallery=[])), Plan(resolutions=(8,)))
