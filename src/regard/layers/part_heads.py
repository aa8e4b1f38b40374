"""Classifiers over part vectors: one for each part, one for their mean, or both.

Shapes: B images, C channels, P parts, D reduced length, N identities.

Y. Sun et al., "Beyond Part Models", ECCV 2018, arXiv:1711.09349, section 3.1, and the global classifier of H. Wang et
al., arXiv:1811.12150.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from regard.errors import check_choice

__all__ = ["PartHeads", "Reduction", "Sharing", "biased_classifier", "part_names"]

Sharing = Literal["shared", "separate"]


def part_names(parts: int) -> list[str]:
    """Names of P parts from head to feet, ``"part0"`` and so on."""
    return [f"part{part}" for part in range(parts)]


def biased_classifier(dim: int, num_ids: int) -> nn.Linear:
    """Identity scores from a vector, (B, D) -> (B, N): weights drawn from N(0, 0.001²), bias 0."""
    classifier = nn.Linear(dim, num_ids)
    nn.init.normal_(classifier.weight, std=0.001)
    nn.init.zeros_(classifier.bias)
    return classifier


class Reduction(nn.Module):
    """Shorter vectors: ReLU(BN(W x)), the rows of a batch being what a 1 x 1 convolution has as positions.

    Args:
        channels: C.
        dim: D.
    """

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.linear = nn.Linear(channels, dim, bias=False)
        self.norm = nn.BatchNorm1d(dim)
        self.relu = nn.ReLU()
        nn.init.kaiming_normal_(self.linear.weight, mode="fan_out")

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, C) -> (B, D)."""
        return self.relu(self.norm(self.linear(vectors)))


class PartHeads(nn.Module):
    """Dropout, reduction, classifiers.

    Args:
        channels: C.
        parts: P.
        dim: D.
        num_ids: N.
        dropout: share of the numbers of a part vector that training sets to zero.
        sharing: ``"shared"``: one reduction for all parts, whose normalization sees them together. ``"separate"``: one
            for each part.
        classified: which of ``"part0"`` and so on, and ``"global"``, the mean of them, has a classifier.
    """

    def __init__(
        self,
        channels: int,
        parts: int,
        dim: int,
        num_ids: int,
        dropout: float,
        *,
        sharing: Sharing,
        classified: Sequence[str],
    ):
        super().__init__()
        check_choice("sharing", sharing, Sharing)
        self.names = [*part_names(parts), "global"]
        self.dropout = nn.Dropout(dropout)
        reductions = 1 if sharing == "shared" else parts
        self.reductions = nn.ModuleList(Reduction(channels, dim) for _ in range(reductions))
        self.classifiers: nn.ModuleDict | None = nn.ModuleDict(
            {name: biased_classifier(dim, num_ids) for name in classified}
        )

    def forward(self, parts: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Reduced vectors (B, D) as ``"part0"`` and so on and ``"global"``, from parts (B, C, P), and scores (B, N) of
        those that have a classifier."""
        reduced = self._reduce(self.dropout(parts).transpose(1, 2))
        vectors = dict(zip(self.names, [*reduced.unbind(1), reduced.mean(1)]))
        classifiers = {} if self.classifiers is None else self.classifiers
        return vectors, {name: classifier(vectors[name]) for name, classifier in classifiers.items()}

    def _reduce(self, parts: Tensor) -> Tensor:
        """(B, P, C) -> (B, P, D): as many reductions as there are, each on its share of the parts."""
        shares = parts.chunk(len(self.reductions), 1)
        rows = [reduce(share.flatten(0, 1)) for reduce, share in zip(self.reductions, shares)]
        return torch.cat([r.unflatten(0, share.shape[:2]) for r, share in zip(rows, shares)], 1)
