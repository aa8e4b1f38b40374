"""Deep self-attention: a gate over channels times a gate over positions.

Shapes: B images, C channels, H x W positions.

The channel gate is :class:`~regard.layers.channel_gate.ChannelGate`; its twin over positions comes as the authors of
deeply supervised self-attention wrote it and as it has to be to see positions at all.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from regard.errors import check_choice
from regard.layers.channel_gate import EPS, ChannelGate
from regard.widening import at_least_float32

__all__ = ["AttentionMode", "CodedPositionGate", "DeepSelfAttention", "PositionGate"]

AttentionMode = Literal["proper", "code", "released"]


def _strength(x: Tensor) -> Tensor:
    """Length of the vector at each position, at least float32: (B, C, H, W) -> (B, 1, H, W)."""
    return (at_least_float32(x).square().sum(1, keepdim=True) + EPS).sqrt()


class PositionGate(nn.Module):
    """1 + tanh(α μ r / rms(r) + Ω) with the strengths r = ‖x‖ at each position; the root mean square is over positions.

    Starts at 1 everywhere (α = 1, μ = Ω = 0).
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))
        self.mu = nn.Parameter(torch.zeros(1))
        self.omega = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 2), at least float32: (B, C, H, W) -> (B, 1, H, W)."""
        strength = _strength(x)
        relative = strength * (strength.square().mean((2, 3), keepdim=True) + EPS).rsqrt()
        return 1 + torch.tanh(self.alpha * self.mu * relative + self.omega)


class CodedPositionGate(nn.Module):
    """1 + tanh(γ ⊙ f / rms(f) + β) with f_c = α_c r at each position; the root mean square is over channels.

    As r is the same for all channels it cancels: the gate is a constant of each channel, whatever the picture.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 2), at least float32: (B, C, H, W) -> (B, C, H, W)."""
        strength = _strength(x)
        relative = strength * (strength.square() * self.alpha.square().mean() + EPS).rsqrt()
        return 1 + torch.tanh((self.alpha * self.gamma)[:, None, None] * relative + self.beta[:, None, None])


class DeepSelfAttention(nn.Module):
    """One attention block.

    Args:
        channels: C.
        mode: ``"proper"``: x ⊙ channel gate ⊙ position gate, at first x itself. ``"code"``: the formula of the
            authors' code with its vectors made parameters, x ⊙ channel gate ⊙ coded position gate + x, at first 2x.
            ``"released"``: what that code computes when it runs, where the vectors never change: 2x.
    """

    def __init__(self, channels: int, mode: AttentionMode = "proper"):
        super().__init__()
        check_choice("mode", mode, AttentionMode)
        self.mode: AttentionMode = mode
        if mode != "released":
            self.channel = ChannelGate(channels)
            self.spatial = PositionGate() if mode == "proper" else CodedPositionGate(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The attended map (B, C, H, W), and the gates as ``"channel"`` and ``"spatial"`` where there are any."""
        if self.mode == "released":
            return 2 * x, {}
        gates = {"channel": self.channel(x), "spatial": self.spatial(x)}
        gated = x * gates["channel"].to(x.dtype) * gates["spatial"].to(x.dtype)
        return (gated if self.mode == "proper" else gated + x), gates
