"""From what a data set knows of a picture to what a network is trained to predict.

Shapes: B images in a batch, H x W pixels of the network's input, h x w of the maps, N maps (1 for the mask, 17 for the
joints), g x v pixels of a stored heat map.

Drawn maps are large: 17 of them at 128 x 64 are half a megabyte. What a worker hands over is therefore not yet drawn:
:class:`Shares`, :class:`Points` or :class:`Maps`, a few kilobytes each. Moving one to a device with ``to(device)``,
as the engine does with every batch, draws it there and gives the :class:`Target`.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from regard.data.labels.joints import FLIPPED, JOINTS, draw_heatmaps, find_peaks, gaussian_size
from regard.data.labels.labeled import LabelKind, Labels, has_label, read_labels
from regard.data.transforms import Box, Geometry, TrainTransform, resize
from regard.errors import ConfigError, DataError
from regard.structures import Sample

__all__ = ["Maps", "Points", "Shares", "Target", "TrainingLabels", "Undrawn", "stack_targets"]

Erased = Literal["keep", "ignore"]
Peak = Literal["one", "score"]


class Target(NamedTuple):
    """An entry of ``Batch.extra`` on the device.

    Attributes:
        maps: (B, N, h, w) float32 from 0 to 1; 0 where nothing is known.
        valid: bool that broadcasts to the maps, where the label is known.
    """

    maps: Tensor
    valid: Tensor


class Shares(NamedTuple):
    """Masks, as counts of the person's pixels.

    Attributes:
        counts: (B, 1, h, w) uint8; 0 where nothing is known.
        most: (B, 1, 1, 1) uint8, the pixels that each pixel of the maps covers.
        valid: (B, 1, 1, 1) or (B, 1, h, w) bool.
    """

    counts: Any
    most: Any
    valid: Any

    def to(self, device: torch.device | str) -> Target:
        """The maps, made on the device."""
        counts, most, valid = moved(self, device)
        return Target(counts.float() / most, valid)


class Points(NamedTuple):
    """Joints of which positions are known.

    Attributes:
        points: (B, N, 2) float32 x and y in pixels of the maps.
        heights: (B, N) float32, of the Gaussians; 0 for joints of which nothing is known.
        frame: (B, 4) float32 the same for all: h, w, s_y, s_x.
        valid: (B, N, 1, 1) bool.
    """

    points: Any
    heights: Any
    frame: Any
    valid: Any

    def to(self, device: torch.device | str) -> Target:
        """The maps, drawn on the device."""
        height, width, down, across = self.frame[0].tolist()
        points, heights, valid = moved((self.points, self.heights, self.valid), device)
        return Target(draw_heatmaps(points, int(height), int(width), (down, across), heights), valid)


class Maps(NamedTuple):
    """Joints of which heat maps are stored.

    Attributes:
        levels: (B, N, g, v) uint8 from 0 to 255.
        rows: (B, h) float32, where each row of the maps lies among the g stored ones; -2 is nowhere.
        columns: (B, w) float32, the same for columns.
        valid: (B, N, 1, 1) bool.
    """

    levels: Any
    rows: Any
    columns: Any
    valid: Any

    def to(self, device: torch.device | str) -> Target:
        """The maps, interpolated on the device: linear down and across."""
        levels, rows, columns, valid = moved(self, device)
        down, across = hats(rows, levels.shape[2])[:, None], hats(columns, levels.shape[3])[:, None]
        maps = down @ (levels.float() / 255) @ across.transpose(2, 3)
        return Target(maps * valid, valid)


Undrawn: TypeAlias = Shares | Points | Maps
"""Labels as workers hand them over: arrays of one picture without the axis B, or tensors of a batch."""


def hats(positions: Tensor, length: int) -> Tensor:
    """(B, n, length) weights of linear interpolation at (B, n) positions among ``length`` values."""
    nodes = torch.arange(length, dtype=positions.dtype, device=positions.device)
    return (1 - (positions[..., None] - nodes).abs()).clamp(min=0)


def moved(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Tensors on the device, without waiting for the copies."""
    return [tensor.to(device, non_blocking=True) for tensor in tensors]


def stack_targets(pictures: Sequence[Mapping[str, Undrawn]]) -> dict[str, Undrawn | Target]:
    """Labels of a batch from those of its pictures."""
    return {name: stack([labels[name] for labels in pictures]) for name in (pictures[0] if pictures else ())}


def stack(labels: Sequence[Undrawn]) -> Undrawn | Target:
    """One label of a batch; labels of different kinds or sizes have to be drawn first."""
    shapes = {(type(label), *(part.shape for part in label)) for label in labels}
    if len(shapes) > 1:
        drawn = [type(label)(*(torch.from_numpy(part[None]) for part in label)).to("cpu") for label in labels]
        return Target(*(torch.cat(parts) for parts in zip(*drawn)))
    return type(labels[0])(*(torch.from_numpy(np.stack(parts)) for parts in zip(*labels)))


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
            :func:`~regard.data.labels.joints.gaussian_size`.
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
