"""Which layers of each system are looked at, and that every one of them has a say in the answer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import regard
from regard.errors import ConfigError
from regard.explain.features import feature_maps
from regard.explain.gradcam import attention_layers, similarity_cam
from regard.input_spec import InputSpec
from regard.models import ReIDModel
from regard.models.backbone import Backbone
from regard.registry import MODELS
from regard.structures import Output
from small_backbones import tiny

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
    model = regard.create_model(name, 5, backbone=tiny(name))
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


class Own(ReIDModel):
    """A network that says nothing of itself."""

    def __init__(self, **parts: nn.Module):
        super().__init__(num_ids=5, embed_dim=8)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images: Tensor) -> Output:
        x = images
        for part in self.body if isinstance(self.body, nn.ModuleList) else [self.body]:
            x = part(x)
        if hasattr(self, "score"):
            x = x * torch.sigmoid(self.score(x))
        branch = self.branch(x) if hasattr(self, "branch") else x
        g = x.mean((2, 3)) if x.ndim == 4 else x
        return Output(g, {"global": g}, {}, {"branch": branch} if hasattr(self, "branch") else {})


def conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ({"body": conv(3, 8)}, ["body"]),
        ({"body": nn.ModuleList([conv(3, 4), conv(4, 8)])}, ["body.0", "body.1"]),
        ({"body": conv(3, 8), "score": nn.Conv2d(8, 1, 1)}, ["body"]),  # a gate is not what is pooled
        ({"body": conv(3, 8), "branch": conv(8, 8)}, ["body"]),  # nor is what the embedding does not need
        ({"body": Backbone("test_resnet.r160_in1k")}, [f"tap{number}" for number in range(1, 6)]),
    ],
)
def test_a_network_that_says_nothing_is_looked_at_where_its_maps_are(parts, names):
    torch.manual_seed(0)
    model, images = Own(**parts).train(), torch.randn(2, 3, 96, 64)
    if "body" in parts and isinstance(parts["body"], Backbone):
        model.backbone, model.embed_dim = model.body, 96  # as a network of one's own has it
        del model.body
        model.forward = lambda images: Output(model.backbone(images).mean((2, 3)), {}, {}, {})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert list(model.map_layers()) == names
    assert list(feature_maps(model, images)) == names
    (maps,) = (similarity_cam(model, layer, images, images.flip(0)) for layer in attention_layers(model).values())
    assert maps.max() == 1
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_network_without_maps_says_so():
    model = Own(body=nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 8)))
    model.input = InputSpec(8, 8)
    with pytest.raises(ConfigError, match=r"no part of Own returns a \(B, C, h, w\) map .*; name .* in its map_layers"):
        attention_layers(model)
