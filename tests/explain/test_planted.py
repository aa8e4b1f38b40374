"""Planted answers on crowd pictures: networks that can see nothing but the person give maps that lie on the person.

A network is blinded outside of the person (or, for the counter-proof, inside) by means of the crowd's own masks; every
kind of map must then have all of its mass there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regard
from regard.crowd import make_crowd
from regard.data.image import read_image
from regard.data.sources import find_source
from regard.data.transforms import TestTransform, normalize
from regard.explain.attention import attention_of, spatial_map
from regard.explain.attention_precision import attention_mass
from regard.explain.features import feature_maps, reduce_channels
from regard.explain.gradcam import class_cam, similarity_cam
from regard.explain.heads import exact_cam, head_heat, pair_heat

TINY = "test_resnet.r160_in1k"
LABELS = torch.tensor([0, 2, 1, 2])


class Pictures(NamedTuple):
    """Four crowd pictures, (4, 3, 256, 128) normalized, and the masks of the people on them, (4, 1, 256, 128)."""

    images: Tensor
    masks: Tensor


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> Pictures:
    root = tmp_path_factory.mktemp("planted") / "crowd"
    size = {"height": 256, "width": 128}
    few = {"cameras": 2, "cameras_per_id": (2, 2), "per_camera": 1, "distractors": 0, "junk": 0}
    make_crowd(root, train_ids=2, test_ids=2, **few, **size, workers=1, progress=False)
    samples = find_source("crowd", root).read().query[:4]
    transform = TestTransform(**size)
    pixels = np.stack([np.ascontiguousarray(transform(read_image(sample.path))) for sample in samples])
    masks = np.stack([read_image(sample.mask)[..., 0] > 0 for sample in samples])
    return Pictures(normalize(torch.from_numpy(pixels)), torch.from_numpy(masks)[:, None].float())


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Blinders(nn.Module):
    """Lets through the cells of a map that lie on the person altogether, or on nobody at all.

    Pictures are told apart by their pixels, so that it does not matter in which order a network sees them.
    """

    def __init__(self, crowd: Pictures, person: bool):
        super().__init__()
        self.crowd, self.person = crowd, person

    def forward(self, x: Tensor, images: Tensor) -> Tensor:
        which = torch.cdist(images.flatten(1), self.crowd.images.flatten(1)).argmin(1)
        cover = F.adaptive_avg_pool2d(self.crowd.masks[which], x.shape[2:])
        return x * (cover == 1 if self.person else cover == 0)


def blind(model: nn.Module, layers: list[nn.Module], crowd: Pictures, person: bool) -> nn.Module:
    """The model, seeing nothing after these layers but the person, or but the rest."""
    blinders, seen = Blinders(crowd, person), {}
    model.backbone.stages[0].register_forward_pre_hook(lambda _m, inputs: seen.update(images=inputs[0]))
    for layer in layers:
        layer.register_forward_hook(lambda _m, _i, out: blinders(out, seen["images"]))
    return model.eval()


def build(name: str, **options) -> nn.Module:
    return regard.create_model(name, 3, backbone=TINY, **options)


def all_mass(maps: np.ndarray, crowd: Pictures, person: bool, which: list[int] | None = None) -> None:
    """Every map has mass, and all of it on the person, or none of it."""
    masks = list(crowd.masks[which or range(4), 0].numpy())
    np.testing.assert_allclose(attention_mass(maps, masks), float(person), atol=1e-5)  # NaN of an empty map is no mass


@pytest.mark.parametrize("person", [True, False])
def test_cam(crowd, person):
    model = build("baseline")
    blind(model, [model.backbone.stages[-1]], crowd, person)
    with torch.no_grad():
        model.classifier.weight.abs_()
    all_mass(class_cam(model, "backbone.stages.4", crowd.images, LABELS).numpy(), crowd, person)
    all_mass(exact_cam(model, crowd.images, LABELS).maps, crowd, person)
    all_mass(head_heat(model, crowd.images)["global"].maps, crowd, person)


@pytest.mark.parametrize("person", [True, False])
@pytest.mark.parametrize(("name", "level"), [("baseline", "last stage"), ("apnet", "P1"), ("dsp", "tap4")])
def test_both_pictures_of_a_pair(crowd, person, name, level):
    model = build(name)
    taps = {"baseline": -1, "apnet": -1, "dsp": 3}
    blind(model, [model.backbone.stages[taps[name]]], crowd, person)
    for first, second in ((0, 1), (2, 3), (3, 0)):
        found = pair_heat(model, crowd.images[first], crowd.images[second])[level]
        all_mass(found.first[None], crowd, person, [first])
        all_mass(found.second[None], crowd, person, [second])


@pytest.mark.parametrize("person", [True, False])
def test_heat_of_streams(crowd, person):
    model = build("mudeep", guidance=8, feature_dim=16)
    blind(model, list(model.streams.values()), crowd, person)
    found = pair_heat(model, crowd.images[0], crowd.images[1], heads=True)
    for name in ("global", "scale1.global", "scale3.global"):
        all_mass(found[name].first[None], crowd, person, [0])
    found = similarity_cam(model, tuple(model.streams.values()), crowd.images, crowd.images.flip(0))
    all_mass(found.numpy(), crowd, person)


@pytest.mark.parametrize("person", [True, False])
def test_the_position_gate_of_dsp(crowd, person):
    """The gate itself, made to open where the map is strong and to close elsewhere."""
    model = build("dsp")
    blind(model, [model.backbone.stages[1], model.backbone.stages[3]], crowd, person)
    for tap in ("tap2", "tap4"):
        with torch.no_grad():
            model.attention[tap].spatial.mu.fill_(200)
            model.attention[tap].spatial.omega.fill_(-10)
    found = attention_of(model, crowd.images)
    for tap in ("tap2", "tap4"):
        gate = found[f"{tap}.spatial"].values
        all_mass(gate, crowd, person)
        assert (gate > 1.9).any(axis=(1, 2)).all()


@pytest.mark.parametrize("person", [True, False])
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("sa", ["tap4.spatial"]),
        ("mudeep", ["scale1.before", "scale2.after"]),
        ("daaf", ["holistic", "partial.head", "partial.ankles"]),
        ("baseline", ["holistic"]),
    ],
)
def test_what_systems_show_of_themselves(crowd, person, name, shown):
    model = build(name)
    stages = [model.backbone.stages[3 if name == "sa" else -1]]
    blind(model, list(model.streams.values()) if name == "mudeep" else stages, crowd, person)
    found = attention_of(model, crowd.images)
    for key in shown:
        maps = spatial_map(found[key])
        assert maps is not None
        all_mass(maps, crowd, person)


@pytest.mark.parametrize("person", [True, False])
def test_feature_maps(crowd, person):
    model = build("sa")
    blind(model, [model.backbone.stages[2]], crowd, person)
    for maps in feature_maps(model, crowd.images, ["layer2"]).values():
        for channel in ("mean", "l2", "max"):
            all_mass(reduce_channels(maps, channel), crowd, person)
