"""Devices, processes and precision: the only file that speaks to Lightning Fabric.

One process on one device is the ordinary case; ``devices=N`` starts N processes on this machine, and torchrun as many
as it is told to on one machine or several. Every rank runs the same code; the rules that keep N ranks equal to one are
here: batches are sharded by our own sampler (Fabric's replacement of samplers is never asked for, it breaks P x K
batches), features are gathered with their gradient, and batch statistics can be taken over all ranks.

``torch.compile`` has a way back (:class:`Probation`): compilers fail where networks do not.

Shapes: B images in a batch, H x W pixels.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from regard.structures import Batch, Output
from regard.threads import Threads, allowed_cores, threads_are_given

__all__ = [
    "Network", "Probation", "Runtime", "is_main_process", "own_shares", "random_state", "set_random_state",
    "wants_compiling",
]  # fmt: skip

T = TypeVar("T")

Network = Callable[..., Output]
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
        devices, machines = _process_layout(config.devices)
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
        _rejoin_after_restart("nccl" if accelerator == "cuda" else "gloo")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the others' stack of C++ frames when rank 0 is killed
        self._fabric.launch()
        self._config = config
        self._shares = own_shares(config.bn_share, devices * machines)
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
        if self._config.sync_bn and self.world_size > 1:
            convert_sync_batch_norm(model)
        if self._shares > 1:
            share_batch_norm(model, self._shares)
        if self._config.channels_last:
            model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if not wants_compiling(self._config.compile, self.device):
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
        if not self._config.channels_last:
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

    def no_sync(self, *, wanted: bool) -> AbstractContextManager[Any]:
        """Context in which gradients, where that is ``wanted``, add up on each rank until a backward pass outside."""
        return self._fabric.no_backward_sync(self._network, enabled=wanted) if self.world_size > 1 else nullcontext()

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

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let rank 0 go through a block before the others, which find what it has made there."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

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


def _process_layout(devices: int) -> tuple[int, int]:
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


def _rejoin_after_restart(backend: str) -> None:
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


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State by kind, "cpu" and perhaps "cuda": uint8 vectors in the memory of the CPU."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Draw from here on as after :func:`random_state`; a kind that is missing stays as it is."""
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def wants_compiling(setting: bool | str, device: torch.device) -> bool:  # noqa: FBT001
    """What ``train.compile`` means on a device: "auto" compiles on CUDA, where kernels wait for memory."""
    return device.type == "cuda" if setting == "auto" else bool(setting)


class Probation:
    """Calls a compiled network and, where that fails, the network itself from then on.

    There is no C++ compiler, a layer is too new, a cache folder cannot be written: until the first pass with gradients
    is through, whatever is raised, the network itself is asked instead, as if nothing had happened, and one line says
    so. An error of the network itself comes up again there.

    Args:
        network: what to call; compiled.
        model: the module whose buffers and random draws a failed call may have touched.
        agree: whether any rank has failed, so that all give up together.
        give_up: makes ``network`` call the uncompiled one.
    """

    def __init__(self, network: nn.Module, model: nn.Module, agree: Callable[[bool], bool], give_up: Callable[[], Any]):
        self.network, self.model, self.agree, self.give_up = network, model, agree, give_up
        self.passed = False

    def __call__(self, images: Tensor) -> Output:
        """The network's answer to normalized images (B, 3, H, W)."""
        if self.passed:
            return self.network(images)
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        state = random_state(images.device)
        output, reason = None, "it failed on another rank"
        try:
            output = self.network(images)
        except Exception as error:  # dynamo, its backends and compilers each raise their own kinds
            reason = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
        if not self.agree(output is None):
            assert output is not None
            self.passed = torch.is_grad_enabled()
            return output
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)
        set_random_state(state, images.device)
        self.give_up()
        self.passed = True
        print(
            f"regard: train.compile: the network could not be compiled, so it runs as it is ({reason}); "
            "train.compile=false asks for that",
            file=sys.stderr,
        )
        return self.network(images)
