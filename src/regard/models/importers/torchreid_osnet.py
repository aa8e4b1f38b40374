"""OSNet, OSNet-IBN and OSNet-AIN as torchreid (github.com/KaiyangZhou/deep-person-reid) saves them.

What comes of one is the baseline on OSNet, with the linear layer, normalization and ReLU that torchreid has after the
pooling (``fc``, 512 numbers), which is what it returns in evaluation. Width and kind are read off the tensors. The bias
of that linear layer goes into the mean of the normalization behind it, which is the same network; that of the
classifier, which training alone needs, has no place here and is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.families.osnet import AIN, IBN, PLAIN, WIDTH_NAMES, WIDTHS
from regard.models.importers.translation import Translation, check_known, check_whole, rename

__all__ = ["osnet"]

BLOCK = r"conv([234])\.([01])\."
STAGE_OF_BLOCK = {2: (1, 0), 3: (2, 2), 4: (3, 2)}
"""torchreid's number of a stage -> ours, and how many modules are before its blocks."""

INNER = {
    r"conv1\.conv": "reduce.0",
    r"conv1\.bn": "reduce.1",
    r"conv2([abcd])(?:\.([0-3]))?\.(conv1|conv2|bn)": "",
    r"conv2\.([0-3])\.layers\.([0-3])\.(conv1|conv2|bn)": "",
    r"gate\.fc1": "gate.layers.0",
    r"gate\.fc2": "gate.layers.2",
    r"conv3\.conv": "expand.0",
    r"conv3\.bn": "expand.1",
    r"downsample\.conv": "shortcut.0",
    r"downsample\.bn": "shortcut.1",
}
"""Part of a block in torchreid -> in ours; of the streams, whose numbers are translated, nothing."""

LITE = {"conv1": 0, "conv2": 1, "bn": 2}

OUTER = {
    r"conv1\.conv\.": "backbone.stages.0.0.",
    r"conv1\.bn\.": "backbone.stages.0.1.",
    r"(?:conv2\.2|pool2)\.0\.conv\.": "backbone.stages.2.0.0.",
    r"(?:conv2\.2|pool2)\.0\.bn\.": "backbone.stages.2.0.1.",
    r"(?:conv3\.2|pool3)\.0\.conv\.": "backbone.stages.3.0.0.",
    r"(?:conv3\.2|pool3)\.0\.bn\.": "backbone.stages.3.0.1.",
    r"conv5\.conv\.": "backbone.stages.4.0.0.",
    r"conv5\.bn\.": "backbone.stages.4.0.1.",
    r"fc\.0\.weight$": "head.weight",
    r"fc\.1\.": "neck.",
    r"classifier\.weight$": "classifier.weight",
}

NEEDED = {
    "conv1.conv.weight": "the stem, which tells the width",
    "fc.0.weight": "the linear layer after pooling",
    "fc.0.bias": "",
    "fc.1.running_mean": "its normalization",
}
SPARE = ("classifier.bias",)


def osnet(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Find the width by the stem, and the kind by where instance normalizations are."""
    check_whole(tensors, origin, NEEDED, "is no whole OSNet of torchreid", "give the file that torchreid saved")
    backbone = _backbone(tensors, origin)
    names = rename(tensors, OUTER) | {key: name for key in tensors if (name := _in_block(key, tensors))}
    folded = {"fc.0.bias": "neck.running_mean", "fc.1.running_mean": "neck.running_mean"}
    check_known(tensors, {*names, *folded, *SPARE}, f"{origin} is no OSNet that is read")
    mean, bias = tensors["fc.1.running_mean"], tensors["fc.0.bias"]
    classes = tensors.get("classifier.weight")
    options: dict[str, Any] = {"backbone": backbone, "head_dim": len(bias), "neck_relu": True}
    return Translation(
        "baseline",
        1 if classes is None else len(classes),
        options,
        {key: name for key, name in names.items() if key not in folded},
        made={"neck.running_mean": (mean.float() - bias.float() if mean.shape == bias.shape else mean, tuple(folded))},
        fresh=("classifier.",) if classes is None else (),
    )


def _backbone(tensors: Mapping[str, Tensor], origin: str) -> str:
    """Our name of the network.

    Raises:
        CheckpointError: there is none of that width, with such normalizations.
    """
    channels = len(tensors["conv1.conv.weight"])
    width = next((name for name in WIDTH_NAMES if _scaled(name) == channels), None)
    found = tuple(_instance(tensors, f"conv{2 + block // 2}.{block % 2}.") for block in range(6))
    kinds: dict[tuple[str, ...], str] = {PLAIN: "x", IBN: "ibn_x", AIN: "ain_x"}
    stem = "conv1.bn.running_mean" not in tensors
    if width is None or found not in kinds or stem != (found != PLAIN) or (found == IBN and width != WIDTH_NAMES[0]):
        wanted = ", ".join(str(_scaled(name)) for name in WIDTH_NAMES)
        raise CheckpointError(
            f"{origin} is no OSNet that is read: its stem has {channels} channels, and instance normalizations of its "
            f"blocks are {', '.join(found)}; wanted {wanted} channels, with those of osnet_x, osnet_ain_x or "
            f"osnet_ibn_x1_0; give a file of one of them"
        )
    return f"osnet_{kinds[found]}{width}"


def _scaled(name: str) -> int:
    """Channels of the stem at a width that is called so."""
    return int(WIDTHS[0] * float(name.replace("_", ".")))


def _instance(tensors: Mapping[str, Tensor], block: str) -> str:
    """Where a block normalizes every picture for itself."""
    if f"{block}IN.weight" not in tensors:
        return "none"
    return "after" if f"{block}conv3.bn.weight" in tensors else "inside"


def _in_block(key: str, tensors: Collection[str]) -> str | None:
    """Our name of a tensor of a block, of those of a file; None of any other.

    >>> _in_block("conv3.1.conv2c.2.conv2.weight", ())
    'backbone.stages.2.3.streams.2.2.1.weight'
    """
    place = re.match(BLOCK, key)
    if place is None:
        return None
    stage, first = STAGE_OF_BLOCK[int(place[1])]
    inside, last = key[place.end() :].rpartition(".")[::2]
    home = f"backbone.stages.{stage}.{first + int(place[2])}"
    if inside == "IN":
        return f"{home}.{'after' if f'{place[0]}conv3.bn.weight' in tensors else 'expand.1'}.{last}"
    for pattern, name in INNER.items():
        match = re.fullmatch(pattern, inside)
        if match and name:
            return f"{home}.{name}.{last}"
        if match:
            stream = match[1] if match[1].isdigit() else "abcd".index(match[1])
            return f"{home}.streams.{stream}.{match[2] or 0}.{LITE[match[3]]}.{last}"
    return None
