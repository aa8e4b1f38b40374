"""``regard import`` on files as the authors' training scripts wrote them: detection, report, refusal, round trip."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch

import regard
from regard.cli.main import main
from regard.errors import CheckpointError
from regard.evaluation.evaluate import evaluate_on
from regard.evaluation.run import open_run
from regard.export.exporting import describe
from regard.gallery.embedder import Embedder
from regard.models.folder import saved_input

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("parity", "models")]

import mindspore_bytes
import named_weights
import rga_twin
import test_parity_daaf

pytestmark = pytest.mark.slow

IDS = 23
CLASSIFIERS = ("classifier.", "instance", ".classifier.fc.")
EXTRAS = {"dsp": ["base.fc.bias", "base.fc.weight", "fusion_conv.weight"]}
EXTRAS["sa"] = EXTRAS["dsp"]


def released(keys: dict[str, list[int]]) -> OrderedDict[str, torch.Tensor]:
    """Small weights by name: copies of a tensor under a second name are alike, as they were in the authors' files."""
    tensors = OrderedDict()
    for key, shape in keys.items():
        if any(part in key for part in CLASSIFIERS):
            shape = [IDS, *shape[1:]]
        name = named_weights.canonical(key)
        if key.endswith("num_batches_tracked"):
            tensors[key] = torch.tensor(7)
        elif name != key and name in tensors:
            tensors[key] = tensors[name].clone()
        else:
            tensors[key] = torch.empty(shape).uniform_(-0.05, 0.05)
            if key.endswith("running_var") or (len(shape) == 1 and key.endswith("weight")):
                tensors[key] += 1
    return tensors


def write(network: str, folder: Path) -> tuple[Path, OrderedDict[str, torch.Tensor]]:
    """A file of one network in the container of its authors, and what is in it."""
    torch.manual_seed(0)
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 4e-4, "params": [0]}]}
    if network in ("apnet", "msea"):
        tensors = released(named_weights.keys("apnet_l2" if network == "apnet" else "msea2023_l2"))
        path = folder / "resnet50_checkpoint_93600.pt"
        torch.save({"model": tensors, "optimizer": optimizer, "trainer": OrderedDict(iteration=93600)}, path)
    elif network == "mudeep":
        tensors = released(named_weights.keys("mudeep_v2"))
        path = folder / "market_160.pkl"
        prefixed = OrderedDict((f"module.{key}", value) for key, value in tensors.items())
        torch.save({"epoch": 160, "state_dict": prefixed, "optimizer": optimizer}, path)
    elif network == "daaf":
        tensors = released({key: list(value.shape) for key, value in test_parity_daaf.tensors().items()})
        path = folder / "resnet50_model_120.pth"
        torch.save(tensors, path)
    elif network == "rga":
        tensors = released(rga_twin.shapes(256, 128, ("spatial", "channel"), IDS))
        path = folder / "checkpoint_600.pth.tar"
        torch.save({"state_dict": tensors, "epoch": 600, "best_top1": 0, "optimizer": optimizer}, path)
    else:
        tensors = released(named_weights.keys(network))
        if network == "sa":
            tensors = OrderedDict((k, v) for k, v in tensors.items() if not k.endswith("num_batches_tracked"))
        path = folder / "checkpoint.pth.tar"
        torch.save({"state_dict": tensors, "epoch": 50, "best_top1": 0}, path)
    return path, tensors


DETECTED = {
    "apnet": {"level": 2, "agent": "se", "se_hidden": 8, "stem_relu": False},
    "msea": {"level": 2, "preset": "2023", "kernel": 3, "stem_relu": False},
    "mudeep": {"scales": 3, "stripes": 3, "guidance": 512, "feature_dim": 512},
    "dsp": {"mode": "released", "head_dim": 256, "part_conv": "shared"},
    "sa": {"mode": "l1", "rescale": False},
    "daaf": {"preset": "bot", "hab": True, "pab": True, "hab_tap": "layer1_copy", "group_width": 340, "decoder": "2x2"},
    "rga": {"level": 1, "agent": "rga_sc", "height": 256, "width": 128, "stem_relu": True},
}


