"""ResNets as their authors publish them for ImageNet, of torchvision, timm, MindSpore's model zoo or MindCV.

Shapes: N classes.

What comes of one is the baseline before any training on people: pooled features through a neck that is new, and
changes nothing but by its epsilon, and the classes' weights as those of identities. A network of MindSpore's model zoo
pads and normalizes as there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.mindspore_names import CLASSIFIERS, MINDSPORE_EPS, torch_name
from regard.models.importers.translation import Translation

__all__ = ["resnet"]

DEPTHS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
"""Blocks of the four stages, and whether they are bottlenecks -> timm's name."""

PADDED_ALIKE = ("resnet18", "resnet34")
"""The networks of MindSpore's model zoo that pad as torchvision's."""

OF_A_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(?:conv|bn|downsample\.)\d\.")


def resnet(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """A plain ResNet: its depth is read off the tensors, its padding off the names."""
    names = {}
    for key in tensors:
        first, _, rest = key.partition(".")
        name = torch_name(key)
        if first in ("conv1", "bn1"):
            names[key] = f"backbone.stages.0.{name}"
        elif block := OF_A_BLOCK.match(name):
            names[key] = f"backbone.stages.{block[1]}.{name}"
        elif first in ("fc", *CLASSIFIERS) and rest == "weight":
            names[key] = "classifier.weight"
    blocks = {(int(block[1]), int(block[2])) for block in map(OF_A_BLOCK.match, map(torch_name, names)) if block}
    counts = tuple(sum(stage == number for stage, _ in blocks) for number in range(1, 5))
    backbone = DEPTHS.get((counts, "layer1.0.conv3.weight" in tensors))
    stem, classes = tensors.get("conv1.weight"), [key for key, name in names.items() if name == "classifier.weight"]
    if backbone is None or stem is None or not classes:
        raise CheckpointError(
            f"{origin} is no ResNet of ImageNet: wanted conv1, layer1 to layer4 with as many blocks as "
            f"{', '.join(DEPTHS.values())} have, and fc or end_point, got {', '.join(sorted(tensors)[:3])}, …; give "
            f"the whole checkpoint, or say whose it is"
        )
    zoo = "layer1.0.down_sample_layer.0.weight" in tensors
    options: dict[str, Any] = {"backbone": backbone, "last_stride": 2, "stem_relu": True}
    if zoo and backbone not in PADDED_ALIKE:
        options |= {"same_padding": True, "norm_eps": MINDSPORE_EPS}
    return Translation("baseline", len(tensors[classes[0]]), options, names, fresh=("neck.",))
