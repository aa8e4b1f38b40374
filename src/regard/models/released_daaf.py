"""Checkpoints of DAAF on the bag-of-tricks baseline (github.com/CYFFF/PAAM_on_reid-strong-baseline, as of July 2019).

Shapes: N identities, w channels of one group of PAB, k taps a side of a transposed convolution.

A file holds the ResNet-50 under ``base``, the neck and the classifier, PAB's decoder (``trans_conv_``, ``conv_``),
HAB's decoder (``trans_conv_m``, ``conv_m``) and HAB's own copies of the last three stages (``backbone_mask_resnet``).
A branch that was left out is left out of the model too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.translation import Translation, rename

__all__ = ["daaf"]

PAB, HAB, COPY = "trans_conv_0.weight", "trans_conv_m0.weight", "backbone_mask_resnet.0.0.conv1.weight"
"""Tensors that show which branches there are."""

KERNELS = {2: "2x2", 3: "3x3"}

RULES = {
    r"base\.(conv1|bn1)\.": r"backbone.stages.0.\1.",
    r"base\.layer(\d)\.": r"backbone.stages.\1.layer\1.",
    r"bottleneck\.": "neck.",
    r"classifier\.": "classifier.",
    r"trans_conv_(\d)\.": r"pab.doublings.\1.",
    r"conv_(\d)\.": r"pab.heads.\1.",
    r"trans_conv_m(\d)\.": r"hab.decoder.doublings.\1.",
    r"conv_m0\.": "hab.decoder.heads.0.",
    r"backbone_mask_resnet\.0\.": "hab.copied.0.layer2.",
    r"backbone_mask_resnet\.1\.": "hab.copied.1.layer3.",
    r"backbone_mask_resnet\.2\.": "hab.copied.2.layer4.",
}
"""Pattern of the authors' names -> ours."""


def daaf(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released DAAF: branches, their decoder and the width of a group are read off the tensors."""
    names = rename(tensors, RULES)
    strangers = sorted(key for key in tensors.keys() - names.keys() if not key.startswith("base.fc."))
    if "base.conv1.weight" not in tensors or (strangers and not {PAB, HAB} & tensors.keys()):
        raise CheckpointError(
            f"{origin} is not a DAAF checkpoint: it has neither {PAB} (PAB) nor {HAB} (HAB) on a ResNet-50, but "
            f"{', '.join((strangers or sorted(tensors))[:3])}, …; give a file of the DAAF code, or say whose it is"
        )
    if "classifier.weight" not in tensors:
        raise CheckpointError(
            f"{origin} has no classifier.weight, which tells the number of identities; give the whole checkpoint"
        )
    options: dict[str, Any] = {
        "preset": "bot",
        "hab": HAB in tensors,
        "pab": PAB in tensors,
        "hab_tap": "layer1_copy" if COPY in tensors else "layer4",
        "backbone": "resnet50",
    }
    for branch in (HAB, PAB):
        if branch in tensors:
            options["decoder"] = _kernel(tensors[branch], branch, origin)
    if PAB in tensors:
        options["group_width"] = len(tensors[PAB])
    return Translation("daaf", len(tensors["classifier.weight"]), options, names)


def _kernel(weight: Tensor, name: str, origin: str) -> str:
    """The decoder's option for a transposed convolution, (w, 64, k, k)."""
    if weight.ndim != 4 or weight.shape[-1] not in KERNELS:
        raise CheckpointError(
            f"{origin} holds {name} of shape {tuple(weight.shape)}, no transposed convolution of 2 x 2 or 3 x 3; "
            f"give a file saved by the DAAF code"
        )
    return KERNELS[weight.shape[-1]]