SEEN = {
    "apnet": "384 x 192, bilinear",
    "msea": "384 x 192, bilinear",
    "mudeep": "384 x 192, bicubic",
    "dsp": "384 x 128, bilinear",
    "sa": "384 x 128, bilinear",
    "daaf": "256 x 128, bilinear",
    "rga": "256 x 128, bilinear",
}
MIRRORED = ("apnet", "msea", "mudeep")


@pytest.mark.parametrize("network", DETECTED)
def test_a_released_resnet50_becomes_a_folder(network, tmp_path, capsys):
    path, tensors = write(network, tmp_path)
    assert main(["import", str(path), "--network", network, "-o", str(tmp_path / "model")]) == 0
    lines = capsys.readouterr().out.splitlines()
    model = regard.load(tmp_path / "model")
    assert model.num_ids == IDS
    assert DETECTED[network].items() <= model.options.items()
    assert lines[0].startswith(f"{network} of {IDS} identities: ")
    assert all(f"{name}={value}" in lines[0] for name, value in DETECTED[network].items())
    assert [line for line in lines if line.startswith("  unused")] == [
        f"  unused: {key}" for key in EXTRAS.get(network, [])
    ]
    missing = [line.removeprefix("  missing: ") for line in lines if line.startswith("  missing")]
    counters = [key for key in model.state_dict() if key.endswith("num_batches_tracked")]
    assert missing == (counters if network == "sa" else [])
    assert f"{len(tensors) - len(EXTRAS.get(network, []))} used" in lines[1]
    assert f"input {SEEN[network]} (--size" in lines[-2]
    assert model.input is not None
    assert (str(model.input), model.input.flip) == (SEEN[network], network in MIRRORED)
    assert saved_input(tmp_path / "model") == model.input
    assert model.imported == network
    images = torch.randn(2, 3, *((256, 128) if network == "rga" else (96, 64)))
    direct = regard.import_released(tensors, network=network)
    assert torch.equal(model.embed(images), direct.embed(images))
    assert all(torch.equal(value, direct.state_dict()[key]) for key, value in model.state_dict().items())


def test_the_size_of_an_imported_network_holds_for_all_that_is_done_with_it(tmp_path, market):
    """A MuDeep of 384 x 128 pictures, bicubic; smaller here. Once every verb guessed a size of its own."""
    path, _ = write("mudeep", tmp_path)
    folder = tmp_path / "model"
    assert main(["import", str(path), "--network", "mudeep", "-o", str(folder), "--size", "96x32"]) == 0
    config = open_run(folder, "market1501", market).config
    assert (config.data.height, config.data.width, config.data.interpolation) == (96, 32, "bicubic")
    assert open_run(folder, "market1501", market, size=(64, 32)).input.size == (64, 32)
    embedder = Embedder(folder)
    assert str(embedder.seen) == "96 x 32, bicubic"
    assert open_run(folder).input == embedder.seen
    _, card = describe(folder)
    assert (card.height, card.width, card.interpolation) == (96, 32, "bicubic")
    score = evaluate_on(folder, ["market1501"], market, {"flip": False}, quiet=True)[0]
    assert score.report.options["size"] == "96 x 32"
    assert score.report.options["resize"] == "bicubic"
    copy = tmp_path / "elsewhere" / "copied"
    regard.load(folder).save(copy)
    assert str(saved_input(copy)) == "96 x 32, bicubic"
    described = json.loads((copy / "config.json").read_text())
    for height, message in ((128, "is not as it was written"), (0, "the input's height is 0")):
        described["input"]["height"] = height
        (copy / "config.json").write_text(json.dumps(described))
        with pytest.raises(CheckpointError, match=message):
            regard.load(copy)


