"""HRNet as stages: a map that stays fine, and coarser ones beside it.

Shapes: B images, C channels, h x w positions of the finest map.

K. Sun, B. Xiao, D. Liu, J. Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019,
arXiv:1902.09212, with the head for classification of J. Wang et al., TPAMI 2020, arXiv:1908.07919. Between stages goes
the finest map, at stride 4, which is what attention of a system changes, and the coarser ones beside it. The last stage
ends with that head up to the map of 1024 channels: every resolution in more channels, halved and added to the next.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Fusion", "HeadOfAll", "Stem", "cut", "keep_resolution", "whole"]

COARSEST = 8
"""Positions of the finest map to one of the coarsest."""


class Stem(nn.Sequential):
    """Two convolutions; the map is padded to what the coarsest one divides, below and on the right."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, h, w)."""
        x = super().forward(input)
        return F.pad(x, (0, -x.shape[3] % COARSEST, 0, -x.shape[2] % COARSEST))


class Fusion(nn.Module):
    """A stage of parallel maps: a new one is made of the coarsest, then all see each other.

    Args:
        transition: for each map what makes it of the one before, or nothing.
        stage: list of maps -> list of maps.
        head: what follows the last of them.
    """

    in_one_piece = True
    """Its parts change lists in place, so none of them can run a second time by itself."""

    def __init__(self, transition: nn.Module, stage: nn.Module, head: nn.Module | None = None):
        super().__init__()
        self.transition = transition
        self.stage = stage
        self.head = head

    def forward(self, x: Tensor, *coarser: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The finest map, (B, C, h, w), and the coarser ones, to one more of them; or to what the head gives."""
        maps, steps = (x, *coarser), enumerate(self.transition.children())
        found = self.stage([maps[n] if isinstance(step, nn.Identity) else step(maps[-1]) for n, step in steps])
        return tuple(found) if self.head is None else self.head(found)


class HeadOfAll(nn.Module):
    """From four resolutions to one map.

    Args:
        wider: one for each resolution, to more channels.
        halving: three, from each resolution to the next.

    Attributes:
        dense: whether the last one keeps the resolution, so that the coarsest map is doubled.
    """

    def __init__(self, wider: nn.ModuleList, halving: nn.ModuleList):
        super().__init__()
        self.wider, self.halving = wider, halving
        self.dense = False

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C, h, w), (B, 2C, h / 2, w / 2) and so on -> (B, 1024, h / 8, w / 8), or h / 4 and w / 4."""
        y = self.wider[0](maps[0])
        for place, halve in enumerate(self.halving, start=1):
            own = self.wider[place](maps[place])
            if self.dense and place == len(self.halving):
                own = F.interpolate(own, scale_factor=2.0, mode="nearest")
            y = own + halve(y)
        return y


def whole(network: Any, images: Tensor) -> Tensor:
    """The map of 1024 channels as the network computes it."""
    last, network.final_layer = network.final_layer, nn.Identity()
    try:
        return network.forward_features(images)
    finally:
        network.final_layer = last


def cut(network: Any) -> list[nn.Module]:
    """The stem, the stage of one map, and those of two, three and four, the last with the head."""
    units = [network.conv1, network.bn1, network.act1, network.conv2, network.bn2, network.act2]
    return [
        Stem(*units),
        nn.Sequential(network.layer1),
        Fusion(network.transition1, network.stage2),
        Fusion(network.transition2, network.stage3),
        Fusion(network.transition3, network.stage4, HeadOfAll(network.incre_modules, network.downsamp_modules)),
    ]


def keep_resolution(stage: nn.Module) -> None:
    """Let the head end at the resolution before its last halving, with the same weights."""
    head: Any = stage.get_submodule("head")
    head.dense, head.halving[-1][0].stride = True, (1, 1)
