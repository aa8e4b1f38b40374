"""The form of DAAF that its MindSpore code trains: padding, head, pixels, first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import regard
from regard.data.transforms import normalize
from regard.models.backbone import Backbone

TINY = "test_resnet.r160_in1k"


def create(**options) -> regard.ReIDModel:
    torch.manual_seed(0)
    return regard.create_model("daaf", 5, **{"preset": "mindspore", "backbone": TINY, **options})


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 128, 64, generator=torch.Generator().manual_seed(1))


def test_the_padding_is_pytorch_s_seen_from_the_other_corner(images):
    """Of even sizes the one pads bottom and right, and of the other's padding only top and left come to bear."""
    torch.manual_seed(0)
    plain = Backbone(TINY, last_stride=2, stem_relu=True).eval()
    same = Backbone(TINY, last_stride=2, stem_relu=True, same_padding=True).eval()
    turned = {key: value.flip(2, 3) if value.ndim == 4 else value for key, value in plain.state_dict().items()}
    same.load_state_dict(turned)
    with torch.no_grad():
        maps, seen = same(images), plain(images)
        torch.testing.assert_close(maps, plain(images.flip(2, 3)).flip(2, 3), rtol=1e-4, atol=1e-4)
    assert maps.shape == seen.shape
    assert not torch.allclose(maps, seen, atol=1e-2)


@pytest.mark.slow
def test_a_convolution_s_padding_by_hand():
    """7 taps over 8 places at stride 2 need 5 places more: 2 before, 3 behind. Stride 1 stays as it was."""
    stages = Backbone("resnet18", last_stride=2, stem_relu=True, same_padding=True).stages
    stem, block = stages[0], stages[2].layer2[0]
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(stem.conv1(x), F.conv2d(F.pad(x, (2, 3, 2, 3)), stem.conv1.weight, stride=2))
    y = torch.randn(1, 64, 8, 8)
    torch.testing.assert_close(block.conv1(y), F.conv2d(F.pad(y, (0, 1, 0, 1)), block.conv1.weight, stride=2))
    shortcut = F.conv2d(y[:, :, ::2, ::2], block.downsample[0].weight)
    torch.testing.assert_close(block.downsample[0](y), shortcut)
    padded = F.pad(y, (0, 1, 0, 1), value=-torch.inf)
    torch.testing.assert_close(stem.maxpool(y), F.max_pool2d(padded, 3, 2))


def test_the_head_is_its_formula(images):
    model = create().train()
    out = model(images)
    g = model.backbone(model.pixels(images)).mean((2, 3))
    hidden = F.linear(g, model.neck.conv.weight.flatten(1))
    normalized = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt()
    feature = (normalized * model.neck.norm.weight + model.neck.norm.bias).clamp(min=0)
    torch.testing.assert_close(out.embedding, feature, rtol=1e-3, atol=1e-5)
    assert out.features["global"] is out.embedding
    assert out.embedding.shape == (3, 512)
    torch.testing.assert_close(
        out.logits["global"], F.linear(feature, *model.classifier.parameters()), rtol=1e-3, atol=1e-4
    )
    assert {name: tuple(maps.shape) for name, maps in out.maps.items()} == {
        "hab": (3, 1, 64, 32),
        "pab": (3, 17, 64, 32),
    }


def test_first_weights():
    """He in convolution and classifier, scales from N(0, 0.01²), decoders where wanted all from N(0, 0.01²)."""
    model = create(decoder_start="released")
    assert model.neck.conv.weight.std().item() == pytest.approx((2 / 96) ** 0.5, rel=0.05)
    assert model.classifier.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.1)
    assert not model.classifier.bias.any()
    scales = model.neck.norm.weight.detach()
    assert scales.std().item() == pytest.approx(0.01, rel=0.1)
    assert 0.4 < (scales < 0).float().mean() < 0.6
    for decoder in (model.pab, model.hab.decoder):
        weights = torch.cat([p.detach().flatten() for name, p in decoder.named_parameters() if name.endswith("weight")])
        assert weights.std().item() == pytest.approx(0.01, rel=0.02)
        assert not any(p.any() for name, p in decoder.named_parameters() if name.endswith("bias"))


def test_normalizations_and_kernels_are_the_port_s():
    model = create()
    assert {norm.eps for norm in model.backbone.modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-4}
    assert {norm.eps for norm in model.hab.copied.modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-4}
    assert model.neck.norm.eps == 1e-5
    assert model.pab.doublings[0].kernel_size == model.hab.decoder.doublings[0].kernel_size == (2, 2)
    assert create(decoder="3x3").pab.doublings[0].kernel_size == (3, 3)
    assert [p.shape[0] for p in create(preset="bot").pab.doublings[0].parameters()] == [16, 64]
    assert model.hab.copied


@pytest.mark.slow
def test_names_of_parameters():
    """What readers of the port's checkpoints map onto."""
    names = regard.create_model("daaf", 5, preset="mindspore", group_width=340).state_dict()
    tops = {".".join(name.split(".")[:2]) for name in names}
    assert tops == {
        "backbone.stages", "neck.conv", "neck.norm", "classifier.weight", "classifier.bias",
        "hab.copied", "hab.decoder", "pab.doublings", "pab.heads",
    }  # fmt: skip
    assert tuple(names["neck.conv.weight"].shape) == (512, 2048, 1, 1)
    assert tuple(names["pab.doublings.0.weight"].shape) == (340, 64, 2, 2)
    assert tuple(names["hab.decoder.doublings.0.weight"].shape) == (2048, 64, 2, 2)
    assert "backbone.stages.2.layer2.0.conv2.weight" in names
    assert "hab.copied.0.layer2.0.conv2.weight" in names


def test_pixels_are_centered_on_the_port_s_mean():
    """An image normalized for every model, given to this one, is one normalized by the port given to a plain one."""
    pixels = torch.randint(0, 256, (2, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    port, plain = create(), create(pixel_mean=(0.485, 0.456, 0.406))
    expected = plain.embed(normalize(pixels, (0.486, 0.459, 0.408)))
    torch.testing.assert_close(port.embed(normalize(pixels)), expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(plain.embed(normalize(pixels)), expected)
    own = normalize(pixels)
    assert plain.pixels(own) is own
    assert "pixels.shift" not in port.state_dict()


def test_pixels_in_gray_levels_as_tensorflow_s_trunk_wants_them():
    pixels = torch.randint(0, 256, (2, 3, 8, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([123.68, 116.78, 103.94])
    model = create(preset="trinet", pixel_mean=(mean / 255).tolist(), pixel_std=(1 / 255,) * 3)
    wanted = pixels - mean.view(3, 1, 1)
    torch.testing.assert_close(model.pixels(normalize(pixels)), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("wrong", [(0.5, 0.5), (0.5, 0.5, 1.5), (123.7, 116.8, 103.9)])
@pytest.mark.parametrize(("option", "words"), [("pixel_mean", "from 0 to 1"), ("pixel_std", "above 0 and up to 1")])
def test_pixels_that_are_none(option, words, wrong):
    with pytest.raises(regard.RegardError, match=rf"{option} is .* wanted three numbers {words}") as caught:
        create(**{option: wrong})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_stripped_and_read_back_it_gives_the_same(images, tmp_path):
    model = create().eval()
    before = model.embed(images)
    assert (before >= 0).all()
    model.strip().save(tmp_path)
    again = regard.load(tmp_path)
    assert torch.equal(again.embed(images), before)
    assert again.options["preset"] == "mindspore"
