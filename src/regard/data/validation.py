"""People of the training part held out to validate on, so that the test part is looked at once, at the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regard.errors import ConfigError
from regard.structures import Splits
from regard.wording import count

__all__ = ["hold_out"]

LEFT = 2
"""People that have to be left to train on."""


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
