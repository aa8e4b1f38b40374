"""Batch normalization over all ranks, on any device.

``torch.nn.SyncBatchNorm`` runs on accelerators only; this one is written with differentiable all-reduces and so gives
N gloo processes on a CPU the statistics, outputs and gradients of one process (Ioffe and Szegedy, 2015, over the
concatenated batch). Every rank must hold the same number of values per channel, as P x K batches do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regard.layers.batch_norm_shares import finish_norm
from regard.layers.collective import all_reduce_sum
from regard.widening import at_least_float32

__all__ = ["convert_sync_batch_norm"]


def convert_sync_batch_norm(model: nn.Module) -> None:
    """Make every batch normalization of ``model`` take its training statistics over all ranks, in place.

    Classes change, parameters, buffers and state-dict keys stay.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, _SyncStatistics):
            kind = type(module)
            module.__class__ = type(f"Sync{kind.__name__}", (_SyncStatistics, kind), {})


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
        out = (x * scale.view(shape) + shift.view(shape)).to(input.dtype)
        return finish_norm(self, out)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / max(1, count - 1), momentum)
