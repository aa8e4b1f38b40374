"""Efficient channel attention as a gate, on the whole map or on horizontal strips of it.

Shapes: B images, C channels, H x W positions, s strips, k taps of the convolution.

Q. Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020,
arXiv:1910.03151, equations 7 (the gate) and 12 (the kernel).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from regard.layers.strips import spread, strip_means

__all__ = ["EfficientChannelAttention", "adaptive_kernel", "channel_convolution"]


def adaptive_kernel(channels: int) -> int:
    """k for C channels: (log2 C + 1) / 2 without its fraction, made odd, at least 3; 3, 5, 5, 5, 7 for C = 64 … 2048.

    Equation 12 with γ = 2 and b = 1.
    """
    size = int((math.log2(channels) + 1) / 2)
    return max(size if size % 2 else size + 1, 3)


def channel_convolution(outputs: int, kernel: int) -> nn.Conv1d:
    """A convolution along the channel axis, (·, 1, C) -> (·, outputs, C); ``kernel`` is odd. No bias."""
    return nn.Conv1d(1, outputs, kernel, padding=kernel // 2, bias=False)


class EfficientChannelAttention(nn.Module):
    """How much of each channel to keep, seen from its neighbors: sigmoid(conv_k(mean(x))).

    Args:
        kernel: k, odd.
        parts: s; each strip has a gate of its own, from its own mean. The k weights are shared.
    """

    def __init__(self, kernel: int, parts: int = 1):
        super().__init__()
        self.parts = parts
        self.conv = channel_convolution(1, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, H, 1), or (B, C, 1, 1) where one strip is all."""
        means = strip_means(x, self.parts)
        strips = means.transpose(1, 2)
        mixed = self.conv(strips.flatten(0, 1)[:, None]).view_as(strips)
        return spread(torch.sigmoid(mixed).transpose(1, 2), height=x.shape[2])
