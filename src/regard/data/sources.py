"""Data sets by a short text, and several of them as one training split.

A source is ``NAME``, ``NAME=FOLDER`` or ``FOLDER``, each with options of the data set after commas::

    market1501                            below the folder that all sources share
    dukemtmc=data/DukeMTMC-reID           in a folder of its own
    data/grid                             whatever data set is there
    cuhk03,boxes=labeled                  with an option

People of the training part may be held out to validate on, so that the test part is looked at once, at the end.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from regard.data.datasets import detect, load_dataset
from regard.errors import ConfigError, DataError, UnknownNameError
from regard.parsing import OPTIONS, parse_yaml
from regard.registry import DATASETS
from regard.structures import DISTRACTOR, Sample, Splits
from regard.wording import count, distinct, named_with

__all__ = [
    "Source", "find_source", "hold_out", "merge_sources", "no_training", "place_of", "same_pictures", "source_name",
    "split_options",
]  # fmt: skip

LEFT = 2
"""People that have to be left to train on where others are held out."""


@dataclass(frozen=True, slots=True)
class Source:
    """A data set, where it lies, and how it is to be read.

    Attributes:
        name: its name in the registry.
        root: its folder, or one above it.
        options: the data set's own.
    """

    name: str
    root: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> Splits:
        """The data set; for errors see :func:`~regard.data.datasets.load_dataset`."""
        return load_dataset(self.name, self.root, **self.options)

    def __str__(self) -> str:
        return named_with(self.name, self.options)


def find_source(text: str, root: Path | None = None, options: Mapping[str, Mapping[str, Any]] | None = None) -> Source:
    """The source that a text stands for.

    Args:
        text: see the head of this file.
        root: where a bare name is looked for.
        options: data set -> options, which those in the text go before.

    Raises:
        UnknownNameError: no data set of that name.
        DataError: a bare name without a root, or a folder that is not there or holds no data set, or several.
    """
    head, given = split_options(text)
    name, sign, place = head.partition("=")
    if name in DATASETS:
        home = Path(place) if sign else root
        if home is None:
            raise DataError(
                f"no folder is given for {name}; say where {name} lies: data.root=FOLDER (eval: --root FOLDER), or "
                f"{name}=FOLDER"
            )
    elif os.sep in name or Path(head).exists():
        home = Path(head)
        name = detect(home)
    else:
        raise UnknownNameError("data set", name, DATASETS)
    return Source(name, home, {**(options or {}).get(name, {}), **given})


def source_name(text: str) -> str:
    """Name of the data set that a text stands for; a folder is looked into."""
    name = split_options(text)[0].partition("=")[0]
    return name if name in DATASETS else find_source(text).name


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """The text without its options, and these by name."""
    match = OPTIONS.search(text)
    if match is None:
        return text, {}
    pairs = [pair.split("=", 1) for pair in match[0][1:].split(",")]
    if twice := [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]:
        raise ConfigError(f"{text}: {twice[0]} is given twice; give it once")
    return text[: match.start()], {key: parse_yaml(value, f"{key}={value}") for key, value in pairs}


def place_of(source: Source, splits: Splits) -> tuple[str, Path]:
    """Name and place of a data set that was read, however its folder was spelled; of a table, the file."""
    root = source.root if source.root.is_file() else splits.root
    return source.name, root.resolve()


def same_pictures(one: Splits, other: Splits) -> bool:
    """Whether two data sets are tested on the same pictures with the same labels."""
    return all(
        [(_real(sample.path), sample.pid, sample.camid) for sample in first]
        == [(_real(sample.path), sample.pid, sample.camid) for sample in second]
        for first, second in ((one.query, other.query), (one.gallery, other.gallery))
    )


def _real(path: Path) -> Path:
    """The path without links to folders, which are followed once each."""
    return _real_folder(Path(path).parent) / Path(path).name


@lru_cache(maxsize=1 << 16)
def _real_folder(folder: Path) -> Path:
    return folder.resolve()


def merge_sources(home: Splits, parts: Sequence[Splits]) -> Splits:
    """Train on several data sets, test on one.

    Nobody is in two of them: the data set tested on keeps its identities and cameras as published, each other one's
    follow after the highest so far, in the order given. Junk and distractors are left out.

    Args:
        home: whose query and gallery are taken; may be one of ``parts``.
        parts: whose training splits are taken, in this order.

    Raises:
        ConfigError: a data set is named twice.
        DataError: one of them has nobody to train on.
    """
    everyone = [*home.train, *home.query, *home.gallery]
    last_pid = max((sample.pid for sample in everyone), default=0)
    last_camid = max((sample.camid for sample in everyone), default=0)
    train: list[Sample] = []
    seen: set[Path] = set()
    place = home.root.resolve()
    for part in parts:
        people = [sample for sample in part.train if sample.pid > DISTRACTOR]
        if not people:
            raise DataError(no_training(part.name))
        if not seen.isdisjoint(paths := {_real(sample.path) for sample in people}):
            raise ConfigError(f"data.train names {part.name} in '{part.root}' twice; take one of them out")
        seen |= paths
        own = part.name == home.name and part.root.resolve() == place and same_pictures(part, home)
        if not own:
            first = min(sample.camid for sample in people)
            shift = last_camid + 1 - first
            people = [replace(one, pid=one.pid + last_pid, camid=one.camid + shift) for one in people]
            last_pid, last_camid = max(one.pid for one in people), max(one.camid for one in people)
        train += people
    name = "+".join(distinct([part.name for part in parts], [part.root for part in parts]))
    return Splits(name if home.name == parts[0].name else f"{name}, tested on {home.name}", home.root, train,
                  home.query, home.gallery, home.options)  # fmt: skip


def no_training(name: str) -> str:
    """What to say of a data set that is for testing only."""
    return (
        f"{name} is for testing only, there is nobody to train on; train on another, for example "
        f"data.train=[market1501], or score a trained run on it: regard eval RUN --data {name}"
    )


def hold_out(splits: Splits, people: int, seed: int) -> Splits:
    """Hold out people drawn at random from the training part.

    Args:
        splits: a data set as published.
        people: how many to draw.
        seed: of the drawing; the same people for the same data set, number and seed.

    Returns:
        The data set with everyone else to train on, and the pictures of those drawn as query and as gallery: every
        picture asks all others, as far as cameras are respected.

    Raises:
        ConfigError: there are not so many people.
    """
    pids = sorted({sample.pid for sample in splits.train})
    if people > len(pids) - LEFT:
        raise ConfigError(
            f"data.val_ids is {people:,}, but {splits.label} has {count(len(pids), 'person')} to train on, of whom "
            f"{LEFT} at least have to be left; hold out fewer, or leave it out"
        )
    drawn = set(np.random.default_rng(seed).permutation(pids)[:people].tolist())
    held = [sample for sample in splits.train if sample.pid in drawn]
    return replace(
        splits,
        train=[sample for sample in splits.train if sample.pid not in drawn],
        query=held,
        gallery=held,
        options={**splits.options, "held_out": f"{people} of {count(len(pids), 'person')} to train on"},
    )
