"""Checkpoints of the APNet family: APNet (github.com/CHENGY12/APNet, levels 0 to 2) and MSEA Net, which was forked from
it (github.com/dulithchinthaka/person_reid_multi_scale, as of September 2023 and of May 2024).

Shapes: N identities, C channels.

All are ResNet-50 with a pyramid after the stem and after each of the four stages. A file holds the backbone twice,
under ``base`` and under ``base_1`` to ``base_5``, because the authors' module had two names for the same layers. The
names also tell which agent sits at which level, see ``AGENTS`` and ``LEVELS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard.errors import CheckpointError
from regard.models.importers.translation import Translation, rename

__all__ = ["apnet", "msea"]

LEVELS = {1: "att", 2: "att_s", 3: "att_ss"}
"""What a level's attention is called, before the number of the tap."""

NORMS = {2: "BN", 3: "BN_"}
"""What the normalization after a level is called, before the number of the tap."""

AGENTS = {"se": ".fc.0.weight", "eca": ".conv.weight", "sams": ".fc1.weight"}
"""Agent -> the tensor that only it has, after the number of the tap."""

STEM_CHANNELS = 64
"""C at the first tap of ResNet-50."""


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


def _mark(level: int, agent: str) -> str:
    """The tensor whose presence shows that ``agent`` attends at ``level``."""
    return f"{LEVELS[level]}1{AGENTS[agent]}"


def _agents(tensors: Mapping[str, Tensor], origin: str, family: str) -> dict[int, str]:
    """Which agent attends at which level, for the levels there are; refuses what is no network of the family."""
    if not {"base.conv1.weight", "base_1.0.weight"} & tensors.keys():
        raise CheckpointError(
            f"{origin} is not an {family} checkpoint: it has no base.conv1.weight, but "
            f"{', '.join(sorted(tensors)[:3])}, …; give a file saved by the {family} code, or name its network"
        )
    if "classifier.weight" not in tensors:
        raise CheckpointError(
            f"{origin} has no classifier.weight, which tells the number of identities; give the whole checkpoint"
        )
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
    """Pattern of the authors' names -> ours."""
    rules = {
        r"base\.(conv1|bn1)\.": r"backbone.stages.0.\1.",
        r"base\.layer(\d)\.": r"backbone.stages.\1.layer\1.",
        # the modules the forward pass goes through: the same tensors under a second name
        r"base_1\.0\.": "backbone.stages.0.conv1.",
        r"base_1\.1\.": "backbone.stages.0.bn1.",
        r"base_2\.0\.": "backbone.stages.1.layer1.",
        r"base_3\.0\.": "backbone.stages.2.layer2.",
        r"base_4\.0\.": "backbone.stages.3.layer3.",
        r"base_5\.0\.": "backbone.stages.4.layer4.",
        r"bottleneck\.": "neck.",
        r"classifier\.": "classifier.",
    }
    for number, name in LEVELS.items():
        agent = rf"attention.tap\1.levels.level{number}.agent"
        rules |= {
            rf"{name}(\d)\.fc\.0\.": f"{agent}.squeeze.",
            rf"{name}(\d)\.fc\.2\.": f"{agent}.excite.",
            rf"{name}(\d)\.conv\.": f"{agent}.conv.",
            rf"{name}(\d)\.fc1\.": f"{agent}.attend.0.",
            rf"{name}(\d)\.bn1\.": f"{agent}.attend.1.",
            rf"{name}(\d)\.fc2\.": f"{agent}.attend.3.",
        }
    for number, name in NORMS.items():
        rules[rf"{name}(\d)\.bottleneck2\."] = rf"attention.tap\1.levels.level{number}.norm."
    return rules
