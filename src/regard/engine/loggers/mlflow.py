"""MLflow: a run in the run's folder ``mlruns/``, or wherever ``MLFLOW_TRACKING_URI`` points to.

``mlflow ui --backend-store-uri RUN/mlruns`` shows it. ``MLFLOW_EXPERIMENT_NAME`` is respected; without it the
experiment is called regard.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regard.config import Config
from regard.engine.loggers import RunLogger
from regard.registry import LOGGERS

__all__ = ["MLflowLogger"]

STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
PIECE = 100
"""Settings sent at a time, which is all that a server takes."""

SENT = {"step": "step/loss", "eval": "eval/mAP", "final": "final/mAP"}
"""Event -> a figure that each of its records has, by which is seen how far a run has come."""


@LOGGERS.register("mlflow")
class MLflowLogger(RunLogger):
    """A run of MLflow, named as the run's folder is, its settings as parameters."""

    needs = ("mlflow", "mlflow")
    remedy = "set MLFLOW_TRACKING_URI to where its runs are kept"

    def __init__(self, folder: Path, config: Config, *, step: int, name: str):
        super().__init__(folder, config, step=step, name=name)
        self._figures: list[Any] = []
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones want to be asked for files
        place = os.environ.get("MLFLOW_TRACKING_URI") or (folder / "mlruns").absolute().as_uri()
        self._begin(place, folder, {key: str(value) for key, value in config.flat().items()})

    def _begin(self, place: str, folder: Path, settings: dict[str, str]) -> None:
        self._client = client = self.library.MlflowClient(tracking_uri=place)
        if self.name:
            had = client.get_run(self.name).data.params
            client.update_run(self.name, status="RUNNING")
            for event, figure in SENT.items():
                steps = [one.step for one in client.get_metric_history(self.name, figure)]
                self.reached[event] = max(steps, default=0)
        else:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "regard"
            experiment = client.get_experiment_by_name(title)
            number = experiment.experiment_id if experiment else client.create_experiment(title)
            tags = {"folder": str(folder.absolute())}
            self.name = client.create_run(number, run_name=folder.absolute().name, tags=tags).info.run_id
            had = {}
        new = [self.library.entities.Param(key, value) for key, value in settings.items() if key not in had]
        for start in range(0, len(new), PIECE):
            client.log_batch(self.name, params=new[start : start + PIECE])
        for key in (key for key, value in settings.items() if had.get(key, value) != value):
            client.set_tag(self.name, f"resumed.{key}", settings[key])  # a parameter is never changed

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of one record."""
        now = int(time.time() * 1000)
        self._figures += [self.library.entities.Metric(name, value, now, step) for name, value in figures.items()]

    def flush(self) -> None:
        """Send what was taken."""
        for start in range(0, len(self._figures), PIECE):
            self._client.log_batch(self.name, metrics=self._figures[start : start + PIECE])
        self._figures = []

    def close(self, ended: str) -> None:
        """Send the rest and end."""
        self.flush()
        self._client.set_terminated(self.name, STATUS[ended])
