"""What an importer of released checkpoints hands over, our names for the authors' tensors, and what became of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["ImportReport", "Translation", "rename"]


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
    """

    model: str
    num_ids: int
    options: dict[str, Any]
    names: dict[str, str]
    joined: Mapping[str, Sequence[str]] = {}
    size: tuple[int, int] | str | None = None
    fresh: tuple[str, ...] = ()


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
        counts = ", ".join(
            f"{len(getattr(self, kind))} {kind}" for kind in ("used", "unused", "missing", "conflicting")
        )
        return f"{self.source}: {counts}"


def rename(tensors: Mapping[str, Tensor], rules: Mapping[str, str]) -> dict[str, str]:
    """Source name -> our name by the rules (pattern at the start of the name -> replacement), in their order."""
    names = {}
    for pattern, replacement in rules.items():
        for key in tensors:
            if re.match(pattern, key):
                names[key] = re.sub(pattern, replacement, key, count=1)
    return names
