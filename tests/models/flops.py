"""Operations of one forward pass, counted without computing it."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def gflops(module: nn.Module, *shape: int) -> float:
    """10⁹ multiplications and additions of convolutions and matrix products for one input of that shape."""
    module = module.eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(*shape, device="meta"))
    return counter.get_total_flops() / 1e9
