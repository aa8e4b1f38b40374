"""Checkpoints of the released DSP and SA networks, and of PCB, whose code both began with.

Shapes: N identities, C channels, D length of the vectors the classifiers see.

DSP and SA save the same names and shapes, so a file does not tell which of them wrote it, and they compute different
descriptors from the same tensors: whoever imports has to say. What a file does tell: N (the rows of the classifiers,
751 on every data set unless someone edited the code), D, and the depth of the ResNet. PCB saves the same but for the
classifiers half-way up and that of the stripes' mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.translation import Translation, rename

__all__ = ["dsp", "pcb", "sa"]

RULES = {
    r"base\.(conv1|bn1)\.": r"backbone.stages.0.\1.",
    r"base\.layer(\d)\.": r"backbone.stages.\1.layer\1.",
    r"local_conv\.": "parts.reductions.0.linear.",
    r"feat_bn2d\.": "parts.reductions.0.norm.",
    r"instance([0-5])\.": r"parts.classifiers.part\1.",
    r"instance6\.": "parts.classifiers.global.",
    r"local_conv_layer(\d)\.": r"supervision.ds\1.reduction.",
    r"instance_layer(\d)\.": r"supervision.ds\1.classifier.",
}
PCB_RULES = RULES | {r"instance(\d+)\.": r"parts.classifiers.part\1."}
ATTENTION_RULES = {
    r"GCT1\.(alpha|gamma|beta)$": r"attention.tap2.channel.\1",
    r"GCT2\.(alpha|gamma|beta)$": r"attention.tap3.channel.\1",
    r"GCT3\.(alpha|gamma|beta)$": r"attention.tap4.channel.\1",
    r"GCT1\.(alpha|gamma|beta)_sp$": r"attention.tap2.spatial.\1",
    r"GCT2\.(alpha|gamma|beta)_sp$": r"attention.tap3.spatial.\1",
    r"GCT3\.(alpha|gamma|beta)_sp$": r"attention.tap4.spatial.\1",
}
NEEDED = {
    "base.conv1.weight": "the backbone",
    "local_conv.weight": "the reduction of the stripes",
    "feat_bn2d.weight": "its normalization",
    "instance0.weight": "the first stripe's classifier, which tells the number of identities",
}
SUPERVISED = {"local_conv_layer1.weight": "the deep supervision, without which this is the plain part network, pcb"}
DEPTHS: dict[tuple[int, ...], str] = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
"""Blocks per stage -> backbone."""


def dsp(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released DSP (github.com/bmiftah/DSP_Person_ReID).

    Its attention never learned, and where its vectors are in the file at all they hold their initial values: the
    network is ``mode="released"``. Vectors that did learn come from a mended copy of the code: ``mode="code"``.
    """
    live = any(re.match(r"GCT\d\.(gamma|beta)", key) and tensors[key].any() for key in tensors)
    options = {"mode": "code" if live else "released"}
    return _translate(
        "dsp", tensors, origin, options, RULES | ATTENTION_RULES if live else RULES, needed=NEEDED | SUPERVISED
    )


def sa(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released SA (github.com/HRanWang/Spatial-Re-Scaling)."""
    if any(key.startswith("GCT") for key in tensors):
        raise CheckpointError(
            f"{origin} is no SA checkpoint: it holds DSP's attention vectors (GCT1, …); import it as network 'dsp'"
        )
    return _translate("sa", tensors, origin, {"mode": "l1", "rescale": False}, RULES, needed=NEEDED | SUPERVISED)


def pcb(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released PCB (github.com/syfafterzy/PCB_RPP_for_reID), before refined part pooling."""
    stripes = sum(re.fullmatch(r"instance\d+\.weight", key) is not None for key in tensors)
    return _translate("pcb", tensors, origin, {"stripes": stripes, "descriptor": "stripes"}, PCB_RULES, needed=NEEDED)


def _translate(
    network: str,
    tensors: Mapping[str, Tensor],
    origin: str,
    options: dict[str, Any],
    rules: Mapping[str, str],
    *,
    needed: Mapping[str, str],
) -> Translation:
    """What the networks' files have in common."""
    for key, meaning in needed.items():
        if key not in tensors:
            raise CheckpointError(
                f"{origin} is not a {network.upper()} checkpoint: it has no {key} ({meaning}), but "
                f"{', '.join(sorted(tensors)[:3])}, …; give a file saved by the {network.upper()} code, or name its "
                f"network"
            )
    options |= {
        "part_conv": "shared",
        "backbone": _depth(tensors, origin),
        "last_stride": 1,
        "stem_relu": True,
        "head_dim": len(tensors["local_conv.weight"]),
    }
    return Translation(network, len(tensors["instance0.weight"]), options, rename(tensors, rules))


def _depth(tensors: Mapping[str, Tensor], origin: str) -> str:
    """timm's name of the ResNet, by its blocks."""
    blocks = [0, 0, 0, 0]
    for key in tensors:
        if place := re.match(r"base\.layer([1-4])\.(\d+)\.conv3\.", key):
            stage, block = map(int, place.groups())
            blocks[stage - 1] = max(blocks[stage - 1], block + 1)
    if tuple(blocks) not in DEPTHS:
        raise CheckpointError(
            f"{origin} holds a ResNet with {', '.join(map(str, blocks))} bottleneck blocks, and the released heads fit "
            f"{', '.join(DEPTHS.values())} alone; give a whole checkpoint of one of these"
        )
    return DEPTHS[tuple(blocks)]
