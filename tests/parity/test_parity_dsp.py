"""DSP and SA against what the authors' code computes on weights that are filled from their names."""

from __future__ import annotations

import functools
from pathlib import Path

import fill
import numpy as np
import pytest
import torch

import regard

HERE = Path(__file__).parent
TOLERANCE = 2e-5
each_network = pytest.mark.parametrize("network", ["dsp", "sa"])


@functools.cache
def filled() -> dict[str, np.ndarray]:
    """The two networks save the same names and shapes."""
    assert fill.keys("dsp") == fill.keys("sa")
    return fill.state_dict(fill.keys("dsp"))


@functools.cache
def output(network: str) -> regard.Output:
    model = regard.import_released(filled(), network=network)
    with torch.no_grad():
        return model(torch.from_numpy(fill.image(2, 384, 128)))


def reference(network: str) -> dict[str, np.ndarray]:
    with np.load(HERE / f"{network}.384x128.npz") as stored:
        return dict(stored)


@each_network
def test_descriptor(network):
    assert np.abs(output(network).embedding.numpy() - reference(network)["feature"]).max() < TOLERANCE


@each_network
def test_ten_logits(network):
    """Numbers up to 26 in DSP, where ours and theirs are each 1e-5 away from double precision."""
    expected, logits = reference(network)["logits"], output(network).logits
    assert list(logits) == [*(f"part{k}" for k in range(6)), "global", "ds1", "ds2", "ds3"]
    assert all(scores.shape == (2, 751) for scores in logits.values())
    ours = torch.stack([scores[:, :16] for scores in logits.values()], 1).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=TOLERANCE)


def test_the_two_are_different_networks():
    """A file does not tell them apart, its user has to: what one makes of it is far from what the other does."""
    assert (output("dsp").embedding - output("sa").embedding).abs().max() > 100 * TOLERANCE
    assert all((output("dsp").logits[ds] - output("sa").logits[ds]).abs().max() > 0.1 for ds in ("ds1", "ds2", "ds3"))
