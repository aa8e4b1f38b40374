"""Checkpoints of the originally released networks, brought into ours.

Shapes: N identities, C channels.

Each importer is one entry of ``IMPORTERS``: a function from the file's tensors to our tensors' names and values and the
options of the network they belong to. What all of them share - reading, building, fitting, reporting - is here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.errors import CheckpointError, UnknownNameError
from regard.models.checkpoint import load_weights
from regard.models.contract import ReIDModel, create_model
from regard.models.tensor_file import as_tensors, read_tensors

__all__ = ["IMPORTERS", "ImportReport", "import_released"]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a released checkpoint's tensors; :func:`import_released` leaves it on the model.

    Attributes:
        source: the file, or what was given.
        used: names in the source that went into the model, or that repeat one that did.
        unused: names in the source that no rule knows.
        missing: names of ours that the source did not hold and that kept their initial value.
        conflicting: names of second copies in the source that differ from the first.
    """

    source: str
    used: list[str] = field(repr=False)
    unused: list[str]
    missing: list[str]
    conflicting: list[str]

    def __str__(self) -> str:
        counts = ", ".join(
            f"{len(getattr(self, kind))} {kind}" for kind in ("used", "unused", "missing", "conflicting")
        )
        return f"{self.source}: {counts}"


class Translation(NamedTuple):
    """A released state dict in our words.

    Attributes:
        model: registered name of the model.
        num_ids: N.
        options: of the model.
        names: name in the source -> name in our model. Where several become one, the last is what the network runs on.
    """

    model: str
    num_ids: int
    options: dict[str, Any]
    names: dict[str, str]


def import_released(source: str | Path | Mapping[str, Any], network: str = "apnet") -> ReIDModel:
    """Build a model from a checkpoint of the authors' code.

    Files are read without running anything in them. Level, variant and number of identities are detected from the
    tensors; ``model.import_report`` says what was used, unused, missing or in conflict.

    Args:
        source: a ``.pt``, ``.pth`` or ``.safetensors`` file, or a state dict of tensors or arrays.
        network: whose checkpoint it is: ``"apnet"``.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        UnknownNameError: no importer for that network.
        CheckpointError: the file is damaged, or is not a checkpoint of that network.
    """
    if network not in IMPORTERS:
        raise UnknownNameError("released network", network, IMPORTERS)
    if isinstance(source, Mapping):
        origin, tensors = "the given state dict", as_tensors(source, "the given state dict")
    else:
        origin, tensors = str(source), read_tensors(source)
    translation = IMPORTERS[network](tensors, origin)
    model = create_model(translation.model, translation.num_ids, **translation.options)
    model.import_report = _fit(model, tensors, translation.names, origin)
    return model.eval()


def _fit(model: ReIDModel, tensors: Mapping[str, Tensor], names: Mapping[str, str], origin: str) -> ImportReport:
    """Fill ``model`` with the source's tensors under their new names."""
    ours = model.state_dict()
    values: dict[str, Tensor] = {}
    conflicting = []
    for key, name in names.items():
        value = _without_kernel(tensors[key], ours.get(name))
        if name in values and not torch.equal(values[name], value):
            conflicting.append(key)
        values[name] = value
    missing = [name for name in ours if name not in values and name.endswith("num_batches_tracked")]
    load_weights(model, values | {name: ours[name] for name in missing}, origin)
    if conflicting:
        warnings.warn(
            f"{origin}: {len(conflicting)} tensors are stored twice and differ ({conflicting[0]} is one), so the file "
            f"was edited after training; the copy the released network runs on was taken",
            stacklevel=3,
        )
    return ImportReport(origin, sorted(names), sorted(tensors.keys() - names.keys()), missing, conflicting)


def _without_kernel(value: Tensor, wanted: Tensor | None) -> Tensor:
    """The weight of a 1 x 1 convolution, (out, in, 1, 1), as that of the linear layer we have in its place."""
    if wanted is not None and wanted.ndim == 2 and value.ndim == 4 and value.shape[2:] == (1, 1):
        return value.flatten(1)
    return value


