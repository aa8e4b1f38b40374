from __future__ import annotations

import pytest
import torch

import regard
from regard.models.cost import count_gflops as gflops

TINY = "test_resnet.r160_in1k"
PRESETS = ("lite", "lite-c", "2023", "head")


def tiny(**options) -> regard.ReIDModel:
    torch.manual_seed(0)
    return regard.create_model("msea", 7, backbone=TINY, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "level", "total", "attention", "cost"),
    [
        ("2023", 1, 25_050_191, 15, (18.23974, 8.10656)),
        ("2023", 2, 29_248_751, 4_198_575, (18.24810, 8.11493)),
        ("head", 1, 27_846_432, 2_796_256, (18.24530, 8.11212)),
        ("head", 2, 29_248_761, 4_198_585, (18.24812, 8.11494)),
        ("lite", 0, 25_050_176, 0, (18.23972, 8.10654)),
        ("lite", 2, 25_058_034, 7_858, (18.23983, 8.10666)),
        ("lite", 3, 25_065_867, 15_691, (18.23999, 8.10681)),
        ("lite-c", 2, 25_058_059, 7_883, (18.23980, 8.10662)),
    ],
)
def test_sizes_on_resnet50(preset, level, total, attention, cost):
    model = regard.create_model("msea", 751, preset=preset, level=level)
    assert sum(p.numel() for p in model.parameters()) == total
    assert sum(p.numel() for p in model.attention.parameters()) == attention
    model.strip()
    assert (round(gflops(model, 1, 3, 384, 192), 5), round(gflops(model, 1, 3, 256, 128), 5)) == cost


def test_adaptive_kernels():
    model = regard.create_model("msea", 7, kernel="adaptive", level=1)
    kernels = [pyramid.levels.level1.agent.conv.kernel_size for pyramid in model.attention.values()]
    assert kernels == [(3,), (5,), (5,), (5,), (7,)]


def test_default_is_lite_with_two_levels():
    assert list(tiny().state_dict()) == list(tiny(preset="lite", level=2, kernel=5, gate="multiply").state_dict())


def test_the_number_2023_is_a_preset():
    images = torch.randn(2, 3, 64, 32)
    assert torch.equal(tiny(preset=2023).embed(images), tiny(preset="2023").embed(images))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("order", ["fine_to_coarse", "coarse_to_fine"])
def test_every_preset_trains_at_every_level_in_both_orders(preset, level, order):
    model = tiny(preset=preset, level=level, order=order)
    out = model(torch.randn(4, 3, 96, 48))
    (out.logits["global"].square().sum() + out.features["global"].square().sum()).backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []
    numbers = range(1, level + 1) if order == "coarse_to_fine" else range(level, 0, -1)
    assert list(out.maps) == [f"tap{tap}.level{number}" for tap in range(1, 6) for number in numbers]


@pytest.mark.parametrize(("height", "rows"), [(128, [2, 2, 2, 2]), (112, [2, 2, 2, 1]), (48, [1, 1, 1])])
def test_lite_gates_are_constant_on_strips(height, rows):
    maps = tiny(level=3).eval()(torch.randn(1, 3, height, 32)).maps
    gate = maps["tap5.level3"]
    assert gate.shape == (1, 96, sum(rows), 1)
    start = 0
    for count in rows:
        assert torch.equal(gate[:, :, start : start + count], gate[:, :, start : start + 1].expand(-1, -1, count, -1))
        start += count
    assert len(torch.unique(gate[0, 0])) == len(rows)
    assert maps["tap5.level1"].shape == (1, 96, 1, 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_square_and_multiply(preset):
    """Level 1 alone: squaring is multiplying by the map once more, at every tap."""
    images = torch.randn(2, 3, 64, 32)
    model = tiny(preset=preset, level=1, gate="square").eval()
    x = images
    for stage, pyramid in zip(model.backbone.stages, model.attention.values()):
        x = stage(x)
        x = x * x * pyramid.levels["level1"].agent(x)
    out = model(images)
    torch.testing.assert_close(out.features["global"], x.mean((2, 3)))
    multiplied = tiny(preset=preset, level=1, gate="multiply").eval()(images)
    default = out if preset in ("2023", "head") else multiplied
    assert torch.equal(tiny(preset=preset, level=1).eval()(images).embedding, default.embedding)
    assert not torch.allclose(multiplied.embedding, out.embedding)


def test_head_at_level_one_only_squares():
    maps = tiny(preset="head", level=1)(torch.randn(2, 3, 64, 32)).maps
    assert all(torch.equal(gate, torch.ones_like(gate)) for gate in maps.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "light"}, "preset is 'light', wanted one of: lite, lite-c, 2023, head"),
        ({"preset": 2024}, "preset is '2024'"),
        ({"level": 4}, "level is 4, wanted 0"),
        ({"kernel": 4}, "kernel is 4, wanted an odd number"),
        ({"kernel": -3}, "kernel is -3"),
        ({"kernel": "wide"}, "kernel is 'wide'"),
        ({"kernel": 0}, "kernel is 0"),
        ({"gate": "cube"}, "gate is 'cube', wanted one of: multiply, square"),
        ({"order": "up"}, "order is 'up'"),
        ({"preset": "lite-c", "backbone": "rexnet_100"}, "61 channels for 2 groups"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(regard.RegardError, match=message) as caught:
        tiny(**options) if "backbone" not in options else regard.create_model("msea", 7, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_save_and_load(preset, tmp_path):
    model = tiny(preset=preset, level=3, kernel="adaptive")
    model.save(tmp_path)
    images = torch.randn(2, 3, 80, 40)
    assert torch.equal(regard.load(tmp_path).embed(images), model.embed(images))
