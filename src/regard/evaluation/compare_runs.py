"""Several runs, scored on their data, side by side, with intervals and paired tests.

What each query scored is kept in an ``eval`` folder beside the run, filed under everything it depends on (weights,
pictures and labels, options, precision, code), so that comparing again only resamples.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import statistics
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.config import EvalConfig
from regard.errors import StorageError
from regard.evaluation.comparison import Comparison, Row
from regard.evaluation.embed import products_of
from regard.evaluation.groups import group_runs
from regard.evaluation.run import Run, open_runs
from regard.evaluation.scoring import lists_of
from regard.fingerprint import bytes_digest, values_digest
from regard.metrics import RankingReport
from regard.metrics.significance import intervals, paired_differences, query_scores
from regard.models import ReIDModel, load
from regard.models.checked import weight_of
from regard.models.cost import Cost
from regard.models.folder import model_folder
from regard.models.saved import weights_digest
from regard.parsing import parse_json
from regard.places import run_home
from regard.storage import read_regular, write_atomic
from regard.structures import Splits
from regard.wording import count

__all__ = ["compare_runs", "data_digest", "measure_speed", "score_digest", "score_runs"]

CODE = ("data", "evaluation", "layers", "metrics", "models", "runtime", ".")
"""Rooms of the code that scores are made by."""

KEPT = "eval"
DIGITS = 32
"""Of the digest at the end of what is kept."""

ROUNDS = 15
SECONDS = 10.0
BATCH = 32
UNPAIRED = (
    "the runs were scored on different pictures, so they are not tested against each other; give all the same data "
    "with --root FOLDER"
)


def compare_runs(
    folders: Sequence[Path],
    *,
    baseline: Path | None = None,
    name: str | None = None,
    root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    method: str = "percentile",
    resamples: int = 10_000,
    speed: bool = True,
    quiet: bool = False,
) -> Comparison:
    """Score runs and say which differences are real.

    Args:
        folders: run folders or model folders.
        baseline: the one to compare with; None takes the first.
        name, root: data set for all; both None takes each run's own.
        changes: settings of the ``eval`` section for all. The form of AP is ``step`` for all unless said here.
        method, resamples: as for :func:`regard.metrics.significance.intervals`.
        speed: also measure how many images each embeds in a second.
        quiet: no progress bars.

    Raises:
        ConfigError: no runs, the same run twice, or a run or the baseline that names no data or is not among them.
        CheckpointError: a folder without a model.
        DataError: a data set that is not there or not complete.
    """
    runs = open_runs(folders, name, root, {"ap": "step"} | dict(changes or {}), baseline=baseline, quiet=quiet)
    baseline = None if baseline is None else Path(baseline)
    scores = score_runs(runs)
    rates, speed_conditions = _speeds(runs) if speed else ({}, "")
    settings: dict[str, Any] = {"method": method, "resamples": resamples}
    queries = {label: query_scores(report) for label, (report, _) in scores.items()}
    rows = []
    for run in runs:
        (report, cost), pids = scores[run.label], _pids(run)
        figures, people = intervals(queries[run.label], pids, **settings), len(np.unique(pids[report.first_hit > 0]))
        rows.append(Row(run.label, str(run.folder), figures, people, cost, rates.get(run.label), report.options))
    start = runs[0] if baseline is None else next(run for run in runs if run.folder == baseline)
    others = [run for run in runs if run is not start]
    fits = all(run.fingerprint == start.fingerprint for run in others)
    differences = {
        run.label: paired_differences(queries[start.label], queries[run.label], _pids(start), **settings)
        for run in (others if fits else ())
    }
    return Comparison(
        data=list(dict.fromkeys(f"{run.splits}; {run.splits.root}" for run in runs)),
        rows=rows,
        baseline=start.label,
        differences=differences,
        intervals=f"95 % {'BCa' if method == 'bca' else method} bootstrap over identities, {resamples:,} resamples",
        speed=speed_conditions,
        unpaired="" if fits else UNPAIRED,
        groups=group_runs(runs, queries, _pids(start), start, paired=fits),
    )


def score_runs(runs: Sequence[Run]) -> dict[str, tuple[RankingReport, Cost | None]]:
    """What every run scored and what its network costs, by label, from what is kept where it is.

    Runs on one data set share it, and its fingerprint.
    """
    read: dict[tuple[Any, ...], Run] = {}
    scores: dict[str, tuple[RankingReport, Cost | None]] = {}
    for run in runs:
        data = run.config.data
        first = read.setdefault((data.name, data.root, str(data.options)), run)
        run.splits, run.fingerprint = first.splits, first.fingerprint
        scores[run.label] = _score(run)
    return scores


def _pids(run: Run) -> np.ndarray:
    return np.array([sample.pid for sample in run.splits.query], np.int64)


def measure_speed(
    models: Mapping[str, tuple[ReIDModel, int, int]],
    *,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    batch: int = BATCH,
    autocast: Callable[[], Any] = nullcontext,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Images embedded in a second, one view each.

    Rounds are interleaved and each begins with another model, so that a busy moment meets all of them alike; the
    figure is the median over rounds.

    Args:
        models: name -> model on its device, height and width.
        rounds: timed passes over all models, after one that warms them up, at most.
        seconds: per model, after which three rounds are enough.
        batch: images at a time.
        autocast: makes the context to compute in.
        clock: seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    names = list(models)
    for turn in range(-1, rounds):
        if turn >= 3 and sum(map(sum, times.values())) > seconds * len(models):
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            model, height, width = models[name]
            device = weight_of(model).device
            images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
            images = images.to(device, memory_format=torch.channels_last)
            begin = _now(device, clock)
            with torch.inference_mode(), autocast():
                model.embed(images)
            if turn >= 0:
                times[name].append(_now(device, clock) - begin)
    return {name: batch / statistics.median(taken) for name, taken in times.items()}


def _now(device: torch.device, clock: Callable[[], float]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()


def _score(run: Run) -> tuple[RankingReport, Cost | None]:
    """Score a run, or read what it scored."""
    data = data_digest(run.splits, run.fingerprint, run.config.eval)
    file = run_home(run.folder) / KEPT / f"{score_digest(run, data)[:16]}.npz"
    kept = _read(file)
    if kept is None:
        if not run.quiet:
            print(f"scoring {run.label} on {run.splits.label}")
        kept = run.report(), run.cost
        run.release()
        with contextlib.suppress(StorageError):  # a folder that cannot be written to can still be compared
            write_atomic(file, _pack(*kept))
    return kept


def data_digest(splits: Splits, pictures: str, how: EvalConfig) -> str:
    """Digest of a data set as it is scored on: of its pictures, which is given, and of the lists it is scored by."""
    lists = lists_of(splits, how)
    parts = () if lists is None else (*lists.good, *lists.junk)
    listed = b"".join(len(rows).to_bytes(4) + rows.tobytes() for rows in parts)
    return values_digest({"label": splits.label, "pictures": pictures, "lists": bytes_digest(listed)})


def score_digest(run: Run, data: str, **asked: Any) -> str:
    """Digest of everything that changes a score of a run on a data set of a digest."""
    size = run.config.data.height, run.config.data.width, run.config.data.interpolation
    how = run.config.eval.model_dump(mode="json", exclude={"batch_size", "precision"})
    precision = products_of(run.config, run.runtime.device).precision
    weights = weights_digest(model_folder(run.folder))
    made = {"code": code_digest(), "weights": weights, "input": size, "eval": how, "precision": precision}
    return values_digest({**made, "data": data, "asked": asked})


@lru_cache
def code_digest() -> str:
    """Digest of the code that scores are made by."""
    home = Path(__file__).parents[1]
    files = sorted(file for room in CODE for file in home.glob(f"{room}/*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _pack(report: RankingReport, cost: Cost | None) -> bytes:
    """The bytes of a ``.npz``, with a digest of them behind."""
    buffer = io.BytesIO()
    about = {"mAP": report.mAP, "mINP": report.mINP, "options": report.options, "cost": cost and cost._asdict()}
    np.savez_compressed(
        buffer, ap=report.ap, inp=report.inp, first_hit=report.first_hit, cmc=report.cmc, about=json.dumps(about)
    )
    return buffer.getvalue() + bytes_digest(buffer.getvalue()).encode()


def _read(file: Path) -> tuple[RankingReport, Cost | None] | None:
    """What :func:`_pack` wrote; None where there is nothing, or not as it was written."""
    try:
        packed = read_regular(file)
        if bytes_digest(packed[:-DIGITS]).encode() != packed[-DIGITS:]:
            return None
        with np.load(io.BytesIO(packed[:-DIGITS])) as content:
            about = parse_json(str(content["about"]))
            arrays = {name: content[name] for name in ("ap", "inp", "first_hit", "cmc")}
        scores = {key: about[key] for key in ("mAP", "mINP", "options")}
        return RankingReport(**scores, **arrays), None if about["cost"] is None else Cost(**about["cost"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _speeds(runs: Sequence[Run]) -> tuple[dict[str, float], str]:
    """What :func:`measure_speed` gives, by label, and how that was measured, in words."""
    device = runs[0].runtime.device
    models = {run.label: (load(run.folder).strip().to(device), *run.input.size) for run in runs}
    for model, _, _ in models.values():
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    products = products_of(runs[0].config, device)
    where = count(torch.get_num_threads(), "CPU thread") if device.type == "cpu" else device.type
    return measure_speed(models, autocast=lambda: products), (
        f"images/s: embedding only, one view, batches of {BATCH} in {products.precision} on {where}, median of 3 to "
        f"{ROUNDS} interleaved rounds"
    )
