"""What a branch of a network is to predict, and where that is known.

Shapes: B images in a batch, N maps, h x w pixels of the maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Target", "stack_targets"]


class Target(NamedTuple):
    """An entry of ``Batch.extra``.

    Attributes:
        maps: (B, N, h, w) float16 from 0 to 1; 0 where nothing is known.
        valid: (B, N, 1, 1) or (B, N, h, w) bool, where the label is known.
    """

    maps: Tensor
    valid: Tensor


def stack_targets(pictures: Sequence[Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> dict[str, Target]:
    """Targets of a batch from those of its pictures, each (N, h, w) maps with their flags."""
    return {
        name: Target(*(torch.from_numpy(np.stack([labels[name][part] for labels in pictures])) for part in (0, 1)))
        for name in (pictures[0] if pictures else ())
    }
