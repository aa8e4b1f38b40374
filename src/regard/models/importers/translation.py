"""What an importer of released checkpoints hands over: our names for the authors' tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["Translation", "rename"]


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


def rename(tensors: Mapping[str, Tensor], rules: Mapping[str, str]) -> dict[str, str]:
    """Source name -> our name by the rules (pattern at the start of the name -> replacement), in their order."""
    names = {}
    for pattern, replacement in rules.items():
        for key in tensors:
            if re.match(pattern, key):
                names[key] = re.sub(pattern, replacement, key, count=1)
    return names
