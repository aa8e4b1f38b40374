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
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regard.config import Config
from regard.errors import ConfigError, StorageError
from regard.evaluation.comparison import Comparison, Row
from regard.evaluation.embed import embed_run, evaluate_splits, products_of, run_options
from regard.evaluation.evaluate import run_config
from regard.evaluation.scoring import lists_of, with_options
from regard.fingerprint import bytes_digest, samples_digest
from regard.metrics import RankingReport
from regard.metrics.significance import Difference, holm, intervals, paired_differences, query_scores
from regard.models import ReIDModel, load
from regard.models.cost import Cost, inference_cost
from regard.models.saved import model_folder, weights_digest
from regard.naming import distinct
from regard.parsing import parse_json
from regard.run_folder.folders import run_home
from regard.run_folder.opened_data import open_data
from regard.runtime.fabric import Runtime
from regard.storage import plain_text, read_regular, write_atomic
from regard.structures import Splits

__all__ = ["code_digest", "compare_runs", "fingerprint", "measure_speed", "run_labels"]

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


@dataclass(frozen=True)
class Scored:
    """A run and how it did on a data set.

    Attributes:
        label: what the run is called.
        folder: where it lies.
        config: its settings, as evaluated.
        data: what it was scored on, in words.
        fingerprint: of what it was scored on.
        pids: (Q,) identity of each query.
        report: what was found.
        cost: of one image.
    """

    label: str
    folder: Path
    config: Config
    data: str
    fingerprint: str
    pids: np.ndarray
    report: RankingReport
    cost: Cost


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
    labels = run_labels(folders, baseline)
    opened: dict[tuple[Any, ...], tuple[Splits, str]] = {}
    runs = [
        _score(label, folder, run_config(folder, name, root, {"ap": "step"} | dict(changes or {})), opened, quiet=quiet)
        for label, folder in labels.items()
    ]
    rates = _speeds(runs) if speed else {}
    settings: dict[str, Any] = {"method": method, "resamples": resamples}
    rows = [
        Row(
            run.label,
            str(run.folder),
            intervals(query_scores(run.report), run.pids, **settings),
            len(np.unique(run.pids[run.report.first_hit > 0])),
            run.cost,
            rates.get(run.label),
            run.report.options,
        )
        for run in runs
    ]
    start = runs[0] if baseline is None else next(run for run in runs if run.folder == baseline)
    others = [run for run in runs if run is not start]
    fits = all(run.fingerprint == start.fingerprint for run in others)
    differences = {run.label: _difference(start, run, settings) for run in others} if fits else {}
    return Comparison(
        data=list(dict.fromkeys(run.data for run in runs)),
        rows=rows,
        baseline=start.label,
        differences=differences,
        corrected=_holm(differences),
        intervals=f"95 % {'BCa' if method == 'bca' else method} bootstrap over identities, {resamples:,} resamples",
        speed=_speed_conditions(runs) if speed else "",
        unpaired="" if fits else UNPAIRED,
    )


def fingerprint(splits: Splits) -> str:
    """Digest of the contents, identities and cameras of query and gallery: equal for what can be paired."""
    return "".join(samples_digest(part, splits.root) for part in (splits.query, splits.gallery))


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
            device = next(model.parameters()).device
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


def run_labels(folders: Sequence[Path], baseline: Path | None = None) -> dict[str, Path]:
    """Short names that tell the folders apart.

    Raises:
        ConfigError: no folder, one twice, or a baseline that is not among them.
    """
    if not folders:
        raise ConfigError("there is no run to compare; give one or more run folders")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError(f"a run is given twice among {', '.join(map(str, folders))}; give each once")
    if baseline is not None and baseline not in folders:
        raise ConfigError(f"baseline {baseline} is not among the runs {', '.join(map(str, folders))}; give it as a run")
    places = [folder.resolve() for folder in folders]
    short = [place.name if run_home(place) == place else "/".join(place.parts[-2:]) for place in places]
    return dict(zip(map(plain_text, distinct(short, places, "{place}")), folders))


