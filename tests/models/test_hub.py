"""Models on a hub: uploaded and fetched by huggingface_hub's own client, from a server on this machine."""

from __future__ import annotations

import json
import sys

import huggingface_hub
import pytest
import torch
import yaml
from hub_server import TOKEN, served

import regard
from regard.cli.main import main
from regard.errors import CheckpointError, ConfigError, PluginError, RegardError, RegardWarning, StorageError
from regard.models.folder import description_digest
from regard.models.model_card import is_ours

NAME = "some-lab/tiny"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # the client's own, of its uploads
]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with served() as one:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", one.url)
        template = f"{one.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield one


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model and the files of its folder."""
    model = regard.create_model("baseline", num_ids=5, backbone="test_resnet.r160_in1k").eval()
    model.input = regard.InputSpec(64, 32)
    model.origin = {"source": "some/where", "licence": "MIT"}
    model.save(folder := tmp_path_factory.mktemp("saved"))
    return model, {path.name: path.read_bytes() for path in folder.iterdir()}


def described(files, **changes):
    """The files with another description, whose digest is right."""
    config = json.loads(files["config.json"]) | changes
    config["digest"] = description_digest(config)
    return files | {"config.json": json.dumps(config).encode()}


def head(card):
    return yaml.safe_load(card.decode().split("---\n")[1])


def test_what_is_pushed_comes_back_whole(hub, saved):
    model, files = saved
    address = model.push_to_hub(NAME, license="apache-2.0", private=True)
    assert address.startswith(f"{hub.url}/{NAME}/commit/")
    there = hub.files(NAME)
    assert {*there} == {".gitattributes", "model.safetensors", "config.json", "README.md"}
    assert len(there["model.safetensors"]) == len(files["model.safetensors"])
    assert there["config.json"] == files["config.json"]
    back = regard.load(f"hf-hub:{NAME}")
    images = torch.rand(2, 3, 64, 32)
    assert torch.equal(back.embed(images), model.embed(images))
    assert (back.origin, back.input, back.training) == (model.origin, model.input, False)
    assert not any(".gitattributes" in line or "README" in line for line in hub.asked if line.startswith("GET /some"))


def test_a_revision_is_the_one_that_is_asked_for_and_the_cache_answers_when_nobody_does(hub, saved, monkeypatch):
    model, files = saved
    old = hub.put(NAME, described(files, num_ids=5))
    model.push_to_hub(NAME)
    hub.put(NAME, described(files, origin={"source": "branch", "licence": "none"}), "next")
    assert regard.from_hub(NAME, revision="next").origin == {"source": "branch", "licence": "none"}
    assert regard.load(f"hf-hub:{NAME}@next").origin == {"source": "branch", "licence": "none"}
    assert regard.load(f"hf-hub:{NAME}@{old}").num_ids == 5
    assert regard.from_hub(NAME, revision="main").origin == model.origin
    with pytest.raises(CheckpointError, match="no such revision"):
        regard.from_hub(NAME, revision="never")
    asked = len(hub.asked)
    assert regard.from_hub(NAME, local_files_only=True).origin == model.origin
    assert len(hub.asked) == asked
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert regard.from_hub(NAME).origin == model.origin
    with pytest.raises(CheckpointError, match=r"cannot be reached, and it is not in the cache .* look after"):
        regard.from_hub("some-lab/other")
    with pytest.raises(CheckpointError, match="not in the cache here, and nobody was asked"):
        regard.from_hub("some-lab/other", local_files_only=True)


def test_a_card_by_hand_is_kept_and_one_of_ours_is_renewed(hub, saved):
    model, files = saved
    hub.put(NAME, files | {"README.md": b"# By hand\n", "calibration.json": b"{}"})
    with pytest.warns(RegardWarning, match="kept; overwrite_card=True"):
        model.push_to_hub(NAME)
    assert hub.files(NAME)["README.md"] == b"# By hand\n"
    assert "calibration.json" not in hub.files(NAME)  # it was of other weights
    model.push_to_hub(NAME, overwrite_card=True)
    first = hub.files(NAME)["README.md"]
    assert is_ours(first.decode())
    model.push_to_hub(NAME, license="mit")  # ours, as we wrote it: no warning
    assert head(hub.files(NAME)["README.md"])["license"] == "mit"
    hub.put(NAME, hub.files(NAME) | {"README.md": first.replace(b"tiny", b"mine")})
    with pytest.warns(RegardWarning, match="kept"):
        model.push_to_hub(NAME)
    model.push_to_hub(NAME, revision="trial", overwrite_card=True)
    assert b"# tiny" in hub.files(NAME, "trial")["README.md"]
    assert b"# mine" in hub.files(NAME)["README.md"]


def test_the_card_says_what_the_model_knows(hub, saved):
    model, _ = saved
    model.push_to_hub(NAME)
    card = hub.files(NAME)["README.md"]
    told = head(card)
    assert told["library_name"] == "regard"
    assert told["pipeline_tag"] == "image-feature-extraction"
    assert told["license"] == "unknown"
    assert {"regard", "person-re-identification", "baseline"} <= set(told["tags"])
    text = card.decode()
    for words in (f'regard.from_hub("{NAME}")', "64 x 32", "some/where; licence: MIT", "no identification",
                  "Not calibrated", "uploaded without its run"):  # fmt: skip
        assert words in text
    assert huggingface_hub.ModelCard(text).data.library_name == "regard"


@pytest.mark.parametrize(
    ("name", "said"),
    [("no slash", "wanted OWNER/NAME"), ("../x", "wanted OWNER/NAME"), ("a/b/c", "wanted OWNER/NAME"), (3, "OWNER")],
)
def test_what_is_no_name_is_not_asked_for(hub, saved, name, said):
    for act in (regard.from_hub, saved[0].push_to_hub):
        with pytest.raises(ConfigError, match=said):
            act(name)
    assert hub.asked == []


def test_what_goes_wrong_is_one_line(hub, saved, monkeypatch):
    model, files = saved
    with pytest.raises(CheckpointError, match="look after its name"):
        regard.from_hub("some-lab/missing")
    with pytest.raises(StorageError, match="log in with one that may"):
        model.push_to_hub(NAME, token="hf_wrong")
    with pytest.raises(ConfigError, match="names no revision"):
        regard.load(f"hf-hub:{NAME}@")
    with pytest.raises(CheckpointError, match="on a hub, wanted a folder; fetch it: regard import"):
        regard.open_run(f"hf-hub:{NAME}")
    with pytest.raises(ConfigError, match=r"regard.open_run\(FOLDER\)"):
        model.push_to_hub(NAME, run="runs/tiny")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(ConfigError, match="no token to write"):
        model.push_to_hub(NAME)
    hub.put(NAME, files)
    with pytest.raises(CheckpointError, match="cannot be reached") as caught:
        regard.from_hub("some-lab/other", endpoint="http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_what_is_no_model_of_regard_is_not_fetched(hub, saved):
    _, files = saved
    hub.put(NAME, {"pytorch_model.bin": b"\x80\x04.", "config.json": b"{}"})
    with pytest.raises(CheckpointError, match=r"no model of regard .*pytorch_model.bin is not read, since it could"):
        regard.from_hub(NAME)
    hub.put(NAME, files)
    hub.sizes["config.json"] = 1 << 40
    with pytest.raises(CheckpointError, match="none of a model has more than"):
        regard.from_hub(NAME)
    hub.sizes = {"model.safetensors": 1 << 50}
    with pytest.raises(CheckpointError, match=r"model.safetensors of .* bytes"):
        regard.from_hub(NAME)
    assert not any("resolve" in line for line in hub.asked)
    hub.sizes = {"config.json": 10}
    hub.put(NAME, files | {"config.json": b" " * (2 << 20)})
    with pytest.raises(CheckpointError, match="none of a model has more than"):
        regard.from_hub(NAME)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_ids": 10**9}, "more than its weights can fill"),
        ({"model": "../../etc"}, "cannot build"),
        ({"model": "baseline\x1b[31m"}, "cannot build"),
        ({"options": {"backbone": "hf-hub:evil/weights"}}, "cannot build"),
        ({"options": [1]}, "does not describe"),
        ({"origin": 3}, "wanted a source and its licence"),
        ({"input": {"height": -1, "width": 2, "interpolation": "bilinear"}}, "damaged"),
        ({"num_ids": 6}, "of another shape"),
    ],
)
def test_a_hostile_description_is_refused(hub, saved, changes, said):
    hub.put(NAME, described(saved[1], **changes))
    with pytest.raises(RegardError, match=said):
        regard.from_hub(NAME)


def test_weights_that_are_pickled_are_not_read(hub, saved, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickled")
    hub.put(NAME, saved[1] | {"model.safetensors": (tmp_path / "pickled").read_bytes()})
    with pytest.raises(CheckpointError, match="damaged or not"):
        regard.from_hub(NAME)


PLUGIN = """
from pathlib import Path
Path(__file__).with_suffix(".ran").touch()
from regard.models.baseline import Baseline
from regard.registry import MODELS