def _rename(tensors: Mapping[str, Tensor], rules: Mapping[str, str]) -> dict[str, str]:
    """Source name -> our name by the rules (pattern at the start of the name -> replacement), in their order."""
    names = {}
    for pattern, replacement in rules.items():
        for key in tensors:
            if re.match(pattern, key):
                names[key] = re.sub(pattern, replacement, key, count=1)
    return names


APNET_RULES = {
    r"base\.(conv1|bn1)\.": r"backbone.stages.0.\1.",
    r"base\.layer(\d)\.": r"backbone.stages.\1.layer\1.",
    # the modules the forward pass goes through: the same tensors under a second name
    r"base_1\.0\.": "backbone.stages.0.conv1.",
    r"base_1\.1\.": "backbone.stages.0.bn1.",
    r"base_2\.0\.": "backbone.stages.1.layer1.",
    r"base_3\.0\.": "backbone.stages.2.layer2.",
    r"base_4\.0\.": "backbone.stages.3.layer3.",
    r"base_5\.0\.": "backbone.stages.4.layer4.",
    r"att(\d)\.fc\.0\.": r"attention.tap\1.levels.level1.agent.squeeze.",
    r"att(\d)\.fc\.2\.": r"attention.tap\1.levels.level1.agent.excite.",
    r"att_s(\d)\.fc1\.": r"attention.tap\1.levels.level2.agent.attend.0.",
    r"att_s(\d)\.bn1\.": r"attention.tap\1.levels.level2.agent.attend.1.",
    r"att_s(\d)\.fc2\.": r"attention.tap\1.levels.level2.agent.attend.3.",
    r"BN(\d)\.bottleneck2\.": r"attention.tap\1.levels.level2.norm.",
    r"att_ss(\d)\.fc1\.": r"attention.tap\1.levels.level3.agent.attend.0.",
    r"att_ss(\d)\.bn1\.": r"attention.tap\1.levels.level3.agent.attend.1.",
    r"att_ss(\d)\.fc2\.": r"attention.tap\1.levels.level3.agent.attend.3.",
    r"BN_(\d)\.bottleneck2\.": r"attention.tap\1.levels.level3.norm.",
    r"bottleneck\.": "neck.",
    r"classifier\.": "classifier.",
}
STEM_CHANNELS = 64
"""C at the first tap of ResNet-50."""


def _apnet(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Released APNet (github.com/CHENGY12/APNet, levels 0 to 2) on ResNet-50."""
    if not {"base.conv1.weight", "base_1.0.weight"} & tensors.keys():
        raise CheckpointError(
            f"{origin} is not an APNet checkpoint: it has no base.conv1.weight, but "
            f"{', '.join(sorted(tensors)[:3])}, …; give a file saved by the APNet code, or name its network"
        )
    if {"att1.conv.weight", "att1.fc1.weight"} & tensors.keys():
        raise CheckpointError(
            f"{origin} holds an MSEA network (its level 1 is {'ECA' if 'att1.conv.weight' in tensors else 'SAMS'}, not "
            f"squeeze-and-excitation), which cannot be imported yet; give an APNet checkpoint"
        )
    if "classifier.weight" not in tensors:
        raise CheckpointError(
            f"{origin} has no classifier.weight, which tells the number of identities; give the whole checkpoint"
        )
    marks = ("att1.fc.0.weight", "att_s1.fc1.weight", "att_ss1.fc1.weight")
    level = max((number for number, mark in enumerate(marks, start=1) if mark in tensors), default=0)
    for number, radix in ((2, 2), (3, 4)):
        if number <= level and tensors[marks[number - 1]].shape[1] * radix != STEM_CHANNELS:
            raise CheckpointError(
                f"{origin} does not split level {number} into {radix} groups of channels, so it is no network that "
                f"ran (the released level 3 did not); give a level 0, 1 or 2 checkpoint"
            )
    options = {"level": level, "backbone": "resnet50", "last_stride": 1, "stem_relu": False}
    if marks[0] in tensors:
        options["se_hidden"] = len(tensors[marks[0]])
    return Translation("apnet", len(tensors["classifier.weight"]), options, _rename(tensors, APNET_RULES))


IMPORTERS: dict[str, Callable[[Mapping[str, Tensor], str], Translation]] = {"apnet": _apnet}
"""Released network -> reader of its state dict."""
