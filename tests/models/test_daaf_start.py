"""The weights that DAAF's decoders start from, as released and as PyTorch has them, and what becomes of them."""

from __future__ import annotations

import pytest
import torch

import regard
from regard.layers.map_decoder import MapDecoder
from regard.losses.map_mse import MapMSE
from regard.models.daaf import JOINT_GROUPS

TINY = "test_resnet.r160_in1k"
DECAY = 5e-4
WEIGHT = 65


def create(start: str, **options) -> regard.ReIDModel:
    torch.manual_seed(0)
    return regard.create_model("daaf", 5, decoder_start=start, **{"backbone": TINY, "decoder": "2x2", **options})


def test_the_released_start_is_of_the_keypoint_branch_alone():
    """All PAB's weights from N(0, 0.001²), its biases 0; everything else, HAB's decoder too, as without the option."""
    live, released = create("torch"), create("released")
    weights = [p for name, p in released.pab.named_parameters() if name.endswith("weight")]
    assert len(weights) == 10
    values = torch.cat([weight.detach().flatten() for weight in weights])
    assert values.std().item() == pytest.approx(1e-3, rel=0.02)
    assert abs(values.mean().item()) < 4e-3 / len(values) ** 0.5
    assert values.square().square().mean().item() == pytest.approx(3e-12, rel=0.1)  # a normal distribution's
    assert all(not p.any() for name, p in released.pab.named_parameters() if name.endswith("bias"))
    others = {name: value for name, value in released.state_dict().items() if not name.startswith("pab.")}
    assert all(torch.equal(value, live.state_dict()[name]) for name, value in others.items())
    assert regard.create_model("daaf", 5, backbone=TINY).options["decoder_start"] == "torch"


def heat_maps(height: int, width: int) -> torch.Tensor:
    """One picture's 17 joints one below another, (1, 17, H, W), as wide as the labels draw them."""
    y, x = torch.arange(float(height))[:, None], torch.arange(float(width))
    sy, sx = 5.6 * height / 256, 3.7 * width / 128
    places = torch.linspace(0.1, 0.9, 17).view(17, 1, 1) * height
    return torch.exp(-((y - places) ** 2) / (2 * sy**2) - (x - width / 2) ** 2 / (2 * sx**2))[None]


def decoder_of(std: float | None) -> MapDecoder:
    torch.manual_seed(0)
    decoder = MapDecoder(340, [len(joints) for joints in JOINT_GROUPS.values()], "2x2")
    if std:
        decoder.start_narrow(std)
    return decoder


def pull(decoder: MapDecoder, weight: float = WEIGHT, scale: float = 1.0) -> list[float]:
    """For every layer's weights, how strongly the loss pulls at them, as a multiple of what weight decay does."""
    features = torch.randn(1, 2040, 8, 4, generator=torch.Generator().manual_seed(1)).relu()
    target = heat_maps(128, 64), torch.ones(1, 17, 1, 1, dtype=torch.bool)
    decoder.zero_grad()
    (weight * MapMSE(scale=scale)(decoder(features), target)).backward()
    layers = [*decoder.doublings, *decoder.heads]
    return [(layer.weight.grad.norm() / (DECAY * layer.weight.detach().norm())).item() for layer in layers]


@pytest.mark.slow
def test_as_released_weight_decay_is_all_that_moves_the_weights():
    """As released its gradient is millionths of the decay's, also in the MindSpore form; PyTorch's start is live."""
    assert max(pull(decoder_of(0.001))) < 1e-4
    assert max(pull(decoder_of(0.01))) < 0.1
    assert max(pull(decoder_of(0.01), 1e-5, 255)) < 1e-5  # the MindSpore form
    assert min(pull(decoder_of(None))) > 1


@pytest.mark.slow
def test_as_released_the_branch_dies_under_its_optimizer():
    """Adam with coupled weight decay: the doublings shrink step by step, and the maps know nothing of the picture."""
    decoder = decoder_of(0.001)
    optimizer = torch.optim.Adam(decoder.parameters(), 2e-3, weight_decay=DECAY)
    before = [double.weight.detach().norm() for double in decoder.doublings[:3]]
    for _ in range(20):
        pull(decoder)
        optimizer.step()
    assert all(double.weight.norm() < 0.5 * norm for double, norm in zip(decoder.doublings[:3], before))
    one, other = decoder(torch.randn(2, 2040, 8, 4).relu())
    assert one.mean() > 1e-3  # biases learn, up to the mean of the labels
    assert (one - other).abs().max() < 1e-8


def test_a_start_that_is_none():
    with pytest.raises(regard.RegardError, match="decoder_start is 'narrow', wanted one of: torch, released"):
        create("narrow")
