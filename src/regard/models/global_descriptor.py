"""The network most systems share: stages, attention after some of them, one global descriptor.

Shapes: B images in a batch, H x W pixels, D descriptor length, N identities.
"""

from __future__ import annotations

from torch import Tensor, nn

from regard.layers.bnneck import bnneck, identity_classifier
from regard.layers.pooling import global_average
from regard.layers.pyramid import AttentionPyramid
from regard.models.backbone import Backbone
from regard.models.contract import ReIDModel
from regard.structures import Output

__all__ = ["GlobalDescriptor", "tap"]


def tap(stage: int) -> str:
    """Name of the place after stage ``stage`` (0 is the stem), as the papers count: ``tap(0) == "tap1"``."""
    return f"tap{stage + 1}"


class GlobalDescriptor(ReIDModel):
    """Backbone, attention between its stages, global average pooling, BNNeck, classifier.

    The metric loss sees the pooled vector g, retrieval and the identity loss f = BNNeck(g).

    Args:
        num_ids: N.
        backbone: the stages.
        attention: pyramids by :func:`tap`; a tap without one passes its map on.
    """

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
