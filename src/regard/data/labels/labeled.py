"""What is known of a picture besides who it shows, wherever it is kept.

Shapes: h x w pixels of a stored mask, g x v pixels of a stored heat map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from regard.data.image import open_image
from regard.data.labels.mask import draw_segmentation, read_mask
from regard.data.transforms import resize
from regard.errors import DataError, check_choice
from regard.structures import Sample

__all__ = ["LabelKind", "LabeledSample", "Labels", "Outline", "PackedLabels", "has_label", "read_labels"]

LabelKind = Literal["mask", "keypoints"]


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


class Outline(NamedTuple):
    """A mask within a COCO file.

    Attributes:
        segmentation: polygons, or runs.
        height, width: of the photo it was made for.
    """

    segmentation: Any
    height: int
    width: int


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
    more = sample if isinstance(sample, LabeledSample) else None
    if more and more.pack is not None:
        return more.pack.read(more.row, kinds)
    labels = Labels()
    if "mask" in kinds:
        labels = labels._replace(mask=mask_of(sample, more))
    if "keypoints" in kinds:
        if more and any(more.heatmaps or ()):
            heatmaps, drawn = read_heatmaps(more.heatmaps or ())
            labels = labels._replace(heatmaps=heatmaps, drawn=drawn)
        elif sample.keypoints is not None:
            joints = np.ones((len(sample.keypoints), 4), np.float32)
            joints[:, :3] = sample.keypoints
            if more and more.scores is not None:
                joints[:, 3] = more.scores
            labels = labels._replace(joints=joints)
    return labels


def mask_of(sample: Sample, more: LabeledSample | None) -> np.ndarray | None:
    """The mask from its file, or from the outline."""
    if sample.mask is not None:
        return read_mask(sample.mask, more.mask_threshold if more else None)
    if more and more.outline is not None:
        try:
            return draw_segmentation(*more.outline)
        except ValueError as error:
            raise DataError(
                f"the segmentation of '{sample.path.name}' cannot be drawn ({error}), expected COCO's polygons or "
                "runs; make or correct the file"
            ) from error
    return None


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
