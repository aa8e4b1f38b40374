"""Optimizer and learning-rate schedule, built from their configuration."""

from __future__ import annotations

import math
from bisect import bisect_right

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer

from regard.config import OptimConfig, ScheduleConfig
from regard.errors import ConfigError
from regard.losses import Criterion
from regard.runtime.fabric import Runtime

__all__ = ["build_criterion_optimizer", "build_optimizer", "clip_gradient", "lr_factor", "set_lr", "step_criterion"]


def build_optimizer(model: nn.Module, config: OptimConfig) -> Optimizer:
    """The optimizer over the trainable parameters of ``model``.

    Parameters are grouped by learning-rate scale (the longest prefix of ``config.lr_scale`` that fits a name wins) and
    by weight decay (none on one-dimensional parameters where ``decay_norm_and_bias`` is false).

    Raises:
        ConfigError: a prefix in ``lr_scale`` fits no parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    unused = set(config.lr_scale)
    for name, parameter in model.named_parameters():
        prefixes = [prefix for prefix in config.lr_scale if name.startswith(prefix)]
        unused -= set(prefixes)
        if not parameter.requires_grad:
            continue
        scale = config.lr_scale[max(prefixes, key=len)] if prefixes else 1.0
        decay = config.weight_decay if parameter.ndim > 1 or config.decay_norm_and_bias else 0.0
        groups.setdefault((scale, decay), []).append(parameter)
    if unused:
        tops = sorted({name.split(".")[0] for name, _ in model.named_parameters()})
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
    """Plain SGD over the losses' own parameters (the centers), at rates of their own; None where there are none.

    It has no momentum, so nothing of it has to be saved.
    """
    groups = criterion.parameter_groups()
    return torch.optim.SGD(groups) if groups else None


def clip_gradient(model: nn.Module, longest: float | None) -> Tensor:
    """Length of the gradient, a scalar that stays on the device; where it is above ``longest``, the gradient is cut."""
    if longest:
        return clip_grad_norm_(model.parameters(), longest)
    return get_total_norm([parameter.grad for parameter in model.parameters() if parameter.grad is not None])


def step_criterion(optimizer: Optimizer, runtime: Runtime) -> None:
    """Move the losses' own parameters by their gradient's mean over ranks, which keeps them equal on all."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad = runtime.mean(parameter.grad)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


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
