"""What a run writes while it trains: metrics.jsonl, TensorBoard events, and a progress bar.

``metrics.jsonl`` holds one JSON object a line: ``{"event": "step", "epoch", "step", "lr", "loss", "loss/TERM" ...}``
for every optimizer step and ``{"event": "eval", "epoch", "step", "mAP", "mINP", "rank1" ...}`` for every evaluation.
A resumed run continues the file as if it had never stopped: what lies behind the checkpoint is cut off first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from regard.engine.runtime import Runtime
from regard.errors import ConfigError, DataError
from regard.parsing import parse_json
from regard.storage import write_atomic

__all__ = ["TrainingLog", "read_history"]


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl, oldest first; an unfinished last line is left out.

    Raises:
        DataError: a line is no record.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            record = parse_json(line) if line else None
            if line and not isinstance(record, dict):
                raise ValueError(f"it is {type(record).__name__}")
        except ValueError as error:
            raise DataError(f"line {number} of {path} is no record ({error}); remove that line") from None
        records += [record] if record else []
    return records


class TrainingLog:
    """Log of one run; only rank 0 writes.

    Losses stay on the device until ``every`` of them are there, so that logging does not wait for each step.

    Args:
        folder: the run's folder.
        runtime: for averaging over ranks.
        every: steps between writes.
        step: step a resumed run starts from; later records are dropped.
        quiet: no progress bar.

    Attributes:
        last: the newest record of a step that has been written; empty before the first.
    """

    def __init__(self, folder: Path, runtime: Runtime, every: int, step: int = 0, quiet: bool = False):
        self._runtime, self._every, self.quiet = runtime, every, quiet
        self._names: list[str] = []
        self._values: list[Tensor] = []
        self._records: list[dict[str, Any]] = []
        self._bar: Any = None
        self._images, self._waited, self._clock = 0, 0.0, time.perf_counter()
        self.last: dict[str, Any] = {}
        self._file = self._board = None
        if runtime.is_main:
            from torch.utils.tensorboard.writer import SummaryWriter

            path = folder / "metrics.jsonl"
            kept = [record for record in read_history(folder) if record["step"] <= step]
            write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
            self._file = path.open("a", encoding="utf-8")
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

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

    def step(self, record: dict[str, Any], loss: Tensor, terms: dict[str, Tensor], images: int) -> None:
        """Take note of one optimizer step."""
        self._images += images
        self._names = ["loss", *(f"loss/{name}" for name in terms)]
        self._values.append(torch.stack([loss.detach(), *terms.values()]))
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
            self._write(record, self._names)
        self.last = last = self._records[-1]
        self._records, self._values = [], []
        self._images, self._waited, self._clock = 0, 0.0, now
        if not all(abs(value) < float("inf") for row in rows for value in row):
            raise ConfigError(
                f"the loss is no longer a finite number at step {last['step']} (epoch {last['epoch'] + 1}); "
                "lower optim.lr, set optim.clip_norm=5 or a longer schedule.warmup_epochs, then train again"
            )
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {last['loss']:.3f}, {speed:,.0f} images/s, {waiting:.0%} waiting for data")

    def evaluation(self, record: dict[str, Any]) -> None:
        """Write one evaluation."""
        self._write({"event": "eval", **record}, [k for k in record if k not in ("epoch", "step")])

    def say(self, line: str | None) -> None:
        """Print a line above the progress bar, on rank 0, where there is one."""
        if line and self._runtime.is_main and not self.quiet:
            tqdm.write(line)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file and self._board:
            self._file.close()
            self._board.close()

    def _write(self, record: dict[str, Any], scalars: Iterable[str]) -> None:
        if not self._file or not self._board:
            return
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name in scalars:
            self._board.add_scalar(name if "/" in name else f"{record['event']}/{name}", record[name], record["step"])
