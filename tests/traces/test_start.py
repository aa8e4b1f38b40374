"""What trainings start from: shapes and first weights of everything on top of the trunk, as the papers say.

The traces start from weights of their own and take sizes from them; so sizes and the published start are held here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from published import TRAININGS, VARIANTS
from torch import Tensor, nn
from traced import TINY

from regard.engine.build import build_criterion, build_model
from regard.recipes import read_recipe

IDS = 400
WIDTHS = [32, 32, 48, 192, 96]
"""Channels of the tiny trunk after the stem and its four stages."""

Rule = Callable[[Tensor, Tensor], bool]
"""Of a tensor and of the weight beside it."""


def constant(value: float) -> Rule:
    return lambda x, _: bool((x == value).all())


def near(found: float, wanted: float, numbers: int) -> bool:
    """Whether a standard deviation is as expected, of so many numbers."""
    return abs(found / wanted - 1) <= 5 / (2 * numbers) ** 0.5


def normal(std: float) -> Rule:
    return lambda x, _: near(float(x.std()), std, x.numel())


def fan(mode: str) -> Rule:
    """Kaiming's normal start."""
    return lambda x, _: near(float(x.std()), (2 / (x[0] if mode == "in" else x[:, 0]).numel()) ** 0.5, x.numel())


def torchs(x: Tensor, weight: Tensor) -> bool:
    """Evenly within one over the root of what a number of the output is summed of, as torch starts its layers."""
    most = weight[0].numel() ** -0.5
    few = x.numel() < 30
    return float(x.abs().max()) <= most + 1e-6 and (few or near(float(x.std()), most / 3**0.5, x.numel()))


def glorots(x: Tensor, _: Tensor) -> bool:
    """Evenly within the root of six over inputs and outputs."""
    return near(float(x.std()), (2 / sum(x.shape)) ** 0.5, x.numel())


def scaled(x: Tensor, _: Tensor) -> bool:
    """TensorFlow's variance scaling of convolutions, cut off at twice a standard deviation chosen for that."""
    count = x[0].numel()
    return float(x.abs().max()) <= 2 * (2.6 / count) ** 0.5 and fan("in")(x, x)


def orthogonal(x: Tensor, _: Tensor) -> bool:
    return bool(torch.allclose(x @ x.T, torch.eye(len(x)), atol=1e-4))


ONE, ZERO, SMALL = constant(1.0), constant(0.0), normal(0.001)
NORM = {r"\.norm\.weight": ONE, r"\.norm\.bias": ZERO}
NECK = {r"neck\.weight": ONE, r"neck\.bias": ZERO, r"classifier\.weight": SMALL}
SAMS = {r"attend\.1\.weight": ONE, r"attend\.1\.bias": ZERO, r"attend\.[03]\.(weight|bias)": torchs}
AGENTS = NECK | NORM | SAMS | {r"(squeeze|excite|agent\.conv)\.weight": torchs}
RELATIONS = NECK | NORM | {
    r"(embed\.1|normalize|attend\.[14])\.weight": ONE,
    r"(embed\.1|normalize|attend\.[14])\.bias": ZERO,
    r"(embed\.0|compress|attend\.[03])\.weight": torchs,
}  # fmt: skip
DECODERS = {
    r"norms\.\d\.weight": ONE,
    r"norms\.\d\.bias": ZERO,
    r"(doublings|heads)\.\d\.(weight|bias)": torchs,
    r"^hab\.copied": lambda x, _: True,
}
PARTS = NORM | {
    r"parts\.reductions\.\d\.linear": fan("out"),
    r"supervision\.ds\d\.reduction": torchs,
    r"classifiers?(\.\w+)?\.weight": SMALL,
    r"classifiers?(\.\w+)?\.bias": ZERO,
}
SELF = {r"alpha": ONE, r"gamma|beta|mu|omega": ZERO}
STARTS: dict[str, dict[str, Rule]] = {
    "baseline": NECK,
    "apnet": AGENTS,
    "msea_2023": AGENTS,
    "msea_head": AGENTS,
    "msea_lite": AGENTS,
    "apnet_s": RELATIONS,
    "rga_s": RELATIONS,
    "rga_sc": RELATIONS,
    "mudeep": NORM
    | {
        r"^streams": lambda x, _: True,
        r"^gamma": ZERO,
        r"^head\.\w+\.conv": fan("in"),
        r"^guide\.leader\.conv|^attention": torchs,
        r"^classifier\.\w+\.weight": SMALL,
        r"^classifier\.\w+\.bias": ZERO,
    },
    "daaf_bot": NECK | DECODERS,
    "daaf_trinet": DECODERS
    | {
        r"neck\.0\.weight": torchs,
        r"neck\.1\.weight": ONE,
        r"neck\.1\.bias": ZERO,
        r"neck\.3\.weight": orthogonal,
        r"neck\.3\.bias": ZERO,
    },
    "daaf_trinet_released": {
        r"norms\.\d\.weight|neck\.1\.weight": ONE,
        r"norms\.\d\.bias|neck\.[13]\.bias": ZERO,
        r"(doublings|heads)\.\d\.weight": scaled,
        r"neck\.0\.weight": glorots,
        r"neck\.3\.weight": orthogonal,
    },
    "pcb": PARTS,
    "sa": PARTS,
    "sa_released": PARTS,
    "dsp": PARTS | SELF,
    "dsp_released": PARTS,
}

