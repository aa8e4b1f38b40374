"""Parts of a network that training leaves as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from regard.errors import ConfigError, nearest

__all__ = ["Frozen"]


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


def _upper_parts(model: nn.Module) -> Iterable[str]:
    """Names of the model's parts, containers of stages opened."""
    for name, child in model.named_children():
        stages = getattr(child, "stages", None)
        if isinstance(stages, nn.ModuleList):
            yield from (f"{name}.stages.{index}" for index in range(len(stages)))
        else:
            yield name
