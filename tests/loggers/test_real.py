"""The loggers with the real libraries, on disk: ``make loggers``."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regard.engine.run import resume_run, start_run
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history

if not os.environ.get("REGARD_LOGGERS"):  # `make loggers` sets it, and fails where they are not there
    pytest.importorskip("wandb", reason="make loggers")
    pytest.importorskip("mlflow", reason="make loggers")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own are not ours


@pytest.fixture
def run(tiny_overrides, tmp_path, monkeypatch) -> Path:
    """A run of two epochs, then one more by resuming it; both loggers."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "people"
    more = ["schedule.name=constant", "train.loggers=[wandb, mlflow]"]
    start_run(read_recipe("baseline_crowd").config([*tiny_overrides, *more]), folder, quiet=True)
    resume_run(folder, ["train.epochs=3"], quiet=True)
    return folder


def expected(folder: Path) -> dict[str, dict[int, float]]:
    """Name -> step -> value, by metrics.jsonl."""
    points: dict[str, dict[int, float]] = {}
    for record in read_history(folder):
        for key, value in record.items():
            if isinstance(value, float):
                name = key if "/" in key else f"{record['event']}/{key}"
                points.setdefault(name, {})[record["step"]] = value
    for key in [key for key in points if key.startswith("eval/")]:
        points[key.replace("eval/", "final/")] = {step: points[key][step] for step in (8, 12)}
    return points


def records(path: Path) -> Iterator[Any]:
    """The records of an offline file: protocol buffers of the library's own in a log of blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at < len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def test_both_have_every_point_once_and_the_settings(run):
    check_mlflow(run)
    check_wandb(run)


def check_mlflow(run: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(run / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("regard")
    assert experiment
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "people"
    assert found.info.status == "FINISHED"
    assert found.data.params["data.height"] == "48"
    assert found.data.params["train.epochs"] == "2"
    assert found.data.tags["resumed.train.epochs"] == "3"
    assert found.data.tags["folder"] == str(run)
    wanted = expected(run)
    assert found.data.metrics.keys() == wanted.keys()
    for name, points in wanted.items():
        history = [(one.step, one.value) for one in client.get_metric_history(found.info.run_id, name)]
        assert history == sorted(points.items()), name


def check_wandb(run: Path) -> None:
    import json

    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({path.name for path in files}) == 1
    found: dict[str, dict[int, float]] = {}
    for path in files:
        for record in records(path):
            if record.WhichOneof("record_type") == "run":
                assert (record.run.display_name, record.run.project) == ("people", "regard")
                config = {one.key: json.loads(one.value_json) for one in record.run.config.update}
                assert config["data"]["height"] == 48
                assert config["folder"] == str(run)
            if record.WhichOneof("record_type") == "exit":
                assert record.exit.exit_code == 0
            if record.WhichOneof("record_type") == "history":
                row = {one.key or ".".join(one.nested_key): json.loads(one.value_json) for one in record.history.item}
                for name in row.keys() - {"_step", "_timestamp", "_runtime"}:
                    points = found.setdefault(name, {})
                    assert row["_step"] not in points, f"{name} twice at {row['_step']}"
                    points[row["_step"]] = row[name]
    assert found == expected(run)
    outside = [path for path in run.parent.rglob("*") if path.is_file() and run not in path.parents]
    assert not [path for path in outside if path.suffix == ".wandb"]
