"""Pointing: whether heat lies where it should, on the person or on the one thing that twins differ in.

Shapes: B pictures, h x w positions of a map, H x W pixels.

The pointing game (Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, section 4.2) asks
whether the hottest pixel is inside a mask; the share of the heat inside says more, and is what attention precision is.
Chance of both is the share of the picture that the mask fills. A folder of twins holds pairs of pictures and masks of
where they differ, listed in ``twins.json``; ``regard data twins`` makes one of the crowd, and one of other pictures is
made by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch

from regard.data.labels import read_mask
from regard.data.labels.labeled import person_of
from regard.errors import DataError
from regard.explain.attention_precision import attention_mass
from regard.explain.heat_methods import on_pixels
from regard.parsing import parse_json
from regard.storage import read_regular

__all__ = ["LIST", "Pointing", "Twin", "hits", "point_at", "read_difference", "read_twins"]

LIST = "twins.json"
"""File of a folder of twins that says which pictures belong together."""

FORMAT = "regard-twins"

TIED = 1e-6
"""Share of the highest heat within which pixels are equally hot."""


class Twin(NamedTuple):
    """Two pictures that differ in one thing.

    Attributes:
        first, second: the pictures.
        mask: where they differ, a picture of the size of both.
        part: what they differ in.
        pid: whom they show; nobody else of the folder has the number.
    """

    first: Path
    second: Path
    mask: Path
    part: str
    pid: int


class Pointing(NamedTuple):
    """Where heat lies, picture by picture, (B,) each; NaN where there is no heat.

    Attributes:
        hit: share of the hottest pixels that is inside the mask: 0 or 1 where there is one.
        share: share of the heat that is inside; what is below zero counts as none.
        chance: share of the picture that the mask fills.
    """

    hit: np.ndarray
    share: np.ndarray
    chance: np.ndarray


def read_twins(folder: Path) -> list[Twin]:
    """The pairs of a folder of twins, in its order.

    Raises:
        DataError: there is no such list, it is damaged, or it names files that are not inside the folder.
    """
    path = folder / LIST
    wanted = "wanted a folder that 'regard data twins' made"
    try:
        content = parse_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read '{path}' ({error}), {wanted}") from error
    listed = content.get("twins") if isinstance(content, dict) and content.get("format") == FORMAT else None
    if not isinstance(listed, list) or not listed:
        raise DataError(f"'{path}' lists no twins, {wanted}")
    return [_twin(folder, entry, number) for number, entry in enumerate(listed)]


def _twin(folder: Path, entry: Any, number: int) -> Twin:
    """One line of the list."""
    entry = entry if isinstance(entry, dict) else {}
    named = [entry.get(side) for side in ("first", "second", "mask")]
    part, pid = entry.get("part"), entry.get("pid")
    if not (all(isinstance(name, str) for name in named) and isinstance(part, str) and type(pid) is int):
        raise DataError(
            f"entry {number} of '{folder / LIST}' is none, wanted first, second, mask and part as text and pid as a "
            "number"
        )
    paths = [PurePosixPath(str(name)) for name in named]
    for path in paths:
        if path.is_absolute() or ".." in path.parts or not (folder / path).is_file():
            raise DataError(f"entry {number} of '{folder / LIST}' names '{path}', which is no file inside the folder")
    first, second, mask = (folder / path for path in paths)
    return Twin(first, second, mask, part, pid)


def point_at(maps: np.ndarray, masks: Sequence[np.ndarray]) -> Pointing:
    """Ask whether heat lies inside masks.

    Args:
        maps: (B, h, w); negative values count as 0.
        masks: (H, W) each, 255 or True inside.

    Raises:
        DataError: there is not one mask for each map, or a mask holds gray levels.
    """
    share = attention_mass(maps, masks)
    chance = np.array([float(person_of(mask).mean()) for mask in masks])
    return Pointing(hits(maps, masks), share, chance)


def hits(maps: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Which share of the hottest pixels is inside each mask, (B,); NaN where no heat is above zero."""
    found = np.full(len(maps), np.nan)
    for place, (values, mask) in enumerate(zip(maps, masks)):
        fine = on_pixels(torch.from_numpy(np.ascontiguousarray(values))[None], (mask.shape[0], mask.shape[1]))[
            0
        ].numpy()
        top = fine.max()
        if top > 0:
            found[place] = person_of(mask)[fine >= top * (1 - TIED)].mean()
    return found


def read_difference(twin: Twin) -> np.ndarray:
    """Where two twins differ, (H, W) uint8, 255 there.

    Raises:
        DataError: the mask cannot be read, or says that they differ nowhere.
    """
    mask = read_mask(twin.mask)
    if not mask.any():
        raise DataError(f"'{twin.mask}' is empty, so '{twin.first}' and '{twin.second}' do not differ; take them out")
    return mask
