"""Swin transformers as stages: their maps are (B, h, w, C) inside and (B, C, h, w) between the stages.

Shapes: B images, C channels, h x w positions, W windows of n positions.

Z. Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021, arXiv:2103.14030,
and its second version, CVPR 2022, arXiv:2111.09883. Pictures of any size are taken: windows keep the size that the
network was built with, and maps are padded to whole ones, as the authors do for detection. The norm before the pooling
is part of the last stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from timm.models.swin_transformer import window_partition
from torch import Tensor, nn
from torch.nn import functional as F

from regard.models.checked import TokenAttention

__all__ = ["DenseMerging", "Stage", "cut", "keep_resolution", "whole"]


class Stage(nn.Module):
    """A stage of windows, or the stem.

    Args:
        layer: (B, h, w, C) -> the same; takes (B, 3, H, W) where it is the stem.
        norm: of the map, after it.
        stem: whether it is the stem.
    """

    def __init__(self, layer: nn.Module, norm: nn.Module | None = None, *, stem: bool = False):
        super().__init__()
        self.layer = layer
        self.norm = norm or nn.Identity()
        self.stem = stem

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        return self.norm(self.layer(x if self.stem else x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def in_blocks(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """A stage of each block alone, the first with what halves the map, and what closes the last."""
        first, *more = self.layer.get_submodule("blocks").children()
        entry = nn.Sequential(self.layer.get_submodule("downsample"), first)
        return [Stage(entry), *map(Stage, more)], [Stage(nn.Identity(), self.norm)]

    @contextmanager
    def recording(self, keep: Callable[[TokenAttention], None]) -> Iterator[None]:
        """Give ``keep`` what every block attends to, in each pass while inside; not fused, the same to rounding."""
        blocks: list[Any] = [each for each in self.modules() if hasattr(each, "window_size") and hasattr(each, "attn")]
        handles, fused = [], [getattr(block.attn, "fused_attn", None) for block in blocks]
        grids: dict[nn.Module, tuple[int, int]] = {}

        def enter(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            grids[block] = (inputs[0].shape[1], inputs[0].shape[2])

        def leave(block: Any) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(_module: nn.Module, _inputs: Any, weights: Tensor) -> None:
                keep(TokenAttention(weights, _places(block, grids[block], weights.device), grids[block], 0))

            return hook

        try:
            for block in blocks:
                block.attn.fused_attn = False
                handles.append(block.register_forward_pre_hook(enter))
                handles.append(block.attn.attn_drop.register_forward_hook(leave(block)))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for block, before in zip(blocks, fused):
                block.attn.fused_attn = before


def _places(block: Any, grid: tuple[int, int], device: torch.device) -> Tensor:
    """Which position of the map each of a window is, (W, n), row by row; -1 for padding."""
    (height, width), (window_height, window_width) = grid, block.window_size
    places = torch.arange(height * width, device=device).view(1, height, width, 1)
    places = places.roll((-block.shift_size[0], -block.shift_size[1]), (1, 2))
    places = F.pad(places, (0, 0, 0, -width % window_width, 0, -height % window_height), value=-1)
    return window_partition(places, block.window_size).flatten(1)


class DenseMerging(nn.Module):
    """A patch merging at every position instead of every other one: the map keeps its size, the weights are the same.

    Args:
        merging: what makes one position of 2 x 2.
    """

    def __init__(self, merging: nn.Module):
        super().__init__()
        self.merging = merging

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C'); below the last row and right of the last column are zeros."""
        batch, height, width, channels = x.shape
        wide = F.pad(x, (0, 0, 0, 1, 0, 1))
        rows = torch.stack([wide[:, :-1], wide[:, 1:]], 2)
        both = torch.stack([rows[:, :, :, :-1], rows[:, :, :, 1:]], 4)
        return self.merging(both.reshape(batch, 2 * height, 2 * width, channels))


def whole(network: Any, images: Tensor) -> Tensor:
    """The last map as the network computes it, which takes pictures of any size from here on."""
    network.patch_embed.strict_img_size, network.patch_embed.dynamic_img_pad = False, True
    for block in (block for layer in network.layers for block in layer.get_submodule("blocks")):
        _open(block)
    return network.forward_intermediates(images, norm=True, intermediates_only=True)[-1]


def cut(network: Any) -> list[nn.Module]:
    """The patches and the stages."""
    *first, last = network.layers
    return [Stage(network.patch_embed, stem=True), *map(Stage, first), Stage(last, network.norm)]


def keep_resolution(stage: nn.Module) -> None:
    """Let the last stage not halve its map, as if the network had been built so, with the same weights."""
    layer: Any = stage.get_submodule("layer")
    layer.downsample = DenseMerging(layer.get_submodule("downsample"))
    for block in layer.get_submodule("blocks"):
        block.input_resolution = tuple(2 * side for side in block.input_resolution)
        block.shift_size = block._calc_window_shift(block.window_size, block.target_shift_size)[1]
        _open(block)


def _open(block: Any) -> None:
    """Let a block take maps of any size: what it masks is found for the map at hand."""
    block.dynamic_mask, block.attn_mask = True, None
    block.get_attn_mask = partial(_mask, tuple(block.window_size), tuple(block.shift_size))


def _mask(window: tuple[int, int], shift: tuple[int, int], x: Tensor) -> Tensor | None:
    """-100 between positions of a window that the shift has brought together from apart, else 0: (W, n, n).

    The same as timm's, as one constant of a graph instead of two dozen steps.

    Args:
        window, shift: rows and columns of a window, and by how many the map is shifted.
        x: (B, h, w, C) padded to whole windows.
    """
    return torch.from_numpy(_apart(window, shift, (x.shape[1], x.shape[2]))).to(x) if any(shift) else None


@lru_cache(maxsize=64)
def _apart(window: tuple[int, int], shift: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The mask of :func:`_mask`."""
    bands = [np.repeat((0, 1, 2), (side - own, own - by, by)) for side, own, by in zip(size, window, shift)]
    regions = bands[0][:, None] * 3 + bands[1]
    rows, columns = (side // own for side, own in zip(size, window))
    windows = regions.reshape(rows, window[0], columns, window[1]).transpose(0, 2, 1, 3).reshape(rows * columns, -1)
    return np.where(windows[:, None] != windows[:, :, None], np.float32(-100), np.float32(0))
