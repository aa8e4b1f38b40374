"""DSP and SA: what they are made of, on a tiny backbone and, counted only, on the published one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import regard
from regard.engine.build import build_criterion
from regard.engine.step import build_optimizer
from regard.layers.heads import PartHeads, stripe_averages
from regard.layers.self_attention import (
    ChannelGate,
    CodedPositionGate,
    DeepSelfAttention,
    PositionGate,
    SpatialAttention,
)
from regard.recipes import read_recipe
from regard.structures import Batch

TINY = "test_resnet.r160_in1k"
GATE_CASE = Path(__file__).parents[1] / "parity" / "dsa_gate_case.json"
HEADS = ["part0", "part1", "part2", "part3", "part4", "part5", "global", "ds1", "ds2", "ds3"]


def create(name: str, **options) -> regard.ReIDModel:
    torch.manual_seed(0)
    return regard.create_model(name, 7, backbone=TINY, **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 128, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def x() -> torch.Tensor:
    """A map as a ReLU leaves it."""
    return torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(2)).relu() + 0.1


def make_alive(module: nn.Module, seed: int = 3) -> None:
    """Give every parameter a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


# On the published backbone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("sa", {}, 26_421_654),
        ("dsp", {"mode": "released"}, 26_421_654),
        ("dsp", {"mode": "code"}, 26_421_654 + 10_752),
        ("dsp", {}, 26_421_654 + 10_752 // 2 + 3 * 3),
        ("dsp", {"mode": "released", "part_conv": "separate"}, 26_421_654 + 5 * (2048 * 256 + 2 * 256)),
    ],
)
def test_sizes_on_resnet50(name, options, count):
    model = regard.create_model(name, 751, **options)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.embed_dim == 12_288
    trunk = 23_508_032 + (sum(p.numel() for p in model.attention.parameters()))
    assert sum(p.numel() for p in model.strip().parameters()) == trunk


@pytest.mark.slow
@pytest.mark.parametrize("num_ids", [100, 702])
def test_size_by_identities(num_ids):
    model = regard.create_model("sa", num_ids)
    assert sum(p.numel() for p in model.parameters()) == 23_508_032 + 983_552 + 10 * 257 * num_ids


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("sa", {}), ("dsp", {"mode": "released"}), ("dsp", {})])
def test_operations_at_the_published_size(name, options):
    model = regard.create_model(name, 751, **options).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = model(torch.empty(1, 3, 384, 128, device="meta"))
    assert counter.get_total_flops() / 1e9 == pytest.approx(12.171, abs=5e-4)
    assert counter.get_total_flops() / 2e9 == pytest.approx(6.085, abs=5e-4)
    assert out.embedding.shape == (1, 12_288)
    assert [tuple(gate.shape[2:]) for gate in out.maps.values() if gate.shape[2:] != (1, 1)] == (
        [] if options else [(96, 32), (48, 16), (24, 8)]
    )


# Stripes


@pytest.mark.parametrize("rows", range(6, 26))
def test_stripes_are_their_formula(rows):
    x = torch.randn(2, 3, rows, 4, generator=torch.Generator().manual_seed(rows))
    stride = rows // 6
    stripes = [x[:, :, k * stride : k * stride + rows - 5 * stride].mean((2, 3)) for k in range(6)]
    torch.testing.assert_close(stripe_averages(x, 6), torch.stack(stripes, 2))


def test_stripes_cover_the_map():
    x = torch.zeros(1, 1, 11, 2)
    x[:, :, -1] = x[:, :, 0] = 1
    assert [bool(v) for v in stripe_averages(x, 6).flatten()] == [True, False, False, False, False, True]


@pytest.mark.parametrize("name", ["dsp", "sa"])
@pytest.mark.parametrize(("height", "rows"), [(96, 6), (85, 6), (80, 5), (64, 4), (16, 1)])
def test_six_rows_or_one_line(name, height, rows):
    model, pictures = create(name), torch.zeros(2, 3, height, 64)
    if rows >= 6:
        assert model.embed(pictures).shape == (2, 6 * 96)
        return
    with pytest.raises(regard.RegardError, match=rf"map of {rows} rows cannot .* {6 / rows:g} times as tall") as caught:
        model(pictures)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["dsp", "sa"])
