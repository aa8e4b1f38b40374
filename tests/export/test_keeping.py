"""An export is made where a search or a service lacks it, in another process, and not again where it cannot be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from regard.errors import CheckpointError, PluginError, StorageError
from regard.export import keeping
from regard.export.keeping import engine_for
from regard.gallery import Embedder
from regard.input_spec import InputSpec
from regard.models import create_model

SEEN = InputSpec(64, 32)


@pytest.fixture
def making(monkeypatch):
    """``making(code, told) -> lists``: a process that ends so; what it was started with, and what was said."""
    monkeypatch.setattr(keeping, "MAKERS", ("onnx",))
    started, said = [], []

    def set_(code: int, told: str = ""):
        def run(command, **_):
            started.append(command)
            return SimpleNamespace(returncode=code, stderr=told.encode())

        monkeypatch.setattr(keeping, "subprocess", SimpleNamespace(run=run, DEVNULL=0, PIPE=0))
        return started, said

    return set_


@pytest.fixture
def model(tmp_path):
    create_model("baseline", num_ids=2, backbone="test_resnet.r160_in1k").save(tmp_path / "model")
    return tmp_path / "model"


def test_a_network_that_cannot_be_exported_is_tried_once(making, model):
    started, said = making(2, "warning\nit is not the network")
    for _ in range(2):
        engine, why = engine_for(model, SEEN, said.append)
        assert engine is None
        assert "no export of it is kept" in why
        assert "none could be made here: it is not the network" in why
        assert "\n" not in why
    assert why.endswith("64x32.refused to try again)")
    assert (len(started), len(said)) == (1, 1)
    create_model("baseline", num_ids=3, backbone="test_resnet.r160_in1k").save(model)
    engine_for(model, SEEN, said.append)
    assert len(started) == 2


@pytest.mark.parametrize(("code", "told", "why"), [(-9, "", "ended with -9"), (1, "the disk is full", "disk is full")])
def test_what_may_be_otherwise_another_time_is_tried_again(making, model, code, told, why):
    started, said = making(code, told)
    for _ in range(2):
        assert engine_for(model, SEEN, said.append)[1].endswith(why)
    assert len(started) == 2


def test_nothing_is_started_where_nothing_can_be_made(making, model, monkeypatch):
    started, said = making(0)
    monkeypatch.setattr(keeping.os, "access", lambda *_: False)
    assert engine_for(model, SEEN, said.append)[1].endswith("exports cannot be written")
    monkeypatch.setattr(keeping, "MAKERS", ("onnx", "no_such_package"))
    assert "no_such_package is not installed (pip install" in engine_for(model, SEEN, said.append)[1]
    made_by = Embedder(model, size=SEEN.size, device="cpu").describe()
    assert "no export of it is kept" in Embedder.like(made_by).note, "a library makes none unless asked to"
    Embedder.like(made_by | {"name": "apnet"}, say=said.append)
    assert (started, said) == ([], [])


@pytest.mark.parametrize(
    ("error", "code"),
    [(StorageError("the disk\nis full"), 1), (CheckpointError("not it"), 2), (PluginError("gone"), 1)],
)
def test_the_process_says_in_one_line_why_it_kept_none(monkeypatch, capsys, error, code):
    def export_run(*_, **__):
        raise error

    monkeypatch.setattr("regard.export.exporting.export_run", export_run)
    assert keeping.main("somewhere", "64", "32") == code
    assert capsys.readouterr().err == " ".join(str(error).split()) + "\n"
