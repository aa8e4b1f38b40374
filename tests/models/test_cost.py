"""What models cost: counted by hand on a small one, as published on the large ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import regard
from regard.models.cost import constant_weights, count_gflops, equal_option, inference_cost
from regard.registry import MODELS
from small_backbones import tiny

pytestmark = pytest.mark.slow

TINY = "test_resnet.r160_in1k"


def test_operations_are_counted_by_hand():
    """3 x 3 convolution of 4 to 6 channels in 2 groups at 5 x 7 positions, a linear layer, a product; nothing else."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
            self.norm = nn.BatchNorm2d(6)
            self.linear = nn.Linear(6, 11)

        def forward(self, x):
            x = self.norm(self.conv(x)).flatten(2)
            return self.linear((x @ x.mT).relu())

    expected = 2 * (9 * 2 * 6 * 35 + 6 * 6 * 35 + 6 * 6 * 11)
    assert count_gflops(Net(), 1, 4, 5, 7) == pytest.approx(expected / 1e9, rel=1e-12)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_model_stays_as_it_is(name):
    model = regard.create_model(name, 5, backbone=tiny(name)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    cost = inference_cost(model, 96, 64)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not model.stripped
    stripped = inference_cost(model.strip(), 96, 64)
    assert cost.inference_parameters == stripped.parameters == stripped.inference_parameters
    assert cost.gflops == stripped.gflops


@pytest.mark.parametrize("name", list(MODELS))
def test_constant_weights_cost_the_same_and_draw_nothing(name):
    drawn = regard.create_model(name, 5, backbone=tiny(name))
    state = torch.get_rng_state()
    with constant_weights():
        constant, again = (regard.create_model(name, 5, backbone=tiny(name)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert inference_cost(constant, 96, 64) == inference_cost(drawn, 96, 64)
    values = zip(drawn.state_dict().values(), constant.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.isfinite(two).all() and torch.equal(two, three) for _, two, three in values)
    weights = next(
        conv for conv in regard.create_model(name, 5, backbone=tiny(name)).modules() if isinstance(conv, nn.Conv2d)
    )
    assert weights.weight.std() > 0


def rga(level: int, height: int, width: int, agent: str = "rga") -> dict:
    return {"agent": agent, "level": level, "height": height, "width": width}


@pytest.mark.parametrize(
    ("name", "options", "size", "published", "ours"),
    [
        ("baseline", {}, (384, 192), "18.23972", "18.23972"),
        ("baseline", {}, (256, 128), "8.10654", "8.10654"),
        ("apnet", {}, (384, 192), "18.24820", "18.24820"),
        ("apnet", {}, (256, 128), "8.11503", "8.11503"),
        ("msea", {}, (384, 192), "18.23983", "18.23983"),
        ("msea", {}, (256, 128), "8.10666", "8.10666"),
        ("apnet", rga(1, 256, 128), (256, 128), "13.524", "9.003"),
        ("apnet", rga(2, 256, 128), (256, 128), "15.49", "9.79"),
        ("apnet", rga(3, 256, 128), (256, 128), "16.54", "10.54"),
        ("apnet", rga(1, 384, 192), (384, 192), "71.518", "21.011"),
        ("apnet", rga(2, 384, 192), (384, 192), "86.43", "23.09"),
        ("apnet", rga(3, 384, 192), (384, 192), "91.54", "24.90"),
        ("apnet", rga(1, 256, 128, "rga_c"), (256, 128), "14.231", "9.206"),
        ("apnet", rga(1, 384, 192, "rga_c"), (384, 192), "28.492", "23.320"),
        ("apnet", rga(1, 256, 128, "rga_sc"), (256, 128), "19.649", "10.103"),
        ("apnet", rga(1, 384, 192, "rga_sc"), (384, 192), "81.770", "26.092"),
        ("mudeep", {}, (384, 192), "47.718", "40.562"),
        ("mudeep", {}, (384, 128), "31.824", "27.083"),
        ("pcb", {}, (384, 128), "12.160", "12.160"),
        ("dsp", {"mode": "released"}, (384, 128), "12.171", "12.160"),
        ("dsp", {"mode": "code"}, (384, 128), "12.171", "12.160"),
        ("dsp", {}, (384, 128), "12.171", "12.160"),
        ("sa", {}, (384, 128), "12.171", "12.160"),
        ("daaf", {}, (256, 128), "8.10654", "8.10654"),
    ],
)  # fmt: skip
def test_published_cost_on_resnet50(name, options, size, published, ours):
    """To the last published digit; what level 2 and 3 of relation attention add is published to two (16.1).

    The other levels and presets of apnet and msea, whose cost is ours, are counted in their own tests.
    """
    with constant_weights():
        model = regard.create_model(name, 751, **options)
    cost = inference_cost(model, *size)
    digits = len(published.partition(".")[2])
    assert (f"{cost.published_gflops:.{digits}f}", f"{cost.gflops:.{digits}f}") == (published, ours)


class Wide(regard.ReIDModel):
    """A network whose size is its one option."""

    def __init__(self, num_ids: int, *, width: int):
        super().__init__(num_ids, width)
        self.layer = torch.nn.Linear(3, width, bias=False)

    def forward(self, images):
        f = self.layer(images.mean((2, 3)))
        return regard.Output(embedding=f, features={"global": f}, logits={}, maps={})


@pytest.mark.parametrize(("wanted", "width"), [(1, 1), (6, 2), (3000, 1000), (3002, 1001), (3001, 1000)])
def test_the_option_is_found_with_which_another_cost_is_met(wanted, width):
    built = []

    def build(value):
        built.append(value)
        return Wide(5, width=value)

    assert equal_option(build, wanted, size=(8, 8)) == width
    assert len(built) < 10
    with pytest.raises(regard.RegardError, match="no value of the option up to 65,536 gives 1e\\+06 gflops"):
        equal_option(build, 1e6, measure="gflops", size=(8, 8))


def test_the_baseline_has_a_layer_that_makes_it_as_large_as_another():
    model = regard.create_model("baseline", 5, backbone="test_resnet.r160_in1k", head_dim=17)
    out = model.eval()(torch.zeros(2, 3, 64, 32))
    assert out.embedding.shape == out.features["global"].shape == (2, 17)
    with pytest.raises(regard.RegardError, match="head_dim is 0"):
        regard.create_model("baseline", 5, backbone="test_resnet.r160_in1k", head_dim=0)
