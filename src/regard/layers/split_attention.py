"""Split, attend, merge and stack: channel groups compete for each position of the group.

Shapes: B images, C channels, r groups of c = C / r channels, d hidden units, H x W positions.

The gate is the radix softmax of H. Zhang et al., "ResNeSt: Split-Attention Networks", arXiv:2004.08955, section 3.1,
in the form APNet uses it: without the convolution in front, and with the weighted groups stacked, not summed.
"""

from __future__ import annotations

from torch import Tensor, nn

from regard.errors import ConfigError
from regard.layers.eca import channel_convolution
from regard.layers.pooling import global_average

__all__ = ["EfficientSplitAttention", "SplitAttention"]


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
        self.attend = nn.Sequential(
            nn.Linear(channels // radix, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, 1, 1)."""
        logits = self.attend(_summed_groups(x, self.radix))
        return _compete(logits.unflatten(1, (self.radix, -1)))


class EfficientSplitAttention(nn.Module):
    """The same competition with logits from a channel's neighbors: a = conv_k(u), from one channel axis to r.

    Args:
        channels: C.
        radix: r; must divide C.
        kernel: taps of the convolution, odd.

    Raises:
        ConfigError: ``channels`` does not split into ``radix`` equal groups.
    """

    def __init__(self, channels: int, radix: int, kernel: int):
        super().__init__()
        _check_divides(channels, radix)
        self.radix = radix
        self.conv = channel_convolution(radix, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Gate in (0, 1): (B, C, H, W) -> (B, C, 1, 1)."""
        return _compete(self.conv(_summed_groups(x, self.radix)[:, None]))


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
    return global_average(x).unflatten(1, (radix, -1)).sum(1)


def _compete(logits: Tensor) -> Tensor:
    """Softmax over the groups: (B, r, c) -> (B, C, 1, 1)."""
    return logits.softmax(1).flatten(1)[:, :, None, None]
