"""Stages one after the other, where what goes on may be more than a map, and the blocks in them.

Shapes: B images, C channels, h x w positions.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

__all__ = ["Row", "blocks", "passed"]


def passed(stage: nn.Module, x: Tensor, beside: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The map (B, C, h, w) after a stage, and what goes to the next one beside it: tokens of no place, coarser maps.

    Args:
        stage: takes the map and what is beside it, and returns the same; a map alone where there is no more.
        x: the map.
        beside: what is beside it.
    """
    answer = stage(x, *beside)
    return (answer[0], answer[1:]) if isinstance(answer, tuple) else (answer, ())


class Row(nn.Sequential):
    """Stages in a row that give the last map."""

    def forward(self, input: Tensor, *beside: Tensor) -> Tensor:
        """(B, C, h, w), and what is beside it, -> (B, C', h', w')."""
        for stage in self:
            input, beside = passed(stage, input, beside)
        return input


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Units with several layers of weights: containers are opened, as are timm's stages, which have ``blocks``."""
    if getattr(module, "in_one_piece", False):
        return
    for child in module.children():
        inside = getattr(child, "blocks", child)
        if isinstance(inside, nn.Sequential):
            yield from blocks(inside)
        elif sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in child.modules()) > 1:
            yield child
