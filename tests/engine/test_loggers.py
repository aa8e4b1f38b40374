"""Loggers: what each gets, in what order and under which names, by stand-ins; tests/loggers has the real ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from regard.config import load_config
from regard.engine.loggers import RunLogger
from regard.engine.run import resume_run, start_run
from regard.errors import CheckpointError, ConfigError
from regard.recipes import read_recipe
from regard.registry import LOGGERS
from regard.run_folder.folders import read_history


class Wandb(ModuleType):
    """What the logger calls of Weights & Biases: runs by id, each with its rows by step."""

    def __init__(self):
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.rows: dict[int, dict[str, float]] = {}
        self.ended: list[int] = []
        self.fails_at = 0

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def init(self, **given: Any) -> Any:
        self.begun.append(given)
        return SimpleNamespace(id=given.get("id", "abc123"), log=self.log, finish=self.finish)

    def log(self, figures: dict[str, float], step: int) -> None:
        if step == self.fails_at:
            raise ConnectionError("nobody\nthere")
        row = self.rows.setdefault(step, {})
        assert step == max(self.rows)  # a step that has passed is refused there
        assert not row.keys() & figures.keys(), f"twice at step {step}"
        row |= figures

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)


@pytest.fixture
def wandb(monkeypatch) -> Wandb:
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


class MLflow(ModuleType):
    """What the logger calls of MLflow: one run, with its parameters, and metrics as (step, value)."""

    def __init__(self):
        super().__init__("mlflow")
        self.entities = SimpleNamespace(
            Metric=lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step),
            Param=lambda key, value: SimpleNamespace(key=key, value=value),
        )
        self.runs: list[dict[str, Any]] = []
        self.where: list[str] = []
        self.params: dict[str, str] = {}
        self.metrics: dict[str, list[Any]] = {}
        self.tags: dict[str, str] = {}
        self.status = ""

    def MlflowClient(self, tracking_uri: str) -> MLflow:
        self.where.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def create_run(self, number: str, run_name: str, tags: dict[str, str]) -> Any:
        self.runs.append({"experiment": number, "name": run_name, **tags})
        return SimpleNamespace(info=SimpleNamespace(run_id="run1"))

    def get_run(self, name: str) -> Any:
        assert name == "run1"
        return SimpleNamespace(data=SimpleNamespace(params=self.params))

    def update_run(self, name: str, status: str) -> None:
        self.status = status

    def get_metric_history(self, name: str, key: str) -> list[Any]:
        return self.metrics.get(key, [])

    def log_batch(self, name: str, metrics: Any = (), params: Any = ()) -> None:
        assert max(len(metrics), len(params)) <= 100
        for param in params:
            assert param.key not in self.params
            self.params[param.key] = param.value
        for metric in metrics:
            self.metrics.setdefault(metric.key, []).append(metric)

    def set_tag(self, name: str, key: str, value: str) -> None:
        self.tags[key] = value

    def set_terminated(self, name: str, status: str) -> None:
        self.status = status


@pytest.fixture
def mlflow(monkeypatch) -> MLflow:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    module = MLflow()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


@pytest.fixture
def configure(tiny_overrides):
    return lambda *more: read_recipe("baseline_crowd").config([*tiny_overrides, "schedule.name=constant", *more])


def wanted_rows(folder: Path) -> dict[int, dict[str, float]]:
    """What a logger should have of each step, by the records of metrics.jsonl."""
    rows: dict[int, dict[str, float]] = {}
    for record in read_history(folder):
        named = {key if "/" in key else f"{record['event']}/{key}": value for key, value in record.items()}
        figures = {key: value for key, value in named.items() if isinstance(value, float)}
        rows.setdefault(record["step"], {}).update(figures)
    scores = {key: value for key, value in rows[max(rows)].items() if key.startswith("eval/")}
    rows[max(rows)] |= {key.replace("eval/", "final/"): value for key, value in scores.items()}
    return rows


@pytest.mark.slow
def test_weights_and_biases_gets_every_record_once(configure, wandb, tmp_path, capsys):
    folder = tmp_path / "my run"
    config = configure("train.loggers=[wandb]")
    start_run(config, folder, quiet=True)
    rows = wanted_rows(folder)
    assert wandb.rows == rows
    assert {"step/loss", "step/lr", "step/images_per_s", "loss/id", "loss/triplet", "step/grad_norm"} <= rows[1].keys()
    assert {"eval/mAP", "eval/rank1", "final/mAP"} <= rows[8].keys()
    begun = wandb.begun[0]
    assert (begun["name"], begun["dir"], begun["mode"], begun["project"]) == (
        "my run",
        str(folder),
        "offline",
        "regard",
    )
    assert begun["config"] == config.to_dict() | {"folder": str(folder)}
    assert "id" not in begun
    assert not (folder / "tensorboard").exists()
    resume_run(folder, quiet=True)
    assert wandb.rows == rows
    resume_run(folder, ["train.epochs=3"], quiet=True)
    assert [(one.get("id"), one.get("resume")) for one in wandb.begun[1:]] == [("abc123", "allow")] * 2
    assert wandb.rows == rows | {step: row for step, row in wanted_rows(folder).items() if step > 8}
    assert wandb.ended == [0, 0, 0]
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_mlflow_gets_every_record_once_and_what_it_missed(configure, mlflow, tmp_path, capsys):
    folder = tmp_path / "run"
    config = configure("train.loggers=[tensorboard]")
    start_run(config, folder, quiet=True)
    assert not mlflow.where
    resume_run(folder, ["train.epochs=3", "train.loggers=[mlflow]"], quiet=True)
    assert mlflow.where == [(folder / "mlruns").as_uri()]
    assert mlflow.runs == [{"experiment": "regard", "name": "run", "folder": str(folder)}]
    assert mlflow.params["optim.lr"] == str(config.optim.lr)
    assert mlflow.params["train.epochs"] == "3"

    def found() -> dict[int, dict[str, float]]:
        rows: dict[int, dict[str, float]] = {}
        for key, points in mlflow.metrics.items():
            for point in points:
                assert key not in rows.setdefault(point.step, {})
                rows[point.step][key] = point.value
        return rows

    assert found() == wanted_rows(folder)
    (folder / "loggers.json").write_text('{"mlflow": {"name": "run1", "reached": {}}}')  # as after a kill
    resume_run(folder, ["train.epochs=4"], quiet=True)
    assert {12, 16} <= found().keys()
    assert {step: row for step, row in found().items() if step > 12} == {
        step: row for step, row in wanted_rows(folder).items() if step > 12
    }
    assert mlflow.params["train.epochs"] == "3"
    assert mlflow.tags == {"resumed.train.epochs": "4"}
    assert mlflow.status == "FINISHED"
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_one_that_fails_is_told_of_once_and_catches_up_later(configure, wandb, tmp_path, capsys):
    wandb.fails_at = 3
    start_run(configure("train.loggers=[wandb]", "train.log_every=1"), tmp_path, quiet=True)
    said = capsys.readouterr().err
    assert said == (
        "regard: could not write wandb (ConnectionError: nobody there); the training goes on, but wandb ends before "
        "step 3\n"
    )
    assert max(wandb.rows) == 2
    assert json.loads((tmp_path / "loggers.json").read_text()) == {"wandb": {"name": "abc123", "reached": {"step": 2}}}
    wandb.fails_at = 0
    resume_run(tmp_path, quiet=True)
    assert wandb.rows == wanted_rows(tmp_path)
    assert len(wandb.begun) == 2


@pytest.mark.slow
def test_a_logger_of_a_plug_in(configure, tmp_path, monkeypatch):
    told: list[Any] = []

    class Told(RunLogger):
        def log(self, figures, step):
            told.append((step, figures.get("step/loss", figures)))

        def close(self, ended):
            told.append(ended)

    LOGGERS.get("tensorboard")
    monkeypatch.setitem(LOGGERS._entries, "told", Told)
    start_run(configure("train.loggers=[told]", "train.eval_every=null"), tmp_path, quiet=True)
    assert [step for step, _ in told[:-1]] == [*range(1, 9), 8, 8]
    assert told[-3][1].keys() >= {"eval/mAP"}
    assert told[-2][1].keys() >= {"final/mAP"}
    assert told[-1] == "finished"
    assert not (tmp_path / "loggers.json").exists()


def test_what_no_logger_is_called_is_an_error_before_anything_is_done(configure):
    with pytest.raises(ConfigError, match=r"unknown logger 'wandbb', did you mean 'wandb'\?; known: mlflow, "):
        configure("train.loggers=[wandbb]")
    with pytest.raises(ConfigError, match="loggers names wandb twice; name it once"):
        configure("train.loggers=[wandb, wandb]")
    with pytest.raises(ConfigError, match=r"wanted a list, such as train.loggers=\[wandb\]"):
        configure("train.loggers=wandb")
    config = configure()
    assert config.train.loggers is None
    assert load_config(config.to_yaml()) == config


def test_one_that_cannot_begin_is_an_error_and_ends_those_that_have(configure, wandb, monkeypatch, tmp_path):
    class Refusing(RunLogger):
        def __init__(self, *given: Any, **more: Any):
            raise PermissionError(13, "Permission denied")

    LOGGERS.get("wandb")
    monkeypatch.setitem(LOGGERS._entries, "refusing", Refusing)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(
        ConfigError, match=r"train.loggers: refusing cannot begin \(Permission denied\); mend that, or "
    ):
        start_run(configure("train.loggers=[wandb, refusing]"), tmp_path, quiet=True)
    assert wandb.begun[0]["mode"] == "disabled"
    assert wandb.ended == [1]
    assert read_history(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"a": 1}', '{"a": {"name": "../x", "reached": {}}}', '{"a": {"name": "x", "reached": {"eval": "b"}}}'],
)
def test_a_file_of_places_that_is_none(text, tmp_path):
    from regard.engine.log import _read_places

    (tmp_path / "loggers.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot read .*loggers.json .*; delete it, and the run is a new one"):
        _read_places(tmp_path / "loggers.json")
