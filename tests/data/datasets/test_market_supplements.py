"""Market-1501 without distractors, with the hand-drawn gallery, and scored by its good and junk lists."""

from __future__ import annotations

import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from regard.config import EvalConfig
from regard.data import load_dataset
from regard.data.datasets import published_counts
from regard.data.datasets.inspection import inspect
from regard.data.datasets.market1501 import departures, find_lists
from regard.data.mat_file import MAX_FILE, read_numbers
from regard.data.sources import find_source
from regard.errors import ConfigError, DataError
from regard.evaluation.embed import evaluate_splits
from regard.evaluation.scoring import score_sets
from regard.metrics import FeatureSet, evaluate_ranking
from regard.structures import JUNK, MatchLists


def write_lists(root: Path, good=lambda stem, rows: rows, junk=lambda stem, rows: rows, **how) -> Path:
    """``gt_query`` by identity and camera, as a function of them changes it."""
    names = sorted(path.name for path in (root / "bounding_box_test").glob("*.jpg"))
    (root / "gt_query").mkdir(exist_ok=True)
    for path in (root / "query").glob("*.jpg"):
        pid, camera = path.name[:4], path.name[5:7]
        same = [name.split("_")[0] == pid for name in names]
        own = [name.split("_")[1][:2] == camera for name in names]
        rows = range(1, len(names) + 1)
        right = [row for row in rows if same[row - 1] and not own[row - 1]]
        neither = [row for row in rows if (same[row - 1] and own[row - 1]) or names[row - 1].startswith("-1")]
        for kind, change, found in (("good", good, right), ("junk", junk, neither)):
            content = {f"{kind}_index": np.array(change(path.stem, found), float)}
            savemat(root / f"gt_query/{path.stem}_{kind}.mat", content, **how)
    return root


def features(splits) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return draw.normal(size=(len(splits.query), 4)), draw.normal(size=(len(splits.gallery), 4))


def matlab_ap(good: list[int], junk: list[int], order: list[int]) -> tuple[float, int]:
    """AP and rank of the first hit as the published evaluation has them, picture after picture."""
    ap, recall, precision, seen, hits, first = 0.0, 0.0, 1.0, 0, 0, -1
    for row in order:
        if row in junk:
            continue
        hits += row in good
        if row in good and first < 0:
            first = seen + 1
        ap += (hits / len(good) - recall) * (precision + hits / (seen + 1)) / 2
        recall, precision, seen = hits / len(good), hits / (seen + 1), seen + 1
        if hits == len(good):
            break
    return ap, first


@pytest.mark.parametrize("how", [{}, {"do_compression": True}, {"oned_as": "column", "long_field_names": True}])
def test_lists_by_the_rule_score_as_the_rule(market, how):
    splits = load_dataset("market1501", write_lists(market, **how))
    lists = find_lists(splits)
    assert list(departures(lists, splits.query, splits.gallery)) == []
    given = features(splits)
    rule, listed = (evaluate_splits(*given, splits, EvalConfig(protocol=one)) for one in ("rule", "lists"))
    assert (rule.mAP, rule.mINP) == (listed.mAP, listed.mINP)
    np.testing.assert_array_equal(rule.cmc, listed.cmc)
    assert (rule.options["protocol"], listed.options["protocol"]) == ("identity and camera", "good and junk lists")
    assert "protocol good and junk lists" in str(listed)
    for more in ({"rerank": True}, {"expansion": True}, {"junk": "query", "rerank": True}, {"cmc": "allshots"}):
        one, other = (evaluate_splits(*given, splits, EvalConfig(protocol=p, **more)) for p in ("rule", "lists"))
        assert (one.mAP, one.cmc.tolist()) == (other.mAP, other.cmc.tolist())


def test_a_list_that_departs_counts_as_the_published_evaluation_counts_it(market):
    """Query 101: the distractor is right; query 102: the picture by its own camera and the bad detection are wrong."""
    sides = {"good": lambda stem, rows: rows + ([2] if stem.startswith("0101") else []),
             "junk": lambda stem, rows: [] if stem.startswith("0102") else rows}  # fmt: skip
    splits = load_dataset("market1501", write_lists(market, **sides))
    query, gallery = features(splits)
    report = evaluate_splits(query, gallery, splits, EvalConfig(protocol="lists", ap="trapezoid", metric="euclidean"))
    distances = ((query[:, None] - gallery[None]) ** 2).sum(2)
    lists = find_lists(splits)
    for index, row in enumerate(distances):
        good, junk = (part[index].tolist() for part in (lists.good, lists.junk))
        wanted = matlab_ap(good, junk, list(np.argsort(row)))
        assert (report.ap[index], report.first_hit[index]) == pytest.approx(wanted)
    found = [str(one) for one in departures(lists, splits.query, splits.gallery)]
    assert found == ["0101_c1s1_000001_00.jpg (good +1 -0)", "0102_c1s1_000001_00.jpg (junk +0 -2)"]
    checked = inspect("market1501", market)
    assert "gt_query: the lists of 2 queries depart from identity and camera" in "\n".join(map(str, checked.warnings))
    assert "gt_query: 4 lists for 2 queries, those of 0 as identity and camera say" in str(checked)
    assert [one.files for one in checked.warnings if "depart" in one.text] == [found]


