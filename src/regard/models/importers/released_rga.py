"""Checkpoints of RGA (github.com/microsoft/Relation-Aware-Global-Attention-Networks), which are APNets of one level.

Shapes: N identities, C channels, n positions of the map after the first stage, H x W pixels.

A file holds a ResNet-50 with four modules ``rga_att1`` to ``rga_att4`` under ``backbone``, the neck ``feat_bn`` and the
classifier ``cls``. A module attends to positions (``*_spatial``), to channels (``*_channel``) or to both: RGA-S, RGA-C
and RGA-SC. Of the size of the images it tells n = H / 4 * W / 4 alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.translation import Translation, rename

__all__ = ["rga"]

EMBEDDINGS = ("gx", "theta", "phi")
"""The authors' three embeddings, in the order in which they are one convolution here."""

HALVES = ("spatial", "channel")

PLACES = {
    ("spatial", "channel"): ("rga_sc", {"spatial": "agent.spatial", "channel": "agent.channel.relations"}),
    ("spatial",): ("rga", {"spatial": "agent"}),
    ("channel",): ("rga_c", {"channel": "agent.relations"}),
}
"""The halves there are -> our agent, and where each half is in a level."""

RULES = {
    r"backbone\.(conv1|bn1)\.": r"backbone.stages.0.\1.",
    r"backbone\.layer(\d)\.": r"backbone.stages.\1.layer\1.",
    r"feat_bn\.": "neck.",
    r"cls\.": "classifier.",
}
"""Pattern of the authors' names -> ours."""

HALF_RULES = {
    r"gg_{half}\.0\.": "compress.",
    r"gg_{half}\.1\.": "normalize.",
    r"W_{half}\.": "attend.",
    r"(?:gx|theta|phi)_{half}\.1\.num_batches_tracked": "embed.1.num_batches_tracked",
}
"""The same within one half of one module."""

SIZED = {
    "spatial": ("backbone.rga_att1.gg_spatial.0.weight", 2),
    "channel": ("backbone.rga_att1.theta_channel.0.weight", 1),
}
"""Half -> the tensor whose second axis tells n, and how many times n it is long."""

NEEDED = {
    "backbone.conv1.weight": "the backbone",
    "feat_bn.weight": "the neck",
    "cls.weight": "the classifier, which tells the number of identities",
}


def rga(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released RGA-S, RGA-C or RGA-SC: which one is read off the tensors, and so is the size of images that are twice
    as tall as wide, as the 256 x 128 of the released script."""
    halves = tuple(half for half in HALVES if f"backbone.rga_att1.gx_{half}.0.weight" in tensors)
    attention = {SIZED[half][0]: "the attention" for half in halves or HALVES[:1]}
    for key, meaning in (attention | NEEDED).items():
        if key not in tensors:
            raise CheckpointError(
                f"{origin} is not a whole RGA checkpoint: it has no {key} ({meaning}), but "
                f"{', '.join(sorted(tensors)[:3])}, …; give a file saved by the RGA code, or name its network"
            )
    agent, places = PLACES[halves]
    rules, joined = dict(RULES), {}
    for half, place in places.items():
        for number in range(1, 5):
            ours, theirs = f"attention.tap{number + 1}.levels.level1.{place}.", f"backbone.rga_att{number}."
            module = re.escape(theirs)
            rules |= {module + key.replace("{half}", half): ours + value for key, value in HALF_RULES.items()}
            joined |= _embeddings(tensors, theirs, half, f"{ours}embed.")
    options: dict[str, Any] = {
        "level": 1,
        "agent": agent,
        "backbone": "resnet50",
        "last_stride": 1,
        "stem_relu": True,
    }
    return Translation(
        "apnet", len(tensors["cls.weight"]), options, rename(tensors, rules), joined, _image_size(tensors, halves[0])
    )


def _embeddings(tensors: Mapping[str, Tensor], module: str, half: str, ours: str) -> dict[str, tuple[str, ...]]:
    """Names of ours -> the three tensors of the source that are one here; only where there are all three."""
    first = f"{module}{EMBEDDINGS[0]}_{half}."
    leaves = [key.removeprefix(first) for key in tensors if key.startswith(first)]
    groups = {ours + leaf: tuple(f"{module}{name}_{half}.{leaf}" for name in EMBEDDINGS) for leaf in leaves}
    return {
        name: keys
        for name, keys in groups.items()
        if not name.endswith("num_batches_tracked") and tensors.keys() >= set(keys)
    }


def _image_size(tensors: Mapping[str, Tensor], half: str) -> tuple[int, int] | str:
    """Height and width; or, where they are not 2 to 1, what is known of them."""
    key, times = SIZED[half]
    positions = tensors[key].shape[1] // times
    width = math.isqrt(8 * positions)
    if width * width == 8 * positions and width % 16 == 0:
        return 2 * width, width
    return (
        f"they have {16 * positions:,} pixels and are not twice as tall as wide; give height and width (--size, as "
        f"384x128)"
    )
