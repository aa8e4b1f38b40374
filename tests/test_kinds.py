"""An argument of another kind, given from Python, is one clear line before any work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import regard
from regard.calibration.similarity import check_prior
from regard.cli.main import _Teller
from regard.config import load_config
from regard.errors import CheckpointError, ConfigError, RegardWarning
from regard.gallery import Gallery, Item, Record
from regard.gallery.record import record_id

SMALL = "test_resnet.r160_in1k"


def rank(**options: Any) -> Any:
    rows = [[1.0, 0.0], [0.9, 0.1]]
    return regard.evaluate_ranking(rows, rows, query_pids=[1, 1], gallery_pids=[1, 1], **options)


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: rank(rerank="x"), "rerank is 'x', wanted true"),
        (lambda: rank(rerank=3), "rerank is 3, wanted true"),
        (lambda: rank(rerank={"k1": 5}), "rerank is {'k1': 5}, wanted true"),
        (lambda: rank(expansion=3), "expansion is 3, wanted true"),
        (lambda: rank(ignore_cameras="x"), "ignore_cameras is 'x', wanted true"),
        (lambda: rank(leave_one_out=None), "leave_one_out is None, wanted true"),
        (lambda: rank(draws=2.5, cmc="cuhk03"), "draws is 2.5"),
        (lambda: regard.create_model("baseline", num_ids=2, backbone=18), "backbone is 18, wanted a name"),
        (lambda: regard.create_model("baseline", num_ids=2, pretrained=3), "pretrained is 3, wanted true"),
        (lambda: regard.create_model("baseline", num_ids=10**12, backbone=SMALL), "num_ids is 1000000000000, wanted 1"),
        (lambda: regard.load(3), "path is 3, wanted the folder"),
        (lambda: regard.load(None), "path is None, wanted the folder"),
        (lambda: regard.load(b"x"), "path is b'x', wanted the folder"),
        (lambda: regard.load(""), "path is '', wanted the folder .*'.' is the current folder"),
        (lambda: regard.open_run(""), "folder is '', wanted the folder"),
        (lambda: regard.open_run(None), "folder is None, wanted the folder"),
        (lambda: regard.open_run(b"x"), "folder is b'x', wanted the folder"),
        (lambda: regard.open_run("x", root=3), "root is 3, wanted the folder of a data set"),
        (lambda: regard.open_run("x", changes=3), "^changes is 3, wanted settings of the eval section"),
        (lambda: regard.open_run("x", changes=[("rerank", True)]), r"changes is \[\('rerank', True\)\], wanted"),
        (lambda: regard.train("baseline_crowd", folder=""), "folder is '', wanted a folder to keep the run in"),
        (lambda: regard.train("baseline_crowd", folder=3), "folder is 3, wanted a folder to keep the run in"),
        (lambda: regard.train("baseline_crowd", folder=b"x"), "folder is b'x', wanted a folder"),
        (lambda: regard.train(3), "recipe is 3, wanted the name of a system"),
        (lambda: Gallery(None), "where is None, wanted the folder of a gallery"),
        (lambda: Gallery.open(3), "where is 3, wanted the folder of a gallery"),
        (lambda: Gallery.create("", 2, {}), "where is '', wanted the folder of a gallery"),
        (lambda: regard.InputSpec().resized((1, 2, 3)), r"size is \(1, 2, 3\), wanted height and width"),
        (lambda: regard.InputSpec().resized("64x32"), "size is '64x32', wanted height and width"),
        (lambda: regard.InputSpec().resized(3), "size is 3, wanted height and width"),
        (lambda: regard.InputSpec().resized(()), r"size is \(\), wanted height and width"),
        (lambda: regard.InputSpec().resized((64, 32.5)), "the input's width is 32.5, wanted 1 to"),
        (lambda: regard.load_dataset("folder", None), "root is None, wanted the folder"),
        (lambda: regard.import_released(3), "source is 3, wanted a checkpoint"),
        (lambda: regard.import_released({}, network=[]), r"unknown released network \[\]"),
        (lambda: check_prior("x"), "prior is 'x', wanted a share"),
        (lambda: check_prior(True), "prior is True, wanted a share"),
    ],
)
def test_an_argument_of_another_kind_is_named(call: Callable[[], Any], wanted: str):
    with pytest.raises(ConfigError, match=wanted) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"k": 2.5}, "k=2.5, wanted 1 to"),
        ({"k": True}, "k=True, wanted 1 to"),
        ({"k": None}, "k=None, wanted 1 to"),
        ({"filter": 3}, "filter is 3, wanted Filter"),
        ({"filter": {}}, r"filter is {}, wanted Filter"),
        ({"rerank": "x"}, "rerank is 'x', wanted true"),
        ({"prior": "x"}, "prior is 'x', wanted a share"),
        ({"prior": 2}, "prior is 2: give the share"),
    ],
)
def test_a_search_says_what_it_wants(options: dict[str, Any], wanted: str, tmp_path):
    with Gallery.create(tmp_path / "people", dim=2, model={"fingerprint": "a"}) as gallery:
        gallery.add([Item(Record(record_id("a"), "a.jpg"), np.array([1, 0], np.float32))])
        with pytest.raises(ConfigError, match=wanted):
            gallery.search(np.array([1, 0], np.float32), **options)
        assert len(gallery.search(np.array([1, 0], np.float32), k=np.int64(1)).matches) == 1


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("data.options.camera=3", "got 3, wanted options by data set, such as data.options.cuhk03.boxes=labeled"),
        ("data.options=3", "got 3, wanted options by data set"),
        ("optim=4", "optim: got 4, wanted a section, such as optim.name=VALUE (keys: name, lr"),
        ("losses.id=3", "losses.id: got 3, wanted a section, such as losses.id.KEY=VALUE"),
    ],
)
def test_a_value_in_place_of_a_section_says_what_it_wants(override: str, wanted: str):
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        load_config({}, [override])


def test_a_calibration_that_is_none_is_refused_alone(tmp_path, recwarn):
    regard.create_model("baseline", num_ids=2, backbone=SMALL).save(tmp_path)
    (tmp_path / "calibration.json").write_text("{}")
    with pytest.raises(CheckpointError, match="it is no calibration"):
        regard.load(tmp_path)
    assert not recwarn.list


def test_a_warning_is_said_once_a_command(capsys):
    tell = _Teller()
    for _ in range(2):
        for text in ("a.json is old", "b.json is old"):
            tell(text, RegardWarning, "x.py", 1)
    assert capsys.readouterr().err == "regard: a.json is old\nregard: b.json is old\n"
