"""Batch-hard triplet loss (Hermans, Beyer, Leibe: In Defense of the Triplet Loss, 2017, arXiv 1703.07737)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from regard.losses.functional import hardest_pairs, pairwise_euclidean
from regard.registry import LOSSES

__all__ = ["BatchHardTriplet"]


@LOSSES.register("triplet")
class BatchHardTriplet(nn.Module):
    """Pull each anchor's farthest positive closer than its nearest negative.

    Args:
        margin: hinge max(0, d_ap - d_an + margin); None is the soft margin log(1 + exp(d_ap - d_an)).
        normalize: L2-normalize the features first.
    """

    def __init__(self, margin: float | None = 0.3, normalize: bool = False):
        super().__init__()
        self.margin = margin
        self.normalize = normalize

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Mean loss over the (B, D) features with (B,) labels."""
        if self.normalize:
            features = F.normalize(features)
        positive, negative = hardest_pairs(pairwise_euclidean(features, features), pids, pids)
        if self.margin is None:
            return F.softplus(positive - negative).mean()
        return F.relu(positive - negative + self.margin).mean()
