"""``regard explain ranked``, ``cameras``, ``curves``: what they write is what an evaluation of the same runs finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import regard
from regard.cli.main import main
from regard.evaluation.evaluate import evaluate_on
from regard.evaluation.run import open_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Folders of two untrained models, one of which has a history."""
    folders = [tmp_path_factory.mktemp("runs") / name for name in ("baseline", "apnet")]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        regard.create_model(folder.name, 5, backbone="test_resnet.r160_in1k").save(folder)
    steps = [{"event": "step", "epoch": s // 4, "step": s, "lr": 0.1, "loss": 2 / s, "loss/id": 1 / s, "loss/t": 1 / s}
             for s in range(1, 13)]  # fmt: skip
    steps.append({"event": "eval", "epoch": 2, "step": 12, "mAP": 0.5, "rank1": 0.6, "mINP": 0.2})
    (folders[1] / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return folders


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    """Four people in noise, so that nobody is found but by chance: a query and two more pictures by each camera."""
    root, random = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for folder, shots in (("bounding_box_train", 1), ("query", 1), ("bounding_box_test", 2)):
        (root / folder).mkdir()
        for pid in range(7, 11):
            for camera in (1, 2):
                for shot in range(shots):
                    picture = random.integers(0, 255, (48, 24, 3)).astype(np.uint8)
                    name = f"{pid:04d}_c{camera}s1_{shot + 2 * (folder == 'query'):06d}_00.jpg"
                    Image.fromarray(picture).save(root / folder / name)
    return root


def explain(*arguments) -> int:
    return main(["explain", *map(str, arguments)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_ranked_lists_are_those_of_the_evaluation(runs, market, tmp_path):
    common = ("--root", market, "-q", "-o", tmp_path, "--dpi", 40)
    assert explain("ranked", *runs, *common, "--query", "pid=8", "--query", "0", "--depth", 5) == 0
    assert names(tmp_path) == {"ranked.png", "ranked.json"}
    said = json.loads((tmp_path / "ranked.json").read_text())
    (score,) = evaluate_on(runs[0], root=market, quiet=True)
    assert [query["index"] for query in said["queries"]] == [2, 3, 0]
    assert list(said["runs"]) == ["baseline", "apnet"]
    lists = said["runs"]["baseline"]["lists"]
    np.testing.assert_allclose([found["ap"] for found in lists], score.report.ap[[2, 3, 0]])
    for found in lists:
        assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4, 5]
        distances = [hit["distance"] for hit in found["hits"]]
        assert distances == sorted(distances)
        for hit in found["hits"]:
            assert (hit["kind"] == "right") == (hit["pid"] == found["query"]["pid"])
            assert (hit["pid"], hit["camid"]) != (found["query"]["pid"], found["query"]["camid"])


def test_junk_is_shown_where_it_stands(runs, market, tmp_path):
    common = ("--root", market, "-q", "-o", tmp_path, "--dpi", 40, "--query", "0", "--rerank")
    assert explain("ranked", runs[0], *common, "--junk", "--depth", 99) == 0
    said = json.loads((tmp_path / "ranked.json").read_text())
    (found,) = said["runs"]["baseline"]["lists"]
    junk = [hit for hit in found["hits"] if hit["kind"] == "junk"]
    assert {(hit["pid"], hit["camid"], hit["rank"]) for hit in junk} == {(7, 1, None)}
    assert len(junk) == 2
    assert len(found["hits"]) == 16
    assert "k1=" in said["runs"]["baseline"]["options"]["re-ranking"]


def test_hardest_and_random(runs, market, tmp_path):
    common = ("--root", market, "-q", "-o", tmp_path, "--dpi", 40, "--depth", 3)
    assert explain("ranked", runs[0], *common, "--hardest", 1, "--random", 2, "--seed", 3) == 0
    said = json.loads((tmp_path / "ranked.json").read_text())["queries"]
    (score,) = evaluate_on(runs[0], root=market, quiet=True)
    hard = [query for query in said if "buried" in query["title"]]
    assert [query["index"] for query in hard] == [int(np.nanargmin(score.report.ap))]
    assert f"average precision {100 * score.report.ap.min():.1f} %" in hard[0]["note"]
    assert 2 <= len(said) <= 4
    assert explain("ranked", runs[0], *common) == 0
    said = json.loads((tmp_path / "ranked.json").read_text())["queries"]
    assert [query["title"].partition(", ")[2] for query in said] == ["easy", "median", "hard"]
    assert said[2]["index"] == hard[0]["index"]


def test_cameras(runs, market, tmp_path, capsys):
    assert explain("cameras", *runs, "--root", market, "-q", "-o", tmp_path, "--format", "svg") == 0
    assert names(tmp_path) == {"cameras.svg", "cameras.json"}
    said = json.loads((tmp_path / "cameras.json").read_text())
    (score,) = evaluate_on(runs[1], root=market, details=["cameras"], quiet=True)
    assert said["runs"]["apnet"] == score.details["cameras"].to_dict()
    assert said["summary"].startswith("baseline: rank-1")
    assert "query camera" in capsys.readouterr().out
    svg = (tmp_path / "cameras.svg").read_text()
    assert all(f"{100 * pair['mAP']:.1f}" in svg for pair in said["runs"]["apnet"]["pairs"])


def test_curves(runs, market, tmp_path):
    assert explain("curves", *runs, "--root", market, "-q", "-o", tmp_path, "--dpi", 40) == 0
    assert names(tmp_path) == {
        "training-loss-total.png", "map-on-people-never-trained-on.png", "learning-rate.png", "loss-term-id.png",
        "loss-term-t.png", "cumulative-match-characteristic.png", "distances-baseline.png", "distances-apnet.png",
        "curves.json",
    }  # fmt: skip
    said = json.loads((tmp_path / "curves.json").read_text())
    (score,) = evaluate_on(runs[0], root=market, quiet=True)
    assert said["baseline"]["cmc"] == score.report.cmc.tolist()
    assert sum(said["baseline"]["distances"]["same"]) == pytest.approx(1)
    assert said["apnet"]["evaluations"] == [{"epoch": 3, "step": 12, "mAP": 0.5, "rank1": 0.6, "mINP": 0.2}]


def test_training_curves_alone_need_no_data(runs, tmp_path):
    assert explain("curves", runs[1], "--no-eval", "-o", tmp_path, "--dpi", 40) == 0
    assert "cumulative-match-characteristic.png" not in names(tmp_path)
    assert list(json.loads((tmp_path / "curves.json").read_text())["apnet"]) == ["evaluations"]


def test_mistakes(runs, market, tmp_path, capsys):
    common = ("--root", market, "-q", "-o", tmp_path / "out")
    said = {
        ("ranked", runs[0], *common, "--query", "99"): "there are 8: 0 to 7",
        ("ranked", runs[0], *common, "--hardest", "0"): "wanted a whole number from 1",
        ("ranked", runs[0], runs[0], *common): "given twice",
        ("ranked", runs[0], "-o", tmp_path): "--root",
        ("cameras", tmp_path, *common): "no model",
        ("curves", runs[0], "--no-eval", "-o", tmp_path): "no curve",
    }
    for arguments, part in said.items():
        assert explain(*arguments) == 2
        assert part in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_runs_on_other_pictures_are_not_set_side_by_side(runs, market, tmp_path, capsys, monkeypatch):
    from regard.cli import explain_search

    def turned(*arguments, **options):
        found = open_runs(*arguments, **options)
        found[1].splits.query.reverse()
        return found

    monkeypatch.setattr(explain_search, "open_runs", turned)
    assert explain("ranked", *runs, "--root", market, "-q", "-o", tmp_path) == 2
    assert "apnet is tested on other pictures" in capsys.readouterr().err
