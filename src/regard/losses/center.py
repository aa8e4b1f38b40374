"""Center loss (Wen, Zhang, Li, Qiao: A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016),
as the bag-of-tricks baseline uses it (Luo et al., CVPR workshops 2019, arXiv 1903.07071).

Shapes: B images, N identities, D feature length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.registry import LOSSES

__all__ = ["CenterLoss"]


@LOSSES.register("center")
class CenterLoss(nn.Module):
    """Pull each feature to its identity's center, a point that is learned beside the network.

    The centers start at random, from N(0, 1), and follow by stochastic gradient descent with a rate of their own, which
    neither the schedule nor the term's weight touches. They belong to training alone: a saved model holds none.

    Departures: the published code also adds 1e-12 for every other identity, which is left out.

    Args:
        num_ids: N; the engine knows it.
        embed_dim: D; the engine knows it.
        lr: rate of the centers. At 0.5 a center moves by the mean over the batch of its images' distances to it.

    Attributes:
        centers: (N, D).

    Raises:
        ConfigError: the rate is not above 0.
    """

    def __init__(self, num_ids: int, embed_dim: int, lr: float = 0.5):
        super().__init__()
        if not lr > 0:
            raise ConfigError(f"the centers' lr is {lr}, wanted a number above 0; the published one is 0.5")
        self.lr = lr
        self.centers = nn.Parameter(torch.randn(num_ids, embed_dim))

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Mean squared Euclidean distance of the (B, D) features to the centers of their (B,) labels."""
        return (features - self.centers[pids]).square().sum(1).mean()
