"""What is rounding is not shown: equal pictures, pictures a gray level apart, gates and maps that do not vary."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import regard
from regard.explain.attention import Attention, attention_of
from regard.explain.correlation import correlate
from regard.explain.features import gray_levels
from regard.explain.figures.attention_figure import attention_figure
from regard.explain.figures.map_figures import leveled, range_of, scaled
from regard.explain.figures.map_grids import MapRow, feature_grid, feature_pictures, pair_figure, paper_sheet
from regard.explain.gradcam import attention_layers, class_cam, similarity_cam
from regard.explain.heads import PairHeat, pair_heat
from regard.explain.rounding import NOTHING
from regard.report.embedding_map import embedding_map

TINY = "test_resnet.r160_in1k"
LEVEL = torch.tensor([1 / 255 / d for d in (0.229, 0.224, 0.225)])[:, None, None]
GRAY = np.full((64, 32, 3), 120, np.uint8)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pictures(count: int) -> Tensor:
    """Smooth ones with a little noise, (count, 3, 96, 64), as photographs are."""
    smooth = F.interpolate(torch.randn(count, 3, 8, 4), size=(96, 64), mode="bicubic")
    return smooth + 0.05 * torch.randn(count, 3, 96, 64)


def build(name: str) -> nn.Module:
    """A small network whose statistics are away from their starting values."""
    model = regard.create_model(name, 5, backbone=TINY).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def texts(figure) -> str:
    return " | ".join(text.get_text().replace("\n", " ") for axes in figure.axes for text in axes.texts)


def changed(picture: Tensor, how: str) -> Tensor:
    """The picture, at most one gray level off."""
    if how == "one pixel":
        found = picture.clone()
        found[:, 40, 20] += LEVEL[:, 0, 0]
        return found
    by = {"equal": 0.0, "brighter": 1.0, "darker": -1.0, "noise": torch.randint(-1, 2, picture.shape)}[how]
    return picture + by * LEVEL


@pytest.mark.parametrize("name", ["baseline", "apnet", "dsp", "mudeep"])
def test_pictures_that_differ_by_rounding_have_no_heat_and_others_have(name):
    model, (one, other) = build(name), pictures(2)
    for how in ("equal", "one pixel", "brighter", "darker", "noise"):
        for heat in pair_heat(model, one, changed(one, how)).values():
            assert not heat.first.any(), how
            assert not heat.second.any(), how
    found = pair_heat(model, one, other)
    assert all(max(heat.first.max(), heat.second.max()) == 1 for heat in found.values())


def test_heads_have_none_either():
    model, (one, other) = build("mudeep"), pictures(2)
    assert not any(heat.first.any() or heat.second.any() for heat in pair_heat(model, one, one, heads=True).values())
    assert any(heat.first.any() for heat in pair_heat(model, one, other, heads=True).values())


def test_a_descriptor_as_partner_is_held_against_rounding_too():
    model, (one, other) = build("baseline"), pictures(2)
    layer = attention_layers(model)["last stage"]
    own = model.embed(one[None]).detach()
    nudged = own * (1 + 1e-6 * torch.randn(own.shape))
    assert not similarity_cam(model, layer, one[None], nudged).any()
    assert similarity_cam(model, layer, one[None], model.embed(other[None]).detach()).any()


@pytest.mark.parametrize("strength", [0.02, 0.1, 1.0])
def test_what_is_shown_is_what_twice_the_digits_show(strength):
    """A map that is not empty agrees with the one computed in float64."""
    model, (one, other) = build("baseline"), pictures(2)
    mixed = (1 - strength) * one + strength * other
    shown = similarity_cam(model, "backbone.stages.3", one[None], mixed[None])
    exact = similarity_cam(copy.deepcopy(model).double(), "backbone.stages.3", one[None].double(), mixed[None].double())
    assert shown.any()
    torch.testing.assert_close(shown, exact.float(), atol=0.02, rtol=0)


class Canceling(nn.Module):
    """A classifier whose weights take each other away, up to a share of them."""

    def __init__(self, left: float):
        super().__init__()
        self.stem, self.left = nn.Conv2d(3, 8, 4, stride=4), left

    def forward(self, images: Tensor) -> regard.Output:
        pooled = self.stem(images).mean((2, 3))
        twice = torch.cat([pooled, -pooled * (1 - self.left)], 1).sum(1, keepdim=True)
        return regard.Output(pooled, {}, {"global": torch.cat([twice, twice], 1)}, {})


def test_a_class_map_below_the_digits_of_its_terms_is_empty():
    images, labels = pictures(2), torch.tensor([0, 1])
    empty = class_cam(Canceling(0), "stem", images, labels)
    assert not empty.any()
    assert class_cam(Canceling(0.5), "stem", images, labels).any()


def test_a_map_that_does_not_vary_is_not_stretched():
    noise = np.float32(1e-7) * np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    flat = np.float32(0.5) + noise
    assert np.ptp(flat) > 0
    assert not scaled(flat).any()
    assert not gray_levels(flat).any()
    assert scaled(flat, 0, 1).min() > 0.49  # with limits of one's own everything is drawn as it is
    assert range_of(flat) == "0.5 all over"
    assert not np.asarray(feature_pictures(GRAY, flat)["gray"]).any()
    assert "0.5 all over" in texts(feature_grid([MapRow("a", GRAY, {"tap1": flat})]))
    real = flat + np.linspace(0, 1e-3, 32, dtype=np.float32).reshape(8, 4)
    assert scaled(real).max() == 1
    coarse = real.astype(np.float16)
    assert not scaled(coarse).any()  # half precision cannot tell


def test_gates_that_are_all_but_constant_are_drawn_flat():
    """As those of dsp: sheet, cell and strip alike."""
    values = 0.5 + 0.004 * np.random.default_rng(0).random((1, 16, 6)).astype(np.float32)
    gate = {"tap2.strips": Attention(values, "strips", "gate")}
    figure = attention_figure(GRAY, gate)
    (strip,) = [image for axes in figure.axes for image in axes.images if image.get_array().shape == (6, 16)]
    assert not np.asarray(strip.get_array()).any()
    assert strip.get_clim() == (0, 1)
    assert "0.502 all over" in texts(figure)
    assert not leveled(values[0]).any()
    sheet = paper_sheet([GRAY], {"dsp": {"gate": values.mean(1)[:, :, None]}})
    photo, over = (np.asarray(axes.images[0].get_array()) for axes in sheet.axes if axes.images)
    assert np.ptp(over) <= 2
    assert photo.shape == GRAY.shape


def test_what_attention_adds_to_nothing_is_nothing():
    model = build("mudeep")
    with torch.no_grad():
        for module in model.attention.values():
            for name, parameter in module.named_parameters():
                if name == "gamma":
                    parameter.fill_(1e-9)
    added = {name: value for name, value in attention_of(model, pictures(1)).items() if name.endswith(".added")}
    for name, value in added.items():
        after = attention_of(model, pictures(1))[name.replace("added", "after")].values
        assert (value.values == 0).all() or value.values.max() > 1e-6 * after.max()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_rows_that_vary_by_rounding_are_dead(kind):
    maps = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(kind)
    maps[:, 1, 1] = kind(100) * (1 + np.finfo(kind).eps * np.array([0, 1, 0, 1, 1, 0]))
    assert correlate(maps).dead == 1


def test_equal_descriptors_lie_in_one_place():
    row = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    same = np.stack([row * np.float32(1 + place * 1e-7) for place in range(12)])
    found = embedding_map(same, np.repeat([1, 2], 6), method="pca")
    assert not found.places.any()
    assert np.isnan([found.on_map, found.in_full]).all()


def test_figures_say_so():
    nothing, blob = np.zeros((6, 3), np.float32), np.eye(6, 3, dtype=np.float32)
    figure = pair_figure(GRAY, GRAY, {"P1": PairHeat(1.0, nothing, blob)}, "a and b")
    assert texts(figure).count(NOTHING) == 1
    assert texts(paper_sheet([GRAY], {"apnet": {"P1": nothing[None]}})).count(NOTHING) == 1
    assert NOTHING in texts(feature_grid([MapRow("a", GRAY, {"P1": nothing})]))
