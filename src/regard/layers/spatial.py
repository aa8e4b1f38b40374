"""Spatial attention without parameters: where the channels are active, look.

Shapes: B images, C channels, H x W positions.

H. Wang, Y. Fan, Z. Wang, L. Jiao, B. Schiele, "Parameter-Free Spatial Attention Network for Person Re-Identification",
arXiv:1811.12150, 2018.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import check_choice
from regard.widening import at_least_float32

__all__ = ["SpatialAttention", "SpatialMode"]

SpatialMode = Literal["l1", "softmax"]


class SpatialAttention(nn.Module):
    """Weigh each position by its share of the map's activity.

    Args:
        mode: how activities become shares. ``"l1"`` (the authors' code): the mean over channels, divided by the sum of
            its absolute values over the map. ``"softmax"`` (the paper): the softmax over positions of the sum over
            channels.
        rescale: multiply the shares by H · W. They then average 1 and leave the size of the map alone, where shares
            that sum to 1 shrink its mean by that factor.
    """

    def __init__(self, mode: SpatialMode = "l1", *, rescale: bool = True):
        super().__init__()
        check_choice("mode", mode, SpatialMode)
        self.mode: SpatialMode = mode
        self.rescale = rescale

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighed map (B, C, H, W), and its weights (B, 1, H, W) as ``"spatial"``."""
        shares = self.shares(x)
        if self.rescale:
            shares = shares * (x.shape[2] * x.shape[3])
        return x * shares.to(x.dtype), {"spatial": shares}

    def shares(self, x: Tensor) -> Tensor:
        """Return weights (B, 1, H, W), at least float32, which sum to 1 where x is neither negative nor all zero."""
        activity = at_least_float32(x).sum(1, keepdim=True)
        flat = activity.flatten(2)
        if self.mode == "softmax":
            return flat.softmax(2).view_as(activity)
        return F.normalize(flat / x.shape[1], p=1, dim=2).view_as(activity)
