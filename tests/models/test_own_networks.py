"""What is said of networks of one's own that answer something else than the contract wants: one line each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import regard
from regard.errors import ConfigError, RegardError
from regard.explain.attention import attention_of
from regard.explain.features import feature_maps
from regard.explain.heads import exact_heads, head_heat, pair_heat
from regard.input_spec import InputSpec
from regard.models import Attention, HeadLayer, ReIDModel
from regard.models.checked import weight_of
from regard.registry import MODELS
from regard.structures import Output

PICTURES = [np.full((16, 8, 3), 40 * number, np.uint8) for number in (1, 2)]
IMAGES = torch.linspace(-1, 1, 2 * 3 * 16 * 8).view(2, 3, 16, 8)


class Mine(ReIDModel):
    """A network that keeps to the contract."""

    def __init__(self, num_ids: int = 3, embed_dim: int = 4):
        super().__init__(num_ids, embed_dim)
        self.input = InputSpec(16, 8)
        self.body = nn.Conv2d(3, 4, 3, 2)
        self.classifier = nn.Linear(4, num_ids)

    def forward(self, images: Tensor) -> Output:
        g = self.body(images).mean((2, 3))
        return Output(g, {"global": g}, {"global": self.classifier(g)}, {})


@pytest.fixture
def named():
    """Register a class as a model for the time of a test."""
    names = []

    def name(entry, name="mine"):
        MODELS.register(name)(entry)
        names.append(name)
        return name

    yield name
    for name in names:
        MODELS._entries.pop(name)


def fail(*_arguments):
    raise KeyError("torso")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda out: out.embedding, "returned a Tensor, wanted an Output; see docs/how-to/extending.md"),
        (lambda out: out._asdict(), "returned a dict, wanted an Output"),
        (lambda _out: None, "returned None, wanted an Output"),
        (lambda out: out._replace(embedding=None), "returned an embedding that is None"),
        (lambda out: out._replace(embedding=out.embedding[:1]), r"returned an embedding \(1, 4\) .* wanted \(2, 4\)"),
        (lambda out: out._replace(embedding=out.embedding[:, :3]), r".*\(2, 3\) .* embed_dim=4 long"),
        (lambda out: out._replace(embedding=out.embedding[..., None, None]), r".*embedding \(2, 4, 1, 1\) of float32"),
        (lambda out: out._replace(embedding=out.embedding.long()), r".*\(2, 4\) of int64, wanted .* of float"),
        (lambda out: out._replace(maps=None), "returned maps that are None, wanted a dict of tensors by name"),
        (lambda out: out._replace(features=[out.embedding]), "returned features that are a list"),
        (lambda out: out._replace(logits={"global": None}), r"returned None as logits\['global'\], wanted a tensor"),
    ],
)
def test_what_forward_returns(monkeypatch, change, said):
    right = Mine.forward
    monkeypatch.setattr(Mine, "forward", lambda self, images: change(right(self, images)))
    for use in (lambda model: model.embed_pictures(PICTURES), lambda model: model(IMAGES)):
        with pytest.raises(ConfigError, match=f"^Mine.forward {said}"):
            use(Mine())


def test_no_forward():
    with pytest.raises(ConfigError, match=r"^Bare.forward is not there, wanted a forward\(images\)"):
        type("Bare", (ReIDModel,), {})(3, 4).embed(IMAGES)


def test_embed_of_ones_own(monkeypatch):
    monkeypatch.setattr(Mine, "embed", lambda _self, images: images[:1, 0, 0, :4])
    with pytest.raises(ConfigError, match=r"^Mine.embed returned an embedding \(1, 4\) of float32, wanted \(2, 4\)"):
        Mine().embed_pictures(PICTURES)


def holistic(values, over="positions"):
    return lambda *_: {"eye": Attention(values, over, "what it sees")}


def heads(**more):
    return lambda model: {name: HeadLayer((model.body,)) for name in more}


EYE = np.zeros((2, 7, 3), np.float32)


@pytest.mark.parametrize(
    ("method", "answer", "said"),
    [
        ("attention_on", lambda *_: None, "returned None, wanted a dict name -> Attention"),
        ("attention_on", lambda *_: [1], "returned a list, wanted a dict"),
        ("attention_on", lambda *_: {"eye": torch.zeros(2, 7, 3)}, "gives a Tensor as 'eye', wanted an Attention"),
        ("attention_on", holistic(torch.zeros(2, 7, 3)), "gives 'eye' values that are a Tensor, wanted a NumPy array"),
        ("attention_on", holistic(EYE, "position"), "says that 'eye' is over 'position', did you mean 'positions'"),
        ("attention_on", holistic(EYE[:1]), r"gives values \(1, 7, 3\) over positions as 'eye', wanted 3 axes"),
        ("attention_on", holistic(EYE, "channels"), r"gives values \(2, 7, 3\) over channels as 'eye', wanted 2 axes"),
        ("map_layers", lambda _: None, "returned None, wanted a dict name -> layer"),
        ("map_layers", lambda _: {}, "returned an empty dict"),
        ("map_layers", lambda _: {"body": "torso"}, "names the map 'torso'; the maps it gives are none"),
        ("map_layers", lambda model: {1: model.body}, "names something 1"),
        ("map_layers", lambda _: {"body": nn.Conv2d(3, 4, 3)}, "gives a Conv2d as 'body' that is no part of the net"),
        ("map_layers", lambda _: {"body": None}, "gives None as 'body', wanted a module of the network"),
        ("heat_layers", lambda model: {"": model.body}, "returned a Conv2d, wanted a dict name -> layer in ''"),
        ("heat_layers", lambda _: {"": {"last": None}}, "gives None as 'last', wanted a module"),
        ("heat_layers", lambda _: {}, "returned an empty dict"),
        ("head_layers", lambda _: None, "returned None, wanted a dict name -> HeadLayer"),
        ("head_layers", lambda model: {"global": model.body}, "gives a Conv2d as 'global', wanted a HeadLayer"),
        ("head_layers", lambda model: {"global": HeadLayer(model.body)}, "gives a Conv2d as the layers of 'global'"),
        ("head_layers", lambda _: {"global": HeadLayer(())}, "gives an empty tuple as the layers of 'global'"),
        ("head_layers", lambda m: {"global": HeadLayer((m.body,), rows=3)}, "gives an int as the rows of 'global'"),
        (
            "head_layers",
            lambda m: {"global": HeadLayer((m.body,), levels=None)},
            "returned None, .* levels of",
        ),
        ("head_layers", heads(), "returned an empty dict"),
        ("head_layers", heads(part1=1), "gives part1 but no 'global'"),
        ("head_layers", heads(**{"global": 1, "globel": 1}), "names a head 'globel', did you mean 'global'"),
        *((method, fail, "raised KeyError: 'torso'") for method in ("map_layers", "heat_layers", "head_layers")),
        ("attention_on", fail, "raised KeyError: 'torso'; see docs/how-to/extending.md"),
    ],
)
def test_what_a_network_says_of_itself(monkeypatch, method, answer, said):
    monkeypatch.setattr(Mine, method, answer)
    uses = {
        "attention_on": [attention_of],
        "map_layers": [feature_maps],
        "heat_layers": [lambda model, images: pair_heat(model, *images)],
        "head_layers": [head_heat, lambda model, images: pair_heat(model, *images, heads=True)],
    }
    for use in uses[method]:
        with pytest.raises(ConfigError, match=f"^Mine.{method} {said}") as raised:
            use(Mine(), IMAGES)
        if answer is fail:
            assert isinstance(raised.value.__cause__, KeyError)


def test_maps_alone_are_no_layer_of_a_head(monkeypatch):
    monkeypatch.setattr(Mine, "map_layers", lambda _: {"body": "body"})
    with pytest.raises(ConfigError, match=r"^Mine.map_layers names no layer but only maps, so say in head_layers"):
        exact_heads(Mine())


def test_ones_own_errors_are_left_as_they_are(monkeypatch):
    def refuse(_self):
        raise RegardError("not of this network")

    monkeypatch.setattr(Mine, "map_layers", refuse)
    with pytest.raises(RegardError, match=r"^not of this network$"):
        feature_maps(Mine(), IMAGES)


class Still(ReIDModel):
    """Nothing to learn."""

    def __init__(self, num_ids: int):
        super().__init__(num_ids, 3)

    def forward(self, images: Tensor) -> Output:
        return Output(images.mean((2, 3)), {}, {}, {})


def test_a_network_without_parameters(named, tmp_path):
    model = regard.create_model(named(Still), 3)
    model.input = InputSpec(16, 8)
    found = model.embed_pictures(PICTURES)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    model.save(tmp_path)
    np.testing.assert_array_equal(regard.load(tmp_path).embed_pictures(PICTURES), found)
    assert weight_of(model).device.type == "cpu"
    model.register_buffer("count", torch.zeros(1, dtype=torch.int64))
    model.register_buffer("scale", torch.zeros(1, dtype=torch.float64))
    assert weight_of(model) is model.scale


def test_networks_that_cannot_be_built(named):
    def unmade(self, num_ids):
        self.width = num_ids

    def unmade_with_parts(self, num_ids):
        self.body = nn.Linear(num_ids, 3)

    def plain_module(self, num_ids):
        nn.Module.__init__(self)

    for number, start in enumerate((unmade, unmade_with_parts, plain_module)):
        name = named(type("Odd", (ReIDModel,), {"__init__": start}), f"odd{number}")
        with pytest.raises(ConfigError, match=rf"^model '{name}' does not call super\(\).__init__\(num_ids, embed_dim"):
            regard.create_model(name, 3)

    def wanting(self, num_ids, width, *, depth, height=3):
        ReIDModel.__init__(self, num_ids, width)

    name = named(type("Wanting", (ReIDModel,), {"__init__": wanting}))
    with pytest.raises(ConfigError, match=r"^model 'mine' wants the option 'width' and 'depth', without a"):
        regard.create_model(name, 3)
    with pytest.raises(ConfigError, match=r"^model 'mine' wants the option 'depth', without"):
        MODELS.create(name, 3, 4)
    with pytest.raises(ConfigError, match=r"^embed_dim is None, wanted the length of the embedding, 1 or more"):
        regard.create_model(name, 3, width=None, depth=1)
    assert regard.create_model(name, 3, width=4, depth=1).embed_dim == 4
