"""What the importer makes of DSP and SA files that are not quite what the authors' code wrote."""

from __future__ import annotations

import pickle
import types
from pathlib import Path
from typing import Any

import named_weights
import numpy as np
import pytest
import torch

import regard
from regard.errors import CheckpointError
from regard.models.importers.released_parts import dsp, sa

UNUSED = ["base.fc.bias", "base.fc.weight", "fusion_conv.weight"]
WIDTHS = {1: 256, 2: 512, 3: 1024}


def blank(num_ids: int = 751) -> dict[str, torch.Tensor]:
    """Tensors of the right names and shapes, told apart by a number."""
    tensors = {}
    for number, (key, shape) in enumerate(named_weights.keys("dsp").items()):
        kind = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        classifier = key.startswith("instance")
        tensors[key] = torch.full([num_ids, *shape[1:]] if classifier else shape, number, dtype=kind)
    return tensors


def attention(gamma: float = 0.0) -> dict[str, torch.Tensor]:
    """The entries of a network that was trained where moving a parameter to the GPU does nothing."""
    values = {"alpha": 1.0, "gamma": gamma, "beta": 0.0}
    return {
        f"GCT{i}.{name}{suffix}": torch.full((1, width, 1, 1), value)
        for i, width in WIDTHS.items()
        for suffix in ("", "_sp")
        for name, value in values.items()
    }


def without(tensors: dict[str, torch.Tensor], *parts: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if not any(part in key for part in parts)}


def test_everything_is_used_and_named():
    tensors = blank(702)
    model = regard.import_released(tensors, network="dsp")
    report = model.import_report
    assert not model.training
    assert (type(model).__name__, model.num_ids, model.embed_dim) == ("DSP", 702, 12_288)
    assert model.options == {
        "mode": "released", "part_conv": "shared", "backbone": "resnet50", "last_stride": 1, "stem_relu": True,
        "head_dim": 256, "dropout": 0.5, "part_classifiers": True, "descriptor": "own", "gate_start": "released",
        "attention_control": "none", "only_level": None, "ibn": None, "mixstyle": None, "mixstyle_p": 0.5,
        "mixstyle_alpha": 0.1,
    }  # fmt: skip
    assert (report.unused, report.missing, report.conflicting) == (UNUSED, [], [])
    assert sorted(report.used + report.unused) == sorted(tensors)
    state = model.state_dict()
    for ours, theirs in {
        "backbone.stages.4.layer4.2.bn3.running_var": "base.layer4.2.bn3.running_var",
        "parts.reductions.0.linear.weight": "local_conv.weight",
        "parts.reductions.0.norm.bias": "feat_bn2d.bias",
        "parts.classifiers.part5.weight": "instance5.weight",
        "parts.classifiers.global.bias": "instance6.bias",
        "supervision.ds2.reduction.weight": "local_conv_layer2.weight",
        "supervision.ds3.classifier.weight": "instance_layer3.weight",
    }.items():
        assert torch.all(state[ours] == tensors[theirs].flatten()[0])


def python_2() -> Any:
    """The pickle module as Python 2's: strings are strings of bytes."""

    class Pickler(pickle._Pickler):
        def save_str(self, text: str) -> None:
            self.write(pickle.SHORT_BINSTRING + bytes([len(text)]) + text.encode("latin-1"))
            self.memoize(text)

        dispatch = {**pickle._Pickler.dispatch, str: save_str}  # noqa: RUF012

    return types.SimpleNamespace(
        __name__="pickle", Pickler=Pickler, dump=lambda value, file, protocol: Pickler(file, protocol).dump(value)
    )


