"""Batch-hard triplet loss (Hermans, Beyer, Leibe: In Defense of the Triplet Loss, 2017, arXiv 1703.07737)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ConfigError
from regard.losses.functional import hardest_pairs, pairwise_euclidean
from regard.registry import LOSSES

__all__ = ["BatchHardTriplet"]


@LOSSES.register("triplet")
class BatchHardTriplet(nn.Module):
    """Pull each anchor's farthest positive closer than its nearest negative.

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
        labels = pids if self.group is None else rows_of(pids, self.group)
        distances = pairwise_euclidean(features, features, self.under_root)
        positive, negative = hardest_pairs(distances, labels, labels)
        if self.margin is None:
            return F.softplus(positive - negative).mean()
        return F.relu(positive - negative + self.margin).mean()


def rows_of(pids: Tensor, group: int) -> Tensor:
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
