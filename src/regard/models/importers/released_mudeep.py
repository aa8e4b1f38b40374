"""Checkpoints of the released MuDeep (github.com/naiq/MuDeep_v2, 2020 and 2021; the network never changed).

Shapes: N identities.

All are ResNet-50. A file does not tell the size of the images it was trained on, 384 x 192 or 384 x 128, and the two
are not interchangeable although every tensor fits: the attention's logits are sums over positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.translation import Translation, rename

__all__ = ["mudeep"]

RULES = {
    r"conv\.conv\.": "backbone.stages.0.conv1.",
    r"conv\.bn\.": "backbone.stages.0.bn1.",
    r"layer([123])\.": r"backbone.stages.\1.layer\1.",
    r"layer4_1\.(?=[a-z])": "streams.scale1.0.",
    r"layer4_(\d)\.(?=\d)": r"streams.scale\1.",
    r"conv_all\.conv1\.": "guide.leader.conv.",
    r"conv_all\.bn1\.": "guide.leader.norm.",
    r"atten(\d)\.feature1\.conv1\.": r"attention.scale\1.rows.",
    r"atten(\d)\.feature2\.conv1\.": r"attention.scale\1.columns.",
    r"gamma(\d)$": r"gamma.scale\1",
}
HEAD_RULES = {r"feature\.conv1": "head.{}.conv", r"feature\.bn": "head.{}.norm", r"classifier\.fc": "classifier.{}"}

NEEDED = {
    "layer4_1.conv1.weight": "the first stream",
    "conv_all.conv1.weight": "the leader",
    "scale1.feature.conv1.weight": "the first head",
    "scale1.classifier.fc.weight": "the first classifier, which tells the number of identities",
}


def mudeep(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released MuDeep. Scales, stripes, widths and number of identities are read off the tensors."""
    for key, what in NEEDED.items():
        if key not in tensors:
            raise CheckpointError(
                f"{origin} is not a whole MuDeep (v2) checkpoint: it has no {key} ({what}), but "
                f"{', '.join(sorted(tensors)[:3])}, …; give a file saved by the MuDeep_v2 code, or name its network"
            )
    scales = _highest(tensors, r"layer4_(\d)\.")
    stripes = _highest(tensors, r"scale1_(\d)\.")
    options: dict[str, Any] = {
        "scales": scales,
        "stripes": stripes,
        "guidance": len(tensors["conv_all.conv1.weight"]),
        "attention": "leader",
        "whole_maps": True,
        "feature_dim": len(tensors["scale1.feature.conv1.weight"]),
        "backbone": "resnet50",
        "last_stride": 1,
        "stem_relu": True,
    }
    num_ids = len(tensors["scale1.classifier.fc.weight"])
    return Translation("mudeep", num_ids, options, rename(tensors, RULES | _head_rules(stripes)))


def _highest(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """The highest number in the names that begin with a pattern."""
    return max((int(match[1]) for key in tensors if (match := re.match(pattern, key))), default=0)


def _head_rules(stripes: int) -> dict[str, str]:
    """The authors count stripes from 1 and leave the whole map unnumbered."""
    regions = {"": "global"} | {f"_{number + 1}": f"part{number}" for number in range(stripes)}
    return {
        rf"scale(\d){suffix}\.{theirs}\.": ours.format(rf"scale\1_{region}") + "."
        for suffix, region in regions.items()
        for theirs, ours in HEAD_RULES.items()
    }
