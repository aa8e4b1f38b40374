"""What gates start as, and what stands in their place to see what they are worth: one rule for every block.

Shapes: B images, C channels, H x W positions.

A gate g(x) is some function of logits: a sigmoid, a softmax over r groups, 1 + tanh, a row of a softmax that mixes
channels. Where its logits are zero it is g₀: 1/2, 1/r, 1, the mean over channels.

**Starts** (:data:`GateStart`, ``model.gate_start``):

- ``"released"``: as the authors' code starts.
- ``"zero_logits"``: the last layer before the logits starts at zero, and so every gate at g₀, whatever the picture.
- ``"identity"``: the same, and the block returns its input at step 0, to the bit:

      out = y + α (r - y),    y = x ⊙ g(x) / g₀,    α = 0 at first

  with r what the block makes of y besides (a normalization, a square, an addition of x), and α one number that is
  learned; where there is no such thing, out = y. At step 0 g = g₀ and so y = x, in training and in evaluation alike,
  batch normalizations included; gradients reach the gates by y while α is zero. Attention without parameters (SA) has
  no g₀: there y = x, and r is the attended map. Attention that mixes (MuDeep), v + γ A v, is v + (A - A₀) v + γ A v,
  which is v at first, as A = A₀ and γ = 0.

**Controls** (:data:`Control`, ``model.attention_control``), in training and in evaluation alike:

- ``"none"``: attention as it is.
- ``"off"``: no block, and none of its parameters; systems leave it out when they are built.
- ``"constant"``: every gate is g₀ for ever. What computes it stays, untrained and not run, so that parameters are as
  many; normalizations go on as they are.
- ``"shuffled"``: a picture has the gate that was computed for another one of its batch, the one half a batch on
  (:func:`of_others`): a gate of the same make, which knows nothing of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, check_choice

__all__ = ["Control", "GateAgent", "GateStart", "GateUse", "check_gates", "check_only_level", "of_others"]

GateStart = Literal["released", "zero_logits", "identity"]
Control = Literal["none", "off", "constant", "shuffled"]


@runtime_checkable
class GateAgent(Protocol):
    """What computes a gate that can start at zero logits: its value there, and the means to get there."""

    at_zero: float

    def zero_logits(self) -> None:
        """Let the logits be zero, whatever the map, so that gradients reach the layer that makes them."""


class GateUse(nn.Module):
    """How a block uses what its agents compute.

    Without ``identity`` it has no parameter, and a block's state-dict keys are as if it were not there.

    Args:
        start, control: see above; a block is not built for ``"off"``.
        at_zero: g₀.
        more: whether the block does more than gating, so that ``identity`` needs α.
    """

    def __init__(
        self, start: GateStart = "released", control: Control = "none", *, at_zero: float = 1.0, more: bool = False
    ):
        super().__init__()
        check_gates(start, control)
        self.start: GateStart = start
        self.control: Control = control
        self.at_zero = at_zero
        self.alpha: nn.Parameter | None = nn.Parameter(torch.zeros(())) if start == "identity" and more else None

    @classmethod
    def of(cls, agent: nn.Module, start: GateStart, control: Control, *, more: bool) -> GateUse:
        """The use of one agent's gate, which is set to its start.

        Raises:
            ConfigError: the agent does not say where its logits are zero, and has to.
        """
        at_zero = 1.0
        if start != "released" or control == "constant":
            if not isinstance(agent, GateAgent):
                raise ConfigError(
                    f"{type(agent).__name__} does not say what it is at zero logits, which gate_start={start} and "
                    f"attention_control={control} ask for; give it at_zero and zero_logits(), see regard.layers.gates"
                )
            at_zero = agent.at_zero
        if start != "released" and isinstance(agent, GateAgent):
            agent.zero_logits()
        if control == "constant":
            agent.requires_grad_(False)
        return cls(start, control, at_zero=at_zero, more=more)

    def gate(self, agent: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """What the map (B, C, H, W) is to be multiplied by; broadcasts to it."""
        gate = x.new_full((len(x), 1, 1, 1), self.at_zero) if self.control == "constant" else agent(x)
        if self.control == "shuffled":
            gate = of_others(gate)
        return gate / self.at_zero if self.start == "identity" else gate

    def blend(self, gated: Tensor, whole: Tensor) -> Tensor:
        """y + α (r - y) under ``identity``, else r: ``gated`` is y, ``whole`` is r."""
        return whole if self.alpha is None else gated + self.alpha.to(gated.dtype) * (whole - gated)


def of_others(values: Tensor) -> Tensor:
    """(B, ...) with the rows of other pictures: each has that of the one half a batch on.

    Pictures of one person stand together in training, and mostly so in a data set's lists; half a batch on is another
    person. A single picture keeps its own.
    """
    return values.roll(len(values) // 2, 0)


def check_gates(start: str, control: str) -> None:
    """Raise a ConfigError for a start or a control that there is not."""
    check_choice("gate_start", start, GateStart)
    check_choice("attention_control", control, Control)


def check_only_level(only: int | None, levels: int) -> None:
    """Raise a ConfigError where there is no such level."""
    if only is not None and (isinstance(only, bool) or only not in range(1, levels + 1)):
        raise ConfigError(f"only_level is {only!r}, wanted a level that there is, 1 to {levels}, or null for all")
