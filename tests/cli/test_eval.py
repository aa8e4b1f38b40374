"""``regard eval``: files of descriptors, pooled queries, figures beyond CMC and mAP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from test_commands import run

import regard
from command_words import once
from regard.cli.main import main
from regard.data import load_dataset
from regard.metrics import evaluate_camera_pairs, evaluate_open_set, pool_features, read_features


@pytest.fixture
def files(tmp_path):
    """Query and gallery of five people by three cameras, in one file each."""
    generator = np.random.default_rng(3)
    people = generator.normal(size=(5, 8))
    paths = []
    for name, images in (("query", 2), ("gallery", 3)):
        pids, camids = (ids.ravel() for ids in np.meshgrid(np.arange(1, 6), np.arange(3), indexing="ij"))
        pids, camids = np.repeat(pids, images), np.repeat(camids, images)
        embeddings = (people[pids - 1] + 1.5 * generator.normal(size=(len(pids), 8))).astype(np.float32)
        paths.append(tmp_path / f"{name}.npz")
        np.savez(paths[-1], embeddings=embeddings, pids=pids, camids=camids)
    return paths


@pytest.fixture
def market_with_lists(market, tmp_path):
    """Market-1501 in miniature with ``gt_query`` by identity and camera."""
    root = Path(shutil.copytree(market, tmp_path / "market1501"))
    (root / "gt_query").mkdir()
    test = root / "bounding_box_test"
    shutil.copy(min(test.glob("*.jpg")), test / "0000_c1s1_000001_00.jpg")
    splits = load_dataset("market1501", root)
    for query in splits.query:
        same = [(number, one.camid) for number, one in enumerate(splits.gallery, 1) if one.pid == query.pid]
        bad = [number for number, one in enumerate(splits.gallery, 1) if one.pid == -1]
        good = [number for number, camera in same if camera != query.camid]
        junk = [number for number, camera in same if camera == query.camid] + bad
        for kind, numbers in (("good", good), ("junk", junk)):
            savemat(root / f"gt_query/{query.path.stem}_{kind}.mat", {f"{kind}_index": numbers})
    return root


def arrays(files):
    query, gallery = (np.load(file) for file in files)
    return [query["embeddings"], gallery["embeddings"], query["pids"], gallery["pids"], query["camids"],
            gallery["camids"]]  # fmt: skip


def sets(files):
    return [read_features(file) for file in files]


def test_files_are_scored_like_arrays(files, tmp_path, capsys):
    out_file = tmp_path / "scores.json"
    code, out, err = run(
        "eval", "--features", *files, "--open-set", "--cameras", "--averages", "--ap", "trapezoid", "--cmc", "allshots",
        "--json", out_file, "-q", capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out_file.read_text())
    expected = regard.evaluate_ranking(*arrays(files), ap="trapezoid", cmc="allshots")
    assert found["mAP"] == expected.mAP
    assert found["cameras"] == evaluate_camera_pairs(*sets(files), ap="trapezoid").to_dict()
    assert found["open_set"] == json.loads(json.dumps(evaluate_open_set(*sets(files)).to_dict()))
    assert found["averages"]["micro"]["mAP"] == pytest.approx(expected.mAP)
    for words in ("query 30, gallery 45 descriptors", "CMC allshots", "false alarms", "query camera", "mean over"):
        assert words in out


def test_one_list_asks_itself(files, tmp_path, capsys):
    out_file = tmp_path / "scores.json"
    one = np.load(files[1])
    same = [one["embeddings"]] * 2 + [one["pids"]] * 2 + [one["camids"]] * 2
    for flags, options in (([], {}), (["--ignore-cameras"], {"ignore_cameras": True})):
        code, out, err = run(
            "eval",
            "--features",
            files[1],
            "--leave-one-out",
            *flags,
            "--open-set",
            "--json",
            out_file,
            "-q",
            capsys=capsys,
        )
        assert code == 0, err
        found = json.loads(out_file.read_text())
        expected = regard.evaluate_ranking(*same, leave_one_out=True, **options)
        assert found["mAP"] == expected.mAP
        assert found["options"] == {"descriptors": "from files", **expected.options}
        assert found["files"] == [str(files[1])]
        assert "descriptors from files" in out


def test_pooled_queries(files, tmp_path, capsys):
    out_file = tmp_path / "scores.json"
    code, out, _ = run("eval", "--features", *files, "--queries", "max", "--json", out_file, "-q", capsys=capsys)
    assert code == 0
    assert "queries max of a person's by a camera" in out
    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids = arrays(files)
    pooled = pool_features(query, query_pids, query_camids, how="max")
    expected = regard.evaluate_ranking(
        pooled.features, gallery, pooled.pids, gallery_pids, pooled.camids, gallery_camids
    )
    assert json.loads(out_file.read_text())["mAP"] == expected.mAP


def test_mistakes_are_told_in_one_line(files, tmp_path, capsys):
    for arguments, words in (
        ([], "give a run folder, or --features QUERY GALLERY"),
        (["somewhere", "--features", *files], "and not both"),
        (["--features", files[0], tmp_path / "gone.npz"], "no file"),
        (["--features", *files, "--tracklets"], "the query has no tracklets to pool"),
        (["--features", files[0]], "--features got 1 files, wanted QUERY and GALLERY"),
        (["--features", *files, "--leave-one-out"], "--features got 2 files, wanted one file with --leave-one-out"),
        (["--features", *files, "--no-flip"], "--flip says how pictures are embedded; descriptors are there already"),
        (["--features", files[0], "--leave-one-out", "--queries", "max"], "'max' do not go with leave-one-out"),
    ):
        code, _, err = run("eval", *arguments, "-q", capsys=capsys)
        assert code == 2
        assert words in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_how_market_was_read_and_judged_stands_with_the_score(capsys, tmp_path, tiny_overrides, market_with_lists):
    folder, file = tmp_path / "run", tmp_path / "scores.json"
    code, _, err = run(
        "train", "baseline_crowd", *once([*tiny_overrides, "train.epochs=1"]), "-o", folder, "-q", capsys=capsys
    )
    assert code == 0, err
    how = ["eval", folder, "-q", "--json", file, "--root", market_with_lists, "--data"]
    code, out, err = run(*how, "market1501,distractors=false", "--protocol", "lists", capsys=capsys)
    assert code == 0, err
    found = json.loads(file.read_text())
    assert found["options"]["data"] == "market1501 (distractors=false)"
    assert found["options"]["protocol"] == "good and junk lists"
    assert found["options_of_data"] == {"distractors": False}
    assert "market1501 (distractors=false): train" in out
    assert "data market1501 (distractors=false)" in out
    assert "protocol good and junk lists" in out
    code, out, err = run(*how, "market1501", "market1501,distractors=false", capsys=capsys)
    assert code == 0, err
    assert list(json.loads(file.read_text())["data"]) == ["market1501", "market1501 (distractors=false)"]
    code, _, err = run("eval", folder, "-q", "--root", market_with_lists, "--data", "market1501,distractor=false",
                       capsys=capsys)  # fmt: skip
    assert code == 2
    assert "distractors" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_run_is_scored_further_by_hand(capsys, tmp_path, tiny_overrides):
    folder, out_file = tmp_path / "run", tmp_path / "scores.json"
    assert run("train", "baseline_crowd", *tiny_overrides, "-q", "-o", folder, capsys=capsys)[0] == 0
    code, out, err = run(
        "eval", folder, "--queries", "mean", "--cameras", "--unmatched", "zero", "--expansion", "--json", out_file,
        "-q", capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    assert "unmatched zero" in out
    assert "expansion none" not in out
    assert {row["query_camera"] for row in json.loads(out_file.read_text())["cameras"]["pairs"]} == {1, 2}


@pytest.mark.parametrize("asked", [["--worse", "query"], ["--images", "9"], ["--severities", "3"], ["--mixed", "2"]])
def test_options_of_worse_pictures_without_any_are_refused(asked, tmp_path, capsys):
    """All pictures were scored as they are, as if nothing had been asked for."""
    assert main(["eval", str(tmp_path), *asked]) == 2
    assert f"{asked[0]} is about worse pictures; ask for them with --corruptions" in capsys.readouterr().err