def test_the_descriptor_is_six_unit_vectors_channel_by_channel(name, images):
    model = create(name).eval()
    out = model(images)
    x = images
    for number, stage in enumerate(model.backbone.stages):
        x = stage(x)
        if name == "dsp" and 1 <= number <= 3:
            x, _ = model.attention[f"tap{number + 1}"](x)
    stripes = stripe_averages(x, 6)
    unit = stripes / stripes.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(out.embedding.view(3, 96, 6), unit)
    torch.testing.assert_close(out.embedding.norm(dim=1), torch.full((3,), math.sqrt(6)))


def test_a_stripe_of_zeros_stays_zero():
    model = create("sa").eval()
    last = next(m for m in reversed(list(model.backbone.stages[-1].modules())) if isinstance(m, nn.ReLU))
    last.register_forward_hook(lambda module, inputs, output: output * 0)
    assert torch.equal(model.embed(torch.ones(1, 3, 96, 64)), torch.zeros(1, 6 * 96))


# Heads


@pytest.mark.parametrize("name", ["dsp", "sa"])
@pytest.mark.parametrize("part_conv", ["shared", "separate"])
def test_ten_heads_in_their_order(name, part_conv, images):
    out = create(name, part_conv=part_conv, head_dim=20)(images)
    assert list(out.logits) == list(out.features) == HEADS
    assert all(scores.shape == (3, 7) for scores in out.logits.values())
    assert all(vectors.shape == (3, 20) for vectors in out.features.values())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sharing", ["shared", "separate"])
def test_part_heads_are_their_formula(training, sharing):
    """With convolutions and a two-dimensional normalization over (B, C, 6, 1), as the part network is written."""
    torch.manual_seed(0)
    heads = PartHeads(12, 6, 5, num_ids=7, dropout=0.0, sharing=sharing, classified=HEADS[:7])
    parts = torch.randn(4, 12, 6)
    heads(parts)
    make_alive(heads.classifiers)
    columns = []
    for reduction, share in zip(heads.reductions, parts[..., None].chunk(len(heads.reductions), 2)):
        norm = nn.BatchNorm2d(5)
        norm.load_state_dict(reduction.norm.state_dict())
        columns.append(norm.train(training)(F.conv2d(share, reduction.linear.weight[:, :, None, None])).relu())
    z = torch.cat(columns, 2)
    vectors, scores = heads.train(training)(parts)
    for k in range(6):
        torch.testing.assert_close(vectors[f"part{k}"], z[:, :, k, 0])
    torch.testing.assert_close(vectors["global"], z.mean((2, 3)))
    for name, classifier in heads.classifiers.items():
        torch.testing.assert_close(scores[name], vectors[name] @ classifier.weight.T + classifier.bias)


def test_separate_reductions_serve_their_own_stripe(images):
    model = create("dsp", part_conv="separate").eval()
    before = model(images).features
    with torch.no_grad():
        model.parts.reductions[2].norm.bias.add_(1)
    after = model(images).features
    assert [name for name in HEADS if not torch.equal(before[name], after[name])] == ["part2", "global"]


def test_supervision_is_linear_in_the_map(images):
    """The scores are the mean over positions of scores of positions: class activation maps of these heads are exact."""
    model = create("sa", mode="l1").eval()
    with torch.no_grad():
        out, x = model(images), images
        for number, stage in enumerate(model.backbone.stages[:4]):
            x = stage(x)
            if number:
                head = model.supervision[f"ds{number}"]
                weights = head.classifier.weight @ head.reduction.weight
                attended = x * out.maps[f"tap{number + 1}.spatial"]
                scores = torch.einsum("kc,bchw->bkhw", weights, attended).mean((2, 3)) + head.classifier.bias
                torch.testing.assert_close(out.logits[f"ds{number}"], scores, rtol=1e-4, atol=1e-6)


def test_classifiers_start_small():
    model = regard.create_model("dsp", 751, backbone=TINY)
    classifiers = [*model.parts.classifiers.values(), *(head.classifier for head in model.supervision.values())]
    assert len(classifiers) == 10
    assert all(classifier.weight.std().item() == pytest.approx(0.001, rel=0.02) for classifier in classifiers)
    assert not any(classifier.bias.any() for classifier in classifiers)
    spread = model.parts.reductions[0].linear.weight.std().item()
    assert spread == pytest.approx(math.sqrt(2 / 256), rel=0.02)


