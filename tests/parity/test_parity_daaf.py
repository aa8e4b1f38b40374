"""DAAF's released network, written out once more from its description with the authors' names, through the importer.

No numbers of the authors' own run are public; this twin is torchvision's ResNet-50 with plain layers around it.
"""

from __future__ import annotations

import copy
import functools

import named_weights
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import regard
from regard.errors import CheckpointError

IDS = 11
GROUPS = [5, 2, 2, 4, 2, 2]


class Released(nn.Module):
    """DAAF on the bag-of-tricks baseline as released: groups of 340 channels, linear 2 x 2 decoders, HAB's own copy."""

    def __init__(self):
        super().__init__()
        base = torchvision.models.resnet50()
        base.layer4[0].conv2.stride = base.layer4[0].downsample[0].stride = (1, 1)
        del base.fc
        self.base = base
        self.bottleneck = nn.BatchNorm1d(2048)
        self.classifier = nn.Linear(2048, IDS, bias=False)
        for number in range(4):
            setattr(self, f"trans_conv_{number}", nn.ConvTranspose2d(340 if number == 0 else 64, 64, 2, 2))
            setattr(self, f"trans_conv_m{number}", nn.ConvTranspose2d(2048 if number == 0 else 64, 64, 2, 2))
        for group, joints in enumerate(GROUPS):
            setattr(self, f"conv_{group}", nn.Conv2d(64, joints, 1))
        self.conv_m0 = nn.Conv2d(64, 1, 1)
        self.backbone_mask_resnet = copy.deepcopy(nn.Sequential(base.layer2, base.layer3, base.layer4))

    def doublings(self, x, branch=""):
        for number in range(4):
            x = getattr(self, f"trans_conv_{branch}{number}")(x)
        return x

    def forward(self, images):
        early = self.base.layer1(self.base.maxpool(self.base.bn1(self.base.conv1(images))))
        last = self.base.layer4(self.base.layer3(self.base.layer2(early)))
        pooled = last.mean((2, 3))
        feature = self.bottleneck(pooled)
        parts = [last[:, 340 * group : 340 * (group + 1)] for group in range(6)]
        keypoints = [getattr(self, f"conv_{group}")(self.doublings(part)) for group, part in enumerate(parts)]
        mask = self.conv_m0(self.doublings(self.backbone_mask_resnet(early), "m"))
        return pooled, feature, self.classifier(feature), torch.cat(keypoints, 1), mask


@functools.cache
def released() -> Released:
    network = Released()
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict({key: torch.from_numpy(value) for key, value in named_weights.state_dict(shapes).items()})
    return network


def tensors() -> dict[str, torch.Tensor]:
    return dict(released().state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_everything_the_network_says(training):
    model = regard.import_released(tensors(), network="daaf")
    images = torch.from_numpy(named_weights.image(3, 128, 64))
    with torch.no_grad():
        pooled, feature, logits, keypoints, mask = copy.deepcopy(released()).train(training)(images)
        out = model.train(training)(images)
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if training else {"rtol": 1e-5, "atol": 2e-5}
    torch.testing.assert_close(out.features["global"], pooled, **tolerance)
    torch.testing.assert_close(out.embedding, feature, **tolerance)
    torch.testing.assert_close(out.logits["global"], logits, **tolerance)
    torch.testing.assert_close(out.maps["pab"], keypoints, **tolerance)
    torch.testing.assert_close(out.maps["hab"], mask, **tolerance)
    assert out.maps["pab"].shape == (3, 17, 128, 64)
    if not training:
        torch.testing.assert_close(model.strip().embed(images), feature, **tolerance)


def blank(*dropped: str) -> dict[str, np.ndarray]:
    """The authors' names with zeros, without those that start as given."""
    return {
        key: np.zeros(tuple(value.shape), np.float32)
        for key, value in tensors().items()
        if not key.startswith(dropped or ("-",))
    }


PAB = ("trans_conv_0", "trans_conv_1", "trans_conv_2", "trans_conv_3", *(f"conv_{group}" for group in range(6)))
HAB = ("trans_conv_m", "conv_m", "backbone_mask_resnet")


@pytest.mark.parametrize(
    ("dropped", "found"),
    [
        ((), {"hab": True, "pab": True, "hab_tap": "layer1_copy", "group_width": 340}),
        (PAB, {"hab": True, "pab": False, "hab_tap": "layer1_copy", "group_width": None}),
        (HAB, {"hab": False, "pab": True, "group_width": 340}),
        (("backbone_mask_resnet",), {"hab": True, "pab": True, "hab_tap": "layer4"}),
        ((*PAB, *HAB), {"hab": False, "pab": False}),
    ],
)
def test_branches_are_detected(dropped, found):
    given = blank(*dropped) | {"base.fc.weight": np.zeros((1000, 2048), np.float32)}
    model = regard.import_released(given, network="daaf")
    assert (model.num_ids, model.embed_dim) == (IDS, 2048)
    assert {key: model.options[key] for key in found} == found
    assert model.options["decoder"] == (None if {*PAB, *HAB} <= {*dropped} else "2x2")
    report = model.import_report
    assert (report.unused, report.missing, report.conflicting) == (["base.fc.weight"], [], [])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {"features.0.weight": np.zeros(3)}, r"is not a DAAF checkpoint: it has neither trans_conv_0\.weight"),
        (
            lambda: named_weights.state_dict({"base.conv1.weight": [64, 3, 7, 7], "fc1.weight": [8, 64]}),
            "is not a DAAF",
        ),
        (lambda: blank("classifier"), r"has no classifier\.weight"),
        (lambda: blank("conv_3"), r"2 missing \(pab\.heads\.3"),
        (lambda: blank("trans_conv_m3"), r"2 missing \(hab\.decoder\.doublings\.3"),
        (lambda: blank() | {"trans_conv_0.weight": np.zeros((340, 64, 5, 5))}, r"\(340, 64, 5, 5\), no transposed"),
        (lambda: blank() | {"trans_conv_0.weight": np.zeros((512, 64, 2, 2))}, "group_width is 512"),
    ],
)
def test_wrong_files(make, message):
    with pytest.raises(regard.RegardError, match=message) as caught:
        regard.import_released(make(), network="daaf")
    assert "\n" not in str(caught.value)


def test_a_file_of_the_wrong_network_is_a_checkpoint_error():
    with pytest.raises(CheckpointError):
        regard.import_released({"a": np.zeros(1)}, network="daaf")
