"""Which layers of each system are looked at, and that every one of them has a say in the answer."""

from __future__ import annotations

import pytest
import torch

import regard
from regard.explain.gradcam import attention_layers, similarity_cam
from regard.registry import MODELS

LAYERS = {
    "apnet": ["P2", "P1"],
    "msea": ["P2", "P1"],
    "mudeep": ["scale1", "scale2", "scale3"],
    "dsp": ["tap2", "tap3", "tap4", "last stage"],
}


@pytest.mark.parametrize("stripped", [False, True])
@pytest.mark.parametrize("name", list(MODELS))
def test_layers_of_every_system(name, stripped):
    torch.manual_seed(0)
    model = regard.create_model(name, 5, backbone="test_resnet.r160_in1k")
    images = torch.randn(4, 3, 96, 64)
    model(images)
    if stripped:
        model.strip()
    layers = attention_layers(model)
    assert list(layers) == LAYERS.get(name, ["last stage"])
    for layer in layers.values():
        maps = similarity_cam(model, layer, images, images.flip(0))
        assert maps.shape[0] == 4
        assert maps.ndim == 3
        assert 0 <= maps.min() < maps.max() == 1


def test_the_streams_end_where_the_leader_looks():
    """The layers of mudeep give the maps that are attended and averaged, not what comes before the streams."""
    model = regard.create_model("mudeep", 5, backbone="test_resnet.r160_in1k").eval()
    seen = {}
    for name, layer in attention_layers(model).items():
        layer.register_forward_hook(lambda _module, _inputs, output, name=name: seen.update({name: output}))
    images = torch.randn(2, 3, 96, 64)
    attended = model.in_full(images).maps
    for name, x in seen.items():
        assert torch.equal(attended[name], x)  # fresh gammas are 0
