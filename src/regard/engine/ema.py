"""Exponential moving average of the weights (Polyak averaging)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """A running average of a model's floating-point state; other state is copied.

    Args:
        model: whose weights are averaged.
        decay: share of the old average kept at each update.

    Attributes:
        weights: state-dict name -> averaged value.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                averages.append(self.weights[name])
                values.append(value)
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averages, values, 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over saved averages."""
        for name, value in self.weights.items():
            value.copy_(weights[name])

    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights with the average; a second call undoes the first."""
        with torch.no_grad():
            for name, value in model.state_dict().items():
                kept = value.clone()
                value.copy_(self.weights[name])
                self.weights[name].copy_(kept)
