"""Three steps of regard's own training loop in float64, from given weights on given batches, watched as they happen.

Everything between a batch and the weights after it is regard's: the configuration, the network, the criterion, the
optimizers, :func:`regard.engine.train.train` and its TrainStep. Only the pictures are replaced, and the numbers the
training starts from; where it would begin a fourth epoch, it is stopped.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from regard.config import Config
from regard.data import load_dataset
from regard.engine import train as engine
from regard.engine.step import TrainStep
from regard.recipes import read_recipe
from regard.run_folder.folders import read_history
from regard.runtime.fabric import Runtime
from regard.structures import Batch

IDS = 6
STEPS = 3
TINY = (
    "model.backbone=test_resnet.r160_in1k", "model.pretrained=false", "train.accelerator=cpu",
    "train.precision=fp32", "train.channels_last=false", "train.log_every=1",
)  # fmt: skip


class Enough(BaseException):
    """Ends a training that would go on for a hundred epochs."""


@dataclass
class Trace:
    """What regard's training did.

    Attributes:
        start, end: weights before the first step and after the last, by name.
        centers: before and after, where there are any.
        randoms: state of the random generator before every step.
        losses, terms, gradients: of every step.
        rates: of every step, the rate of every parameter that is trained.
        logged: the records of metrics.jsonl.
    """

    start: dict[str, Tensor] = field(default_factory=dict)
    end: dict[str, Tensor] = field(default_factory=dict)
    centers: list[Tensor] = field(default_factory=list)
    randoms: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    terms: list[dict[str, float]] = field(default_factory=list)
    gradients: list[dict[str, Tensor]] = field(default_factory=list)
    rates: list[dict[str, float]] = field(default_factory=list)
    logged: list[dict[str, Any]] = field(default_factory=list)


def configuration(recipe: str, overrides: Sequence[str], size: tuple[int, int]) -> Config:
    """The recipe on the tiny trunk and small pictures, all else as it says."""
    tall, wide = size
    small = (f"data.height={tall}", f"data.width={wide}")
    return read_recipe(recipe).config([*TINY, *small, *overrides])


def filled(name: str, tensor: Tensor) -> Tensor:
    """Numbers that follow from a tensor's name and shape: none is zero, so that every branch and gate counts."""
    if name.endswith("num_batches_tracked"):
        return tensor
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    u = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
    leaf = name.rsplit(".", 1)[-1]
    if tensor.ndim > 1:
        return (2 * u - 1) * (3 / tensor[0].numel()) ** 0.5
    if leaf in ("weight", "running_var", "alpha") or name.startswith("gamma."):
        return 0.5 + u
    return u - 0.5


def batches(config: Config, seed: int) -> list[Batch]:
    """Three batches of four people with two pictures each, normalized, with masks and joints where those are learned.

    A sixth of the labels is missing.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    height, width = config.data.height, config.data.width
    label = height // config.data.label_stride, width // config.data.label_stride
    made = []
    for _ in range(STEPS):
        pids = torch.randperm(IDS, generator=generator)[:4].repeat_interleave(2)
        extra: dict[str, Any] = {}
        for kind, count in (("mask", 1), ("keypoints", 17)):
            if kind in config.data.labels:
                extra[kind] = (draw(8, count, *label), draw(8, count, 1, 1) > 1 / 6)
        made.append(Batch(4 * draw(8, 3, height, width) - 2, pids, torch.zeros_like(pids), extra))
    return made


class Fixed:
    """A loader of one given batch an epoch."""

    def __init__(self, batches: Sequence[Batch]):
        self.batches, self.epoch, self.batch_sampler = batches, 0, self

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        if self.epoch == len(self.batches):
            raise Enough
        yield self.batches[self.epoch]


def run(config: Config, given: Sequence[Batch], market: Path, folder: Path) -> Trace:
    """Train for as many epochs as there are batches.

    Args:
        config: as the recipe has it.
        given: one batch per epoch.
        market: some small data set, for what looks at the pictures before and after training.
        folder: of the run.
    """
    trace = Trace()
    build, states = engine.build_state, []

    def start(*arguments: Any) -> Any:
        state, *others = build(*arguments)
        state.model.double()
        state.criterion.double()
        with torch.no_grad():
            for name, tensor in [*state.model.state_dict().items(), *state.criterion.state_dict().items()]:
                tensor.copy_(filled(name, tensor))
        states.append(state)
        trace.start = kept(state.model)
        trace.centers = [value.detach().clone() for value in state.criterion.parameters()]
        return state, *others

    class Watched(TrainStep):
        def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            (state,) = states
            names = {id(parameter): name for name, parameter in state.model.named_parameters()}
            groups = state.optimizer.param_groups
            trace.rates.append({names[id(p)]: group["lr"] for group in groups for p in group["params"]})
            trace.randoms.append(torch.get_rng_state())
            loss, terms = super().__call__(batch)
            trace.losses.append(loss.item())
            trace.terms.append({name: value.item() for name, value in terms.items()})
            trace.gradients.append(
                {name: p.grad.clone() for name, p in state.model.named_parameters() if p.grad is not None}
            )
            return loss, terms

    with (
        patch.object(engine, "build_loader", lambda *_: Fixed(given)),
        patch.object(engine, "build_state", start),
        patch.object(engine, "TrainStep", Watched),
        patch.object(engine, "save_state", lambda *_: None),
        contextlib.suppress(Enough),
    ):
        engine.train(config, load_dataset("market1501", market), folder, Runtime(config.train), quiet=True)
    (state,) = states
    trace.end = kept(state.model)
    trace.centers += [value.detach().clone() for value in state.criterion.parameters()]
    trace.logged = read_history(folder)
    return trace


def kept(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
