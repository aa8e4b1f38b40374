"""What one camera makes of a picture, taken out of early maps or mixed: IBN and MixStyle.

Mean and deviation of a channel over the positions of one picture are its style: much of its light, colors and contrast.

Shapes: B images, C channels, h x w positions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, check_choice
from regard.layers.batch_norm import finish
from regard.layers.row import blocks
from regard.precision import at_least_float32

__all__ = ["IBN", "InstanceBatchNorm", "MixStyle", "put_ibn", "put_mixstyle"]

IBN = Literal["a", "b"]

SUCH = "such as resnet50, mobilenetv2_100 or tf_efficientnet_lite0"


class InstanceBatchNorm(nn.Module):
    """Instance normalization of the first channels, batch normalization of the others.

    X. Pan, P. Luo, J. Shi, X. Tang, "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV
    2018, arXiv 1807.09441, figure 3 (a): half of the channels each.

    Args:
        norm: the batch normalization in whose place it stands, whose scales, shifts and running statistics it takes
            over, and the dropout and activation that timm has in some.
        share: of the channels that are normalized by instance, 0.5 in the paper; 1 leaves no others.
    """

    def __init__(self, norm: nn.BatchNorm2d, share: float = 0.5):
        super().__init__()
        first = int(share * norm.num_features)
        self.instance = nn.InstanceNorm2d(first, eps=norm.eps, affine=True)
        self.batch = nn.BatchNorm2d(norm.num_features - first, norm.eps, norm.momentum)
        self.drop, self.act = getattr(norm, "drop", None), getattr(norm, "act", None)
        own, taken = self.state_dict(), norm.state_dict()
        for name, value in own.items():
            part, _, kind = name.partition(".")
            if part != "act":
                theirs = taken[kind]
                value.copy_(theirs[:first] if part == "instance" else theirs[first:] if theirs.ndim else theirs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        first = self.instance.num_features
        normalized = [self.instance(x[:, :first])]
        if first < x.shape[1]:
            normalized.append(self.batch(x[:, first:]))
        return finish(self, torch.cat(normalized, 1))


class MixStyle(nn.Module):
    """Give a picture's map, in training, a mean and deviation between its own and another picture's of the batch.

    K. Zhou, Y. Yang, Y. Qiao, T. Xiang, "Domain Generalization with MixStyle", ICLR 2021, arXiv 2104.02008, equations 1
    to 8, with a random order of the batch (section 2.2). No gradient passes the means and deviations.

    Args:
        probability: of mixing a batch.
        alpha: of the Beta distribution that each picture's share of its own style is drawn from.
    """

    def __init__(self, probability: float = 0.5, alpha: float = 0.1):
        super().__init__()
        if not 0 <= probability <= 1 or not alpha > 0:
            raise ConfigError(
                f"mixstyle_p is {probability} and mixstyle_alpha {alpha}, wanted a probability from 0 to 1 and the "
                "parameter of a Beta distribution, above 0"
            )
        self.probability = probability
        self.share = torch.distributions.Beta(float(alpha), float(alpha))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w); in evaluation the map as it is."""
        if not self.training or torch.rand(()).item() >= self.probability:
            return x
        with torch.no_grad():
            values = at_least_float32(x)
            variance, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
            deviation = (variance + 1e-6).sqrt()
            share = self.share.sample(torch.Size((len(x), 1, 1, 1))).to(mean)
            order = torch.randperm(len(x)).to(x.device)
            scale = torch.lerp(deviation[order], deviation, share) / deviation
            shift = torch.lerp(mean[order], mean, share) - scale * mean
        return (at_least_float32(x) * scale + shift).to(x.dtype)


def put_ibn(stages: nn.ModuleList, kind: IBN, channels: Sequence[int], backbone: str) -> None:
    """Put instance normalization into the early stages of a backbone, in place; its weights stay.

    ``a``: in every block of all stages but the last, half of the channels of the first batch normalization. ``b``: all
    channels of the stem's, and a new one behind the sum of the last block of the two stages that follow it. In a
    ResNet both are the paper's (figure 3, section 3.2); other networks' blocks are treated alike.

    Args:
        stages: the stem and the others.
        kind: which.
        channels: after each stage.
        backbone: the backbone's name, for the message.

    Raises:
        ConfigError: there is no batch normalization to be found in its blocks.
    """
    check_choice("ibn", kind, IBN)
    inside = [[block for block in blocks(stage) if _first_norm(block)] for stage in stages]
    early = [block for stage in inside[:-1] for block in stage]
    stem = _first_norm(stages[0])
    ends = [found[-1] for found in inside[1:3] if found]
    if not early or not stem or len(ends) < 2:
        raise ConfigError(
            f"ibn is {kind!r}, but the early stages of backbone {backbone!r} have no batch normalization in blocks of "
            f"their own; choose one that has, {SUCH}, or leave ibn out"
        )
    if kind == "a":
        for block in early:
            _replace(block, 0.5)
        return
    _replace(stages[0], 1.0)
    for stage, block, width in zip(stages[1:3], ends, channels[1:3]):
        norm, convs = nn.InstanceNorm2d(width, affine=True), sum("conv" in name for name in block._modules)
        if isinstance(act := block._modules.get(f"act{convs}"), nn.Module):
            setattr(block, f"act{convs}", nn.Sequential(norm, act))
        else:
            _append(stage, "ibn", norm, backbone)


def put_mixstyle(stages: nn.ModuleList, after: Sequence[int], mix: MixStyle, backbone: str) -> None:
    """Mix styles behind stages of a backbone, in place.

    Args:
        stages: the stem, which is 0, and the others.
        after: numbers of stages.
        mix: a copy of it stands behind each.
        backbone: the backbone's name, for the message.

    Raises:
        ConfigError: there is no such stage before the last, or what it returns is no map alone.
    """
    if any(number not in range(len(stages) - 1) for number in after) or len({*after}) < len(after):
        raise ConfigError(
            f"mixstyle is {list(after)}, wanted stages before the last, each once, from 0 for the stem to "
            f"{len(stages) - 2}, as [1, 2]"
        )
    for number in after:
        _append(stages[number], "mixstyle", copy.deepcopy(mix), backbone)


def _append(stage: nn.Module, name: str, layer: nn.Module, backbone: str) -> None:
    if type(stage) is not nn.Sequential:
        raise ConfigError(
            f"{name} cannot stand behind a stage of backbone {backbone!r}, which returns more than a map; choose one "
            f"{SUCH}, or leave {name} out"
        )
    stage.add_module(name, layer)


def _first_norm(module: nn.Module) -> tuple[nn.Module, str] | None:
    """The module that the first batch normalization inside is an attribute of, and its name there."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                return parent, name
    return None


def _replace(module: nn.Module, share: float) -> None:
    """Let the first batch normalization inside normalize this share of its channels by instance."""
    if place := _first_norm(module):
        setattr(*place, InstanceBatchNorm(getattr(*place), share))
