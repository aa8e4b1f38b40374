"""What every registered model promises; a model that registers is tested here without new code."""

from __future__ import annotations

import copy
import json
import re

import pytest
import torch

import regard
from regard.errors import ConfigError
from regard.models.contract import watched
from regard.registry import MODELS
from small_backbones import tiny

pytestmark = pytest.mark.slow

NUM_IDS = 5


def create(name: str, **options) -> regard.ReIDModel:
    torch.manual_seed(0)
    return regard.create_model(name, NUM_IDS, backbone=tiny(name), **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 128, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=list(MODELS))
def name(request) -> str:
    return request.param


@pytest.fixture
def model(name) -> regard.ReIDModel:
    """A network whose normalizations have seen something, so that training and evaluation differ."""
    model = create(name)
    with torch.no_grad():
        for seed in range(3):
            model(2 * torch.randn(8, 3, 96, 64, generator=torch.Generator().manual_seed(seed)) + 1)
    return model


def test_output(model, images):
    for mode in (True, False):
        out = model.train(mode)(images)
        assert isinstance(out, regard.Output)
        assert out.embedding.shape == (4, model.embed_dim)
        assert out.embedding.requires_grad  # a term of the losses may be on it
        assert out.features.keys() >= {"global"}
        assert all(vectors.ndim == 2 and len(vectors) == 4 for vectors in out.features.values())
        assert out.logits
        assert all(scores.shape == (4, NUM_IDS) for scores in out.logits.values())
        assert all(gate.ndim == 4 and len(gate) == 4 for gate in out.maps.values())


def test_every_trained_parameter_gets_a_gradient(model, images):
    out = model.train()(images)
    tensors = [*out.logits.values(), *out.features.values()]
    sum(tensor.square().sum() for tensor in tensors).backward(retain_graph=True)
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert [name for name in silent if not name.startswith(model.training_parts)] == []
    for tensor in [m for m in out.maps.values() if m.requires_grad]:
        tensor.sum().backward(retain_graph=True)
    assert [name for name in silent if model.get_parameter(name).grad is None] == []


def test_embed_restores_every_mode(model, images):
    model.train()
    first_norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d))
    first_norm.eval()
    before = {name: module.training for name, module in model.named_modules()}
    state = copy.deepcopy(model.state_dict())
    embedding = model.embed(images)
    assert embedding.dtype == torch.float32
    assert not embedding.requires_grad
    assert before == {name: module.training for name, module in model.named_modules()}
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(embedding, model.eval()(images).embedding)


def test_embed_restores_modes_after_an_error(model, monkeypatch):
    def fail(images):
        assert not model.training
        raise RuntimeError("on the way")

    monkeypatch.setattr(model, "_descriptor", fail)
    model.train()
    with pytest.raises(RuntimeError, match="on the way"):
        model.embed(torch.zeros(1, 3, 64, 64))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.zeros(3, 64, 32), r"\(3, 64, 32\) of float32"),
        (torch.zeros(2, 3, 64, 32, dtype=torch.uint8), r"\(2, 3, 64, 32\) of uint8"),
        (torch.zeros(2, 64, 32, 3), r"\(2, 64, 32, 3\) of float32"),
        ("a.jpg", "a str"),
    ],
)
def test_what_is_no_batch_of_images_is_not_embedded(images, got):
    model = regard.create_model("baseline", 3, backbone="test_resnet.r160_in1k")
    with pytest.raises(ConfigError, match=rf"images are {got}, wanted \(B, 3, H, W\) of float, normalized as"):
        model.embed(images)


