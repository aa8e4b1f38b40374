"""From a feature map to one vector.

Shapes: B images, C channels, H x W positions.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["global_average"]


def global_average(x: Tensor) -> Tensor:
    """Mean over all positions: (B, C, H, W) -> (B, C)."""
    return x.mean((2, 3))
