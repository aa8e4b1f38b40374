"""TransReID: the camera is told where it is known and adds nothing elsewhere; groups of shuffled patches."""

from __future__ import annotations

import pytest
import torch

import regard
from regard.errors import ConfigError, RegardWarning
from regard.evaluation.embed import extract
from regard.export import optimize_for_inference
from regard.gallery.embedder import Embedder
from regard.models.transreid import jigsaw_order
from regard.recipes import read_recipe

TINY = "test_vit.r160_in1k"


@pytest.fixture
def model() -> regard.ReIDModel:
    """One that knows the cameras up to 2, each in its own way."""
    torch.manual_seed(0)
    model = regard.create_model("transreid", 6, backbone=TINY, cameras=2)
    torch.nn.init.normal_(model.cameras)
    return model.eval()


def test_patches_are_moved_and_dealt():
    assert jigsaw_order(8, shift=2, shuffle=2) == [2, 6, 3, 7, 4, 0, 5, 1]
    assert jigsaw_order(5, shift=0, shuffle=1) == [0, 1, 2, 3, 4]
    for count, shift, shuffle in ((7, 5, 2), (11, 30, 3), (2, 5, 4)):
        assert sorted(jigsaw_order(count, shift, shuffle)) == list(range(count))


@pytest.mark.slow
def test_a_group_sees_its_patches_and_the_class_token_alone(model):
    images, (*stages, _) = torch.randn(1, 3, 64, 32), model.backbone.stages
    images.requires_grad_()
    seen = []
    stages[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output[0].detach().requires_grad_()))
    stages[-1].register_forward_hook(lambda _module, _inputs, output: (seen[-1], *output[1:]))
    for number, expected in enumerate(torch.tensor(jigsaw_order(8, 5, 2)).tensor_split(4)):
        part = model(images).features[f"part{number}"].square().sum()
        moved = torch.autograd.grad(part, seen[-1])[0].abs().sum(1).flatten() > 0
        assert moved.nonzero()[:, 0].tolist() == sorted(expected.tolist())


@pytest.mark.slow
def test_a_camera_that_is_not_known_adds_nothing(model):
    images = torch.randn(4, 3, 64, 32)
    alone, told = model.embed(images), model.embed(images, torch.tensor([1, 2, 3, -1]))
    torch.testing.assert_close(told[2:], alone[2:])
    assert ((told - alone).abs().amax(1) > 0.01).tolist() == [True, True, False, False]
    fresh = regard.create_model("transreid", 6, backbone=TINY, cameras=2)
    assert torch.equal(fresh.embed(images, torch.tensor([0, 1, 2, 3])), fresh.embed(images))
    assert not regard.create_model("transreid", 6, backbone=TINY).sees_cameras


@pytest.mark.slow
def test_training_and_evaluation_tell_the_camera_and_what_cannot_says_so(tiny_overrides, tmp_path, market):
    settings = [*tiny_overrides, f"model.backbone={TINY}", "model.cameras=2", "train.epochs=1", "data.height=64"]
    config = read_recipe("transreid_crowd").config([*settings, "optim.lr=0.1", "optim.name=sgd"])
    run = regard.train(config, folder=tmp_path / "run", quiet=True)
    moved = run.model.cameras.detach().abs().sum(1) > 0
    assert moved.tolist() == [False, True, True]  # cameras of the data set are 1 and 2
    torch.nn.init.normal_(run.model.cameras)
    samples = run.splits.query
    told = torch.from_numpy(extract(run.model, samples, seen=run.input, workers=0))
    run.model.sees_cameras = False
    assert not torch.allclose(told, torch.from_numpy(extract(run.model, samples, seen=run.input, workers=0)), atol=1e-3)
    run.model.sees_cameras = True
    with pytest.warns(RegardWarning, match="an export tells it none: pictures are embedded without"):
        optimize_for_inference(run.model, 64, 32)
    with pytest.warns(RegardWarning, match="a gallery tells it none"):
        Embedder(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"backbone": "test_resnet.r160_in1k"},
            r"wants a plain vision transformer .* is none",
        ),
        ({"patch_stride": 17}, "patch_stride is 17, wanted 1 to 16 pixels"),
        ({"cameras": -1}, "cameras is -1, wanted a number from 0"),
        ({"shuffle": 0}, "shuffle is 0, wanted a number from 1"),
    ],
)
def test_what_it_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        regard.create_model("transreid", 5, **{"backbone": TINY, **options})


def test_a_picture_of_fewer_patches_than_groups():
    model = regard.create_model("transreid", 5, backbone=TINY, jigsaw=9)
    with pytest.raises(ConfigError, match="jigsaw is 9, but the picture has 8 patches"):
        model.embed(torch.zeros(1, 3, 64, 32))
