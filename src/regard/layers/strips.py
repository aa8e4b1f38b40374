"""Horizontal strips of a map, one below the other.

Shapes: B images, C channels, H x W positions, s strips.

Where s does not divide H, the first H mod s strips have one row more than the others; a map of fewer than s rows has
one strip per row.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["spread", "strip_means"]


def strip_means(x: Tensor, parts: int) -> Tensor:
    """Mean over the positions of each strip: (B, C, H, W) -> (B, C, s), with s = min(parts, H)."""
    rows = x.mean(3)
    if parts == 1:
        return rows.mean(2, keepdim=True)
    strips = rows.tensor_split(min(parts, x.shape[2]), dim=2)
    return torch.stack([strip.mean(2) for strip in strips], dim=2)


def spread(values: Tensor, height: int) -> Tensor:
    """Each strip's value on all of its rows: (B, C, s) -> (B, C, H, 1), or (B, C, 1, 1) where one strip is all."""
    parts = values.shape[2]
    if parts == 1:
        return values[..., None]
    rows = [height // parts + (number < height % parts) for number in range(parts)]
    strips = [value.expand(-1, -1, count) for value, count in zip(values.split(1, dim=2), rows)]
    return torch.cat(strips, dim=2)[..., None]
