"""Bag of tricks (BoT), AGW and stronger baseline (SBS) as FastReID (github.com/JDAI-CV/fast-reid) saves them.

What comes of one is the baseline on FastReID's backbone: pooled, after BNNeck, which is what FastReID compares. Read
off the tensors are depth, non-local blocks, instance normalizations (IBN-a), a reduction before the neck, and the
pooling: a learned exponent is SBS's, which sees pictures of 384 x 128; non-local blocks without one are AGW's, with the
exponent 3; neither is BoT's mean. Pictures are resized bicubically, the colors are the file's where it holds them.

Names are those of FastReID from 2020 on: ``heads.bottleneck.0`` (``heads.bnneck`` before), ``heads.weight``
(``heads.classifier.weight``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regard.errors import CheckpointError
from regard.input_spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from regard.models.families.fastreid import BLOCKS, NON_LOCAL
from regard.models.importers.resnet import count_blocks
from regard.models.importers.translation import Translation, check_known, check_whole, rename

__all__ = ["fastreid"]

DEPTHS: dict[tuple[int, ...], str] = {(3, 4, 6, 3): "r50", (3, 4, 23, 3): "r101"}
OF_A_BLOCK = re.compile(r"backbone\.layer([1-4])\.(\d+)\.conv1\.")

RULES = {
    r"backbone\.(conv1|bn1)\.": r"backbone.stages.0.\1.",
    r"backbone\.layer([1-4])\.(?=\d+\.(?:conv|bn|downsample))": r"backbone.stages.\1.layer\1.",
    r"backbone\.layer([1-3])\.(\d+)\.bn1\.IN\.": r"backbone.stages.\1.layer\1.\2.bn1.instance.",
    r"backbone\.layer([1-3])\.(\d+)\.bn1\.BN\.": r"backbone.stages.\1.layer\1.\2.bn1.batch.",
    r"heads\.(?:weight|classifier\.weight)$": "classifier.weight",
}
NECKS = ("heads.bottleneck.1.", "heads.bottleneck.0.", "heads.bnneck.")
"""How names of the neck begin: behind a reduction, without one, and so as earlier versions had it."""

EXPONENT = "heads.pool_layer.p"
USUAL = 3.0
"""Exponent of a pooling whose exponent is not learned."""

COLORS = ("pixel_mean", "pixel_std")


def fastreid(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Find backbone, pooling and head."""
    fault, remedy = "is no whole checkpoint of FastReID", "give the file that it saved"
    check_whole(tensors, origin, {"backbone.layer1.0.conv1.weight": "the backbone"}, fault, remedy)
    neck = next((start for start in NECKS if f"{start}running_mean" in tensors), None)
    if neck is None:
        raise CheckpointError(f"{origin} {fault}: it has no heads.bottleneck.0.running_mean (BNNeck); {remedy}")
    backbone, options = _backbone(tensors, origin)
    reduction = {"heads.bottleneck.0.weight": "head.weight"} if neck == NECKS[0] else {}
    names = rename(tensors, RULES | {re.escape(neck): "neck."} | _non_local(backbone)) | reduction
    check_known(tensors, {*names, EXPONENT, *COLORS}, f"{origin} is no network of FastReID that is read")
    learned, alike = tensors.get(EXPONENT), backbone.endswith("_nl")
    made: dict[str, tuple[Tensor, tuple[str, ...]]] = {}
    if learned is not None or alike:
        options["pooling"] = "gem"
        made["pool.p"] = (torch.tensor([USUAL]), ()) if learned is None else (learned, (EXPONENT,))
    if reduction:
        options["head_dim"] = len(tensors["heads.bottleneck.0.weight"])
    classes = next((len(tensors[key]) for key, name in names.items() if name == "classifier.weight"), None)
    return Translation(
        "baseline", classes or 1, options, names, made=made, fresh=() if classes else ("classifier.",),
        told=tuple(name for name in COLORS if name in tensors),
        seen=_seen(tensors, 256 if learned is None else 384, origin),
    )  # fmt: skip


def _non_local(backbone: str) -> dict[str, str]:
    """Pattern of the names of non-local blocks -> ours, which are with the blocks that they follow."""
    depth = backbone.removeprefix("fastreid_").removesuffix("_nl")
    return {
        rf"backbone\.NL_{at}\.{number}\.": f"backbone.stages.{at}.layer{at}.{total - count + number}.non_local."
        for at, (total, count) in enumerate(zip(BLOCKS.get(depth, ()), NON_LOCAL.get(depth, ())), 1)
        for number in range(count)
    }


def _backbone(tensors: Mapping[str, Tensor], origin: str) -> tuple[str, dict[str, Any]]:
    """Our name of the backbone, and the options that go with it.

    Raises:
        CheckpointError: it is none of those that are read.
    """
    counts = count_blocks(tensors, OF_A_BLOCK)
    depth = DEPTHS.get(counts)
    bottlenecks = "backbone.layer1.0.conv3.weight" in tensors
    if "backbone.layer1.0.conv2.fc1.weight" in tensors:
        depth = "s50" if depth == "r50" else None
    if depth is None or not bottlenecks:
        raise CheckpointError(
            f"{origin} is no network of FastReID that is read: its stages have {', '.join(map(str, counts))} "
            f"{'bottlenecks' if bottlenecks else 'blocks of two convolutions'}; wanted ResNet-50, ResNet-101 or "
            "ResNeSt-50; any other comes as ONNX"
        )
    alike = any(key.startswith("backbone.NL_") for key in tensors)
    name = f"fastreid_{depth}{'_nl' if alike else ''}"
    ibn = "a" if "backbone.layer1.0.bn1.IN.weight" in tensors else None
    return name, {"backbone": name, "ibn": ibn, "last_stride": 2 if depth == "s50" else 1, "stem_relu": True}


def _seen(tensors: Mapping[str, Tensor], height: int, origin: str) -> InputSpec:
    """What the network is shown; colors are in gray levels there.

    Raises:
        CheckpointError: the colors are no three.
    """
    colors = []
    for name, usual in zip(COLORS, (IMAGENET_MEAN, IMAGENET_STD)):
        told = tensors.get(name)
        if told is not None and told.numel() != 3:
            shape = tuple(told.shape)
            raise CheckpointError(f"{origin} has a {name} of {shape}, wanted three numbers; give a whole file")
        colors.append(usual if told is None else tuple((told.double().flatten() / 255).tolist()))
    return InputSpec(height, 128, "bicubic", *colors, flip=False)
