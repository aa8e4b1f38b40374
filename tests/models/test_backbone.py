from __future__ import annotations

import mindspore_bytes
import pytest
import safetensors.torch
import timm
import torch

from regard.errors import CheckpointError, ConfigError, RegardError, RegardWarning
from regard.models.backbone import Backbone

STAGED = [
    "resnet18",
    "resnet50d",
    "resnetblur50",
    "res2net50_26w_4s",
    "convnext_tiny",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "regnety_004",
    "efficientnet_b0",
    "tf_efficientnet_b0",
    "densenet121",
    "repvgg_a0",
    "test_byobnet",
    "test_convnext2.r160_in1k",
    "test_efficientnet.r160_in1k",
    "test_nfnet.r160_in1k",
    "test_resnet.r160_in1k",
]
TINY = "test_resnet.r160_in1k"


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 128, 96, generator=torch.Generator().manual_seed(0))


def same_weights(name: str, **options) -> tuple[Backbone, torch.nn.Module]:
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=0, global_pool="").eval()
    torch.manual_seed(0)
    return Backbone(name, **options).eval(), whole


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGED)
def test_stages_are_the_network(name, images):
    backbone, whole = same_weights(name, last_stride=2, stem_relu=True)
    maps, x = [], images
    with torch.no_grad():
        for stage in backbone.stages:
            x = stage(x)
            maps.append(x)
        expected = whole.forward_intermediates(images, intermediates_only=True)
        assert torch.equal(backbone(images), maps[-1])
    assert [m.shape[1] for m in maps] == backbone.channels
    assert [128 // m.shape[2] for m in maps] == [96 // m.shape[3] for m in maps] == backbone.strides
    assert len(maps) == 5
    for ours, theirs in zip(maps[-len(expected) :][1:], expected[1:]):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGED)
def test_last_stride_one(name, images):
    full, halved = Backbone(name).eval(), Backbone(name, last_stride=2).eval()
    assert full.strides[:-1] == halved.strides[:-1]
    assert full.strides[-1] == full.strides[-2] == halved.strides[-1] // 2
    assert full.channels == halved.channels
    assert {k: v.shape for k, v in full.state_dict().items()} == {k: v.shape for k, v in halved.state_dict().items()}
    assert all(m.dilation == (1, 1) for m in full.stages[-1].modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        assert full(images).shape == (2, full.channels[-1], 128 // full.strides[-1], 96 // full.strides[-1])


@pytest.mark.slow
def test_last_stride_one_of_a_resnet(images):
    backbone, whole = same_weights("resnet50", stem_relu=True)
    whole.layer4[0].conv2.stride = whole.layer4[0].downsample[0].stride = (1, 1)
    with torch.no_grad():
        assert torch.equal(backbone(images), whole.forward_features(images))


@pytest.mark.slow
def test_last_stride_one_of_a_patch_merging_keeps_its_grid():
    """Every other position of the dense map is what the strided merging saw."""
    full, halved = (same_weights("test_convnext.r160_in1k", last_stride=stride)[0] for stride in (1, 2))
    x = torch.randn(1, full.channels[-2], 8, 6, generator=torch.Generator().manual_seed(0))
    dense, sparse = (b.stages[-1][0].downsample(x) for b in (full, halved))
    assert dense.shape[2:] == (8, 6)
    torch.testing.assert_close(dense[:, :, ::2, ::2], sparse)


@pytest.mark.slow
def test_stem(images):
    """The stem ends behind its pooling, with or without the activation before it."""
    for stem_relu in (False, True):
        backbone, whole = same_weights("resnet18", stem_relu=stem_relu)
        x = whole.bn1(whole.conv1(images))
        expected = whole.maxpool(x.relu() if stem_relu else x)
        torch.testing.assert_close(backbone.stages[0](images), expected)


def test_stem_relu_means_nothing_to_other_networks(images):
    with_relu, without = (same_weights("test_efficientnet.r160_in1k", stem_relu=s)[0] for s in (True, False))
    assert torch.equal(with_relu(images), without(images))


def test_construction_leaves_statistics_and_mode_alone():
    backbone = Backbone(TINY)
    assert all(module.training for module in backbone.modules())
    assert all(v == 0 for k, v in backbone.state_dict().items() if k.endswith("num_batches_tracked"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", "timm has no backbone 'resnet51', did you mean 'resnet5"),
        ("test_vit_relpos", "'test_vit_relpos' does not come in stages"),
        ("test_mambaout", "'test_mambaout' cannot be cut"),
        ("resnet18.nobody", "could not build backbone 'resnet18.nobody'"),
    ],
)
def test_unusable_backbones(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Backbone(name)
    assert "\n" not in str(caught.value)


def test_wrong_stride():
    with pytest.raises(ConfigError, match="last_stride is 4"):
        Backbone(TINY, last_stride=4)


@pytest.fixture
def trained(tmp_path):
    """A whole tiny classifier, as its authors would publish it."""
    torch.manual_seed(7)
    return timm.create_model(TINY, num_classes=10).state_dict()


@pytest.mark.parametrize("layout", ["plain.pth", "wrapped.pt", "old.pth", "plain.safetensors"])
def test_local_weights(trained, tmp_path, layout):
    path = tmp_path / layout
    if layout.endswith("safetensors"):
        safetensors.torch.save_file(trained, path)
    elif layout == "wrapped.pt":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in trained.items()}}, path)
    elif layout == "old.pth":
        torch.save({k: v for k, v in trained.items() if not k.endswith("num_batches_tracked")}, path)
    else:
        torch.save(trained, path)
    backbone = Backbone(TINY, pretrained=path)
    assert torch.equal(backbone.stages[0].bn1.weight, trained["bn1.weight"])
    assert torch.equal(backbone.stages[4].layer4[0].conv1.weight, trained["layer4.0.conv1.weight"])
    assert torch.equal(
        Backbone(TINY, pretrained=str(path)).stages[1].layer1[0].conv1.weight, trained["layer1.0.conv1.weight"]
    )


