"""DSP and SA against what the authors' code computes on weights that are filled from their names."""

from __future__ import annotations

import functools
from pathlib import Path

import named_weights
import numpy as np
import pytest
import torch

import regard
from regard.errors import CheckpointError

HERE = Path(__file__).parent
TOLERANCE = 2e-5
each_network = pytest.mark.parametrize("network", ["dsp", "sa"])


@functools.cache
def filled() -> dict[str, np.ndarray]:
    """The two networks save the same names and shapes."""
    assert named_weights.keys("dsp") == named_weights.keys("sa")
    return named_weights.state_dict(named_weights.keys("dsp"))


@functools.cache
def output(network: str) -> regard.Output:
    model = regard.import_released(filled(), network=network)
    with torch.no_grad():
        return model(torch.from_numpy(named_weights.image(2, 384, 128)))


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


def test_pcb_is_sa_without_its_supervision():
    """SA attends beside the trunk alone, so that what its authors' code computes holds for the parent network too."""
    beside = ("local_conv_layer", "instance_layer", "instance6.", "fusion_conv.")
    tensors = {key: value for key, value in filled().items() if not key.startswith(beside)}
    model = regard.import_released(tensors, network="pcb")
    assert model.import_report.unused == ["base.fc.bias", "base.fc.weight"]
    assert (model.options["stripes"], model.options["part_conv"], str(model.input)) == (
        6,
        "shared",
        "384 x 128, bilinear",
    )
    with torch.no_grad():
        out = model(torch.from_numpy(named_weights.image(2, 384, 128)))
    assert np.abs(out.embedding.numpy() - reference("sa")["feature"]).max() < TOLERANCE
    ours = torch.stack([scores[:, :16] for scores in out.logits.values()], 1).numpy()
    np.testing.assert_allclose(ours, reference("sa")["logits"][:, :6], rtol=1e-6, atol=TOLERANCE)
    with pytest.raises(CheckpointError, match=r"no local_conv_layer1\.weight .* the plain part network, pcb\)"):
        regard.import_released(tensors, network="sa")


def test_the_two_are_different_networks():
    """A file does not tell them apart, its user has to: what one makes of it is far from what the other does."""
    assert (output("dsp").embedding - output("sa").embedding).abs().max() > 100 * TOLERANCE
    assert all((output("dsp").logits[ds] - output("sa").logits[ds]).abs().max() > 0.1 for ds in ("ds1", "ds2", "ds3"))
