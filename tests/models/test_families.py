"""Backbones that are cut by a file of their own: ViT, Swin, HRNet, OSNet; and ConvNeXt, which is cut as a ResNet is."""

from __future__ import annotations

import pytest
import timm
import torch

import regard
import small_backbones
from regard.engine.build import recompute_blocks
from regard.errors import ConfigError
from regard.explain.gradcam import attention_layers, similarity_cam
from regard.models.backbone import Backbone
from regard.models.cost import constant_weights, inference_cost
from regard.models.families.swin import Stage
from regard.recipes import read_recipe

pytestmark = pytest.mark.slow

VIT, SWIN, HRNET, OSNET = "test_vit.r160_in1k", *list(small_backbones.default_cfgs), "osnet_x0_25"


def theirs(name: str, images: torch.Tensor) -> torch.Tensor:
    """The last map as timm computes it for pictures of any size, by its own option for that."""
    torch.manual_seed(0)
    any_size = {VIT: {"dynamic_img_size": True}, SWIN: {"strict_img_size": False}}
    whole = timm.create_model(name, num_classes=0, **any_size.get(name, {})).eval()
    if name in (VIT, SWIN):
        return whole.forward_intermediates(images, norm=True, intermediates_only=True)[-1]
    if name == HRNET:
        whole.final_layer = torch.nn.Identity()
    return whole.forward_features(images)


