from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard.errors import ConfigError
from regard.layers.heads import bnneck, identity_classifier
from regard.layers.pyramid import (
    AttentionPyramid,
    EfficientChannelAttention,
    EfficientSplitAttention,
    SplitAttention,
    SqueezeExcitation,
    adaptive_kernel,
)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 16, 6, 5, generator=torch.Generator().manual_seed(0))


def slow_se(layer: SqueezeExcitation, x: torch.Tensor) -> torch.Tensor:
    gates = torch.zeros(len(x), x.shape[1])
    for b, image in enumerate(x):
        means = torch.stack([channel.mean() for channel in image])
        gates[b] = torch.sigmoid(layer.excite.weight @ torch.clamp(layer.squeeze.weight @ means, min=0))
    return gates


def slow_split_attention(layer: SplitAttention, x: torch.Tensor) -> torch.Tensor:
    """Sum of the groups first, then the mean, convolutions, and one softmax per channel of a group."""
    first, norm, _, second = layer.attend
    r, c = layer.radix, x.shape[1] // layer.radix
    merged = sum(x[:, j * c : (j + 1) * c] for j in range(r))
    u = F.adaptive_avg_pool2d(merged, 1)
    z = F.conv2d(u, first.weight[:, :, None, None], first.bias)
    z = (z - norm.running_mean[:, None, None]) / torch.sqrt(norm.running_var[:, None, None] + norm.eps)
    z = torch.clamp(z * norm.weight[:, None, None] + norm.bias[:, None, None], min=0)
    a = F.conv2d(z, second.weight[:, :, None, None], second.bias).flatten(1)
    gates = torch.zeros_like(a)
    for k in range(c):
        weights = torch.stack([a[:, j * c + k].exp() for j in range(r)])
        for j in range(r):
            gates[:, j * c + k] = weights[j] / weights.sum(0)
    return gates


def test_squeeze_excitation_is_its_formula(x):
    layer = SqueezeExcitation(16, hidden=3)
    torch.testing.assert_close(layer(x), slow_se(layer, x)[:, :, None, None])


def test_zero_squeeze_excitation_halves(x):
    layer = SqueezeExcitation(16)
    nn.init.zeros_(layer.excite.weight)
    assert torch.equal(x * layer(x), x / 2)


@pytest.mark.parametrize("radix", [1, 2, 4])
def test_split_attention_is_its_formula(x, radix):
    layer = SplitAttention(16, radix)
    for _ in range(3):
        layer(x)
    layer.eval()
    torch.testing.assert_close(layer(x), slow_split_attention(layer, x)[:, :, None, None])


