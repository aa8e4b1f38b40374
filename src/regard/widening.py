"""The least precision in which sums over a whole map or batch are taken."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_float32"]


def at_least_float32(x: Tensor) -> Tensor:
    """Return half-precision numbers as float32, and float32 and float64 as they are.

    Mixed precision hands on halves where a sum or a softmax wants more; a network that somebody computes in float64
    keeps all its digits.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))
