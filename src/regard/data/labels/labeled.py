"""What is known of a picture besides who it shows, wherever it is kept.

Shapes: h x w pixels of a stored mask, g x v pixels of a stored heat map.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from regard.data.image import open_image, to_rgb
from regard.data.labels.coco import Outline, draw_segmentation
from regard.data.transforms import resize
from regard.errors import DataError, check_choice
from regard.structures import Sample

__all__ = ["LabelKind", "LabeledSample", "Labels", "Outline", "PackedLabels", "has_label", "read_labels"]

LabelKind = Literal["mask", "keypoints"]

SCATTERING = ("JPEG", "WEBP")
"""Formats whose compression scatters low grays around the edge of a person."""

SCATTERED = 100
"""Lowest gray that is the person in those, as in the published masks."""


class Labels(NamedTuple):
    """Labels of one picture as stored.

    Attributes:
        mask: (h, w) uint8, 255 on the person and 0 elsewhere; None where there is none.
        joints: (17, 4) float32: x and y in pixels of the picture, COCO's visibility, score from 0 to 1; None where
            there are none.
        heatmaps: (17, g, v) uint8 that show all of the picture; None where there are none.
        drawn: (17,) bool, which of the heat maps there are; None where there are none.
    """

    mask: np.ndarray | None = None
    joints: np.ndarray | None = None
    heatmaps: np.ndarray | None = None
    drawn: np.ndarray | None = None


class PackedLabels(Protocol):
    """The labels of many pictures in one place, such as a :class:`~regard.data.labels.pack.LabelPack`."""

    def has(self, row: int, kind: LabelKind) -> bool:
        """Return whether the picture in that row has labels of that kind."""
        ...

    def read(self, row: int, kinds: tuple[LabelKind, ...]) -> Labels:
        """Return the labels of the picture in that row."""
        ...


@dataclass(frozen=True, slots=True)
class LabeledSample(Sample):
    """A sample whose labels are kept in other ways than a mask and keypoints.

    Attributes:
        mask_threshold: lowest gray level of ``mask`` that is the person; None is as :func:`read_mask` has it.
        outline: the mask, where it is not a file of its own.
        scores: how sure the 17 keypoints are, from 0 to 1.
        heatmaps: a picture for each of the 17 joints, None for one that is missing.
        pack: packed labels, which then are the only ones read.
        row: where the picture is in them.
    """

    mask_threshold: int | None = None
    outline: Outline | None = None
    scores: tuple[float, ...] | None = None
    heatmaps: tuple[Path | None, ...] | None = None
    pack: PackedLabels | None = None
    row: int = 0

    @classmethod
    def of(cls, sample: Sample, **changes: Any) -> LabeledSample:
        """The sample with some of its fields changed."""
        if isinstance(sample, cls) and not changes:
            return sample
        return cls(**{field.name: getattr(sample, field.name) for field in fields(sample)} | changes)


PLAIN = LabeledSample(Path(), 0, 0)
"""What a sample of another kind has besides: nothing."""


def has_label(sample: Sample, kind: LabelKind) -> bool:
    """Whether anything of that kind is known of a sample; no file is opened."""
    check_choice("the kind of label", kind, LabelKind)
    if not isinstance(sample, LabeledSample):
        return getattr(sample, kind) is not None
    if sample.pack is not None:
        return sample.pack.has(sample.row, kind)
    if kind == "mask":
        return sample.mask is not None or sample.outline is not None
    return sample.keypoints is not None or any(sample.heatmaps or ())


def read_labels(sample: Sample, kinds: tuple[LabelKind, ...] = ("mask", "keypoints")) -> Labels:
    """All that is known of a sample.

    Args:
        sample: any sample.
        kinds: what to look for; the rest is None.

    Raises:
        DataError: a file cannot be read, or does not hold what it should.
    """
    for kind in kinds:
        check_choice("the kind of label", kind, LabelKind)
    more = sample if isinstance(sample, LabeledSample) else PLAIN
    if more.pack is not None:
        return more.pack.read(more.row, kinds)
    mask = mask_of(sample, more) if "mask" in kinds else None
    if "keypoints" not in kinds:
        return Labels(mask)
    if more.heatmaps and any(more.heatmaps):
        heatmaps, drawn = read_heatmaps(more.heatmaps)
        return Labels(mask, heatmaps=heatmaps, drawn=drawn)
    if sample.keypoints is None:
        return Labels(mask)
    joints = np.ones((len(sample.keypoints), 4), np.float32)
    joints[:, :3] = sample.keypoints
    if more.scores is not None:
        joints[:, 3] = more.scores
    return Labels(mask, joints)


def mask_of(sample: Sample, more: LabeledSample) -> np.ndarray | None:
    """The mask from its file, or from the outline."""
    if sample.mask is not None:
        return read_mask(sample.mask, more.mask_threshold)
    if more.outline is None:
        return None
    try:
        return draw_segmentation(*more.outline)
    except ValueError as error:
        raise DataError(
            f"the segmentation of '{sample.path.name}' cannot be drawn ({error}), expected COCO's polygons or runs; "
            "make or correct the file"
        ) from error


def read_heatmaps(paths: tuple[Path | None, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Heat maps of one picture, at the size of the first; zeros for a missing one.

    Returns:
        (17, g, v) uint8, and (17,) bool: which there are. A map that is black all over shows no joint, and is none.

    Raises:
        DataError: a file cannot be read.
    """
    maps: list[np.ndarray | None] = [None if path is None else read_gray(path) for path in paths]
    size = next(heat.shape for heat in maps if heat is not None)
    found = np.stack([np.zeros(size, np.uint8) if heat is None else resize(heat, *size) for heat in maps])
    return found, np.array([heat.any() for heat in found])


