from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import regard
from regard.engine.run import start_run
from regard.engine.step import build_optimizer, lr_factor
from regard.layers import multi_scale
from regard.layers.multi_scale import Bottleneck, ChannelAttention, cut_streams, mix_channels
from regard.models.backbone import Backbone
from regard.recipes import read_recipe

pytestmark = pytest.mark.slow

TINY = "test_resnet.r160_in1k"
SMALL = {"backbone": TINY, "guidance": 12, "feature_dim": 6}
GAMMAS = (0.5, -0.3, 0.8, 0.4)


def small(num_ids: int = 5, **options) -> regard.ReIDModel:
    """A tiny network whose attention acts: fresh gammas are 0."""
    torch.manual_seed(0)
    model = regard.create_model("mudeep", num_ids, **(SMALL | options))
    with torch.no_grad():
        for value, gamma in zip(GAMMAS, model.gamma.values()):
            gamma.fill_(value)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 96, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def published() -> regard.ReIDModel:
    return regard.create_model("mudeep", 751).eval()


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_on_resnet50(published):
    assert size(published) == 66_706_295
    assert len(list(published.parameters())) == 264
    assert len(published.state_dict()) == 495
    assert size(published.classifier) == 4_623_156
    assert [size(stage) for stage in published.backbone.stages] == [9_536, 215_808, 1_219_584, 7_098_368]
    assert [size(stream) for stream in published.streams.values()] == [6_039_552, 10_502_144, 14_964_736]
    assert size(published.guide) == 3_146_752
    assert [size(attention) for attention in published.attention.values()] == [2_097_152] * 3
    assert size(published.head) + size(published.classifier) == 12 * 1_434_863
    assert size(copy.deepcopy(published).strip()) == 62_083_139


@pytest.mark.parametrize(("width", "as_published", "ours"), [(192, 23_859_062_784, 20_285_515_776), (128, None, None)])
def test_cost_on_resnet50(published, width, as_published, ours):
    """Multiply-accumulates of one image; everything but the heads shrinks with the width."""
    heads = 12 * 512 * (2048 + 751)
    if as_published is None:
        as_published = (23_859_062_784 - heads) * 2 // 3 + heads
        assert round(as_published / 1e9, 3) == 15.912
        ours = as_published - 3 * 2048**2 * (24 * 8 - 4)
    for network, cost in ((published.in_full, as_published), (published, ours)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 384, width))
        assert counter.get_total_flops() == 2 * cost


def slow_mix(rows: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(values)
    for b in range(len(rows)):
        for c in range(rows.shape[1]):
            logits = torch.stack([(rows[b, c] * columns[b, k]).sum() for k in range(rows.shape[1])])
            weights = logits.exp() / logits.exp().sum()
            out[b, c] = sum(w * v for w, v in zip(weights, values[b]))
    return out


@pytest.fixture
def mixture() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 7, n, generator=generator, dtype=torch.double) for n in (5, 5, 3))


@pytest.mark.parametrize("rows", [1, 3, 256])
def test_mixing_is_its_formula_however_it_is_cut(mixture, rows, monkeypatch):
    monkeypatch.setattr(multi_scale, "ROWS", rows)
    torch.testing.assert_close(mix_channels(*mixture), slow_mix(*mixture))
    assert torch.autograd.gradcheck(mix_channels, tuple(t.requires_grad_() for t in mixture))


def test_mixing_is_in_float32_under_mixed_precision(mixture):
    low = [t.bfloat16() for t in mixture]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mix_channels(*low)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, mix_channels(*(t.float() for t in low)))


def test_mixing_survives_large_logits(mixture):
    rows, columns, values = (t.float() for t in mixture)
    mixed = mix_channels(1e4 * rows, columns, values)
    assert torch.isfinite(mixed).all()
    nearest = values.gather(1, (rows @ columns.mT).argmax(-1, keepdim=True).expand(-1, -1, 3))
    torch.testing.assert_close(mixed, nearest)


def test_attention_commutes_with_means():
    attention = ChannelAttention(channels=8, guidance=4)
    guide, x = torch.rand(2, 4, 6, 5), torch.randn(2, 8, 6, 5)
    attended = attention(guide, x.flatten(2)).view(x.shape)
    stripes = F.adaptive_avg_pool2d(x, (3, 1)).flatten(2)
    torch.testing.assert_close(attention(guide, stripes), F.adaptive_avg_pool2d(attended, (3, 1)).flatten(2))


