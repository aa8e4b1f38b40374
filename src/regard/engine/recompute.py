"""Gradient checkpointing: memory for time.

The backward pass needs what every layer saw in the forward pass. Here the blocks of a network keep only their input and
run again when their turn comes (T. Chen, B. Xu, C. Zhang, C. Guestrin: Training Deep Nets with Sublinear Memory Cost,
2016, arXiv 1604.06174): the same gradients to the last bit, for about one more forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from regard.layers.batch_norm import statistics_kept
from regard.layers.map_decoder import MapDecoder
from regard.layers.pyramid import AttentionPyramid
from regard.layers.self_attention import DeepSelfAttention
from regard.models.backbone import Backbone

__all__ = ["recompute_blocks"]

ATTENTION: tuple[type[nn.Module], ...] = (AttentionPyramid, DeepSelfAttention, MapDecoder)
"""What acts on whole maps outside of the backbones."""


def recompute_blocks(model: nn.Module) -> int:
    """Make the blocks of every stage of a model's backbones, and its attention, run again in the backward pass.

    Classes change, in place; parameters, buffers, state-dict keys and results stay. Blocks that the system has copied
    from its backbone (streams, branches) count too, and a stage without blocks, such as a stem, is one.

    Returns:
        The number of blocks.
    """
    backbones = [module for module in model.modules() if isinstance(module, Backbone)]
    stages = [stage for backbone in backbones for stage in backbone.stages]
    kinds = {type(block) for stage in stages for block in _blocks(stage)}
    plain = [stage for stage in stages if not any(_blocks(stage))]  # stems
    chosen = [*plain, *_outermost(model, (*kinds, *ATTENTION))]
    for module in chosen:
        kind = type(module)
        module.__class__ = type(f"Recomputed{kind.__name__}", (_Recomputed, kind), {})
    return len(chosen)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Units with several layers of weights: containers are opened, as are timm's stages, which have ``blocks``."""
    for child in module.children():
        inside = getattr(child, "blocks", child)
        if isinstance(inside, nn.Sequential):
            yield from _blocks(inside)
        elif sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in child.modules()) > 1:
            yield child


def _outermost(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[nn.Module]:
    """Modules of these kinds that lie in no other."""
    for child in module.children():
        if isinstance(child, kinds):
            yield child
        else:
            yield from _outermost(child, kinds)


class _Recomputed(nn.Module):
    """Mixed into a block: the same block, whose layers' inputs are not kept."""

    def forward(self, *args: Any, **options: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*args, **options)
        if torch.compiler.is_compiling():  # the compiler keeps apart what is written and what is computed again
            return checkpoint(super().forward, *args, use_reentrant=False, **options)
        return checkpoint(super().forward, *args, use_reentrant=False, context_fn=self._contexts, **options)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Around the first run, and around the second, whose batch statistics have been counted already."""
        return nullcontext(), statistics_kept(self)
