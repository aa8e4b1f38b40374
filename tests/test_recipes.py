"""Recipes: those on board, those of a user, what they are laid over and what is known of them."""

from __future__ import annotations

import json
import re

import pytest

from regard.config import load_config
from regard.engine.build import build_appearance, build_criterion, build_model
from regard.engine.checks import settings_that_differ
from regard.errors import CheckpointError, ConfigError
from regard.models.cost import constant_weights
from regard.recipes import list_recipes, read_recipe
from regard.run_folder.origin import changed_settings, keep_recipe, read_origin

OWN = """# Mine, in one line.
about:
  kind: ours
  published: {mAP: 60, rank-1: 70.5}
  protocol: single query,
    no re-ranking
  source: a page
  against: [another camera]
  changes: ["optim.lr: higher"]
model: {name: baseline}
losses:
  id: {loss: cross_entropy, on: logits.*, smoothing: 0.1}
  triplet: {loss: triplet, on: features.global}
"""


def write(folder, **texts):
    """Write YAML files NAME.yaml and return the path of the last."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder / f"{name}.yaml")


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_short_and_whole_and_reloads_itself(name):
    recipe = read_recipe(name)
    assert len(recipe.text.splitlines()) <= 25
    assert recipe.title
    config = recipe.config(["train.seed=9"])
    system = name.split("_")[0]
    assert config.model.name == {"demo": "apnet", "rga": "apnet", "trinet": "daaf", "transfer": "baseline"}.get(
        system, system
    )
    assert load_config(config.to_yaml()) == config
    assert load_config(config.to_dict()) == config


@pytest.mark.parametrize("name", list_recipes())
def test_what_is_known_of_a_recipe_is_whole(name):
    recipe = read_recipe(name)
    about = recipe.about
    assert about is not None
    assert [line for line in recipe.text.splitlines() if line.startswith("#")] == [f"# {recipe.title}"]
    assert about.source, "where its scores were published, or that none are known"
    assert about.published or about.source.startswith("nothing published")
    assert name.endswith("_released") == (about.kind == "released")


@pytest.mark.parametrize("name", [name for name in list_recipes() if name.endswith("_released")])
def test_ours_differs_from_the_released_training_in_what_it_says_and_in_nothing_else(name):
    released, ours = read_recipe(name), read_recipe(name.removesuffix("_released"))
    assert ours.about is not None
    assert released.about is not None
    assert (ours.kind, released.about.published) == ("ours", ours.about.published)
    differ = set(settings_that_differ(released.config(), ours.config()))
    clauses = [clause for text in ours.about.changes for clause in text.split("; ") if ": " in clause]
    said = {key for clause in clauses for key in re.findall(r"[\w.]+\.\w+", clause.partition(": ")[0])}
    covered = {key: {other for other in differ if f"{other}.".startswith(f"{key}.")} for key in said}
    assert set().union(*covered.values()) == differ
    assert all(covered.values()), "says that it changes what it does not"
    config = released.config()
    assert (config.train.precision, config.eval.precision) == ("fp32", "fp32")


@pytest.mark.slow
def test_the_recipe_for_cameras_never_seen_is_built_with_any_of_its_options():
    """No weights are wanted for that, and none of the package's pictures."""
    more = ["model.ibn=a", "model.mixstyle=[1, 2]", "model.pooling=gem", "losses.id=null", "losses.triplet=null"]
    more += [f"losses.{loss}={{loss: {loss}, on: embedding}}" for loss in ("arcface", "cosface", "circle_softmax")]
    pairs = ("circle", "multi_similarity", "supcon")
    more += [f"losses.{loss}={{loss: {loss}, on: features.global, gather: true}}" for loss in pairs]
    for overrides in ((), more):
        config = read_recipe("transfer_crowd").config(overrides)
        with constant_weights():
            model = build_model(config, 5, started=True)
        criterion = build_criterion(config, model)
        appearance = build_appearance(config.data)
        assert appearance is not None
        assert (appearance.jitter, appearance.gray, appearance.jpeg) == ((0.4, 0.4, 0.4, 0.1), 0.2, 0)
        assert model.embed_dim == 320
        assert model.origin is not None
        assert [value.shape for value in criterion.shared_parameters().values()] == (
            [(5, 320)] * 3 if overrides else []
        )


