"""What makes a run the run it is: its settings, and the pictures it is trained on.

A run that goes on ends where it would have ended uninterrupted. So the pictures have to be the same, wherever they lie,
and so do the settings, but for those that say where things are, how fast they are read and what is written down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from regard.config import Config, flat_settings
from regard.data.sources import split_options
from regard.engine.optim import lr_factor
from regard.errors import CheckpointError, ConfigError, DataError
from regard.fingerprint import file_digest
from regard.registry import DATASETS
from regard.run_folder.saved_state import Progress
from regard.structures import Sample

__all__ = ["check_pictures", "check_settings", "is_free", "picture_digests", "settings_that_differ"]

FREE = (
    "data.root", "data.workers", "data.cache", "data.cache_folder", "data.label_files.*.mask_root",
    "data.label_files.*.keypoint_root", "data.label_files.*.coco", "data.label_files.*.pack",
    "train.devices", "train.accelerator", "train.checkpointing", "train.profile", "train.eval_every",
    "train.keep_every", "train.save_every", "train.log_every", "eval.batch_size", "plugins",
)  # fmt: skip
"""Settings that change no step of a training: where data lies, how fast it is read, what is written and when."""

PLACES = ("data.train", "data.name")
"""Texts of data sets, in which only the folders may change; their pictures are compared besides."""

AHEAD = ("train.epochs", "schedule.*")
"""Settings that may change as long as every step taken so far had the same learning rate."""

LENGTH = 8
"""Bytes kept of each picture's digest."""


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
    changed = [place for place in range(len(news)) if place >= len(olds) or news[place] != olds[place]]
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
        "persons and cameras, not places); restore it, or start a new run"
    )


def check_settings(old: Config, new: Config, progress: Progress, source: str) -> None:
    """Refuse settings that would make another run of one that goes on.

    Args:
        old: the run's.
        new: those it is to go on with.
        progress: how far it came.
        source: what to call the run.

    Raises:
        ConfigError: all that may not change, by name.
    """
    faults = []
    for key, (before, after) in settings_that_differ(old, new).items():
        if is_free(key) or (key in PLACES and _same_names(before, after)):
            continue
        if any(fnmatchcase(key, ahead) for ahead in AHEAD):
            if _same_rates(old, new, progress):
                continue
            more = (
                f"; the {new.schedule.name} schedule has had other learning rates in the {progress.epoch} epochs done"
                if new.train.epochs >= progress.epoch + bool(progress.batch)
                else f"; {progress.epoch} epochs and {progress.batch} batches are done already"
            )
        else:
            more = ""
        faults.append(f"{key} is {before} there, {after} here{more}")
    if faults:
        raise ConfigError(
            f"{source} holds a run of other settings ({'; '.join(faults)}); only settings that change no step done so "
            f"far may change: {', '.join((*FREE, *PLACES))} (folders), and, where the learning rates so far stay, "
            f"{', '.join(AHEAD)}; go on without (--resume RUN), or start a new run in another folder with -o, from "
            "these weights with model.pretrained=RUN"
        )


def is_free(key: str) -> bool:
    """Whether a setting, by its dotted key, changes no step of a training."""
    return any(fnmatchcase(key, free) for free in FREE)


def settings_that_differ(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys of the settings that differ, in order, with both values."""
    olds, news = (dict(flat_settings(config.to_dict())) for config in (old, new))
    return {
        key: (olds.get(key), news.get(key))
        for key in sorted(olds.keys() | news.keys())
        if olds.get(key) != news.get(key)
    }


def _same_names(before: Any, after: Any) -> bool:
    """Whether texts of data sets name the same ones with the same options, wherever they lie."""
    olds, news = ([value] if isinstance(value, str) else list(value or ()) for value in (before, after))
    return len(olds) == len(news) and all(_same_name(old, new) for old, new in zip(olds, news))


def _same_name(before: str, after: str) -> bool:
    (old, old_options), (new, new_options) = split_options(before), split_options(after)
    names = [text.partition("=")[0] for text in (old, new)]
    known = [name for name in names if name in DATASETS]  # a folder alone says nothing, and may be gone
    return old_options == new_options and (len(known) < 2 or names[0] == names[1])


def _same_rates(old: Config, new: Config, progress: Progress) -> bool:
    """Whether every step so far had the learning rate that the new schedule would have given it."""
    if new.train.epochs < progress.epoch + bool(progress.batch):
        return False
    points = [epoch + part / 8 for epoch in range(progress.epoch + bool(progress.batch)) for part in range(8)]
    return all(
        lr_factor(old.schedule, point, old.train.epochs) == lr_factor(new.schedule, point, new.train.epochs)
        for point in points
    )
