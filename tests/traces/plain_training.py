"""Losses, optimizers and learning rates, written from the papers one sample and one weight at a time.

Nothing of regard's losses, layers or optimizers is called, and nothing of torch.optim. :func:`train_plainly` takes the
published settings of :mod:`published` through a few steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from plain_network import NETWORKS, SHARES, Named, Weights
from torch import Tensor

from regard.structures import Batch

# ---- losses ---------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, pids: Tensor, smoothing: float, smoothing_ids: int | None = None) -> Tensor:
    """Against 1 - smoothing at the right class and smoothing / N everywhere."""
    ids = logits.shape[1]
    total = logits.new_zeros(())
    for scores, pid in zip(logits, pids):
        log_share = scores - scores.exp().sum().log()
        target = torch.full_like(scores, smoothing / (smoothing_ids or ids))
        target[pid] += 1 - smoothing
        total = total - (target * log_share).sum()
    return total / len(pids)


def triplet(
    features: Tensor, pids: Tensor, margin: float | None, normalized: bool = False, added: float = 0.0
) -> Tensor:
    """The farthest of the same person, oneself included, against the nearest of others; without margin, softly.

    ``added`` to the squares under the roots; without it they are at least 1e-12.
    """
    if normalized:
        features = features / (features**2).sum(1, keepdim=True).sqrt()
    total = features.new_zeros(())
    for anchor, pid in zip(features, pids):
        squares = ((features - anchor) ** 2).sum(1)
        distance = (squares + added if added else squares.clamp(min=1e-12)).sqrt()
        excess = distance[pids == pid].max() - distance[pids != pid].min()
        total = total + ((1 + excess.exp()).log() if margin is None else (excess + margin).clamp(min=0))
    return total / len(pids)


def center(features: Tensor, pids: Tensor, centers: Tensor) -> Tensor:
    return sum(((f - centers[pid]) ** 2).sum() for f, pid in zip(features, pids)) / len(pids)


def squared_error(
    maps: Tensor, label: tuple[Tensor, Tensor], missing: str, joints: Sequence[int] = (), white: float = 1.0
) -> Tensor:
    """Mean over all pixels; of the maps that have a label, or with those without held against zeros.

    Of some ``joints`` only, where they are named; labels run to ``white``.
    """
    wanted, valid = label
    errors = [
        ((maps[b, j] - white * wanted[b, j]) ** 2)
        for b in range(len(maps))
        for j in joints or range(maps.shape[1])
        if valid[b, j] or missing == "zero"
    ]
    return torch.stack(errors).mean()


# ---- what is published ----------------------------------------------------------------------------------------------

Seen = tuple[Named, Named, Named]
TermOf = Callable[[Seen, Batch, Tensor], Tensor]


@dataclass(frozen=True)
class Optimizer:
    """Adam, or SGD with Nesterov's momentum of 0.9; L2 decay on everything that is trained.

    Attributes:
        kind: "adam" or "sgd".
        rate, decay: as published.
        slow: beginnings of the names that learn at a tenth of the rate.
    """

    kind: str
    rate: float
    decay: float
    slow: tuple[str, ...] = ()

    def share(self, name: str) -> float:
        return 0.1 if name.startswith(self.slow) and self.slow else 1.0


@dataclass(frozen=True)
class Drawn:
    """What an epoch draws.

    Attributes:
        people, each: P and K of a batch.
        rounds: groups of K of everyone in an epoch; 0 until fewer than P have groups left, None any pictures once.
        fixed: whether those are read by person, in the same order in every epoch.
        scarce: whether who has fewer than K pictures draws with replacement ("draw"), or repeats them first ("repeat").
        distinct: whether nobody comes twice in a batch.
    """

    people: int
    each: int
    rounds: int | None = 0
    fixed: bool = False
    scarce: str = "draw"
    distinct: bool = True


@dataclass(frozen=True)
class Pictures:
    """What becomes of a training picture.

    Attributes:
        size: pixels, height and width.
        pad, enlarge: border, and factor of the size, before the random crop.
        enlarged: probability of the latter; the others are resized and not cropped.
        erasing: probability.
        area: share of the picture that is erased.
        fill: color of the hole in gray levels; None is noise, N(0, 1) after normalization.
        bicubic: how it is resized.
    """

    size: tuple[int, int]
    pad: int = 10
    enlarge: float = 1.0
    enlarged: float = 1.0
    erasing: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    fill: tuple[int, int, int] | None = (152, 142, 127)
    bicubic: bool = False


@dataclass(frozen=True)
class Training:
    """One published training.

    Attributes:
        network: of ``plain_network.NETWORKS``.
        terms: name -> weight and loss of (what the network says, batch, centers).
        optimizer: how weights move.
        factor: of the rate, by epochs done (fractional where the rate changes every step).
        epochs: in all.
        drawn, pictures: batches and augmentation.
        overrides: for the tiny network on regard's side.
        small: size of its pictures.
        centers: rate of the centers where there are any.
        shares: devices of the authors, whose batch statistics were each its own.
    """

    network: str
    terms: dict[str, tuple[float, TermOf]]
    optimizer: Optimizer
    factor: Callable[[float], float]
    epochs: int
    drawn: Drawn
    pictures: Pictures
    overrides: tuple[str, ...] = ()
    small: tuple[int, int] = (64, 32)
    centers: float | None = None
    shares: int = 1


# ---- optimizers -----------------------------------------------------------------------------------------------------

FROZEN = re.compile(r"neck\.bias$|levels\.level\d\.norm\.bias$")
"""Normalizations whose shift stays where it is."""

MOVES_ITSELF = re.compile(r"running_mean$|running_var$|num_batches_tracked$")


@dataclass
class Step:
    """What a step has come to."""

    loss: float
    terms: dict[str, float]
    gradients: dict[str, Tensor]
    rates: dict[float, float]


def move(
    optimizer: Optimizer, rate: float, w: Tensor, gradient: Tensor, memory: dict[str, Tensor], step: int
) -> Tensor:
    """The weights after a step (from 1), ``memory`` being what the optimizer keeps of this tensor."""
    gradient = gradient + optimizer.decay * w
    if optimizer.kind == "adam":
        memory["m"] = 0.9 * memory.get("m", torch.zeros_like(w)) + 0.1 * gradient
        memory["v"] = 0.999 * memory.get("v", torch.zeros_like(w)) + 0.001 * gradient**2
        first, second = memory["m"] / (1 - 0.9**step), memory["v"] / (1 - 0.999**step)
        return w - rate * first / (second.sqrt() + 1e-8)
    memory["b"] = 0.9 * memory["b"] + gradient if "b" in memory else gradient
    return w - rate * (gradient + 0.9 * memory["b"])


def train_plainly(
    training: Training,
    weights: Weights,
    centers: Tensor,
    batches: Sequence[Batch],
    randoms: Sequence[Tensor],
) -> tuple[list[Step], Weights, Tensor]:
    """Take as many steps as there are batches, one an epoch.

    Args:
        training: what is published.
        weights, centers: to start from; left alone.
        batches: normalized pictures and labels.
        randoms: state of the random generator before each step.

    Returns:
        The steps, the weights after them, the centers after them.
    """
    weights = {name: value.clone() for name, value in weights.items()}
    trained = [name for name in weights if not FROZEN.search(name) and not MOVES_ITSELF.search(name)]
    memory: dict[str, dict[str, Tensor]] = {name: {} for name in trained}
    steps = []
    SHARES.set(training.shares)
    for epoch, (batch, random) in enumerate(zip(batches, randoms)):
        torch.set_rng_state(random)
        w = weights | {name: weights[name].clone().requires_grad_() for name in trained}
        c = centers.clone().requires_grad_()
        seen = NETWORKS[training.network](w, batch.images)
        values = {name: (weight, term(seen, batch, c)) for name, (weight, term) in training.terms.items()}
        loss = sum(weight * value for weight, value in values.values())
        of_centers = [c] if training.centers else []
        found = torch.autograd.grad(loss, [*(w[name] for name in trained), *of_centers], allow_unused=True)
        gradients = {name: gradient for name, gradient in zip(trained, found) if gradient is not None}
        rate = training.optimizer.rate * training.factor(epoch)
        weights = {name: w[name].detach() for name in weights}
        for name, gradient in gradients.items():
            scaled = rate * training.optimizer.share(name)
            weights[name] = move(training.optimizer, scaled, weights[name], gradient, memory[name], epoch + 1)
        if training.centers:  # the weight of the term is taken out of their rate
            centers = centers - training.centers / training.terms["center"][0] * found[-1]
        rates = {share: rate * share for share in {training.optimizer.share(name) for name in gradients}}
        steps.append(Step(loss.item(), {n: v.item() for n, (_, v) in values.items()}, gradients, rates))
    return steps, weights, centers


# ---- learning rates -------------------------------------------------------------------------------------------------


def dropping(
    milestones: Sequence[int], by: float = 0.1, warm: int = 0, start: float = 0.01
) -> Callable[[float], float]:
    """Multiplied by ``by`` at each milestone; before ``warm`` epochs, start (1 - e / warm) + e / warm times that."""

    def factor(epoch: float) -> float:
        epoch = math.floor(epoch)
        value = by ** sum(epoch >= milestone for milestone in milestones)
        return value * (start * (1 - epoch / warm) + epoch / warm) if epoch < warm else value

    return factor


def decaying(begin: float, end: float, to: float = 0.001) -> Callable[[float], float]:
    """TriNet's: constant to ``begin``, then exponentially to ``to`` at ``end``."""

    def factor(epoch: float) -> float:
        return 1.0 if epoch <= begin else to ** ((epoch - begin) / (end - begin))

    return factor
