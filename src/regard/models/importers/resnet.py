"""ResNets as their authors publish them for ImageNet, of torchvision, timm, MindSpore's model zoo or MindCV; and
MindSpore's names for the tensors of a network, in torch's words.

Shapes: N classes.

What comes of one is the baseline before any training on people: pooled features through a neck that is new, and
changes nothing but by its epsilon, and the classes' weights as those of identities. A network of MindSpore's model zoo
pads and normalizes as there.

In MindSpore a convolution and a linear layer have their numbers in torch's order, so that a name is all that differs.
The ResNets of the model zoo (``down_sample_layer``, ``end_point``; 18 and 34 layers ``bn1d``) and of MindCV
(``down_sample``, ``classifier``) are known. A checkpoint of a training holds its optimizer too, each momentum under its
weight's name with a word before it, and counters.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError, RegardWarning
from regard.models.importers.translation import Translation

__all__ = ["DEPTHS", "count_blocks", "in_torch_words", "of_mindspore", "resnet", "torch_name"]

MINDSPORE_EPS = 1e-4
"""What the normalizations of the model zoo's ResNets add to the variance; torch's add 1e-5."""

WORDS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "down_sample_layer": "downsample",
    "down_sample": "downsample",
    "bn1d": "bn1",
    "bn2d": "bn2",
}
"""Part of a name in MindSpore -> in torch."""

CLASSIFIERS = ("end_point", "classifier")
"""What the model zoo and MindCV call a ResNet's last layer, ``fc`` of torch."""

SHOWN = 3
"""Names of tensors that an error or warning shows."""

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
    counts = count_blocks(map(torch_name, names), OF_A_BLOCK)
    backbone = DEPTHS.get((counts, "layer1.0.conv3.weight" in tensors))
    stem, classes = tensors.get("conv1.weight"), [key for key, name in names.items() if name == "classifier.weight"]
    if backbone is None or stem is None or not classes:
        raise CheckpointError(
            f"{origin} is no ResNet of ImageNet: wanted conv1, layer1 to layer4 with as many blocks as "
            f"{', '.join(DEPTHS.values())} have, and fc or end_point, got {', '.join(sorted(tensors)[:SHOWN])}, …; "
            f"give the whole checkpoint, or say whose it is"
        )
    zoo = "layer1.0.down_sample_layer.0.weight" in tensors
    options: dict[str, Any] = {"backbone": backbone, "last_stride": 2, "stem_relu": True}
    if zoo and backbone not in PADDED_ALIKE:
        options |= {"same_padding": True, "norm_eps": MINDSPORE_EPS}
    return Translation("baseline", len(tensors[classes[0]]), options, names, fresh=("neck.",))


def count_blocks(names: Iterable[str], pattern: str | re.Pattern[str]) -> tuple[int, ...]:
    """Blocks of each of the four stages, by names of which a pattern finds the number of the stage and the block."""
    blocks = {(int(place[1]), int(place[2])) for name in names if (place := re.match(pattern, name))}
    return tuple(sum(stage == number for stage, _ in blocks) for number in range(1, 5))


def of_mindspore(names: Iterable[str]) -> bool:
    """Return whether tensors are of MindSpore, by what it calls the variance of a batch normalization."""
    return any(name.endswith(".moving_variance") for name in names)


def torch_name(name: str) -> str:
    """Translate the name of a tensor, part by part."""
    return ".".join(WORDS.get(part, part) for part in name.split("."))


def in_torch_words(tensors: Mapping[str, Tensor], wanted: Iterable[str], source: str) -> dict[str, Tensor]:
    """Rename the tensors of a ResNet, and leave out those of its training, which is said.

    Args:
        tensors: by MindSpore's names.
        wanted: names of the network that is to have them, without its classifier.
        source: where they came from, for the warning.
    """
    wanted = set(wanted)
    renamed, of_training = {}, []
    for key, tensor in tensors.items():
        first, _, rest = key.partition(".")
        name = torch_name(f"fc.{rest}" if first in CLASSIFIERS else key)
        if name not in wanted and (not rest or torch_name(rest) in wanted or rest.startswith(CLASSIFIERS)):
            of_training.append(key)
        else:
            renamed[name] = tensor
    if of_training:
        more = ", …" if len(of_training) > SHOWN else ""
        warnings.warn(
            f"{source}: {len(of_training)} of {len(tensors)} tensors are of its training, not of the network, and are "
            f"left out ({', '.join(of_training[:SHOWN])}{more})",
            RegardWarning,
            stacklevel=3,
        )
    return renamed
