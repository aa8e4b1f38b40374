"""What the MuDeep importer reads off a file, and what it refuses."""

from __future__ import annotations

import named_weights
import pytest
import torch

import regard
from regard.errors import CheckpointError
from regard.models.importers.released_parts import mudeep


def blank(num_ids: int = 751, prefix: str = "") -> dict[str, torch.Tensor]:
    """Tensors of the released names and shapes: zeros that take no memory until they are written to."""
    tensors = {}
    for key, shape in named_weights.keys("mudeep_v2").items():
        rows = [num_ids, *shape[1:]] if ".classifier." in key else shape
        kind = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        tensors[prefix + key] = torch.zeros(rows, dtype=kind)
    return tensors


def without(pattern: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in blank().items() if pattern not in key}


def test_a_checkpoint_as_training_wrote_it(tmp_path):
    tensors = blank(702, prefix="module.")
    tensors["module.gamma2"].fill_(0.25)
    tensors["module.scale3_2.feature.conv1.weight"].fill_(0.5)
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.09, "params": [0]}]}
    torch.save({"epoch": 160, "state_dict": tensors, "optimizer": optimizer}, tmp_path / "market_160.pkl")
    model = regard.import_released(tmp_path / "market_160.pkl", network="mudeep")
    assert not model.training
    assert model.num_ids == 702
    report = model.import_report
    assert (len(report.used), report.unused, report.missing, report.conflicting) == (495, [], [], [])
    assert model.gamma["scale2"].item() == 0.25
    assert torch.all(model.head["scale3_part1"].conv.weight == 0.5)


def test_extra_and_missing_tensors():
    tensors = blank()
    tensors["fc.weight"] = torch.zeros(1000, 2048)
    del tensors["conv_all.bn1.num_batches_tracked"]
    report = regard.import_released(tensors, network="mudeep").import_report
    assert report.unused == ["fc.weight"]
    assert report.missing == ["guide.leader.norm.num_batches_tracked"]


def test_options_are_read_off_the_tensors():
    """The authors left a fourth scale in a remark; widths and stripes are numbers in their code."""
    tensors = blank(316)
    tensors = {key: value for key, value in tensors.items() if "_3." not in key or key.startswith("layer")}
    for key, value in list(tensors.items()):
        if "layer4_3" in key:
            tensors[key.replace("layer4_3", "layer4_4")] = value
    tensors["conv_all.conv1.weight"] = torch.zeros(128, 8192, 1, 1)
    tensors["scale1.feature.conv1.weight"] = torch.zeros(256, 2048, 1, 1)
    translation = mudeep(tensors, "a file")
    assert translation.num_ids == 316
    wanted = {"scales": 4, "stripes": 2, "guidance": 128, "feature_dim": 256, "attention": "leader"}
    assert wanted.items() <= translation.options.items()
    assert translation.names["layer4_4.2.bn1.weight"] == "streams.scale4.2.bn1.weight"
    assert translation.names["scale2_1.classifier.fc.bias"] == "classifier.scale2_part0.bias"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: {"block1.fc.weight": torch.zeros(3)},
            r"has no layer4_1\.conv1\.weight \(the first stream\), but block1",
        ),
        (lambda: without("conv_all"), r"has no conv_all\.conv1\.weight \(the leader\)"),
        (lambda: without("scale1.feature"), "the first head"),
        (lambda: without("classifier"), "which tells the number of identities"),
        (lambda: without("atten2.feature1"), r"1 missing \(attention\.scale2\.rows\.weight\)"),
        (lambda: blank() | {"gamma1": torch.zeros(2)}, r"gamma\.scale1 is \(2,\), not \(1,\)"),
    ],
)
def test_wrong_files(make, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        regard.import_released(make(), network="mudeep")
    assert "\n" not in str(caught.value)
