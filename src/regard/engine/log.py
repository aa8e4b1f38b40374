"""What a run writes while it trains: metrics.jsonl, what its loggers get, and a progress bar.

``metrics.jsonl`` holds one JSON object a line. For every optimizer step: ``{"event": "step", "epoch", "step", "lr",
"images_per_s", "loss", "loss/TERM" ..., "grad_norm"}``; for every evaluation: ``{"event": "eval", "epoch", "step",
"mAP", "mINP", "rank1" ..., "precision", "options"}``, where ``options`` is what changes the score, in words. Epochs
and steps count from 1, on the screen and in the file; the loggers of ``train.loggers`` (:mod:`regard.engine.loggers`)
get the same, and the scores of the last evaluation once more as ``final/mAP`` ... when the training is done.
A resumed run continues the file as if it had never stopped: what lies behind the checkpoint is cut off first. A logger
gets each record once, also those that it missed.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from regard.config import Config
from regard.engine.loggers import RunLogger, open_logger, reason_of
from regard.errors import CheckpointError, ConfigError, StorageError
from regard.parsing import parse_json
from regard.progress import progress_bar
from regard.run_folder.folders import read_history
from regard.runtime.fabric import Runtime
from regard.storage import encode_text, read_regular, write_atomic

__all__ = ["TrainingLog"]

PLACES = "loggers.json"
"""File of a run folder: what the run is known by to each logger, and the newest step of each event there."""

STOPPED = 130
"""What a program exits with that was asked to stop."""


class TrainingLog:
    """Log of one run; only rank 0 writes.

    Losses stay on the device until ``train.log_every`` of them are there, so that logging does not wait for each step.

    Args:
        folder: the run's folder.
        runtime: for averaging over ranks.
        config: the run's settings.
        step: step a resumed run starts from; later records are dropped.
        quiet: no progress bar.
        evaluating: the resumed run evaluates at ``step`` (again); a record of that is dropped too.

    Attributes:
        last: the newest record of a step that has been written; empty before the first.

    Raises:
        RegardError: a logger that ``train.loggers`` names cannot work.
    """

    def __init__(
        self,
        folder: Path,
        runtime: Runtime,
        config: Config,
        *,
        step: int = 0,
        quiet: bool = False,
        evaluating: bool = False,
    ):
        self._runtime, self._every, self.quiet = runtime, config.train.log_every, quiet
        self._names: list[str] = []
        self._values: list[Tensor] = []
        self._records: list[dict[str, Any]] = []
        self._bar: Any = None
        self._images, self._waited, self._clock = 0, 0.0, time.perf_counter()
        self.last: dict[str, Any] = {}
        self._scores: dict[str, Any] = {}
        self._step = step
        self._file = None
        self._loggers: dict[str, RunLogger] = {}
        self._places: dict[str, Any] = {}
        if runtime.is_main:
            path, self._home = folder / "metrics.jsonl", folder
            ends = {"step": step, "eval": step - evaluating}
            kept = [record for record in read_history(folder) if record["step"] <= ends.get(record["event"], step)]
            self._open_loggers(folder, config, step)
            write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
            self._file = path.open("a", encoding="utf-8")
            self._send(kept, again=True)
            self._scores = next((record for record in reversed(kept) if record["event"] == "eval"), {})

    def _open_loggers(self, folder: Path, config: Config, step: int) -> None:
        """Open what ``train.loggers`` names; or TensorBoard, with a line instead where it is not installed."""
        asked = config.train.loggers
        self._places = _read_places(folder / PLACES) if step else {}
        try:
            for name in ("tensorboard",) if asked is None else asked:
                place = self._places.get(name, {"name": "", "reached": {}})
                self._loggers[name] = logger = open_logger(name, folder, config, step=step, known_as=place["name"])
                logger.reached = place["reached"] | logger.reached
        except BaseException as error:
            self._close_loggers("failed")
            if asked is not None or not isinstance(error, ConfigError):
                raise
            self.warn(f"{error}; the training goes on, and metrics.jsonl holds the same figures")

    def progress(self, loader: Iterable[Any], total: int, done: int, title: str) -> Iterator[Any]:
        """Iterate over an epoch's batches behind a progress bar."""
        self._bar = progress_bar(
            self._watched(loader), title, total=total, initial=done, unit="batch",
            quiet=self.quiet or not self._runtime.is_main,
        )  # fmt: skip
        self._images, self._waited, self._clock = 0, 0.0, time.perf_counter()
        yield from self._bar
        self._bar.close()

    def _watched(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches, while taking the time that is spent waiting for them."""
        asked = time.perf_counter()
        for batch in loader:
            self._waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()

    def step(
        self, record: dict[str, Any], loss: Tensor, terms: dict[str, Tensor], images: int, grad_norm: Tensor
    ) -> None:
        """Take note of one optimizer step.

        Args:
            record: what is known of it on the host: epoch, step, learning rate.
            loss, terms: the total and its parts.
            images: pictures in the batch, over all ranks.
            grad_norm: length of the gradient, before it is clipped.
        """
        self._images += images
        self._names = ["loss", *(f"loss/{name}" for name in terms), "grad_norm"]
        self._values.append(torch.stack([loss.detach(), *terms.values(), grad_norm.to(loss.dtype)]))
        self._records.append({"event": "step", **record})
        if len(self._records) >= self._every:
            self.flush()

    def flush(self) -> None:
        """Write what has been noted.

        Raises:
            ConfigError: a loss is not a finite number; training cannot go on.
        """
        if not self._records:
            return
        rows = self._runtime.mean(torch.stack(self._values)).tolist()
        now = time.perf_counter()
        passed = max(now - self._clock, 1e-9)
        speed, waiting = self._images / passed, self._waited / passed
        for record, row in zip(self._records, rows):
            record["images_per_s"] = round(speed, 1)
            record.update(zip(self._names, row))
        self._write(self._records)
        self.last = last = self._records[-1]
        self._records, self._values = [], []
        self._images, self._waited, self._clock = 0, 0.0, now
        if not all(abs(value) < float("inf") for row in rows for value in row[:-1]):
            raise ConfigError(
                f"the loss is no longer a finite number at step {last['step']} (epoch {last['epoch']}); "
                "lower optim.lr, set optim.clip_norm=5 or a longer schedule.warmup_epochs, then train again"
            )
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {last['loss']:.3f}, {speed:,.0f} images/s, {waiting:.0%} waiting for data")

    def evaluation(self, record: dict[str, Any]) -> None:
        """Write one evaluation."""
        self._scores = {"event": "eval", **record}
        self._write([self._scores])

    def say(self, line: str | None, *, asked: bool = False) -> None:
        """Print a line above the progress bar, on rank 0; what was ``asked`` for, quiet too.

        Where nobody reads it any more, training goes on.
        """
        if line and self._runtime.is_main and (asked or not self.quiet):
            with contextlib.suppress(OSError):
                tqdm.write(line)

    def warn(self, line: str) -> None:
        """Print a line that has to be read, quiet or not, on rank 0."""
        if self._runtime.is_main:
            with contextlib.suppress(OSError):
                tqdm.write(f"regard: {line}", file=sys.stderr)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written has been told of
                self._file.close()
        stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) == STOPPED
        if error is None and self._scores.get("step") == self._step:
            self._send([self._scores | {"event": "final"}], again=True)
        self._close_loggers("stopped" if stopped else "failed" if error else "finished")

    def _close_loggers(self, ended: str) -> None:
        for name, logger in self._loggers.items():
            try:
                logger.close(ended)
            except Exception as error:
                self.warn(f"could not end {logger.place or name} ({reason_of(error)}); metrics.jsonl has the figures")
        self._loggers = {}

    def _write(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records everywhere; a place that fails is told of and written no more, and training goes on."""
        self._step = records[-1]["step"]
        if self._file is not None:
            try:
                self._file.write("".join(json.dumps(record) + "\n" for record in records))
                self._file.flush()
            except OSError as error:
                self._file = self._give_up("metrics.jsonl", records[0]["step"], error)
        self._send(records)

    def _send(self, records: Sequence[dict[str, Any]], *, again: bool = False) -> None:
        """Hand records to the loggers.

        Args:
            records: oldest first.
            again: they may be there already, so none goes to a logger that cuts by itself.
        """
        for name, logger in list(self._loggers.items()):
            if again and logger.cuts:
                continue
            reached = {} if logger.cuts else logger.reached
            news = [record for record in records if record["step"] > reached.get(record["event"], 0)]
            try:
                for record in news:
                    logger.log(_figures(record), record["step"])
                logger.flush()
                logger.reached.update((record["event"], record["step"]) for record in news)
            except Exception as error:  # a thread or a server hands over whatever ended it
                del self._loggers[name]
                self._give_up(logger.place or name, news[0]["step"], error)
            if logger.name:
                self._places[name] = {"name": logger.name, "reached": logger.reached}
        if self._places:
            with contextlib.suppress(StorageError):  # whatever else is written to this disk tells of it
                write_atomic(self._home / PLACES, encode_text(json.dumps(self._places)))

    def _give_up(self, name: str, step: int, error: Exception) -> None:
        reason = reason_of(error)
        self.warn(f"could not write {name} ({reason}); the training goes on, but {name} ends before step {step}")


def _figures(record: dict[str, Any]) -> dict[str, float]:
    """The figures of a record by the names that loggers have for them."""
    event = record["event"]
    return {key if "/" in key else f"{event}/{key}": value for key, value in record.items() if isinstance(value, float)}


def _read_places(path: Path) -> dict[str, Any]:
    """What loggers.json says of each logger: what the run is known by there, and how far it has come.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        places = parse_json(read_regular(path))
        for place in places.values():
            if not re.fullmatch(r"[\w-]{1,128}", place["name"]):
                raise ValueError(f"name is {place['name']!r:.90}")
            if not all(type(step) is int for step in place["reached"].values()):
                raise ValueError(f"reached is {place['reached']!r:.90}")
        return places
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"cannot read {path} ({reason_of(error)}); delete it, and the run is a new one for its loggers"
        ) from None
