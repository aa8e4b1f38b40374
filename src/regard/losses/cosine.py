"""Cosine classifiers: ArcFace, CosFace, and circle loss in its form for classes.

An identity is a direction; its score is the cosine of a feature with it, made worse for the right identity by a margin
and multiplied by a scale. The directions are the loss's own parameters, learned by the run's optimizer with the network
and left behind by saved models, so every system can be trained by them, on any of its features or on its embedding::

    losses:
      id: {loss: cosface, on: embedding, scale: 30, margin: 0.35}

Shapes: B images, D feature length, N identities.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ConfigError
from regard.losses.pairs import check_positive, circle_exponents
from regard.registry import LOSSES

__all__ = ["ArcFace", "CircleSoftmax", "CosFace"]

LEAST = 1e-7
"""Least squared sine that a root is taken of, so that its gradient is finite where a feature has its own direction."""


class CosineClassifier(nn.Module):
    """Cross-entropy over scores made of cosines.

    Args:
        num_ids: N; the engine knows it.
        embed_dim: D; the engine knows it.
        smoothing: weight of the uniform distribution in the target.

    Attributes:
        classes: (N, D) the identities' directions, of any length; they start from N(0, 0.01²).
    """

    def __init__(self, num_ids: int, embed_dim: int, smoothing: float):
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ConfigError(f"smoothing is {smoothing}, wanted 0 or more and less than 1")
        self.smoothing = smoothing
        self.classes = nn.Parameter(0.01 * torch.randn(num_ids, embed_dim))

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Mean loss of the (B, D) features with (B,) labels."""
        cosines = F.normalize(features) @ F.normalize(self.classes).T
        right = F.one_hot(pids, len(self.classes)).bool()
        return F.cross_entropy(self.scores(cosines, right), pids, label_smoothing=self.smoothing)

    def scores(self, cosines: Tensor, right: Tensor) -> Tensor:
        """(B, N) scores of (B, N) cosines; ``right`` (B, N) says which is the image's own identity's."""
        raise NotImplementedError


@LOSSES.register("arcface")
class ArcFace(CosineClassifier):
    """A margin on the angle: scale * cos(theta + margin) for the right identity, scale * cos(theta) for the others.

    J. Deng, J. Guo, N. Xue, S. Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019,
    arXiv 1801.07698, equation 3.

    Departures: beyond theta = pi - margin, where the cosine would rise again, it is cos(theta) - margin * sin(margin),
    as in the authors' code; the paper is silent.

    Args:
        num_ids, embed_dim: N and D; the engine knows them.
        scale: s; the paper's, for tens of thousands of faces. About 30 suits a thousand identities.
        margin: m, in radians.
        smoothing: weight of the uniform distribution in the target; the paper has none.

    Raises:
        ConfigError: an option out of range.
    """

    def __init__(
        self, num_ids: int, embed_dim: int, scale: float = 64.0, margin: float = 0.5, smoothing: float = 0.0
    ):  # fmt: skip
        super().__init__(num_ids, embed_dim, smoothing)
        check_positive(scale=scale)
        if not 0 <= margin < math.pi / 2:
            raise ConfigError(f"margin is {margin}, wanted an angle in radians from 0 to less than pi / 2")
        self.scale, self.margin = scale, margin

    def scores(self, cosines: Tensor, right: Tensor) -> Tensor:
        """As the class says."""
        sines = (1 - cosines.square()).clamp(min=LEAST).sqrt()
        turned = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        turned = torch.where(cosines > -math.cos(self.margin), turned, cosines - self.margin * math.sin(self.margin))
        return self.scale * torch.where(right, turned, cosines)


@LOSSES.register("cosface")
class CosFace(CosineClassifier):
    """A margin on the cosine: scale * (cos(theta) - margin) for the right identity, scale * cos(theta) for the others.

    H. Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018, arXiv 1801.09414,
    equation 4.

    Args:
        num_ids, embed_dim: N and D; the engine knows them.
        scale: s; the paper's, for tens of thousands of faces. About 30 suits a thousand identities.
        margin: m.
        smoothing: weight of the uniform distribution in the target; the paper has none.

    Raises:
        ConfigError: an option out of range.
    """

    def __init__(
        self, num_ids: int, embed_dim: int, scale: float = 64.0, margin: float = 0.35, smoothing: float = 0.0
    ):  # fmt: skip
        super().__init__(num_ids, embed_dim, smoothing)
        check_positive(scale=scale)
        if not 0 <= margin < 1:
            raise ConfigError(f"margin is {margin}, wanted a cosine from 0 to less than 1")
        self.scale, self.margin = scale, margin

    def scores(self, cosines: Tensor, right: Tensor) -> Tensor:
        """As the class says."""
        return self.scale * (cosines - self.margin * right)


@LOSSES.register("circle_softmax")
class CircleSoftmax(CosineClassifier):
    """Circle loss of images and identities: each cosine is scaled by how far it is from its optimum.

    Y. Sun et al., CVPR 2020, arXiv 2002.10857, section 3.3: the right identity's cosine is the one positive, those of
    all others are negatives. Its form for pairs is ``circle``.

    Args:
        num_ids, embed_dim: N and D; the engine knows them.
        margin: m.
        gamma: scale of the cosines; the paper's.
        smoothing: weight of the uniform distribution in the target; the paper has none.

    Raises:
        ConfigError: an option out of range.
    """

    def __init__(
        self, num_ids: int, embed_dim: int, margin: float = 0.25, gamma: float = 256.0, smoothing: float = 0.0
    ):  # fmt: skip
        super().__init__(num_ids, embed_dim, smoothing)
        check_positive(margin=margin, gamma=gamma)
        self.margin, self.gamma = margin, gamma

    def scores(self, cosines: Tensor, right: Tensor) -> Tensor:
        """Log(1 + exp(a) exp(b)) is the cross-entropy of the scores -a and b."""
        pull, push = circle_exponents(cosines, self.margin, self.gamma)
        return torch.where(right, -pull, push)
