"""Parallel streams of growing depth, cut from one stage of a network, and the leader that says what each attends to.

Shapes: B images, C channels, H x W or N = H · W positions, G guidance channels, V values per channel.

X. Qian et al., "Leader-based Multi-Scale Attention Deep Architecture for Person Re-identification", TPAMI 2020.

Multi-scale stream layer: stream i is a copy of the stage that ends after its i-th block, so that a wider surrounding is
seen from each stream to the next (3, 5, 7 positions with the 3 x 3 convolutions of a ResNet).

Leader-based attention learning layer: with L (G x N) the leader, W₁ and W₂ (C x G) two linear maps:

    A = softmax over each row of (W₁ L)(W₂ L)ᵀ      C x C: how much of every channel goes into a channel

A mixes channels, and everything that is done to positions commutes with it: attending the means of some regions gives
the means of the attended map. ``values`` may therefore be all N positions, as the paper writes it, or the few vectors
that a network goes on to use, which saves the whole second product.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from regard.layers.row import Row
from regard.precision import at_least_float32

__all__ = ["Bottleneck", "ChannelAttention", "Guide", "cut_streams", "mix_channels"]

ROWS = 256
"""Rows of A that exist at a time: large enough for fast products, small enough to stay in a processor's cache."""


class Bottleneck(nn.Module):
    """Residual 1 x 1, 3 x 3, 1 x 1 convolutions, the middle one a quarter as wide (K. He et al., CVPR 2016, figure 5).

    Args:
        channels: C of input and output.
    """

    def __init__(self, channels: int):
        super().__init__()
        width = max(channels // 4, 1)
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return torch.relu(x + self.residual(x))


def cut_streams(stage: nn.Module, channels: int, count: int) -> list[Row]:
    """Streams of 1, 2, … ``count`` blocks, each with its own copy of the stage's weights.

    The first block is what it takes to reach the stage's final width. Where the stage has too few blocks after it, its
    last one is repeated; where it has none, a fresh :class:`Bottleneck` follows.

    Args:
        stage: a stage of any network; it is left in training mode. One whose blocks are no plain row says in its
            ``in_blocks()`` what they are, and what closes each stream.
        channels: of the stage's input.
        count: number of streams.

    Returns:
        Maps (B, channels, H, W) -> (B, C, H', W'), all of the stage's width and resolution.
    """
    if of_its_own := getattr(stage, "in_blocks", None):
        own, closing = of_its_own()
        own += own[-1:] * (count - len(own))
        return [Row(*map(copy.deepcopy, [*own[:extra], *closing])) for extra in range(1, count + 1)]
    stage.eval()
    x = torch.linspace(-2, 2, channels * 16).view(1, channels, 4, 4)
    with torch.no_grad():
        blocks = _blocks(stage, x)
        widths = [x.shape[1] for x in _along(blocks, x)]
    stage.train()
    entry = next(i for i in range(len(blocks)) if set(widths[i:]) == {widths[-1]})
    first, more = blocks[: entry + 1], blocks[entry + 1 :]
    while len(more) < count - 1:
        more.append(more[-1] if more else Bottleneck(widths[-1]))
    return [Row(*map(copy.deepcopy, first + more[:extra])) for extra in range(count)]


def _blocks(stage: nn.Module, x: Tensor) -> list[nn.Module]:
    """The stage as a row of blocks, things with a convolution and an activation.

    What is less, as a patch merging, belongs to the block after it; at the end, as a closing norm, to the last.
    """
    blocks, waiting = [], []
    for unit in _units(stage, x):
        waiting.append(unit)
        if {"conv", "activation"} <= {_kind(module) for module in unit.modules()}:
            blocks.append(waiting)
            waiting = []
    if waiting:
        blocks[-1:] = [[*(blocks[-1] if blocks else ()), *waiting]]
    return [block[0] if len(block) == 1 else nn.Sequential(*block) for block in blocks]


def _kind(layer: nn.Module) -> str | None:
    """ "conv", or "activation": those of torch and of timm each have a module of that name to themselves."""
    if isinstance(layer, nn.Conv2d):
        return "conv"
    return "activation" if ".activation" in type(layer).__module__ else None


def _units(module: nn.Module, x: Tensor) -> Iterator[nn.Module]:
    """What the module runs one after the other: containers are opened, what holds a convolution itself is not.

    A container is whatever its children in a row give the same as.
    """
    children = list(module.children())
    if not children or any(_kind(child) == "conv" for child in children) or not _same(module, children, x):
        yield module
        return
    for child, given in zip(children, [x, *_along(children, x)]):
        yield from _units(child, given)


def _same(module: nn.Module, children: list[nn.Module], x: Tensor) -> bool:
    try:
        *_, last = _along(children, x)
        return torch.equal(last, module(x))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):  # no chain: shapes or arguments do not fit
        return False


def _along(modules: list[nn.Module], x: Tensor) -> Iterator[Tensor]:
    """The map after each module."""
    for module in modules:
        x = module(x)
        yield x


class Guide(nn.Module):
    """Compress a map, or several stacked ones, to the guidance width: ReLU(BN(W x)).

    Args:
        channels: C of the input.
        guidance: G.
    """

    def __init__(self, channels: int, guidance: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, guidance, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(guidance)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, G, H, W), not negative."""
        return torch.relu(self.norm(self.conv(x)))


class ChannelAttention(nn.Module):
    """Mix channels as the leader says.

    Args:
        channels: C.
        guidance: G.
    """

    def __init__(self, channels: int, guidance: int):
        super().__init__()
        self.rows = nn.Conv2d(guidance, channels, kernel_size=1, bias=False)
        self.columns = nn.Conv2d(guidance, channels, kernel_size=1, bias=False)

    def zero_logits(self) -> None:
        """Start W₁ at zero: A takes the mean over channels then, and gradients reach W₁."""
        nn.init.zeros_(self.rows.weight)

    def forward(self, leader: Tensor, values: Tensor) -> Tensor:
        """A · values: leader (B, G, H, W) and values (B, C, V) -> (B, C, V), at least float32."""
        return mix_channels(self.rows(leader).flatten(2), self.columns(leader).flatten(2), values)

    def matrix(self, leader: Tensor) -> Tensor:
        """A itself, for looking at: (B, G, H, W) -> (B, C, C) float32."""
        rows, columns = (conv(leader).flatten(2).float() for conv in (self.rows, self.columns))
        return (rows @ columns.mT).softmax(-1)


def mix_channels(rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """softmax(rows · columnsᵀ) · values, without ever holding the C x C matrix of logits.

    The logits are unscaled sums over all positions, too large for half precision, so products and softmax are computed
    in float32 under mixed precision as well.

    Args:
        rows, columns: (B, C, N).
        values: (B, C, V).

    Returns:
        (B, C, V) float32, or float64 where the arguments are.
    """
    device = rows.device.type
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        rows, columns, values = map(at_least_float32, (rows, columns, values))
        parts = [(part @ columns.mT).softmax(-1) @ values for part in rows.split(ROWS, dim=1)]
    return torch.cat(parts, dim=1)
