"""From what a data set knows of a picture to what a network is trained to predict.

Shapes: H x W pixels of the network's input, h x w of the maps, N maps (1 for the mask, 17 for the joints), g x v
pixels of a stored heat map.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from regard.data.labels.heatmaps import find_peaks, gaussian_size
from regard.data.labels.joints import FLIPPED, JOINTS
from regard.data.labels.labeled import LabelKind, Labels, has_label, read_labels
from regard.data.labels.target import Maps, Points, Shares, Undrawn
from regard.data.transforms import Box, Geometry, TrainTransform, resize
from regard.errors import ConfigError, DataError
from regard.structures import Sample

__all__ = ["TrainingLabels"]

Erased = Literal["keep", "ignore"]
Peak = Literal["one", "score"]


@dataclass(frozen=True, slots=True)
class TrainingLabels:
    """Places a sample's labels where the augmentation has put them, for the device to draw.

    Nothing is made up: a picture without a label, and a joint that the annotation calls absent, gets maps of zeros
    whose flags say so. Beyond the edge of the stored picture a mask is 0; a joint there has the part of its heat map
    that reaches in. Stored heat maps are interpolated, and end where the picture does.

    Attributes:
        transform: of the picture; its draws are repeated.
        kinds: which labels to draw: "mask", "keypoints".
        stride: pixels of the network's input per pixel of the maps.
        sigma: standard deviation of a joint down and across, in pixels of the maps; None is
            :func:`~regard.data.labels.heatmaps.gaussian_size`.
        peak: height of a joint that is drawn: "one", or its "score".
        swap_on_flip: whether left and right joints change places in a mirrored picture; the released code forgets to.
        erased: "keep" labels under the erased box, as published: the network has to guess what is behind it; "ignore"
            flags the box's part of the mask, and joints whose center is in it, as not known.

    Raises:
        ConfigError: an option is out of range.
    """

    transform: TrainTransform
    kinds: tuple[LabelKind, ...] = ("mask", "keypoints")
    stride: int = 1
    sigma: tuple[float, float] | None = None
    peak: Peak = "one"
    swap_on_flip: bool = True
    erased: Erased = "keep"

    def __post_init__(self):
        for kind in self.kinds:
            if kind not in get_args(LabelKind):
                raise ConfigError(f"labels hold {kind!r}, which is none; choose from {', '.join(get_args(LabelKind))}")
        for name, choices in (("erased", get_args(Erased)), ("peak", get_args(Peak))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; choose {' or '.join(choices)}")
        height, width = self.transform.height, self.transform.width
        if not 1 <= self.stride < 16 or height % self.stride or width % self.stride:
            raise ConfigError(
                f"label stride is {self.stride}, expected 1 to 15 that divides the input of {height} x {width}; "
                "choose 1 or 2"
            )
        if self.sigma is not None and min(self.sigma) <= 0:
            raise ConfigError(f"sigma is {self.sigma}, expected lengths above 0; leave it out for the published ones")

    def check(self, samples: Sequence[Sample]) -> None:
        """Refuse a split that has none of the labels asked for.

        Raises:
            DataError: none of the samples has one of the kinds.
        """
        for kind in self.kinds:
            if not any(has_label(sample, kind) for sample in samples):
                raise DataError(
                    f"none of the {len(samples):,} training pictures has a label '{kind}', which the recipe trains on; "
                    f"add labels to the data set, or take '{kind}' and its loss out of the recipe"
                )

    def __call__(self, sample: Sample, stored: tuple[int, int], seed: int) -> dict[str, Undrawn]:
        """Labels of one sample.

        Args:
            sample: what the data set knows.
            stored: height and width of the stored picture.
            seed: the transform's when it augmented the picture.

        Returns:
            kind -> what its N maps of h x w are drawn from.

        Raises:
            DataError: a label's file cannot be read.
        """
        generator = random.Random(seed)
        geometry = self.transform.draw_geometry(generator)
        box = self.transform.draw_erasing(generator) if self.erased == "ignore" else None
        labels = read_labels(sample, self.kinds)
        placed: dict[str, Undrawn] = {}
        for kind in self.kinds:
            if kind == "mask":
                placed[kind] = self._mask(labels.mask, geometry, box)
            elif labels.heatmaps is not None:
                placed[kind] = self._maps(labels, geometry, box)
            else:
                placed[kind] = self._points(labels, geometry, box, stored)
        return placed

    def _mask(self, mask: np.ndarray | None, geometry: Geometry, box: Box | None) -> Shares:
        """How many pixels of the person every pixel of the map covers."""
        size = geometry.height, geometry.width
        crop = np.zeros(size, np.uint8) if mask is None else geometry.warp(resize(mask, *geometry.resized, mask=True))
        known = np.full((1, 1, 1), mask is not None)
        if self.erased == "ignore":
            clear = np.full(size, mask is not None)
            if box is not None:
                clear[box.top : box.top + box.height, box.left : box.left + box.width] = False
            known = functools.reduce(np.logical_and, self._cells(clear))[None]
        counts = functools.reduce(np.add, self._cells(crop & 1))[None] * known
        return Shares(counts, np.full((1, 1, 1), self.stride**2, np.uint8), known)

    def _points(self, labels: Labels, geometry: Geometry, box: Box | None, stored: tuple[int, int]) -> Points:
        """Joints of known positions; of a picture without any, all unknown."""
        joints = np.zeros((len(JOINTS), 4), np.float32) if labels.joints is None else labels.joints
        if self._swaps(geometry):
            joints = joints[list(FLIPPED)]
        points, known = geometry.move(joints[:, :2], stored), joints[:, 2] > 0
        if box is not None:
            known &= ~inside(points, box)
        height, width = geometry.height // self.stride, geometry.width // self.stride
        frame = np.array([height, width, *(self.sigma or gaussian_size(height, width))], np.float32)
        heights = known * (joints[:, 3] if self.peak == "score" else np.float32(1))
        points = (points + 0.5) / self.stride - 0.5
        return Points(points.astype(np.float32), heights, frame, known[:, None, None])

    def _maps(self, labels: Labels, geometry: Geometry, box: Box | None) -> Maps:
        """Joints of which heat maps are stored."""
        levels, known = labels.heatmaps, labels.drawn
        assert levels is not None
        assert known is not None
        if self._swaps(geometry):
            levels, known = levels[list(FLIPPED)], known[list(FLIPPED)]
        size = levels.shape[1:]
        if box is not None:
            known = known & ~inside(geometry.move(find_peaks(levels)[0], size), box)
        rows, columns = sources(geometry, size, self.stride)
        return Maps(np.ascontiguousarray(levels), rows, columns, known[:, None, None])

    def _swaps(self, geometry: Geometry) -> bool:
        return geometry.flip and self.swap_on_flip

    def _cells(self, picture: np.ndarray) -> list[np.ndarray]:
        """The pixels of (H, W) that each pixel of the maps covers: stride² views (h, w)."""
        starts = range(self.stride)
        return [picture[down :: self.stride, right :: self.stride] for down in starts for right in starts]


def inside(points: np.ndarray, box: Box) -> np.ndarray:
    """(n,) bool: which of (n, 2) points lie on a pixel of the box."""
    start = np.array([box.left, box.top]) - 0.5
    return np.all((points >= start) & (points < start + np.array([box.width, box.height])), axis=1)


def sources(geometry: Geometry, stored: tuple[int, int], stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of the maps come from: the inverse of :meth:`Geometry.move`, an axis at a time.

    Args:
        geometry: of the picture.
        stored: g and v.
        stride: pixels of the network's input per pixel of the maps.

    Returns:
        (h,) rows and (w,) columns among the g and v stored ones, float32, not beyond the centers of the outer ones;
        -2 where the map lies outside of the picture.
    """
    axes = []
    lengths, starts = (geometry.height, geometry.width), (geometry.top, geometry.left)
    for length, start, resized, pixels, flip in zip(lengths, starts, geometry.resized, stored, (False, geometry.flip)):
        place = (np.arange(length // stride) + 0.5) * stride - geometry.pad + start
        place = resized - place if flip else place
        within = (place > 0) & (place < resized)
        axes.append(np.where(within, np.clip(place * pixels / resized - 0.5, 0, pixels - 1), -2).astype(np.float32))
    return axes[0], axes[1]