def test_a_recipe_is_laid_over_its_base_and_says_only_of_itself_what_it_is(tmp_path):
    own = read_recipe(write(tmp_path, own=OWN))
    assert own.about is not None
    assert own.title == "Mine, in one line."
    assert own.about.published == {"mAP": 60, "rank-1": 70.5}
    assert own.about.protocol == "single query, no re-ranking"
    text = "base: own.yaml\nlosses: {triplet: null, id: {smoothing: 0}}\noptim: {lr_scale: {backbone: 0.1}}"
    (tmp_path / "deep").mkdir()
    path = write(tmp_path, near=text, **{"deep/far": "base: ../near.yaml\noptim: {lr_scale: {head: 2}}"})
    far = read_recipe(path)
    assert [base.rsplit("/", 1)[1] for base in far.bases] == ["near.yaml", "own.yaml"]
    assert (far.about, far.kind, far.title) == (None, "yours", "")
    config = far.config(["losses.more={loss: triplet, on: features.global}"])
    assert list(config.losses) == ["id", "more"]
    assert config.losses["id"].options == {"smoothing": 0}
    assert config.optim.lr_scale == {"backbone": 0.1, "head": 2}
    assert load_config(far.config().to_yaml()) == far.config()
    assert own.config().losses["id"].options == {"smoothing": 0.1}  # the base itself stays


def test_a_released_training_is_scored_in_fp32_unless_it_says_otherwise(tmp_path):
    precision = {}
    for kind, said in (("released", ""), ("ours", ""), ("released", "eval: {flip: false, precision: bf16}")):
        path = write(tmp_path, own=OWN.replace("kind: ours", f"kind: {kind}") + said)
        precision[kind, bool(said)] = read_recipe(path).config().eval.precision
        assert read_recipe(path).config(["eval.precision=fp16"]).eval.precision == "fp16"
    assert precision == {("released", False): "fp32", ("ours", False): "auto", ("released", True): "bf16"}
    over = read_recipe(write(tmp_path, own=OWN.replace("kind: ours", "kind: released"), mine="base: own.yaml"))
    assert over.config().eval.precision == "auto"  # what is laid over a released one is not it


def test_a_base_on_board_and_a_term_taken_out_by_override(tmp_path):
    path = write(tmp_path, mine="base: daaf_crowd\nlosses: {hab: {weight: 0}}")
    config = read_recipe(path).config(["losses.pab=null"])
    board = read_recipe("daaf_crowd").config()
    assert list(config.losses) == ["id", "triplet", "hab"]
    assert config.losses["hab"] == board.losses["hab"].model_copy(update={"weight": 0.0})
    assert config.model == board.model
    changes = changed_settings(read_recipe(path), config)
    assert changes == ["without losses.pab"]
    assert load_config(board.to_dict(), ["losses.pab=null", "losses.hab.weight=0"]) == config


