"""Differentiable exchange between ranks.

Both functions treat the loss as the sum over ranks, which is what back-propagation on every rank of a value computed
from exchanged tensors amounts to; averaging gradients afterwards (as data-parallel training does) divides by the world
size once, so that N ranks that all compute the same loss get the gradient of one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["all_gather", "all_reduce_sum"]


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over ranks of equally shaped tensors; gradients are summed over ranks on the way back."""
    return _Sum.apply(tensor)


def all_gather(tensor: Tensor) -> Tensor:
    """(B, ...) of every rank concatenated in rank order, (world * B, ...).

    Each rank gets back the gradients that all ranks have for its rows.
    """
    return _Gather.apply(tensor)


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _summed(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.rows = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        start = dist.get_rank() * ctx.rows
        return _summed(gradients[0])[start : start + ctx.rows]
