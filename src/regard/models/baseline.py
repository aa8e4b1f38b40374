"""Bag of tricks: the strong baseline that everything else is measured against, and the network most systems share.

Shapes: B images in a batch, H x W pixels, D descriptor length, N identities.

H. Luo, Y. Gu, X. Liao, S. Lai, W. Jiang, "Bag of Tricks and A Strong Baseline for Deep Person Re-identification",
CVPR Workshops 2019, arXiv:1903.07071. The network is section 3.5 (last stride) and 3.6 and figure 5 (BNNeck): stages,
one global descriptor. :mod:`~regard.models.apnet` and :mod:`~regard.models.msea` put attention after some stages.

**Departures**

- The stem has no ReLU, as in the authors' code (a ResNet of theirs forgets it); ``stem_relu=True`` restores the
  textbook network.
- Any staged timm backbone, not ResNet-50 alone.
- The other tricks (warm-up, random erasing, label smoothing, center loss) are no part of the network; recipes set them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, check_choice
from regard.layers.heads import (
    Descriptor,
    GlobalPool,
    Pooling,
    bnneck,
    compared,
    described,
    identity_classifier,
    regions,
)
from regard.layers.pyramid import AttentionLevel, AttentionPyramid, EfficientSplitAttention, SplitAttention
from regard.layers.style import IBN
from regard.models.backbone import Backbone
from regard.models.contract import GATE, Attention, HeadLayer, ReIDModel, gate_attention
from regard.registry import MODELS
from regard.structures import Output

__all__ = ["Baseline", "GlobalDescriptor"]

COMPETING = "competing groups of channels"


class GlobalDescriptor(ReIDModel):
    """Backbone, attention between its stages, global pooling, BNNeck, classifier.

    The metric loss sees the pooled vector g, retrieval and the identity loss f = BNNeck(g).

    Args:
        num_ids: N.
        backbone: the stages.
        attention: pyramids by the names of taps; one without one passes its map on.
        descriptor: what is compared, ``"own"`` being f.
        head_dim: D, of a linear layer between g and f; None: there is none, and D is the last map's channels.
        pooling: how the last map becomes a vector.
        neck_relu: whether f is what is above zero after BNNeck.
    """

    training_parts: ClassVar[tuple[str, ...]] = ("classifier",)

    def __init__(
        self,
        num_ids: int,
        backbone: Backbone,
        attention: dict[str, AttentionPyramid],
        descriptor: Descriptor = "own",
        head_dim: int | None = None,
        *,
        pooling: Pooling = "mean",
        neck_relu: bool = False,
    ):
        width = backbone.channels[-1]
        check_choice("descriptor", descriptor, Descriptor)
        if head_dim is not None and head_dim < 1:
            raise ConfigError(f"head_dim is {head_dim}, wanted the length of the descriptor, 1 or more")
        dim = head_dim or width
        super().__init__(num_ids, dim if descriptor == "own" else width * regions(descriptor))
        self.compared: Descriptor = descriptor
        self.backbone = backbone
        self.attention = nn.ModuleDict(attention)
        self.pool = GlobalPool(pooling)
        self.head = nn.Linear(width, dim, bias=False) if head_dim else nn.Identity()
        self.neck = bnneck(dim)
        self.neck_relu = neck_relu
        self.classifier: nn.Linear | None = identity_classifier(dim, num_ids)

    def forward(self, images: Tensor) -> Output:
        """f, or the means that are compared, as embedding, g as ``features["global"]``, the gates as ``maps``.

        They are called ``"tap5.level1"`` and so on.
        """
        maps: dict[str, Tensor] = {}

        def attend(name: str, x: Tensor) -> Tensor:
            if name in self.attention:
                x, gates = self.attention[name](x)
                maps.update({f"{name}.{level}": gate for level, gate in gates.items()})
            return x

        x = self.backbone(images, attend)
        g = self.head(self.pool(x))
        f = torch.relu(self.neck(g)) if self.neck_relu else self.neck(g)
        logits = {} if self.classifier is None else {"global": self.classifier(f)}
        embedding = f if self.compared == "own" else compared(described(x, self.compared))
        return Output(embedding=embedding, features={"global": g}, logits=logits, maps=maps)

    def attention_on(self, images: Tensor) -> dict[str, Attention]:
        """The gates of every level at every tap."""
        meanings = {
            f"{name}.{level}": COMPETING
            for name, levels in self._levels().items()
            for level, gate in levels.items()
            if isinstance(gate.agent, SplitAttention | EfficientSplitAttention)
        }
        gates = self(images).maps
        return {name: gate_attention(gate, meanings.get(name, GATE)) for name, gate in gates.items()}

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """Every tap, before and after its attention."""
        return self.backbone.taps(self.attention)

    def heat_layers(self) -> dict[str, dict[str, nn.Module]]:
        """By tap the levels of its pyramid, after their normalization, in the order in which they act."""
        taps: dict[str, dict[str, nn.Module]] = {
            name: {f"P{level.removeprefix('level')}": gate for level, gate in levels.items()}
            for name, levels in self._levels().items()
        }
        return taps or super().heat_layers()

    def head_layers(self) -> dict[str, HeadLayer]:
        """The classifier, linear where a mean goes through no ReLU, on the last map or its pyramid's levels."""
        found = super().head_layers()["global"]
        levels = next(reversed(self.heat_layers().values())) if len(self.attention) else {}
        linear = self.classifier is not None and self.pool.p is None and not self.neck_relu
        return {"global": found._replace(linear=linear, levels=levels)}

    def _levels(self) -> dict[str, dict[str, AttentionLevel]]:
        """Tap -> the levels of its pyramid."""
        pyramids = self.attention.items()
        return {name: pyramid.in_order() for name, pyramid in pyramids if isinstance(pyramid, AttentionPyramid)}


@MODELS.register("baseline")
class Baseline(GlobalDescriptor):
    """Backbone, global pooling, BNNeck, classifier.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        same_padding: whether what halves the resolution pads as TensorFlow and MindSpore do, at the end.
        norm_eps: added to the variance in the backbone's batch normalizations; None leaves the network's own.
        descriptor: what is compared: ``"own"``, the vector after BNNeck; or of the last map the ``"mean"``, six
            ``"stripes"``, or ``"both"``.
        head_dim: length of a linear layer's vector before BNNeck, to have as many parameters as a system with
            attention (:func:`regard.models.cost.equal_option`); None: no such layer.
        pooling: how the last map becomes a vector: its ``"mean"`` or its generalized mean, ``"gem"``.
        neck_relu: whether what is below zero after BNNeck becomes zero, as OSNet's authors have it.

    Raises:
        ConfigError: an option out of range.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = False,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        same_padding: bool = False,
        norm_eps: float | None = None,
        descriptor: Descriptor = "own",
        head_dim: int | None = None,
        pooling: Pooling = "mean",
        neck_relu: bool = False,
    ):
        stages = Backbone(
            backbone,
            pretrained=pretrained,
            last_stride=last_stride,
            stem_relu=stem_relu,
            same_padding=same_padding,
            norm_eps=norm_eps,
            ibn=ibn,
            mixstyle=mixstyle,
            mixstyle_p=mixstyle_p,
            mixstyle_alpha=mixstyle_alpha,
        )
        super().__init__(num_ids, stages, {}, descriptor, head_dim, pooling=pooling, neck_relu=neck_relu)
