from __future__ import annotations

import json
import resource
import signal
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch

import regard
from regard.errors import CheckpointError, ConfigError, RegardWarning, StorageError
from regard.models.build import from_config
from regard.models.contract import ReIDModel
from regard.models.importers.tensor_file import as_tensors
from regard.models.saved import load_weights, model_config, serialize, weights_digest
from regard.storage import write_atomic, write_together

TINY = "test_resnet.r160_in1k"


@pytest.fixture
def model() -> ReIDModel:
    return regard.create_model("apnet", 5, backbone=TINY, level=1)


@pytest.fixture
def saved(model, tmp_path) -> Path:
    model.save(tmp_path / "model")
    return tmp_path / "model"


@contextmanager
def full_disk():
    """No file may grow beyond 64 KB, which the system tells a writer much as it tells of a full disk.

    Only as long as that: what the tests print may go to a longer file.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_config_holds_what_to_build(model):
    config = json.loads(json.dumps(model_config(model)))
    assert config == {
        "model": "apnet",
        "num_ids": 5,
        "options": model.options,
        "stripped": False,
        "regard": regard.__version__,
    }
    twin = from_config(config)
    assert list(twin.state_dict()) == list(model.state_dict())
    assert from_config({**config, "stripped": True}).classifier is None


def test_an_unregistered_model_cannot_be_described():
    class Own(ReIDModel):
        def __init__(self):
            super().__init__(num_ids=1, embed_dim=1)

    with pytest.raises(ConfigError, match="Own is not a registered model"):
        model_config(Own())


def test_load_from_a_training_run(saved, tmp_path):
    (tmp_path / "run").mkdir()
    saved.rename(tmp_path / "run" / "best")
    assert regard.load(tmp_path / "run").num_ids == 5
    assert regard.load(str(tmp_path / "run")).num_ids == 5


def test_pretrained_file_is_not_needed_again(tmp_path):
    donor = regard.create_model("baseline", 5, backbone=TINY).backbone
    weights = {key.split(".", 2)[2]: value for key, value in donor.state_dict().items()}
    torch.save(weights, tmp_path / "weights.pth")
    model = regard.create_model("baseline", 5, pretrained=tmp_path / "weights.pth", backbone=TINY, stem_relu=True)
    model.save(tmp_path / "model")
    (tmp_path / "weights.pth").unlink()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(regard.load(tmp_path / "model").embed(images), model.embed(images))


def test_tensors_that_share_memory(model):
    model.twin = model.neck
    model.part = torch.nn.Buffer(model.classifier.weight.detach()[2:])
    tensors = safetensors.torch.load(serialize(model))
    assert tensors.keys() == model.state_dict().keys()
    assert torch.equal(tensors["twin.weight"], model.neck.weight)
    assert torch.equal(tensors["part"], model.classifier.weight[2:])
    load_weights(model, tensors, "the bytes")


def test_channels_last_weights(model, tmp_path):
    model.to(memory_format=torch.channels_last).save(tmp_path)
    loaded = regard.load(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"no model\.safetensors in .*give a folder") as caught:
        regard.load(tmp_path / "nowhere")
    one_line(caught)


def test_description_is_missing(saved):
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing") as caught:
        regard.load(saved)
    one_line(caught)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1, 2]", b"3", b'{"model": "apnet"}', b'{"options": 1}'])
def test_description_is_damaged(saved, content):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        regard.load(saved)
    one_line(caught)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "apnat"}, "unknown model 'apnat', did you mean 'apnet'"),
        ({"options": {"levle": 1}}, "has no option 'levle'"),
        ({"num_ids": "five"}, "cannot build"),
        ({"options": {"backbone": "resnet18", "level": 1}}, "holds another architecture"),
        ({"options": {"backbone": TINY, "level": 2}}, r"missing \(attention\.tap1\.levels\.level2"),
        ({"num_ids": 6}, r"classifier\.weight is \(5, 96\), not \(6, 96\)"),
        ({"stripped": True}, r"1 unexpected \(classifier\.weight\)"),
    ],
)
def test_description_of_something_else(saved, change, message):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=message) as caught:
        regard.load(saved)
    assert len(one_line(caught)) < 600


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"\x00" * 4096])
def test_weights_are_damaged(saved, content):
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged") as caught:
        regard.load(saved)
    one_line(caught)


def test_weights_are_cut_short(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        regard.load(saved)


def test_misfit_changes_nothing(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tensors = {name: value + 1 for name, value in before.items()}
    del tensors["neck.weight"]
    with pytest.raises(CheckpointError, match=r"some file does not fit: .* 1 missing \(neck\.weight\)"):
        load_weights(model, tensors, "some file")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def saved_again(folder: Path, name: str, tensors: dict, metadata: dict[str, str] | None = None) -> Path:
    """The weights in another file, its tensors in the order they are given."""
    again = folder.with_name(name)
    again.mkdir()
    (again / "config.json").write_bytes((folder / "config.json").read_bytes())
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for key, value in tensors.items():
        part = safetensors.torch.save({"x": value})
        start = 8 + int.from_bytes(part[:8], "little")
        entry = json.loads(part[8:start])["x"]
        header[key] = {**entry, "data_offsets": [len(data), len(data) + len(part) - start]}
        data += part[start:]
    text = json.dumps(header, indent=len(tensors) % 3).encode()
    (again / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return again


def test_the_same_weights_have_one_digest_however_they_are_saved(saved):
    model = regard.load(saved)
    tensors = dict(model.state_dict())
    digest = weights_digest(saved)
    assert weights_digest(model) == digest
    turned = saved_again(saved, "turned", dict(reversed(tensors.items())), {"epoch": "7", "format": "pt"})
    assert (turned / "model.safetensors").read_bytes() != (saved / "model.safetensors").read_bytes()
    wide = saved_again(saved, "wide", {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()})
    half = saved_again(saved, "half", {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()})
    assert weights_digest(turned) == weights_digest(wide) == digest == weights_digest(regard.load(wide))
    assert weights_digest(half) == weights_digest(regard.load(half)) != digest
    model.strip().save(saved.with_name("stripped"))
    assert weights_digest(saved.with_name("stripped")) == weights_digest(model) == digest
    changed = tensors | {"neck.weight": tensors["neck.weight"].clone()}
    changed["neck.weight"][3] += 1e-6
    assert weights_digest(saved_again(saved, "changed", changed)) != digest
    swapped = tensors | {"neck.weight": tensors["neck.bias"], "neck.bias": tensors["neck.weight"]}
    assert weights_digest(saved_again(saved, "swapped", swapped)) != digest


def test_scores_that_are_the_descriptor_keep_their_classifier_in_the_digest():
    model = regard.create_model("apnet", 5, backbone=TINY, level=1, descriptor="logits")
    before = weights_digest(model)
    assert weights_digest(model.strip()) == before
    assert model.classifier is not None
    torch.nn.init.zeros_(model.classifier.weight)
    assert weights_digest(model) != before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cast", "message"),
    [
        (lambda t: t.long(), r"another kind .*\(neck\.weight is int64, not float32\)"),
        (lambda t: t.bool(), "neck.weight is bool, not float32"),
        (lambda t: t.to(torch.complex64), "neck.weight is complex64, not float32"),
        (lambda t: t.to_sparse(), "neck.weight is float32, sparse, not float32"),
        (lambda t: t.fill_(float("nan")), r"holds NaN or infinity in 96 of 96 numbers of neck\.weight"),
        (lambda t: t.double() * 1e300 + 1e300, r"holds NaN or infinity in .* of neck\.weight"),
    ],
)
def test_weights_of_another_kind_or_not_finite_are_refused(model, cast, message):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = {name: value + 1 for name, value in before.items()} | {"neck.weight": cast(before["neck.weight"].clone())}
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(model, wrong, "some file")
    one_line(caught)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    counter = next(name for name in before if name.endswith("num_batches_tracked"))
    with pytest.raises(CheckpointError, match="is float32, not int64"):
        load_weights(model, before | {counter: torch.tensor(1.5)}, "some file")
    load_weights(model, before | {counter: torch.tensor(7.0)}, "some file")
    assert model.state_dict()[counter] == 7


def test_double_precision_is_rounded_and_said_so_where_it_counts(model):
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    load_weights(model, tensors | {"neck.weight": tensors["neck.weight"].double()}, "exact")
    with pytest.warns(RegardWarning, match=r"odd: 1 tensors are rounded from float64 to float32, .*neck\.weight"):
        load_weights(model, tensors | {"neck.weight": torch.full((96,), 0.1, dtype=torch.float64)}, "odd")


def test_a_description_that_was_changed_is_not_used(saved):
    path = saved / "config.json"
    config = json.loads(path.read_text())
    changed = config | {"options": config["options"] | {"last_stride": 3 - config["options"]["last_stride"]}}
    path.write_text(json.dumps(changed))
    with pytest.raises(CheckpointError, match=r"config\.json is not as it was written") as caught:
        regard.load(saved)
    one_line(caught)
    path.write_text(json.dumps({key: value for key, value in changed.items() if key != "digest"}))
    assert regard.load(saved).options["last_stride"] == changed["options"]["last_stride"]


def test_a_name_with_and_without_prefix_is_refused():
    with pytest.raises(CheckpointError, match=r"holds a twice, with and without 'module\.'"):
        as_tensors({"a": torch.zeros(1), "module.a": torch.ones(1)}, "some file")


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [(torch.eye(2).to_sparse(), "sparse"), (torch.zeros(2, device="meta"), r"empty \(meta\)")],
    ids=["sparse", "meta"],
)
def test_a_tensor_without_all_its_numbers_is_refused(tensor, kind):
    with pytest.raises(CheckpointError, match=rf"some file holds a as a tensor that is {kind}, wanted all its numbers"):
        as_tensors({"a": tensor}, "some file")


def test_full_disk_keeps_the_previous_model(saved):
    before = {path: path.read_bytes() for path in saved.iterdir()}
    other = regard.create_model("baseline", 9, backbone=TINY)
    words = r"could not write .*model\.safetensors: File too large; the previous"
    with pytest.raises(StorageError, match=words) as e, full_disk():
        other.save(saved)
    one_line(e)
    assert {path: path.read_bytes() for path in saved.iterdir()} == before


def test_a_file_in_the_way(model, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="could not write"):
        model.save(tmp_path / "file" / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_write_atomic(tmp_path):
    path = tmp_path / "new" / "file.bin"
    write_atomic(path, b"one")
    write_atomic(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    (tmp_path / "plain").write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_write_together_is_all_or_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(StorageError), full_disk():
        write_together({tmp_path / "a": b"new", tmp_path / "b": bytes(100_000)})
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