@pytest.mark.parametrize("attention", ["leader", "self", "none"])
@pytest.mark.parametrize("scales", [1, 2, 3, 4])
def test_forward_is_the_network_in_full(images, attention, scales):
    """Values, and the gradients of every parameter."""
    model = small(attention=attention, scales=scales, dropout=0.0)
    gradients = []
    for network in (model, model.in_full):
        model.zero_grad()
        out = network(images)
        sum(scores.square().sum() for scores in out.logits.values()).backward()
        gradients.append((out, [p.grad.clone() for p in model.parameters()]))
    (fast, ours), (full, theirs) = gradients
    torch.testing.assert_close(fast.embedding, full.embedding)
    scale = max(gradient.abs().max() for gradient in theirs).item()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * scale)
    assert list(full.maps) == [f"scale{number}" for number in range(1, scales + 1)]
    assert all(y.shape == (4, 96, 6, 4) for y in full.maps.values())


def test_forward_is_its_formula(images):
    """The whole network once more, as the released code has it."""
    model = small().eval()
    with torch.no_grad():
        x = images
        for stage in model.backbone.stages:
            x = stage(x)
        maps = [stream(x) for stream in model.streams.values()]
        guide = model.guide["leader"]
        led = torch.relu(guide.norm(F.conv2d(torch.cat(maps, 1), guide.conv.weight))).flatten(2)
        vectors = []
        for number, x in enumerate(maps, start=1):
            attention = model.attention[f"scale{number}"]
            p, q = (conv.weight.flatten(1) @ led for conv in (attention.rows, attention.columns))
            y = x.flatten(2) + GAMMAS[number - 1] * torch.softmax(p @ q.mT, -1) @ x.flatten(2)
            top, middle, bottom = y.view(x.shape).chunk(3, 2)
            for region, part in (("global", y), ("part0", top), ("part1", middle), ("part2", bottom)):
                head = model.head[f"scale{number}_{region}"]
                v = part.flatten(2).mean(2) @ head.conv.weight.flatten(1).T
                f = torch.relu(v / (1 + 1e-5) ** 0.5)
                vectors.append((f"scale{number}.{region}", f))
        out = model(images)
    torch.testing.assert_close(out.embedding, torch.cat([f for _, f in vectors], 1))
    assert list(out.features) == ["global", *(name for name, _ in vectors)]
    assert list(out.logits) == [name for name, _ in vectors]
    for name, f in vectors:
        torch.testing.assert_close(out.features[name], f)
        classifier = model.classifier[name.replace(".", "_")]
        torch.testing.assert_close(out.logits[name], f @ classifier.weight.T + classifier.bias)
    torch.testing.assert_close(out.features["global"], torch.cat([f for name, f in vectors if "global" in name], 1))
    torch.testing.assert_close(out.maps["leader"].flatten(2), led)


def test_fresh_gammas_turn_the_attention_off(images):
    torch.manual_seed(0)
    model = regard.create_model("mudeep", 5, **SMALL)
    plain = regard.create_model("mudeep", 5, **SMALL, attention="none")
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name in plain.state_dict()})
    assert torch.equal(model.embed(images), plain.embed(images))
    sum(scores.square().sum() for scores in model(images).logits.values()).backward()
    assert all(gamma.grad.abs() > 0 for gamma in model.gamma.values())
    unmoved = [*model.attention.parameters(), *model.guide.parameters()]
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in unmoved)


def test_modes_of_attention(images):
    led, selfish, plain = (small(attention=attention) for attention in ("leader", "self", "none"))
    assert list(led.guide) == ["leader"]
    assert led.guide["leader"].conv.weight.shape == (12, 3 * 96, 1, 1)
    assert list(selfish(images).maps) == ["scale1", "scale2", "scale3"]
    assert not plain(images).maps
    assert not [name for name, _ in plain.named_parameters() if name.startswith(("guide", "attention", "gamma"))]


@pytest.mark.parametrize(("stripes", "scales"), [(0, 1), (1, 2), (6, 3)])
def test_regions(images, stripes, scales):
    model = small(stripes=stripes, scales=scales)
    out = model(images)
    assert out.embedding.shape == (4, model.embed_dim) == (4, scales * (1 + stripes) * 6)
    assert out.features["global"].shape == (4, scales * 6)
    assert len(out.logits) == scales * (1 + stripes)


