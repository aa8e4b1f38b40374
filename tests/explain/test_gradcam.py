"""Maps with planted answers, and closed forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.explain.gradcam import attention_layers, class_cam, similarity_cam
from regard.layers.pyramid import AttentionPyramid, SplitAttention, SqueezeExcitation
from regard.models import ReIDModel
from regard.structures import Output

REGION = (..., slice(2, 5), slice(1, 3))


class Window(nn.Module):
    """Lets nothing through outside of ``REGION``."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros_like(x)
        mask[REGION] = 1
        return x * mask


class Toy(nn.Module):
    """Stages, average pooling, a linear classifier without bias."""

    def __init__(self, last: nn.Module):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6), nn.ReLU(inplace=True), last)
        self.bystander = nn.Conv2d(3, 4, 1)
        self.unused = nn.Conv2d(3, 4, 1)
        self.classifier = nn.Linear(6, 5, bias=False)

    def forward(self, images: Tensor) -> Output:
        self.bystander(images)
        embedding = self.features(images).mean(dim=(2, 3))
        return Output(embedding, {"global": embedding}, {"global": self.classifier(embedding)}, {})


class Pyramid(ReIDModel):
    """A stage, a pyramid of two levels, average pooling."""

    def __init__(self, order="fine_to_coarse"):
        super().__init__(num_ids=5, embed_dim=8)
        self.stage = nn.Conv2d(3, 8, 4, stride=4)
        agents = [SqueezeExcitation(8, 4), SplitAttention(8, radix=2)]
        self.attention = nn.ModuleDict({"tap1": AttentionPyramid(agents, 8, order=order)})

    def forward(self, images: Tensor) -> Output:
        x, gates = self.attention["tap1"](self.stage(images))
        return Output(x.mean(dim=(2, 3)), {}, {}, {f"tap1.{name}": gate for name, gate in gates.items()})

    def heat_layers(self):
        levels = self.attention["tap1"].in_order()
        return {"tap1": {f"P{name.removeprefix('level')}": level for name, level in levels.items()}}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 16)


@pytest.fixture
def partners(images):
    return images + 0.3 * torch.randn(images.shape)


@pytest.fixture
def toy():
    return Toy(nn.Identity())


def normalized(maps: Tensor) -> Tensor:
    maps = maps.clamp_min(0)
    return maps / maps.amax(dim=(1, 2), keepdim=True)


def test_all_mass_lies_where_the_model_was_made_to_look(images, partners):
    maps = similarity_cam(Toy(Window()), "features", images, partners)
    assert maps.shape == (4, 8, 4)
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    torch.testing.assert_close(maps.amax(dim=(1, 2)), torch.ones(4))
    torch.testing.assert_close(maps[REGION].sum(), maps.sum())


def test_class_cam_of_a_linear_head_is_the_class_activation_map(toy, images):
    labels = torch.tensor([0, 3, 4, 3])
    maps = class_cam(toy, "features", images, labels)
    with torch.no_grad():
        activation = toy.eval().features(images)
        expected = torch.einsum("bc,bchw->bhw", toy.classifier.weight[labels], activation)
    torch.testing.assert_close(maps, normalized(expected))


def test_similarity_cam_of_average_pooling_has_a_closed_form(toy, images, partners):
    maps = similarity_cam(toy, "features", images, partners)
    with torch.no_grad():
        activation = toy.eval().features(images)
        e, p = activation.mean(dim=(2, 3)), toy(partners).embedding
        cosine = F.cosine_similarity(e, p)[:, None]
        slope = (p / p.norm(dim=1, keepdim=True) - cosine * e / e.norm(dim=1, keepdim=True)) / e.norm(
            dim=1, keepdim=True
        )
        expected = torch.einsum("bc,bchw->bhw", slope, activation)
    torch.testing.assert_close(maps, normalized(expected), rtol=1e-4, atol=1e-4)


def test_embeddings_serve_as_partners(toy, images, partners):
    embeddings = toy.eval()(partners).embedding.detach()
    torch.testing.assert_close(
        similarity_cam(toy, "features", images, embeddings), similarity_cam(toy, "features", images, partners)
    )


