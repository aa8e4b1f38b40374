"""Devices, processes and precision: the only file that speaks to Lightning Fabric.

One process on one device is the ordinary case; ``devices=N`` starts N processes on this machine, and torchrun as many
as it is told to on one machine or several. Every rank runs the same code; the rules that keep N ranks equal to one are
here: batches are sharded by our own sampler (Fabric's replacement of samplers is never asked for, it breaks P x K
batches), features are gathered with their gradient, and batch statistics can be taken over all ranks.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from regard.config import Config, TrainConfig
from regard.device import choose_device, is_there, preferred_device
from regard.errors import ConfigError, RegardError
from regard.layers.batch_norm import convert_sync_batch_norm, share_batch_norm
from regard.layers.collective import all_gather
from regard.precision import resolve_precision
from regard.runtime import failure
from regard.runtime.compiled import Probation, wants_compiling
from regard.structures import Batch, Output
from regard.threads import Threads, allowed_cores, threads_are_given

__all__ = ["Network", "Runtime", "is_main_process", "own_shares"]

T = TypeVar("T")

Network = Callable[[Tensor], Output]
"""A model prepared for training: normalized images (B, 3, H, W) -> what it says."""


class Runtime:
    """Where a run takes place.

    Args:
        config: devices, accelerator, precision, seed.

    Attributes:
        rank, world_size: this process among all.
        device: where this process computes.
        is_main: whether this is rank 0, which writes.
        precision: "fp32", "tf32" or "bf16", as resolved.
    """

    def __init__(self, config: TrainConfig):
        from lightning_fabric import Fabric

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        place = choose_device(config.accelerator, "train.accelerator")
        accelerator = place.type
        devices, machines = _places(config.devices)
        several = devices * machines > 1
        if several and place.index is not None:
            raise ConfigError(
                f"{place} is one device, but {devices * machines} processes take one each; say cuda without a number, "
                "or CUDA_VISIBLE_DEVICES=NUMBERS before the command"
            )
        precision = resolve_precision(config.precision, accelerator, "train.precision")
        threads = _share_cores(devices) if several and accelerator == "cpu" else None
        self._fabric = Fabric(
            accelerator=accelerator,
            devices=devices if place.index is None else [place.index],
            num_nodes=machines,
            strategy="ddp" if several else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
        _meet_again("nccl" if accelerator == "cuda" else "gloo")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the others' stack of C++ frames when rank 0 is killed
        self._fabric.launch()
        self._channels_last = config.channels_last
        self._sync_bn = config.sync_bn
        self._shares = own_shares(config.bn_share, devices * machines)
        self._compile = config.compile
        self._network: Any = None
        self.rank: int = self._fabric.global_rank
        self.world_size: int = self._fabric.world_size
        self.device: torch.device = self._fabric.device
        self.is_main = self.rank == 0
        if self.world_size > 1:
            failure.group = failure.Group(self.rank, self.world_size)
        self.precision = precision
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        if threads:
            torch.set_num_threads(threads)

    @classmethod
    def for_scoring(cls, config: Config) -> Runtime:
        """One process on this machine to score a run in, where torchrun has not started more.

        What is of training alone does not matter here: shares of a batch, which these processes may not divide, and the
        precision and the device, which this machine may not have (how descriptors are computed is said where they are,
        see :func:`regard.evaluation.embed.products_of`). A preferred device is taken before the run's.
        """
        trained = config.train.accelerator
        device = preferred_device() or (trained if trained == "auto" or is_there(trained) else "auto")
        changes = {"devices": 1, "precision": "fp32", "bn_share": 1, "accelerator": device}
        return cls(config.train.model_copy(update=changes))

    def threads(self) -> Threads:
        """The choice of the number of threads to train with: measured where one process computes on the CPU."""
        return Threads(measured=self.device.type == "cpu" and self.world_size == 1, afresh=True)

    def setup(self, model: nn.Module, optimizer: Optimizer) -> tuple[Network, Optimizer]:
        """Move the model to the device and prepare both for training; ``model`` itself stays the unwrapped module.

        Returns:
            What to call instead of the model while training, and the optimizer to step.
        """
        if self._sync_bn and self.world_size > 1:
            convert_sync_batch_norm(model)
        if self._shares > 1:
            share_batch_norm(model, self._shares)
        if self._channels_last:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if not wants_compiling(self._compile, self.device):
            self._network, optimizer = self._fabric.setup(model, optimizer)
            return self._network, optimizer
        self._network, optimizer = self._fabric.setup(cast(nn.Module, torch.compile(model)), optimizer)
        return Probation(self._network, model, self.any, self._uncompile), optimizer

    def _uncompile(self) -> None:
        """Make the network run as it was written."""
        self._network._forward_module = self._network._forward_module._orig_mod

    def to_device(self, batch: Batch) -> Batch:
        """The batch on the device, its images in the memory format of the model."""
        batch = self._fabric.to_device(batch)
        if not self._channels_last:
            return batch
        return batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))

    def on_device(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches on the device; CUDA copies one while it still computes with the one before.

        The program runs ahead of the device, so the copy of the next batch is asked for long before it is needed. On a
        stream of its own it does not stand in line behind that computation.
        """
        if self.device.type != "cuda":
            yield from map(self.to_device, batches)
            return
        copying = torch.cuda.Stream(self.device)
        for batch in batches:
            with torch.cuda.stream(copying):
                batch = self.to_device(batch)
            computing = torch.cuda.current_stream(self.device)
            computing.wait_stream(copying)
            for tensor in tree_leaves(tuple(batch)):
                if isinstance(tensor, Tensor):
                    tensor.record_stream(computing)  # so that its memory is not given away before
            yield batch

    def backward(self, loss: Tensor) -> None:
        """Back-propagate, averaging gradients over ranks."""
        self._fabric.backward(loss)

    def summing(self, *, apart: bool) -> AbstractContextManager[Any]:
        """Context in which gradients add up on each rank ``apart``, to be averaged by the next backward pass."""
        if self.world_size == 1:
            return nullcontext()
        return self._fabric.no_backward_sync(self._network, enabled=apart)

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

    def any(self, flag: bool) -> bool:  # noqa: FBT001
        """Whether the flag is set on at least one rank."""
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def collect(self, state: Tensor) -> list[Tensor]:
        """One equal-shaped tensor of every rank, in rank order, on the CPU."""
        if self.world_size == 1:
            return [state.cpu()]
        return list(all_gather(state.to(self.device)).cpu().chunk(self.world_size))

    def align_buffers(self, model: nn.Module) -> None:
        """Give every rank the buffers of rank 0: running statistics differ between ranks after a step."""
        if self.world_size > 1:
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def broadcast(self, value: T) -> T:
        """Rank 0's value on every rank."""
        return self._fabric.broadcast(value) if self.world_size > 1 else value

    def on_main(self, action: Callable[[], Any]) -> None:
        """Do something on rank 0 alone while the others wait; where it fails, it fails on all.

        Raises:
            Exception: on rank 0 whatever ``action`` raises, on others a RegardError of the same words.
        """
        fault: Exception | None = None
        if self.is_main:
            try:
                action()
            except Exception as error:
                if self.world_size == 1:
                    raise
                fault = error
        said = self.broadcast(fault and (str(fault) or type(fault).__name__))
        if said:
            raise fault or RegardError(said)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            self._fabric.barrier()

    def close(self) -> None:
        """Leave the process group; where that is because of an error, say so to the others first."""
        if self.world_size > 1 and failure.group:
            failure.group.note(sys.exc_info()[1])
        if self.world_size > 1 and torch.distributed.is_initialized():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.distributed.destroy_process_group()


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes: among several, rank 0 alone."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def _places(devices: int) -> tuple[int, int]:
    """Processes on a machine, and machines: as torchrun has started them, else ``devices`` on this one."""
    if not torch.distributed.is_torchelastic_launched():
        return devices, 1
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def own_shares(shares: int, processes: int) -> int:
    """Shares of a batch's statistics that each of the processes takes.

    Raises:
        ConfigError: a share would be of several processes.
    """
    if shares > 1 and shares % processes:
        raise ConfigError(
            f"train.bn_share is {shares}, which {processes} processes cannot divide among them; choose a multiple of "
            f"{processes}, fewer processes, or leave it out"
        )
    return max(1, shares // processes)


def _share_cores(devices: int) -> int | None:
    """Threads of each of several processes on this machine's cores; None where the caller has given their number.

    The processes that Fabric starts find it in their environment.
    """
    if threads_are_given():
        return None
    threads = max(1, allowed_cores() // devices)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    return threads


def _meet_again(backend: str) -> None:
    """Make the process group of a restart by torchrun.

    The store that its processes find one another by still holds the addresses of those that were ended, so each restart
    uses a part of it that is its own. On several machines their numbers of restarts may differ; there torch is left
    to itself.
    """
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restart == "0" or not 1 < int(os.environ["WORLD_SIZE"]) == int(os.environ["LOCAL_WORLD_SIZE"]):
        return
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://"))
    store = PrefixStore(f"restart{restart}", store)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
