"""Recipes, overrides and the faults they can have."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from regard.config import Config, load_config
from regard.errors import ConfigError
from regard.parsing import dump_yaml, parse_yaml
from regard.recipes import read_recipe
from regard.registry import LOSSES

MINIMAL = """
model: {name: baseline}
losses: {id: {loss: cross_entropy, on: logits.*}}
"""


def test_overrides_reach_every_kind_of_setting():
    config = load_config(
        MINIMAL,
        [
            "optim.lr=1e-4",
            "model.backbone=resnet18",
            "losses.id.smoothing=0.2",
            "losses.triplet={loss: triplet, on: features.global, margin: null}",
            "schedule.milestones=[1, 2.5]",
            "data.root=/data/a=b",
            "train.ema=0.99",
            "eval.flip=false",
        ],
    )
    assert config.optim.lr == 1e-4
    assert config.model.options == {"backbone": "resnet18"}
    assert config.losses["id"].options == {"smoothing": 0.2}
    assert config.losses["triplet"].options == {"margin": None}
    assert config.schedule.milestones == (1, 2.5)
    assert str(config.data.root) == "/data/a=b"
    assert config.train.ema == 0.99
    assert config.eval.flip is False


def test_yaml_words_stay_words_and_exponents_are_numbers():
    config = load_config(MINIMAL, ["data.name=no", "optim.weight_decay=5E-4"])
    assert config.data.name == "no"
    assert config.optim.weight_decay == 5e-4


def test_all_faults_are_told_at_once_with_the_near_spelling():
    with pytest.raises(ConfigError) as caught:
        load_config(MINIMAL, ["optim.lrr=1", "optim.lr=fast", "model.backbon=x", "losses.id.smoothin=1", "data.flip=2"])
    text = str(caught.value)
    assert "\n" not in text
    assert "optim.lrr: no such key, did you mean 'lr'?" in text
    assert "optim.lr: got 'fast'" in text
    assert "backbon: no such key, did you mean 'backbone'?" in text
    assert "smoothin: no such key, did you mean 'smoothing'?" in text
    assert "data.flip: got 2; input should be less than or equal to 1" in text


@pytest.mark.parametrize(
    ("recipe", "overrides", "wanted"),
    [
        ("model: {name: apnat}\nlosses: {}", [], "unknown model 'apnat', did you mean 'apnet'?"),
        ("losses: {}", [], "model: missing"),
        ("- a\n- b", [], "holds list, not a mapping"),
        ("a: [1", [], "recipe, line 1: not YAML"),
        ("a: 1\na: 2", [], "key 'a' is given twice"),
        (MINIMAL, ["optim.lr"], "cannot read override 'optim.lr'"),
        (MINIMAL, ["model.name.x=3"], "'name' holds a value, not a section"),
        (MINIMAL, ["losses.id.loss=triplett"], "did you mean 'triplet'?"),
        (MINIMAL, ["model.level=three"], "level"),
        (MINIMAL, ["data.sampler=shuffle", "data.rounds=3"], "data: rounds is 3, but sampler shuffle has none"),
        (MINIMAL, ["schedule.name=exponential"], "schedule: end is 0, which an exponential decay never reaches"),
        (MINIMAL, ["losses.c={loss: center, on: features.global, num_ids: 3}"], "num_ids: no such key"),
        (MINIMAL, ["data.sampler=sorted", "data.rounds=1"], "data: rounds is 1, but sampler sorted has none"),
        (MINIMAL, ["data.enlarge_probability=1.5"], "data.enlarge_probability: got 1.5"),
        (MINIMAL, ["model.num_ids=0"], "model.num_ids: got 0"),
        (MINIMAL, ["data.interpolation=cubic"], "data.interpolation: got 'cubic'"),
    ],
)
def test_one_fault_one_line(recipe, overrides, wanted):
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, overrides)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reduction_and_target_are_the_losses_own_where_its_constructor_has_them(monkeypatch):
    def smooth(reduction: str = "none", target: float = 2.0) -> None: ...
    def heavy(weight: float) -> None: ...

    monkeypatch.setattr(LOSSES, "_entries", {**LOSSES._entries, "smooth_own": smooth, "heavy_own": heavy})
    override = "losses.s={loss: smooth_own, on: features.global%s}"
    for given, wanted in [("", {}), (", reduction: sum, target: 3.0", {"reduction": "sum", "target": 3.0})]:
        config = load_config(MINIMAL, [override % given])
        assert config.losses["s"].options == wanted
        assert load_config(config.to_yaml()) == config
        assert load_config(config.to_yaml()).losses["s"].options == wanted
    for wrong, wanted in [
        (override % ", target: far", "losses.s: target: got 'far'"),
        ("losses.id.reduction=none", "losses.id.reduction: got 'none'; input should be 'mean' or 'sum'"),
        ("losses.id.target=3", "losses.id.target: got 3"),
        ("losses.s={loss: heavy_own, on: features.global, weight: 2}", "heavy_own wants 'weight', which is the term's"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(wanted)):
            load_config(MINIMAL, [wrong])


def test_the_configuration_is_frozen():
    config = load_config(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        config.optim.lr = 1.0  # pyright: ignore


def test_every_field_says_what_it_means():
    unclear = {"betas", "lr", "weight_decay", "epochs", "seed", "gamma", "name", "channels_last", "metric"}
    for section in (f.annotation for f in Config.model_fields.values() if hasattr(f.annotation, "model_fields")):
        for name, field in section.model_fields.items():
            if name not in unclear and name not in ("batch_size", "warmup_epochs", "accelerator"):
                assert field.description, f"{section.__name__}.{name}"


def test_places_are_kept_absolute_from_the_callers_folder(tmp_path, monkeypatch):
    """Given from one folder, read back from another: the same places."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here" / "friends.csv").write_text("path,pid,camid\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(
        MINIMAL,
        [
            "data.root=sets",
            "data.train=[market1501, crowd=made, 'cuhk03=np,boxes=labeled', sub/x, friends.csv, ~/own]",
            "data.cache_folder=~/cache",
            "data.label_files={market1501: {mask_root: masks, pack: ../one.pack}}",
            "model.pretrained=runs/old",
        ],
    )
    here = tmp_path / "here"
    data = config.data
    assert data.root == here / "sets"
    assert data.cache_folder == Path("/home/me/cache")
    assert data.label_files["market1501"].mask_root == here / "masks"
    assert data.label_files["market1501"].pack == here / "../one.pack"
    assert config.model.pretrained == str(here / "runs/old")
    assert data.train == (
        "market1501", f"crowd={here}/made", f"cuhk03={here}/np,boxes=labeled", f"{here}/sub/x", f"{here}/friends.csv",
        "/home/me/own",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_config(config.to_yaml()) == config


@pytest.mark.parametrize("text", ["2024", "010", "1e3", "my #1", "a: b", "[x]", "null island"])
def test_a_folder_may_be_named_like_a_number_or_hold_signs(text):
    config = load_config(MINIMAL, [f"data.root={text}", f"data.label_files.grid.coco={text}", "data.cache_folder='q'"])
    assert config.data.root == config.data.label_files["grid"].coco == Path(text).absolute()
    assert config.data.cache_folder == Path("q").absolute()
    assert load_config(MINIMAL, ["data.root=null"]).data.root is None


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["data.workers=1000000"], "data.workers: got 1000000; input should be less than or equal to 256"),
        (["data.workers=-1"], "data.workers: got -1"),
        (["data.height=100000"], "data.height: got 100000; input should be less than or equal to 4096"),
        (["data.width=0"], "data.width: got 0"),
        (["data.pad=100000"], "data.pad: got 100000"),
        (["data.enlarge=1000"], "data.enlarge: got 1000"),
        (
            ["data.ids_per_batch=1000000"],
            "data: 1,000,000 x 4 pictures of 256 x 128 are a batch of 366.2 GiB",
        ),
        (["data.images_per_id=99999999999"], "data.images_per_id: got 99999999999"),
        (["data.height=4096", "data.width=4096"], "data: 16 x 4 pictures of 4096 x 4096 are a batch of 3.0 GiB"),
        (["eval.batch_size=1000000"], "eval.batch_size 1,000,000 pictures of 256 x 128 are a batch of 183.1 GiB"),
        (["train.epochs=99999999999"], "train.epochs: got 99999999999"),
        (["train.seed=99999999999999999999"], "train.seed: got 99999999999999999999"),
        (["train.devices=100000"], "train.devices: got 100000"),
        (["optim.lr=.inf"], "optim.lr: got inf; input should be a finite number"),
        (["optim.weight_decay=.nan"], "optim.weight_decay: got nan"),
        (["optim.lr_scale={backbone: -1}"], "optim.lr_scale.backbone: got -1"),
        (["train.epochs=1:30"], "train.epochs: got '1:30'"),
    ],
)
def test_what_no_machine_can_mean_is_refused_in_one_line(overrides, wanted):
    with pytest.raises(ConfigError, match=re.escape(wanted)) as caught:
        load_config(MINIMAL, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("caf\udce9/x", "caf\udce9/x"), ("{root: 'a\udcff', n: 1}", {"root": "a\udcff", "n": 1}), ("plain", "plain")],
)
def test_names_of_files_that_are_no_text_survive_yaml(text, wanted):
    value = parse_yaml(text, "it")
    assert value == wanted
    assert parse_yaml(dump_yaml({"value": value}), "it") == {"value": value}
    dump_yaml({"value": value}).encode()
    with pytest.raises(ConfigError, match="it holds the character 0x1, which YAML has not"):
        parse_yaml("a\x01", "it")


