"""What a run puts on the card of its model: scores with intervals, data sets with their terms, recipe."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import yaml

import regard
from regard.errors import ConfigError
from regard.evaluation.facts import UNKNOWN, training_sets
from regard.models.model_card import model_card

SETTINGS = {
    "model": {"name": "baseline", "backbone": "test_resnet.r160_in1k"},
    "losses": {"id": {"loss": "cross_entropy", "on": "logits.global"}},
    "train": {"epochs": 1},
}


@pytest.fixture(scope="module")
def run(market, tmp_path_factory):
    """A small run, calibrated by hand."""
    place = tmp_path_factory.mktemp("facts")
    data = {"root": str(market), "height": 64, "width": 32, "ids_per_batch": 2, "images_per_id": 2, "workers": 0}
    regard.train(SETTINGS | {"data": data}, folder=place / "run", quiet=True)
    return regard.open_run(place / "run", quiet=True)


def test_the_card_says_what_the_run_knows(run):
    facts = run.facts()
    report = run.report()
    assert facts.trained_on == {"market1501": "research; no licence file"}
    assert facts.scores["mAP"].value == report.mAP
    assert facts.scores["mAP"].low <= report.mAP <= facts.scores["mAP"].high
    card = model_card(run.model, "some-lab/tiny", facts, "cc-by-nc-4.0")
    told = yaml.safe_load(card.split("---\n")[1])
    assert (told["license"], told["datasets"]) == ("cc-by-nc-4.0", ["market1501"])
    assert "mAP" in told["metrics"]
    found = told["model-index"][0]["results"][0]
    assert found["dataset"]["type"] == "market1501"
    assert {one["type"]: one["value"] for one in found["metrics"]}["mAP"] == round(100 * report.mAP, 2)
    assert f"| mAP | {100 * report.mAP:.2f} | {100 * facts.scores['mAP'].low:.2f} to" in card
    assert "| market1501 | research; no licence file |" in card
    assert str(run.folder.parent) not in card
    assert huggingface_hub.ModelCard(card).data.eval_results


def test_without_the_data_set_the_scores_are_those_of_training(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(run.config.data.root), str(tmp_path / "gone")))
    (tmp_path / "run" / "metrics.jsonl").write_text(
        json.dumps({"event": "eval", "epoch": 1, "step": 3, "mAP": 0.5, "rank1": 0.25}) + "\n"
    )
    facts = regard.open_run(tmp_path / "run", quiet=True).facts()
    assert (facts.scores["mAP"].value, facts.scores["mAP"].low) == (0.5, None)
    assert "no intervals" in model_card(run.model, "some-lab/tiny", facts)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert "None were measured" in model_card(run.model, "a/b", regard.open_run(tmp_path / "run", quiet=True).facts())


def test_a_run_of_other_weights_is_refused(run):
    other = regard.create_model("baseline", num_ids=5, backbone="test_resnet.r160_in1k")
    with pytest.raises(ConfigError, match="of other weights than the model"):
        other.push_to_hub("some-lab/tiny", run=run, token="hf_any")


def test_the_sets_of_the_runs_before_count_too(run):
    later = run.own.model_copy(
        update={
            "model": run.own.model.model_copy(update={"pretrained": str(run.folder)}),
            "data": run.own.data.model_copy(update={"train": ("dukemtmc=/some/where", "/no/such/folder")}),
        }
    )
    assert training_sets(later) == {
        "dukemtmc": "withdrawn in 2019; was CC BY-NC-SA 4.0",
        "a folder of pictures": UNKNOWN,
        "market1501": "research; no licence file",
    }
