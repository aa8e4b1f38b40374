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
from regard.models.importers.resnet import torch_name
from regard.models.importers.translation import Translation, check_whole, count_ids, rename, resnet_rules

__all__ = ["daaf", "daaf_mindspore"]

PAB, HAB, COPY = "trans_conv_0.weight", "trans_conv_m0.weight", "backbone_mask_resnet.0.0.conv1.weight"
"""Tensors that show which branches there are."""

KERNELS = {2: "2x2", 3: "3x3"}

BRANCHES = {
    r"trans_conv_(\d)\.": r"pab.doublings.\1.",
    r"conv_(\d)\.": r"pab.heads.\1.",
    r"trans_conv_m(\d)\.": r"hab.decoder.doublings.\1.",
    r"conv_m0\.": "hab.decoder.heads.0.",
    **{rf"backbone_mask_resnet\.{number}\.": f"hab.copied.{number}.layer{number + 2}." for number in range(3)},
}
"""Pattern of both codes' names of the branches -> ours."""

RULES = {
    **resnet_rules("base"),
    r"bottleneck\.": "neck.",
    r"classifier\.": "classifier.",
    **BRANCHES,
}
"""Pattern of the PyTorch code's names -> ours."""

MINDSPORE_RULES = {
    r"backone\.0\.": "backbone.stages.0.conv1.",
    r"backone\.1\.": "backbone.stages.0.bn1.",
    r"backone\.4\.": "backbone.stages.1.layer1.",
    **{rf"backone2\.{number}\.": f"backbone.stages.{number + 2}.layer{number + 2}." for number in range(3)},
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
    return Translation("daaf", count_ids(tensors, origin), _options("bot", tensors, origin), names)


def daaf_mindspore(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """DAAF of MindSpore: with the branches of its training (its class ``DAAF``) or plain (``Trinet``)."""
    needed = {"backone.0.weight": "", "reduction.0.weight": "", "fc_class.weight": ""}
    fault = "is no checkpoint of DAAF's MindSpore code"
    check_whole(tensors, origin, needed, fault, "give the whole checkpoint of a training, or say whose it is")
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
    for name in [name for name in (HAB, PAB) if name in tensors]:
        shape = tuple(tensors[name].shape)  # of a transposed convolution, (w, 64, k, k)
        if len(shape) != 4 or shape[-1] not in KERNELS:
            raise CheckpointError(
                f"{origin} holds {name} of shape {shape}, no transposed convolution of 2 x 2 or 3 x 3; "
                f"give a file saved by the DAAF code"
            )
        options["decoder"] = KERNELS[shape[-1]]
    if PAB in tensors:
        options["group_width"] = len(tensors[PAB])
    return options
