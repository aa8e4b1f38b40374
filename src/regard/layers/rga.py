"""Relation-aware global attention over positions, over channels, or over one after the other, as a gate.

Shapes: B images, C channels, H x W positions in s strips of n each; c = C / 8 channels and m = n / 8 features after the
embeddings.

Z. Zhang, C. Lan, W. Zeng, X. Jin, Z. Chen, "Relation-Aware Global Attention for Person Re-identification", CVPR 2020,
arXiv:1904.02998, section 3.2 (RGA-S, equations 1 and 2) and 3.3 (RGA-C, the same with channels for positions), on the
whole map or, as the finer levels of a pyramid, on horizontal strips.

**The relations need not be computed.** The paper embeds every position i twice, as θ_i and φ_i, stacks its relations to
all others, [θ_i·φ_1 … θ_i·φ_n, θ_1·φ_i … θ_n·φ_i], and compresses the 2n numbers by a matrix [W₁ W₂] of m rows. No
nonlinearity lies between, so the product can be taken the other way round:

    Σ_j W₁[k, j] (θ_i · φ_j) + Σ_j W₂[k, j] (θ_j · φ_i)  =  θ_i · (Φ W₁ᵀ)_k + φ_i · (Θ W₂ᵀ)_k

4·n·c·m products instead of n²·c + 2·n²·m, and B·n·m numbers instead of 2·B·n². After the first stage of a ResNet-50 at
384 x 192 (n = 4608) that is 0.34 instead of 25.1 GMACs, and 11 instead of 255 MB per image.

**Never blind.** The published width of the layer before the gate, ⌊(1 + m) / 8⌋, is 0 for fewer than 56 positions, and
the gate then the same for all of them. Here the width is at least 1. Of the published networks this concerns level 3 at
256 x 128, whose quarters of the last two maps have 32 positions: 8 parameters more in either.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ConfigError

__all__ = ["ChannelRelationAttention", "RelationAttention", "RelationPair"]

RATIO = 8
"""How much narrower every embedding is than what it embeds (section 4.1)."""


class RelationAttention(nn.Module):
    """How much of each position to keep, seen from its likeness to all positions of its strip (RGA-S).

    The strips share all weights; as those depend on n, maps of one size only can be attended.

    Args:
        channels: C.
        height, width: H and W.
        parts: s; must divide H.

    Attributes:
        folded: whether the products are taken in the cheap order; unset, the relations are stacked as published.

    Raises:
        ConfigError: ``parts`` does not divide ``height``.
    """

    at_zero = 0.5

    def __init__(self, channels: int, height: int, width: int, parts: int = 1):
        super().__init__()
        positions = _positions_of_strip(height, width, parts)
        embedded, compressed = max(channels // RATIO, 1), max(positions // RATIO, 1)
        hidden = max((1 + compressed) // RATIO, 1)
        self.parts = parts
        self.folded = True
        self.embed = nn.Sequential(*_convolution(channels, 3 * embedded))
        self.compress = nn.Linear(2 * positions, compressed, bias=False)
        self.normalize = nn.BatchNorm2d(compressed)
        self.attend = nn.Sequential(
            *_convolution(1 + compressed, hidden),
            nn.Conv2d(hidden, 1, kernel_size=1, bias=False),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )

    def zero_logits(self) -> None:
        """Start the scale of the last normalization at zero; its shift is there already."""
        nn.init.zeros_(self.attend.get_parameter("4.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, 1, H, W)."""
        unary, theta, phi = self.embed(x).chunk(3, dim=1)
        relations = F.relu(self.normalize(self._compressed_relations(theta, phi)))
        return self.attend(torch.cat([unary.mean(1, keepdim=True), relations], dim=1))

    def _compressed_relations(self, theta: Tensor, phi: Tensor) -> Tensor:
        """Both (B, c, H, W) -> (B, m, H, W), the right-hand side of the equation above, or its left."""
        size = theta.shape[2:]
        theta, phi = self._strips(theta), self._strips(phi)
        if self.folded:
            to_others, from_others = self.compress.weight.chunk(2, dim=1)
            relations = F.linear(phi, to_others).mT @ theta + F.linear(theta, from_others).mT @ phi
        else:
            affinity = theta.mT @ phi
            relations = self.compress.weight @ torch.cat([affinity.mT, affinity], dim=2)
        return relations.transpose(1, 2).flatten(2).unflatten(2, size)

    def _strips(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, s, c, n); a strip's positions follow one another in raster order."""
        return x.flatten(2).unflatten(2, (self.parts, -1)).transpose(1, 2)


class ChannelRelationAttention(nn.Module):
    """How much of each channel to keep, seen from its likeness to all channels (RGA-C).

    The channels are to it what positions are to :class:`RelationAttention`, and what describes one are its values at
    the n positions of a strip. Each strip has gates of its own, by shared weights.

    Args:
        channels: C.
        height, width: H and W.
        parts: s; must divide H.

    Raises:
        ConfigError: ``parts`` does not divide ``height``.
    """

    at_zero = 0.5

    def __init__(self, channels: int, height: int, width: int, parts: int = 1):
        super().__init__()
        self.parts = parts
        self.relations = RelationAttention(_positions_of_strip(height, width, parts), channels, 1)

    def zero_logits(self) -> None:
        """As the relations do."""
        self.relations.zero_logits()

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, 1, 1), of several strips (B, C, H, 1)."""
        strips = x.unflatten(2, (self.parts, -1)).transpose(1, 2).flatten(3)
        gate = self.relations(strips.flatten(0, 1).mT.unsqueeze(3)).unflatten(0, (-1, self.parts)).flatten(2).mT
        rows = x.shape[2] // self.parts if self.parts > 1 else 1
        return gate.repeat_interleave(rows, dim=2).unsqueeze(3)


class RelationPair(nn.Module):
    """Positions first, then the channels of what that has left (RGA-SC).

    Args:
        channels: C.
        height, width: H and W.
        parts: s; must divide H.

    Raises:
        ConfigError: ``parts`` does not divide ``height``.
    """

    at_zero = 0.25

    def __init__(self, channels: int, height: int, width: int, parts: int = 1):
        super().__init__()
        self.spatial = RelationAttention(channels, height, width, parts)
        self.channel = ChannelRelationAttention(channels, height, width, parts)

    def zero_logits(self) -> None:
        """Both gates' logits."""
        self.spatial.zero_logits()
        self.channel.zero_logits()

    def forward(self, x: Tensor) -> Tensor:
        """Product of the two gates, in (0, 1): (B, C, H, W) -> (B, C, H, W)."""
        spatial = self.spatial(x)
        return spatial * self.channel(x * spatial)


def _positions_of_strip(height: int, width: int, parts: int) -> int:
    """n of each of s equal strips.

    Raises:
        ConfigError: they cannot be equal.
    """
    if height % parts:
        raise ConfigError(
            f"relation attention got a map of {height} rows for {parts} equal strips; choose a lower level or an "
            f"image height that leaves a multiple of {parts} rows after every stage"
        )
    return height // parts * width


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """One number per position and output from the position's channels."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
