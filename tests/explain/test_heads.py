"""Heat per head: exact maps by their formula, parts in their rows, planted regions on both pictures of a pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import regard
from regard.errors import ConfigError
from regard.explain.figures.map_grids import pair_figure
from regard.explain.heads import exact_cam, exact_heads, head_heat, pair_heat
from regard.models.backbone import Backbone

TINY = "test_resnet.r160_in1k"
LABELS = torch.tensor([4, 0, 2])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def images():
    return torch.randn(3, 3, 96, 64)


def build(name, **options):
    return regard.create_model(name, 5, backbone=TINY, **options).eval()


def trained_alike(model: nn.Module) -> nn.Module:
    """Statistics and weights away from their starting values, where mistakes hide."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize("backbone", ["vgg11", "test_efficientnet.r160_in1k", "test_convnext.r160_in1k"])
def test_the_map_of_any_backbone_with_maps_adds_up_to_the_score(backbone, images):
    """VGG is what DSP's own demonstration of Grad-CAM looks at."""
    model = trained_alike(regard.create_model("baseline", 5, backbone=backbone)).eval()
    found = exact_cam(model, images, LABELS, "global")
    assert found.maps.shape == (3, 96 // model.backbone.strides[-1], 64 // model.backbone.strides[-1])
    scores = model(images).logits["global"].gather(1, LABELS[:, None])[:, 0].detach()
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.maps.sum((1, 2)) + found.offset, scores, rtol=1e-4, atol=1e-5)
    assert (found.maps.std((1, 2)) > 0).all()


@pytest.mark.parametrize("name", ["dsp", "sa"])
@pytest.mark.parametrize("head", ["ds1", "ds2", "ds3"])
def test_supervision_heads_by_the_published_formula(name, head, images):
    model = trained_alike(build(name))
    seen = {}
    head_module = model.supervision[head]
    handle = head_module.register_forward_hook(lambda _m, inputs, _o: seen.update(y=inputs[0].detach()))
    logits = model(images).logits[head].detach()
    handle.remove()
    v = head_module.classifier.weight[LABELS] @ head_module.reduction.weight
    y = seen["y"]
    expected = torch.einsum("bc,bchw->bhw", v, y).detach() / (y.shape[2] * y.shape[3])
    found = exact_cam(model, images, LABELS, head)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.offset, head_module.classifier.bias[LABELS].detach(), atol=1e-6)
    np.testing.assert_allclose(found.scores, logits.gather(1, LABELS[:, None])[:, 0])


@pytest.mark.parametrize("name", ["baseline", "apnet", "msea", "daaf"])
def test_average_pooling_and_bnneck_are_linear_in_evaluation(name, images):
    model = trained_alike(build(name))
    found = exact_cam(model, images, LABELS)
    neck, weight = model.neck, model.classifier.weight[LABELS]
    slope = neck.weight / (neck.running_var + neck.eps).sqrt()
    offset = (weight * (neck.bias - slope * neck.running_mean)).sum(1).detach()
    np.testing.assert_allclose(found.offset, offset, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.maps.sum((1, 2)) + found.offset, found.scores, rtol=1e-4, atol=1e-6)
    assert (found.maps < 0).any()


def test_an_identity_per_head_and_per_level(images):
    model = trained_alike(build("apnet"))
    found = head_heat(model, images, label=2)
    assert {name: heat.exact for name, heat in found.items()} == {
        "global": True, "global P2": False, "global P1": False
    }  # fmt: skip
    np.testing.assert_array_equal(found["global"].labels, 2)
    # the last level is what is pooled: its Grad-CAM is the positive part of the exact map
    exact = np.maximum(found["global"].maps, 0)
    peak = exact.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found["global P1"].maps, exact / np.where(peak > 0, peak, 1), atol=1e-4)
    best = head_heat(model, images)["global"]
    np.testing.assert_array_equal(best.labels, model(images).logits["global"].argmax(1))
    with pytest.raises(ConfigError, match="no classifier 'globl', did you mean 'global'"):
        head_heat(model, images, ["globl"])
    with pytest.raises(ConfigError, match="no classifier ''; it has: none, it was stripped"):
        head_heat(model.strip(), images)


def test_heads_that_are_not_linear(images):
    assert exact_heads(build("mudeep")) == {}
    assert exact_heads(build("dsp").strip()) == {}
    with pytest.raises(ConfigError, match=r"head 'part0' is not linear in a map; linear: ds1, ds2, ds3"):
        exact_cam(build("dsp"), images, LABELS, "part0")
    with pytest.raises(ConfigError, match="linear: none"):
        exact_cam(build("mudeep"), images, LABELS)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("mudeep", {"scale2.part0": range(2), "scale1.part2": range(4, 6)}),
        ("dsp", {"part5": range(5, 6)}),
        ("pcb", {"part0": range(1)}),
    ],
)
def test_a_part_has_heat_in_its_own_rows(name, rows, images):
    model = trained_alike(build(name))
    found = pair_heat(model, images[0], images[1], heads=True)
    assert max(heat.max() for name in found if "part" in name for heat in found[name][1:]) == 1
    for head, kept in rows.items():
        for heat in found[head][1:]:
            assert heat.shape == (6, 4)
            outside = np.delete(heat, list(kept), axis=0)
            assert not outside.any()


