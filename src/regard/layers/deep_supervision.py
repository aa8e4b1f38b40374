"""A classifier half-way up the network, so that early stages are told what the last one is for.

Shapes: B images, C channels, H x W positions, D reduced length, N identities.

C.-Y. Lee et al., "Deeply-Supervised Nets", AISTATS 2015, arXiv:1409.5185; this head as in H. Wang et al.,
arXiv:1811.12150.
"""

from __future__ import annotations

from torch import Tensor, nn

from regard.layers.part_heads import biased_classifier
from regard.layers.pooling import global_average

__all__ = ["SupervisionHead"]


class SupervisionHead(nn.Module):
    """Global average, reduction, classifier; nothing between them, so that the scores are linear in the map.

    Args:
        channels: C.
        dim: D.
        num_ids: N.
    """

    def __init__(self, channels: int, dim: int, num_ids: int):
        super().__init__()
        self.reduction = nn.Linear(channels, dim, bias=False)
        self.classifier = biased_classifier(dim, num_ids)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced vector (B, D) and scores (B, N) of a map (B, C, H, W)."""
        vector = self.reduction(global_average(x))
        return vector, self.classifier(vector)