@pytest.mark.parametrize("name", ["dsp", "sa"])
def test_the_published_loss_and_learning_rates(name, images):
    """Ten cross-entropies, summed: 10 ln N at the start; the backbone learns at a tenth of the others' rate."""
    config = read_recipe(f"{name}_market1501").config()
    model = create(name)
    total, terms = build_criterion(config, model)(model(images), Batch(images, torch.arange(3), torch.ones(3), {}))
    assert total.item() == pytest.approx(10 * math.log(7), rel=0.02)
    assert terms["id"].item() == total.item()
    rates = {group["lr"]: group["params"] for group in build_optimizer(model, config.optim).param_groups}
    assert sorted(rates) == pytest.approx([0.01, 0.1])
    assert {id(p) for p in rates[min(rates)]} == {id(p) for p in model.backbone.parameters()}


# Deep self-attention


def test_the_authors_gate():
    case = {key: torch.tensor(value) for key, value in json.loads(GATE_CASE.read_text()).items()}
    block = DeepSelfAttention(4, mode="code")
    with torch.no_grad():
        for name in ("alpha", "gamma", "beta"):
            getattr(block.channel, name).copy_(case[name])
            getattr(block.spatial, name).copy_(case[f"{name}_sp"])
        y, gates = block(case["x"])
    torch.testing.assert_close(gates["channel"] * gates["spatial"], case["gate"], rtol=0, atol=1e-6)
    torch.testing.assert_close(y, case["out=x*gate+x"], rtol=0, atol=1e-6)


def test_channel_gate_is_its_formula(x):
    gate = ChannelGate(5)
    make_alive(gate)
    alpha, gamma, beta = (p.tolist() for p in (gate.alpha, gate.gamma, gate.beta))
    for image, got in zip(x, gate(x)):
        energies = [a * math.sqrt(sum(v * v for v in c.flatten().tolist()) + 1e-5) for a, c in zip(alpha, image)]
        rms = math.sqrt(sum(e * e for e in energies) / 5 + 1e-5)
        wanted = [1 + math.tanh(e * g / rms + b) for e, g, b in zip(energies, gamma, beta)]
        assert got.flatten().tolist() == pytest.approx(wanted, abs=1e-6)


def test_position_gate_is_its_formula(x):
    gate = PositionGate()
    make_alive(gate)
    alpha, mu, omega = gate.alpha.item(), gate.mu.item(), gate.omega.item()
    for image, got in zip(x, gate(x)):
        strengths = [math.sqrt(sum(v * v for v in column.tolist()) + 1e-5) for column in image.flatten(1).T]
        rms = math.sqrt(sum(r * r for r in strengths) / len(strengths) + 1e-5)
        wanted = [1 + math.tanh(alpha * mu * r / rms + omega) for r in strengths]
        assert got.flatten().tolist() == pytest.approx(wanted, abs=1e-6)


def test_only_the_proper_gate_sees_positions(x):
    coded, proper = CodedPositionGate(5), PositionGate()
    make_alive(coded)
    make_alive(proper)
    assert coded(x).std((2, 3)).max() < 1e-4
    assert coded(x).std(1).min() > 0.1
    assert proper(x).std((2, 3)).min() > 0.01


def test_attention_at_its_start(x, images):
    assert torch.equal(DeepSelfAttention(5, "proper")(x)[0], x)
    assert torch.equal(DeepSelfAttention(5, "code")(x)[0], 2 * x)
    assert torch.equal(DeepSelfAttention(5, "released")(x)[0], 2 * x)
    assert not list(DeepSelfAttention(5, "released").parameters())
    code, released = create("dsp", mode="code"), create("dsp", mode="released")
    assert torch.equal(code.embed(images), released.embed(images))
    assert torch.equal(create("dsp").embed(images), create("sa").embed(images))


@pytest.mark.parametrize("mode", ["proper", "code"])
def test_attention_learns(mode, images):
    """Its vectors are in the state dict, and after one step every one of them has a gradient that is not zero."""
    model = create("dsp", mode=mode)
    vectors = dict(model.attention.named_parameters())
    assert len(vectors) == 18
    assert {f"attention.{name}" for name in vectors} <= model.state_dict().keys()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(images)  # the classifiers start near zero, and with them the gradients of everything before
        optimizer.zero_grad()
        sum(100 * F.cross_entropy(s, torch.arange(3)) for s in model(images).logits.values()).backward()
        optimizer.step()
    silent = [name for name, vector in vectors.items() if vector.grad is None or not vector.grad.any()]
    assert silent == []


