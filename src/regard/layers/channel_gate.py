"""Gated channel transformation: channels compete or cooperate, by the energy each has.

Shapes: B images, C channels, H x W positions.

Z. Yang, L. Zhu, Y. Wu, Y. Yang, "Gated Channel Transformation for Visual Recognition", CVPR 2020, arXiv:1909.11519,
in its form with the l2 norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regard.widening import at_least_float32

__all__ = ["EPS", "ChannelGate"]

EPS = 1e-5
"""Under every square root."""


class ChannelGate(nn.Module):
    """1 + tanh(γ ⊙ e / rms(e) + β) with the energies e_c = α_c ‖x_c‖; the root mean square is over channels.

    Starts at 1 everywhere (α = 1, γ = β = 0).

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 2), at least float32: (B, C, H, W) -> (B, C, 1, 1)."""
        energy = self.alpha * (at_least_float32(x).square().sum((2, 3)) + EPS).sqrt()
        scale = self.gamma * (energy.square().mean(1, keepdim=True) + EPS).rsqrt()
        return (1 + torch.tanh(energy * scale + self.beta))[:, :, None, None]
