"""Weights & Biases: a run in the run's folder ``wandb/``, offline unless ``WANDB_MODE`` says otherwise.

``WANDB_PROJECT``, ``WANDB_ENTITY`` and the rest of its own variables are its own business. An offline run goes to the
server by ``wandb sync RUN/wandb/offline-run-*``; one that was resumed is several such folders of one id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regard.config import Config
from regard.engine.loggers import RunLogger
from regard.registry import LOGGERS

__all__ = ["WandbLogger"]


@LOGGERS.register("wandb")
class WandbLogger(RunLogger):
    """A run of Weights & Biases, named as the run's folder is, its settings as ``config``."""

    needs = ("wandb", "wandb")
    remedy = "set WANDB_MODE=offline"

    def __init__(self, folder: Path, config: Config, *, step: int, name: str):
        super().__init__(folder, config, step=step, name=name)
        mode = os.environ.get("WANDB_MODE") or "offline"
        again: dict[str, Any] = {"id": name, "resume": "allow"} if name else {}
        self._run = self.library.init(
            project=os.environ.get("WANDB_PROJECT") or "regard", name=folder.absolute().name, dir=str(folder),
            mode=mode, config=config.to_dict() | {"folder": str(folder.absolute())}, allow_val_change=True,
            settings=self.library.Settings(silent=mode != "online", console="off"), **again,
        )  # fmt: skip
        self.name = str(self._run.id) if mode != "disabled" else ""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of one record."""
        self._run.log(dict(figures), step=step)

    def close(self, ended: str) -> None:
        """Send the rest and end."""
        self._run.finish(exit_code=0 if ended == "finished" else 1)
