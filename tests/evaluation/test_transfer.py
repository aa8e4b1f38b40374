"""Trained on one data set or several, scored on many."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import regard
from regard.cli.main import main
from regard.engine.run import start_run
from regard.errors import ConfigError, DataError, UnknownNameError
from regard.evaluation.embed import extract
from regard.evaluation.evaluate import evaluate_on, mean_of_targets, transfer_dict, transfer_table
from regard.evaluation.run import open_run
from regard.recipes import read_recipe
from regard.run_folder.opened_data import open_data
from regard.run_folder.origin import resolve


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, market):
    """A folder that holds a Market-1501, a VIPeR and an Occluded-REID."""
    root = tmp_path_factory.mktemp("shelf")
    (root / "market1501").symlink_to(market)
    generator = np.random.default_rng(3)

    def picture(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 12, 3), dtype=np.uint8)).save(path)

    for person in range(8):
        for camera, angle in (("a", 0), ("b", 90)):
            picture(root / "VIPeR" / f"cam_{camera}" / f"{person:03d}_{angle}.bmp")
    for person in range(1, 4):
        picture(root / "Occluded_REID" / "occluded_body_images" / f"{person:03d}" / f"{person:03d}_01.tif")
        picture(root / "Occluded_REID" / "whole_body_images" / f"{person:03d}" / f"{person:03d}_01.tif")
    return root


def config_of(tiny, *more):
    return read_recipe("baseline_crowd").config([*(o for o in tiny if "data.root" not in o), *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shelf):
    """A run's folder as far as evaluation looks at it: trained on Market-1501, not really."""
    folder = tmp_path_factory.mktemp("run")
    config = read_recipe("baseline_crowd").config(
        [f"data.root={shelf}", "data.name=market1501", "data.height=24", "data.width=12", "data.workers=0",
         "model.backbone=test_resnet.r160_in1k", "train.accelerator=cpu", "train.precision=fp32"]
    )  # fmt: skip
    (folder / "config.yaml").write_text(config.to_yaml())
    torch.manual_seed(2)
    regard.create_model("baseline", 6, backbone="test_resnet.r160_in1k").save(folder / "final")
    return folder


def test_scores_on_many_are_the_scores_on_each(folder, shelf):
    scores = evaluate_on(folder, ["market1501", "viper,split=1", f"occluded_reid={shelf}"], quiet=True)
    assert [str(score.source) for score in scores] == ["market1501", "viper (split=1)", "occluded_reid"]
    assert [score.seen for score in scores] == [True, False, False]
    run = open_run(folder, quiet=True)
    every: list[dict[str, Any]] = [{}, {"split": 1}, {}]
    for score, options in zip(scores, every):
        splits = regard.load_dataset(score.source.name, shelf, **options)
        assert splits == score.splits
        report = run.on(splits).report()
        assert report.to_dict() == score.report.to_dict()
        alone = open_run(folder, str(score.source).replace(" (", ",").rstrip(")"), shelf, quiet=True)
        assert alone.report().to_dict() == report.to_dict()


def test_an_opened_run_has_everything_of_it(folder, shelf, tmp_path):
    run = regard.open_run(folder, quiet=True)
    assert (run.label, run.system, run.input.size, os.fspath(run)) == (folder.name, "baseline", (24, 12), str(folder))
    assert run.own.to_yaml() == (folder / "config.yaml").read_text()
    assert run.splits.name == "market1501"
    query, gallery, train = (run.features(part) for part in ("query", "gallery", "train"))
    assert [len(part) for part in (query, gallery, train)] == [
        len(part) for part in (run.splits.query, run.splits.gallery, run.splits.train)
    ]
    assert query.names == [str(sample.path) for sample in run.splits.query]
    assert run.features("query") is query
    arrays = [getattr(side, key) for key in ("embeddings", "pids", "camids") for side in (query, gallery)]
    assert run.report().mAP == regard.evaluate_ranking(*arrays).mAP
    ranking = regard.rank(query, gallery)
    assert (ranking.top(1).matches[:, 0].mean()) == run.report().rank(1)
    ranking.top(4).plot(run.splits, queries=[1]).savefig(tmp_path / "ranked.png")
    with pytest.raises(ConfigError, match="there is no query 99"):
        ranking.plot(run.splits, queries=[99])
    with pytest.raises(ConfigError, match="is no picture of the data set; pass the data set that was ranked"):
        ranking.plot(regard.open_run(folder, "viper", shelf))
    with pytest.raises(ConfigError, match="split is 'test', wanted one of: query, gallery, train"):
        run.features("test")
    with pytest.raises(ConfigError, match=r"split is \['query'\], wanted one of"):
        run.features(["query"])  # pyright: ignore[reportArgumentType]


