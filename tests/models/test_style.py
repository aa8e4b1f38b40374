"""IBN, MixStyle and generalized means: against loops one can read, in the places the papers name, on every system."""

from __future__ import annotations

import copy

import pytest
import safetensors.torch
import torch
from torch import nn

import regard
from regard.errors import ConfigError
from regard.layers.heads import GlobalPool
from regard.layers.style import InstanceBatchNorm, MixStyle
from regard.models.backbone import Backbone
from regard.models.cost import constant_weights
from regard.registry import MODELS
from small_backbones import tiny

TINY = "test_resnet.r160_in1k"
OPTIONS = {"ibn": "a", "mixstyle": [0, 1], "mixstyle_p": 1.0}
STYLED = [name for name in MODELS if "ibn" in MODELS.options(name)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def moved(module: nn.Module) -> nn.Module:
    """The module with weights and statistics that no two channels share."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return module


@pytest.mark.parametrize("training", [True, False])
def test_half_of_the_channels_are_normalized_by_picture_with_the_weights_that_were_there(training):
    norm = moved(nn.BatchNorm2d(5, eps=1e-3, momentum=0.2))
    norm.act = nn.ReLU()  # as timm's fused layers have it
    layer, x = InstanceBatchNorm(norm).train(training), noise(3, 5, 4, 2) + 1
    found = layer(x)
    for b in range(3):
        for c in range(5):
            seen = x[b, c] if c < 2 else x[:, c]
            mean, variance = seen.mean(), seen.var(correction=0)
            if c >= 2 and not training:
                mean, variance = norm.running_mean[c], norm.running_var[c]
            wanted = (x[b, c] - mean) / (variance + 1e-3).sqrt() * norm.weight[c] + norm.bias[c]
            torch.testing.assert_close(found[b, c], wanted.relu())
    if training:
        torch.testing.assert_close(layer.batch.running_mean, 0.8 * norm.running_mean[2:] + 0.2 * x.mean((0, 2, 3))[2:])


@pytest.mark.slow
def test_ibn_a_is_where_the_paper_has_it():
    """In ResNet-50 in every block of the first three groups and in no other place; in other networks alike."""
    with constant_weights():
        places, mobile = (split(Backbone(name, ibn="a")) for name in ("resnet50", "mobilenetv2_100"))
    stages = [
        (f"stages.{n}.layer{n}.{block}.bn1", 2 ** (4 + n))
        for n, many in ((1, 3), (2, 4), (3, 6))
        for block in range(many)
    ]
    assert places == stages
    assert len(mobile) == 13  # all of its 17 blocks but those of the last stage
    assert {name.split(".")[1] for name, _ in mobile} == {"0", "1", "2", "3"}
    assert all(name.endswith(".bn1") for name, _ in mobile)


def split(backbone: Backbone) -> list[tuple[str, int]]:
    layers = [(name, m) for name, m in backbone.named_modules() if isinstance(m, InstanceBatchNorm)]
    assert all(m.batch.num_features == m.instance.num_features for _, m in layers)
    return [(name, m.instance.num_features) for name, m in layers]


def test_ibn_b_is_the_stem_s_and_behind_the_sums_of_two_stages():
    styled = moved(Backbone(TINY, stem_relu=True, ibn="b")).eval()
    blocks = [next(styled.stages[number].children())[-1] for number in (1, 2)]
    seen: dict[nn.Module, list[torch.Tensor]] = {}
    for layer in (styled.stages[0].bn1, *(block.act2 for block in blocks), *(block.bn2 for block in blocks)):
        layer.register_forward_hook(lambda layer, given, out: seen.update({layer: [given[0].clone(), out.clone()]}))
    shortcut = {}
    blocks[0].register_forward_pre_hook(lambda _, given: shortcut.update(x=given[0].clone()))
    styled(noise(2, 3, 64, 32))
    norms = [styled.stages[0].bn1.instance, *(block.act2[0] for block in blocks)]
    for norm, layer in zip(norms, (styled.stages[0].bn1, *(block.act2 for block in blocks))):
        given, out = seen[layer]
        wanted = nn.functional.instance_norm(given, None, None, norm.weight, norm.bias, eps=norm.eps)
        torch.testing.assert_close(out, wanted if norm is norms[0] else wanted.relu())
    block = blocks[0]
    beside = shortcut["x"] if block.downsample is None else block.downsample(shortcut["x"])
    torch.testing.assert_close(seen[block.act2][0], seen[block.bn2][1] + beside)  # the sum
    assert not [m for m in styled.stages[3:].modules() if isinstance(m, nn.InstanceNorm2d)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a", "b"])
def test_pretrained_weights_stay(tmp_path, kind):
    """Those of a file go where they were, the split ones to both halves; a saved network comes back as it was."""
    import timm

    whole = moved(timm.create_model(TINY, num_classes=0))
    safetensors.torch.save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    options = {"pretrained": tmp_path / "weights.safetensors"}
    plain, styled = Backbone(TINY, **options).state_dict(), Backbone(TINY, **options, ibn=kind).state_dict()
    for name, value in plain.items():
        if name in styled:
            assert torch.equal(styled[name], value)
        elif not name.endswith("num_batches_tracked"):
            path, _, kind_of = name.rpartition(".")
            first, rest = styled.get(f"{path}.instance.{kind_of}"), styled[f"{path}.batch.{kind_of}"]
            half = len(value) - len(rest)
            assert torch.equal(rest, value[half:])
            assert first is None or torch.equal(first, value[:half])
    fresh = [name for name in styled if name not in plain and ".instance." not in name and ".batch." not in name]
    assert len(fresh) == (0 if kind == "a" else 4)


def test_mixed_styles_are_between_those_of_two_pictures():
    x = (2 * noise(6, 3, 5, 4) + noise(6, 3, 1, 1, seed=1)).requires_grad_()
    mix = MixStyle(1.0, 0.3)
    torch.manual_seed(5)
    found = mix(x)
    torch.manual_seed(5)
    torch.rand(())
    shares, order = (
        torch.distributions.Beta(0.3, 0.3).sample((6, 1, 1, 1)).flatten().tolist(),
        torch.randperm(6).tolist(),
    )
    assert sorted(order) == list(range(6)) != order
    for b, (share, other) in enumerate(zip(shares, order)):
        for c in range(3):
            (mean, std), (mean2, std2) = (
                (y.mean(), (y.var(correction=0) + 1e-6).sqrt()) for y in (x[b, c], x[other, c])
            )
            wanted = (x[b, c] - mean) / std * (share * std + (1 - share) * std2) + share * mean + (1 - share) * mean2
            torch.testing.assert_close(found[b, c], wanted)
            scale = (share * std + (1 - share) * std2) / std  # which no gradient passes
            (gradient,) = torch.autograd.grad(found[b, c].sum(), x, retain_graph=True)
            torch.testing.assert_close(gradient[b, c], scale.detach().expand(5, 4))
            assert gradient.count_nonzero() == 20
    assert mix.eval()(x) is x
    assert MixStyle(0.0).train()(x) is x
    half = MixStyle(0.5).train()
    torch.manual_seed(0)
    assert 60 < sum(half(x) is x for _ in range(160)) < 100


def test_a_generalized_mean_is_the_mean_at_1_and_nears_the_maximum():
    x = noise(2, 3, 4, 5).abs()
    pool = GlobalPool("gem")
    assert pool.p.item() == 3
    wanted = [[sum(v**3 for v in channel) / 20 for channel in picture] for picture in x.flatten(2).tolist()]
    torch.testing.assert_close(pool(x), torch.tensor(wanted) ** (1 / 3))
    for p, expected in ((1.0, x.mean((2, 3))), (60.0, x.amax((2, 3)))):
        pool.p.data.fill_(p)
        torch.testing.assert_close(pool(x), expected, rtol=0.06 if p > 1 else 1e-5, atol=1e-6)
    y = (noise(1, 2, 3, 3) - 9).double().requires_grad_()  # nothing above 0
    pool(y).sum().backward()
    assert torch.isfinite(pool.p.grad).all()
    x = x.double().requires_grad_()
    pool = pool.double()
    pool.p.data.fill_(3.0)
    assert torch.autograd.gradcheck(pool, x)
    assert torch.equal(GlobalPool("mean")(x), x.mean((2, 3)))
    assert GlobalPool("mean").state_dict() == {}
    with pytest.raises(ConfigError, match="pooling is 'max'"):
        GlobalPool("max")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_with_a_generalized_mean_no_head_is_linear():
    for name in ("baseline", "daaf"):
        for pooling, linear in (("mean", True), ("gem", False)):
            model = regard.create_model(name, 3, backbone=TINY, pooling=pooling)
            assert model.head_layers()["global"].linear is linear


@pytest.mark.slow
@pytest.mark.parametrize("name", STYLED)
def test_every_system_takes_them_and_mixes_in_training_alone(name, tmp_path):
    options = OPTIONS | ({"pooling": "gem"} if "pooling" in MODELS.options(name) else {})
    torch.manual_seed(0)
    model = regard.create_model(name, 4, backbone=tiny(name), **options)
    assert sum(isinstance(m, InstanceBatchNorm) for m in model.modules()) >= 3
    mixers = [m for m in model.modules() if isinstance(m, MixStyle)]
    assert len(mixers) >= 2
    images = noise(4, 3, 96, 48)
    torch.manual_seed(1)
    out = model.train()(images)
    torch.manual_seed(1)
    for mixer in mixers:
        mixer.probability = 0.0
    assert not torch.equal(model(images).embedding, out.embedding)
    out.features["global"].square().sum().backward()
    assert any(p.grad is not None for n, p in model.named_parameters() if ".instance." in n)
    embedding = model.embed(images)
    assert torch.equal(model.embed(images), embedding)
    torch.testing.assert_close(
        torch.cat([model.embed(image[None]) for image in images]), embedding, rtol=1e-3, atol=1e-4
    )
    model.save(tmp_path / "model")
    loaded = regard.load(tmp_path / "model")
    assert torch.equal(loaded.embed(images), embedding)
    assert torch.equal(copy.deepcopy(loaded).strip().embed(images), embedding)


@pytest.mark.parametrize(
    ("backbone", "options", "wanted"),
    [
        (
            "test_convnext.r160_in1k",
            {"ibn": "a"},
            "backbone 'test_convnext.r160_in1k' have no batch normalization in blocks",
        ),
        ("test_vit.r160_in1k", {"ibn": "b"}, "have no batch normalization .* choose one that has, such as resnet50"),
        ("test_vit.r160_in1k", {"mixstyle": [0]}, "mixstyle cannot stand behind a stage of backbone 'test_vit"),
        (TINY, {"ibn": "c"}, "ibn is 'c'"),
        (TINY, {"mixstyle": [4]}, r"mixstyle is \[4\], wanted stages before the last, each once, from 0 .* to 3"),
        (TINY, {"mixstyle": [1, 1]}, r"mixstyle is \[1, 1\]"),
        (TINY, {"mixstyle": [1], "mixstyle_p": 2}, "mixstyle_p is 2 and mixstyle_alpha 0.1, wanted a probability"),
        (TINY, {"mixstyle": [1], "mixstyle_alpha": 0}, "mixstyle_alpha 0, wanted"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(backbone, options, wanted):
    with pytest.raises(ConfigError, match=wanted) as caught:
        Backbone(backbone, **options)
    assert "\n" not in str(caught.value)
