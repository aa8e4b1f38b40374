"""Feature maps: the very tensors of the forward pass, reduced, drawn and lined up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import regard
from regard.errors import ConfigError
from regard.explain.features import feature_maps, gray_levels, reduce_channels
from regard.explain.figures.map_grids import MapRow, feature_grid, feature_pictures
from regard.registry import MODELS
from small_backbones import tiny

PICTURE = np.full((96, 64, 3), 120, np.uint8)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def images():
    return torch.randn(2, 3, 96, 64)


def build(name, **options):
    return regard.create_model(name, 5, backbone=tiny(name), **options)


@pytest.mark.parametrize("name", list(MODELS))
def test_maps_of_every_system(name, images):
    model = build(name).train()
    found = feature_maps(model, images)
    assert list(found) == list(model.map_layers())
    assert all(value.ndim == 4 and value.dtype == np.float32 and len(value) == 2 for value in found.values())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_stages_see_what_they_see_in_the_forward_pass(images):
    """The attended map feeds the next stage; run without its attention, dsp in released mode would see half of it."""
    model = build("dsp", mode="released").eval()
    found = feature_maps(model, images, ["stem", "layer1", "tap3"])
    assert list(found) == ["tap1", "tap2.before", "tap2.after", "tap3.before", "tap3.after"]
    np.testing.assert_allclose(found["tap2.after"], 2 * found["tap2.before"], rtol=1e-6)
    with torch.no_grad():
        expected = model.backbone.stages[2](torch.from_numpy(found["tap2.after"]))
    np.testing.assert_allclose(found["tap3.before"], expected, rtol=1e-4, atol=1e-5)


def test_apnet_before_and_after(images):
    model = build("apnet").eval()
    found = feature_maps(model, images, ["tap5"])
    pooled = model(images).features["global"].detach()
    np.testing.assert_allclose(found["tap5.after"].mean((2, 3)), pooled, rtol=1e-4, atol=1e-6)
    assert not np.allclose(found["tap5.before"], found["tap5.after"])
    path = feature_maps(model, images, ["backbone.stages.4"])["backbone.stages.4"]
    np.testing.assert_array_equal(path, found["tap5.before"])


def test_mudeep_after_attention(images):
    model = build("mudeep", guidance=16).eval()
    with torch.no_grad():
        model.gamma["scale1"].fill_(0.5)
    found = feature_maps(model, images, ["scale1", "scale2"])
    assert not np.allclose(found["scale1.before"], found["scale1.after"])
    np.testing.assert_array_equal(found["scale2.before"], found["scale2.after"])  # a fresh gamma is 0


def test_layers_that_are_not_there(images):
    with pytest.raises(ConfigError, match=r"no layer 'tap9', did you mean 'tap5'\?; it has: tap1, tap2"):
        feature_maps(build("baseline"), images, ["tap9"])
    with pytest.raises(ConfigError, match=r"layer 'neck' returns \(2, 96\), wanted a \(B, C, h, w\) map"):
        feature_maps(build("baseline"), images, ["neck"])
    with pytest.raises(ConfigError, match=r"layer 'backbone\.stages' returns nothing"):
        feature_maps(build("baseline"), images, ["backbone.stages"])


def test_reductions():
    maps = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(reduce_channels(maps), maps.mean(1))
    np.testing.assert_array_equal(reduce_channels(maps, "max"), maps.max(1))
    np.testing.assert_allclose(reduce_channels(maps, "l2"), np.sqrt((maps**2).sum(1)))
    np.testing.assert_array_equal(reduce_channels(maps, "2"), maps[:, 2])
    with pytest.raises(ConfigError, match="channel 3, the map has 3: 0 to 2"):
        reduce_channels(maps, 3)
    with pytest.raises(ConfigError, match="'mode', wanted mean, l2, max or a channel's number"):
        reduce_channels(maps, "mode")


def test_gray_is_clipped_and_not_wrapped():
    assert gray_levels(np.array([[0, 1, 1.4, -1]]), (0, 1)).tolist() == [[0, 255, 255, 0]]
    assert gray_levels(np.array([[2.0, 4.0]])).tolist() == [[0, 255]]
    assert gray_levels(np.full((1, 2), 3.0)).tolist() == [[0, 0]]


def test_pictures_have_their_sizes():
    found = feature_pictures(PICTURE, np.random.default_rng(0).random((6, 4)).astype(np.float32), height=192)
    assert found["gray"].size == (4, 6)
    assert found["heat"].size == found["overlay"].size == (128, 192)
    assert found["panels"].width > 3 * 128


def test_a_grid_lines_up_models_with_and_without_attention():
    dots = np.eye(4, dtype=np.float32)
    rows = [
        MapRow("dsp", PICTURE, {"tap2.before": dots, "tap2.after": 2 * dots, "tap5": dots}),
        MapRow("baseline", PICTURE, {"tap2": dots, "tap5": dots}),
    ]
    figure = feature_grid(rows)
    left = {(round(axes.get_position().x0, 4), axes.get_title()) for axes in figure.axes}
    column = {title: [x for x, name in left if name == title] for _, title in left}
    assert column["tap2"] == column["tap2.before"]
    assert len(column["tap5"]) == 1
    assert column["tap2.before"] < column["tap2.after"] < column["tap5"]
    assert any("0 – 2" in text.get_text() for axes in figure.axes for text in axes.texts)