Shapes = dict[str, tuple[int, ...]]


def taps(first: int, shapes: Callable[[int], dict[str, tuple[int, ...]]]) -> Shapes:
    """Shapes of the attention after every stage, from its channels."""
    return {
        rf"attention.tap{tap}.levels.{name}": shape
        for tap, channels in enumerate(WIDTHS, start=1)
        if tap >= first
        for name, shape in shapes(channels).items()
    }


def sams(level: int, c: int) -> Shapes:
    hidden = max(c * 2 // 4, 32)
    name = f"level{level}.agent.attend"
    return {f"{name}.0.weight": (hidden, c // 2), f"{name}.3.weight": (c, hidden)}


def eca(level: int, taps: int) -> Shapes:
    return {f"level{level}.agent.conv.weight": (1, 1, taps)}


DECODER: Shapes = {f"hab.decoder.doublings.{n}.weight": (96 if n == 0 else 64, 64, 3, 3) for n in range(4)}
DECODER |= {f"pab.doublings.{n}.weight": (16 if n == 0 else 64, 64, 3, 3) for n in range(4)}
DECODER |= {f"pab.heads.{n}.weight": (joints, 64, 1, 1) for n, joints in enumerate((5, 2, 2, 4, 2, 2))}
REDUCED: Shapes = {"parts.reductions.0.linear.weight": (256, 96), "parts.classifiers.part5.weight": (IDS, 256)}
REDUCED |= {f"supervision.ds{n}.reduction.weight": (256, WIDTHS[n]) for n in (1, 2, 3)}
SHAPES: dict[str, Shapes] = {
    "baseline": {"classifier.weight": (IDS, 96)},
    "apnet": taps(1, lambda c: {"level1.agent.squeeze.weight": (8, c), **sams(2, c)}),
    "msea_2023": taps(1, lambda c: eca(1, 3) | sams(2, c)),
    "msea_head": taps(1, lambda c: sams(1, c) | eca(2, 5)),
    "msea_lite": taps(1, lambda c: eca(1, 5) | eca(2, 5)),
    "apnet_s": taps(2, lambda c: {f"level{level}.agent.embed.0.weight": (3 * (c // 8), c, 1, 1) for level in (1, 2)}),
    "rga_s": taps(2, lambda c: {"level1.agent.embed.0.weight": (3 * (c // 8), c, 1, 1)}),
    "rga_sc": taps(
        2,
        lambda c: {
            "level1.agent.spatial.embed.0.weight": (3 * (c // 8), c, 1, 1),
            "level1.agent.channel.relations.compress.weight": (c // 8, 2 * c),
        },
    ),
    "mudeep": {
        "guide.leader.conv.weight": (512, 288, 1, 1),
        "attention.scale3.rows.weight": (96, 512, 1, 1),
        "head.scale3_part2.conv.weight": (512, 96, 1, 1),
    },
    "daaf_bot": DECODER,
    "daaf_trinet": DECODER | {"neck.0.weight": (1024, 96), "neck.3.weight": (128, 1024)},
    "daaf_trinet_released": {
        "hab.decoder.doublings.0.weight": (48, 64, 3, 3),
        "pab.doublings.0.weight": (96, 64, 3, 3),
        "pab.heads.0.weight": (17, 64, 1, 1),
        "pab.end_norms.0.weight": (17,),
    },
    "pcb": {f"parts.reductions.{n}.linear.weight": (256, 96) for n in range(6)},
    "sa": REDUCED,
    "sa_released": REDUCED,
    "dsp": REDUCED,
    "dsp_released": REDUCED,
}


def check(recipe: str, overrides: list[str]) -> None:
    """Compare what a recipe's training starts from with what is published.

    Raises:
        AssertionError: a size differs, a weight starts otherwise, or there is one that nothing is known of.
    """
    training = (TRAININGS | VARIANTS)[recipe]
    config = read_recipe(recipe).config([*TINY, *overrides])
    torch.manual_seed(0)
    model = build_model(config, IDS)
    named: dict[str, Any] = dict(model.named_parameters())
    for name, shape in SHAPES[training.network].items():
        assert tuple(named[name].shape) == shape, name
    for name, parameter in named.items():
        if name.startswith("backbone."):
            continue
        rules = [rule for pattern, rule in STARTS[training.network].items() if re.search(pattern, name)]
        assert rules, f"nothing is known of the start of {name}"
        beside = named.get(name.rsplit(".", 1)[0] + ".weight", parameter)
        assert all(rule(parameter.detach(), beside) for rule in rules), f"start of {name}"
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert (module.momentum, module.eps) == (0.1, 1e-5), name
    for center in build_criterion(config, model).parameters():
        assert center.shape == (IDS, 96)
        assert normal(1.0)(center.detach(), center)


@pytest.mark.parametrize("recipe", [*TRAININGS, "daaf_trinet_market1501_released"])
def test_trainings_start_as_published(recipe):
    check(recipe, [])