@pytest.mark.slow
def test_torchvision_weights(tmp_path):
    torchvision_models = pytest.importorskip("torchvision.models")
    weights = torchvision_models.resnet18().state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    backbone = Backbone("resnet18", pretrained=tmp_path / "resnet18.pth")
    assert torch.equal(backbone.stages[4].layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])


def in_mindspore(weights: dict, down_sample: str, classifier: str, training: bool = False) -> bytes:
    """The file of a ResNet as MindSpore's model zoo and MindCV write it, and with its optimizer."""
    tensors = mindspore_bytes.mindspore_names(weights, down_sample, classifier)
    if training:
        moments = {f"moments.{name}": torch.zeros(1) for name in tensors if "moving" not in name}
        tensors |= moments | {"learning_rate": torch.tensor(0.1), "global_step": torch.ones(1, dtype=torch.int32)}
    return mindspore_bytes.written(tensors)


def test_mindspore_weights(trained, tmp_path):
    path = tmp_path / "resnet.ckpt"
    for names in (("down_sample_layer", "end_point"), ("down_sample", "classifier")):
        path.write_bytes(in_mindspore(trained, *names))
        found = {key.split(".", 2)[2]: value for key, value in Backbone(TINY, pretrained=path).state_dict().items()}
        for key, value in trained.items():
            assert key.startswith("fc.") or torch.equal(found[key], value)


def test_what_a_mindspore_training_kept_is_left_out_and_said(trained, tmp_path):
    path = tmp_path / "resnet.ckpt"
    path.write_bytes(in_mindspore(trained, "down_sample_layer", "end_point", training=True))
    with pytest.warns(RegardWarning, match=r"resnet\.ckpt: 49 of 126 tensors are of its training.*\(m") as caught:
        Backbone(TINY, pretrained=path)
    assert "\n" not in str(caught[0].message)
    for drop, add, message in (
        ("layer2.0.bn1.gamma", {}, r"resnet\.ckpt does not fit: .* 1 missing \(layer2\.0\.bn1\.weight\)"),
        ("", {"layer1.0.se_dense_0.weight": torch.ones(1)}, r"1 unexpected \(layer1\.0\.se_dense_0\.weight\)"),
        ("", {"bn1.gamma": torch.ones(1)}, r"1 of another shape \(bn1\.weight is \(1,\)"),
    ):
        tensors = mindspore_bytes.mindspore_names(trained, "down_sample_layer", "end_point") | add
        tensors.pop(drop, None)
        path.write_bytes(mindspore_bytes.written(tensors))
        with pytest.raises(CheckpointError, match=message):
            Backbone(TINY, pretrained=path)


@pytest.mark.slow
def test_weights_of_another_network(trained, tmp_path):
    torch.save(trained, tmp_path / "tiny.pth")
    with pytest.raises(CheckpointError, match=r"tiny\.pth holds another architecture: .* missing \("):
        Backbone("resnet18", pretrained=tmp_path / "tiny.pth")
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(CheckpointError, match=r"resnet34\.pth does not fit: .* unexpected \(layer1\.2"):
        Backbone("resnet18", pretrained=tmp_path / "resnet34.pth")


def test_no_weights_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file .*nothing\.pth"):
        Backbone(TINY, pretrained=tmp_path / "nothing.pth")


def test_failed_download(monkeypatch, capsys):
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("We couldn't connect to the hub\nlong explanation")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: "kept")
    with pytest.raises(
        RegardError, match=r"could not fetch .* \(We couldn't connect to the hub\); .*pretrained=PATH"
    ) as e:
        Backbone(TINY, pretrained=True)
    assert "\n" not in str(e.value)
    assert capsys.readouterr().err == ""


def test_without_a_network_it_says_so_at_once_and_how_to_go_without(monkeypatch, capsys, tmp_path):
    def refuse(*_, **__):
        raise OSError("no such host")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("regard.models.backbone.getproxies", dict)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("tried"))
    with pytest.raises(RegardError, match=r"cannot be reached: no such host.*; .*model\.pretrained=false"):
        Backbone(TINY, pretrained=True)
    told = capsys.readouterr().err
    assert told.startswith(f"regard: fetching the pretrained weights of {TINY} (timm/{TINY}) from ")
    assert told.endswith("; model.pretrained=false goes without\n")
