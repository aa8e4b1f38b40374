"""Runs over doses of causes: pairs, groups of seeds, what is kept, and what is said of it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import regard
from regard.cli.main import main
from regard.crowd import make_crowd, make_doses
from regard.data.datasets.synthetic import Dose, dose_sets
from regard.errors import ConfigError, DataError
from regard.evaluation import doses as doses_module
from regard.evaluation.dose_study import DoseStudy
from regard.evaluation.doses import _curve
from regard.evaluation.run import open_run
from regard.report.dose_chart import DoseLine, dose_chart

PIDS = np.repeat(np.arange(40), 3)
NONE, HALF, HEAVY = Dose("", 0.0), Dose("objects", 0.5), Dose("objects", 1.0)


def scores(loss, seed, start=0.6):
    """dose -> (Q,) of one run that loses so much at the heavy dose."""
    rng = np.random.default_rng(seed)
    easy = rng.normal(0, 0.02, len(PIDS))
    return {dose: start + easy + rng.normal(0, 0.01, len(PIDS)) - loss * dose.dose for dose in (NONE, HALF, HEAVY)}


def study(**losses):
    groups = {label: [f"{label}_{seed}" for seed in (1, 2, 3)] for label in losses}
    runs = {
        f"{label}_{seed}": scores(loss, 10 * place + seed)
        for place, (label, loss) in enumerate(losses.items())
        for seed in (1, 2, 3)
    }
    by_dose = {
        dose: {run: {"mAP": found[dose], "rank-1": found[dose]} for run, found in runs.items()}
        for dose in (NONE, HALF, HEAVY)
    }
    curves = tuple(_curve("objects", label, groups, by_dose, PIDS) for label in groups)
    return DoseStudy("data", "both", dict.fromkeys(groups, 3), next(iter(groups)), curves, ())


def test_what_is_kept_and_spared_is_what_was_planted():
    found = study(plain=0.4, firm=0.2, weak=0.5, like=0.4)
    plain, firm, weak, like = found.curves
    assert plain.kept["mAP"].value == pytest.approx(0.5, abs=0.005)
    assert firm.kept["mAP"].value == pytest.approx(0.75, abs=0.005)
    assert firm.spared["mAP"][0].value == pytest.approx(0.25, abs=0.005)
    assert weak.spared["mAP"][0].value == pytest.approx(-0.125, abs=0.005)
    assert firm.points[2].gaps["mAP"][0].value == pytest.approx(0.2, abs=0.02)
    assert not plain.spared
    assert like.spared["mAP"][1] > 0.05
    (line,) = found.verdicts()
    less, more, neither = line.split("; ")
    assert less.startswith("objects, against plain: keeps more: firm (+2")
    assert more.startswith("keeps less: weak (-")
    assert neither.startswith("neither is shown: like (")


def test_of_a_score_of_nothing_no_share_is_kept():
    """It was said to be 0 %, and no different from any other, with p of 1."""
    by_dose = {
        dose: {run: {"mAP": scores(0.3, place)[dose], "rank-1": np.full(120, hits, float)} for place, (run, hits) in
               enumerate((("a_1", 1), ("a_2", 1), ("b_1", 1), ("b_2", 0)))}
        for dose in (NONE, HALF, HEAVY)
    }  # fmt: skip
    groups = {"a": ["a_1", "a_2"], "b": ["b_1", "b_2"]}
    for first, second in (("a", "b"), ("b", "a")):
        order = {first: groups[first], second: groups[second]}
        curves = tuple(_curve("objects", label, order, by_dose, PIDS) for label in order)
        found = DoseStudy("data", "both", {"a": 2, "b": 2}, first, curves, ())
        kept = {curve.label: {name: share.value for name, share in curve.kept.items()} for curve in curves}
        assert kept["a"] == {"mAP": pytest.approx(0.625, abs=0.01), "rank-1": pytest.approx(1)}
        assert kept["b"] == {"mAP": pytest.approx(0.625, abs=0.01)}
        assert list(curves[1].spared) == ["mAP"]
        assert "-: a run of the group scored 0 without the cause" in str(found)
        assert len(json.dumps(found.to_dict(), allow_nan=False)) > 100
    assert "scored 0" not in str(study(plain=0.4, firm=0.2))


def test_text_markdown_csv_and_json_say_the_same():
    found = study(plain=0.4, firm=0.2)
    value = f"{100 * found.curves[1].points[2].figures['mAP'].value:.1f}"
    assert value in str(found)
    assert f"| {value} |" in found.to_markdown()
    content = json.loads(json.dumps(found.to_dict()))
    (firm,) = (curve for curve in content["curves"] if curve["runs"] == "firm")
    heavy = firm["doses"][2]
    assert f"{100 * heavy['figures']['mAP']['value']:.1f}" == value
    rows = [line.split(",") for line in found.to_csv().splitlines()]
    (row,) = (row for row in rows if row[:4] == ["objects", "1.0", "firm", "mAP"])
    assert float(row[4]) == heavy["figures"]["mAP"]["value"]
    assert float(row[8]) == heavy["difference"]["mAP"]["value"]
    assert found.verdicts()[0] in str(found)


def test_a_cause_may_help():
    better = study(plain=-0.1, firm=-0.2).curves[1].kept["mAP"]
    assert 1 < better.low < better.value < better.high


def test_the_chart_draws_every_group_and_attention_where_there_is_any():
    point = (0.5, 0.4, 0.6)
    lines = [
        DoseLine("plain", [0, 1], {"mAP": [point, point], "rank-1": [point, point]}, []),
        DoseLine(
            "firm", [0, 1], {name: [point, point] for name in ("mAP", "rank-1", "attention", "chance")}, [point] * 2
        ),
    ]
    figure = dose_chart({"objects": lines, "scale": lines}, "plain", ["said"]).figure
    assert len(figure.axes) == 8
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "firm"]
    assert len(dose_chart({"objects": lines[:1]}, "plain", []).figure.axes) == 2


def described(root, name, **parameters):
    (root / name).mkdir()
    (root / name / "dataset.json").write_text(json.dumps({"parameters": {"seed": 1, **parameters}}))


def test_sets_that_are_no_pairs_are_refused(tmp_path):
    with pytest.raises(DataError, match="no crowd without a cause"):
        dose_sets(tmp_path)
    described(tmp_path, "plain")
    described(tmp_path, "b", cause="people", dose=1.0, test_only=True)
    assert dose_sets(tmp_path) == {NONE: tmp_path / "plain", Dose("people", 1.0): tmp_path / "b"}
    described(tmp_path, "c", cause="people", dose=0.5, seed=2)
    with pytest.raises(DataError, match=r"differ in more than their cause \(seed\)"):
        dose_sets(tmp_path)
    (tmp_path / "c/dataset.json").write_text("[" * 9)
    with pytest.raises(DataError, match="cannot read the sets"):
        dose_sets(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'people'"):
        doses_module._chosen({NONE: tmp_path, Dose("people", 1.0): tmp_path}, ["peopel"], tmp_path)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A small crowd with people in front of people, and without."""
    root = tmp_path_factory.mktemp("doses")
    small = {"cameras": 2, "per_camera": 1, "height": 64, "width": 32, "distractors": 0, "junk": 0}
    make_crowd(root / "crowd", train_ids=1, test_ids=3, workers=1, progress=False, **small)
    make_doses(root / "crowd", root / "sets", causes=["people"], doses=[1.0], workers=1, progress=False)
    return root / "sets"