@pytest.mark.parametrize("height", [96, 32])
def test_one_image(height):
    """Fewer rows than stripes are no obstacle either."""
    model = small()
    alone = torch.randn(1, 3, height, 32)
    assert model.embed(alone).shape == (1, 72)
    torch.testing.assert_close(model.embed(alone.expand(3, -1, -1, -1))[1:2], model.embed(alone))


def test_dropout_is_for_classifiers_in_training_only(images):
    model = small(num_ids=50)
    with torch.no_grad():
        first, second = model(images), model(images)
        assert torch.equal(first.embedding, second.embedding)
        assert not torch.equal(first.logits["scale1.global"], second.logits["scale1.global"])
        assert torch.equal(model.eval()(images).logits["scale1.global"], model(images).logits["scale1.global"])


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "regnety_004",
        "mobilenetv3_large_100",
        "test_byobnet",
        "test_convnext.r160_in1k",
        "test_efficientnet.r160_in1k",
        "test_nfnet.r160_in1k",
        "densenet121",
        "efficientnet_b0",
    ],
)
def test_a_stream_of_all_blocks_is_the_stage(name):
    torch.manual_seed(0)
    backbone = Backbone(name)
    channels, stage = backbone.channels[-2], backbone.stages[-1]
    streams = cut_streams(stage, channels, count=8)
    assert stage.training
    x = torch.randn(2, channels, 6, 4, generator=torch.Generator().manual_seed(0))
    stage.eval()
    with torch.no_grad():
        outs = [stream.eval()(x) for stream in streams]
        assert all(out.shape == outs[0].shape for out in outs)
        assert any(torch.equal(out, stage(x)) for out in outs)
    entry = len(streams[0])
    assert [len(stream) - entry for stream in streams] == list(range(8))


def test_streams_start_alike_and_share_nothing():
    streams = cut_streams(Backbone("resnet18").stages[-1], 256, count=4)
    weights = [[block.conv1.weight for block in stream] for stream in streams]
    assert [len(w) for w in weights] == [1, 2, 3, 4]
    assert all(torch.equal(w[0], weights[0][0]) for w in weights)
    assert all(torch.equal(weights[3][1], repeated) for repeated in weights[3][2:])
    flat = [w.data_ptr() for row in weights for w in row]
    assert len(set(flat)) == len(flat)


def test_a_stage_of_one_block_is_followed_by_bottlenecks():
    streams = cut_streams(Backbone(TINY).stages[-1], 192, count=3)
    assert [type(block) for block in streams[2][1:]] == [Bottleneck, Bottleneck]


def test_published_optimizer(published):
    """The recipe's two groups are those of the released code: conv_all and the gammas learn slowly although new."""
    config = read_recipe("mudeep_market1501").config()
    groups = {group["lr"]: group["params"] for group in build_optimizer(published, config.optim).param_groups}
    counts = {round(lr, 6): (len(params), sum(p.numel() for p in params)) for lr, params in groups.items()}
    assert counts == {0.09: (66, 23_509_812), 0.009: (198, 43_196_483)}


@pytest.mark.parametrize(("recipe", "drops"), [("mudeep_market1501", [79, 159]), ("mudeep_market1501_2020", [39, 79])])
def test_published_schedule(recipe, drops):
    """Stepped at the start of epochs counted from 1, so that a drop comes one epoch early."""
    config = read_recipe(recipe).config()
    factors = [lr_factor(config.schedule, epoch, config.train.epochs) for epoch in range(config.train.epochs)]
    assert [epoch for epoch in range(1, len(factors)) if factors[epoch] < factors[epoch - 1]] == drops
    assert sorted({round(factor, 6) for factor in factors}) == [0.01, 0.1, 1]


def test_trains(tmp_path, tiny_overrides):
    config = read_recipe("mudeep_crowd").config(tiny_overrides)
    model = start_run(config, tmp_path / "run", quiet=True)
    assert all(gamma.abs() > 0 for gamma in model.gamma.values())
    assert regard.load(tmp_path / "run").options == model.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 0}, "scales is 0, wanted 1 to 4"),
        ({"scales": 5}, "scales is 5"),
        ({"stripes": -1}, "stripes is -1, wanted 0 or more"),
        ({"guidance": 0}, "guidance is 0, wanted 1 or more"),
        ({"feature_dim": 0}, "feature_dim is 0"),
        ({"attention": "follower"}, "attention is 'follower', wanted one of: leader, self, none"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(regard.RegardError, match=message) as caught:
        regard.create_model("mudeep", 5, **(SMALL | options))
    assert "\n" not in str(caught.value)
