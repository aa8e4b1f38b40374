"""Maps sixteen times as large as the features they are read from.

Shapes: B images, G groups of w channels, n_g maps read from group g and N from all, H x W positions, K taps a side.

The decoder of H. Chen et al., "Deep Attention Aware Feature Learning for Person Re-Identification", Pattern Recognition
126 (2022), arXiv:2003.00517: four transposed convolutions that double the resolution, then a 1 x 1 convolution. Where
features come in groups, the doublings are the same for all and the last convolution is each group's own.

Without nonlinearities the five layers are one linear map. Its kernel (K = 31 for doublings of 3 x 3, 16 for 2 x 2) is
made of theirs and applied once, by a matrix product and an overlapping sum: the same numbers and gradients, without the
64-channel maps at full resolution that make up most of the cost and nearly all of the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import check_choice

__all__ = ["DecoderKernel", "MapDecoder"]

DecoderKernel = Literal["3x3", "2x2"]

DOUBLINGS = 4
SCALE = 2**DOUBLINGS
HIDDEN = 64


def doubling(channels: int, kernel: DecoderKernel, *, bias: bool) -> nn.ConvTranspose2d:
    """A transposed convolution from (B, channels, H, W) to (B, HIDDEN, 2 H, 2 W)."""
    if kernel == "2x2":
        return nn.ConvTranspose2d(channels, HIDDEN, 2, stride=2, bias=bias)
    return nn.ConvTranspose2d(channels, HIDDEN, 3, stride=2, padding=1, output_padding=1, bias=bias)


class MapDecoder(nn.Module):
    """Predict maps from consecutive groups of channels, each group's from its own channels alone.

    Args:
        channels: w, of one group; what the input has beyond G * w is not looked at.
        outputs: n_g for every group.
        kernel: taps of the doublings.
        nonlinear: batch normalization after every doubling, ReLU after all but the last, a sigmoid at the end.
            Statistics are taken of each group by itself, so that groups stay independent in training too.
        end_norm: of a nonlinear decoder, whether the last convolution is normalized too, before the sigmoid.
    """

    def __init__(
        self,
        channels: int,
        outputs: Sequence[int],
        kernel: DecoderKernel = "3x3",
        *,
        nonlinear: bool = False,
        end_norm: bool = False,
    ):
        super().__init__()
        check_choice("kernel", kernel, DecoderKernel)
        self.channels = channels
        self.outputs = list(outputs)
        self.nonlinear = nonlinear
        widths = [channels, *[HIDDEN] * (DOUBLINGS - 1)]
        self.doublings = nn.ModuleList(doubling(width, kernel, bias=not nonlinear) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(HIDDEN) for _ in range(DOUBLINGS if nonlinear else 0))
        self.heads = nn.ModuleList(nn.Conv2d(HIDDEN, count, 1, bias=not end_norm) for count in self.outputs)
        self.end_norms = nn.ModuleList(nn.BatchNorm2d(count) for count in self.outputs if end_norm)

    def start_narrow(self, std: float) -> None:
        """Draw every convolution's weights from N(0, std²) and set its biases to zero."""
        for layer in (*self.doublings, *self.heads):
            nn.init.normal_(layer.get_parameter("weight"), std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.get_parameter("bias"))

    def start_scaled(self) -> None:
        """Draw the weights of every convolution as TensorFlow's variance scaling does, of a nonlinear decoder.

        They are normal of variance 2 / n, cut off at two standard deviations of 2.6 / n, where n is taps times the
        inputs of a convolution, but times the outputs of a transposed one.
        """
        for layer in (*self.doublings, *self.heads):
            weight = layer.get_parameter("weight")
            std = (2.6 / weight[0].numel()) ** 0.5
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    def start_silent(self) -> None:
        """Start the last layer at zero: every map is flat, and what it reads is not moved until the layer has been."""
        for layer in self.end_norms or self.heads:
            nn.init.zeros_(layer.get_parameter("weight"))
            if layer.bias is not None:
                nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        """(B, at least G * w, H, W) -> (B, N, 16 H, 16 W), group after group."""
        groups = x[:, : len(self.outputs) * self.channels].split(self.channels, dim=1)
        decode = self.layer_by_layer if self.nonlinear else self.at_once
        return torch.cat(decode(groups), dim=1)

    def layer_by_layer(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """The maps of each group: G times (B, w, H, W) -> (B, n_g, 16 H, 16 W)."""
        maps = [head(self._hidden(x)) for x, head in zip(groups, self.heads)]
        if self.end_norms:
            maps = [norm(logits) for norm, logits in zip(self.end_norms, maps)]
        return [torch.sigmoid(logits) for logits in maps] if self.nonlinear else maps

    def _hidden(self, x: Tensor) -> Tensor:
        """(B, w, H, W) -> (B, HIDDEN, 16 H, 16 W)."""
        for number, double in enumerate(self.doublings):
            x = double(x)
            if self.nonlinear:
                x = self.norms[number](x)
                x = F.relu(x) if number + 1 < DOUBLINGS else x
        return x

    def at_once(self, groups: Sequence[Tensor]) -> list[Tensor]:
        """What :meth:`layer_by_layer` gives, by the kernel of all layers together."""
        height, width = groups[0].shape[2:]
        size, taps = (SCALE * height, SCALE * width), self._kernel()
        side = taps.shape[-1]
        constant = self._hidden(groups[0].new_zeros(1, self.channels, height, width))
        maps = []
        for x, head, kernel in zip(groups, self.heads, taps.split(self.outputs, dim=1)):
            columns = kernel.flatten(1).T @ x.flatten(2)
            maps.append(F.fold(columns, size, side, stride=SCALE, padding=side - SCALE) + head(constant))
        return maps

    def _kernel(self) -> Tensor:
        """Taps of all layers together, (w, N, K, K), composed from the last layer to the first.

        Two transposed convolutions in a row are one, whose kernel is the first one's run through the second.
        """
        first, *middle, last = (double.get_parameter("weight") for double in self.doublings)
        heads = torch.cat([head.get_parameter("weight") for head in self.heads]).flatten(1)
        kernel = torch.einsum("chij,nh->cnij", last, heads)
        for number, weight in enumerate([*reversed(middle), first], start=1):
            kernel = F.conv_transpose2d(weight, kernel, stride=2**number)
        return kernel
