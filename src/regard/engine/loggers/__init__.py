"""Where a run's figures go besides ``metrics.jsonl``: one file a place, named by ``train.loggers``.

Every place gets the same: a training's settings, and figures by name and step, as ``step/loss``, ``loss/TERM``,
``eval/mAP``. One of your own is a class in a plug-in::

    @LOGGERS.register("print")
    class Print(RunLogger):
        def log(self, figures, step):
            print(step, figures)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from regard.config import Config
from regard.errors import ConfigError, require
from regard.registry import LOGGERS

__all__ = ["RunLogger", "open_logger", "reason_of", "require_loggers"]


class RunLogger:
    """A place that a run's figures go to; made on rank 0 before the first step.

    What it raises while it is made is an error; what its methods raise is told once, and training goes on without it.

    Args:
        folder: the run's folder.
        config: its settings; ``flat()`` has them by dotted key, as plain values.
        step: step that a resumed run goes on from; 0: it begins.
        name: what the run is known by there, as :attr:`name` was when it was begun; empty: a new one.

    Attributes:
        needs: module that has to be there, and the extra of regard that brings it; empty: nothing more.
        place: what to call it in a message; empty: as it is registered.
        remedy: what to do where it cannot begin.
        cuts: it drops by itself what lies behind ``step``. One that cannot is not sent twice what it has: a resumed
            run comes to the same figures.
        name: what the run is known by there; a place that has it is found again when the run goes on.
        library: the module.
        reached: event -> step of the newest record that is there.
    """

    needs: ClassVar[tuple[str, str] | None] = None
    place: ClassVar[str] = ""
    remedy: ClassVar[str] = "mend that"
    cuts: ClassVar[bool] = False

    def __init__(self, folder: Path, config: Config, *, step: int, name: str):
        self.library: Any = self.load_library("leave it out" if config.train.loggers else "")
        self.name = name
        self.reached: dict[str, int] = {}

    @classmethod
    def load_library(cls, instead: str) -> Any:
        """Import what it needs.

        Raises:
            ConfigError: it is not there; the message has the line that installs it, and what to do ``instead``.
        """
        return require(cls.needs[0], "train.loggers", cls.needs[1], instead) if cls.needs else None

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Take the figures of one record."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send what was taken, where it is not sent at once."""

    def close(self, ended: str) -> None:
        """Send the rest and end.

        Args:
            ended: "finished", "stopped" by a signal, or "failed".
        """


def require_loggers(names: Sequence[str]) -> None:
    """Check that what loggers need is there.

    Raises:
        ConfigError: it is not; the message has the line that installs it.
    """
    for name in names:
        _class_of(name).load_library("leave it out")


def open_logger(name: str, folder: Path, config: Config, *, step: int, known_as: str) -> RunLogger:
    """Make the logger called ``name``; the rest is as :class:`RunLogger` has it.

    Raises:
        ConfigError: what it needs is not there, or it cannot begin.
    """
    kind = _class_of(name)
    try:
        return kind(folder, config, step=step, name=known_as)
    except ConfigError:
        raise
    except Exception as error:  # of a kind of its own for each thing that is wrong
        run = f"go on with its run {known_as}" if known_as else "begin"
        raise ConfigError(
            f"train.loggers: {name} cannot {run} ({reason_of(error)}); {kind.remedy}, or leave it out"
        ) from error


def reason_of(error: Exception) -> str:
    """What went wrong, in one line."""
    return getattr(error, "strerror", None) or " ".join(f"{type(error).__name__}: {error}".split())


def _class_of(name: str) -> type[RunLogger]:
    kind = LOGGERS.get(name)
    if not (isinstance(kind, type) and issubclass(kind, RunLogger)):
        raise ConfigError(f"train.loggers: {name} is no class of the kind regard.engine.loggers.RunLogger")
    return kind