@pytest.mark.parametrize("radix", [2, 4])
def test_split_attention_gates_sum_to_one(x, radix):
    gates = SplitAttention(16, radix)(x)
    assert gates.shape == (3, 16, 1, 1)
    torch.testing.assert_close(gates.view(3, radix, -1).sum(1), torch.ones(3, 16 // radix))


@pytest.mark.parametrize("radix", [2, 4])
def test_zero_split_attention_divides_by_the_radix(x, radix):
    layer = SplitAttention(16, radix)
    nn.init.zeros_(layer.attend[3].weight)
    nn.init.zeros_(layer.attend[3].bias)
    torch.testing.assert_close(x * layer(x), x / radix)


@pytest.mark.parametrize(("channels", "radix", "count"), [(64, 2, 3232), (2048, 2, 3150848), (64, 4, 5376)])
def test_split_attention_size(channels, radix, count):
    assert sum(p.numel() for p in SplitAttention(channels, radix).parameters()) == count


def test_split_attention_refuses_a_remainder():
    with pytest.raises(ConfigError, match="64 channels for 3 groups"):
        SplitAttention(64, radix=3)


def constant(value: float) -> nn.Module:
    """An agent whose gate is ``value`` plus the mean of its input, so that the order of levels shows."""

    class Constant(nn.Module):
        def forward(self, x):
            return value + x.mean((1, 2, 3), keepdim=True)

    return Constant()


@pytest.mark.parametrize("order", ["fine_to_coarse", "coarse_to_fine"])
@pytest.mark.parametrize("gating", ["multiply", "square"])
def test_pyramid_is_a_chain_of_levels(x, order, gating):
    pyramid = AttentionPyramid([constant(0.5), constant(0.25), constant(0.125)], 16, order, gating).eval()
    expected, gates = x, {}
    numbers = [1, 2, 3] if order == "coarse_to_fine" else [3, 2, 1]
    for number in numbers:
        gates[f"level{number}"] = 2.0**-number + expected.mean((1, 2, 3), keepdim=True)
        expected = expected * gates[f"level{number}"] * (expected if number == 1 and gating == "square" else 1)
        if number > 1:
            expected = expected / (1 + 1e-5) ** 0.5
    out, got = pyramid(x)
    torch.testing.assert_close(out, expected)
    assert list(got) == [f"level{number}" for number in numbers]
    for name, gate in gates.items():
        torch.testing.assert_close(got[name], gate)


def test_pyramid_normalizes_all_levels_but_the_first():
    pyramid = AttentionPyramid([SqueezeExcitation(16), SplitAttention(16, 2), SplitAttention(16, 4)], 16)
    frozen = [name for name, p in pyramid.named_parameters() if not p.requires_grad]
    assert frozen == ["levels.level2.norm.bias", "levels.level3.norm.bias"]
    assert not list(pyramid.levels["level1"].norm.parameters())


def test_neck_and_classifier():
    neck, classifier = bnneck(32), identity_classifier(32, 1000)
    assert torch.equal(neck.weight, torch.ones(32))
    assert torch.equal(neck.bias, torch.zeros(32))
    assert not neck.bias.requires_grad
    assert classifier.bias is None
    assert classifier.weight.shape == (1000, 32)
    assert classifier.weight.std().item() == pytest.approx(0.001, rel=0.05)


@pytest.mark.parametrize(("channels", "kernel"), [(64, 3), (256, 5), (512, 5), (1024, 5), (2048, 7), (2, 3), (96, 3)])
def test_adaptive_kernel(channels, kernel):
    assert adaptive_kernel(channels) == kernel


def slow_eca(layer: EfficientChannelAttention, x: torch.Tensor) -> torch.Tensor:
    """Strip by strip, the first ones taller where the height does not divide, channel by channel."""
    weight, gates = layer.conv.weight.flatten(), torch.zeros_like(x)
    k, (_, channels, height, _) = len(weight), x.shape
    tall = height % layer.parts
    ends = [0]
    for part in range(layer.parts):
        ends.append(ends[-1] + height // layer.parts + (1 if part < tall else 0))
    for top, bottom in pairwise(ends):
        means = x[:, :, top:bottom].mean((2, 3))
        for c in range(channels):
            neighbors = [(i, c + i - k // 2) for i in range(k) if 0 <= c + i - k // 2 < channels]
            logit = sum(weight[i] * means[:, n] for i, n in neighbors)
            gates[:, c, top:bottom] = torch.sigmoid(logit)[:, None, None]
    return gates


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("height", [6, 8])
def test_efficient_channel_attention_is_its_formula(parts, kernel, height):
    x = torch.randn(3, 16, height, 5)
    layer = EfficientChannelAttention(kernel, parts)
    gate = layer(x)
    assert gate.shape == (3, 16, height if parts > 1 else 1, 1)
    torch.testing.assert_close(gate.expand_as(x), slow_eca(layer, x))
    assert sum(p.numel() for p in layer.parameters()) == kernel


def test_more_strips_than_rows(x):
    one_per_row = EfficientChannelAttention(3, parts=6)
    many = EfficientChannelAttention(3, parts=50)
    many.load_state_dict(one_per_row.state_dict())
    assert torch.equal(many(x), one_per_row(x))


def test_zero_efficient_channel_attention_halves(x):
    layer = EfficientChannelAttention(5, parts=2)
    nn.init.zeros_(layer.conv.weight)
    assert torch.equal(x * layer(x), x / 2)


@pytest.mark.parametrize("radix", [2, 4])
def test_efficient_split_attention_is_its_formula(x, radix):
    layer = EfficientSplitAttention(16, radix, kernel=3)
    u = sum(group.mean((2, 3)) for group in x.chunk(radix, dim=1))
    logits = torch.stack([F.conv1d(u[:, None], weight[None], padding=1)[:, 0] for weight in layer.conv.weight])
    gates = logits.exp() / logits.exp().sum(0)
    torch.testing.assert_close(layer(x), torch.cat(list(gates), dim=1)[:, :, None, None])
    assert sum(p.numel() for p in layer.parameters()) == 3 * radix
    nn.init.zeros_(layer.conv.weight)
    torch.testing.assert_close(x * layer(x), x / radix)


def test_efficient_split_attention_refuses_a_remainder():
    with pytest.raises(ConfigError, match="61 channels for 2 groups"):
        EfficientSplitAttention(61, radix=2, kernel=3)
