"""The arithmetic of metric losses: tensors in, tensors out.

Shapes: B anchors, M candidates (the batch itself, or the gathered batches of all ranks), D feature length.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hardest_pairs", "pairwise_euclidean"]


def pairwise_euclidean(a: Tensor, b: Tensor, under_root: float = 0.0) -> Tensor:
    """Euclidean distance of every row of ``a`` to every row of ``b``.

    The square root is taken of at least 1e-12, so that the gradient at coinciding points is finite. The product is
    taken in float64 where the device has it: in float32 two equal rows come out about 1e-3 apart.

    Args:
        a: (B, D) features.
        b: (M, D) features.
        under_root: what is added to the squares of the distances first.

    Returns:
        (B, M) distances, in the type of ``a``.
    """
    kind = a.dtype
    if a.device.type != "mps":
        a, b = a.double(), b.double()
    squared = a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T
    return (squared + under_root).clamp(min=1e-12).sqrt().to(kind)


def hardest_pairs(distances: Tensor, anchor_pids: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each anchor to its farthest positive and to its nearest negative.

    The anchor counts among its own positives, as in the published strong baselines: an identity with a single image
    has a hardest positive distance of about zero. An anchor without any negative gets +inf.

    Args:
        distances: (B, M).
        anchor_pids: (B,) labels of the rows.
        pids: (M,) labels of the columns.

    Returns:
        Two (B,) tensors: hardest positive, hardest negative.
    """
    same = anchor_pids[:, None] == pids
    positive = distances.masked_fill(~same, -torch.inf).amax(1)
    negative = distances.masked_fill(same, torch.inf).amin(1)
    return positive, negative
