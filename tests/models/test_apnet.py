from __future__ import annotations

import pytest
import torch

import regard
from regard.models.cost import count_gflops as gflops

TINY = "test_resnet.r160_in1k"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "total", "trainable", "cost"),
    [
        (0, 25_050_176, 25_048_128, (18.23972, 8.10654)),
        (1, 25_112_640, 25_110_592, (18.23984, 8.10667)),
        (2, 29_311_200, 29_305_248, (18.24820, 8.11503)),
        (3, 36_302_944, None, (18.26214, 8.12896)),
    ],
)
def test_sizes_on_resnet50(level, total, trainable, cost):
    model = regard.create_model("apnet", 751, level=level)
    assert sum(p.numel() for p in model.parameters()) == total
    if trainable is not None:
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable
    assert sum(p.numel() for p in model.strip().parameters()) == total - 751 * 2048
    assert (round(gflops(model, 1, 3, 384, 192), 5), round(gflops(model, 1, 3, 256, 128), 5)) == cost


def test_baseline_is_level_zero():
    networks = []
    for name, options in (("baseline", {}), ("apnet", {"level": 0})):
        torch.manual_seed(0)
        networks.append(regard.create_model(name, 7, backbone=TINY, **options))
    baseline, apnet = networks
    images = torch.randn(2, 3, 64, 64)
    assert list(baseline.state_dict()) == list(apnet.state_dict())
    assert torch.equal(baseline.embed(images), apnet.embed(images))


def test_a_level_two_network_is_the_beginning_of_a_level_three_network():
    two, three = (regard.create_model("apnet", 7, backbone=TINY, level=level).state_dict() for level in (2, 3))
    assert two.keys() < three.keys()
    assert all(three[name].shape == value.shape for name, value in two.items())


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("order", ["fine_to_coarse", "coarse_to_fine"])
def test_gates_of_every_tap(level, order):
    model = regard.create_model("apnet", 7, backbone=TINY, level=level, order=order)
    maps = model.eval()(torch.randn(2, 3, 64, 64)).maps
    numbers = range(1, level + 1) if order == "coarse_to_fine" else range(level, 0, -1)
    assert list(maps) == [f"tap{tap}.level{number}" for tap in range(1, 6) for number in (numbers if level else ())]
    for name, gate in maps.items():
        channels = model.backbone.channels[int(name[3]) - 1]
        assert gate.shape == (2, channels, 1, 1)
        radix = 2 ** (int(name[-1]) - 1)
        if radix > 1:
            torch.testing.assert_close(gate.view(2, radix, -1).sum(1), torch.ones(2, channels // radix))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_forward_is_its_formula(level):
    """The whole network once more, as the header has it: x ← BN(x ⊙ S_r(x)) from fine to coarse, then x ← x ⊙ SE(x)."""
    torch.manual_seed(0)
    model = regard.create_model("apnet", 7, backbone=TINY, level=level)
    images = torch.randn(4, 3, 64, 32)
    model(images)
    model.eval()
    x = images
    for stage, pyramid in zip(model.backbone.stages, model.attention.values()):
        x = stage(x)
        levels = pyramid.levels
        for number in range(level, 1, -1):
            finer = levels[f"level{number}"]
            x = finer.norm(x * finer.agent(x))
        x = x * levels["level1"].agent(x)
    g = torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
    out = model(images)
    torch.testing.assert_close(out.features["global"], g)
    torch.testing.assert_close(out.embedding, model.neck(g))
    torch.testing.assert_close(out.logits["global"], model.neck(g) @ model.classifier.weight.T)


def test_order_matters():
    images = torch.randn(2, 3, 64, 64)
    embeddings = []
    for order in ("fine_to_coarse", "coarse_to_fine"):
        torch.manual_seed(0)
        embeddings.append(regard.create_model("apnet", 7, backbone=TINY, order=order).embed(images))
    assert not torch.allclose(*embeddings)


@pytest.mark.parametrize("level", [0, 2])
def test_identity_scores_as_descriptor(level, tmp_path):
    model = regard.create_model("apnet", 7, backbone=TINY, level=level, descriptor="logits")
    images = torch.randn(3, 3, 64, 32)
    out = model.eval()(images)
    assert model.embed_dim == 7
    assert torch.equal(out.embedding, out.logits["global"])
    assert torch.equal(out.embedding, model.classifier(model.neck(out.features["global"])))
    stripped = model.strip()(images)
    assert torch.equal(stripped.embedding, out.embedding)
    assert stripped.logits == {}
    model.save(tmp_path)
    loaded = regard.load(tmp_path)
    assert loaded.stripped
    assert torch.equal(loaded.embed(images), out.embedding)
    assert loaded(images).logits == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 4}, r"level is 4, wanted 0 \(no attention\) to 3"),
        ({"level": -1}, "level is -1"),
        ({"agent": "sse"}, "agent is 'sse', wanted one of: se, rga"),
        ({"descriptor": "neck"}, "descriptor is 'neck', wanted one of: bnneck, logits"),
        ({"order": "up"}, "order is 'up', wanted one of: fine_to_coarse, coarse_to_fine"),
        ({"se_hidden": 0}, "se_hidden is 0"),
        ({"backbone": "rexnet_100", "level": 2}, "61 channels for 2 groups"),
        ({"lvl": 1}, "has no option 'lvl'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(regard.RegardError, match=message) as caught:
        regard.create_model("apnet", 7, **{"backbone": TINY, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    ["resnet18", "convnext_tiny", "mobilenetv3_large_100", "regnety_004"],
)
def test_on_other_backbones(backbone):
    model = regard.create_model("apnet", 7, backbone=backbone, level=2)
    out = model(torch.randn(2, 3, 96, 48))
    out.logits["global"].sum().backward()
    assert out.embedding.shape == (2, model.embed_dim)
    assert len(model.attention) == 5
