"""A pyramid of attention levels over one feature map.

Shapes: B images, C channels, H x W positions.

Level 1 is the coarsest (one gate for the whole map), level 2 looks at halves, level 3 at quarters. The levels act one
after the other, each on what the one before has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from regard.errors import check_choice
from regard.layers.bnneck import without_shift

__all__ = ["AttentionLevel", "AttentionPyramid", "Gating", "Order"]

Order = Literal["fine_to_coarse", "coarse_to_fine"]
Gating = Literal["multiply", "square"]


class AttentionLevel(nn.Module):
    """One gate and what it does to the map.

    Args:
        agent: computes a gate that broadcasts to its input.
        channels: C.
        normalize: follow with a batch normalization whose shift is frozen at 0.
        gating: ``"multiply"`` gives x ⊙ gate(x), ``"square"`` x² ⊙ gate(x).
    """

    def __init__(self, agent: nn.Module, channels: int, *, normalize: bool, gating: Gating = "multiply"):
        super().__init__()
        check_choice("gating", gating, Gating)
        self.agent = agent
        self.norm = without_shift(nn.BatchNorm2d(channels)) if normalize else nn.Identity()
        self.gating = gating

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gated map (B, C, H, W) and the gate."""
        gate = self.agent(x).to(x.dtype)
        gated = x * gate if self.gating == "multiply" else x * x * gate
        return self.norm(gated), gate


class AttentionPyramid(nn.Module):
    """The levels of one tap, applied in order.

    Args:
        agents: gate agents from level 1 (coarsest) upward.
        channels: C.
        order: which end of the pyramid sees the map first.
        gating: how level 1 acts on its input; the finer levels multiply.

    Every level but the first is followed by its normalization, in either order: only the finer agents' gates shrink
    the map on average.
    """

    def __init__(
        self,
        agents: Sequence[nn.Module],
        channels: int,
        order: Order = "fine_to_coarse",
        gating: Gating = "multiply",
    ):
        super().__init__()
        check_choice("order", order, Order)
        self.order: Order = order
        self.levels = nn.ModuleDict()
        for number, agent in enumerate(agents, start=1):
            level = (
                AttentionLevel(agent, channels, normalize=False, gating=gating)
                if number == 1
                else AttentionLevel(agent, channels, normalize=True)
            )
            self.levels[f"level{number}"] = level

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The attended map (B, C, H, W) and the gates by level, ``"level1"`` being the coarsest."""
        gates = {}
        for name, level in self.in_order().items():
            x, gates[name] = level(x)
        return x, gates

    def in_order(self) -> dict[str, AttentionLevel]:
        """The levels by name, in the order in which they act."""
        levels = {name: level for name, level in self.levels.items() if isinstance(level, AttentionLevel)}
        return levels if self.order == "coarse_to_fine" else dict(reversed(levels.items()))
