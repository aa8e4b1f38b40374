"""Networks that come with regard: found by name, used where none is named, nothing written beside them."""

from __future__ import annotations

import json

import pytest
import torch

import regard
from regard.cli.main import main
from regard.models import ready


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A tiny network that lies where those of the package do, and an empty folder to stand in."""
    monkeypatch.setattr(ready, "PLACE", tmp_path / "ready")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    model = regard.create_model("baseline", num_ids=3, backbone="test_resnet.r160_in1k")
    model.input = regard.InputSpec(64, 32)
    folder = tmp_path / "ready" / "regard-s"
    model.save(folder)
    about = {"trained_on": "people who do not exist", "scores": "mAP 1.0 on nobody", "licence": "Apache-2.0"}
    (folder / ready.ABOUT).write_text(json.dumps(about))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return model, folder


@pytest.mark.slow
def test_what_is_ready_embeds_searches_and_tells_what_it_is(shipped, market, capsys):
    model, folder = shipped
    loaded = regard.load("regard-s").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
    assert main(["models", "regard-s"]) == 0
    said = "regard-s: trained on people who do not exist; mAP 1.0 on nobody; Apache-2.0"
    assert said in capsys.readouterr().out
    photos = sorted((market / "query").glob("*.jpg"))[:3]
    assert main(["embed", *map(str, photos), "-o", "people", "-q"]) == 0
    assert said in capsys.readouterr().err
    assert main(["search", str(photos[0]), "--gallery", "people", "-k", "1", "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert photos[0].name in json.dumps(answer["matches"][0])
    with regard.Gallery("people") as gallery:
        assert gallery.meta["model"]["path"] == "regard-s"  # wherever the package lies tomorrow
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors", "ready.json"]


def test_a_folder_here_goes_before_and_what_is_not_there_is_said(shipped, tmp_path, capsys):
    other = regard.create_model("baseline", num_ids=3, backbone="test_resnet.r160_in1k", head_dim=7)
    other.save("regard-s")
    assert regard.load("regard-s").embed_dim == 7
    assert main(["embed", "x.jpg", "--model", "regard-m", "-o", "people"]) == 2
    assert "no model.safetensors in regard-m" in capsys.readouterr().err
    (tmp_path / "ready" / "regard-s" / ready.ABOUT).unlink()
    assert main(["embed", "x.jpg", "-o", "people"]) == 2
    assert "regard-s does not come with this installation (there: none); give --model FOLDER" in capsys.readouterr().err
