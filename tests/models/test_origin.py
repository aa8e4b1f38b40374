"""Where weights came from: written by imports and by training from weights, handed on, shown."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

import regard
from regard.cli.main import main
from regard.config import Config
from regard.engine.build import build_model
from regard.errors import CheckpointError, ConfigError
from regard.export.exporting import describe
from regard.export.manifest import card_file, read_card
from regard.models import backbone
from regard.models.saved import origin_in

SMALL = {"backbone": "test_resnet.r160_in1k"}
MINE = {"source": "some/where", "licence": "MIT"}


@pytest.fixture
def folder(tmp_path):
    model = regard.create_model("baseline", num_ids=5, **SMALL)
    model.input, model.origin = regard.InputSpec(64, 32), MINE
    model.save(tmp_path / "run" / "final")
    return tmp_path / "run"


def test_weights_from_nowhere_say_nothing(tmp_path):
    model = regard.create_model("baseline", num_ids=5, **SMALL)
    assert model.origin is None
    model.save(tmp_path)
    assert "origin" not in json.loads((tmp_path / "config.json").read_text())
    assert regard.load(tmp_path).origin is None


def test_fetched_weights_are_of_where_timm_fetches_them(monkeypatch):
    made = backbone.timm.create_model
    monkeypatch.setattr(backbone.timm, "create_model", lambda name, pretrained, **how: made(name, **how))
    monkeypatch.setattr(backbone, "_announce_download", lambda name: None)
    model = regard.create_model("baseline", num_ids=5, pretrained=True, **SMALL)
    assert model.origin == {"source": "timm/test_resnet.r160_in1k", "licence": "apache-2.0"}
    assert backbone.fetched_origin("resnet50.tv_in1k")["licence"] == "bsd-3-clause"
    assert backbone.fetched_origin(None) == {"source": "what the network fetched", "licence": "unknown"}


def test_a_file_says_its_name_and_that_nothing_is_known(tmp_path):
    network = backbone.timm.create_model("test_resnet.r160_in1k", num_classes=0)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    model = regard.create_model("baseline", num_ids=5, pretrained=tmp_path / "mine.pth", **SMALL)
    assert model.origin == {"source": "mine.pth", "licence": "unknown"}


def test_what_a_run_starts_from_is_handed_on(folder, tmp_path):
    for start in (folder, str(folder / "final"), folder / "final" / "model.safetensors"):
        assert regard.create_model("baseline", num_ids=7, pretrained=start, **SMALL).origin == MINE
    plain = regard.create_model("baseline", num_ids=5, **SMALL)
    plain.save(tmp_path / "old" / "final")
    begun = regard.create_model("baseline", num_ids=5, pretrained=tmp_path / "old", **SMALL)
    assert begun.origin == {"source": "old, which does not say", "licence": "unknown"}
    strip = regard.load(folder).strip()
    strip.save(tmp_path / "again")
    assert regard.load(tmp_path / "again").origin == MINE


def test_a_resumed_run_knows_it_too(folder, tmp_path):
    for start, origin in ((folder, MINE), (tmp_path / "gone", {"source": "gone", "licence": "unknown"}), (False, None)):
        model = {"name": "baseline", "pretrained": start if start is False else str(start), **SMALL}
        config = Config(model=model, losses={"id": {"loss": "cross_entropy", "on": "logits.global"}})
        assert build_model(config, 5, started=True).origin == origin


def test_an_export_has_it_on_its_card(folder, tmp_path):
    model, card = describe(folder)
    assert card.origin == MINE
    file = tmp_path / "a.onnx"
    content = json.loads(card.to_json())
    card_file(file).write_text(json.dumps(content))
    assert read_card(file).origin == MINE
    del content["origin"], content["digest"]  # as an earlier version wrote it
    content["digest"] = regard.fingerprint.values_digest(content)
    card_file(file).write_text(json.dumps(content))
    assert read_card(file).origin == {}
    assert model.origin == MINE


def test_an_old_folder_of_a_released_network_is_of_its_release():
    assert origin_in({"imported": "apnet"}, "a") == {"source": "CHENGY12/APNet", "licence": "MIT"}
    assert origin_in({"imported": "mine"}, "a") is None
    assert origin_in({"origin": MINE | {"more": 1}}, "a") == MINE


@pytest.mark.parametrize("wrong", ["here", {"source": "here"}, {"source": 1, "licence": "MIT"}, []])
def test_an_origin_is_a_source_and_a_licence(folder, wrong, tmp_path):
    file = folder / "final" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"origin": wrong}))
    with pytest.raises(CheckpointError, match="wanted a source and its licence"):
        regard.load(folder)
    model = regard.create_model("baseline", num_ids=5, **SMALL)
    model.origin = wrong
    with pytest.raises(ConfigError, match="wanted a source and its licence"):
        model.save(tmp_path / "other")


def test_models_shows_a_folder(folder, capsys):
    assert main(["models", str(folder)]) == 0
    told = capsys.readouterr().out
    for words in ("baseline of 5 identities", "64 x 32", "some/where, licence: MIT", "calibration  none", "backbone ="):
        assert words in told
    file = folder / "final" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"plugin": "/nowhere/net.py", "model": "net"}))
    assert main(["models", f"{folder}/final"]) == 0  # nothing is imported to say so
    assert "plug-in      /nowhere/net.py" in capsys.readouterr().out
    for name, said in ((str(folder / "none"), "no model.safetensors"), ("apnat", "did you mean 'apnet'")):
        assert main(["models", name]) == 2
        assert said in capsys.readouterr().err


def test_what_is_said_of_a_network_that_timm_does_not_know():
    options = SimpleNamespace(get=lambda name: "not-of-timm")
    assert regard.models.build.start_origin(True, options) == {
        "source": "what not-of-timm fetched",
        "licence": "unknown",
    }