def test_embed_in_lower_precision_gives_float32(model, images):
    reference = model.embed(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = model.embed(images)
        out = model.train()(images)
    assert embedding.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(embedding, reference).min() > 0.98
    assert all(torch.isfinite(scores).all() for scores in out.logits.values())


@pytest.mark.parametrize("size", [(1, 97, 53), (2, 96, 64), (1, 160, 80)])
def test_other_sizes_and_one_image(model, size):
    batch, height, width = size
    assert model.embed(torch.zeros(batch, 3, height, width)).shape == (batch, model.embed_dim)


def test_channels_last(model, images):
    reference = model.embed(images)
    moved = model.to(memory_format=torch.channels_last).embed(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(moved, reference, rtol=1e-4, atol=1e-4)


def test_images_do_not_depend_on_their_batch(model, images):
    alone = torch.cat([model.embed(image[None]) for image in images])
    torch.testing.assert_close(alone, model.embed(images), rtol=1e-4, atol=1e-5)


GATED = [(name, {}) for name in MODELS if "gate_start" in MODELS.options(name)]
VARIANTS = [
    ("apnet", {"level": 3}),
    ("apnet", {"agent": "rga_sc", "height": 96, "width": 64}),
    ("msea", {"preset": "2023"}),
    ("dsp", {"mode": "code"}),
]


@pytest.fixture
def two() -> torch.Tensor:
    return torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


def gates_of(model: regard.ReIDModel) -> dict[str, list[torch.nn.Parameter]]:
    """What is trained of each gate, or of each branch where attention is one."""
    found: dict[str, list[torch.nn.Parameter]] = {}
    place = r"(attention\.\w+\.levels\.\w+\.agent|attention\.\w+(?!\.levels)|hab\.decoder\.heads|pab\.heads)\."
    for name, parameter in model.named_parameters():
        if match := re.match(place, name):
            found.setdefault(match[0], []).append(parameter)
    return found


@pytest.mark.parametrize(("name", "options"), [*GATED, *VARIANTS])
def test_identity_starts_as_the_network_without_attention_and_gradients_reach_every_gate(name, options, two):
    model = create(name, **options, gate_start="identity")
    plain = create(name, **options, attention_control="off")
    assert gates_of(plain) == {}
    tensors = model.state_dict()
    plain.load_state_dict({key: tensors[key] for key in plain.state_dict()})
    torch.testing.assert_close(model.embed(two), plain.embed(two), rtol=0, atol=1e-6)
    gates, optimizer = gates_of(model), torch.optim.SGD(model.parameters(), lr=1e-3)
    assert gates
    for step in range(2):
        torch.manual_seed(1)  # of dropout
        out = model.train()(two)
        if not step:
            torch.manual_seed(1)
            expected = plain.train()(two).features["global"]
            torch.testing.assert_close(out.features["global"], expected, rtol=1e-4, atol=1e-4)
        values = [*out.logits.values(), *out.features.values(), *(out.maps.values() if name == "daaf" else ())]
        optimizer.zero_grad()
        sum((value - 0.3).square().mean() for value in values).backward()
        reached = [gate for gate, own in gates.items() if any(p.grad is not None and p.grad.any() for p in own)]
        assert reached == list(gates), f"step {step}"
        optimizer.step()
    trained = {key: p for key, p in model.named_parameters() if key.startswith("attention") and p.requires_grad}
    assert [key for key, p in trained.items() if not p.grad.any()] == []


@pytest.mark.parametrize(("name", "options"), [*GATED, VARIANTS[1]])
def test_controls_are_what_they_say(name, options, two):
    usual, held, shuffled = (create(name, **options, attention_control=how) for how in ("none", "constant", "shuffled"))
    assert held.state_dict().keys() == shuffled.state_dict().keys() == usual.state_dict().keys()
    before = held.embed(two)
    with torch.no_grad():
        for parameter in (p for own in gates_of(held).values() for p in own):
            parameter.add_(1)
    assert torch.equal(held.embed(two), before)  # nothing that computes a gate has a say
    own, others = usual.eval()(two).maps, shuffled.eval()(two).maps
    first = next(iter(own))  # those that follow see other maps
    torch.testing.assert_close(others[first], own[first].flip(0))
    torch.testing.assert_close(shuffled.embed(two[:1]), usual.embed(two[:1]))


def test_every_system_can_compare_the_mean_and_six_stripes_of_its_last_map(name, two):
    model = create(name, descriptor="both")
    layers = dict(enumerate(model.head_layers()["global"].layers))
    with watched(layers) as seen:
        embedding = model.embed(two)
    last = torch.cat(list(seen.values()), 1)
    parts = [last.mean((2, 3)), *(last[:, :, row].mean(2) for row in range(6))]
    expected = torch.stack([torch.nn.functional.normalize(part) for part in parts], 2)
    torch.testing.assert_close(embedding.view_as(expected), expected)
    assert torch.equal(model.strip().embed(two), embedding)


@pytest.mark.parametrize(("name", "levels"), [("apnet", 2), ("msea", 2), ("dsp", 3), ("mudeep", 3)])
def test_attention_at_one_level_only(name, levels):
    whole, one = set(gates_of(create(name))), set(gates_of(create(name, only_level=levels)))
    assert one < whole
    assert len(one) * levels == len(whole)
    with pytest.raises(regard.RegardError, match=rf"only_level is {levels + 1}, wanted .* 1 to {levels}"):
        create(name, only_level=levels + 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("apnet", {"level": 3}),
        ("apnet", {"agent": "rga", "height": 128, "width": 64}),
        ("apnet", {"agent": "rga_c", "height": 128, "width": 64}),
        ("apnet", {"agent": "rga_sc", "height": 128, "width": 64}),
        ("msea", {"preset": "lite-c"}),
        ("msea", {"preset": "2023"}),
        ("msea", {"preset": "head"}),
        ("mudeep", {"attention": "self"}),
        ("mudeep", {"scales": 4, "stripes": 6}),
        ("daaf", {"preset": "trinet"}),
        ("daaf", {"preset": "trinet", "hab_tap": "layer4_half", "grouped": False, "end_norm": True}),
        ("pcb", {"descriptor": "reduced"}),
        ("pcb", {"stripes": 4, "part_conv": "shared"}),
        ("dsp", {"mode": "code", "part_classifiers": False}),
        ("dsp", {"mode": "released", "part_conv": "separate"}),
        ("sa", {"mode": "softmax", "rescale": False}),
    ],
)
def test_variants_embed_one_image_as_in_a_batch_and_bare_as_whole(name, options, images):
    model = create(name, **options)
    model(images)
    together = model.embed(images)
    alone = torch.cat([model.embed(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.eval().in_full(images).embedding, together, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.strip().embed(images), together)


def test_in_full_is_the_same_answer(model, images):
    """Whatever a system computes in a cheaper form, the paper's own products give."""
    out, full = model.eval()(images), model.in_full(images)
    torch.testing.assert_close(full.embedding, out.embedding, rtol=1e-4, atol=1e-5)
    assert full.logits.keys() == out.logits.keys()
    for name, scores in out.logits.items():
        torch.testing.assert_close(full.logits[name], scores, rtol=1e-4, atol=1e-5)


def test_strip(model, images):
    size = sum(p.numel() for p in model.parameters())
    before = model.embed(images)
    assert model.strip() is model
    assert torch.equal(model.embed(images), before)
    assert torch.equal(model.strip().embed(images), before)
    for mode in (False, True):
        assert model.train(mode)(images).logits == {}
    assert sum(p.numel() for p in model.parameters()) < size


@pytest.mark.parametrize("stripped", [False, True])
def test_save_and_load(model, images, tmp_path, stripped):
    if stripped:
        model.strip()
    model.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    loaded = regard.load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert not loaded.training
    assert (loaded.num_ids, loaded.embed_dim, loaded.options, loaded.stripped) == (
        model.num_ids,
        model.embed_dim,
        model.options,
        stripped,
    )
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert torch.equal(loaded.embed(images), model.embed(images))


def test_options_are_recorded(name, model):
    assert model.options == {
        option: model.options[option] for option in MODELS.options(name) if option not in ("num_ids", "pretrained")
    }
    assert model.options["backbone"] == tiny(name)
    assert json.loads(json.dumps(model.options)) == model.options
    again = regard.create_model(name, NUM_IDS, **model.options)
    assert list(again.state_dict()) == list(model.state_dict())


def test_construction_is_deterministic(name):
    one, two = create(name).state_dict(), create(name).state_dict()
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_copy_is_whole_and_separate(model, images):
    twin = copy.deepcopy(model)
    reference = model.embed(images)
    assert twin.options == model.options
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(model.embed(images), reference)


def test_wrong_option(name):
    with pytest.raises(regard.RegardError, match="did you mean 'backbone'"):
        regard.create_model(name, NUM_IDS, backbon=tiny(name))
    with pytest.raises(regard.RegardError, match="num_ids is 0"):
        regard.create_model(name, 0, backbone=tiny(name))


def test_export(model, images):
    model.strip().eval()
    program = torch.export.export(model, (images,), strict=False)
    torch.testing.assert_close(program.module()(images).embedding, model.embed(images), rtol=1e-4, atol=1e-5)


def test_unknown_model():
    with pytest.raises(regard.RegardError, match=r"unknown model 'apnat', did you mean 'apnet'\?"):
        regard.create_model("apnat", NUM_IDS)