def test_the_table_has_every_data_set_and_the_mean_of_the_targets(folder):
    scores = evaluate_on(folder, ["viper", "market1501", "occluded_reid"], quiet=True)
    lines = transfer_table(scores).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["viper", "market1501", "occluded_reid"]
    assert [" *" in line for line in lines[1:4]] == [False, True, False]
    mean = mean_of_targets(scores)
    assert mean is not None
    assert mean["mAP"] == pytest.approx((scores[0].report.mAP + scores[2].report.mAP) / 2)
    assert lines[4].split()[:4] == ["mean", "of", "2", "targets"]
    assert float(lines[4].split()[4]) == pytest.approx(100 * mean["mAP"], abs=0.006)
    assert float(lines[2].split()[2]) == pytest.approx(100 * scores[1].report.mAP, abs=0.006)
    assert "trained on" in lines[5]
    assert "AP step" in lines[5]
    assert mean_of_targets([scores[1]]) is None
    assert "mean" not in transfer_table([scores[1]])
    content = json.loads(json.dumps(transfer_dict(scores)))
    assert content["mean_of_targets"] == mean
    assert content["data"]["viper"]["mAP"] == scores[0].report.mAP
    assert [entry["trained_on"] for entry in content["data"].values()] == [False, True, False]


def test_the_command_prints_the_table_and_writes_the_figures(folder, shelf, tmp_path, capsys):
    code = main(
        ["eval", str(folder), "--data", "market1501", f"viper={shelf}", "-q", "--json", str(tmp_path / "s.json")]
    )
    out = capsys.readouterr().out
    assert code == 0
    assert "market1501 *" in out
    assert "mean of 1 targets" in out
    assert list(json.loads((tmp_path / "s.json").read_text())["data"]) == ["market1501", "viper"]
    assert main(["eval", str(folder), "--data", str(shelf / "VIPeR"), "-q"]) == 0
    assert "viper: train" in capsys.readouterr().out


def test_a_model_alone_is_scored_where_the_texts_say(folder, shelf, tmp_path):
    scores = evaluate_on(folder / "final", [f"viper={shelf}", f"occluded_reid={shelf}"], quiet=True)
    assert [score.seen for score in scores] == [False, False]
    assert evaluate_on(folder / "final", quiet=True)[0].source.name == "market1501"
    lone = shutil.copytree(folder / "final", tmp_path / "lone")
    with pytest.raises(ConfigError, match="names no data set; say --root FOLDER"):
        evaluate_on(lone, quiet=True)


