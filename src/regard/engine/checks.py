"""What is looked at before the first step: that a run that goes on is the same run, and that it can come to its end.

A run that goes on ends where it would have ended uninterrupted. So the pictures have to be the same, wherever they lie,
and so do the settings, but for those that say where things are, how fast they are read and what is written down. What
the end needs - data that can be scored, room on the disk - is tried at the beginning.

Shapes: n pictures to train on, Q queries, G gallery images.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regard.config import FREE, Config, EvalConfig, TrainConfig, is_free
from regard.data.sources import split_options
from regard.engine.step import lr_factor
from regard.engine.training_state import TrainingState
from regard.errors import CheckpointError, ConfigError, DataError, StorageError
from regard.evaluation.embed import evaluate_splits
from regard.fingerprint import file_digest
from regard.places import EPOCHS
from regard.registry import DATASETS
from regard.run_folder.saved_state import LAST, PREVIOUS, Progress
from regard.structures import Sample, Splits

__all__ = [
    "check_evaluation", "check_folder", "check_pictures", "check_settings", "epochs_to_keep", "picture_digests",
    "remove_leftovers", "settings_that_differ", "weights_size",
]  # fmt: skip

PLACES = ("data.train", "data.name")
"""Texts of data sets, in which only the folders may change; their pictures are compared besides."""

AHEAD = ("train.epochs", "schedule.*")
"""Settings that may change as long as every step taken so far had the same learning rate."""

LENGTH = 8
"""Bytes kept of each picture's digest."""

FEW = 1 << 20
"""Distances of a rehearsal; where there are more, a part of the persons stands for all."""

WITHOUT = "a training is scored at its end; mend that, or name a data set to test on: data.name="


def picture_digests(samples: Sequence[Sample]) -> Tensor:
    """Digest what training sees of each picture: its bytes, and whom and which camera it shows.

    Persons and cameras count by their order, as they do in training: where a list lies, and how another data set beside
    it shifts its numbers, changes nothing.

    Args:
        samples: n training pictures.

    Returns:
        (n, 8) uint8.

    Raises:
        DataError: a picture cannot be read.
    """
    people, cameras = (
        {number: place for place, number in enumerate(sorted(numbers))}
        for numbers in ({sample.pid for sample in samples}, {sample.camid for sample in samples})
    )
    rows = bytearray()
    for sample in samples:
        try:
            content = file_digest(sample.path)
        except OSError as error:
            raise DataError(
                f"cannot read picture {sample.path}: {error.strerror or error}; restore it, or take it out of the list"
            ) from None
        line = f"{people[sample.pid]}\0{cameras[sample.camid]}\0{content}"
        rows += hashlib.blake2b(line.encode(), digest_size=LENGTH).digest()
    return torch.frombuffer(rows, dtype=torch.uint8).reshape(-1, LENGTH) if rows else torch.empty(0, LENGTH).byte()


def check_pictures(then: Tensor, now: Tensor, samples: Sequence[Sample], source: str) -> None:
    """Compare the pictures a run was trained on with those that are there.

    Args:
        then, now: (n, 8) and (m, 8) digests, see :func:`picture_digests`.
        samples: the m pictures.
        source: what to call the run.

    Raises:
        CheckpointError: they differ; it says in how many pictures, and names the first.
    """
    if torch.equal(then, now):
        return
    olds, news = ([bytes(row.tolist()) for row in rows] for rows in (then, now))
    changed = [place for place, row in enumerate(news) if olds[place : place + 1] != [row]]
    known = set(olds)
    strangers = [place for place in changed if news[place] not in known]
    if len(olds) != len(news):
        parts = [f"{len(news):,} pictures where it was {len(olds):,}"]
    elif sorted(olds) != sorted(news):
        parts = [f"of {len(news):,} pictures, {len(changed):,} are not what they were"]
    else:
        parts = [f"the same {len(news):,} pictures in another order, {len(changed):,} of them elsewhere"]
    if changed:
        place = (strangers or changed)[0]
        parts.append(f"the first that differs is {samples[place].path}, in place {place + 1}")
    raise CheckpointError(
        f"the training list is not the one that {source} was trained on: {'; '.join(parts)} (what counts is bytes, "
        "persons and cameras, not places); restore it, or start a new run in another folder with -o"
    )