def test_what_the_file_does_not_tell_is_set(tmp_path, capsys):
    tensors = released(
        {k: s for k, s in named_weights.keys("apnet_l0").items() if not k.startswith(tuple(named_weights.ALIASES))}
    )
    torch.save({"model": tensors | {"base.fc.weight": torch.zeros(1000, 2048)}}, tmp_path / "file.pt")
    arguments = ["import", str(tmp_path / "file.pt"), "--network", "apnet", "-o", str(tmp_path / "model")]
    assert main([*arguments, "--set", "descriptor=logits"]) == 0
    assert "  unused: base.fc.weight" in capsys.readouterr().out
    assert regard.load(tmp_path / "model").embed_dim == IDS
    for wrong, message in (("descriptor", "wants OPTION=VALUE"), ("descripter=1", "did you mean 'descriptor'")):
        assert main([*arguments, "--set", wrong]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


MARKS = {
    "apnet": "att1.fc.0.weight",
    "msea": "att1.conv.weight",
    "mudeep": "conv_all.conv1.weight",
    "dsp or sa": "local_conv_layer1.weight",
    "daaf or daaf-mindspore": "trans_conv_m0.weight",
    "rga": "backbone.rga_att1.gx_channel.0.weight",
}


@pytest.mark.parametrize("asked", ["apnet", "msea", "mudeep", "dsp", "sa", "daaf", "rga"])
@pytest.mark.parametrize("owner", MARKS)
def test_a_file_of_another_network_is_called_by_its_name(owner, asked, tmp_path, capsys):
    if asked in owner.split(" or "):
        return
    path = tmp_path / "file.pt"
    torch.save({"base.conv1.weight": torch.zeros(64, 3, 7, 7), MARKS[owner]: torch.zeros(3)}, path)
    assert main(["import", str(path), "--network", asked, "-o", str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert f"file.pt looks like a checkpoint of {owner}, not of {asked}: it has {MARKS[owner]}" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "model").exists()


def test_our_own_model_is_no_released_one(tmp_path, capsys):
    regard.create_model("baseline", 3, backbone="test_resnet.r160_in1k").save(tmp_path / "model")
    file = str(tmp_path / "model" / "model.safetensors")
    assert main(["import", file, "--network", "apnet", "-o", str(tmp_path / "again")]) == 2
    assert "a model that regard saved" in capsys.readouterr().err


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": Payload()}, "evil.pkl")
    for network in DETECTED:
        assert main(["import", "evil.pkl", "--network", network, "-o", "model"]) == 2
        assert "holds Python objects, which are not loaded because they could run code" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pkl"]


def test_a_resnet_of_mindspore_becomes_a_folder(tmp_path, capsys):
    weights = timm.create_model("resnet18", num_classes=IDS).state_dict()
    tensors = mindspore_bytes.mindspore_names(weights, "down_sample_layer", "end_point")
    content = mindspore_bytes.written(tensors | {"learning_rate": torch.tensor(0.1)})
    (tmp_path / "resnet18.ckpt").write_bytes(mindspore_bytes.checked(content))
    arguments = ["import", str(tmp_path / "resnet18.ckpt"), "--network", "resnet", "-o", str(tmp_path / "model")]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"resnet of {IDS} identities: backbone=resnet18, last_stride=2, stem_relu=True, ibn=None, "
    )
    assert [line for line in lines if line.startswith("  unused")] == [
        "  unused: end_point.bias",
        "  unused: learning_rate",
    ]
    assert "  missing: neck.weight" in lines
    images = torch.randn(2, 3, 96, 64)
    network = timm.create_model("resnet18", num_classes=0).eval()
    network.load_state_dict({key: value for key, value in weights.items() if not key.startswith("fc.")})
    model = regard.load(tmp_path / "model")
    with torch.no_grad():
        torch.testing.assert_close(model(images).features["global"], network(images))
        torch.testing.assert_close(model.embed(images), network(images), rtol=1e-4, atol=1e-4)
    (tmp_path / "resnet18.ckpt").write_bytes(content[:-9])
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "resnet18.ckpt is no MindSpore checkpoint that can be read: " in error
    assert len(error.splitlines()) == 1
