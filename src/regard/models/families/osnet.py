"""OSNet: small networks whose every block sees several scales at once.

Shapes: B images, C channels, H x W positions.

K. Zhou, Y. Yang, A. Cavallaro, T. Xiang, "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019,
arXiv:1905.00953: the Lite 3 x 3 of section 3.1 and figure 3 is :class:`Lite`, the unified aggregation gate of
equation 3 is :class:`Gate`, the bottleneck of figure 4b :class:`OmniScale`, table 1 :class:`OSNet`, whose widths are
multiplied by 1, 0.75, 0.5 or 0.25. With table 1's linear layer it has the published 2.2 M parameters and 979 M
multiply-adds at 256 x 128.

**Departures**

- The linear layer after pooling is left to the systems; as a timm network it has a classifier there.
- Nobody's weights are fetched: none are published for this file.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

__all__ = ["OSNet", "osnet_x0_5", "osnet_x0_25", "osnet_x0_75", "osnet_x1_0"]

WIDTHS = (64, 256, 384, 512)
"""Channels after the stem and after the three stages of blocks, of the widest."""

SCALES = 4
"""Streams of a block, of 1, 2, 3 and 4 Lite convolutions."""

SQUEEZE = 16
"""How many times fewer channels are inside a gate."""

default_cfgs = generate_default_cfgs(
    {
        f"osnet_x{width}": {
            "input_size": (3, 256, 128),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "interpolation": "bilinear",
            "first_conv": "stem.0",
            "classifier": "fc",
        }
        for width in ("1_0", "0_75", "0_5", "0_25")
    }
)


def normed(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, active: bool = True) -> nn.Sequential:
    """Convolution, batch normalization and, where it is active, a ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if active else []))


class Lite(nn.Sequential):
    """A 3 x 3 convolution in two: point by point across channels, then 3 x 3 in every channel for itself.

    Args:
        channels: C of input and output.
    """

    def __init__(self, channels: int):
        point = nn.Conv2d(channels, channels, 1, bias=False)
        depth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        super().__init__(point, depth, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class Gate(nn.Module):
    """How much of each channel of a stream counts; one for all streams of a block.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(channels // SQUEEZE, 1)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        return self.layers(x.mean((2, 3), keepdim=True))


class OmniScale(nn.Module):
    """A residual block: fewer channels, streams that see 3, 5, 7 and 9 positions, gated and added, more channels.

    Args:
        inputs, outputs: channels.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        middle = outputs // 4
        self.reduce = normed(inputs, middle)
        self.streams = nn.ModuleList(
            nn.Sequential(*(Lite(middle) for _ in range(count))) for count in range(1, SCALES + 1)
        )
        self.gate = Gate(middle)
        self.expand = normed(middle, outputs, active=False)
        self.shortcut = normed(inputs, outputs, active=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        reduced = self.reduce(x)
        seen = [stream(reduced) for stream in self.streams]
        mixed = torch.stack([self.gate(one) * one for one in seen]).sum(0)
        return torch.relu(self.shortcut(x) + self.expand(mixed))


class OSNet(nn.Module):
    """The network of table 1.

    Args:
        widths: channels after the stem and the stages.
        num_classes: of the classifier; 0 for none.
        in_chans: of the pictures.
    """

    def __init__(
        self, widths: tuple[int, int, int, int] = WIDTHS, num_classes: int = 1000, in_chans: int = 3, **_unused: Any
    ):
        super().__init__()
        first, *rest = widths
        self.stem = nn.Sequential(*normed(in_chans, first, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1))
        self.stage1, self.stage2, self.stage3 = (
            nn.Sequential(*_halved(inputs, place), OmniScale(inputs, outputs), OmniScale(outputs, outputs))
            for place, (inputs, outputs) in enumerate(zip(widths, rest))
        )
        self.last = nn.Sequential(normed(rest[-1], rest[-1]))
        self.num_features, self.num_classes = rest[-1], num_classes
        self.fc = nn.Linear(rest[-1], num_classes) if num_classes else nn.Identity()
        self.feature_info = [
            {"num_chs": channels, "reduction": reduction, "module": name}
            for channels, reduction, name in zip(widths, (4, 4, 8, 16), ("stem", "stage1", "stage2", "stage3"))
        ]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 16, W / 16)."""
        for stage in cut(self):
            x = stage(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, num_classes)."""
        return self.fc(self.forward_features(x).mean((2, 3)))


def _halved(channels: int, place: int) -> list[nn.Module]:
    """What is between two stages: a convolution, and the mean of every 2 x 2 positions."""
    return [normed(channels, channels), nn.AvgPool2d(2)] if place else []


def whole(network: OSNet, images: Tensor) -> Tensor:
    """The last map as the network computes it."""
    return network.forward_features(images)


def cut(network: OSNet) -> list[nn.Module]:
    """conv1 to conv5 of table 1, at strides 4, 4, 8, 16 and 16."""
    return [network.stem, network.stage1, network.stage2, network.stage3, network.last]


def keep_resolution(stage: nn.Module) -> None:
    """Nothing: the last stage does not halve the map."""


def _osnet(name: str, width: float, pretrained: bool, options: dict[str, Any]) -> OSNet:  # noqa: FBT001
    options.pop("global_pool", None)
    return build_model_with_cfg(OSNet, name, pretrained, widths=tuple(int(width * c) for c in WIDTHS), **options)


@register_model
def osnet_x1_0(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network as wide as in table 1."""
    return _osnet("osnet_x1_0", 1, pretrained, options)


@register_model
def osnet_x0_75(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network three quarters as wide."""
    return _osnet("osnet_x0_75", 0.75, pretrained, options)


@register_model
def osnet_x0_5(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network half as wide."""
    return _osnet("osnet_x0_5", 0.5, pretrained, options)


@register_model
def osnet_x0_25(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network a quarter as wide."""
    return _osnet("osnet_x0_25", 0.25, pretrained, options)
