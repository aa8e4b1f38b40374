"""The network that comes with regard: what its card says of the file, and that it tells people apart."""

from __future__ import annotations

import hashlib

import pytest

import regard
from regard.cli.main import main
from regard.crowd.dataset.generate import make_crowd
from regard.models.ready import PLACE, about_ready


@pytest.fixture(scope="module")
def model():
    return regard.load("regard-s")


def test_the_card_is_of_the_weights(model):
    """Small enough for a package, calibrated for cameras of anybody."""
    folder = PLACE / "regard-s"
    weights = (folder / "model.safetensors").read_bytes()
    card = (folder / "README.md").read_text()
    assert hashlib.sha256(weights).hexdigest() in card
    assert len(weights) < 8e6
    assert sum(value.numel() for value in model.parameters()) < 3e6
    assert f"{model.embed_dim:,} numbers" in card
    assert (model.calibration["prior"], model.calibration["cameras"]) == (0.01, [])
    assert "on no real person" in about_ready("regard-s")
    assert "Apache-2.0" in card


@pytest.mark.slow
def test_it_tells_people_apart_in_a_city_it_has_never_seen(tmp_path, monkeypatch, capsys):
    """Twenty-five people, so it is easy: 93.9 when it was shipped. Scored by its name, it leaves nothing behind."""
    make_crowd(tmp_path / "city", test_ids=25, test_only=True, seed=321, city=321, difficulty="diverse", progress=False)
    before = sorted(PLACE.rglob("*"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["eval", "regard-s", "--root", str(tmp_path / "city"), "-q"]) == 0
    closing = capsys.readouterr().out.splitlines()[-1]
    assert float(closing.split("mAP ")[1].split(",")[0]) > 90
    assert sorted(PLACE.rglob("*")) == before
    assert list((tmp_path / "here").iterdir()) == []