def read_gray(path: Path) -> np.ndarray:
    """(g, v) uint8 of a gray picture.

    Raises:
        DataError: the file cannot be read.
    """
    with open_image(path, "heat map") as image:
        return np.asarray(image.convert("L"))


def read_mask(path: Path, threshold: int | None = None) -> np.ndarray:
    """Where the person is.

    A palette picture holds labels, of which 0 is the background; anything else is read as gray levels.

    Args:
        path: the mask.
        threshold: the lowest gray level that is the person; None is 100 in JPEG and WebP files, and 1 in others.

    Returns:
        (h, w) uint8, 255 on the person and 0 elsewhere.

    Raises:
        DataError: the file cannot be read.
    """
    with open_image(path, "mask") as image:
        plain = image.mode in ("P", "L", "1")
        labels = np.asarray(image) if plain else np.asarray(to_rgb(image, f"mask '{path}'")).max(2)
        lowest = 1 if image.mode in ("P", "1") else lowest_gray(image.format, threshold)
    return (labels >= lowest).view(np.uint8) * np.uint8(255)


def lowest_gray(form: str | None, threshold: int | None = None) -> int:
    """Return the lowest gray level that is the person, in a mask file of a format, where ``threshold`` does not say."""
    return (SCATTERED if form in SCATTERING else 1) if threshold is None else threshold


def person_of(mask: np.ndarray) -> np.ndarray:
    """Return where a mask in memory has the person, bool of its shape.

    Args:
        mask: bool, or two numbers: 0, and 1 or 255 on the person, as :func:`read_mask` gives them.

    Raises:
        DataError: it holds others, such as the gray levels of a JPEG file, of which each would count as the person.
    """
    mask = np.asarray(mask)
    if mask.dtype == bool:
        return mask
    person = mask != 0
    if mask.size and ((high := mask.max()) not in (0, 1, 255) or not (mask[person] == high).all()):
        raise DataError(
            f"the mask holds {len(np.unique(mask))} different numbers up to {high}, expected 0 and 255 (or 0 and 1); "
            "read its file with regard.data.labels.read_mask, which takes a threshold"
        )
    return person
