"""Losses over the distances of features: batch-hard triplets, and centers; and the arithmetic of the first.

Shapes: B anchors or images, M candidates (the batch itself, or the gathered batches of all ranks), D feature length,
N identities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ConfigError
from regard.registry import LOSSES

__all__ = ["BatchHardTriplet", "CenterLoss", "hardest_pairs", "pairwise_euclidean"]


@LOSSES.register("triplet")
class BatchHardTriplet(nn.Module):
    """Pull each anchor's farthest positive closer than its nearest negative.

    Hermans, Beyer, Leibe: In Defense of the Triplet Loss, 2017, arXiv 1703.07737.

    Args:
        margin: hinge max(0, d_ap - d_an + margin); None is the soft margin log(1 + exp(d_ap - d_an)).
        normalize: L2-normalize the features first.
        under_root: what is added to squared distances before their root is taken (MuDeep's 1e-8); the root is of at
            least 1e-12 in any case.
        group: K, where positives are only the K pictures in a row that were drawn together: where a person comes twice
            in a batch, the other group is negative (MuDeep). None goes by identity.

    Raises:
        ConfigError: an option out of range, or, in training, pictures in a row that show several people.
    """

    def __init__(
        self,
        margin: float | None = 0.3,
        *,
        normalize: bool = False,
        under_root: float = 0.0,
        group: int | None = None,
    ):
        super().__init__()
        if under_root < 0:
            raise ConfigError(f"under_root is {under_root}, wanted 0 or more")
        if group is not None and group < 1:
            raise ConfigError(f"group is {group}, wanted how many pictures in a row show one person")
        self.margin = margin
        self.normalize = normalize
        self.under_root = under_root
        self.group = group

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Mean loss over the (B, D) features with (B,) labels."""
        if self.normalize:
            features = F.normalize(features)
        labels = pids if self.group is None else _rows_of(pids, self.group)
        distances = pairwise_euclidean(features, features, self.under_root)
        positive, negative = hardest_pairs(distances, labels, labels)
        if self.margin is None:
            return F.softplus(positive - negative).mean()
        return F.relu(positive - negative + self.margin).mean()


@LOSSES.register("center")
class CenterLoss(nn.Module):
    """Pull each feature to its identity's center, a point that is learned beside the network.

    Wen, Zhang, Li, Qiao: A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016, as the
    bag-of-tricks baseline uses it (Luo et al., CVPR workshops 2019, arXiv 1903.07071).

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


def _rows_of(pids: Tensor, group: int) -> Tensor:
    """Number the rows of ``group`` pictures that a batch consists of: (B,) identities -> (B,) numbers.

    Whether each row shows one person is not looked at: that would wait for the device in every step.

    Raises:
        ConfigError: the batch does not consist of such rows.
    """
    if len(pids) % group:
        raise ConfigError(
            f"group is {group}, but a batch of {len(pids)} pictures does not show its people in rows of {group}; "
            "set it to data.images_per_id, with data.sampler=pk"
        )
    return torch.arange(len(pids), device=pids.device) // group
