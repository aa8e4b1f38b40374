"""Checkpoints of MindSpore against what MindSpore itself computed (``tests/models/mindspore/write.py``).

Weights of the large networks follow from the names of their tensors, as in the other parity tests; those of the tiny
one come out of its file.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import named_weights
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import regard
from regard.errors import CheckpointError
from regard.models.backbone import Backbone
from regard.models.daaf import DAAF
from regard.models.importers.mindspore_file import read_mindspore

FILES = Path(__file__).parents[1] / "models" / "mindspore"
sys.path.append(str(FILES.parent))

from mindspore_bytes import TERMS, written  # noqa: E402

ANSWERS = np.load(FILES / "answers.npz")
KEYS = json.loads((FILES / "keys.json").read_text())


def answer(name: str) -> Tensor:
    return torch.from_numpy(ANSWERS[name])


def tensors_of(network: str) -> dict[str, Tensor]:
    """Weights by MindSpore's names."""
    back = {theirs: ours for ours, theirs in TERMS.items()}
    tensors = {}
    for key, shape in KEYS[network].items():
        head, _, leaf = key.rpartition(".")
        tensors[key] = torch.from_numpy(named_weights.tensor(f"{head}.{back.get(leaf, leaf)}", tuple(shape)))
    return tensors


def plain(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """The features of MindSpore's tiny ResNet, (B, C, h, w), written out with torch's functions."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = tensors[f"{name}.weight"]
        extra = weight.shape[-1] - stride if x.shape[-1] % 2 == 0 else weight.shape[-1] - 1
        before = max(extra, 0) // 2
        return functional.conv2d(functional.pad(x, (before, max(extra, 0) - before) * 2), weight, stride=stride)

    def norm(x: Tensor, name: str) -> Tensor:
        terms = [tensors[f"{name}.{term}"] for term in ("moving_mean", "moving_variance", "gamma", "beta")]
        return functional.batch_norm(x, *terms, eps=1e-4)

    x = norm(conv(images, "conv1", 2), "bn1").relu()
    x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
    for stage in range(1, 5):
        block, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        shortcut = norm(conv(x, f"{block}.down_sample_layer.0", stride), f"{block}.down_sample_layer.1")
        x = norm(conv(x, f"{block}.conv1"), f"{block}.bn1").relu()
        x = norm(conv(x, f"{block}.conv2", stride), f"{block}.bn2").relu()
        x = (norm(conv(x, f"{block}.conv3"), f"{block}.bn3") + shortcut).relu()
    return x


def test_a_network_that_mindspore_trained_and_saved():
    tensors = read_mindspore(FILES / "tiny_resnet.ckpt")
    assert {name.partition(".")[0] for name in tensors} == {
        "conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "end_point", "moments",
        "global_step", "learning_rate", "momentum",
    }  # fmt: skip
    assert tensors["global_step"].tolist() == [3]
    assert tensors["learning_rate"] == torch.tensor(0.1)
    assert not torch.equal(tensors["layer1.0.bn1.moving_variance"], torch.ones(2))
    found = plain(tensors, torch.from_numpy(named_weights.image(2, 64, 32)))
    assert found.shape == answer("tiny").shape
    torch.testing.assert_close(found, answer("tiny"), rtol=1e-5, atol=1e-6)


def test_resnet50_of_the_model_zoo(tmp_path):
    tensors = tensors_of("resnet50")
    path = tmp_path / "resnet50.ckpt"
    path.write_bytes(written(tensors))
    model = regard.import_released(tensors, network="resnet")
    options = {"backbone": "resnet50", "last_stride": 2, "stem_relu": True, "same_padding": True}
    assert model.num_ids == 1001
    assert {name: model.options[name] for name in (*options, "norm_eps")} == options | {"norm_eps": 1e-4}
    report = model.import_report
    assert report is not None
    assert report.unused == ["end_point.bias"]
    assert {name.partition(".")[0] for name in report.missing if "num_batches" not in name} == {"neck"}
    images = torch.from_numpy(named_weights.image(2, 64, 32))
    with torch.no_grad():
        pooled = model(images).features["global"]
    torch.testing.assert_close(pooled, answer("resnet50"), rtol=1e-5, atol=2e-5)

    started = Backbone("resnet50", pretrained=path).state_dict()
    ours = model.state_dict()
    for key, tensor in tensors.items():
        if key.startswith("end_point"):
            continue
        head, _, leaf = key.replace("down_sample_layer", "downsample").rpartition(".")
        terms = {theirs: mine for mine, theirs in TERMS.items()}
        name = f"{head}.{terms.get(leaf, leaf)}"
        place = f"stages.{name[5] if name.startswith('layer') else 0}.{name}"
        assert torch.equal(started[place], tensor)
        assert torch.equal(ours[f"backbone.{place}"], tensor)


def test_daaf_of_mindspore():
    """Names, head, padding, epsilon and both branches: the network's own answers."""
    tensors = tensors_of("daaf")
    model = regard.import_released(tensors, network="daaf-mindspore")
    found = {"preset": "mindspore", "hab": True, "pab": True, "hab_tap": "layer1_copy", "group_width": 340}
    assert (model.num_ids, model.embed_dim) == (11, 512)
    assert {key: model.options[key] for key in found} == found
    assert model.options["decoder"] == "2x2"
    report = model.import_report
    assert report is not None
    assert report.unused == [f"bnneck.{term}" for term in ("beta", "gamma", "moving_mean", "moving_variance")]
    assert all(name.endswith("num_batches_tracked") for name in report.missing)
    assert isinstance(model, DAAF)
    images = torch.from_numpy(named_weights.image(2, 64, 32)) - model.pixels.shift
    with torch.no_grad():
        out = model(images)
    torch.testing.assert_close(out.embedding, answer("descriptor"), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(out.logits["global"], answer("logits"), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(out.maps["pab"][:, :, ::8, ::8], answer("joints"), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(out.maps["hab"][:, :, ::8, ::8], answer("mask"), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(model.strip().embed(images), answer("descriptor"), rtol=1e-5, atol=2e-5)


def test_what_daaf_of_mindspore_is_not():
    blank = {key: torch.zeros(shape) for key, shape in KEYS["daaf_plain"].items()}
    plain_one = regard.import_released(blank, network="daaf-mindspore")
    assert {key: plain_one.options[key] for key in ("hab", "pab")} == {"hab": False, "pab": False}
    for network, given, message in (
        ("daaf", blank, "looks like a checkpoint of daaf-mindspore, not of daaf: it has backone.0.weight"),
        ("resnet", blank, "looks like a checkpoint of daaf-mindspore, not of resnet"),
        ("daaf-mindspore", {"base.conv1.weight": torch.zeros(1)}, "has no backone.0.weight, but base.conv1.weight"),
        ("daaf-mindspore", {k: v for k, v in blank.items() if "fc_class" not in k}, "has no fc_class.weight, but b"),
        ("daaf-mindspore", {k: v for k, v in blank.items() if "reduction.1" not in k}, r"4 missing (neck.norm.bias"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
            regard.import_released(given, network=network)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if "layer3.5" not in k}, "no ResNet of ImageNet: wanted conv1, layer1"),
        (lambda t: {k: v for k, v in t.items() if not k.startswith("end_point")}, "and fc or end_point, got bn1"),
        (lambda t: {f"base.{k}": v for k, v in t.items()}, "is no ResNet of ImageNet"),
    ],
)
def test_what_is_no_resnet_is_refused(change, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        regard.import_released(change(dict.fromkeys(KEYS["resnet50"], torch.zeros(1))), network="resnet")
    assert "\n" not in str(caught.value)
