"""The ResNets of FastReID, as timm networks: another pooling after the stem, and some with non-local blocks.

Shapes: B images, C channels, H x W positions.

L. He et al., "FastReID: A Pytorch Toolbox for General Instance Re-identification", arXiv:2006.02631. Its stem pools
without padding and keeps what is left at the lower right (``ceil_mode``), where torchvision's pads all sides.
Non-local blocks: X. Wang, R. Girshick, A. Gupta, K. He, "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971, the
dot product of section 3.2, as M. Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI
2021, arXiv:2001.04193, put them after the last two blocks of the second stage and the last blocks of the third.
FastReID computes them in a single channel, which is ``hidden`` here. ``fastreid_s50`` is ResNeSt (H. Zhang et al.,
arXiv:2004.08955) with its last stage at the resolution of the one before, dilated from its second block on.

They are cut into stages as timm's are, from whose ResNet they are made; ``stem_relu`` is on in FastReID.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, create_model, generate_default_cfgs, register_model
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

__all__ = ["NonLocal", "fastreid_r50", "fastreid_r50_nl", "fastreid_r101", "fastreid_r101_nl", "fastreid_s50"]

BLOCKS = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3)}
NON_LOCAL = {"r50": (0, 2, 3, 0), "r101": (0, 2, 9, 0)}
"""Last blocks of each stage that a non-local one follows."""

default_cfgs = generate_default_cfgs(
    {
        f"fastreid_{name}": {"input_size": (3, 256, 128), "first_conv": "conv1", "classifier": "fc"}
        for name in ("r50", "r50_nl", "r101", "r101_nl", "s50")
    }
)


class NonLocal(nn.Module):
    """Every position gets something of all others, by how alike they are: x + BN(W (θᵀφ / HW) g).

    Args:
        channels: C.
        hidden: channels in which likeness and what is passed on are computed.
    """

    def __init__(self, channels: int, hidden: int = 1):
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(channels, hidden, 1) for _ in range(3))
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)
        self.W = nn.Sequential(nn.Conv2d(hidden, channels, 1), norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), in time that grows with H W alone: θᵀ(φ gᵀ), not (θᵀφ) gᵀ."""
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        passed = (g @ phi.transpose(1, 2) / theta.shape[2]) @ theta
        return x + self.W(passed.unflatten(2, x.shape[2:]))


class Alike(Bottleneck):
    """A bottleneck and a non-local block behind it."""

    non_local: NonLocal

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return self.non_local(super().forward(x))


def _resnet(name: str, depth: str, options: dict[str, Any], *, pretrained: bool, alike: bool = False) -> ResNet:
    network = build_model_with_cfg(ResNet, name, pretrained, block=Bottleneck, layers=BLOCKS[depth], **options)
    network.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    for number, count in enumerate(NON_LOCAL[depth] if alike else (), 1):
        blocks = list(getattr(network, f"layer{number}"))
        for block in blocks[len(blocks) - count :]:
            block.__class__ = Alike
            block.non_local = NonLocal(block.conv3.out_channels)
    return network


@register_model
def fastreid_r50(pretrained: bool = False, **options: Any) -> ResNet:  # noqa: FBT001, FBT002
    """Return ResNet-50."""
    return _resnet("fastreid_r50", "r50", options, pretrained=pretrained)


@register_model
def fastreid_r50_nl(pretrained: bool = False, **options: Any) -> ResNet:  # noqa: FBT001, FBT002
    """Return ResNet-50 with five non-local blocks."""
    return _resnet("fastreid_r50_nl", "r50", options, pretrained=pretrained, alike=True)


@register_model
def fastreid_r101(pretrained: bool = False, **options: Any) -> ResNet:  # noqa: FBT001, FBT002
    """Return ResNet-101."""
    return _resnet("fastreid_r101", "r101", options, pretrained=pretrained)


@register_model
def fastreid_r101_nl(pretrained: bool = False, **options: Any) -> ResNet:  # noqa: FBT001, FBT002
    """Return ResNet-101 with eleven non-local blocks."""
    return _resnet("fastreid_r101_nl", "r101", options, pretrained=pretrained, alike=True)


@register_model
def fastreid_s50(pretrained: bool = False, **options: Any) -> nn.Module:  # noqa: FBT001, FBT002
    """Return ResNeSt-50."""
    network: Any = create_model("resnest50d", pretrained=pretrained, output_stride=16, **options)
    network.feature_info[-1]["reduction"] = 32  # of what it would be if its last stage halved the map
    first = network.layer4[0]
    first.downsample[0], first.avd_last = nn.Identity(), nn.AvgPool2d(3, stride=1, padding=1)
    return network
