"""Checkpoints of networks with attention between their stages: the APNet family, and RGA.

Shapes: N identities, C channels, n positions of the map after the first stage, H x W pixels.

The APNet family is APNet (github.com/CHENGY12/APNet, levels 0 to 2) and MSEA Net, which was forked from it
(github.com/dulithchinthaka/person_reid_multi_scale, as of September 2023 and of May 2024). All are ResNet-50 with a
pyramid after the stem and after each of the four stages. A file holds the backbone twice, under ``base`` and under
``base_1`` to ``base_5``, because the authors' module had two names for the same layers. The names also tell which agent
sits at which level, see ``AGENTS`` and ``LEVELS``.

RGA (github.com/microsoft/Relation-Aware-Global-Attention-Networks) is an APNet of one level. A file holds a ResNet-50
with four modules ``rga_att1`` to ``rga_att4`` under ``backbone``, the neck ``feat_bn`` and the classifier ``cls``. A
module attends to positions (``*_spatial``), to channels (``*_channel``) or to both: RGA-S, RGA-C and RGA-SC. Of the
size of the images it tells n = H / 4 * W / 4 alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.translation import Translation, check_whole, count_ids, rename, resnet_rules

__all__ = ["apnet", "msea", "rga"]

LEVELS = {1: "att", 2: "att_s", 3: "att_ss"}
"""What a level's attention is called in the APNet family, before the number of the tap."""

NORMS = {2: "BN", 3: "BN_"}
"""What the normalization after a level is called, before the number of the tap."""

AGENTS = {"se": ".fc.0.weight", "eca": ".conv.weight", "sams": ".fc1.weight"}
"""Agent -> the tensor that only it has, after the number of the tap."""

LAYERS = {"fc.0": "squeeze", "fc.2": "excite", "conv": "conv", "fc1": "attend.0", "bn1": "attend.1", "fc2": "attend.3"}
"""Layer of an agent -> ours."""

STEM_CHANNELS = 64
"""C at the first tap of ResNet-50."""

EMBEDDINGS = ("gx", "theta", "phi")
"""RGA's three embeddings, in the order in which they are one convolution here."""

HALVES = ("spatial", "channel")

PLACES = {
    ("spatial", "channel"): ("rga_sc", {"spatial": "agent.spatial", "channel": "agent.channel.relations"}),
    ("spatial",): ("rga", {"spatial": "agent"}),
    ("channel",): ("rga_c", {"channel": "agent.relations"}),
}
"""The halves of RGA that there are -> our agent, and where each half is in a level."""

HALF_RULES = {
    r"gg_{half}\.0\.": "compress.",
    r"gg_{half}\.1\.": "normalize.",
    r"W_{half}\.": "attend.",
    r"(?:gx|theta|phi)_{half}\.1\.num_batches_tracked": "embed.1.num_batches_tracked",
}
"""Pattern of the authors' names within one half of one module -> ours."""

SIZED = {
    "spatial": ("backbone.rga_att1.gg_spatial.0.weight", 2),
    "channel": ("backbone.rga_att1.theta_channel.0.weight", 1),
}
"""Half -> the tensor whose second axis tells n, and how many times n it is long."""

RGA_NEEDED = {
    "backbone.conv1.weight": "the backbone",
    "feat_bn.weight": "the neck",
    "cls.weight": "the classifier, which tells the number of identities",
}


