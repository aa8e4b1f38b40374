"""A pyramid of attention levels over one feature map, and the gates of channels that act at its levels.

Shapes: B images, C channels, H x W positions; s horizontal strips; r groups of c = C / r channels; k taps of a
convolution along the channels.

Level 1 is the coarsest (one gate for the whole map), level 2 looks at halves, level 3 at quarters. The levels act one
after the other, each on what the one before has left. Gates of positions are in :mod:`regard.layers.rga`.

- :class:`SqueezeExcitation`: J. Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv:1709.01507, equations 2
  and 3.
- :class:`EfficientChannelAttention`: Q. Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional
  Neural Networks", CVPR 2020, arXiv:1910.03151, equations 7 (the gate) and 12 (the kernel).
- :class:`SplitAttention`: channel groups compete for each position of the group. The gate is the radix softmax of H.
  Zhang et al., "ResNeSt: Split-Attention Networks", arXiv:2004.08955, section 3.1, in the form APNet uses it: without
  the convolution in front, and with the weighted groups stacked, not summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ConfigError, check_choice
from regard.layers.gates import Control, GateStart, GateUse, check_only_level
from regard.layers.heads import without_shift

__all__ = [
    "AttentionLevel", "AttentionPyramid", "EfficientChannelAttention", "EfficientSplitAttention", "Gating", "Order",
    "SplitAttention", "SqueezeExcitation", "adaptive_kernel",
]  # fmt: skip

Order = Literal["fine_to_coarse", "coarse_to_fine"]
Gating = Literal["multiply", "square"]


class AttentionLevel(nn.Module):
    """One gate and what it does to the map.

    Args:
        agent: computes a gate that broadcasts to its input.
        channels: C.
        normalize: follow with a batch normalization whose shift is frozen at 0.
        gating: ``"multiply"`` gives x ⊙ gate(x), ``"square"`` x² ⊙ gate(x).
        start, control: of the gate, see :mod:`regard.layers.gates`.
    """

    def __init__(
        self,
        agent: nn.Module,
        channels: int,
        *,
        normalize: bool,
        gating: Gating = "multiply",
        start: GateStart = "released",
        control: Control = "none",
    ):
        super().__init__()
        check_choice("gating", gating, Gating)
        self.agent = agent
        self.norm = without_shift(nn.BatchNorm2d(channels)) if normalize else nn.Identity()
        self.gating = gating
        self.use = GateUse.of(agent, start, control, more=normalize or gating == "square")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gated map (B, C, H, W) and what it was multiplied by."""
        gate = self.use.gate(self.agent, x).to(x.dtype)
        gated = x * gate if self.gating == "multiply" else x * x * gate
        whole = self.norm(gated)
        return whole if self.use.alpha is None else self.use.blend(x * gate, whole), gate


class AttentionPyramid(nn.Module):
    """The levels of one tap, applied in order.

    Args:
        agents: gate agents from level 1 (coarsest) upward.
        channels: C.
        order: which end of the pyramid sees the map first.
        gating: how level 1 acts on its input; the finer levels multiply.
        start, control: of all gates, see :mod:`regard.layers.gates`.
        only: the one level that there is to be; None: all.

    Every level but the first is followed by its normalization, in either order: only the finer agents' gates shrink
    the map on average.
    """

    def __init__(
        self,
        agents: Sequence[nn.Module],
        channels: int,
        order: Order = "fine_to_coarse",
        gating: Gating = "multiply",
        *,
        start: GateStart = "released",
        control: Control = "none",
        only: int | None = None,
    ):
        super().__init__()
        check_choice("order", order, Order)
        check_only_level(only, len(agents))
        self.order: Order = order
        self.levels = nn.ModuleDict()
        for number, agent in enumerate(agents, start=1):
            if only in (None, number):
                how: Gating = gating if number == 1 else "multiply"
                self.levels[f"level{number}"] = AttentionLevel(
                    agent, channels, normalize=number > 1, gating=how, start=start, control=control
                )

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


