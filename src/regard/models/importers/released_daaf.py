"""Checkpoints of DAAF on the bag-of-tricks baseline (github.com/CYFFF/PAAM_on_reid-strong-baseline, as of July 2019)
and of its MindSpore form (github.com/CYFFF/DAAF-Mindspore, as of April 2022).

Shapes: N identities, w channels of one group of PAB, k taps a side of a transposed convolution.

A file holds the ResNet-50 under ``base``, the neck and the classifier, PAB's decoder (``trans_conv_``, ``conv_``),
HAB's decoder (``trans_conv_m``, ``conv_m``) and HAB's own copies of the last three stages (``backbone_mask_resnet``).
A branch that was left out is left out of the model too.

MindSpore's has the stem and the first stage in a row under ``backone`` (sic), the other stages under ``backone2``, the
512-dimensional head as ``reduction`` and the classifier as ``fc_class``. Its ``bnneck`` is never run, and unused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.mindspore_names import torch_name
from regard.models.importers.translation import Translation, rename

__all__ = ["daaf", "daaf_mindspore"]

PAB, HAB, COPY = "trans_conv_0.weight", "trans_conv_m0.weight", "backbone_mask_resnet.0.0.conv1.weight"
"""Tensors that show which branches there are."""

KERNELS = {2: "2x2", 3: "3x3"}

BRANCHES = {
    r"trans_conv_(\d)\.": r"pab.doublings.\1.",
    r"conv_(\d)\.": r"pab.heads.\1.",
    r"trans_conv_m(\d)\.": r"hab.decoder.doublings.\1.",
    r"conv_m0\.": "hab.decoder.heads.0.",
    r"backbone_mask_resnet\.0\.": "hab.copied.0.layer2.",
    r"backbone_mask_resnet\.1\.": "hab.copied.1.layer3.",
    r"backbone_mask_resnet\.2\.": "hab.copied.2.layer4.",
}
"""Pattern of both codes' names of the branches -> ours."""

RULES = {
    r"base\.(conv1|bn1)\.": r"backbone.stages.0.\1.",
    r"base\.layer(\d)\.": r"backbone.stages.\1.layer\1.",
    r"bottleneck\.": "neck.",
    r"classifier\.": "classifier.",
    **BRANCHES,
}
"""Pattern of the PyTorch code's names -> ours."""

MINDSPORE_RULES = {
    r"backone\.0\.": "backbone.stages.0.conv1.",
    r"backone\.1\.": "backbone.stages.0.bn1.",
    r"backone\.4\.": "backbone.stages.1.layer1.",
    r"backone2\.0\.": "backbone.stages.2.layer2.",
    r"backone2\.1\.": "backbone.stages.3.layer3.",
    r"backone2\.2\.": "backbone.stages.4.layer4.",
    r"reduction\.0\.": "neck.conv.",
    r"reduction\.1\.": "neck.norm.",
    r"fc_class\.": "classifier.",
    **BRANCHES,
}
"""Pattern of the MindSpore code's names -> ours, where terms of normalizations still have its names."""


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
    return Translation("daaf", len(tensors["classifier.weight"]), _options("bot", tensors, origin), names)


def daaf_mindspore(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """DAAF of MindSpore: with the branches of its training (its class ``DAAF``) or plain (``Trinet``)."""
    lacking = [key for key in ("backone.0.weight", "reduction.0.weight", "fc_class.weight") if key not in tensors]
    if lacking:
        raise CheckpointError(
            f"{origin} is no checkpoint of DAAF's MindSpore code: it has no {lacking[0]}, but "
            f"{', '.join(sorted(tensors)[:3])}, …; give the whole checkpoint of a training, or say whose it is"
        )
    names = {key: torch_name(name) for key, name in rename(tensors, MINDSPORE_RULES).items()}
    return Translation("daaf", len(tensors["fc_class.weight"]), _options("mindspore", tensors, origin), names)


def _options(preset: str, tensors: Mapping[str, Tensor], origin: str) -> dict[str, Any]:
    """Options of the model that the tensors of the branches tell."""
    options: dict[str, Any] = {
        "preset": preset,
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
    return options


def _kernel(weight: Tensor, name: str, origin: str) -> str:
    """The decoder's option for a transposed convolution, (w, 64, k, k)."""
    if weight.ndim != 4 or weight.shape[-1] not in KERNELS:
        raise CheckpointError(
            f"{origin} holds {name} of shape {tuple(weight.shape)}, no transposed convolution of 2 x 2 or 3 x 3; "
            f"give a file saved by the DAAF code"
        )
    return KERNELS[weight.shape[-1]]
