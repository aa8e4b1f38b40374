"""From what a data set knows of a picture to what a network is trained to predict.

Shapes: H x W pixels of the network's input, h x w of the maps, N maps (1 for the mask, 17 for the joints).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from regard.data.labels.heatmaps import draw_heatmaps
from regard.data.labels.joints import FLIPPED, JOINTS
from regard.data.labels.mask import read_mask
from regard.data.transforms import Box, Geometry, TrainTransform, resize
from regard.errors import ConfigError, DataError
from regard.structures import Sample

__all__ = ["LabelKind", "TrainingLabels"]

LabelKind = Literal["mask", "keypoints"]
Erased = Literal["keep", "ignore"]


@dataclass(frozen=True, slots=True)
class TrainingLabels:
    """Draws a sample's labels as maps, where the augmentation has put them.

    Nothing is made up: a picture without a label, and a joint that the annotation calls absent, gets maps of zeros
    whose flags say so. Beyond the edge of the stored picture a mask is 0; a joint there has the part of its heat map
    that reaches in.

    Attributes:
        transform: of the picture; its draws are repeated.
        kinds: which labels to draw: "mask", "keypoints".
        stride: pixels of the network's input per pixel of the maps.
        sigma: standard deviation of a joint down and across, in pixels of the maps; None is
            :func:`~regard.data.labels.heatmaps.gaussian_size`.
        swap_on_flip: whether left and right joints change places in a mirrored picture; the released code forgets to.
        erased: "keep" labels under the erased box, as published: the network has to guess what is behind it; "ignore"
            flags the box's part of the mask, and joints whose center is in it, as not known.
        mask_threshold: see :func:`~regard.data.labels.mask.read_mask`.

    Raises:
        ConfigError: an option is out of range.
    """

    transform: TrainTransform
    kinds: tuple[LabelKind, ...] = ("mask", "keypoints")
    stride: int = 1
    sigma: tuple[float, float] | None = None
    swap_on_flip: bool = True
    erased: Erased = "keep"
    mask_threshold: int = 1

    def __post_init__(self):
        for kind in self.kinds:
            if kind not in get_args(LabelKind):
                raise ConfigError(f"labels hold {kind!r}, which is none; choose from {', '.join(get_args(LabelKind))}")
        if self.erased not in get_args(Erased):
            raise ConfigError(f"erased is {self.erased!r}; choose {' or '.join(get_args(Erased))}")
        height, width = self.transform.height, self.transform.width
        if self.stride < 1 or height % self.stride or width % self.stride:
            raise ConfigError(
                f"label stride is {self.stride}, which does not divide the input of {height} x {width}; choose 1 or 2"
            )
        if self.sigma is not None and min(self.sigma) <= 0:
            raise ConfigError(f"sigma is {self.sigma}, expected lengths above 0; leave it out for the published ones")

    def check(self, samples: Sequence[Sample]) -> None:
        """Refuse a split that has none of the labels asked for.

        Raises:
            DataError: none of the samples has one of the kinds.
        """
        for kind in self.kinds:
            if not any(getattr(sample, kind) is not None for sample in samples):
                raise DataError(
                    f"none of the {len(samples):,} training pictures has a label '{kind}', which the recipe trains on; "
                    f"add labels to the data set, or take '{kind}' and its loss out of the recipe"
                )

    def __call__(self, sample: Sample, stored: tuple[int, int], seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Maps of one sample.

        Args:
            sample: what the data set knows.
            stored: height and width of the stored picture.
            seed: the transform's when it augmented the picture.

        Returns:
            kind -> (N, h, w) float16 maps from 0 to 1, and bool flags (N, 1, 1) or (N, h, w) of where they are known.

        Raises:
            DataError: the mask's file cannot be read.
        """
        generator = random.Random(seed)
        geometry = self.transform.draw_geometry(generator)
        box = self.transform.draw_erasing(generator) if self.erased == "ignore" else None
        draw = {"mask": self._mask, "keypoints": self._keypoints}
        return {kind: draw[kind](sample, geometry, box, stored) for kind in self.kinds}

    def _mask(
        self, sample: Sample, geometry: Geometry, box: Box | None, stored: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The share of the person in every pixel, (1, h, w)."""
        crop, known = np.zeros((2, geometry.height, geometry.width), np.uint16)
        if sample.mask is not None:
            mask = resize(read_mask(sample.mask, self.mask_threshold), *geometry.resized, mask=True)
            crop[:], known[:] = geometry.warp(mask) > 0, 1
        if box is not None:
            known[box.top : box.top + box.height, box.left : box.left + box.width] = 0
        known = functools.reduce(np.minimum, self._cells(known))
        person = functools.reduce(np.add, self._cells(crop)) * known
        return (person / np.float32(self.stride**2)).astype(np.float16)[None], known[None] > 0

    def _keypoints(
        self, sample: Sample, geometry: Geometry, box: Box | None, stored: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """A heat map for every joint, (17, h, w)."""
        joints = np.zeros((len(JOINTS), 3)) if sample.keypoints is None else np.array(sample.keypoints, float)
        if geometry.flip and self.swap_on_flip:
            joints = joints[list(FLIPPED)]
        points, known = geometry.move(joints[:, :2], stored), joints[:, 2] > 0
        if box is not None:
            known &= ~inside(points, box)
        points = (points + 0.5) / self.stride - 0.5
        size = geometry.height // self.stride, geometry.width // self.stride
        maps = draw_heatmaps(points, *size, self.sigma, np.float16)
        maps[~known] = 0
        return maps, known[:, None, None]

    def _cells(self, picture: np.ndarray) -> list[np.ndarray]:
        """The pixels of (H, W) that each pixel of the maps covers: stride² views (h, w)."""
        starts = range(self.stride)
        return [picture[down :: self.stride, right :: self.stride] for down in starts for right in starts]


def inside(points: np.ndarray, box: Box) -> np.ndarray:
    """(n,) bool: which of (n, 2) points lie on a pixel of the box."""
    start = np.array([box.left, box.top]) - 0.5
    return np.all((points >= start) & (points < start + np.array([box.width, box.height])), axis=1)
