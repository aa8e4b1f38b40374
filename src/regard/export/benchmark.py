"""How fast a network is on this machine, by engine, precision and batch, and what that costs in accuracy.

Shapes: B pictures in a batch.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from regard.errors import ConfigError
from regard.evaluation.run import Run
from regard.export.accuracy import score_engine
from regard.export.engines import ENGINES, Engine
from regard.export.manifest import Precision
from regard.export.opening import open_engine
from regard.export.parity import made_pictures
from regard.threads import usable_threads
from regard.version import __version__

__all__ = ["Benchmark", "Timing", "run_benchmark"]

LEAST = 5
"""Calls that are timed at least."""

LONGEST = 3600
"""Seconds that may be spent on one row."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One engine in one precision at one batch.

    Attributes:
        engine, precision, batch: what was timed.
        median_ms, p95_ms: milliseconds of a call, mirrored pictures included where the network is scored with them.
        per_s: pictures per second, by the median.
        cosine: the least to the network in float32, of 32 made-up pictures.
        mAP, rank1: on the run's data set, as fractions; None where they were not asked for.
    """

    engine: str
    precision: str
    batch: int
    median_ms: float
    p95_ms: float
    per_s: float
    cosine: float
    mAP: float | None = None
    rank1: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """Timings, and where they were taken.

    Attributes:
        model: what was timed.
        machine: processor, system, threads.
        rows: the timings.
        left_out: engine and precision -> why there is none.
    """

    model: str
    machine: dict[str, Any]
    rows: list[Timing]
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "regard": __version__}

    def __str__(self) -> str:
        """As a table."""
        scored = any(row.mAP is not None for row in self.rows)
        first = next((row.mAP for row in self.rows if row.mAP is not None), None) or 0.0
        head = f"{'engine':<12}{'precision':<10}{'batch':>6}{'ms':>10}{'p95 ms':>10}{'images/s':>10}{'cosine':>11}"
        lines = [
            f"{self.model}; {self.machine['processor']}, {self.machine['threads']} threads",
            head + (f"{'mAP':>8}{'change':>8}" if scored else ""),
        ]
        for row in self.rows:
            text = f"{row.engine:<12}{row.precision:<10}{row.batch:>6}{row.median_ms:>10.2f}{row.p95_ms:>10.2f}"
            text += f"{row.per_s:>10.1f}{row.cosine:>11.7f}"
            if row.mAP is not None:
                text += f"{100 * row.mAP:>8.2f}{100 * (row.mAP - first):>+8.2f}"
            lines.append(text)
        lines += [f"not timed: {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join(lines)


def run_benchmark(
    folder: Path | str,
    *,
    batches: Sequence[int] = (1, 8, 32),
    seconds: float = 1.0,
    threads: int | None = None,
    scored: Run | None = None,
) -> Benchmark:
    """Time a run, or a saved model, on every engine and in every precision that is here.

    Precisions of files, int8 and fp16, are timed where ``regard export`` has made one.

    Args:
        folder: of the run or the model.
        batches: sizes to time.
        seconds: to spend on each, at least five calls.
        threads: CPU threads; None takes as many as PyTorch.
        scored: the opened run on whose data set accuracy is measured; None: it is not.

    Raises:
        CheckpointError: there is no model, or it is damaged.
        ConfigError: no engine takes it, or there is no such time.
    """
    if not 0 <= seconds <= LONGEST:
        raise ConfigError(f"seconds is {seconds!r}, wanted 0 to {LONGEST}")
    reference: np.ndarray | None = None
    rows, left_out, told = [], {}, ""
    for engine in _engines(folder, threads, left_out):
        card, told = engine.card, f"{engine.card.system} at {engine.card.height} x {engine.card.width}"
        pictures = made_pictures(card.height, card.width, 32)
        found = engine.embed(pictures, flip=card.flip).astype(np.float64)
        reference = found if reference is None else reference
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
        cosine = float(((found * reference).sum(1) / lengths).min())
        report = None if scored is None else score_engine(engine, scored.splits, scored.config.eval, quiet=scored.quiet)
        score = {} if report is None else {"mAP": float(report.mAP), "rank1": float(report.cmc[0])}
        for batch in batches:
            images = pictures[np.arange(batch) % len(pictures)]
            median, high = _timed(partial(engine.embed, images, flip=card.flip), seconds)
            taken = 1e3 * median, 1e3 * high, batch / median
            rows.append(Timing(engine.name, engine.precision, batch, *taken, cosine, **score))
    if not rows:
        raise ConfigError(f"no engine takes {folder}: {'; '.join(left_out.values())}")
    machine = {
        "processor": _processor(), "system": platform.platform(), "cores": os.cpu_count(),
        "threads": threads or usable_threads(),
    }  # fmt: skip
    return Benchmark(told, machine, rows, left_out)


def _engines(folder: Path | str, threads: int | None, left_out: dict[str, str]) -> Iterator[Engine]:
    """The engines that are here, the network in float32 by PyTorch first; why others are not goes into ``left_out``."""
    for precision in get_args(Precision):
        for name in reversed(ENGINES):
            try:
                yield open_engine(folder, name, precision, threads)  # pyright: ignore[reportArgumentType]
            except ConfigError as error:
                left_out[f"{name} {precision}"] = str(error)


def _timed(call: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Seconds of a call, the median and the 95th percentile, after one that is not counted."""
    call()
    taken: list[float] = []
    start = time.perf_counter()
    while len(taken) < LEAST or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return float(np.median(taken)), float(np.percentile(taken, 95))


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