class SqueezeExcitation(nn.Module):
    """How much of each channel to keep, seen from the whole map: sigmoid(W2 · ReLU(W1 · mean(x))), without biases.

    Args:
        channels: C.
        hidden: width of the bottleneck between W1 and W2.
    """

    at_zero = 0.5

    def __init__(self, channels: int, hidden: int = 8):
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)

    def zero_logits(self) -> None:
        """Start W2 at zero."""
        nn.init.zeros_(self.excite.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, 1, 1)."""
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return gate[:, :, None, None]


class EfficientChannelAttention(nn.Module):
    """How much of each channel to keep, seen from its neighbors: sigmoid(conv_k(mean(x))).

    Where s does not divide H, the first H mod s strips have one row more than the others; a map of fewer than s rows
    has one strip per row.

    Args:
        kernel: k, odd.
        parts: s; each strip has a gate of its own, from its own mean. The k weights are shared.
    """

    at_zero = 0.5

    def __init__(self, kernel: int, parts: int = 1):
        super().__init__()
        self.parts = parts
        self.conv = _channel_convolution(1, kernel)

    def zero_logits(self) -> None:
        """Start the convolution at zero."""
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, H, 1), or (B, C, 1, 1) where one strip is all."""
        strips = x.mean(3).tensor_split(min(self.parts, x.shape[2]), dim=2)
        means = torch.stack([strip.mean(2) for strip in strips], dim=1)
        gate = torch.sigmoid(self.conv(means.flatten(0, 1)[:, None]).view_as(means)).transpose(1, 2)
        if len(strips) == 1:
            return gate[..., None]
        rows = [value.expand(-1, -1, strip.shape[2]) for value, strip in zip(gate.split(1, dim=2), strips)]
        return torch.cat(rows, dim=2)[..., None]


def adaptive_kernel(channels: int) -> int:
    """k for C channels: (log2 C + 1) / 2 without its fraction, made odd, at least 3; 3, 5, 5, 5, 7 for C = 64 … 2048.

    Equation 12 of ECA-Net with γ = 2 and b = 1.
    """
    size = int((math.log2(channels) + 1) / 2)
    return max(size if size % 2 else size + 1, 3)


class SplitAttention(nn.Module):
    """Softmax over ``radix`` contiguous channel groups for each of the c channels of a group.

    With x_1 … x_r the groups and u = mean over positions of Σ x_j: z = ReLU(BN(W_a u + b_a)), a = W_b z + b_b, and the
    gate of channel k in group j is exp(a_jk) / Σ_i exp(a_ik). The gates of a channel therefore sum to 1 over the
    groups; what follows has to restore the scale.

    Args:
        channels: C.
        radix: r; must divide C.

    Raises:
        ConfigError: ``channels`` does not split into ``radix`` equal groups.
    """

    def __init__(self, channels: int, radix: int = 2):
        super().__init__()
        _check_divides(channels, radix)
        hidden = max(channels * radix // 4, 32)
        self.radix = radix
        self.at_zero = 1 / radix
        self.attend = nn.Sequential(
            nn.Linear(channels // radix, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels),
        )

    def zero_logits(self) -> None:
        """Start W_b and b_b at zero."""
        nn.init.zeros_(self.attend.get_parameter("3.weight"))
        nn.init.zeros_(self.attend.get_parameter("3.bias"))

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, 1, 1)."""
        logits = self.attend(_summed_groups(x, self.radix))
        return _compete(logits.unflatten(1, (self.radix, -1)))


class EfficientSplitAttention(nn.Module):
    """The same competition with logits from a channel's neighbors: a = conv_k(u), from one channel axis to r.

    Args:
        channels: C.
        radix: r; must divide C.
        kernel: k, odd.

    Raises:
        ConfigError: ``channels`` does not split into ``radix`` equal groups.
    """

    def __init__(self, channels: int, radix: int, kernel: int):
        super().__init__()
        _check_divides(channels, radix)
        self.radix = radix
        self.at_zero = 1 / radix
        self.conv = _channel_convolution(radix, kernel)

    def zero_logits(self) -> None:
        """Start the convolution at zero."""
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, 1, 1)."""
        return _compete(self.conv(_summed_groups(x, self.radix)[:, None]))


def _channel_convolution(outputs: int, kernel: int) -> nn.Conv1d:
    """A convolution along the channel axis, (·, 1, C) -> (·, outputs, C); ``kernel`` is odd. No bias."""
    return nn.Conv1d(1, outputs, kernel, padding=kernel // 2, bias=False)


def _check_divides(channels: int, radix: int) -> None:
    if channels % radix:
        raise ConfigError(
            f"split attention got {channels} channels for {radix} groups, which leaves {channels % radix} over; "
            f"choose a lower level or a backbone whose stages are multiples of {radix} channels wide"
        )


def _summed_groups(x: Tensor, radix: int) -> Tensor:
    """u: (B, C, H, W) -> (B, c).

    The mean is taken before the sum over groups: the same number, at 1 / (H · W) of the work.
    """
    return x.mean((2, 3)).unflatten(1, (radix, -1)).sum(1)


def _compete(logits: Tensor) -> Tensor:
    """Softmax over the groups: (B, r, c) -> (B, C, 1, 1)."""
    return logits.softmax(1).flatten(1)[:, :, None, None]