def test_file_of_torch_0_4_and_python_2(tmp_path):
    """SA's: the old format, no counters of batches, strings of bytes; nested as the training script does it."""
    path, tensors = tmp_path / "checkpoint.pth.tar", without(blank(), "num_batches_tracked")
    assert len(tensors) == 296
    content = {"state_dict": tensors, "epoch": 100, "best_top1": 0}
    torch.save(content, path, python_2(), pickle_protocol=2, _use_new_zipfile_serialization=False)
    assert pickle.SHORT_BINSTRING + b"\x09best_top1" in path.read_bytes()
    model = regard.import_released(path, network="sa")
    assert (model.options["mode"], model.options["rescale"]) == ("l1", False)
    assert model.import_report.unused == UNUSED
    assert len(model.import_report.missing) == 54
    assert all(name.endswith("num_batches_tracked") for name in model.import_report.missing)


def test_attention_that_never_learned_is_left_out(tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    tensors = blank() | attention()
    torch.save({"state_dict": {f"module.{key}": value for key, value in tensors.items()}, "epoch": 50}, path)
    model = regard.import_released(path, network="dsp")
    assert model.options["mode"] == "released"
    assert model.import_report.unused == sorted([*attention(), *UNUSED])
    assert not list(model.attention.parameters())


def test_attention_that_learned_is_taken_over():
    model = regard.import_released(blank() | attention(gamma=0.5), network="dsp")
    assert model.options["mode"] == "code"
    assert model.import_report.unused == UNUSED
    for tap in ("tap2", "tap3", "tap4"):
        for gate in (model.attention[tap].channel, model.attention[tap].spatial):
            assert (gate.alpha.mean().item(), gate.gamma.mean().item(), gate.beta.mean().item()) == (1, 0.5, 0)


@pytest.mark.parametrize(("blocks", "backbone"), [((3, 4, 23, 3), "resnet101"), ((3, 8, 36, 3), "resnet152")])
def test_deeper_networks_and_narrower_heads(blocks, backbone):
    tensors = {f"base.layer{s}.{b}.conv3.weight": torch.zeros(1) for s, n in enumerate(blocks, 1) for b in range(n)}
    tensors |= without(blank(), "base.layer") | {"local_conv.weight": torch.zeros(128, 2048, 1, 1)}
    for read in (dsp, sa):
        translation = read(tensors, "file")
        assert (translation.options["backbone"], translation.options["head_dim"]) == (backbone, 128)


@pytest.mark.parametrize(
    ("network", "make", "message"),
    [
        ("dsp", lambda: {"conv1.weight": np.zeros(3)}, r"is not a DSP checkpoint: it has no base\.conv1\.weight"),
        (
            "sa",
            lambda: named_weights.state_dict({"base.conv1.weight": [64, 3, 7, 7]}),
            r"not a SA .* no local_conv\.weight",
        ),
        ("dsp", lambda: without(blank(), "_layer"), r"no local_conv_layer1\.weight .* plain part network"),
        ("dsp", lambda: without(blank(), "instance0"), r"no instance0\.weight .* number of identities"),
        ("sa", lambda: blank() | attention(), "is no SA checkpoint: it holds DSP's attention vectors"),
        ("dsp", lambda: without(blank(), "layer3.5"), "ResNet with 3, 4, 5, 3 bottleneck blocks"),
        ("dsp", lambda: without(blank(), "base.layer2.1.bn2.weight"), r"1 missing \(backbone\.stages\.2\.layer2\.1"),
        ("sa", lambda: without(blank(), "instance3.bias"), r"1 missing \(parts\.classifiers\.part3\.bias"),
        ("sa", lambda: blank() | {"instance4.weight": torch.zeros(702, 256)}, "1 of another shape"),
        ("dsp", lambda: without(blank() | attention(gamma=1.0), "GCT2.alpha_sp"), r"1 missing \(attention\.tap3"),
    ],
)
def test_wrong_files(network, make, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        regard.import_released(make(), network=network)
    assert "\n" not in str(caught.value)


def test_a_pickled_object_is_not_run(tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"state_dict": blank(2), "args": Path("logs")}, path)
    with pytest.raises(CheckpointError, match="holds Python objects, which are not loaded because they could run code"):
        regard.import_released(path, network="sa")
