"""What a training needs at its end, looked at before its first step.

Shapes: Q queries, G gallery images.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn
from torch.optim import Optimizer

from regard.config import EvalConfig, TrainConfig
from regard.engine.training_state import TrainingState
from regard.errors import ConfigError, DataError, StorageError
from regard.evaluation.embed import evaluate_splits
from regard.run_folder.folders import EPOCHS
from regard.run_folder.saved_state import LAST, PREVIOUS
from regard.structures import Sample, Splits

__all__ = ["check_evaluation", "check_folder", "epochs_to_keep", "remove_leftovers", "weights_size"]

FEW = 1 << 20
"""Distances of a rehearsal; where there are more, a part of the persons stands for all."""

WITHOUT = "a training is scored at its end; mend that, or name a data set to test on: data.name="


def check_evaluation(splits: Splits, config: EvalConfig) -> None:
    """Evaluate made-up descriptors of the data set's query and gallery, so that what cannot work ends here.

    Raises:
        DataError: query or gallery is empty, a picture of theirs is not there or may not be read, or no query has a
            match.
        ConfigError: the settings do not fit.
    """
    for name, part in (("query", splits.query), ("gallery", splits.gallery)):
        if not part:
            raise DataError(f"the {name} of {splits.root} is empty, but {WITHOUT}")
        gone = [sample.path for sample in part if not os.access(sample.path, os.R_OK)]
        if gone:
            raise DataError(
                f"{len(gone):,} of {len(part):,} pictures of the {name} cannot be read, the first is {gone[0]}; "
                f"{WITHOUT}"
            )
    try:
        _rehearse(_some_persons(splits), config)
    except DataError:
        try:
            _rehearse(splits, config)  # those few may be the only ones without a match
        except DataError as error:
            raise DataError(f"{error}; {splits.label} in {splits.root} cannot be scored so, but {WITHOUT}") from None


def _rehearse(splits: Splits, config: EvalConfig) -> None:
    draw = np.random.default_rng(0)
    query, gallery = (draw.normal(size=(len(part), 2)).astype(np.float32) for part in (splits.query, splits.gallery))
    evaluate_splits(query, gallery, splits, config)


def _some_persons(splits: Splits) -> Splits:
    """The data set as far as the first persons asked for, where Q x G is large."""
    limit = FEW
    if len(splits.query) * len(splits.gallery) <= limit:
        return splits

    def of(people: set[int], part: Sequence[Sample]) -> list[Sample]:
        return [sample for sample in part if sample.pid in people]

    common = sorted({sample.pid for sample in splits.query} & {sample.pid for sample in splits.gallery})
    some = set(common[:20])
    return replace(splits, query=of(some, splits.query)[:500], gallery=of(some, splits.gallery)[:2000])


def epochs_to_keep(config: TrainConfig, after: int, until: int | None = None) -> range:
    """Epochs behind ``after`` whose network is kept, up to ``until``, or the end of training."""
    every = config.keep_every
    end = config.epochs if until is None else until
    return range(0) if every is None else range((max(after, 0) // every + 1) * every, end + 1, every)


def weights_size(model: nn.Module) -> int:
    """Bytes of a saved network."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def check_folder(folder: Path, state: TrainingState, kept: int = 0) -> None:
    """Check that a run's folder takes what the run is going to write: three states at a time, and the models.

    Args:
        folder: the run's.
        state: what is trained.
        kept: networks of single epochs that will be kept besides best/ and final/.

    Raises:
        ConfigError: something else bears the name of a part of the run.
        StorageError: the folder may not be written, or the disk has too little room.
    """
    for name in ("best", "final", "tensorboard", *([EPOCHS] if kept else [])):
        place = folder / name
        if place.exists() and not place.is_dir():
            raise ConfigError(f"{place} is a file, but the run keeps a folder of that name; move it away")
        if not os.access(place if place.exists() else folder, os.W_OK | os.X_OK):
            raise StorageError(
                f"{place} may not be written, but the run puts its results there; change its permissions"
            )
    weights = weights_size(state.model)
    one = weights * (2 if state.average else 1) + _moments(state.optimizer)
    there = sum(path.stat().st_size for path in (folder / LAST, folder / PREVIOUS) if path.is_file())
    needed = 3 * one + (2 + kept) * weights - there
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder} has room for {free / 1e6:,.0f} MB, but the run will write {needed / 1e6:,.0f} MB (three "
            f"training states and {2 + kept} models at most); make room or choose another folder with -o"
        )


def _moments(optimizer: Optimizer) -> int:
    """Bytes of an optimizer's moments, once it has stepped."""
    total = 0
    for group in optimizer.param_groups:
        kept = 2 if "betas" in group else 1 if group.get("momentum") else 0
        total += kept * sum(parameter.numel() * parameter.element_size() for parameter in group["params"])
    return total


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of processes that were killed while they wrote into a run's folder."""
    for place in (folder, folder / "best", folder / "final", *sorted((folder / EPOCHS).glob("*"))):
        for path in place.glob(".*.tmp"):
            number = path.name.split(".")[-2]
            if number.isdecimal() and not _is_running(int(number)):
                path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
