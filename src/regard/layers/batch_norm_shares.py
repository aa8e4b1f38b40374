"""Batch normalization over equal shares of a batch, as that many devices without synchronization would take it.

Authors who trained on two GPUs with ``DataParallel`` normalized each half of the batch by its own statistics; one
device that takes the whole batch trains another network. (Hoffer, Hubara, Soudry: Train longer, generalize better,
NeurIPS 2017, arXiv 1705.08741, where it is called ghost batch normalization.)

The running statistics are those of the first share: ``DataParallel`` keeps its first device's, and data-parallel
processes keep rank 0's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["finish_norm", "share_batch_norm"]


def share_batch_norm(model: nn.Module, shares: int) -> None:
    """Make every batch normalization of ``model`` take its training statistics over equal shares, in place.

    Classes change, parameters, buffers and state-dict keys stay.

    Args:
        model: whose inputs' first axis is that of the images, everywhere.
        shares: parts of the images in a row; they divide a batch.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, _Shares):
            kind = type(module)
            module.__class__ = type(f"Shared{kind.__name__}", (_Shares, kind), {"shares": shares})


def finish_norm(norm: nn.Module, out: Tensor) -> Tensor:
    """Dropout and activation of timm's fused batch-norm-and-activation layers."""
    for name in ("drop", "act"):
        if isinstance(layer := getattr(norm, name, None), nn.Module):
            out = layer(out)
    return out


class _Shares(_BatchNorm):
    """Mixed into a batch normalization: the same layer with statistics over shares while training."""

    shares: int

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        first, *others = input.chunk(self.shares)
        return torch.cat([super().forward(first), *map(self._normalize, others)])

    def _normalize(self, share: Tensor) -> Tensor:
        """A share by its own statistics, which nothing keeps."""
        return finish_norm(
            self, functional.batch_norm(share, None, None, self.weight, self.bias, training=True, eps=self.eps)
        )
