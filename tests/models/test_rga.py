"""Relation attention against its definition, with all relations computed and stacked, and against the authors' figures.

The twin below materializes what the paper describes; its operations are the published ones, so the published GFLOPs are
checked on it, and ours beside them.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import regard
from regard.errors import ConfigError, DataError
from regard.layers.rga import ChannelRelationAttention, RelationAttention, RelationPair
from regard.models.cost import constant_weights, inference_cost
from regard.models.cost import count_gflops as gflops

TINY = "test_resnet.r160_in1k"
SIZES = [((256, 128), (1_082_178, 164_898, 398_154, 1_578_570)), ((384, 192), (5_376_098, 433_418, 414_954, 1_595_370))]
MAPS = {(256, 128): ((64, 32), (32, 16), (16, 8), (16, 8)), (384, 192): ((96, 48), (48, 24), (24, 12), (24, 12))}
CHANNELS = (256, 512, 1024, 2048)
NARROWEST = 2 * 8
"""At 256 x 128 the quarters of the last two maps have 32 positions, for which the formula leaves the gate a hidden
width of 0 and so no sight; ours has 1, with 8 parameters in either module."""


class StackedRelations(nn.Module):
    """Affinity, both of its sides stacked, a 1 x 1 convolution over the stack; strip after strip."""

    def __init__(self, layer: RelationAttention):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer, (batch, _, height, width) = self.layer, x.shape
        unary, theta, phi = layer.embed(x).chunk(3, dim=1)
        strips = []
        for a, b in zip(theta.chunk(layer.parts, dim=2), phi.chunk(layer.parts, dim=2)):
            a, b = a.flatten(2), b.flatten(2)
            affinity = a.transpose(1, 2) @ b  # r[i, j] = theta_i . phi_j
            stacked = torch.cat(
                [affinity.transpose(1, 2), affinity], dim=1
            )  # at position i: r_i1 .. r_in, r_1i .. r_ni
            weight = layer.compress.weight[:, :, None, None]
            strips.append(F.conv2d(stacked.view(batch, -1, height // layer.parts, width), weight))
        relations = F.relu(layer.normalize(torch.cat(strips, dim=2)))
        return layer.attend(torch.cat([unary.mean(1, keepdim=True), relations], dim=1))


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("training", [True, False])
def test_folded_relations_are_the_stacked_ones(parts, training):
    torch.manual_seed(0)
    layer = RelationAttention(48, 8, 6, parts).double()
    x = torch.randn(3, 48, 8, 6, dtype=torch.float64, requires_grad=True)
    layer(x)
    layer.train(training)
    results = []
    for module in (layer, StackedRelations(layer)):
        layer.zero_grad()
        gate = module(x)
        (gradient,) = torch.autograd.grad(gate.square().sum(), x, retain_graph=True)
        gate.square().sum().backward()
        results.append([gate, gradient, *(p.grad.clone() for p in layer.parameters())])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert gate.shape == (3, 1, 8, 6)


def test_strips_do_not_see_each_other():
    torch.manual_seed(0)
    layer = RelationAttention(64, 16, 16, parts=2).eval()
    x = torch.randn(1, 64, 16, 16)
    below = torch.cat([x[:, :, :8], torch.randn(1, 64, 8, 16)], dim=2)
    torch.testing.assert_close(layer(x)[:, :, :8], layer(below)[:, :, :8])
    assert not torch.allclose(layer(x)[:, :, 8:], layer(below)[:, :, 8:])
    twice = torch.cat([x[:, :, :8]] * 2, dim=2)
    first, second = layer(twice).chunk(2, dim=2)
    torch.testing.assert_close(first, second)


def test_other_memory_layouts():
    layer = RelationAttention(16, 8, 4, parts=2).eval()
    x = torch.randn(2, 16, 8, 4)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x))


@pytest.mark.parametrize(("size", "counts"), SIZES, ids=["256", "384"])
def test_parameters_of_every_module(size, counts):
    layers = [RelationAttention(channels, *shape) for channels, shape in zip(CHANNELS, MAPS[size])]
    assert tuple(sum(p.numel() for p in layer.parameters()) for layer in layers) == counts


def network(size: tuple[int, int], level: int, num_ids: int = 751, **options) -> regard.ReIDModel:
    height, width = size
    options = {"agent": "rga", "height": height, "width": width, **options}
    return regard.create_model("apnet", num_ids, level=level, **options)


def stack(model: regard.ReIDModel) -> regard.ReIDModel:
    """The network with its relations computed as published."""
    for pyramid in model.attention.values():
        for level in pyramid.levels.values():
            level.agent = StackedRelations(level.agent)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "level", "attention", "published", "ours"),
    [
        ((256, 128), 1, 3_223_800, 13.524, 9.003),
        ((256, 128), 2, 3_223_800 + 2_375_056 + 7_680, 15.49, 9.795),
        ((256, 128), 3, 3_223_800 + 2_375_056 + 2_162_752 + 2 * 7_680 + NARROWEST, 16.54, 10.541),
        ((384, 192), 1, 7_819_840, 71.518, 21.011),
        ((384, 192), 2, 7_819_840 + 3_524_340 + 7_680, 18.23972 + 53.28 + 14.91, 23.093),
        ((384, 192), 3, 7_819_840 + 3_524_340 + 2_450_198 + 2 * 7_680, 18.23972 + 53.28 + 14.91 + 5.12, 24.902),
    ],
)
def test_sizes_on_resnet50(size, level, attention, published, ours):
    model = network(size, level)
    assert sum(p.numel() for p in model.attention.parameters()) == attention
    assert sum(p.numel() for p in model.parameters()) == 25_050_176 + attention
    model.strip()
    assert gflops(model, 1, 3, *size) == pytest.approx(ours, abs=5e-4)
    digits = 3 if published in (13.524, 71.518) else 1
    assert gflops(stack(model), 1, 3, *size) == pytest.approx(published, abs=0.51 * 10**-digits)


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 2, 3])
def test_in_full_the_relations_are_stacked(level):
    """The network's own long way is the twin's: the same numbers for the same operations, and back again."""
    model = network((128, 64), level, 5, backbone=TINY)
    images = torch.randn(4, 3, 128, 64)
    model(images)
    short = model.eval()(images).embedding
    full = model.in_full(images).embedding
    torch.testing.assert_close(full, short, rtol=1e-4, atol=1e-5)
    assert torch.equal(model(images).embedding, short)
    costs = inference_cost(model, 128, 64)
    assert costs.gflops == gflops(model.strip(), 1, 3, 128, 64)
    assert costs.published_gflops == gflops(stack(model), 1, 3, 128, 64) != costs.gflops
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images).embedding, full, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "size", "attention"),
    [
        ("rga_c", (256, 128), 26_598_328 - 23_508_032),
        ("rga_c", (384, 192), 33_440_008 - 23_508_032),
        ("rga_sc", (256, 128), 29_822_128 - 23_508_032),
        ("rga_sc", (384, 192), 41_259_848 - 23_508_032),
    ],
)
def test_parameters_of_channels_and_of_both(agent, size, attention):
    with constant_weights():
        model = network(size, 1, agent=agent)
    assert sum(p.numel() for p in model.attention.parameters()) == attention


def test_channels_are_weighed_by_what_the_positions_left():
    """RGA-SC is RGA-S and then RGA-C on what that has left; a strip has gates of its own."""
    torch.manual_seed(0)
    pair, x = RelationPair(64, 16, 8, parts=2).eval(), torch.randn(2, 64, 16, 8)
    spatial = pair.spatial(x)
    channel = pair.channel(x * spatial)
    assert (spatial.shape, channel.shape) == ((2, 1, 16, 8), (2, 64, 16, 1))
    assert torch.equal(pair(x), spatial * channel)
    upper, lower = channel.chunk(2, dim=2)
    assert torch.equal(upper, upper[:, :, :1].expand_as(upper))
    assert not torch.equal(upper, lower)
    half = pair.channel(torch.cat([x[:, :, :8], torch.randn(2, 64, 8, 8)], dim=2))
    torch.testing.assert_close(half[:, :, :8], pair.channel(x)[:, :, :8])
    whole = ChannelRelationAttention(64, 16, 8)
    assert whole(x).shape == (2, 64, 1, 1)
    order = torch.randperm(64)
    assert not torch.allclose(whole(x[:, order]), whole(x)[:, order])  # which channel is which matters, as published


def test_no_attention_after_the_stem():
    model = network((128, 64), 3, backbone=TINY)
    maps = model(torch.randn(2, 3, 128, 64)).maps
    assert list(maps) == [f"tap{tap}.level{number}" for tap in (2, 3, 4, 5) for number in (3, 2, 1)]
    assert maps["tap2.level1"].shape == (2, 1, 32, 16)
    assert maps["tap5.level3"].shape == (2, 1, 8, 4)


@pytest.mark.parametrize("agent", ["rga", "rga_sc"])
@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("order", ["fine_to_coarse", "coarse_to_fine"])
def test_trains(level, order, agent):
    model = network((64, 32), level, 5, backbone=TINY, order=order, agent=agent)
    out = model(torch.randn(4, 3, 64, 32))
    (out.logits["global"].square().sum() + out.features["global"].square().sum()).backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


def test_lower_precision():
    model = network((64, 32), 2, 5, backbone=TINY)
    images = torch.randn(4, 3, 64, 32)
    model(images)
    reference = model.embed(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert F.cosine_similarity(model.embed(images), reference).min() > 0.98


def test_images_of_another_size_are_refused_also_after_loading(tmp_path):
    model = network((64, 32), 2, 5, backbone=TINY)
    model.save(tmp_path)
    loaded = regard.load(tmp_path)
    assert (loaded.options["height"], loaded.options["width"]) == (64, 32)
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(loaded.embed(images), model.embed(images))
    for other in (images.mT, F.pad(images, (0, 16))):
        with pytest.raises(DataError, match=r"got images of \d+ x \d+ pixels, .* built for 64 x 32; resize") as caught:
            loaded.embed(other)
        assert "\n" not in str(caught.value)


def test_without_levels_any_size_will_do():
    assert network((64, 32), 0, 5, backbone=TINY).embed(torch.randn(1, 3, 48, 48)).shape == (1, 96)


@pytest.mark.parametrize(
    ("size", "message"),
    [((250, 128), "a map of 63 rows for 2 equal strips"), ((0, 128), "height and width are 0 and 128")],
)
def test_wrong_sizes(size, message):
    with pytest.raises(ConfigError, match=message) as caught:
        network(size, 2, 5, backbone=TINY)
    assert "\n" not in str(caught.value)


def test_hidden_width_is_never_zero():
    layer = RelationAttention(16, 4, 8)
    assert layer.attend[0].out_channels == 1
    assert sum(p.numel() for p in layer.attend.parameters()) == 5 + 2 + 1 + 2