@pytest.mark.parametrize(
    ("data", "error", "wanted"),
    [
        (["viper", "vipr"], UnknownNameError, "did you mean 'viper'?"),
        (["viper", "grid"], DataError, "grid not found in"),
        (["viper", "viper"], ConfigError, "viper in .* is named twice"),
        (["viper,splt=1"], ConfigError, "did you mean 'split'"),
    ],
)
def test_every_data_set_is_found_before_the_first_is_scored(folder, data, error, wanted, monkeypatch):
    monkeypatch.setattr("regard.evaluation.evaluate.embed_run", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(error, match=wanted):
        evaluate_on(folder, data, quiet=True)


@pytest.fixture(scope="module")
def twins(tmp_path_factory, market, shelf):
    """Two Market-1501 of one picture's difference, two tables in one folder, and a folder that links to the first."""
    root = tmp_path_factory.mktemp("twins")
    for name in ("a", "b"):
        shutil.copytree(market, root / name)
    next(iter(sorted((root / "b" / "query").glob("*.jpg")))).unlink()
    (root / "link").symlink_to(root / "a")
    splits = regard.load_dataset("market1501", root / "a")
    for name, skipped in (("x", 0), ("y", 3)):
        rows = [
            f"{sample.path.relative_to(root)},{sample.pid},{part},{sample.camid}"
            for part in ("train", "query", "gallery")
            for sample in getattr(splits, part)[skipped * (part == "query") :]
            if sample.pid > 0
        ]
        (root / f"{name}.csv").write_text("\n".join(["path,pid,split,camid", *rows]) + "\n")
    return root


def test_data_sets_of_one_kind_keep_a_row_each_and_are_told_apart_by_place(folder, twins, tmp_path, capsys):
    texts = [f"market1501={twins / 'a'}", f"market1501={twins / 'b'}", str(twins / "x.csv"), str(twins / "y.csv")]
    scores = evaluate_on(folder, texts, quiet=True)
    assert len({score.report.mAP for score in scores}) > 1
    names = ["market1501 (a)", "market1501 (b)", "table (x.csv)", "table (y.csv)"]
    assert [line.split("  ")[0] for line in transfer_table(scores).splitlines()[1:5]] == names
    content = transfer_dict(scores)
    assert list(content["data"]) == names
    assert [entry["root"] for entry in content["data"].values()] == [
        str((twins / name).resolve()) for name in ("a", "b", "x.csv", "y.csv")
    ]
    assert all(root in transfer_table(scores) for root in (entry["root"] for entry in content["data"].values()))
    assert not any(score.seen for score in scores)  # trained on another Market-1501
    mean = mean_of_targets(scores)
    assert mean is not None
    assert mean["mAP"] == pytest.approx(np.mean([score.report.mAP for score in scores]))
    assert main(["eval", str(folder), "--data", *texts, "--averages", "-q"]) == 0
    assert all(f"\n{name}\nmean over" in capsys.readouterr().out for name in names[:1])


def test_trained_on_is_a_place_and_not_a_name(folder, shelf, twins, tmp_path):
    home = f"market1501={(shelf / 'market1501').resolve()}"
    scores = evaluate_on(folder, [home, f"market1501={twins / 'a'}"], quiet=True)
    assert [score.seen for score in scores] == [True, False]
    gone = shutil.copytree(folder, tmp_path / "gone")
    settings = (gone / "config.yaml").read_text()
    (gone / "config.yaml").write_text(settings.replace(str(shelf), str(tmp_path / "moved")))
    (score,) = evaluate_on(gone, [f"market1501={twins / 'a'}"], quiet=True)
    assert score.seen  # where it was cannot be known any more


@pytest.mark.parametrize("again", ["a", "link", "b/../a"])
def test_a_data_set_is_named_twice_however_it_is_spelled(folder, twins, again):
    with pytest.raises(ConfigError, match="named twice"):
        evaluate_on(folder, [f"market1501={twins / 'a'}", f"market1501={twins / again}"], quiet=True)


def test_two_tables_of_one_folder_keep_their_people_apart(tiny_overrides, twins):
    config = config_of(tiny_overrides, "data.name=null", f"data.train=[{twins / 'x.csv'}, {twins / 'b'}]")
    people = {sample.pid for sample in open_data(config).train}
    assert len(people) == 12
    other = twins / "z.csv"
    rows = (twins / "x.csv").read_text().splitlines()
    other.write_text(
        "\n".join([rows[0], *(row if ",query," in row else row.replace("a/", "b/") for row in rows[1:])]) + "\n"
    )
    splits = open_data(config_of(tiny_overrides, "data.name=null", f"data.train=[{twins / 'x.csv'}, {other}]"))
    assert splits.num_ids == 12
    with pytest.raises(ConfigError, match="twice"):
        open_data(config_of(tiny_overrides, "data.name=null", f"data.train=[{twins / 'a'}, {twins / 'link'}]"))


def test_one_place_of_labels_is_not_for_two_data_sets(tiny_overrides, twins):
    two = f"data.train=['market1501={twins / 'a'}', 'market1501={twins / 'b'}']"
    config = config_of(tiny_overrides, "data.name=null", two, "data.labels=[mask]",
                       f"data.label_files.market1501.mask_root={twins}")  # fmt: skip
    with pytest.raises(ConfigError, match=r"labels of market1501 are, but there are 2: .*a, .*b"):
        open_data(config)


def test_what_changes_a_score_is_said_and_stored(folder, shelf, tmp_path, capsys):
    file = tmp_path / "s.json"
    arguments = ["eval", str(folder), "--data", f"viper={shelf}", "-q", "--json", str(file)]
    assert main([*arguments, "--size", "32x16", "--no-flip", "--five-crops", "--ignore-cameras", "--expansion"]) == 0
    out, content = capsys.readouterr().out, json.loads(file.read_text())
    wanted = {"size": "32 x 16", "resize": "bilinear", "mirrored": "no", "crops": "five", "precision": "fp32",
              "metric": "cosine", "expansion": "k=5 alpha=0", "re-ranking": "none", "CMC": "market1501", "AP": "step",
              "unmatched": "skip", "junk": "dropped before", "distractors": "wrong", "protocol": "identity and camera",
              "same camera": "ignored",
              "gallery": "as given", "ties": "by gallery index"}  # fmt: skip
    assert content["options"] == wanted
    assert all(f"{name} {value}" in out for name, value in wanted.items())
    assert content["root"] == str((shelf / "VIPeR").resolve())
    assert content["root"] in out
    assert main([*arguments, "--flip", "--leave-one-out"]) == 0
    content = json.loads(file.read_text())
    assert content["num_queries"] == 8
    assert content["options"]["mirrored"] == "averaged"
    assert content["options"]["gallery"] == "the queries' own list, each without itself"
    assert main([*arguments, "--size", "32"]) == 2
    assert main([*arguments, "--leave-one-out", "--rerank"]) == 2
    assert main([*arguments, "--ignore-cameras", "--cameras"]) == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_score_is_computed_in_the_precision_it_says(folder, shelf, precision, capsys):
    """Descriptors are those of that autocast to the bit, and the options say so."""
    run = regard.load(folder)
    splits = evaluate_on(folder, [f"viper={shelf}"], quiet=True)[0].splits
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    how = {"seen": regard.InputSpec(24, 12), "workers": 0}
    cast = torch.autocast("cpu", half) if half else None
    with torch.inference_mode():
        wanted = extract(run, splits.query, **how, autocast=cast)
    opened = open_run(folder, "viper", shelf, {"precision": precision}, quiet=True)
    assert np.array_equal(opened.features("query").embeddings, wanted)
    assert main(["eval", str(folder), "--data", f"viper={shelf}", "-q", "--precision", precision]) == 0
    assert f"precision {precision}" in capsys.readouterr().out


def test_left_alone_the_precision_is_that_of_training_and_fp32_for_what_was_imported(folder, shelf, tmp_path):
    """A run in bf16, one in tf32 where there is none, its network alone, and the same as if it had been imported."""
    place = shutil.copytree(folder, tmp_path / "run")
    asked = [f"viper={shelf}"]

    def found(where: Path, changes: dict[str, str] | None = None) -> str:
        return evaluate_on(where, asked, None, changes, quiet=True)[0].report.options["precision"]

    settings = (place / "config.yaml").read_text()
    for trained, said in (("bf16", "bf16"), ("tf32", "fp32")):
        (place / "config.yaml").write_text(settings.replace("precision: fp32", f"precision: {trained}"))
        assert found(place) == said
    (place / "config.yaml").write_text(settings.replace("precision: fp32", "precision: bf16"))
    assert found(shutil.copytree(place / "final", tmp_path / "lone")) == "fp32"
    model = regard.load(place)
    model.imported = "apnet"
    model.save(place / "final")
    assert found(place) == found(place, {"precision": "auto"}) == "fp32"
    assert found(place, {"precision": "bf16"}) == "bf16"
    with pytest.raises(ConfigError, match=r"eval\.precision is tf32, which cpu does not have"):
        found(place, {"precision": "tf32"})


def test_options_that_differ_between_data_sets_stand_with_each(folder):
    scores = evaluate_on(folder, ["viper", "occluded_reid"], quiet=True)
    scores[1].report.options["same camera"] = "ignored"
    table = transfer_table(scores)
    assert "\n  occluded_reid: same camera ignored" in table
    assert "\n  viper: same camera removed" in table


def test_several_sources_are_read_as_one(tiny_overrides, shelf):
    config = config_of(
        tiny_overrides, f"data.root={shelf}", "data.train=[market1501, viper]", "data.options.viper.split=1"
    )
    splits = open_data(config)
    alone = [regard.load_dataset("market1501", shelf), regard.load_dataset("viper", shelf, split=1)]
    assert splits.num_ids == sum(one.num_ids for one in alone)
    assert len(splits.train) == sum(len(one.train) for one in alone)
    assert splits.query == alone[0].query
    first = config_of(tiny_overrides, f"data.root={shelf}", "data.name=null", "data.train=[viper]")
    assert open_data(first).query == regard.load_dataset("viper", shelf).query


def test_trained_here_tested_there(tiny_overrides, shelf):
    config = config_of(tiny_overrides, f"data.root={shelf}", "data.train=[market1501]", "data.name=occluded_reid")
    splits = open_data(config)
    assert splits.num_ids == 6
    assert splits.query == regard.load_dataset("occluded_reid", shelf).query
    assert "market1501, tested on occluded_reid" in str(splits)


def test_a_bare_system_takes_the_recipe_of_what_it_is_tested_on(shelf):
    assert resolve("apnet", ["data.train=[market1501, viper]", f"data.root={shelf}"])[0] == "apnet_market1501"
    assert resolve("apnet", ["data.train=[viper]", "data.name=cuhk03,boxes=labeled"])[0] == "apnet_cuhk03"


def test_nobody_to_train_on_is_said_before_anything_is_written(tiny_overrides, shelf, tmp_path):
    config = config_of(tiny_overrides, f"data.root={shelf}", "data.name=occluded_reid")
    with pytest.raises(DataError) as caught:
        start_run(config, tmp_path / "run", quiet=True)
    assert "occluded_reid is for testing only" in str(caught.value)
    assert "regard eval RUN --data occluded_reid" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_run_learns_from_two_sources(tiny_overrides, shelf, tmp_path):
    config = config_of(tiny_overrides, f"data.root={shelf}", "data.name=null", "data.train=[market1501, viper]")
    model = start_run(config, tmp_path / "run", quiet=True)
    assert model.num_ids == 10
    scores = evaluate_on(tmp_path / "run", ["market1501", "viper", "occluded_reid"], quiet=True)
    assert [score.seen for score in scores] == [True, True, False]
    own = open_run(tmp_path / "run", quiet=True)
    assert own.splits.name == "market1501"
    assert own.report().mAP == scores[0].report.mAP