@pytest.mark.parametrize(
    ("mode", "kinds"), [("proper", [(1, 1), None]), ("code", [(1, 1), None]), ("released", [])], ids=lambda v: str(v)
)
def test_gates_of_dsp(mode, kinds, images):
    maps = create("dsp", mode=mode).eval()(images).maps
    names = [f"tap{tap}.{kind}" for tap in (2, 3, 4) for kind in ("channel", "spatial")] if kinds else []
    assert list(maps) == names
    for name, gate in maps.items():
        assert (gate.shape[2:] == (1, 1)) == name.endswith("channel")
        assert gate.dtype == torch.float32


# Parameter-free spatial attention


def test_shares_are_their_formulas(x):
    l1, softmax = SpatialAttention("l1").shares(x), SpatialAttention("softmax").shares(x)
    for image, by_sum, by_softmax in zip(x, l1, softmax):
        activity = image.flatten(1).sum(0).tolist()
        assert by_sum.flatten().tolist() == pytest.approx([a / sum(activity) for a in activity], abs=1e-6)
        powers = [math.exp(a - max(activity)) for a in activity]
        assert by_softmax.flatten().tolist() == pytest.approx([p / sum(powers) for p in powers], abs=1e-6)


@pytest.mark.parametrize("mode", ["l1", "softmax"])
def test_rescaling_keeps_the_size_of_the_map(mode, x):
    (small, shares), (large, weights) = (SpatialAttention(mode, rescale=rescale)(x) for rescale in (False, True))
    torch.testing.assert_close(shares["spatial"].sum((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(weights["spatial"].mean((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(small, x * shares["spatial"])
    torch.testing.assert_close(large, small * 4 * 3)


def test_an_empty_map_is_not_nan():
    for mode in ("l1", "softmax"):
        y, _ = SpatialAttention(mode)(torch.zeros(1, 2, 3, 4))
        assert torch.equal(y, torch.zeros(1, 2, 3, 4))


def test_the_gradient_flows_through_the_weights(x):
    x.requires_grad_()
    y, gates = SpatialAttention("l1")(x)
    (through,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
    (around,) = torch.autograd.grad((x * gates["spatial"].detach()).square().sum(), x)
    assert not torch.allclose(through, around)


def test_sa_attends_beside_the_trunk(images):
    """No option of the attention changes the descriptor, all change what the supervision sees."""
    kinds = [{"mode": m, "rescale": r} for m in ("l1", "softmax") for r in (False, True)]
    outputs = [create("sa", **options).eval()(images) for options in kinds]
    for out in outputs:
        assert list(out.maps) == ["tap2.spatial", "tap3.spatial", "tap4.spatial"]
        assert torch.equal(out.embedding, outputs[0].embedding)
        assert torch.equal(out.logits["global"], outputs[0].logits["global"])
    for other in outputs[1:]:
        assert all(not torch.equal(other.logits[ds], outputs[0].logits[ds]) for ds in ("ds1", "ds2", "ds3"))


# Whatever people ask for


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dsp", {"mode": "l1"}, "mode is 'l1', wanted one of: proper, code, released"),
        ("sa", {"mode": "proper"}, "mode is 'proper', wanted one of: l1, softmax"),
        ("dsp", {"part_conv": "own"}, "part_conv is 'own', wanted one of: shared, separate"),
        ("sa", {"dropout": 1.0}, "dropout is 1.0"),
        ("sa", {"head_dim": 0}, "head_dim is 0"),
        ("dsp", {"rescale": True}, "has no option 'rescale'"),
    ],
)
def test_wrong_options(name, options, message):
    with pytest.raises(regard.RegardError, match=message) as caught:
        create(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "convnext_tiny", "mobilenetv3_large_100"])
@pytest.mark.parametrize("name", ["dsp", "sa"])
def test_on_other_backbones(name, backbone):
    model = regard.create_model(name, 7, backbone=backbone)
    out = model(torch.randn(2, 3, 128, 48))
    sum(scores.sum() for scores in out.logits.values()).backward()
    assert out.embedding.shape == (2, model.embed_dim)
    assert all(torch.isfinite(scores).all() for scores in out.logits.values())
    assert list(out.logits) == HEADS