def test_parts_of_dsp_overlap_where_six_does_not_divide_the_rows():
    model = build("dsp")
    pair = torch.randn(2, 3, 128, 64)
    found = pair_heat(model, pair[0], pair[1], heads=True)
    rows = {number: np.flatnonzero(found[f"part{number}"].first.any(axis=1)) for number in range(6)}
    assert all(set(kept) <= {number, number + 1, number + 2} for number, kept in rows.items())
    assert max(map(len, rows.values())) > 1


def test_stripes_of_pcb_are_as_many_as_it_has():
    pair = torch.randn(2, 3, 128, 64)
    found = pair_heat(build("pcb", stripes=2), pair[0], pair[1], heads=True)
    for number, kept in enumerate((range(4), range(4, 8))):
        heat = found[f"part{number}"].first
        assert heat.shape == (8, 4)
        assert not np.delete(heat, list(kept), axis=0).any()


class Window(nn.Module):
    """Lets through the upper left of a bright picture and the lower right of a dark one, and nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros_like(x)
        for number, bright in enumerate(x.mean((1, 2, 3)) > 0):
            rows, columns = (slice(0, 2), slice(0, 2)) if bright else (slice(3, 6), slice(2, 4))
            mask[number, :, rows, columns] = 1
        return (x + 3) * mask


def test_the_heat_of_each_picture_lies_where_the_model_was_made_to_look():
    model = build("baseline")
    stage = nn.Sequential(nn.AvgPool2d(16), Window())
    model.backbone.stages = nn.ModuleList([stage])
    model.neck, model.classifier, model.embed_dim = nn.Identity(), None, 3
    bright, dark = torch.rand(3, 96, 64), -torch.rand(3, 96, 64)
    found = pair_heat(model, bright, dark)["last stage"]
    assert found.first[:2, :2].sum() == pytest.approx(found.first.sum())
    assert found.second[3:6, 2:4].sum() == pytest.approx(found.second.sum())
    assert found.first.max() == found.second.max() == 1


@pytest.mark.parametrize(
    ("name", "tap", "names"),
    [
        ("apnet", -1, ["P2", "P1"]),
        ("apnet", None, [f"tap{tap} {level}" for tap in range(1, 6) for level in ("P2", "P1")]),
        ("baseline", None, ["last stage"]),
    ],
)
def test_pairs_per_level(name, tap, names, images):
    model = trained_alike(build(name))
    found = pair_heat(model, images[0], images[1], tap=tap)
    assert list(found) == names
    cosine = torch.cosine_similarity(*model.embed(images[:2]), dim=0).item()
    assert all(heat.similarity == pytest.approx(cosine, abs=1e-5) for heat in found.values())


def test_a_picture_and_itself_are_alike(images):
    found = pair_heat(trained_alike(build("mudeep")), images[0], images[0], heads=True)
    for name, heat in found.items():
        assert heat.similarity == pytest.approx(1, abs=1e-5), name
        np.testing.assert_array_equal(heat.first, heat.second)


def test_the_global_head_of_mudeep_looks_at_all_scales_at_once(images):
    model = trained_alike(build("mudeep"))
    found = pair_heat(model, images[0], images[1], heads=True)
    assert set(found) == set(model(images).features)
    maps = {}
    for name, stream in model.streams.items():
        stream.register_forward_hook(lambda _m, _i, out, name=name: maps.update({name: out}))
    partner = model(images[1:2]).features["global"].detach()
    cosine = torch.cosine_similarity(model(images[:1]).features["global"], partner)
    gradients = torch.autograd.grad(cosine, list(maps.values()))
    heat = sum((g.mean((2, 3), keepdim=True) * x).sum(1) for g, x in zip(gradients, maps.values()))[0].relu().detach()
    np.testing.assert_allclose(found["global"].first, heat / heat.max(), atol=1e-4)
    assert found["global"].similarity == pytest.approx(cosine.item(), abs=1e-5)


def test_a_stripped_model_has_no_heads(images):
    with pytest.raises(ConfigError, match="it was stripped"):
        pair_heat(build("dsp").strip(), images[0], images[1], heads=True)


def test_the_figure_names_layers_and_heads(images):
    picture = np.full((96, 64, 3), 120, np.uint8)
    found = pair_heat(build("dsp"), images[0], images[1], heads=True)
    figure = pair_figure(picture, picture, found, "two people")
    titles = {axes.get_title() for axes in figure.axes}
    assert {*found} <= titles
    below = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert f"cosine {found['ds1'].similarity:.2f}" in below
    assert len(figure.axes) == 2 * (len(found) + 2)


def test_backbones_of_other_families_work(images):
    model = regard.create_model("baseline", 5, backbone="test_convnext.r160_in1k").eval()
    assert isinstance(model.backbone, Backbone)
    found = exact_cam(model, images, LABELS)
    np.testing.assert_allclose(found.maps.sum((1, 2)) + found.offset, found.scores, rtol=1e-3, atol=1e-5)
