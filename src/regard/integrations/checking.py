"""Whether a file does in another program what it does here: tried by that program's own loader, where that is there."""

from __future__ import annotations

import importlib
import zlib
from pathlib import Path

import numpy as np

from regard.data.resizing import resize
from regard.errors import CheckpointError, ConfigError
from regard.export.checking import check_made_for
from regard.export.manifest import Card
from regard.export.profiles import profile_of
from regard.integrations.encoder import Encoder
from regard.integrations.programs import program, version_of
from regard.integrations.reid import by_regard
from regard.wording import one_line

__all__ = ["LEAST", "check_file"]

LEAST = 0.999
"""Cosine below which descriptors are another network's."""

LOADERS = {
    "boxmot": "boxmot", "ultralytics": "ultralytics", "libreyolo": "libreyolo", "openvino-bgr": "openvino",
    "reid": "reid",
}  # fmt: skip
"""Profile -> the module of this room whose ``by_loader`` tries a file."""


def check_file(path: Path, name: str) -> str:
    """Check that a file is what it was made for, and return what was found, in a sentence.

    Args:
        path: of the file, or the folder for ``reid``.
        name: of the profile.

    Raises:
        ConfigError: there is no such profile or file, or the file was made for another program.
        CheckpointError: it is damaged, or the program does not take it or makes something else of it.
    """
    profile = profile_of(name)
    card = check_made_for(path, profile)
    told = f"{path}: made for {profile.program} ({profile}), signature and metadata as they should be"
    if not profile.package:
        return f"{told}; not tried there, which cannot be done from Python"
    try:
        program(profile.package)
    except ConfigError:
        return f"{told}; {profile.package} is not installed here, so its own loader has not tried it"
    frame, boxes = made_frame(card)
    try:
        loader = importlib.import_module(f"regard.integrations.{LOADERS[name]}").by_loader(path)
        found, crops = loader(frame, boxes)
    except Exception as error:  # programs raise types of their own
        raise CheckpointError(
            f"{profile.program} does not take {path} ({one_line(error)}); regard export RUN --for {name}"
        ) from error
    least = least_cosine(found, (by_regard(path) if path.is_dir() else Encoder(path)).embed(crops, color="bgr"))
    if not least >= LEAST:
        raise CheckpointError(
            f"{profile.program} makes something else of {path}: cosine {least:.4f} to regard's, wanted {LEAST} or "
            f"more; regard export RUN --for {name}"
        )
    return f"{told}; {profile.package} {version_of(profile.package)} tried it: cosine to regard's {least:.6f} at least"


def least_cosine(found: np.ndarray, wanted: np.ndarray) -> float:
    """The least cosine of rows (N, D) of two; -1 where they are of other shapes or not finite."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return -1.0
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(((found * wanted).sum(1) / lengths.clip(1e-12)).min())


def made_frame(card: Card) -> tuple[np.ndarray, np.ndarray]:
    """A smooth BGR frame of nothing, and eight boxes in it, of whole numbers: (8, 4).

    They are smaller than what the file takes, also where a program cuts them out with a margin of 10 pixels and 2 %:
    how programs enlarge crops does not differ, and how they reduce them is no fault of the file.
    """
    height, width = (max(8, round(0.95 * side) - 12) for side in (card.height, card.width))
    coarse = np.random.default_rng(zlib.crc32(b"regard")).integers(0, 256, (10, 24, 3), np.uint8)
    frame = resize(coarse, height + 60, 8 * (width + 20) + 40, interpolation="bicubic")
    left, top = 30 + np.arange(8) * (width + 20), 20 + np.arange(8) * 2
    return frame, np.stack([left, top, left + width, top + height], 1).astype(np.float32)
