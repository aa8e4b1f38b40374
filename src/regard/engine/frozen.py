"""Parts of a network that training leaves as they are: those it is told to, and those that no loss reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from regard.errors import ConfigError, nearest
from regard.layers.batch_norm import statistics_kept
from regard.losses import Criterion, Term

__all__ = ["Frozen", "leave_unreached"]


class Frozen:
    """Takes parts of a model out of training: neither their weights nor their batch statistics move.

    Args:
        model: its parameters below ``parts`` stop asking for gradients.
        parts: names of modules or parameters, such as ``backbone.stages.0``.

    Raises:
        ConfigError: the model has no such part, or nothing would be left to train.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str]):
        self._model, self._parts = model, parts
        known = [*(name for name, _ in model.named_modules() if name), *(name for name, _ in model.named_parameters())]
        for part in parts:
            if part not in known:
                tops = ", ".join(_upper_parts(model))
                raise ConfigError(f"optim.freeze: no part {part!r}{nearest(part, known)}; the network has {tops}")
        for name, parameter in model.named_parameters():
            if any(name == part or name.startswith(f"{part}.") for part in parts):
                parameter.requires_grad_(False)
        if parts and not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigError(f"optim.freeze: {', '.join(parts)} is all there is, and nothing is left to train")

    def hold(self) -> None:
        """Put the parts into evaluation mode, in which batch statistics stay; wanted after every ``model.train()``."""
        modules = dict(self._model.named_modules()) if self._parts else {}
        for part in self._parts:
            if part in modules:
                modules[part].eval()


def leave_unreached(model: nn.Module, criterion: Criterion, height: int, width: int) -> None:
    """Take parameters out of training that no term of the criterion reaches, such as a branch whose loss is left out.

    They would not move anyway, but several processes wait for the gradient of whatever asks for one.

    Args:
        model: in training mode afterwards, its running statistics as they were.
        criterion: what its outputs go into; terms of weight 0 reach nothing.
        height, width: of its images, in pixels.
    """
    device = next(model.parameters()).device
    with statistics_kept(model):
        output = model.train()(torch.zeros(2, 3, height, width, device=device))
    terms = [term for term in criterion.terms if isinstance(term, Term) and term.weight]
    values = [value.sum() for term in terms for value in term.values(output) if value.requires_grad]
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not values or not asking:
        return
    for parameter, gradient in zip(asking, torch.autograd.grad(torch.stack(values).sum(), asking, allow_unused=True)):
        if gradient is None:
            parameter.requires_grad_(False)


def _upper_parts(model: nn.Module) -> Iterable[str]:
    """Names of the model's parts, containers of stages opened."""
    for name, child in model.named_children():
        stages = getattr(child, "stages", None)
        if isinstance(stages, nn.ModuleList):
            yield from (f"{name}.stages.{index}" for index in range(len(stages)))
        else:
            yield name
