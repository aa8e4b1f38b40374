"""Three steps of every published training in float64, against a plain re-computation from the papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from plain_training import FROZEN, MOVES_ITSELF, Training, train_plainly
from published import TRAININGS, VARIANTS
from torch import Tensor
from traced import batches, configuration, run

CLOSE = 1e-9


def same(one: Tensor, two: Tensor, least: float = 0.0) -> bool:
    """Whether tensors differ by no more than a billionth of their length, or than ``least`` in every number."""
    return float((one - two).norm()) <= CLOSE * float(two.norm()) + least * one.numel() ** 0.5


def trace(recipe: str, training: Training, market: Path, folder: Path, more: Sequence[str] = ()) -> None:
    """Train both ways and compare everything.

    Raises:
        AssertionError: they differ.
    """
    name, *overrides = recipe.split()
    config = configuration(name, [*training.overrides, *overrides, *more], training.small)
    given = batches(config, seed=5)
    found = run(config, given, market, folder)
    start = found.centers[0] if training.centers else torch.zeros(())
    steps, weights, centers = train_plainly(training, found.start, start, given, found.randoms)
    for number, step in enumerate(steps):
        assert list(found.terms[number]) == list(step.terms), "other terms"
        for term, value in step.terms.items():
            assert found.terms[number][term] == pytest.approx(value, rel=CLOSE), f"{term} of step {number + 1}"
        assert found.losses[number] == pytest.approx(step.loss, rel=CLOSE), f"loss of step {number + 1}"
        largest = max(float(gradient.norm()) for gradient in step.gradients.values())
        assert found.gradients[number].keys() == step.gradients.keys()
        for name, gradient in step.gradients.items():
            assert same(found.gradients[number][name], gradient, 1e-12 * largest), f"gradient of {name}"
        assert found.rates[number].keys() == step.gradients.keys()
        for name, rate in found.rates[number].items():
            assert rate == pytest.approx(step.rates[training.optimizer.share(name)], rel=CLOSE), f"rate of {name}"
        check_log(found.logged[number], step, number)
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        assert FROZEN.search(name) is None or torch.equal(found.end[name], found.start[name]), f"{name} was to stay"
        moved, wanted = found.end[name] - found.start[name], value - found.start[name]
        noise = 0.0 if MOVES_ITSELF.search(name) else 1e-7 * steps[0].rates[training.optimizer.share(name)]
        assert same(moved, wanted, 1e-15 + noise), f"{name} after {len(steps)} steps"
    if training.centers:
        assert same(found.centers[1], centers), "centers"


def check_log(record: dict, step, number: int) -> None:
    """What a run writes down is what happened."""
    assert record["step"] == record["epoch"] == number + 1
    assert record["loss"] == pytest.approx(step.loss, rel=CLOSE)
    assert {key[5:]: value for key, value in record.items() if key.startswith("loss/")} == pytest.approx(step.terms)
    total = sum(float((gradient**2).sum()) for gradient in step.gradients.values()) ** 0.5
    assert record["grad_norm"] == pytest.approx(total, rel=CLOSE)


@pytest.mark.parametrize("recipe", [*TRAININGS, *VARIANTS])
def test_three_steps_are_those_of_the_paper(recipe, market, tmp_path):
    trace(recipe, (TRAININGS | VARIANTS)[recipe], market, tmp_path)
