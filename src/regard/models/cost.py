"""What a model costs: parameters, and operations of one forward pass."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from regard.models.contract import ReIDModel

__all__ = ["Cost", "count_gflops", "inference_cost"]


class Cost(NamedTuple):
    """Cost of a model.

    Attributes:
        parameters: of the whole network, as it trains.
        inference_parameters: of what is left after ``strip()``.
        gflops: 10⁹ multiplications and additions of convolutions and matrix products for one image, after ``strip()``.
    """

    parameters: int
    inference_parameters: int
    gflops: float


def count_gflops(module: nn.Module, *shape: int, device: str = "meta") -> float:
    """10⁹ multiplications and additions of convolutions and matrix products for one input of that shape.

    A multiply-add counts as two, element-wise work as nothing. The module is set to evaluation mode and moved to
    ``device``; on the meta device nothing is computed, but the module loses its values.
    """
    module = module.eval().to(device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(*shape, device=device))
    return counter.get_total_flops() / 1e9


def inference_cost(model: ReIDModel, height: int, width: int) -> Cost:
    """Cost of ``model`` on one image of height x width pixels; the model stays as it is."""
    bare = copy.deepcopy(model).strip()
    return Cost(_parameters(model), _parameters(bare), count_gflops(bare, 1, 3, height, width, device="cpu"))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
