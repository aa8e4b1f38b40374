"""Losses over the cosines of all pairs of a batch: circle, multi-similarity, supervised contrastive.

An image's positives are the other images of its identity, its negatives those of everyone else. Features need not have
length 1. On several processes they want ``gather: true``, as the triplet does: all pairs are then those of all ranks.

Shapes: B images, D feature length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ConfigError
from regard.registry import LOSSES

__all__ = ["CircleLoss", "MultiSimilarity", "SupervisedContrastive"]

NOWHERE = -1e9
"""Exponent of a pair that does not count; finite, so that a sum over no pair at all has a gradient, of 0."""


@LOSSES.register("circle")
class CircleLoss(nn.Module):
    """Pull each cosine towards its optimum, the harder the farther it is from it.

    Y. Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, arXiv 2002.10857:
    equation 6 with the weights of equation 5 and the optima and margins of section 3.2, of each image against its
    positives and negatives; the mean over the images that have both. Its form for classes is ``circle_softmax``.

    Args:
        margin: m; the least cosine of positives is to be 1 - m, the largest of negatives m.
        gamma: scale of the cosines; the paper's for re-identification. Gradients grow with it: a weight of about 1/64
            makes the loss as strong as a triplet.

    Raises:
        ConfigError: an option out of range.
    """

    def __init__(self, margin: float = 0.25, gamma: float = 128.0):
        super().__init__()
        check_positive(margin=margin, gamma=gamma)
        self.margin, self.gamma = margin, gamma

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Loss of the (B, D) features with (B,) labels."""
        cosines, positive, negative = pairs(features, pids)
        pull, push = circle_exponents(cosines, self.margin, self.gamma)
        loss = F.softplus(log_sum(pull, positive) + log_sum(push, negative))
        return mean_of(loss, positive.any(1) & negative.any(1))


@LOSSES.register("multi_similarity")
class MultiSimilarity(nn.Module):
    """Choose the pairs that are hard beside others of the same image, and weigh them by how hard they are.

    X. Wang et al., "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning", CVPR 2019, arXiv
    1904.06627: equation 15 over the pairs that section 4.1 keeps, the mean over all images. An image of which no
    positive or no negative is kept has 0 in its place.

    Args:
        alpha, beta: how much the hardest positives and negatives count before the others.
        base: lambda, the cosine that both are measured from; the authors' code has 0.5.
        epsilon: a negative is kept if its cosine is above the least positive's less this, a positive if its own is
            below the largest negative's plus this.

    Raises:
        ConfigError: an option out of range.
    """

    def __init__(self, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, epsilon: float = 0.1):
        super().__init__()
        check_positive(alpha=alpha, beta=beta)
        self.alpha, self.beta, self.base, self.epsilon = alpha, beta, base, epsilon

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Mean loss of the (B, D) features with (B,) labels."""
        cosines, positive, negative = pairs(features, pids)
        known = cosines.detach()
        least = known.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        largest = known.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        kept = positive & (known - self.epsilon < largest), negative & (known + self.epsilon > least)
        pull = F.softplus(log_sum(-self.alpha * (cosines - self.base), kept[0])) / self.alpha
        push = F.softplus(log_sum(self.beta * (cosines - self.base), kept[1])) / self.beta
        return (pull + push).mean()


@LOSSES.register("supcon")
class SupervisedContrastive(nn.Module):
    """Raise the probability of an image's positives among all others of the batch.

    P. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, arXiv 2004.11362: equation 2, the sum over
    positives outside of the logarithm; the mean over the images that have positives.

    Args:
        temperature: tau, what cosines are divided by.

    Raises:
        ConfigError: it is not above 0.
    """

    def __init__(self, temperature: float = 0.1):
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Mean loss of the (B, D) features with (B,) labels."""
        cosines, positive, negative = pairs(features, pids)
        scores = (cosines / self.temperature).masked_fill(~(positive | negative), NOWHERE)
        log_share = scores - scores.logsumexp(1, keepdim=True)
        loss = -log_share.masked_fill(~positive, 0).sum(1) / positive.sum(1).clamp(min=1)
        return mean_of(loss, positive.any(1))


def pairs(features: Tensor, pids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, D) features and (B,) labels -> (B, B) cosines, which of them are of positives, and which of negatives."""
    unit = F.normalize(features)
    same = pids[:, None] == pids
    return unit @ unit.T, same & ~torch.eye(len(pids), dtype=torch.bool, device=pids.device), ~same


def circle_exponents(cosines: Tensor, margin: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Exponents of circle loss if a cosine is of the same identity, and if it is of another.

    -gamma * alpha_p * (s - 1 + m) and gamma * alpha_n * (s - m), where alpha_p = max(0, 1 + m - s) and alpha_n =
    max(0, s + m) are weights that no gradient passes.
    """
    known = cosines.detach()
    pull = -gamma * (1 + margin - known).clamp(min=0) * (cosines - 1 + margin)
    push = gamma * (known + margin).clamp(min=0) * (cosines - margin)
    return pull, push


def log_sum(exponents: Tensor, counted: Tensor) -> Tensor:
    """(B, B) exponents, and which of them count -> (B,) logarithm of the sum of their powers of e."""
    return exponents.masked_fill(~counted, NOWHERE).logsumexp(1)


def mean_of(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of those of (B,) values that count; 0 where none does."""
    return values.masked_fill(~counted, 0).sum() / counted.sum().clamp(min=1)


def check_positive(**options: float) -> None:
    """Check that options are above 0; raises ConfigError for one that is not."""
    for name, value in options.items():
        if not value > 0:
            raise ConfigError(f"{name} is {value}, wanted a number above 0")