@pytest.mark.parametrize(
    ("name", "strides"),
    [(VIT, [16] * 5), (SWIN, [4, 4, 8, 16, 32]), (HRNET, [4, 4, 4, 4, 32]), (OSNET, [4, 4, 8, 16, 16])],
)
def test_stages_are_the_network_at_any_size(name, strides):
    torch.manual_seed(0)
    halved = Backbone(name, last_stride=2).eval()
    dense = Backbone(name).eval()
    assert halved.strides == strides
    assert dense.strides == [*strides[:4], min(strides[4], 16)]
    assert [key for key, _ in dense.named_parameters()] == [
        key.replace("downsample.", "downsample.merging.") if name == SWIN and ".4.layer" in f".{key}"[7:] else key
        for key, _ in halved.named_parameters()
    ]
    for height, width in ((256, 128), (128, 64), (97, 53)):
        images = torch.randn(1, 3, height, width)
        with torch.no_grad():
            own = halved(images)
            if height % 32 == 0:
                torch.testing.assert_close(own, theirs(name, images), rtol=1e-4, atol=1e-4)
                assert own.shape[2:] == (height // strides[4], width // strides[4])
                assert dense(images).shape[2:] == (height // dense.strides[4], width // dense.strides[4])
            assert dense(images).shape[1] == own.shape[1]


def test_a_merging_at_every_position_sees_what_the_strided_one_saw():
    torch.manual_seed(0)
    dense, halved = (Backbone(SWIN, last_stride=stride).stages[-1].layer.downsample for stride in (1, 2))
    dense.merging.load_state_dict(halved.state_dict())
    x = torch.randn(2, 6, 4, 96)
    torch.testing.assert_close(dense(x)[:, ::2, ::2], halved(x))


SITS = [
    ("apnet", VIT), ("daaf", VIT), ("msea", SWIN), ("mudeep", SWIN), ("sa", HRNET), ("dsp", OSNET), ("regard", VIT),
]  # fmt: skip


@pytest.mark.parametrize(("name", "backbone"), SITS)
def test_systems_sit_on_every_backbone(name, backbone, tmp_path):
    torch.manual_seed(0)
    start = {} if name == "pcb" else {"gate_start": "identity"}
    model = regard.create_model(name, 5, backbone=backbone, **start)
    images = torch.randn(2, 3, 128, 64)
    out = model(images)
    sum(value.square().mean() for value in (*out.logits.values(), *out.features.values())).backward()
    silent = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert [key for key in silent if not key.startswith(model.training_parts)] == []
    embedding = model.embed(images)
    if start:
        plain = regard.create_model(name, 5, backbone=backbone, attention_control="off")
        tensors = model.state_dict()
        plain.load_state_dict({key: tensors[key] for key in plain.state_dict()})
        torch.testing.assert_close(embedding, plain.embed(images), rtol=0, atol=1e-6)
    for layer in attention_layers(model).values():
        heat = similarity_cam(model, layer, images, images.flip(0))
        assert 0 <= heat.min() < heat.max() == 1
    model.save(tmp_path)
    assert torch.equal(regard.load(tmp_path).embed(images), embedding)
    assert torch.equal(model.strip().embed(images), embedding)


@pytest.mark.parametrize("backbone", [VIT, SWIN, HRNET, OSNET])
def test_controls_and_starts_mean_the_same_on_every_backbone(backbone):
    """The gates of the first tap, which see the same map whatever the control."""
    images, found = torch.randn(4, 3, 64, 64), {}
    for how in (
        {},
        {"attention_control": "shuffled"},
        {"attention_control": "constant"},
        {"gate_start": "zero_logits"},
    ):
        torch.manual_seed(0)
        model = regard.create_model("apnet", 5, backbone=backbone, level=1, **how)
        with torch.no_grad():
            out = model.eval()(images)
        found[" ".join(how.values())] = out.maps["tap1.level1"], sum(p.numel() for p in model.parameters())
    gates = {how: gate for how, (gate, _) in found.items()}
    assert gates[""].std(0).max() > 1e-4  # pictures differ
    torch.testing.assert_close(gates["shuffled"], gates[""].roll(2, 0))
    for how in ("constant", "zero_logits"):
        assert (gates[how] == 0.5).all(), how
    assert len({parameters for _, parameters in found.values()}) == 1


def test_where_a_system_cannot_sit_it_says_so():
    with pytest.raises(ConfigError, match=r"mudeep makes streams .* 'tiny_hrnet' has none in a row"):
        regard.create_model("mudeep", 5, backbone=HRNET)


@pytest.mark.parametrize(("backbone", "layers"), [(VIT, 6), (SWIN, 6), (OSNET, 0)])
def test_what_tokens_attend_to(backbone, layers):
    torch.manual_seed(0)
    model = regard.create_model("baseline", 5, backbone=backbone).eval()
    images = torch.randn(2, 3, 64, 64)
    reference = model.embed(images)
    with model.token_attention() as seen:
        out = model(images)
    torch.testing.assert_close(out.embedding, reference, rtol=1e-4, atol=1e-5)
    assert len(seen) == layers
    for one in seen:
        whole, count = one.spread(one.weights), one.before + one.grid[0] * one.grid[1]
        assert whole.shape == (2, one.weights.shape[1], count, count)
        torch.testing.assert_close(whole.sum(-1), torch.ones(whole.shape[:3]))
    moved = torch.autograd.grad(out.embedding.sum(), [one.weights for one in seen], allow_unused=True) if seen else ()
    assert all(gradient is not None and gradient.any() for gradient in moved)
    with torch.no_grad():
        model(images)
    assert len(seen) == layers  # nothing is recorded outside


def test_shifted_windows_are_told_where_they_lie():
    """A position has attention to another exactly where the other moves it."""
    torch.manual_seed(0)
    block = Backbone(SWIN).stages[1].layer.blocks[1]
    stage, seen = Stage(block).eval(), []
    x = torch.randn(1, 24, 6, 8, requires_grad=True)
    with stage.recording(seen.append):
        y = stage(x).flatten(2).square().sum(1)[0]
    moves = torch.stack([torch.autograd.grad(one, x, retain_graph=True)[0].abs().sum(1).flatten() > 0 for one in y])
    (one,) = seen
    assert block.shift_size == (2, 2)
    assert torch.equal(one.spread(one.weights)[0].sum(0) > 1e-9, moves)


def test_parallel_maps_computed_again_have_the_same_gradients():
    torch.manual_seed(0)
    model = regard.create_model("baseline", 5, backbone=HRNET, last_stride=2)
    images, found = torch.randn(2, 3, 64, 64), []
    for again in (False, True):
        if again:
            recompute_blocks(model)
        model.zero_grad()
        model(images).features["global"].square().sum().backward()
        found.append([p.grad.clone() for p in model.backbone.parameters()])
    torch.testing.assert_close(*found)


def test_published_cost_of_osnet():
    """Table 1 of the paper: 2.2 M parameters with its linear layer, 978.9 M multiply-adds, here to 0.05 %."""
    with constant_weights():
        cost = inference_cost(regard.create_model("baseline", 5, backbone="osnet_x1_0"), 256, 128)
    assert cost.gflops / 2 == pytest.approx(0.9789, rel=5e-4)
    assert f"{(cost.inference_parameters + 512 * 512 + 512) / 1e6:.1f}" == "2.2"


@pytest.mark.parametrize("backbone", [VIT, SWIN])
def test_each_trains_and_its_run_opens(backbone, tiny_overrides, tmp_path):
    more = [f"model.backbone={backbone}", "train.epochs=1", "train.checkpointing=true"]
    config = read_recipe("baseline_crowd").config([*tiny_overrides, *more])
    run = regard.train(config, folder=tmp_path / "run", quiet=True)
    assert 0 < run.report().mAP <= 1


def test_pixels_are_centered_as_timm_says_of_the_weights(tmp_path):
    torch.save(timm.create_model(VIT).state_dict(), tmp_path / "vit.pth")
    made = regard.create_model("baseline", 5, backbone=VIT, pretrained=tmp_path / "vit.pth")
    assert (made.input.mean, made.input.std) == ((0.5,) * 3, (0.5,) * 3)
    assert regard.create_model("baseline", 5, backbone=VIT).input.mean[0] == 0.485
    sized = {"agent": "rga", "height": 128, "width": 64, "pretrained": tmp_path / "vit.pth", "backbone": VIT}
    seen = regard.create_model("apnet", 5, **sized).input
    assert (seen.size, seen.mean) == ((128, 64), (0.5,) * 3)