def apnet(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released APNet. Level, width of the squeeze and number of identities are read off the tensors."""
    agents = _agents(tensors, origin, "APNet")
    level = max(agents, default=0)
    _check_groups(tensors, origin, {2: 2, 3: 4}, level)
    options: dict[str, Any] = {"level": level}
    if agents.get(1) == "se":
        options["se_hidden"] = len(tensors[_mark(1, "se")])
    return _translation("apnet", tensors, options)


def msea(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released MSEA Net: 2023 has ECA at level 1 and SAMS at level 2, the head of the repository the reverse."""
    agents = _agents(tensors, origin, "MSEA")
    level = max(agents, default=0)
    head = agents.get(1) == "sams" or agents.get(2) == "eca"
    _check_groups(tensors, origin, {1: min(level, 2)} if head else {2: 2, 3: 4}, level)
    options: dict[str, Any] = {"preset": "head" if head else "2023", "level": level}
    for number, agent in agents.items():
        if agent == "eca":
            options["kernel"] = tensors[_mark(number, "eca")].shape[-1]
    return _translation("msea", tensors, options)


def rga(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released RGA-S, RGA-C or RGA-SC: which one is read off the tensors, and so is the size of images that are twice
    as tall as wide, as the 256 x 128 of the released script."""
    halves = tuple(half for half in HALVES if f"backbone.rga_att1.gx_{half}.0.weight" in tensors)
    attention = {SIZED[half][0]: "the attention" for half in halves or HALVES[:1]}
    fault, remedy = "is not a whole RGA checkpoint", "give a file saved by the RGA code, or name its network"
    check_whole(tensors, origin, attention | RGA_NEEDED, fault, remedy)
    agent, places = PLACES[halves]
    rules = resnet_rules("backbone") | {r"feat_bn\.": "neck.", r"cls\.": "classifier."}
    joined = {}
    for half, place in places.items():
        for number in range(1, 5):
            ours, theirs = f"attention.tap{number + 1}.levels.level1.{place}.", f"backbone.rga_att{number}."
            module = re.escape(theirs)
            rules |= {module + key.replace("{half}", half): ours + value for key, value in HALF_RULES.items()}
            joined |= _embeddings(tensors, theirs, half, f"{ours}embed.")
    options = {"level": 1, "agent": agent, "backbone": "resnet50", "last_stride": 1, "stem_relu": True}
    size = _image_size(tensors, halves[0])
    return Translation("apnet", len(tensors["cls.weight"]), options, rename(tensors, rules), joined, size)


def _mark(level: int, agent: str) -> str:
    """The tensor whose presence shows that ``agent`` attends at ``level``."""
    return f"{LEVELS[level]}1{AGENTS[agent]}"


def _agents(tensors: Mapping[str, Tensor], origin: str, family: str) -> dict[int, str]:
    """Which agent attends at which level, for the levels there are; refuses what is no network of the family."""
    if "base_1.0.weight" not in tensors:
        fault, remedy = f"is not an {family} checkpoint", f"give a file saved by the {family} code, or name its network"
        check_whole(tensors, origin, {"base.conv1.weight": ""}, fault, remedy)
    count_ids(tensors, origin)
    return {level: agent for level in LEVELS for agent in AGENTS if _mark(level, agent) in tensors}


def _check_groups(tensors: Mapping[str, Tensor], origin: str, radices: Mapping[int, int], level: int) -> None:
    """Refuse a split attention that does not split a level into the groups it has in a network that runs."""
    for number, radix in radices.items():
        weight = tensors.get(_mark(number, "sams")) if number <= level else None
        if weight is not None and weight.shape[1] * radix != STEM_CHANNELS:
            raise CheckpointError(
                f"{origin} does not split level {number} into {radix} groups of channels, so it is no network that "
                f"ran (the released level 3 did not); give a level 0, 1 or 2 checkpoint"
            )


def _translation(model: str, tensors: Mapping[str, Tensor], options: dict[str, Any]) -> Translation:
    options |= {"backbone": "resnet50", "last_stride": 1, "stem_relu": False}
    return Translation(model, len(tensors["classifier.weight"]), options, rename(tensors, _rules()))


def _rules() -> dict[str, str]:
    """Pattern of the APNet family's names -> ours."""
    rules = resnet_rules("base") | {
        # the modules the forward pass goes through: the same tensors under a second name
        r"base_1\.0\.": "backbone.stages.0.conv1.",
        r"base_1\.1\.": "backbone.stages.0.bn1.",
        **{rf"base_{number + 1}\.0\.": f"backbone.stages.{number}.layer{number}." for number in range(1, 5)},
        r"bottleneck\.": "neck.",
        r"classifier\.": "classifier.",
    }
    for number, name in LEVELS.items():
        agent = rf"attention.tap\1.levels.level{number}.agent"
        rules |= {rf"{name}(\d)\.{re.escape(layer)}\.": f"{agent}.{ours}." for layer, ours in LAYERS.items()}
    for number, name in NORMS.items():
        rules[rf"{name}(\d)\.bottleneck2\."] = rf"attention.tap\1.levels.level{number}.norm."
    return rules


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