def test_an_image_does_not_see_its_neighbors_in_the_batch(toy, images, partners):
    together = similarity_cam(toy, "features.0", images, partners)
    alone = [similarity_cam(toy, "features.0", images[i : i + 1], partners[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.3"])
def test_a_module_and_its_path_are_the_same_layer(toy, images, partners, layer):
    torch.testing.assert_close(
        similarity_cam(toy, toy.get_submodule(layer), images, partners), similarity_cam(toy, layer, images, partners)
    )


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_is_left_behind(toy, images, partners, around):
    toy.train()
    toy.features[1].eval()
    for parameter in toy.parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in toy.state_dict().items()}
    with around():
        maps = similarity_cam(toy, "features", images, partners)
    assert maps.amax() == 1
    assert toy.training
    assert not toy.features[1].training
    assert all(parameter.grad is None for parameter in toy.parameters())
    assert all(torch.equal(value, before[name]) for name, value in toy.state_dict().items())
    assert not any(module._forward_hooks for module in toy.modules())


def test_nothing_to_see_is_all_zero(toy, images):
    with torch.no_grad():
        toy.classifier.weight.copy_(-toy.classifier.weight.abs())
    assert not class_cam(toy, "features", images, torch.zeros(4, dtype=torch.int64)).any()


@pytest.mark.parametrize(("order", "names"), [("fine_to_coarse", ["P2", "P1"]), ("coarse_to_fine", ["P1", "P2"])])
def test_pyramid_levels_come_in_the_order_they_act(images, partners, order, names):
    model = Pyramid(order)
    layers = attention_layers(model)
    assert list(layers) == names
    maps = {name: similarity_cam(model, layer, images, partners) for name, layer in layers.items()}
    assert all(map_.shape == (4, 8, 4) for map_ in maps.values())
    # the last level ends in average pooling: its map has the closed form
    with torch.no_grad():
        activation, _ = model.eval().attention["tap1"](model.stage(images))
    e = activation.mean(dim=(2, 3)).requires_grad_()
    F.cosine_similarity(e, model(partners).embedding.detach()).sum().backward()
    expected = torch.einsum("bc,bchw->bhw", e.grad, activation)
    torch.testing.assert_close(maps[names[-1]], normalized(expected), rtol=1e-4, atol=1e-4)


def test_a_level_of_the_pyramid_is_seen_after_its_norm(images, partners):
    model = Pyramid().eval()
    with torch.no_grad():
        model.attention["tap1"].levels["level2"].norm.weight[:4] = 0
    level = attention_layers(model)["P2"]
    kept = {}
    handle = level.register_forward_hook(lambda _module, _inputs, output: kept.update(map=output[0]))
    similarity_cam(model, level, images, partners)
    handle.remove()
    assert not kept["map"][:, :4].any()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("feature", "did you mean 'features'"),
        ("classifier", r"returns \(4, 5\), wanted a \(B, C, h, w\) map"),
        ("unused", "has no part in the answer"),
        ("bystander", "has no part in the answer"),
    ],
)
def test_a_layer_that_cannot_be_looked_at(toy, images, partners, layer, message):
    with pytest.raises(ConfigError, match=message):
        similarity_cam(toy, layer, images, partners)
    assert not any(module._forward_hooks for module in toy.modules())


def test_partners_must_pair_up(toy, images):
    with pytest.raises(ConfigError, match="4 images and 3 partners"):
        similarity_cam(toy, "features", images, images[:3])


def test_labels_and_heads_the_model_does_not_have(toy, images):
    with pytest.raises(ConfigError, match="labels 0 to 5, the classifier 'global' knows 0 to 4"):
        class_cam(toy, "features", images, torch.tensor([0, 5, 1, 1]))
    with pytest.raises(ConfigError, match="no classifier 'globl', did you mean 'global'"):
        class_cam(toy, "features", images, torch.zeros(4, dtype=torch.int64), head="globl")
    with pytest.raises(ConfigError, match="none, it was stripped"):
        class_cam(Pyramid(), "stage", images, torch.zeros(4, dtype=torch.int64))


def test_a_tap_that_is_not_there():
    with pytest.raises(ConfigError, match="tap 1, the model has 1"):
        attention_layers(Pyramid(), tap=1)