@pytest.mark.parametrize(
    ("texts", "overrides", "wanted"),
    [
        ({"a": "base: apnet_crowdd"}, [], "a.yaml: base: unknown recipe 'apnet_crowdd', did you mean 'apnet_crowd'?"),
        ({"a": "base: gone.yaml"}, [], r"a.yaml: base: cannot read recipe \S+/gone.yaml: No such file"),
        ({"a": "base: a.yaml"}, [], r"a.yaml: base: base goes round in a circle \(\S+/a.yaml -> \S+/a.yaml\)"),
        ({"b": "base: a.yaml", "a": "base: b.yaml"}, [], r"circle \(\S+a.yaml -> \S+b.yaml -> \S+a.yaml\); take"),
        ({"a": "base:"}, [], "a.yaml: base is None; it wants the name of a recipe"),
        ({"a": "base: [x]"}, [], r"a.yaml: base is \['x'\]"),
        ({"a": "base: apnet_crowd\nlosses: {idd: null}"}, [], r"losses.idd is null.* 'id'\? \(terms: id, triplet\)"),
        ({"a": OWN + "  hab: null"}, [], r"losses.hab is null, which takes a term out, but there is no such term"),
        ({"a": OWN}, ["losses.id=null", "losses.id=null", "losses.x=null"], "losses.x is null"),
        ({"a": OWN}, ["base=x"], "override 'base=x': base is said in a recipe's file"),
        ({"a": OWN}, ["about.kind=ours"], "about is said in a recipe's file"),
        ({"a": "base: apnet_crowd\nabout: 3"}, [], "about holds int, not a mapping"),
        ({"a": "base: apnet_crowd\nabout: {}"}, [], "a.yaml: about.kind: missing"),
        ({"a": OWN.replace("kind: ours", "kind: mine")}, [], "about.kind: got 'mine'; input should be 'released'"),
        ({"a": OWN.replace("source", "sauce")}, [], r"about.sauce: no such key, did you mean 'source'\?"),
        ({"a": OWN.replace("  source: a page\n", "")}, [], "about: published has scores, but source is missing"),
        ({"a": OWN.replace("rank-1", "rank1")}, [], "about.published: got the score 'rank1'; it wants mAP or rank-1"),
        ({"a": OWN.replace("70.5", "0.705")}, [], "about.published.rank-1: got 0.705; input should be greater than"),
        ({"a": OWN.replace("source: a page", "source: ''")}, [], "about.source: got ''"),
        ({"a": "- a"}, [], "a.yaml holds list, not a mapping of sections"),
        ({"a": "about: {kind: ours}"}, [], "a.yaml: model: missing; losses: missing"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_one_line(tmp_path, texts, overrides, wanted):
    path = write(tmp_path, **texts)
    with pytest.raises(ConfigError, match=wanted) as caught:
        read_recipe(path).config(overrides)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_lists_those_on_board(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown recipe 'apnet_crowdd', did you mean 'apnet_crowd'\?"):
        read_recipe("apnet_crowdd")
    with pytest.raises(ConfigError, match="cannot read recipe"):
        read_recipe(tmp_path / "mine.yaml")
    (tmp_path / "odd.yaml").write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match=r"odd\.yaml: no text in UTF-8"):
        read_recipe(tmp_path / "odd.yaml")


def test_a_run_says_which_recipe_it_came_from(tmp_path):
    recipe = read_recipe(write(tmp_path, own=OWN))
    assert read_origin(tmp_path, recipe.config()) is None
    keep_recipe(tmp_path, recipe)
    config = recipe.config(["optim.lr=1e-3", "losses.triplet=null", "model.backbone=resnet18"])
    origin = read_origin(tmp_path, config)
    assert origin is not None
    assert (origin.about, origin.title) == (recipe.about, recipe.title)
    assert origin.changed == ("without losses.triplet", "model.backbone=resnet18", "optim.lr=0.001")
    assert str(origin) == f"{recipe.name} (ours), changed: {', '.join(origin.changed)}"
    added = recipe.config(["losses.c={loss: center, on: features.global}"])  # with nothing that is as it always is
    told = read_origin(tmp_path, added)
    assert told is not None
    assert told.changed == ("losses.c.loss=center", "losses.c.on=features.global")
    keep_recipe(tmp_path, read_recipe(write(tmp_path, half="losses: {}")))  # whole only with overrides
    half = read_origin(tmp_path, config)
    assert half is not None
    assert str(half) == f"{tmp_path / 'half.yaml'} (yours)"
    for damaged in ("{", "[]", "{}", json.dumps({"name": "x", "title": "", "about": {"kind": 1}, "settings": None})):
        (tmp_path / "recipe.json").write_text(damaged)
        with pytest.raises(CheckpointError, match=re.escape(f"cannot read {tmp_path / 'recipe.json'} (")):
            read_origin(tmp_path, config)
    keep_recipe(tmp_path, None)
    assert read_origin(tmp_path, config) is None
