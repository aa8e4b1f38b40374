"""One training step: forward pass, losses, backward pass, in one piece or in several; then the optimizer, at its rate.

A batch that does not fit into memory cannot be cut for the triplet loss, which looks for the hardest pairs of the whole
batch. It can for the network, which looks at one image at a time: first all pieces pass without keeping anything but
their outputs, then the losses are taken of all outputs at once and give every output its gradient, then each piece
passes again and takes its outputs' gradient back through the network. (L. Gao, Y. Zhang, J. Han, J. Callan: Scaling
Deep Contrastive Learning Batch Size under Memory Limited Setup, RepL4NLP 2021, arXiv 2101.06983.) Loss and gradients
are those of the whole batch, for one more forward pass. What mixes images is the exception: batch normalization takes
its statistics over a piece.

Shapes: B images in a batch, H x W pixels.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer

from regard.config import Config, OptimConfig, ScheduleConfig
from regard.data.transforms import normalize
from regard.errors import ConfigError
from regard.input_spec import InputSpec
from regard.layers.batch_norm import statistics_kept
from regard.losses import Criterion, Term
from regard.losses.criterion import EMBEDDING
from regard.runtime.fabric import Network, Runtime, random_state, set_random_state
from regard.storage import encode_text, write_atomic
from regard.structures import Batch, Output
from regard.threads import Threads
from regard.wording import count

__all__ = [
    "StepTimer", "TrainStep", "build_criterion_optimizer", "build_optimizer", "check_pieces", "clip_gradient",
    "lr_factor", "set_lr",
]  # fmt: skip

KINDS = ("features", "logits", "maps")

Named = dict[tuple[str, str], Tensor]
"""Outputs by kind and name."""

WARM_UP = 3
"""Steps that no timer counts: caches fill, algorithms are chosen, networks are compiled."""


def check_pieces(config: Config, runtime: Runtime) -> int:
    """The number of pieces that a rank's batch is cut into.

    Raises:
        ConfigError: they would be unequal, or hold a single image, which has no batch statistics.
    """
    pieces = config.train.accumulate
    images = config.data.ids_per_batch * config.data.images_per_id // runtime.world_size
    if pieces > 1 and (images % pieces or images < 2 * pieces):
        raise ConfigError(
            f"train.accumulate is {pieces}, but a process has {images} images in a batch, which do not make {pieces} "
            "equal pieces of at least two; choose a divisor"
        )
    return pieces


@dataclass(eq=False)
class TrainStep:
    """Gives the network's parameters the gradients of a batch.

    Attributes:
        network: the model as prepared by the runtime.
        model: the unwrapped module.
        criterion: the losses.
        runtime: device and ranks.
        pieces: passes that a batch is cut into; divides its length.
        timer: takes the time.
    """

    network: Network
    model: nn.Module
    criterion: Criterion
    runtime: Runtime
    pieces: int
    timer: StepTimer = field(kw_only=True)

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and terms of a batch on the device, as of :class:`~regard.losses.Criterion`; gradients are added."""
        if self.pieces > 1:
            return self._in_pieces(batch)
        output = self._answer(batch.images, batch.camids)
        self.timer("forward")
        return self._losses(output, batch)

    def _answer(self, images: Tensor, camids: Tensor) -> Output:
        """What the network says of pictures, of which it is told the camera where it asks for it."""
        seen: InputSpec = getattr(self.model, "input", None) or InputSpec()
        told = (camids,) if getattr(self.model, "sees_cameras", False) else ()
        return self.network(normalize(images, seen.mean, seen.std), *told)

    def _losses(self, output: Output, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the losses of the batch's output, and their gradients."""
        loss, terms = self.criterion(output, batch, self.runtime.gather if self.runtime.world_size > 1 else None)
        self.timer("losses")
        self.runtime.backward(loss)
        for parameter in self.criterion.parameters():  # mean over ranks, which keeps them equal on all
            if parameter.grad is not None:
                parameter.grad = self.runtime.mean(parameter.grad)
        self.timer("backward")
        return loss, terms

    def _in_pieces(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        pieces = list(zip(batch.images.chunk(self.pieces), batch.camids.chunk(self.pieces)))
        states, embeddings, parts = [], [], []
        with torch.no_grad():
            for piece in pieces:
                states.append(random_state(piece[0].device))
                output = self._answer(*piece)
                embeddings.append(output.embedding)
                parts.append(self._wanted(output))
        self.timer("forward")
        whole = {key: torch.cat([part[key] for part in parts]).requires_grad_() for key in parts[0]}
        loss, terms = self._losses(_output(torch.cat(embeddings), whole), batch)
        gradients = {key: value.grad.chunk(self.pieces) for key, value in whole.items() if value.grad is not None}
        with statistics_kept(self.model):
            for number, (piece, state) in enumerate(zip(pieces, states)):
                set_random_state(state, piece[0].device)
                with self.runtime.no_sync(wanted=number < self.pieces - 1):
                    part = self._wanted(self._answer(*piece))
                    products = [(part[key] * gradient[number]).sum() for key, gradient in gradients.items()]
                    self.runtime.backward(torch.stack(products).sum())
        self.timer("backward")
        return loss, terms

    def _wanted(self, output: Output) -> Named:
        """The outputs that the losses look at."""
        terms = [term for term in self.criterion.terms if isinstance(term, Term)]
        seen = {id(value) for term in terms for value in term.values(output)}
        named = {(kind, name): value for kind in KINDS for name, value in getattr(output, kind).items()}
        named[EMBEDDING, ""] = output.embedding
        return {key: value for key, value in named.items() if id(value) in seen}


def _output(embedding: Tensor, values: Named) -> Output:
    """The output with these values."""
    kinds = ({name: value for (kind, name), value in values.items() if kind == wanted} for wanted in KINDS)
    return Output(values.get((EMBEDDING, ""), embedding), *kinds)


class StepTimer:
    """Times the parts of some training steps and leaves a table, ``profile.txt``, in the run's folder.

    A device computes behind the program's back, so while the steps are timed the program waits for it after every part,
    which makes them slower than others. Before and after, and where no steps are asked for, nothing is waited for.

    Args:
        folder: the run's folder.
        steps: how many to time, after the first :data:`WARM_UP` and those that try numbers of threads; 0 for none.
        device: where the training computes.
    """

    def __init__(self, folder: Path, steps: int, device: torch.device):
        self._path, self._steps, self._device = folder / "profile.txt", steps, device
        self._seconds: dict[str, float] = {}
        self._done = -WARM_UP
        self._clock = 0.0

    def __call__(self, part: str) -> None:
        """Book the time since the last call under a name."""
        if not 0 <= self._done < self._steps:
            return
        now = self._now()
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._clock
        self._clock = now

    def finish_step(self, threads: Threads) -> None:
        """A step is over; after the last one that is timed, write the table, and what was found about threads."""
        if self._done == -1 and not threads.settled:
            return
        self._done += 1
        if self._steps and self._done == 0:
            self._clock = self._now()
        if self._steps and self._done == self._steps:
            write_atomic(self._path, encode_text(f"{self.table()}threads: {threads}\n"))

    def table(self) -> str:
        """Milliseconds of a step and share of the whole, by part."""
        total = sum(self._seconds.values())
        rows = [*self._seconds.items(), ("step", total)]
        lines = [f"{name:<12}{1000 * s / self._steps:>10.2f} ms{100 * s / total:>7.1f} %" for name, s in rows]
        return "\n".join([f"mean of {count(self._steps, 'step')} on {self._device}", *lines, ""])

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def build_optimizer(model: nn.Module, config: OptimConfig, criterion: Criterion | None = None) -> Optimizer:
    """The optimizer over the trainable parameters of ``model``, and those of the losses that learn with it.

    Parameters are grouped by learning-rate scale (the longest prefix of ``config.lr_scale`` that fits a name wins) and
    by weight decay (none on one-dimensional parameters where ``decay_norm_and_bias`` is false).

    Raises:
        ConfigError: a prefix in ``lr_scale`` fits no parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    unused = set(config.lr_scale)
    named = dict(model.named_parameters()) | (criterion.shared_parameters() if criterion else {})
    for name, parameter in named.items():
        prefixes = [prefix for prefix in config.lr_scale if name.startswith(prefix)]
        unused -= set(prefixes)
        if not parameter.requires_grad:
            continue
        scale = config.lr_scale[max(prefixes, key=len)] if prefixes else 1.0
        decay = config.weight_decay if parameter.ndim > 1 or config.decay_norm_and_bias else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    if unused:
        tops = sorted({name.split(".")[0] for name in named})
        raise ConfigError(
            f"optim.lr_scale: no parameter starts with {sorted(unused)[0]!r}; the model has {', '.join(tops)}"
        )
    arguments = [
        {"params": parameters, "lr": config.lr * scale, "weight_decay": decay, "base_lr": config.lr * scale}
        for (scale, decay), parameters in groups.items()
    ]
    fused = config.fused or None  # None leaves it to torch, whose choices agree to the last bit
    if config.name == "sgd":
        return torch.optim.SGD(arguments, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return kind(arguments, betas=config.betas, fused=fused)


def build_criterion_optimizer(criterion: Criterion) -> Optimizer | None:
    """Plain SGD over the parameters of losses that have a rate of their own (the centers); None where there are none.

    It has no momentum, so nothing of it has to be saved.
    """
    groups = criterion.parameter_groups()
    return torch.optim.SGD(groups) if groups else None


def clip_gradient(model: nn.Module, criterion: Criterion, longest: float | None) -> Tensor:
    """Length of the gradient of what the optimizer moves, a scalar on the device; cut where it is above ``longest``."""
    parameters = [*model.parameters(), *criterion.shared_parameters().values()]
    if longest:
        return clip_grad_norm_(parameters, longest)
    return get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])


def lr_factor(config: ScheduleConfig, epoch: float, epochs: int) -> float:
    """Factor on the base learning rate at a point of training.

    Warm-up is linear, start * (1 - e/w) + e/w for e < w (APNet's and the strong baselines' formula), and multiplies
    what the schedule itself says, so that a milestone inside the warm-up counts. The exponential decay is
    TriNet's (Hermans, Beyer, Leibe 2017, arXiv 1703.07737): 1 until ``start``, then
    end ** ((e - start) / (epochs - start)).

    Args:
        config: the schedule.
        epoch: epochs done so far, fractional where the rate changes every step.
        epochs: epochs in all.
    """
    if config.per == "epoch":
        epoch = math.floor(epoch)
    factor = 1.0
    if config.name == "step":
        factor = config.gamma ** bisect_right(config.milestones, epoch)
    elif config.name == "cosine":
        factor = config.end + (1 - config.end) * (1 + math.cos(math.pi * min(epoch / epochs, 1.0))) / 2
    elif config.name == "exponential" and epoch > config.start:
        factor = config.end ** min((epoch - config.start) / (epochs - config.start), 1.0)
    if epoch < config.warmup_epochs:
        done = epoch / config.warmup_epochs
        factor *= config.warmup_start * (1 - done) + done
    return factor


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Set every group's rate to ``factor`` times its base rate; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimizer.param_groups[0]["lr"]
