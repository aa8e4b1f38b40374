"""PCB against its formula, and its place among the systems that stand on it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

import regard
from regard.engine.build import build_criterion, build_model
from regard.engine.step import build_optimizer
from regard.errors import ConfigError, RegardError
from regard.models.cost import constant_weights
from regard.recipes import read_recipe
from regard.structures import Batch

TINY = "test_resnet.r160_in1k"
PARTS = [f"part{number}" for number in range(6)]


def create(**options) -> regard.ReIDModel:
    torch.manual_seed(0)
    return regard.create_model("pcb", 7, backbone=TINY, **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 128, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "num_ids", "count"),
    [
        ({}, 751, 23_508_032 + 6 * (2048 * 256 + 2 * 256 + 257 * 751)),
        ({"part_conv": "shared"}, 702, 27_164_316 - 2_049_000),  # the authors' network but for its unused classes
    ],
)
def test_sizes_on_resnet50(options, num_ids, count):
    with constant_weights():
        model = regard.create_model("pcb", num_ids, **options)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.embed_dim == 12_288
    assert sum(p.numel() for p in model.strip().parameters()) == 23_508_032


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("part_conv", ["separate", "shared"])
def test_it_is_its_formula(part_conv, training, images):
    """Six means over rows, six reductions, six classifiers, by hand and in float64."""
    model = create(part_conv=part_conv, dropout=0.0).double()
    images = images.double()
    model(images)
    out = model.train(training)(images)
    x = images
    for stage in model.backbone.stages:
        x = stage(x)
    rows = x.shape[2] // 6
    assert x.shape[2] == 8  # of which each stripe sees three: the remainder makes them overlap
    g = [x[:, :, k * rows : k * rows + x.shape[2] - 5 * rows].mean((2, 3)) for k in range(6)]
    heads = [model.parts.reductions[0 if part_conv == "shared" else k] for k in range(6)]
    y = torch.stack([stripe @ head.linear.weight.T for stripe, head in zip(g, heads)], dim=1)
    h = []
    for k, head in enumerate(heads):
        seen = y.flatten(0, 1) if part_conv == "shared" else y[:, k]
        mean = seen.mean(0) if training else head.norm.running_mean
        variance = seen.var(0, unbiased=False) if training else head.norm.running_var
        h.append(((y[:, k] - mean) / (variance + 1e-5).sqrt() * head.norm.weight + head.norm.bias).relu())
    for name, vector in zip(PARTS, h):
        classifier = model.parts.classifiers[name]
        torch.testing.assert_close(out.features[name], vector)
        torch.testing.assert_close(out.logits[name], vector @ classifier.weight.T + classifier.bias)
    unit = torch.stack([stripe / stripe.norm(dim=1, keepdim=True) for stripe in g], dim=2)
    torch.testing.assert_close(out.embedding.double(), unit.flatten(1), rtol=1e-6, atol=1e-7)
    assert list(out.logits) == PARTS


def test_what_is_compared_is_before_or_after_the_reduction(images):
    reduced = create(descriptor="reduced", head_dim=20).eval()
    out = reduced(images)
    wanted = torch.stack([F.normalize(out.features[name], dim=1) for name in PARTS], dim=2).flatten(1)
    torch.testing.assert_close(out.embedding, wanted)
    assert (reduced.embed_dim, create().embed_dim) == (6 * 20, 6 * 96)
    whole = sum(p.numel() for p in reduced.parameters())
    assert torch.equal(reduced.strip().embed(images), out.embedding)
    assert whole - sum(p.numel() for p in reduced.parameters()) == 6 * 21 * 7  # the classifiers go, the reductions stay
    assert reduced(images).logits == {}


def test_a_stripped_network_with_reductions_is_saved_and_known_again(images, tmp_path):
    model = create(descriptor="reduced").strip()
    model.save(tmp_path)
    loaded = regard.load(tmp_path)
    assert torch.equal(loaded.embed(images), model.embed(images))
    assert loaded.parts.classifiers is None


@pytest.mark.parametrize("part_classifiers", [True, False])
def test_the_systems_above_it_may_go_without_classified_stripes(part_classifiers, images):
    names = [*(PARTS if part_classifiers else []), "global", "ds1", "ds2", "ds3"]
    model = regard.create_model("dsp", 7, backbone=TINY, part_classifiers=part_classifiers)
    out = model(images)
    assert list(out.logits) == names
    assert set(out.features) == {*PARTS, "global", "ds1", "ds2", "ds3"}


@pytest.mark.parametrize("recipe", ["pcb_market1501", "dsp_no_parts_market1501"])
def test_the_published_loss_and_learning_rates(recipe, images):
    """Summed cross-entropies: so many ln N at the start; the backbone learns at a tenth of the others' rate."""
    config = read_recipe(recipe).config([f"model.backbone={TINY}", "model.pretrained=false"])
    model = build_model(config, 7)
    terms = 6 if recipe.startswith("pcb") else 4
    total, _ = build_criterion(config, model)(model(images), Batch(images, torch.arange(4), torch.ones(4), {}))
    assert total.item() == pytest.approx(terms * math.log(7), rel=0.02)
    rates = {group["lr"]: group["params"] for group in build_optimizer(model, config.optim).param_groups}
    assert sorted(rates) == pytest.approx([0.01, 0.1])
    assert {id(p) for p in rates[min(rates)]} == {id(p) for p in model.backbone.parameters()}


def test_more_classes_than_identities():
    """As in code that fixes 751 of them; fewer would leave somebody without."""
    config = read_recipe("pcb_crowd").config([f"model.backbone={TINY}", "model.num_ids=9"])
    model = build_model(config, 7)
    assert model.num_ids == 9
    assert model.parts.classifiers["part0"].out_features == 9
    assert "num_ids" not in model.options
    assert build_model(read_recipe("pcb_crowd").config([f"model.backbone={TINY}"]), 7).num_ids == 7
    with pytest.raises(ConfigError, match=r"model\.num_ids is 9, but the training data shows 10 identities") as caught:
        build_model(config, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stripes": 0}, "stripes is 0"),
        ({"descriptor": "whole"}, "descriptor is 'whole', wanted one of: stripes, reduced"),
        ({"part_conv": "own"}, "part_conv is 'own'"),
        ({"head_dim": 0}, "head_dim is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(RegardError, match=message) as caught:
        create(**options)
    assert "\n" not in str(caught.value)


def test_more_stripes_than_rows():
    assert create(stripes=8)(torch.zeros(2, 3, 128, 64)).embedding.shape == (2, 8 * 96)
    with pytest.raises(RegardError, match="a map of 8 rows cannot be cut into 9 stripes"):
        create(stripes=9).embed(torch.zeros(2, 3, 128, 64))
