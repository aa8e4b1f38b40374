"""What the importer makes of files that are not quite what the authors' code wrote."""

from __future__ import annotations

import named_weights
import numpy as np
import pytest
import safetensors.numpy
import torch

import regard
from regard.errors import CheckpointError, ConfigError, UnknownNameError


def blank(level: int) -> dict[str, np.ndarray]:
    """Tensors of the right names and shapes, told apart by a number."""
    return {
        key: np.full(shape, number, dtype=np.int64 if key.endswith("num_batches_tracked") else np.float32)
        for number, (key, shape) in enumerate(named_weights.keys(f"apnet_l{level}").items())
        if not key.startswith(tuple(named_weights.ALIASES))
    }


def with_second_copy(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    second = {
        alias + key.removeprefix(name): value
        for alias, name in named_weights.ALIASES.items()
        for key, value in tensors.items()
        if key.startswith(name)
    }
    return tensors | second


def as_torch(tensors: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in tensors.items()}


@pytest.mark.parametrize("level", [0, 1, 2])
def test_everything_is_detected_and_used(level):
    tensors = with_second_copy(blank(level))
    assert tensors.keys() == named_weights.keys(f"apnet_l{level}").keys()
    model = regard.import_released(tensors)
    report = model.import_report
    assert not model.training
    assert (model.options["level"], model.num_ids, model.embed_dim) == (level, 751, 2048)
    assert (model.options["last_stride"], model.options["stem_relu"]) == (1, False)
    assert (sorted(report.used), report.unused, report.missing, report.conflicting) == (sorted(tensors), [], [], [])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_file_formats(tmp_path, suffix):
    path, tensors = tmp_path / f"resnet50_checkpoint_100{suffix}", blank(1)
    if suffix == ".safetensors":
        safetensors.numpy.save_file(tensors, path)
    elif suffix == ".pt":
        torch.save({"model": as_torch(tensors), "optimizer": {"state": {}, "param_groups": [{"lr": 4e-4}]}}, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in as_torch(tensors).items()}, "epoch": 160}, path)
    model = regard.import_released(path)
    assert model.options["level"] == 1
    assert torch.all(model.neck.weight == float(tensors["bottleneck.weight"][0]))
    assert str(path) in str(model.import_report)


def test_other_identities_extra_and_missing_tensors():
    tensors = blank(2)
    tensors["classifier.weight"] = np.zeros((702, 2048), dtype=np.float32)
    tensors["base.fc.weight"] = np.zeros((1000, 2048), dtype=np.float32)
    del tensors["BN5.bottleneck2.num_batches_tracked"]
    model = regard.import_released(tensors)
    assert model.num_ids == 702
    assert model.import_report.unused == ["base.fc.weight"]
    assert model.import_report.missing == ["attention.tap5.levels.level2.norm.num_batches_tracked"]


def test_second_copy_that_differs_wins_with_a_warning():
    tensors = with_second_copy(blank(0))
    tensors["base_5.0.2.conv3.weight"] = np.full((2048, 512, 1, 1), -1, dtype=np.float32)
    with pytest.warns(UserWarning, match="1 tensors are stored twice and differ"):
        model = regard.import_released(tensors)
    assert torch.all(model.backbone.stages[4].layer4[2].conv3.weight == -1)
    assert model.import_report.conflicting == ["base_5.0.2.conv3.weight"]


def test_only_the_second_copy():
    tensors = with_second_copy(blank(0))
    second = {key: value for key, value in tensors.items() if not key.startswith("base.")}
    model = regard.import_released(second)
    assert torch.all(model.backbone.stages[0].conv1.weight == float(tensors["base.conv1.weight"].flat[0]))


def level_three() -> dict[str, np.ndarray]:
    tensors = blank(2)
    for key, value in blank(2).items():
        if key.startswith("att_s"):
            tensors[key.replace("att_s", "att_ss")] = value
        if key.startswith("BN"):
            tensors[key.replace("BN", "BN_")] = value
    return tensors


def without(tensors: dict[str, np.ndarray], *keys: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in tensors.items() if key not in keys}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {"features.0.weight": np.zeros(3)}, "is not an APNet checkpoint: it has no base.conv1.weight"),
        (lambda: {"epoch": 3}, "holds no named tensors"),
        (lambda: {"model": {"a": "b"}}, "holds no named tensors"),
        (lambda: without(blank(1), "classifier.weight"), r"has no classifier\.weight"),
        (lambda: without(blank(1), "att3.fc.0.weight"), r"1 missing \(attention\.tap3\.levels\.level1"),
        (lambda: without(blank(2), "att1.fc.0.weight"), r"1 missing \(attention\.tap1\.levels\.level1"),
        (lambda: blank(0) | {"base.layer3.6.conv1.weight": np.zeros((256, 1024, 1, 1))}, "1 unexpected"),
        (lambda: blank(0) | {"base.conv1.weight": np.zeros((64, 3, 3, 3))}, "1 of another shape"),
        (lambda: blank(0) | {"att1.conv.weight": np.zeros((1, 1, 3))}, "looks like a checkpoint of msea, not of apnet"),
        (
            lambda: blank(0) | {"att1.fc1.weight": np.zeros((32, 32, 1, 1))},
            "looks like a checkpoint of msea, not of apnet",
        ),
        (level_three, "does not split level 3 into 4 groups"),
    ],
)
def test_wrong_files(make, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        regard.import_released(make())
    assert "\n" not in str(caught.value)


def test_unknown_network():
    with pytest.raises(UnknownNameError, match="unknown released network 'apnett', did you mean 'apnet'"):
        regard.import_released({}, network="apnett")


def test_damaged_files(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(CheckpointError, match="no file"):
        regard.import_released(path)
    torch.save(as_torch(blank(0)), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged"):
        regard.import_released(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt (is damaged|holds Python objects)") as caught:
        regard.import_released(path)
    assert "\n" not in str(caught.value)


class Network(torch.nn.Module):
    pass


def test_a_pickled_module_is_not_run(tmp_path):
    torch.save({"model": Network()}, tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="holds Python objects, which are not loaded because they could run code"):
        regard.import_released(tmp_path / "module.pth")


def test_what_the_tensors_do_not_tell():
    model = regard.import_released(blank(0), descriptor="logits")
    assert (model.embed_dim, model.options["descriptor"]) == (751, "logits")
    with pytest.raises(ConfigError, match="did you mean 'descriptor'"):
        regard.import_released(blank(0), descripter="logits")
