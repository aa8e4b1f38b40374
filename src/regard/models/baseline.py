"""Bag of tricks: the strong baseline that everything else is measured against.

H. Luo, Y. Gu, X. Liao, S. Lai, W. Jiang, "Bag of Tricks and A Strong Baseline for Deep Person Re-identification",
CVPR Workshops 2019, arXiv:1903.07071. The network is section 3.5 (last stride) and 3.6 and figure 5 (BNNeck).

**Departures**

- The stem has no ReLU, as in the authors' code (a ResNet of theirs forgets it); ``stem_relu=True`` restores the
  textbook network.
- Any staged timm backbone, not ResNet-50 alone.
- The other tricks (warm-up, random erasing, label smoothing, center loss) are no part of the network; recipes set them.
"""

from __future__ import annotations

from pathlib import Path

from regard.models.backbone import Backbone
from regard.models.global_descriptor import GlobalDescriptor
from regard.registry import MODELS

__all__ = ["Baseline"]


@MODELS.register("baseline")
class Baseline(GlobalDescriptor):
    """Backbone, global average, BNNeck, classifier.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        same_padding: whether what halves the resolution pads as TensorFlow and MindSpore do, at the end.
        norm_eps: added to the variance in the backbone's batch normalizations; None leaves the network's own.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = False,
        same_padding: bool = False,
        norm_eps: float | None = None,
    ):
        stages = Backbone(
            backbone,
            pretrained=pretrained,
            last_stride=last_stride,
            stem_relu=stem_relu,
            same_padding=same_padding,
            norm_eps=norm_eps,
        )
        super().__init__(num_ids, stages, attention={})
