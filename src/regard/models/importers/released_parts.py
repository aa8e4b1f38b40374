"""Checkpoints of networks with heads for parts of the body: DSP, SA, and PCB, whose code both began with; and MuDeep.

Shapes: N identities, C channels, D length of the vectors the classifiers see.

DSP and SA save the same names and shapes, so a file does not tell which of them wrote it, and they compute different
descriptors from the same tensors: whoever imports has to say. What a file does tell: N (the rows of the classifiers,
751 on every data set unless someone edited the code), D, and the depth of the ResNet. PCB saves the same but for the
classifiers half-way up and that of the stripes' mean.

MuDeep (github.com/naiq/MuDeep_v2, 2020 and 2021; the network never changed) is ResNet-50. A file does not tell the size
of the images it was trained on, 384 x 192 or 384 x 128, and the two are not interchangeable although every tensor fits:
the attention's logits are sums over positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.resnet import DEPTHS, count_blocks
from regard.models.importers.translation import Translation, check_whole, rename, resnet_rules

__all__ = ["dsp", "mudeep", "pcb", "sa"]

RULES = {
    **resnet_rules("base"),
    r"local_conv\.": "parts.reductions.0.linear.",
    r"feat_bn2d\.": "parts.reductions.0.norm.",
    r"instance([0-5])\.": r"parts.classifiers.part\1.",
    r"instance6\.": "parts.classifiers.global.",
    r"local_conv_layer(\d)\.": r"supervision.ds\1.reduction.",
    r"instance_layer(\d)\.": r"supervision.ds\1.classifier.",
}
PCB_RULES = RULES | {r"instance(\d+)\.": r"parts.classifiers.part\1."}
ATTENTION_RULES = {
    rf"GCT{number}\.(alpha|gamma|beta){suffix}$": rf"attention.tap{number + 1}.{half}.\1"
    for number in (1, 2, 3)
    for suffix, half in (("", "channel"), ("_sp", "spatial"))
}
NEEDED = {
    "base.conv1.weight": "the backbone",
    "local_conv.weight": "the reduction of the stripes",
    "feat_bn2d.weight": "its normalization",
    "instance0.weight": "the first stripe's classifier, which tells the number of identities",
}
SUPERVISED = {"local_conv_layer1.weight": "the deep supervision, without which this is the plain part network, pcb"}
BOTTLENECKS = {counts: name for (counts, bottlenecks), name in DEPTHS.items() if bottlenecks}

MUDEEP_RULES = {
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
MUDEEP_HEADS = {r"feature\.conv1": "head.{}.conv", r"feature\.bn": "head.{}.norm", r"classifier\.fc": "classifier.{}"}
MUDEEP_NEEDED = {
    "layer4_1.conv1.weight": "the first stream",
    "conv_all.conv1.weight": "the leader",
    "scale1.feature.conv1.weight": "the first head",
    "scale1.classifier.fc.weight": "the first classifier, which tells the number of identities",
}


def dsp(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released DSP (github.com/bmiftah/DSP_Person_ReID).

    Its attention never learned, and where its vectors are in the file at all they hold their initial values: the
    network is ``mode="released"``. Vectors that did learn come from a mended copy of the code: ``mode="code"``.
    """
    live = any(re.match(r"GCT\d\.(gamma|beta)", key) and tensors[key].any() for key in tensors)
    rules, mode = (RULES | ATTENTION_RULES, "code") if live else (RULES, "released")
    return _translate("dsp", tensors, origin, {"mode": mode}, rules, needed=NEEDED | SUPERVISED)


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


def mudeep(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released MuDeep. Scales, stripes, widths and number of identities are read off the tensors."""
    fault, remedy = (
        "is not a whole MuDeep (v2) checkpoint",
        "give a file saved by the MuDeep_v2 code, or name its network",
    )
    check_whole(tensors, origin, MUDEEP_NEEDED, fault, remedy)
    stripes = _highest(tensors, r"scale1_(\d)\.")
    options: dict[str, Any] = {
        "scales": _highest(tensors, r"layer4_(\d)\."),
        "stripes": stripes,
        "guidance": len(tensors["conv_all.conv1.weight"]),
        "attention": "leader",
        "whole_maps": True,
        "feature_dim": len(tensors["scale1.feature.conv1.weight"]),
        "backbone": "resnet50",
        "last_stride": 1,
        "stem_relu": True,
    }
    # the authors count stripes from 1 and leave the whole map unnumbered
    regions = {"": "global"} | {f"_{number + 1}": f"part{number}" for number in range(stripes)}
    heads = {
        rf"scale(\d){suffix}\.{theirs}\.": ours.format(rf"scale\1_{region}") + "."
        for suffix, region in regions.items()
        for theirs, ours in MUDEEP_HEADS.items()
    }
    num_ids = len(tensors["scale1.classifier.fc.weight"])
    return Translation("mudeep", num_ids, options, rename(tensors, MUDEEP_RULES | heads))


def _translate(
    network: str,
    tensors: Mapping[str, Tensor],
    origin: str,
    options: dict[str, Any],
    rules: Mapping[str, str],
    *,
    needed: Mapping[str, str],
) -> Translation:
    """What the files of DSP, SA and PCB have in common."""
    code = network.upper()
    remedy = f"give a file saved by the {code} code, or name its network"
    check_whole(tensors, origin, needed, f"is not a {code} checkpoint", remedy)
    blocks = count_blocks(tensors, r"base\.layer([1-4])\.(\d+)\.conv3\.")
    if blocks not in BOTTLENECKS:
        raise CheckpointError(
            f"{origin} holds a ResNet with {', '.join(map(str, blocks))} bottleneck blocks, and the released heads fit "
            f"{', '.join(BOTTLENECKS.values())} alone; give a whole checkpoint of one of these"
        )
    options |= {
        "part_conv": "shared",
        "backbone": BOTTLENECKS[blocks],
        "last_stride": 1,
        "stem_relu": True,
        "head_dim": len(tensors["local_conv.weight"]),
    }
    return Translation(network, len(tensors["instance0.weight"]), options, rename(tensors, rules))


def _highest(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """The highest number in the names that begin with a pattern."""
    return max((int(match[1]) for key in tensors if (match := re.match(pattern, key))), default=0)
