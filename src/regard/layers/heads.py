"""From maps to the vectors and scores that losses see: necks, stripes, reductions and classifiers.

Shapes: B images, C channels, H x W positions, P parts (horizontal stripes), D descriptor or reduced length,
N identities.

BNNeck: H. Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-identification", CVPR Workshops 2019,
arXiv:1903.07071, section 3.6: the triplet loss shapes the vector before a batch normalization, the identity loss and
retrieval use the vector after it. The normalization has no shift and the classifier no bias, so that the decision
planes pass through the origin, where cosine distance measures.

Stripes and their classifiers: Y. Sun et al., "Beyond Part Models: Person Retrieval with Refined Part Pooling", ECCV
2018, arXiv:1711.09349, section 3.1; the classifier of their mean, and the one half-way up the network, which tells
early stages what the last one is for (C.-Y. Lee et al., "Deeply-Supervised Nets", AISTATS 2015, arXiv:1409.5185), as
in H. Wang et al., arXiv:1811.12150.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ConfigError, check_choice
from regard.precision import at_least_float32

__all__ = [
    "STRIPES", "Descriptor", "GlobalPool", "PartHeads", "Pooling", "Reduction", "Sharing", "SupervisionHead", "bnneck",
    "compared", "described", "identity_classifier", "part_names", "regions", "stripe_averages", "stripe_rows",
    "without_shift",
]  # fmt: skip

Sharing = Literal["shared", "separate"]
Pooling = Literal["mean", "gem"]
Descriptor = Literal["own", "mean", "stripes", "both"]
"""What of its last map a system compares: its own way, or the same for all systems: the mean, the means of six stripes,
or both. Training is the same; only the embedding is another."""

STRIPES = 6
"""P of the descriptors that are the same for all systems, also the fewest rows their map may have."""

Norm = TypeVar("Norm", nn.BatchNorm1d, nn.BatchNorm2d)


def without_shift(norm: Norm) -> Norm:
    """Keep the bias of a new batch normalization at zero: it stays a parameter of the model, but is not trained."""
    norm.bias.requires_grad_(False)
    return norm


def bnneck(dim: int) -> nn.BatchNorm1d:
    """The neck for descriptors of length ``dim``: (B, D) -> (B, D), scale 1 (trained), shift 0 (frozen)."""
    return without_shift(nn.BatchNorm1d(dim))


def identity_classifier(dim: int, num_ids: int, *, bias: bool = False) -> nn.Linear:
    """Identity scores from a vector, (B, D) -> (B, N): weights drawn from N(0, 0.001²), any bias 0."""
    classifier = nn.Linear(dim, num_ids, bias=bias)
    nn.init.normal_(classifier.weight, std=0.001)
    if bias:
        nn.init.zeros_(classifier.bias)
    return classifier


class GlobalPool(nn.Module):
    """From a map to one vector: the mean over its positions, or the generalized mean.

    F. Radenović, G. Tolias, O. Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018, arXiv
    1711.02512, equation 3, with one exponent p for all channels, learned from 3: (mean of x^p)^(1/p), which is the mean
    at 1 and nears the maximum as p grows.

    What lies below 0 counts as 0: of a map that no activation has rectified (MobileNetV2, EfficientNet-Lite, ConvNeXt,
    transformers) half is lost to it.

    Args:
        kind: ``"mean"`` or ``"gem"``.

    Attributes:
        p: the exponent, (1,); None of the mean.
    """

    def __init__(self, kind: Pooling):
        super().__init__()
        check_choice("pooling", kind, Pooling)
        self.p = nn.Parameter(torch.full((1,), 3.0)) if kind == "gem" else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        if self.p is None:
            return x.mean((2, 3))
        x = at_least_float32(x).clamp(min=1e-6)
        most = x.detach().amax((2, 3), keepdim=True)  # out of the power, so that nothing is lost below the least float
        return (x / most).pow(self.p).mean((2, 3)).pow(1 / self.p) * most.flatten(1)


def stripe_averages(x: Tensor, count: int) -> Tensor:
    """Mean over each of P equally tall stripes: (B, C, H, W) -> (B, C, P).

    Stripes begin every floor(H / P) rows and are H - (P - 1) floor(H / P) rows tall, so that together they cover the
    map: side by side where P divides H, overlapping by the remainder where not (:func:`stripe_rows`).

    Args:
        x: the map.
        count: P.

    Raises:
        ConfigError: the map has fewer than P rows.
    """
    rows = x.shape[2]
    if rows < count:
        raise ConfigError(
            f"a map of {rows} rows cannot be cut into {count} stripes; give images at least {count / rows:g} times "
            f"as tall, or a backbone with a smaller last stride"
        )
    return F.avg_pool1d(x.mean(3), stripe_rows(rows, 0, count).stop, rows // count)


def stripe_rows(rows: int, number: int, count: int) -> slice:
    """The rows of one of P stripes.

    Args:
        rows: H.
        number: of the stripe, from 0 at the top.
        count: P.
    """
    stride = rows // count
    return slice(number * stride, number * stride + rows - (count - 1) * stride)


def described(x: Tensor, descriptor: Descriptor, stripes: int = STRIPES) -> Tensor:
    """The means of a map that a descriptor compares: (B, C, H, W) -> (B, C, V), V as :func:`regions` counts them.

    Raises:
        ConfigError: the map has fewer rows than there are stripes.
    """
    parts = [x.mean((2, 3))[:, :, None]] if descriptor != "stripes" else []
    parts += [stripe_averages(x, stripes)] if descriptor != "mean" else []
    return torch.cat(parts, 2)


def regions(descriptor: Descriptor, stripes: int = STRIPES) -> int:
    """V, the means that a descriptor compares."""
    return {"mean": 1, "stripes": stripes, "both": 1 + stripes}[descriptor]


def compared(means: Tensor) -> Tensor:
    """The embedding of means (B, C, V), each at length 1: (B, C * V), channel by channel."""
    return F.normalize(at_least_float32(means), dim=1).flatten(1)


def part_names(parts: int) -> list[str]:
    """Names of P parts from head to feet, ``"part0"`` and so on."""
    return [f"part{part}" for part in range(parts)]


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
            {name: identity_classifier(dim, num_ids, bias=True) for name in classified}
        )

    def forward(self, parts: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Reduced vectors (B, D) as ``"part0"`` and so on and ``"global"``, from parts (B, C, P), and scores (B, N) of
        those that have a classifier."""
        reduced = self._reduce(self.dropout(parts).transpose(1, 2))
        vectors = dict(zip(self.names, [*reduced.unbind(1), reduced.mean(1)]))
        return vectors, {name: classifier(vectors[name]) for name, classifier in (self.classifiers or {}).items()}

    def _reduce(self, parts: Tensor) -> Tensor:
        """(B, P, C) -> (B, P, D): as many reductions as there are, each on its share of the parts."""
        shares = parts.chunk(len(self.reductions), 1)
        rows = [reduce(share.flatten(0, 1)) for reduce, share in zip(self.reductions, shares)]
        return torch.cat([r.unflatten(0, share.shape[:2]) for r, share in zip(rows, shares)], 1)


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
        self.classifier = identity_classifier(dim, num_ids, bias=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced vector (B, D) and scores (B, N) of a map (B, C, H, W)."""
        vector = self.reduction(x.mean((2, 3)))
        return vector, self.classifier(vector)
