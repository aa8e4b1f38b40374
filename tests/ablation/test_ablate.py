"""A plan that is killed at any moment gives the table that it would have given; what fails is said."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regard.ablation.ablate import ablate
from regard.ablation.cell import LOCK
from regard.ablation.plan import read_plan
from regard.config import load_config
from regard.engine.run import start_run
from regard.errors import RegardError
from warm import python

PLAN = """
title: Tiny
base:
  recipe: apnet_crowd
  model.backbone: test_resnet.r160_in1k
  data: {name: market1501, height: 48, width: 32, ids_per_batch: 4, images_per_id: 2, workers: 0}
  schedule.warmup_epochs: 0
  train: {epochs: 3, eval_every: null, loggers: []}
vary:
  model.attention_control: [none, constant]
"""


@pytest.fixture
def plan(tmp_path, market) -> Path:
    (tmp_path / "plan.yaml").write_text(f"{PLAN}tests: {{again: market1501={market}}}\n")
    return tmp_path / "plan.yaml"


def without_cost(table: dict) -> dict:
    rows = [{key: value for key, value in row.items() if key != "cpu_hours"} for row in table["rows"]]
    return {"title": table["title"], "rows": rows}


@pytest.mark.slow
def test_a_killed_plan_gives_the_same_table(plan, market, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "executable", python())  # for its trainings
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for row in read_plan(plan, root=market)[0].rows:  # without processes: what the plan trains are ordinary runs
        start_run(load_config(row.config.to_dict(), ["train.seed=1"]), whole / row.folder / "seed_1", quiet=True)
    expected = ablate(plan, whole, root=market, quiet=True)
    command = [sys.executable, "-m", "regard", "ablate", str(plan), "--root", str(market), "-o", str(killed), "-q"]
    process = subprocess.Popen([*command, "--jobs", "1"], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while process.poll() is None and not list(killed.glob("*/seed_1/config.yaml")):
            time.sleep(0.02)
        time.sleep(random.Random(time.time_ns()).uniform(0, 1.0))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = ablate(plan, killed, root=market, quiet=True)
    assert without_cost(found.to_dict()) == without_cost(expected.to_dict())
    for row in found.rows:  # a further test set that is the same one says the same, each with its difference
        assert row.figures["again mAP"] == row.figures["mAP"]
        assert row.gaps.get("again rank-1") == row.gaps.get("rank-1")
    assert "again mAP minus attention_control=none" in str(found)
    assert "again: market1501: " in str(found)
    assert [line[0] for line in found.to_latex().splitlines()[:4]] == ["%"] * 4  # what is said of the data is a comment
    texts = [str(found), found.to_markdown(), found.to_latex(), found.to_csv(), json.dumps(found.to_dict())]
    assert all("constant" in text for text in texts)
    assert all(row.cpu_hours > 0 for row in found.rows)
    capsys.readouterr()
    again = ablate(plan, killed, root=market)  # nothing is left to train
    assert "trainings" not in capsys.readouterr().out
    assert again == found
    with pytest.raises(RegardError, match=r"holds a run of other settings \(optim\.lr is 0\.001 there, 0\.1 here"):
        ablate(plan, killed, root=market, overrides=["optim.lr=0.1"], quiet=True)
    moved = tmp_path / "moved"
    shutil.copytree(market, moved)
    assert without_cost(ablate(plan, killed, root=moved, quiet=True).to_dict()) == without_cost(expected.to_dict())
    first = min((moved / "bounding_box_train").glob("*.jpg"))
    first.write_bytes(max(first.parent.glob("*.jpg")).read_bytes())
    with pytest.raises(RegardError, match=r"seed_1 was trained on: of .* 1 are not what they were"):
        ablate(plan, killed, root=moved, quiet=True)


@pytest.mark.slow
def test_a_training_that_fails_is_named_and_a_folder_at_work_is_left_alone(plan, market, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", python())
    plan.write_text(PLAN.replace(", constant", "") + "seeds: [5, 6]\n")
    place = tmp_path / "out"
    said = r"attention_control=none, seed 5: a batch asks for 50 ident.* \(so did attention_control=none, seed 6\)"
    with pytest.raises(RegardError, match=said):
        ablate(plan, place, root=market, overrides=["data.ids_per_batch=50"], quiet=True)
    with (place / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RegardError, match="another 'regard ablate' is at work"):
            ablate(plan, place, root=market, quiet=True)
