"""The learning rate of every parameter at every step of every published training, by the authors' formula."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from published import TRAININGS
from torch import Tensor
from traced import Fixed, configuration

from regard.config import Config
from regard.data import load_dataset
from regard.engine import train as engine
from regard.engine.step import TrainStep
from regard.runtime.fabric import Runtime
from regard.structures import Batch

A_DAY = 2
"""Batches of an epoch, which is enough to tell a rate that follows steps from one that follows epochs."""


class SilentLog:
    """In place of a log that would write thousands of lines."""

    def __init__(self, *_, **__):
        self.last = {}

    def progress(self, loader, *_, **__):
        return iter(loader)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def say(self, *_):
        pass

    step = flush = warn = say


class Endless(Fixed):
    """The same two batches in every epoch."""

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def rates(config: Config, market, folder) -> list[dict[str, float]]:
    """Run the whole loop without computing anything; the rate of every parameter at every step, by name."""
    seen: list[dict[str, float]] = []
    build, states = engine.build_state, []

    def start(*arguments):
        state, *others = build(*arguments)
        states.append(state)
        return state, *others

    class Idle(TrainStep):
        def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            (state,) = states
            names = {id(parameter): name for name, parameter in state.model.named_parameters()}
            groups = state.optimizer.param_groups
            seen.append({names[id(g["params"][0])]: g["lr"] for g in groups} | {"groups": len(groups)})
            return torch.zeros(()), {}

    nothing = Batch(torch.zeros(1, 3, 2, 2), torch.zeros(1), torch.zeros(1), {})
    with (
        patch.object(engine, "build_loader", lambda *_: Endless([nothing] * A_DAY)),
        patch.object(engine, "build_state", start),
        patch.object(engine, "TrainStep", Idle),
        patch.object(engine, "TrainingLog", SilentLog),
        patch.object(engine, "save_state", lambda *_, **__: None),
        patch.object(engine, "write_models", lambda *_, **__: None),
        patch.object(engine, "evaluate_where_due", lambda *_, **__: None),
    ):
        engine.train(config, load_dataset("market1501", market), folder, Runtime(config.train), quiet=True)
    return seen


def check(recipe: str, overrides: list[str], market, folder, ahead: int = 0) -> None:
    """Compare the whole schedule of a recipe, the authors' so many epochs ``ahead``.

    Raises:
        AssertionError: a step's rate differs, or the number of steps.
    """
    training = TRAININGS[recipe]
    config = configuration(recipe, [*training.overrides, *overrides], training.small)
    seen = rates(config, market, folder)
    assert len(seen) == training.epochs * A_DAY
    optimizer = training.optimizer
    for step, found in enumerate(seen):
        epoch = step / A_DAY
        assert found.pop("groups") == len({0.1, 1.0} if optimizer.slow else {1.0})
        for name, rate in found.items():
            wanted = optimizer.rate * optimizer.share(name) * training.factor(epoch + ahead)
            assert rate == pytest.approx(wanted, rel=1e-12), f"{name} after {epoch} epochs"


@pytest.mark.parametrize("recipe", TRAININGS)
def test_every_rate_of_the_schedule_is_the_authors(recipe, market, tmp_path):
    check(recipe, [], market, tmp_path)


def test_the_strong_baseline_s_schedule_under_a_later_pytorch(market, tmp_path):
    """It steps at the start of an epoch, from PyTorch 1.1 on that is one step too early (the page of papers)."""
    later = ["schedule.milestones=[39, 69]", "schedule.warmup_epochs=9", "schedule.warmup_start=0.109"]
    check("daaf_market1501", later, market, tmp_path, ahead=1)


def test_apnet_s_schedule_in_numbers():
    """As read from the authors' code: 4e-6, 4.36e-5 ... 4e-4, 4e-5, 4e-6, 4e-7."""
    factor = TRAININGS["apnet_market1501"].factor
    found = [4e-4 * factor(epoch) for epoch in (0, 1, 5, 9, 10, 39, 40, 79, 80, 119, 120, 159)]
    wanted = [4e-6, 4.36e-5, 2.02e-4, 3.604e-4, 4e-4, 4e-4, 4e-5, 4e-5, 4e-6, 4e-6, 4e-7, 4e-7]
    assert found == pytest.approx(wanted, rel=1e-12)