def test_lists_against_a_slow_twin():
    """Lists drawn at random, in any order of rows."""
    for seed in range(20):
        draw = np.random.default_rng(seed)
        query, gallery = draw.normal(size=(4, 3)), draw.normal(size=(12, 3))
        parts = [np.split(draw.permutation(12)[: draw.integers(3, 12)], [2]) for _ in query]
        lists = MatchLists([good for good, _ in parts], [junk for _, junk in parts])
        how = {"metric": "euclidean", "ap": "trapezoid", "lists": lists, "junk": ("before", "query")[seed % 2]}
        report = evaluate_ranking(query, gallery, [1, 2, 3, 4], [JUNK] * 12, **how)
        order = ((query[:, None] - gallery[None]) ** 2).sum(2).argsort(1)
        wanted = [matlab_ap(good.tolist(), junk.tolist(), row.tolist()) for (good, junk), row in zip(parts, order)]
        np.testing.assert_allclose(report.ap, [ap for ap, _ in wanted])
        assert report.first_hit.tolist() == [first for _, first in wanted]


def test_lists_and_what_does_not_go_with_them(market):
    splits = load_dataset("market1501", market)
    given, lists = features(splits), EvalConfig(protocol="lists")
    with pytest.raises(ConfigError, match=r"wants good and junk lists, but market1501 in '.*' has no folder gt_query"):
        evaluate_splits(*given, splits, lists)
    write_lists(market)
    with pytest.raises(ConfigError, match="do not go with ignored cameras"):
        evaluate_splits(*given, splits, EvalConfig(protocol="lists", ignore_cameras=True))
    with pytest.raises(ConfigError, match="do not go with cmc 'cuhk03'"):
        evaluate_splits(*given, splits, EvalConfig(protocol="lists", cmc="cuhk03"))
    sets = [FeatureSet(one, np.arange(len(one)), np.ones(len(one), int)) for one in given]
    with pytest.raises(ConfigError, match="wants a data set with good and junk lists"):
        score_sets(*sets, lists)
    for how in ({"queries": "mean"}, {"details": ["cameras"]}, {"details": ["open_set"]}):
        with pytest.raises(ConfigError, match="which go by identity; leave one out"):
            score_sets(*sets, lists, splits=splits, **how)
    shutil.copytree(market / "bounding_box_test", market / "gt_bbox")
    with pytest.raises(ConfigError, match="speaks of the pictures in bounding_box_test, but the gallery"):
        find_lists(load_dataset("market1501", market, gallery="gt_bbox"))
    without = load_dataset("market1501", market, distractors=False)
    assert [rows.tolist() for rows in find_lists(without).good] == [[2], [4]]


@pytest.mark.parametrize("change", ["missing", "zero", "beyond", "twice", "both", "half", "text"])
def test_lists_that_cannot_be_meant(market, change):
    write_lists(market)
    file = market / "gt_query/0101_c1s1_000001_00_good.mat"
    values = {"zero": [0], "beyond": [7], "twice": [4, 4], "both": [1], "half": [2.5], "text": "four"}
    file.unlink() if change == "missing" else savemat(file, {"good_index": values[change]})
    with pytest.raises(DataError) as caught:
        find_lists(load_dataset("market1501", market))
    assert "\n" not in str(caught.value)
    assert "0101_c1s1_000001_00_good.mat" in str(caught.value)
    assert str(caught.value) in [finding.text for finding in inspect("market1501", market).faults]