def test_a_recipe_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"train: \xff\xfe")
    os.mkfifo(tmp_path / "b.yaml")
    for name, reason in (("a", "no text in UTF-8"), ("b", "no regular file"), ("c", "No such file")):
        with pytest.raises(ConfigError, match=f"{name}.yaml: .*{reason}"):
            read_recipe(tmp_path / f"{name}.yaml")


def test_settings_as_values_are_laid_over_like_a_recipe():
    below = {"model": {"name": "baseline"}, "losses": {"id": {"loss": "cross_entropy", "on": "logits.*"}}}
    values = {
        "optim": {"lr": 1e-4, "lr_scale": {"backbone.stages.0": 0.1}},
        "losses.id.weight": 2.0,
        "data.root": Path("x"),
        "data": {"erasing_area": (0.1, 0.2), "options": {"cuhk03": {"boxes": "labeled"}}},
        "eval.flip": False,
    }
    config = load_config(below, values)
    texts = [
        "optim.lr=1e-4", "optim.lr_scale={backbone.stages.0: 0.1}", "losses.id.weight=2", "data.root=x",
        "data.erasing_area=[0.1, 0.2]", "data.options.cuhk03.boxes=labeled", "eval.flip=false",
    ]  # fmt: skip
    assert config == load_config(below, texts)
    assert config.losses["id"].loss == "cross_entropy"
    assert config.optim.lr_scale == {"backbone.stages.0": 0.1}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"optim": {"lr": 1}, "optim.lr": 2}, "optim.lr is given twice; give it once"),
        ({"losses.id": None, "losses": {"id": {"weight": 1}}}, "losses.id is given twice; give it once"),
        ({"train.": 1}, "cannot read override 'train.'; it wants a section or a dotted name, such as optim.lr"),
        ({"base": "apnet"}, "base is said in a recipe's file, not beside it"),
        ({"trian.epochs": 1}, "trian: no such key, did you mean 'train'"),
        ({"train": 3}, "train: got 3, wanted a section, such as train.epochs=VALUE"),
    ],
)
def test_faults_of_settings_as_values(values, line):
    below = {"model": {"name": "baseline"}, "losses": {"id": {"loss": "cross_entropy", "on": "logits.*"}}}
    with pytest.raises(ConfigError, match=re.escape(line)):
        load_config(below, values)
