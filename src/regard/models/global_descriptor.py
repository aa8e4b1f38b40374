"""The network most systems share: stages, attention after some of them, one global descriptor.

Shapes: B images in a batch, H x W pixels, D descriptor length, N identities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from regard.layers.bnneck import bnneck, identity_classifier
from regard.layers.pooling import global_average
from regard.layers.pyramid import AttentionLevel, AttentionPyramid
from regard.layers.split_attention import EfficientSplitAttention, SplitAttention
from regard.models.backbone import Backbone, tap
from regard.models.contract import ReIDModel
from regard.models.looks import GATE, Attention, HeadLayer, gate_attention
from regard.structures import Output

__all__ = ["GlobalDescriptor"]

COMPETING = "competing groups of channels"


class GlobalDescriptor(ReIDModel):
    """Backbone, attention between its stages, global average pooling, BNNeck, classifier.

    The metric loss sees the pooled vector g, retrieval and the identity loss f = BNNeck(g).

    Args:
        num_ids: N.
        backbone: the stages.
        attention: pyramids by :func:`tap`; a tap without one passes its map on.
    """

    training_parts: ClassVar[tuple[str, ...]] = ("classifier",)

    def __init__(self, num_ids: int, backbone: Backbone, attention: dict[str, AttentionPyramid]):
        super().__init__(num_ids, embed_dim=backbone.channels[-1])
        self.backbone = backbone
        self.attention = nn.ModuleDict(attention)
        self.neck = bnneck(self.embed_dim)
        self.classifier: nn.Linear | None = identity_classifier(self.embed_dim, num_ids)

    def forward(self, images: Tensor) -> Output:
        """f as embedding, g as ``features["global"]``, the gates as ``maps["tap5.level1"]`` and so on."""
        x, maps = images, {}
        for number, stage in enumerate(self.backbone.stages):
            x, name = stage(x), tap(number)
            if name in self.attention:
                x, gates = self.attention[name](x)
                maps |= {f"{name}.{level}": gate for level, gate in gates.items()}
        g = global_average(x)
        f = self.neck(g)
        logits = {} if self.classifier is None else {"global": self.classifier(f)}
        return Output(embedding=f, features={"global": g}, logits=logits, maps=maps)

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
        """The classifier, linear in the last map; the levels of the last pyramid are on the way to it."""
        found = super().head_layers()["global"]
        levels = next(reversed(self.heat_layers().values())) if len(self.attention) else {}
        return {"global": found._replace(linear=self.classifier is not None, levels=levels)}

    def _levels(self) -> dict[str, dict[str, AttentionLevel]]:
        """Tap -> the levels of its pyramid."""
        pyramids = self.attention.items()
        return {name: pyramid.in_order() for name, pyramid in pyramids if isinstance(pyramid, AttentionPyramid)}
