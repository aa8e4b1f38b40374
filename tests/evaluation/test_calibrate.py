"""A run is calibrated once, and two pictures are compared ever after."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import regard
from regard.calibration.similarity import Calibration, fit_calibration
from regard.cli.main import main
from regard.config import load_config
from regard.data.image import read_image
from regard.errors import CheckpointError, ConfigError, DataError, RegardWarning
from regard.evaluation.embed import extract
from regard.evaluation.verify import calibrate_run
from regard.metrics import FeatureSet
from regard.metrics.pair_sampling import sample_pairs
from regard.models.saved import weights_digest
from regard.recipes import read_recipe


def write_run(folder: Path, overrides: list[str]) -> Path:
    config = read_recipe("baseline_crowd").config(overrides)
    torch.manual_seed(0)
    regard.create_model("baseline", 6, **config.model.options).save(folder / "final")
    (folder / "config.yaml").write_text(config.to_yaml())
    return folder


@pytest.fixture
def run(tmp_path, tiny_overrides) -> Path:
    return write_run(tmp_path / "run", tiny_overrides)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory, market):
    overrides = [
        f"data.root={market}", "data.name=market1501", "data.height=48", "data.width=32", "data.workers=0",
        "model.backbone=test_resnet.r160_in1k", "train.accelerator=cpu", "eval.batch_size=16",
    ]  # fmt: skip
    folder = write_run(tmp_path_factory.mktemp("calibrated") / "run", overrides)
    calibrate_run(folder, rates=(0.1,), quiet=True)
    return regard.load(folder)


def test_a_calibration_is_that_of_the_data_and_stays_with_the_model(run, market, tmp_path):
    found = calibrate_run(run, rates=(0.1,), quiet=True)
    assert found.file == run / "final" / "calibration.json"
    assert found.own_data
    splits = regard.load_dataset("market1501", market)
    model = regard.load(run)
    sides = (
        FeatureSet.of(extract(model, part, seen=regard.InputSpec(48, 32), batch_size=16, workers=0), part)
        for part in (splits.query, splits.gallery)
    )
    fitted, _ = fit_calibration(sample_pairs(*sides), rates=(0.1,))
    np.testing.assert_allclose(found.calibration.knots, fitted.knots, atol=1e-5)
    assert model.calibration == json.loads(found.file.read_text()) == found.calibration.to_dict()
    assert found.calibration.about["embedding"] == {**regard.InputSpec(48, 32).to_dict(), "five_crops": False}
    model.strip().save(tmp_path / "copy")
    assert regard.load(tmp_path / "copy").calibration == model.calibration


def test_new_weights_lose_an_old_calibration(run):
    calibrate_run(run, rates=(), quiet=True)
    regard.create_model("baseline", 6, backbone="test_resnet.r160_in1k").save(run / "final")
    assert not (run / "final" / "calibration.json").exists()
    assert regard.load(run).calibration is None


@pytest.mark.filterwarnings("default::regard.errors.RegardWarning")
def test_a_calibration_is_used_with_its_own_weights_alone(run, tmp_path, capsys):
    found = calibrate_run(run, rates=(), quiet=True)
    assert found.calibration.about["weights"] == weights_digest(run / "final")
    model = regard.load(run)
    regard.create_model("baseline", 6, backbone="test_resnet.r160_in1k").save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", run / "final")
    shutil.copy(tmp_path / "other" / "config.json", run / "final")
    with pytest.warns(RegardWarning, match=r"calibration\.json is of other weights .* is not used"):
        assert regard.load(run).calibration is None
    main(["embed", str(tmp_path / "other"), "--model", str(run), "-o", str(tmp_path / "g"), "-q"])
    assert "is of other weights" in capsys.readouterr().err.splitlines()[0]
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.warns(RegardWarning, match="calibration is of other weights and was not saved"):
        model.save(tmp_path / "trained on")
    assert not (tmp_path / "trained on" / "calibration.json").exists()


def test_a_calibration_of_an_earlier_version_is_used_with_a_word(run, tmp_path):
    calibrate_run(run, rates=(), quiet=True)
    file = run / "final" / "calibration.json"
    content = json.loads(file.read_text())
    del content["about"]["weights"], content["about"]["digest"]
    file.write_text(json.dumps(content))
    for place in (run, tmp_path / "copy"):  # saving it again does not make it known
        with pytest.warns(RegardWarning, match="does not say which weights it is of"):
            model = regard.load(place)
        assert Calibration.from_dict(model.calibration or {}).prior == 0.5
        model.save(tmp_path / "copy")


def test_a_changed_calibration_is_said_so(run):
    calibrate_run(run, rates=(), quiet=True)
    file = run / "final" / "calibration.json"
    file.write_text(file.read_text().replace('"prior": 0.5', '"prior": 0.9', 1))
    with pytest.raises(CheckpointError, match=r"calibration.json cannot be read \(not as it was written\)"):
        regard.load(run)


def test_a_damaged_calibration_is_said_so(run):
    (run / "final" / "calibration.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"calibration.json cannot be read .*regard calibrate"):
        regard.load(run)


def test_other_data_are_not_the_runs_own(run, market, tmp_path):
    import shutil

    other = shutil.copytree(market, tmp_path / "other")
    assert not calibrate_run(run, "market1501", other, rates=(), quiet=True).own_data
    assert calibrate_run(run, "market1501", market, rates=(), quiet=True).own_data
    assert not calibrate_run(run, f"market1501={other}", rates=(), quiet=True).own_data
    config = load_config((run / "config.yaml").read_text(), [f"data.name=market1501={market}", "data.root=null"])
    (run / "config.yaml").write_text(config.to_yaml())
    assert calibrate_run(run, rates=(), quiet=True).own_data


def test_pictures_come_in_any_form(calibrated, market):
    splits = regard.load_dataset("market1501", market)
    first, second = splits.query[0].path, splits.gallery[3].path
    wanted = regard.verify(first, second, calibrated)
    assert regard.compare is regard.verify  # its name until 0.3
    calibration = Calibration.from_dict(calibrated.calibration)
    assert wanted.probability == pytest.approx(calibration.probability(wanted.similarity), abs=1e-12)
    features = extract(calibrated, [splits.query[0], splits.gallery[3]], seen=regard.InputSpec(48, 32), workers=0)
    cosine = np.dot(*features) / np.linalg.norm(features, axis=1).prod()
    assert wanted.similarity == pytest.approx(cosine, abs=1e-6)
    for a, b in (
        (str(first), read_image(second)),
        (Image.open(first), second),
        (features[0], torch.from_numpy(features[1])),
        (features[0].astype(np.float64), second),
        (second, first),
    ):
        assert regard.verify(a, b, calibrated).similarity == pytest.approx(wanted.similarity, abs=1e-5)
    assert regard.verify(first, first, calibrated).probability >= wanted.probability


def test_prior_cameras_and_thresholds_are_used(calibrated, market):
    splits = regard.load_dataset("market1501", market)
    pair = splits.query[0].path, splits.gallery[3].path
    content = json.loads(json.dumps(calibrated.calibration))
    similarity = regard.verify(*pair, calibrated).similarity
    content["cameras"] = [[1, 2, 3.0, 1.0]]
    content["thresholds"] = [
        {"rate": 0.1, "similarity": similarity - 0.01, "low": 0, "high": 1, "hits": 1},
        {"rate": 0.01, "similarity": similarity, "low": 0, "high": 1, "hits": 1},
    ]
    calibrated_again = regard.create_model("baseline", 6, backbone="test_resnet.r160_in1k")
    calibrated_again.load_state_dict(calibrated.state_dict())
    calibrated_again.calibration = content
    even = regard.verify(*pair, calibrated_again)
    rare = regard.verify(*pair, calibrated_again, prior=0.01)
    odds = [p / (1 - p) for p in (even.probability, rare.probability)]
    assert odds[0] / odds[1] == pytest.approx(99)
    assert (even.prior, rare.prior) == (0.5, 0.01)
    assert even.same == rare.same == {0.1: True, 0.01: False}
    seen = regard.verify(*pair, calibrated_again, cameras=(2, 1)).probability
    assert seen / (1 - seen) == pytest.approx(odds[0] * np.exp(3))
    with pytest.raises(ConfigError, match="prior is 1"):
        regard.verify(*pair, calibrated_again, prior=1)


def test_the_folder_of_a_model_will_do(run, market):
    calibrate_run(run, rates=(), quiet=True)
    path = regard.load_dataset("market1501", market).query[0].path
    assert regard.verify(path, path, run) == regard.verify(path, path, regard.load(run))


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ("/not/there.jpg", "there is no image"),
        (np.zeros((4, 4), np.uint8), r"uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 3)), r"float64 of shape \(4, 4, 3\)"),
        (np.zeros(5, np.float32), r"float32 of shape \(5,\): give a path"),
        (np.full(96, np.nan, np.float32), "NaN"),
        (np.zeros(96, np.float32), "the first picture's features are zero in 1 of 1 rows"),
        (np.zeros((0, 4, 3), np.uint8), "0 x 4 pixels have no area"),
        (Image.new("RGB", (0, 9)), "9 x 0 pixels have no area"),
        (None, "NoneType of shape"),
    ],
)
def test_what_is_no_picture_is_refused(calibrated, item, wanted):
    with pytest.raises(DataError, match=wanted):
        regard.verify(item, np.ones(96, np.float32), calibrated)


def test_a_model_without_calibration_says_what_to_do(run):
    model = regard.load(run)
    with pytest.raises(CheckpointError, match=r"not calibrated.*run 'regard calibrate RUN'"):
        regard.verify(np.ones(96), np.ones(96), model)


def test_the_verb_stores_prints_and_draws(run, tmp_path, capsys):
    drawing, content = tmp_path / "r.png", tmp_path / "r.json"
    arguments = ["calibrate", str(run), "--rates", "0.1", "0.05", "--curve", "logistic", "--prior", "0.2"]
    assert main([*arguments, "--png", str(drawing), "--json", str(content), "-q"]) == 0
    out = capsys.readouterr().out
    assert "curve logistic" in out
    assert "people left out: ECE" in out
    assert "same-person pairs found" in out
    assert "note: these are the people the run is scored on" in out
    assert drawing.read_bytes().startswith(b"\x89PNG")
    stored = json.loads((run / "final" / "calibration.json").read_text())
    assert stored["prior"] == 0.2
    assert [found["rate"] for found in stored["thresholds"]] == [0.1, 0.05]
    reliability = json.loads(content.read_text())["reliability"]
    assert sum(reliability["mass"]) == pytest.approx(1)


def test_a_mistake_at_the_verb_is_one_line(run, capsys):
    assert main(["calibrate", str(run), "--prior", "2", "-q"]) == 2
    assert "prior is 2.0" in capsys.readouterr().err
    assert main(["calibrate", "/not/there"]) == 2
    assert "/not/there" in capsys.readouterr().err
    assert not (run / "final" / "calibration.json").exists()
