"""OSNet: small networks whose every block sees several scales at once.

Shapes: B images, C channels, H x W positions.

K. Zhou, Y. Yang, A. Cavallaro, T. Xiang, "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019,
arXiv:1905.00953: the Lite 3 x 3 of section 3.1 and figure 3 is :class:`Lite`, the unified aggregation gate of
equation 3 is :class:`Gate`, the bottleneck of figure 4b :class:`OmniScale`, table 1 :class:`OSNet`, whose widths are
multiplied by 1, 0.75, 0.5 or 0.25. With table 1's linear layer it has the published 2.2 M parameters and 979 M
multiply-adds at 256 x 128.

Two kin that carry over better to cameras never seen, both with an instance normalization in the stem: OSNet-AIN (the
same authors, "Learning Generalisable Omni-Scale Representations for Person Re-Identification", TPAMI 2021,
arXiv:1910.06827) has one inside the residual of four of its six blocks, as its search found (:data:`AIN`); OSNet-IBN
one after the sum in the blocks of the first stage (:data:`IBN`), as IBN-b of X. Pan et al., "Two at Once", ECCV 2018,
arXiv:1807.09441.

**Departures**

- The linear layer after pooling is left to the systems; as a timm network it has a classifier there.
- Nobody's weights are fetched; ``regard import`` reads those of torchreid.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

__all__ = [
    "OSNet", "osnet_ain_x0_5", "osnet_ain_x0_25", "osnet_ain_x0_75", "osnet_ain_x1_0", "osnet_ibn_x1_0", "osnet_x0_5",
    "osnet_x0_25", "osnet_x0_75", "osnet_x1_0",
]  # fmt: skip

WIDTHS = (64, 256, 384, 512)
"""Channels after the stem and after the three stages of blocks, of the widest."""

WIDTH_NAMES = ("1_0", "0_75", "0_5", "0_25")

Instance = Literal["none", "inside", "after"]
"""Whether a block normalizes every picture for itself: inside its residual, in place of the batch, or after the sum."""

PLAIN: tuple[Instance, ...] = ("none",) * 6
IBN: tuple[Instance, ...] = ("after", "after", "none", "none", "none", "none")
AIN: tuple[Instance, ...] = ("inside", "inside", "none", "inside", "inside", "none")
"""Of the six blocks."""

SCALES = 4
"""Streams of a block, of 1, 2, 3 and 4 Lite convolutions."""

SQUEEZE = 16
"""How many times fewer channels are inside a gate."""

default_cfgs = generate_default_cfgs(
    {
        f"osnet_{kind}{width}": {
            "input_size": (3, 256, 128),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "interpolation": "bilinear",
            "first_conv": "stem.0",
            "classifier": "fc",
        }
        for kind, widths in (("x", WIDTH_NAMES), ("ain_x", WIDTH_NAMES), ("ibn_x", WIDTH_NAMES[:1]))
        for width in widths
    }
)


def normed(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, active: bool = True, instance: bool = False
) -> nn.Sequential:
    """Convolution, normalization (of the batch, or of each picture) and, where it is active, a ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    norm = nn.InstanceNorm2d(outputs, affine=True) if instance else nn.BatchNorm2d(outputs)
    return nn.Sequential(conv, norm, *([nn.ReLU(inplace=True)] if active else []))


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
        instance: where its instance normalization is.
    """

    def __init__(self, inputs: int, outputs: int, instance: Instance = "none"):
        super().__init__()
        middle = outputs // 4
        self.reduce = normed(inputs, middle)
        self.streams = nn.ModuleList(
            nn.Sequential(*(Lite(middle) for _ in range(count))) for count in range(1, SCALES + 1)
        )
        self.gate = Gate(middle)
        self.expand = normed(middle, outputs, active=False, instance=instance == "inside")
        self.shortcut = normed(inputs, outputs, active=False) if inputs != outputs else nn.Identity()
        self.after = nn.InstanceNorm2d(outputs, affine=True) if instance == "after" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        reduced = self.reduce(x)
        seen = [stream(reduced) for stream in self.streams]
        mixed = torch.stack([self.gate(one) * one for one in seen]).sum(0)
        return torch.relu(self.after(self.shortcut(x) + self.expand(mixed)))


class OSNet(nn.Module):
    """The network of table 1.

    Args:
        widths: channels after the stem and the stages.
        instance: of the six blocks; where one has any, the stem has, too.
        num_classes: of the classifier; 0 for none.
        in_chans: of the pictures.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int] = WIDTHS,
        num_classes: int = 1000,
        in_chans: int = 3,
        instance: tuple[Instance, ...] = PLAIN,
        **_unused: Any,
    ):
        super().__init__()
        first, *rest = widths
        stem = normed(in_chans, first, 7, stride=2, instance=instance != PLAIN)
        self.stem = nn.Sequential(*stem, nn.MaxPool2d(3, stride=2, padding=1))
        self.stage1, self.stage2, self.stage3 = (
            nn.Sequential(
                *_halved(inputs, place),
                OmniScale(inputs, outputs, instance[2 * place]),
                OmniScale(outputs, outputs, instance[2 * place + 1]),
            )
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
    kind = AIN if "ain" in name else IBN if "ibn" in name else PLAIN
    widths = tuple(int(width * c) for c in WIDTHS)
    return build_model_with_cfg(OSNet, name, pretrained, widths=widths, instance=kind, **options)


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


@register_model
def osnet_ain_x1_0(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network as wide as in table 1, with instance normalizations as AIN has them."""
    return _osnet("osnet_ain_x1_0", 1, pretrained, options)


@register_model
def osnet_ain_x0_75(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network three quarters as wide, with instance normalizations as AIN has them."""
    return _osnet("osnet_ain_x0_75", 0.75, pretrained, options)


@register_model
def osnet_ain_x0_5(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network half as wide, with instance normalizations as AIN has them."""
    return _osnet("osnet_ain_x0_5", 0.5, pretrained, options)


@register_model
def osnet_ain_x0_25(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network a quarter as wide, with instance normalizations as AIN has them."""
    return _osnet("osnet_ain_x0_25", 0.25, pretrained, options)


@register_model
def osnet_ibn_x1_0(pretrained: bool = False, **options: Any) -> OSNet:  # noqa: FBT001, FBT002
    """Return the network as wide as in table 1, with instance normalizations as IBN has them."""
    return _osnet("osnet_ibn_x1_0", 1, pretrained, options)
