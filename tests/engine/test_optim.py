"""Parameter groups and the learning-rate schedule against the published values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from regard.config import OptimConfig, ScheduleConfig
from regard.engine.step import build_optimizer, lr_factor, set_lr
from regard.errors import ConfigError


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [
        (0, 4e-6), (1, 4.36e-5), (5, 2.02e-4), (9, 3.604e-4), (10, 4e-4), (39, 4e-4), (40, 4e-5), (79, 4e-5),
        (80, 4e-6), (119, 4e-6), (120, 4e-7), (159, 4e-7),
    ],
)  # fmt: skip
def test_apnet_schedule_has_the_published_rates(epoch, lr):
    config = ScheduleConfig(milestones=(40, 80, 120), warmup_epochs=10, warmup_start=0.01)
    assert 4e-4 * lr_factor(config, epoch, 160) == pytest.approx(lr, rel=1e-9)
    assert lr_factor(config, epoch + 0.7, 160) == lr_factor(config, epoch, 160)


def test_cosine_starts_at_one_and_ends_at_its_end():
    config = ScheduleConfig(name="cosine", warmup_epochs=0, end=0.1, per="step")
    assert lr_factor(config, 0, 20) == 1
    assert lr_factor(config, 10, 20) == pytest.approx(0.55)
    assert lr_factor(config, 20, 20) == pytest.approx(0.1)
    assert lr_factor(config, 5, 20) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize("step", [0, 14_999, 15_000, 15_001, 40_000, 79_999, 80_000])
def test_exponential_decay_is_trinet_s(step):
    """80,000 steps of base rate 1e-4, constant to 15,000, then to a thousandth."""
    rate = 1e-4
    for _ in range(15_000, step):
        rate *= 0.001 ** (1 / 65_000)
    config = ScheduleConfig(name="exponential", warmup_epochs=0, start=150, end=0.001, per="step")
    assert 1e-4 * lr_factor(config, step / 100, 800) == pytest.approx(rate, rel=1e-6)


def test_a_decay_that_starts_at_the_end_never_starts():
    config = ScheduleConfig(name="exponential", warmup_epochs=0, start=5, end=0.1, per="step")
    assert [lr_factor(config, epoch, 5) for epoch in (0, 4.9, 5)] == [1, 1, 1]


def test_steps_refine_the_warm_up():
    config = ScheduleConfig(name="constant", warmup_epochs=2, warmup_start=0.0, per="step")
    assert [lr_factor(config, e, 10) for e in (0, 0.5, 1.5, 2, 9)] == [0, 0.25, 0.75, 1, 1]


def model() -> nn.Module:
    net = nn.ModuleDict({"backbone": nn.Linear(3, 4), "head": nn.BatchNorm1d(4)})
    net["head"].bias.requires_grad_(False)
    return net


def groups(optimizer: torch.optim.Optimizer) -> set[tuple[float, float, int]]:
    """(rate, decay, number of values) of every parameter group."""
    return {(round(g["lr"], 9), g["weight_decay"], sum(p.numel() for p in g["params"])) for g in optimizer.param_groups}


def test_everything_decays_as_published_and_frozen_parameters_are_left_out():
    optimizer = build_optimizer(model(), OptimConfig(lr=0.1, weight_decay=0.5))
    assert groups(optimizer) == {(0.1, 0.5, 12 + 4 + 4)}


def test_norms_and_biases_can_be_spared_and_parts_slowed():
    config = OptimConfig(name="adamw", lr=0.1, weight_decay=0.5, decay_norm_and_bias=False, lr_scale={"backbone": 0.1})
    optimizer = build_optimizer(model(), config)
    assert groups(optimizer) == {(0.01, 0.5, 12), (0.01, 0.0, 4), (0.1, 0.0, 4)}
    assert set_lr(optimizer, 0.5) == pytest.approx(0.005)
    assert {rate for rate, _, _ in groups(optimizer)} == {0.005, 0.05}


def test_a_scale_that_fits_nothing_is_refused():
    with pytest.raises(ConfigError, match="no parameter starts with 'backbne'; the model has backbone, head"):
        build_optimizer(model(), OptimConfig(lr_scale={"backbne": 0.1}))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimizer_takes_a_step(name):
    net = model()
    optimizer = build_optimizer(net, OptimConfig(name=name, lr=0.1))
    before = net["backbone"].weight.clone()
    net["backbone"](torch.ones(2, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, net["backbone"].weight)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_one_kernel_for_all_parameters_steps_as_the_other(name):
    """For the same gradients, up to the order of multiplication."""
    results = []
    for fused in (False, True):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(30, 40), nn.Linear(40, 5))
        optimizer = build_optimizer(net, OptimConfig(name=name, lr=1e-2, fused=fused))
        assert optimizer.defaults["fused"] is (fused or None)
        for _ in range(10):
            for parameter in net.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        results.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
    plain, fused = results
    torch.testing.assert_close(plain, fused, rtol=1e-5, atol=1e-6)
