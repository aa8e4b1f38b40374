"""The attention of SA and DSP: where the channels are active, look; and which channels, by the energy each has.

Shapes: B images, C channels, H x W positions.

- :class:`SpatialAttention`, without parameters: H. Wang, Y. Fan, Z. Wang, L. Jiao, B. Schiele, "Parameter-Free Spatial
  Attention Network for Person Re-Identification", arXiv:1811.12150, 2018.
- :class:`ChannelGate`, where channels compete or cooperate: Z. Yang, L. Zhu, Y. Wu, Y. Yang, "Gated Channel
  Transformation for Visual Recognition", CVPR 2020, arXiv:1909.11519, in its form with the l2 norm.
- :class:`DeepSelfAttention`: that gate times its twin over positions, which comes as the authors of deeply supervised
  self-attention wrote it and as it has to be to see positions at all.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import check_choice
from regard.layers.gates import Control, GateStart, GateUse
from regard.precision import at_least_float32

__all__ = [
    "AttentionMode", "ChannelGate", "CodedPositionGate", "DeepSelfAttention", "PositionGate", "SpatialAttention",
    "SpatialMode",
]  # fmt: skip

AttentionMode = Literal["proper", "code", "released"]
SpatialMode = Literal["l1", "softmax"]

EPS = 1e-5
"""Under every square root."""


class SpatialAttention(nn.Module):
    """Weigh each position by its share of the map's activity.

    Args:
        mode: how activities become shares. ``"l1"`` (the authors' code): the mean over channels, divided by the sum of
            its absolute values over the map. ``"softmax"`` (the paper): the softmax over positions of the sum over
            channels.
        rescale: multiply the shares by H · W. They then average 1 and leave the size of the map alone, where shares
            that sum to 1 shrink its mean by that factor.
        start, control: of the weights, see :mod:`regard.layers.gates`. There are no logits, so that ``"zero_logits"``
            is as released; ``"constant"`` weighs all positions alike.
    """

    def __init__(
        self,
        mode: SpatialMode = "l1",
        *,
        rescale: bool = True,
        start: GateStart = "released",
        control: Control = "none",
    ):
        super().__init__()
        check_choice("mode", mode, SpatialMode)
        self.mode: SpatialMode = mode
        self.rescale = rescale
        self.use = GateUse(start, control, more=True)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighed map (B, C, H, W), and its weights (B, 1, H, W) as ``"spatial"``."""
        positions = x.shape[2] * x.shape[3]
        shares = self.use.gate(self.shares, x)
        if self.use.control == "constant":
            shares = (shares / positions).expand(-1, 1, *x.shape[2:])
        if self.rescale:
            shares = shares * positions
        return self.use.blend(x, x * shares.to(x.dtype)), {"spatial": shares}

    def shares(self, x: Tensor) -> Tensor:
        """Return weights (B, 1, H, W), at least float32, which sum to 1 where x is neither negative nor all zero."""
        activity = at_least_float32(x).sum(1, keepdim=True)
        flat = activity.flatten(2)
        shares = flat.softmax(2) if self.mode == "softmax" else F.normalize(flat / x.shape[1], p=1, dim=2)
        return shares.view_as(activity)


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


class CodedPositionGate(ChannelGate):
    """1 + tanh(γ ⊙ f / rms(f) + β) with f_c = α_c r at each position; the root mean square is over channels.

    As r is the same for all channels it cancels: the gate is a constant of each channel, whatever the picture.

    Args:
        channels: C.
    """

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
        start, control: of both gates, see :mod:`regard.layers.gates`; their logits start at zero in any case.
    """

    def __init__(
        self,
        channels: int,
        mode: AttentionMode = "proper",
        *,
        start: GateStart = "released",
        control: Control = "none",
    ):
        super().__init__()
        check_choice("mode", mode, AttentionMode)
        self.mode: AttentionMode = mode
        if mode != "released":
            self.channel = ChannelGate(channels)
            self.spatial = PositionGate() if mode == "proper" else CodedPositionGate(channels)
        if control == "constant":
            self.requires_grad_(False)
        self.use = GateUse(start, control, more=mode != "proper")

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The attended map (B, C, H, W), and the gates as ``"channel"`` and ``"spatial"`` where there are any."""
        if self.mode == "released":
            return self.use.blend(x, 2 * x), {}
        gates = {name: self.use.gate(gate, x) for name, gate in (("channel", self.channel), ("spatial", self.spatial))}
        gated = x * gates["channel"].to(x.dtype) * gates["spatial"].to(x.dtype)
        return (gated if self.mode == "proper" else self.use.blend(gated, gated + x)), gates
