"""The neck between the metric loss and the identity loss.

Shapes: B images, D descriptor length, N identities.

BNNeck (H. Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-identification", CVPR Workshops 2019,
arXiv:1903.07071, section 3.6): the triplet loss shapes the vector before a batch normalization, the identity loss and
retrieval use the vector after it. The normalization has no shift and the classifier no bias, so that the decision
planes pass through the origin, where cosine distance measures.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn

__all__ = ["bnneck", "identity_classifier", "without_shift"]

Norm = TypeVar("Norm", nn.BatchNorm1d, nn.BatchNorm2d)


def without_shift(norm: Norm) -> Norm:
    """Keep the bias of a new batch normalization at zero: it stays a parameter of the model, but is not trained."""
    norm.bias.requires_grad_(False)
    return norm


def bnneck(dim: int) -> nn.BatchNorm1d:
    """The neck for descriptors of length ``dim``: (B, D) -> (B, D), scale 1 (trained), shift 0 (frozen)."""
    return without_shift(nn.BatchNorm1d(dim))


def identity_classifier(dim: int, num_ids: int) -> nn.Linear:
    """Identity scores from a descriptor, (B, D) -> (B, N): no bias, weights drawn from N(0, 0.001²)."""
    classifier = nn.Linear(dim, num_ids, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier
