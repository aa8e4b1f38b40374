"""Squeeze-and-excitation as a gate.

Shapes: B images, C channels, H x W positions.

J. Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507, equations 2 and 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.layers.pooling import global_average

__all__ = ["SqueezeExcitation"]


class SqueezeExcitation(nn.Module):
    """How much of each channel to keep, seen from the whole map: sigmoid(W2 · ReLU(W1 · mean(x))), without biases.

    Args:
        channels: C.
        hidden: width of the bottleneck between W1 and W2.
    """

    def __init__(self, channels: int, hidden: int = 8):
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, 1, 1)."""
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(global_average(x)))))
        return gate[:, :, None, None]
