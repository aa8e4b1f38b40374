"""The reference of the benchmarks does what regard does: with the same weights, the same losses and descriptors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import regard
from regard.engine.build import build_criterion
from regard.recipes import read_recipe
from regard.structures import Batch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def reference():
    sys.path.insert(0, str(BENCHMARKS))
    import reference

    yield reference
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("level", [0, 2])
def test_same_weights_same_numbers(reference, level):
    torch.manual_seed(0)
    plain = reference.ReferenceAPNet(12, level).double()
    model = regard.create_model("apnet", num_ids=12, level=level).double()
    reference.copy_weights(plain, model)
    images, labels = torch.randn(8, 3, 128, 64, dtype=torch.float64), torch.arange(4).repeat_interleave(2)
    criterion = build_criterion(read_recipe("apnet_market1501").config(), model)
    model.train()
    loss, _ = criterion(model(images), Batch(images, labels, labels, {}))
    optimizer = reference.build_adam(plain.train())
    assert reference.train_step(plain, optimizer, images, labels) == pytest.approx(loss.item(), rel=1e-6)
    reference.copy_weights(plain, model)
    with torch.inference_mode():
        expected = model.eval().embed(images)
        assert torch.allclose(plain.eval()(images).float(), expected, atol=1e-5 * float(expected.abs().max()))
