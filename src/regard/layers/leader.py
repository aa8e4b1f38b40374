"""Channel attention guided by a leader map.

Shapes: B images, C channels, G guidance channels, N = H · W positions, V values per channel.

X. Qian et al., "Leader-based Multi-Scale Attention Deep Architecture for Person Re-identification", TPAMI 2020, leader-
based attention learning layer. With L (G x N) the leader, W₁ and W₂ (C x G) two linear maps:

    A = softmax over each row of (W₁ L)(W₂ L)ᵀ      C x C: how much of every channel goes into a channel

A mixes channels, and everything that is done to positions commutes with it: attending the means of some regions gives
the means of the attended map. ``values`` may therefore be all N positions, as the paper writes it, or the few vectors
that a network goes on to use, which saves the whole second product.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from regard.widening import at_least_float32

__all__ = ["ChannelAttention", "Guide", "mix_channels"]

ROWS = 256
"""Rows of A that exist at a time: large enough for fast products, small enough to stay in a processor's cache."""


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