def _score(
    label: str, folder: Path, config: Config, opened: dict[tuple[Any, ...], tuple[Splits, str]], *, quiet: bool
) -> Scored:
    """Score one run, or read what it scored."""
    place = (config.data.name, config.data.root, str(config.data.options))
    if place not in opened:
        splits = open_data(config, quiet=quiet)
        opened[place] = splits, fingerprint(splits)
    splits, digest = opened[place]
    runtime = Runtime.for_scoring(config)
    file = run_home(folder) / KEPT / f"{_key(folder, config, splits, digest, runtime.device)}.npz"
    kept = _read(file)
    if kept is None:
        if not quiet:
            print(f"scoring {label} on {splits.label}")
        model = load(folder)
        cost = inference_cost(model, config.data.height, config.data.width)
        features = embed_run(model.to(runtime.device), splits, config, runtime, quiet=quiet)
        report = evaluate_splits(*features, splits, config.eval)
        kept = with_options(report, run_options(config, runtime)), cost
        with contextlib.suppress(StorageError):  # a folder that cannot be written to can still be compared
            write_atomic(file, _pack(*kept))
    pids = np.array([sample.pid for sample in splits.query], np.int64)
    return Scored(label, folder, config, f"{splits}; {splits.root}", digest, pids, *kept)


def _key(folder: Path, config: Config, splits: Splits, digest: str, device: torch.device) -> str:
    """File name of what a run scored: changes with everything that changes a score."""
    weights = weights_digest(model_folder(folder))
    size = config.data.height, config.data.width, config.data.interpolation
    how = config.eval.model_dump(exclude={"batch_size", "precision"})
    lists = lists_of(splits, config.eval)
    parts = () if lists is None else (*lists.good, *lists.junk)
    listed = bytes_digest(b"".join(len(rows).to_bytes(4) + rows.tobytes() for rows in parts))
    precision = products_of(config, device).precision
    content = json.dumps([code_digest(), weights, splits.label, digest, listed, size, how, precision], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@lru_cache
def code_digest() -> str:
    """Digest of the code that scores are made by."""
    home = Path(__file__).parents[1]
    files = sorted(file for room in CODE for file in home.glob(f"{room}/*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _pack(report: RankingReport, cost: Cost) -> bytes:
    """The bytes of a ``.npz``, with a digest of them behind."""
    buffer = io.BytesIO()
    about = {"mAP": report.mAP, "mINP": report.mINP, "options": report.options, "cost": cost._asdict()}
    np.savez_compressed(
        buffer, ap=report.ap, inp=report.inp, first_hit=report.first_hit, cmc=report.cmc, about=json.dumps(about)
    )
    return buffer.getvalue() + bytes_digest(buffer.getvalue()).encode()


def _read(file: Path) -> tuple[RankingReport, Cost] | None:
    """What :func:`_pack` wrote; None where there is nothing, or not as it was written."""
    try:
        packed = read_regular(file)
        if bytes_digest(packed[:-DIGITS]).encode() != packed[-DIGITS:]:
            return None
        with np.load(io.BytesIO(packed[:-DIGITS])) as content:
            about = parse_json(str(content["about"]))
            arrays = {name: content[name] for name in ("ap", "inp", "first_hit", "cmc")}
        scores = {key: about[key] for key in ("mAP", "mINP", "options")}
        return RankingReport(**scores, **arrays), Cost(**about["cost"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _speeds(runs: Sequence[Scored]) -> dict[str, float]:
    runtime = Runtime.for_scoring(runs[0].config)
    models = {
        run.label: (load(run.folder).strip().to(runtime.device), run.config.data.height, run.config.data.width)
        for run in runs
    }
    for model, _, _ in models.values():
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    products = products_of(runs[0].config, runtime.device)
    return measure_speed(models, autocast=lambda: products)


def _speed_conditions(runs: Sequence[Scored]) -> str:
    runtime = Runtime.for_scoring(runs[0].config)
    precision = products_of(runs[0].config, runtime.device).precision
    threads = torch.get_num_threads()
    where = f"{threads} CPU thread{'s' * (threads > 1)}" if runtime.device.type == "cpu" else runtime.device.type
    return (
        f"images/s: embedding only, one view, batches of {BATCH} in {precision} on {where}, "
        f"median of 3 to {ROUNDS} interleaved rounds"
    )


def _difference(start: Scored, run: Scored, settings: Mapping[str, Any]) -> dict[str, Difference]:
    return paired_differences(query_scores(start.report), query_scores(run.report), start.pids, **settings)


def _holm(differences: Mapping[str, Mapping[str, Difference]]) -> dict[str, dict[str, float]]:
    """p-values corrected, figure by figure, for the number of runs."""
    corrected: dict[str, dict[str, float]] = {label: {} for label in differences}
    for figure in next(iter(differences.values()), {}):
        values = holm([found[figure].p for found in differences.values()])
        for label, value in zip(differences, values):
            corrected[label][figure] = value
    return corrected