@pytest.mark.parametrize("rounds", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_lists_are_refused_in_one_line(tmp_path, rounds):
    draw, refused = np.random.default_rng(rounds), 0
    for packed in (False, True):
        file = tmp_path / "list.mat"
        savemat(file, {"good_index": np.arange(1, 300)}, do_compression=packed)
        whole = file.read_bytes()
        assert read_numbers(file, "good_index").tolist() == list(range(1, 300))
        for _ in range(rounds):
            content = bytearray(whole)
            for place in draw.integers(0, len(whole), draw.integers(1, 4)):
                content[place] = draw.integers(256)
            file.write_bytes(content[: draw.integers(1, len(content))] if draw.random() < 0.4 else content)
            try:
                said = ""
                read_numbers(file, "good_index")
            except DataError as error:
                said = str(error)
            refused += bool(said)
            assert "\n" not in said
    assert refused > rounds


def test_lists_that_claim_too_much(tmp_path):
    file, head = tmp_path / "list.mat", bytes(124) + b"\0\1IM"
    for content, reason in (
        (b"", "no header of one"),
        (head, "it holds no variable"),
        (head + (15).to_bytes(4, "little") + len(bomb := zlib.compress(bytes(32 << 20))).to_bytes(4, "little") + bomb,
         "unpacks to more than 8 MB"),
        (head + b"\x0e\0\0\0\xff\xff\xff\xff" + bytes(64), "claims more bytes than there are"),
        (head + b"\x0e\0\0\0\0\0\0\0" * 100, "more than 64 parts|lacks flags"),
        (bytes(MAX_FILE + 1), "more than 1,048,576 bytes"),
    ):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(DataError, match=reason):
            read_numbers(file, "good_index")
    with pytest.raises(DataError, match="there is no MATLAB 5 file of that name"):
        read_numbers(tmp_path / "none.mat", "good_index")
    savemat(file, {"a": [1], "b": [2]})
    with pytest.raises(DataError, match="it holds 'a', 'b' and no 'good_index'"):
        read_numbers(file, "good_index")
    for values in ([1.5], [np.nan], [1j], "text", np.ones((2, 2)), [True, False], {"a": 1}):
        savemat(file, {"good_index": values})
        with pytest.raises(DataError, match=r"no whole number|no list of real numbers"):
            read_numbers(file, "good_index")


def test_without_distractors(market):
    whole, without = (find_source(text).read() for text in (str(market), f"{market},distractors=false"))
    assert [s.path for s in without.gallery] == [s.path for s in whole.gallery if s.pid != 0]
    assert (whole.label, without.label) == ("market1501", "market1501 (distractors=false)")
    assert str(without).startswith("market1501 (distractors=false): train ")
    assert str(find_source(f"{market},distractors=false")) == without.label
    given = features(without)
    report = evaluate_splits(*given, without, EvalConfig())
    assert report.to_dict()["options"]["data"] == without.label
    assert f"in %; data {without.label}, " in str(report)
    assert "data" not in evaluate_splits(*features(whole), whole, EvalConfig()).options
    assert replace(without, train=[]).label == without.label
    counts = published_counts("market1501", distractors=False)
    assert counts is not None
    assert (counts.gallery_images, counts.distractors, counts.junk) == (16_934, 0, 3_819)


def test_hand_drawn_gallery(market, picture):
    with pytest.raises(DataError, match="has no folder gt_bbox; unpack it there"):
        load_dataset("market1501", market, gallery="gt_bbox")
    for name in ("0101_c1s1_000001_00", "0101_c2s1_000051_00", "0102_c2s1_000051_00", "0001_c2s1_000051_00"):
        picture(market / "gt_bbox" / f"{name}.jpg", seed=hash(name) % 999)
    splits = load_dataset("market1501", market, gallery="gt_bbox")
    assert [(s.path.parent.name, s.pid, s.camid) for s in splits.gallery] == [
        ("gt_bbox", 1, 2), ("gt_bbox", 101, 1), ("gt_bbox", 101, 2), ("gt_bbox", 102, 2)]  # fmt: skip
    assert splits.label == "market1501 (gallery=gt_bbox)"
    report = inspect("market1501", market)
    assert "gt_bbox: 4 hand-drawn boxes of 3 ids; a gallery with gallery=gt_bbox" in str(report)
    assert report.to_dict()["notes"]
    assert "gt_bbox images: 4 found, 25,259 published" in [finding.text for finding in report.warnings]
    drawn = inspect("market1501", market, gallery="gt_bbox")
    assert "gallery images: 4 found, 25,259 published" in [finding.text for finding in drawn.faults]


def test_options_that_make_no_sense(market):
    for options, error in (
        ({"distractors": "no"}, "option distractors is 'no', expected one of True, False"),
        ({"gallery": "train"}, "option gallery is 'train', expected one of bounding_box_test, gt_bbox"),
        ({"gallery": "gt_bbox", "distractors": False}, "has no distractors to leave out"),
    ):
        with pytest.raises(ConfigError, match=error):
            load_dataset("market1501", market, **options)
    with pytest.raises(ConfigError, match=r"dukemtmc.*distractors"):
        find_source(f"dukemtmc={market},distractors=false").read()
