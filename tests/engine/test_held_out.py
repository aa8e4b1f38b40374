"""A training that is evaluated on people held out of it."""

from __future__ import annotations

import json
import re

from regard.cli.main import main
from regard.config import load_config
from regard.evaluation.run import open_run
from regard.run_folder.folders import read_history
from regard.run_folder.opened_data import open_data


def test_training_is_evaluated_on_them_and_the_run_on_the_test_part(market, tiny_overrides, tmp_path, capsys):
    settings = [text for text in tiny_overrides if "ids_per_batch" not in text]
    folder = tmp_path / "run"
    settings += ["data.val_ids=2", "data.ids_per_batch=2", "model.pretrained=false"]
    assert main(["train", "baseline_crowd", *settings, "-o", str(folder), "-q"]) == 0
    said = capsys.readouterr().out
    assert "epoch 2 on people held out: mAP" in said
    assert re.search(r"final; mAP [\d.]+, rank-1 [\d.]+ on people held out; next: regard eval", said)
    splits = open_data(load_config((folder / "config.yaml").read_text()))
    kept = json.loads((folder / "held_out.json").read_text())
    people = sorted({sample.pid for sample in splits.query})
    assert kept == {"data": "market1501 (held_out=2 of 6 people to train on)", "people": people}
    scores = [record for record in read_history(folder) if record["event"] == "eval"]
    assert scores[-1]["options"]["data"] == kept["data"]
    tested = open_run(folder, quiet=True)
    assert {sample.pid for sample in tested.splits.query} == {7, 8, 9, 10}
    assert tested.report().num_queries == 8
    assert main(["train", "--resume", str(folder), "data.val_ids=3", "-q"]) == 2
    assert "data.val_ids" in capsys.readouterr().err
    assert main(["compare", str(folder), "--no-speed", "-q"]) == 0
    assert "query 8 images of 4 ids" in capsys.readouterr().out