def test_the_command_compares_on_the_sets_and_draws(sets, tmp_path, capsys):
    for name, options in (("plain", {}), ("gated", {"level": 1})):
        network = regard.create_model(
            "apnet" if options else "baseline", 2, backbone="test_resnet.r160_in1k", pretrained=False, **options
        )
        network.save(tmp_path / name)
    asked = ["compare", tmp_path / "plain", tmp_path / "gated", "--doses", sets, "--worse", "query", "--attention", "4"]
    written = [tmp_path / f"found.{ending}" for ending in ("json", "md", "csv", "png", "tex")]
    more = [word for file in written for word in (f"--{file.suffix[1:]}", file)]
    assert main([*map(str, [*asked, *more]), "-q"]) == 0
    out = capsys.readouterr().out
    assert "people, against plain: " in out
    assert "queries have the cause, the gallery does not" in out
    content = json.loads(written[0].read_text())
    before, after = content["curves"][0]["doses"]
    plain = open_run(tmp_path / "plain", "crowd", sets / "plain", {"ap": "step"}, quiet=True)
    assert before["figures"]["mAP"]["value"] == pytest.approx(plain.report().mAP)
    assert before["figures"]["chance"]["value"] > after["figures"]["chance"]["value"]
    dosed = open_run(tmp_path / "plain", "crowd", sets / "people_1", {"ap": "step"}, quiet=True)
    mixed = dosed.on(dataclasses.replace(dosed.splits, gallery=plain.splits.gallery))
    assert after["figures"]["mAP"]["value"] == pytest.approx(mixed.report().mAP)
    assert written[3].read_bytes().startswith(b"\x89PNG")
    for wrong, said in ((["--causes", "peopel"], "did you mean 'people'"), (["--root", "x"], "leave one of them out")):
        assert main([*map(str, [*asked, *wrong])]) == 2
        assert said in capsys.readouterr().err
