"""What a branch of a network is to predict, and where that is known.

Shapes: B images in a batch, N maps, h x w pixels of the maps, g x v pixels of a stored heat map.

Drawn maps are large: 17 of them at 128 x 64 are half a megabyte. What a worker hands over is therefore not yet drawn:
:class:`Shares`, :class:`Points` or :class:`Maps`, a few kilobytes each. Moving one to a device with ``to(device)``,
as the engine does with every batch, draws it there and gives the :class:`Target`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from regard.data.labels.heatmaps import draw_heatmaps

__all__ = ["Maps", "Points", "Shares", "Target", "Undrawn", "stack_targets"]


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