@MODELS.register("{name}")
class Own(Baseline):
    pass
"""


def test_a_plug_in_is_not_imported_at_a_strangers_word(hub, saved, tmp_path, monkeypatch):
    evil = tmp_path / "evil_plugin.py"
    evil.write_text(PLUGIN.format(name="evil"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for plugin in (str(evil), "evil_plugin", f"evil_plugin@{evil}", "antigravity"):
        for name in ("baseline", "evil"):
            hub.put(NAME, described(saved[1], plugin=plugin, model=name))
            with pytest.raises(PluginError, match="not imported at a stranger's word"):
                regard.from_hub(NAME)
    assert not evil.with_suffix(".ran").exists()
    assert "antigravity" not in sys.modules


def test_a_plug_in_that_was_given_here_is_taken_and_its_place_is_not_told(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("regard.plugins._given", {})
    own = tmp_path / "own_of_hub.py"
    own.write_text(PLUGIN.format(name="own_of_hub"), encoding="utf-8")
    regard.plugins.load_plugins([str(own)])
    model = regard.create_model("own_of_hub", num_ids=5, backbone="test_resnet.r160_in1k")
    model.push_to_hub(NAME)
    there = hub.files(NAME)
    assert json.loads(there["config.json"])["plugin"] == "own_of_hub.py"
    assert not any(str(tmp_path).encode() in content for content in there.values())
    assert b"It is of a plug-in" in there["README.md"]
    assert type(regard.from_hub(NAME)).__name__ == "Own"


def test_on_the_command_line(hub, saved, tmp_path, capsys):
    model, files = saved
    for name, content in files.items():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_bytes(content)
    assert main(["export", str(tmp_path / "model"), "--to", f"hf-hub:{NAME}", "--license", "mit"]) == 0
    assert f"uploaded to {hub.url}/{NAME}/commit/" in capsys.readouterr().out
    assert head(hub.files(NAME)["README.md"])["license"] == "mit"
    assert main(["import", f"hf-hub:{NAME}", "-o", str(tmp_path / "back")]) == 0
    assert "some/where, licence: MIT" in capsys.readouterr().out
    assert regard.load(tmp_path / "back").origin == model.origin
    for line in (
        ["export", str(tmp_path / "model"), "--to", f"hf-hub:{NAME}", "--int8"],
        ["export", str(tmp_path / "model"), "--to", "onnx", "--license", "mit"],
        ["import", f"hf-hub:{NAME}", "-o", str(tmp_path / "back"), "--network", "apnet"],
        ["import", str(tmp_path / "model" / "model.safetensors"), "-o", str(tmp_path / "back")],
        ["export", str(tmp_path / "model"), "--to", "hf-hub:tiny"],
    ):
        assert main(line) == 2
        told = capsys.readouterr().err
        assert told.startswith("regard: ")
        assert told.count("\n") == 1
