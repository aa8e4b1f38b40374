"""What a run writes while it trains: metrics.jsonl, TensorBoard events, and a progress bar.

``metrics.jsonl`` holds one JSON object a line. For every optimizer step: ``{"event": "step", "epoch", "step", "lr",
"images_per_s", "loss", "loss/TERM" ..., "grad_norm"}``; for every evaluation: ``{"event": "eval", "epoch", "step",
"mAP", "mINP", "rank1" ..., "precision", "options"}``, where ``options`` is what changes the score, in words. Epochs
and steps count from 1, on the screen and in the file; TensorBoard gets the same.
A resumed run continues the file as if it had never stopped: what lies behind the checkpoint is cut off first.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from regard.errors import ConfigError, require
from regard.run_folder.folders import read_history
from regard.runtime.fabric import Runtime
from regard.storage import write_atomic

__all__ = ["TrainingLog"]


class TrainingLog:
    """Log of one run; only rank 0 writes.

    Losses stay on the device until ``every`` of them are there, so that logging does not wait for each step.

    Args:
        folder: the run's folder.
        runtime: for averaging over ranks.
        every: steps between writes.
        step: step a resumed run starts from; later records are dropped.
        quiet: no progress bar.
        evaluating: the resumed run evaluates at ``step`` (again); a record of that is dropped too.

    Attributes:
        last: the newest record of a step that has been written; empty before the first.
    """

    def __init__(
        self,
        folder: Path,
        runtime: Runtime,
        every: int,
        *,
        step: int = 0,
        quiet: bool = False,
        evaluating: bool = False,
    ):
        self._runtime, self._every, self.quiet = runtime, every, quiet
        self._names: list[str] = []
        self._values: list[Tensor] = []
        self._records: list[dict[str, Any]] = []
        self._bar: Any = None
        self._images, self._waited, self._clock = 0, 0.0, time.perf_counter()
        self.last: dict[str, Any] = {}
        self._file = self._board = None
        if runtime.is_main:
            path = folder / "metrics.jsonl"
            ends = {"step": step, "eval": step - evaluating}
            kept = [record for record in read_history(folder) if record["step"] <= ends.get(record["event"], step)]
            write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
            self._file = path.open("a", encoding="utf-8")
            self._board = self._open_board(folder / "tensorboard", step)

    def _open_board(self, folder: Path, step: int) -> Any:
        """TensorBoard's writer; None, and a line, where the package is not installed."""
        try:
            require("tensorboard", "the run's folder tensorboard/", "tensorboard")
        except ConfigError as missing:
            self.warn(f"{missing}; the training goes on, and metrics.jsonl holds the same figures")
            return None
        from torch.utils.tensorboard.writer import SummaryWriter

        return SummaryWriter(str(folder), purge_step=step + 1)

    def progress(self, loader: Iterable[Any], total: int, done: int, title: str) -> Iterator[Any]:
        """Iterate over an epoch's batches behind a progress bar."""
        self._bar = tqdm(
            self._watched(loader), title, total, initial=done, unit="batch", leave=False,
            disable=self.quiet or not self._runtime.is_main, dynamic_ncols=True,
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
            self._write(record, (*self._names, "lr", "images_per_s"))
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
        scores = [key for key, value in record.items() if isinstance(value, float)]
        self._write({"event": "eval", **record}, scores)

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

    def __exit__(self, *_: object) -> None:
        for part in filter(None, (self._file, self._board)):
            with contextlib.suppress(OSError):  # what could not be written has been told of
                part.close()

    def _write(self, record: dict[str, Any], scalars: Iterable[str]) -> None:
        """Write a record to both files; one that fails is told of and written no more, and training goes on."""
        if self._file is not None:
            try:
                self._file.write(json.dumps(record) + "\n")
                self._file.flush()
            except OSError as error:
                self._file = self._give_up("metrics.jsonl", record["step"], error)
        if self._board is not None:
            try:
                for name in scalars:
                    tag = name if "/" in name else f"{record['event']}/{name}"
                    self._board.add_scalar(tag, record[name], record["step"])
            except Exception as error:  # its writer is a thread, which hands over whatever ended it
                self._board = self._give_up("tensorboard/", record["step"], error)

    def _give_up(self, name: str, step: int, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        self.warn(f"could not write {name} ({reason}); the training goes on, but {name} ends before step {step}")
