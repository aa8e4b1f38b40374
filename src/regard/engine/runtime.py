"""Devices, processes and precision: the only file that speaks to Lightning Fabric.

One process on one device is the ordinary case; ``devices=N`` starts N processes on this machine and torchrun starts
them on several. Every rank runs the same code; the rules that keep N ranks equal to one are here: batches are sharded
by our own sampler (Fabric's replacement of samplers is never asked for, it breaks P x K batches), features are gathered
with their gradient, and batch statistics can be taken over all ranks.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regard.config import TrainConfig
from regard.errors import ConfigError
from regard.layers.collective import all_gather
from regard.layers.sync_batch_norm import convert_sync_batch_norm
from regard.structures import Batch

__all__ = ["Runtime"]

T = TypeVar("T")


class Runtime:
    """Where a run takes place.

    Args:
        config: devices, accelerator, precision, seed.

    Attributes:
        rank, world_size: this process among all.
        device: where this process computes.
        is_main: whether this is rank 0, which writes.
        precision: "fp32" or "bf16", as resolved.
    """

    def __init__(self, config: TrainConfig):
        from lightning_fabric import Fabric

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        accelerator = _accelerator(config.accelerator)
        several = config.devices > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1
        precision = _precision(config.precision, accelerator)
        self._fabric = Fabric(
            accelerator=accelerator,
            devices=config.devices,
            strategy="ddp" if several else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
        self._fabric.launch()
        self._channels_last = config.channels_last
        self._sync_bn = config.sync_bn
        self.rank: int = self._fabric.global_rank
        self.world_size: int = self._fabric.world_size
        self.device: torch.device = self._fabric.device
        self.is_main = self.rank == 0
        self.precision = precision
        if several and accelerator == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // config.devices))

    def setup(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Move the model to the device and wrap both for this runtime; ``model`` itself stays the unwrapped one."""
        if self._sync_bn and self.world_size > 1:
            convert_sync_batch_norm(model)
        if self._channels_last:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        wrapped, optimizer = self._fabric.setup(model, optimizer)
        return wrapped, optimizer

    def to_device(self, batch: Batch) -> Batch:
        """The batch on the device, its images in the memory format of the model."""
        batch = self._fabric.to_device(batch)
        if not self._channels_last:
            return batch
        return batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))

    def autocast(self) -> Any:
        """Context in which a bare model computes in this runtime's precision."""
        return self._fabric.autocast()

    def backward(self, loss: Tensor) -> None:
        """Back-propagate, averaging gradients over ranks."""
        self._fabric.backward(loss)

    def gather(self, tensor: Tensor) -> Tensor:
        """(B, ...) of every rank concatenated in rank order, (world * B, ...); differentiable where floating."""
        return tensor if self.world_size == 1 else all_gather(tensor)

    def mean(self, tensor: Tensor) -> Tensor:
        """Element-wise mean over ranks, without gradient."""
        if self.world_size == 1:
            return tensor
        reduced = self._fabric.all_reduce(tensor, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        return reduced

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def gather_states(self, state: Tensor) -> list[Tensor]:
        """One equal-shaped tensor of every rank, in rank order, on the CPU."""
        if self.world_size == 1:
            return [state.cpu()]
        return list(all_gather(state.to(self.device)).cpu().chunk(self.world_size))

    def broadcast(self, value: T) -> T:
        """Rank 0's value on every rank."""
        return self._fabric.broadcast(value) if self.world_size > 1 else value

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            self._fabric.barrier()

    def close(self) -> None:
        """Leave the process group."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.distributed.destroy_process_group()


def _precision(name: str, accelerator: str) -> str:
    """bf16 where the hardware multiplies in it: CUDA, and CPUs with AVX-512 BF16 or AMX."""
    if name != "auto":
        return name
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if accelerator == "cuda" or (accelerator == "cpu" and native()) else "fp32"


def _accelerator(name: str) -> str:
    found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "auto":
        return found
    if name in ("cuda", "mps") and name != found:
        raise ConfigError(f"train.accelerator is {name!r}, but torch sees no such device here; use auto or cpu")
    return name
