"""Batch normalization over shares of a batch, over all ranks, or with its running statistics held still.

Shares: authors who trained on two GPUs with ``DataParallel`` normalized each half of the batch by its own statistics;
one device that takes the whole batch trains another network. (Hoffer, Hubara, Soudry: Train longer, generalize better,
NeurIPS 2017, arXiv 1705.08741, where it is called ghost batch normalization.) The running statistics are those of the
first share: ``DataParallel`` keeps its first device's, and data-parallel processes keep rank 0's.

Ranks: ``torch.nn.SyncBatchNorm`` runs on accelerators only; the one here is written with differentiable all-reduces and
so gives N gloo processes on a CPU the statistics, outputs and gradients of one process (Ioffe and Szegedy, 2015, over
the concatenated batch). Every rank must hold the same number of values per channel, as P x K batches do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from regard.layers.collective import all_reduce_sum
from regard.precision import at_least_float32

__all__ = ["convert_sync_batch_norm", "finish", "share_batch_norm", "statistics_kept"]


def share_batch_norm(model: nn.Module, shares: int) -> None:
    """Make every batch normalization of ``model`` take its training statistics over equal shares, in place.

    Classes change, parameters, buffers and state-dict keys stay.

    Args:
        model: whose inputs' first axis is that of the images, everywhere.
        shares: parts of the images in a row; they divide a batch.
    """
    _mix_in(model, _Shares, "Shared", shares=shares)


def convert_sync_batch_norm(model: nn.Module) -> None:
    """Make every batch normalization of ``model`` take its training statistics over all ranks, in place.

    Classes change, parameters, buffers and state-dict keys stay.
    """
    _mix_in(model, _SyncStatistics, "Sync")


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Within, training passes leave the running statistics alone, having copies to write to.

    A pass that is only repeated to have its gradients must not count a second time in the running mean and variance.
    """
    kept = [(module, dict(module._buffers)) for module in model.modules() if isinstance(module, _BatchNorm)]
    for module, buffers in kept:
        module._buffers.update({name: value if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)


def _mix_in(model: nn.Module, change: type[_BatchNorm], prefix: str, **attributes: Any) -> None:
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, change):
            kind = type(module)
            module.__class__ = type(prefix + kind.__name__, (change, kind), attributes)


def finish(norm: nn.Module, out: Tensor) -> Tensor:
    """Apply the dropout and activation of timm's fused batch-norm-and-activation layers."""
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
        """Normalize a share by its own statistics, which nothing keeps."""
        out = functional.batch_norm(share, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return finish(self, out)


class _SyncStatistics(_BatchNorm):
    """Mixed into a batch normalization: the same layer with statistics over all ranks while training."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        dims = [d for d in range(input.ndim) if d != 1]
        world = torch.distributed.get_world_size()
        x = at_least_float32(input)
        shape = [1, -1] + [1] * (input.ndim - 2)
        mean = all_reduce_sum(x.mean(dims)) / world
        variance = all_reduce_sum((x - mean.view(shape)).square().mean(dims)) / world
        self._track(mean.detach(), variance.detach(), world * input.numel() // input.shape[1])
        scale = torch.rsqrt(variance + self.eps)
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return finish(self, (x * scale.view(shape) + shift.view(shape)).to(input.dtype))

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(1, count - 1), momentum)
