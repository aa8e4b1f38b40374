"""What an importer of released checkpoints hands over, our names for the authors' tensors, and what became of them.

Shapes: N identities.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from regard.errors import CheckpointError
from regard.input_spec import InputSpec

__all__ = [
    "RELEASES", "ImportReport", "Translation", "check_known", "check_whole", "count_ids", "rename", "resnet_rules",
]  # fmt: skip

RESEARCH = "the weights learned from research data sets, whose terms hold for them"
"""Why the licence of a repository does not say what may be done with its weights."""

RELEASES: dict[str, tuple[str, str]] = {
    "apnet": ("CHENGY12/APNet", "MIT"),
    "daaf": ("CYFFF/PAAM_on_reid-strong-baseline", "MIT"),
    "daaf-mindspore": ("CYFFF/DAAF-Mindspore", "Apache-2.0, in the heads of its files"),
    "dsp": ("bmiftah/DSP_Person_ReID", "none found"),
    "fastreid": ("JDAI-CV/fast-reid", f"Apache-2.0 for the code; {RESEARCH}"),
    "msea": ("dulithchinthaka/person_reid_multi_scale", "none found (a fork of APNet, which is MIT)"),
    "mudeep": ("naiq/MuDeep_v2", "none found"),
    "osnet": ("KaiyangZhou/deep-person-reid", f"MIT for the code; {RESEARCH}"),
    "pcb": ("syfafterzy/PCB_RPP_for_reID", "none found"),
    "reid": ("a folder of the package reid", "Apache-2.0 for the package; the weights' own is with whoever saved them"),
    "resnet": (
        "torchvision's or timm's ResNet-50",
        "BSD-3-Clause, Apache-2.0; ImageNet's pictures are for research",
    ),
    "rga": ("microsoft/Relation-Aware-Global-Attention-Networks", "none found in what could be read"),
    "sa": ("HRanWang/Spatial-Re-Scaling", "MIT"),
    "transreid": ("damo-cv/TransReID", f"MIT for the code; {RESEARCH}"),
    "transreid-deit": ("damo-cv/TransReID", f"MIT for the code; {RESEARCH}"),
}
"""Released network -> the repository its weights were released with, and the licence of that; looked up in 2026."""


class Translation(NamedTuple):
    """A released state dict in our words.

    Attributes:
        model: registered name of the model.
        num_ids: N.
        options: of the model.
        names: name in the source -> name in our model. Where several become one, the last is what the network runs on.
        joined: name in our model -> names in the source whose tensors, one after the other along the first axis, are
            that tensor.
        size: height and width of the only pictures that the network takes, where its weights depend on them; options
            ``height`` and ``width`` of the model. One that the tensors tell in part is a line for whoever has to.
        fresh: how names of ours begin that the source does not hold, and that keep their initial values.
        made: name in our model -> a tensor that is none of the source's, and the names there of what it was made of.
        told: names in the source of what is no tensor of the network, but was read.
        seen: what the network is shown, where the tensors tell; else what its importer says.
    """

    model: str
    num_ids: int
    options: dict[str, Any]
    names: dict[str, str]
    joined: Mapping[str, Sequence[str]] = {}
    size: tuple[int, int] | str | None = None
    fresh: tuple[str, ...] = ()
    made: Mapping[str, tuple[Tensor, Sequence[str]]] = {}
    told: tuple[str, ...] = ()
    seen: InputSpec | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a released checkpoint's tensors; :func:`~regard.import_released` leaves it on the model.

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
        kinds = ("used", "unused", "missing", "conflicting")
        return f"{self.source}: {', '.join(f'{len(getattr(self, kind))} {kind}' for kind in kinds)}"


def resnet_rules(place: str) -> dict[str, str]:
    """Pattern of torchvision's names of a ResNet under ``place`` -> ours."""
    return {
        rf"{place}\.(conv1|bn1)\.": r"backbone.stages.0.\1.",
        rf"{place}\.layer(\d)\.": r"backbone.stages.\1.layer\1.",
    }


def rename(tensors: Mapping[str, Tensor], rules: Mapping[str, str]) -> dict[str, str]:
    """Source name -> our name by the rules (pattern at the start of the name -> replacement), in their order."""
    return {
        key: re.sub(pattern, replacement, key, count=1)
        for pattern, replacement in rules.items()
        for key in tensors
        if re.match(pattern, key)
    }


def check_whole(tensors: Mapping[str, Tensor], origin: str, needed: Mapping[str, str], fault: str, remedy: str) -> None:
    """Refuse a file without a tensor that every checkpoint of its network has.

    Args:
        tensors: of the file.
        origin: what to call it.
        needed: name -> what that is; empty where the name says it.
        fault: what is said of a file without one, as "is not a whole RGA checkpoint".
        remedy: what to do.

    Raises:
        CheckpointError: it lacks one.
    """
    for key, meaning in needed.items():
        if key not in tensors:
            raise CheckpointError(
                f"{origin} {fault}: it has no {key}{meaning and f' ({meaning})'}, but "
                f"{', '.join(sorted(tensors)[:3])}, …; {remedy}"
            )


def check_known(tensors: Mapping[str, Tensor], known: Collection[str], fault: str) -> None:
    """Refuse a file with tensors that no rule knows: without them it would be another network, in silence.

    Raises:
        CheckpointError: it has some.
    """
    unknown = [key for key in tensors if key not in known]
    if unknown:
        raise CheckpointError(
            f"{fault}: it has {len(unknown)} tensors that such a network has none of ({', '.join(unknown[:3])}"
            f"{', …' if unknown[3:] else ''}); give a file of a network that is read, or its ONNX export"
        )


def count_ids(tensors: Mapping[str, Tensor], origin: str) -> int:
    """N, by the rows of ``classifier.weight``.

    Raises:
        CheckpointError: there is no such tensor.
    """
    if "classifier.weight" not in tensors:
        raise CheckpointError(
            f"{origin} has no classifier.weight, which tells the number of identities; give the whole checkpoint"
        )
    return len(tensors["classifier.weight"])
