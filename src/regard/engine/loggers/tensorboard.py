"""TensorBoard: event files in the run's folder ``tensorboard/``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regard.config import Config
from regard.engine.loggers import RunLogger
from regard.registry import LOGGERS

__all__ = ["TensorBoardLogger"]


@LOGGERS.register("tensorboard")
class TensorBoardLogger(RunLogger):
    """Event files; what a resumed run has written behind its checkpoint is marked as void."""

    needs = ("tensorboard", "tensorboard")
    place = "tensorboard/"
    cuts = True

    def __init__(self, folder: Path, config: Config, *, step: int, name: str):
        super().__init__(folder, config, step=step, name=name)
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of one record."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self, ended: str) -> None:
        """Send the rest and end."""
        self._writer.close()