ANEW = (
    "go on without (--resume RUN), or start a new run in another folder with -o, from these weights with "
    "model.pretrained=RUN"
)
"""What to do instead of going on with other settings."""


def check_settings(old: Config, new: Config, progress: Progress, source: str, instead: str = ANEW) -> None:
    """Refuse settings that would make another run of one that goes on.

    Args:
        old: the run's.
        new: those it is to go on with.
        progress: how far it came.
        source: what to call the run.
        instead: what to do, in words.

    Raises:
        ConfigError: all that may not change, by name.
    """
    faults = []
    for key, (before, after) in settings_that_differ(old, new).items():
        if is_free(key) or (key in PLACES and _same_names(before, after)):
            continue
        more = _other_rates(old, new, progress) if any(fnmatchcase(key, ahead) for ahead in AHEAD) else ""
        if more is not None:
            faults.append(f"{key} is {before} there, {after} here{more}")
    if faults:
        raise ConfigError(
            f"{source} holds a run of other settings ({'; '.join(faults)}); only settings that change no step done so "
            f"far may change: {', '.join((*FREE, *PLACES))} (folders), and, where the learning rates so far stay, "
            f"{', '.join(AHEAD)}; {instead}"
        )


def settings_that_differ(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys of the settings that differ, in order, with both values."""
    olds, news = old.flat(), new.flat()
    both = {key: (olds.get(key), news.get(key)) for key in sorted(olds.keys() | news.keys())}
    return {key: (before, after) for key, (before, after) in both.items() if before != after}


def _same_names(before: Any, after: Any) -> bool:
    """Whether texts of data sets name the same ones with the same options, wherever they lie."""
    olds, news = ([value] if isinstance(value, str) else list(value or ()) for value in (before, after))
    return len(olds) == len(news) and all(map(_same_name, olds, news))


def _same_name(before: str, after: str) -> bool:
    (old, old_options), (new, new_options) = split_options(before), split_options(after)
    names = [text.partition("=")[0] for text in (old, new)]
    strange = any(name not in DATASETS for name in names)  # a folder alone says nothing, and may be gone
    return old_options == new_options and (strange or names[0] == names[1])


def _other_rates(old: Config, new: Config, progress: Progress) -> str | None:
    """In what steps so far differ from what the new schedule would have made of them; None where in nothing."""
    begun = progress.epoch + bool(progress.batch)
    if new.train.epochs < begun:
        return f"; {progress.epoch} epochs and {progress.batch} batches are done already"
    points = [part / 8 for part in range(8 * begun)]
    then, now = ([lr_factor(one.schedule, point, one.train.epochs) for point in points] for one in (old, new))
    if then == now:
        return None
    return f"; the {new.schedule.name} schedule has had other learning rates in the {progress.epoch} epochs done"


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
    if len(splits.query) * len(splits.gallery) <= FEW:
        return splits
    common = {sample.pid for sample in splits.query} & {sample.pid for sample in splits.gallery}
    some = set(sorted(common)[:20])
    query, gallery = ([sample for sample in part if sample.pid in some] for part in (splits.query, splits.gallery))
    return replace(splits, query=query[:500], gallery=gallery[:2000])


def epochs_to_keep(config: TrainConfig, after: int, until: int | None = None) -> range:
    """Epochs behind ``after`` whose network is kept, up to ``until``, or the end of training."""
    every = config.keep_every
    end = config.epochs if until is None else until
    return range(0) if every is None else range((max(after, 0) // every + 1) * every, end + 1, every)


def weights_size(model: nn.Module) -> int:
    """Bytes of a saved network."""
    return sum(value.nbytes for value in model.state_dict().values())


def check_folder(state: TrainingState) -> None:
    """Check that a run's folder takes what the run is going to write: three states at a time, and the models.

    Raises:
        ConfigError: something else bears the name of a part of the run.
        StorageError: the folder may not be written, or the disk has too little room.
    """
    folder, kept = state.folder, len(epochs_to_keep(state.config.train, state.progress.epoch))
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
        kept = 2 if "betas" in group else bool(group.get("momentum"))
        total += kept * sum(parameter.nbytes for parameter in group["params"])
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
        pass
    return True
