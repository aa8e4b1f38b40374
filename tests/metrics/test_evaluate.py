from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import ranking_twin as twin
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import whole_rows

import regard
from regard.errors import ConfigError, DataError
from regard.metrics import KReciprocal, distance_blocks, evaluate_ranking


def case(seed, queries=20, gallery=60, persons=6, cameras=3, integer=False, dim=8) -> dict[str, Any]:
    """Random descriptors and labels with junk, distractors, persons of one image and queries without a match."""
    rng = np.random.default_rng(seed)
    draw = (lambda n: whole_rows(rng, n, dim)) if integer else (lambda n: rng.normal(size=(n, dim)))
    gallery_pids = rng.integers(-1, persons + 1, gallery)
    gallery_pids[0] = persons + 1
    return {
        "query": draw(queries),
        "gallery": draw(gallery),
        "query_pids": rng.integers(1, persons + 4, queries),
        "gallery_pids": gallery_pids,
        "query_camids": rng.integers(1, cameras + 1, queries),
        "gallery_camids": rng.integers(1, cameras + 1, gallery),
    }


def twin_of(data, metric, **options):
    """The slow evaluation on the distances our blocks hold."""
    labels = [data[key] for key in ("query_pids", "gallery_pids", "query_camids", "gallery_camids")]
    blocks = distance_blocks(data["query"], data["gallery"], metric=metric)
    return twin.evaluate(np.concatenate([block.numpy() for _, block in blocks]), *labels, **options)


def same(a, b):
    np.testing.assert_array_equal(a.ap, b.ap)
    np.testing.assert_array_equal(a.inp, b.inp)
    np.testing.assert_array_equal(a.first_hit, b.first_hit)
    np.testing.assert_array_equal(a.cmc, b.cmc)
    assert (a.mAP, a.mINP) == (b.mAP, b.mINP)


@pytest.mark.parametrize("ap", ["step", "trapezoid"])
@pytest.mark.parametrize("unmatched", ["skip", "zero"])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(case(0), id="random"),
        pytest.param(case(1, integer=True, dim=3), id="heavy ties"),
        pytest.param(case(2, integer=True, dim=1, queries=40, gallery=200), id="hardly anything but ties"),
        pytest.param(case(3, gallery=7, persons=2), id="gallery smaller than the maximum rank"),
        pytest.param(case(4, persons=40), id="persons of a single image"),
        pytest.param(case(9, queries=1, persons=1), id="one query"),
        pytest.param(case(6, cameras=2, persons=1), id="one person"),
    ],
)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equals_the_slow_loop(data, metric, ap, unmatched):
    report = evaluate_ranking(**data, metric=metric, ap=ap, unmatched=unmatched)
    squared = "sqeuclidean" if metric == "euclidean" else metric
    mean_ap, mean_inp, cmc = twin_of(data, squared, ap=ap, unmatched=unmatched)
    assert report.mAP == pytest.approx(mean_ap, abs=1e-12)
    assert report.mINP == pytest.approx(mean_inp, abs=1e-12)
    np.testing.assert_allclose(report.cmc, cmc, atol=1e-12)
    assert len(report.cmc) == 50


@given(seed=st.integers(0, 10**6), integer=st.booleans(), dim=st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_equals_the_slow_loop_wherever_there_is_a_match(seed, integer, dim):
    data = case(seed, integer=integer, dim=dim)
    report = evaluate_ranking(**data, metric="sqeuclidean", unmatched="zero")
    mean_ap, mean_inp, cmc = twin_of(data, "sqeuclidean", unmatched="zero")
    np.testing.assert_allclose([report.mAP, report.mINP, *report.cmc], [mean_ap, mean_inp, *cmc], atol=1e-12)


@given(seed=st.integers(0, 10**6), metric=st.sampled_from(["cosine", "euclidean"]), memory=st.floats(1e-6, 0.1))
@settings(deadline=None, max_examples=40)
def test_the_memory_budget_changes_nothing(seed, metric, memory):
    data = case(seed, integer=seed % 2 == 0)
    same(evaluate_ranking(**data, metric=metric, memory_mb=memory), evaluate_ranking(**data, metric=metric))


@given(seed=st.integers(0, 10**6), metric=st.sampled_from(["cosine", "euclidean"]))
@settings(deadline=None, max_examples=40)
def test_the_order_of_a_gallery_without_ties_changes_nothing(seed, metric):
    data = case(seed)
    order = np.random.default_rng(seed).permutation(len(data["gallery"]))
    shuffled = data | {key: data[key][order] for key in data if key.startswith("gallery")}
    same(evaluate_ranking(**shuffled, metric=metric), evaluate_ranking(**data, metric=metric))


@given(seed=st.integers(0, 10**6), factor=st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=40)
def test_cosine_ignores_the_length_of_descriptors(seed, factor):
    data = case(seed)
    lengths = np.random.default_rng(seed).uniform(0.1, 10, (len(data["gallery"]), 1))
    scaled = data | {"query": data["query"] * factor, "gallery": data["gallery"] * lengths}
    same(evaluate_ranking(**scaled), evaluate_ranking(**data))


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=20)
def test_junk_is_as_if_it_were_not_there(seed):
    data = case(seed, integer=True)
    keep = data["gallery_pids"] != -1
    without = data | {key: data[key][keep] for key in data if key.startswith("gallery")}
    same(evaluate_ranking(**data), evaluate_ranking(**without))


def test_queries_of_junk_and_distractors_have_no_match():
    pids = [-1, 0, 3]
    report = evaluate_ranking(np.eye(3), np.eye(3), pids, pids)
    assert (report.num_queries, report.num_valid) == (3, 1)
    np.testing.assert_array_equal(report.first_hit, [-1, -1, 1])


def test_without_cameras_only_junk_is_removed():
    data = case(0)
    everyone: dict[str, Any] = {"query_camids": np.zeros(20, int), "gallery_camids": np.ones(60, int)}
    nobody: dict[str, Any] = {"query_camids": None, "gallery_camids": None}
    report = evaluate_ranking(**data | nobody)
    same(report, evaluate_ranking(**data | everyone))
    assert report.options["same camera"] == "ignored"


def test_tensors_and_lists_give_what_arrays_give():
    data = case(0)
    expected = evaluate_ranking(**data)
    tensors: dict[str, Any] = {key: torch.from_numpy(value) for key, value in data.items()}
    same(evaluate_ranking(**tensors), expected)
    same(evaluate_ranking(*(value.tolist() for value in data.values())), expected)


def test_report_reads_well():
    data = case(0)
    report = regard.evaluate_ranking(**data, max_rank=8)
    assert report.num_queries == 20
    assert 0 < report.num_valid < 20
    assert report.rank(1) == report.cmc[0]
    assert np.isnan(report.ap[report.first_hit == -1]).all()
    text = str(report)
    assert f"{100 * report.mAP:.2f}" in text
    assert "rank-10" not in text
    assert list(report.figures()) == ["mAP", "mINP", "rank-1", "rank-5"]
    whole = regard.evaluate_ranking(**data)
    assert list(whole.figures())[2:] == [f"rank-{k}" for k in (1, 5, 10, 15, 20)]
    assert f"{100 * whole.cmc[14]:.2f}" in str(whole)
    assert whole.figures()["rank-20"] == whole.cmc[19]
    for option in ("metric cosine", "re-ranking none", "AP step", "unmatched skip", "ties by gallery index"):
        assert option in text
    with pytest.raises(ConfigError, match="rank-9 asked of a curve of 8 ranks"):
        report.rank(9)


def test_report_goes_through_json():
    report = evaluate_ranking(**case(0), max_rank=5, rerank=KReciprocal(k1=3, k2=2))
    content = report.to_dict(per_query=True)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["options"]["re-ranking"] == "k1=3 k2=2 lambda=0.3 squared once"
    assert [hit is None for hit in content["first_hit"]] == (report.first_hit == -1).tolist()
    assert "ap" not in report.to_dict()


def test_progress_goes_to_stderr(capsys):
    evaluate_ranking(**case(0), progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "ranking" in shown.err
    evaluate_ranking(**case(0))
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@given(
    seed=st.integers(0, 10**6),
    integer=st.booleans(),
    ignore_cameras=st.booleans(),
    leave_one_out=st.booleans(),
    junk=st.sampled_from(["before", "query"]),
    memory_mb=st.sampled_from([256, 1e-4]),
)
@settings(deadline=None, max_examples=60)
def test_ignoring_cameras_and_leaving_one_out_equal_the_slow_loop(
    seed, integer, ignore_cameras, leave_one_out, junk, memory_mb
):
    data = case(seed, integer=integer, dim=3)
    if leave_one_out:
        data |= {key.replace("gallery", "query"): data[key] for key in list(data) if key.startswith("gallery")}
    how: dict[str, Any] = {"ignore_cameras": ignore_cameras, "leave_one_out": leave_one_out}
    got = evaluate_ranking(**data, metric="sqeuclidean", junk=junk, unmatched="zero", memory_mb=memory_mb, **how)
    mean_ap, mean_inp, cmc = twin_of(data, "sqeuclidean", unmatched="zero", **how)
    np.testing.assert_allclose([got.mAP, got.mINP, *got.cmc], [mean_ap, mean_inp, *cmc], atol=1e-12)
    assert got.options["same camera"] == ("ignored" if ignore_cameras else "removed")
    assert got.options["gallery"].endswith("without itself" if leave_one_out else "as given")
    if ignore_cameras:
        same(got, evaluate_ranking(**data | {"query_camids": None, "gallery_camids": None}, metric="sqeuclidean",
                                   unmatched="zero", leave_one_out=leave_one_out))  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({}, DataError, "leave-one-out compares a list with itself, but query and gallery differ"),
        ({"gallery": case(1, gallery=20)["gallery"]}, DataError, "query and gallery differ; give the same list twice"),
        ({"rerank": True}, ConfigError, "leave-one-out does not go with re-ranking, where every image would find"),
        ({"expansion": True}, ConfigError, "leave-one-out does not go with query expansion"),
        ({"cmc": "cuhk03", "ignore_cameras": True}, ConfigError, "leave-one-out does not go with cmc 'cuhk03'"),
    ],
)
def test_leaving_one_out_wants_one_list(change, error, says):
    data = case(0)
    if "gallery" in change:
        data |= {key: data[key.replace("gallery", "query")] for key in data if key.startswith("gallery")}
    with pytest.raises(error, match=says):
        evaluate_ranking(**data | change, leave_one_out=True)


def test_a_list_without_second_images_is_said_so():
    features, pids = np.eye(5), np.arange(1, 6)
    with pytest.raises(DataError, match="none of the 5 persons has a second image in the list"):
        evaluate_ranking(features, features, pids, pids, leave_one_out=True)
    nobody = np.array([1, 1, 0, -1, 0])
    assert evaluate_ranking(features, features, nobody, nobody, leave_one_out=True).num_valid == 2


def test_any_integers_of_64_bits_name_people():
    data = case(0)
    high = {key: values.astype(np.uint64) + 2**62 for key, values in data.items() if key.endswith("camids")}
    high["query_pids"] = data["query_pids"].tolist()
    same(evaluate_ranking(**data), evaluate_ranking(**data | high))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("how", [{}, {"rerank": KReciprocal(k1=4, k2=2)}, {"expansion": True}, {"junk": "query"}])
def test_a_common_offset_of_a_thousand_spreads_changes_no_order(metric, how):
    data = case(5)
    for side in ("query", "gallery"):
        data[side] = (data[side] + 1000 * np.sign(data["query"][0])).astype(np.float32)
    plain = {side: data[side].astype(np.float64) for side in ("query", "gallery")}
    if metric == "cosine":  # half the squared distance of vectors of length 1
        plain = {side: rows / np.linalg.norm(rows, axis=1, keepdims=True) for side, rows in plain.items()}
    center = plain["gallery"].mean(0)
    plain = {side: 1000 * (rows - center) for side, rows in plain.items()}
    got, wanted = (
        evaluate_ranking(**data, metric=metric, **how),
        evaluate_ranking(**data | plain, metric="euclidean", **how),
    )
    np.testing.assert_array_equal(got.first_hit, wanted.first_hit)
    np.testing.assert_allclose(got.ap, wanted.ap, atol=1e-12)


def with_nan():
    gallery = case(0)["gallery"]
    gallery[[7, 9], 3] = np.nan
    return gallery


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"metric": "euclid"}, ConfigError, "unknown metric 'euclid', did you mean 'euclidean'"),
        ({"ap": "trapez"}, ConfigError, "unknown ap option 'trapez', did you mean 'trapezoid'"),
        ({"unmatched": "drop"}, ConfigError, "known: skip, zero"),
        ({"max_rank": 0}, ConfigError, "max_rank is 0"),
        ({"memory_mb": -1}, ConfigError, "memory_mb is -1"),
        ({"query": np.zeros((20, 3))}, DataError, "query features have 3 columns and gallery features 8"),
        ({"query": np.zeros((0, 8))}, DataError, "query features are empty"),
        ({"gallery": np.zeros((0, 8))}, DataError, "gallery features are empty"),
        ({"gallery": with_nan()}, DataError, "gallery features hold NaN.* in 2 of 60 rows, first in row 7"),
        ({"query_pids": np.ones(19, int)}, DataError, r"query_pids has shape \(19,\) for 20 feature rows"),
        ({"gallery_camids": np.ones(60)}, DataError, "gallery_camids is of type float64: give integers"),
        ({"gallery_camids": None}, DataError, "gallery_camids is missing"),
        ({"gallery_pids": np.full(60, -1)}, DataError, "all 60 gallery images are junk"),
        (
            {"query_pids": np.full(20, 99)},
            DataError,
            r"1 query ids \(99\) and the 9 gallery ids \(-1, 0, 1, ...\) share",
        ),
        ({"query_pids": np.zeros(20, int)}, DataError, "number persons from 1"),
        ({"query_pids": np.full(20, -2)}, DataError, "query_pids holds -2 .20 of 20 below -1., wanted -1 for junk"),
        ({"gallery_pids": np.arange(-5, 55)}, DataError, "gallery_pids holds -5 .4 of 60 below -1"),
        ({"query_pids": [2**63] * 20}, DataError, "query_pids holds 9223372036854775808, wanted integers up to"),
        ({"query_camids": np.full(20, 2**64 - 1, np.uint64)}, DataError, "query_camids holds 18446744073709551615"),
        ({"query_pids": [2**70] * 20}, DataError, "query_pids is of type object: give integers from -2.63"),
        ({"query_pids": ["7"] * 20}, DataError, "query_pids is of type <U1: give integers"),
        ({"query_pids": [[1], [1, 2]]}, DataError, "query_pids are not an array"),
        ({"query_pids": torch.ones(20, dtype=torch.bfloat16)}, DataError, "query_pids is of type float64"),
        ({"query": np.eye(20, 8)}, DataError, "query features are zero in 12 of 20 rows, first in row 8"),
        ({"gallery": np.zeros((60, 8))}, DataError, "gallery features are zero in 60 of 60 rows"),
        (
            {"query_camids": np.ones(20, int), "gallery_camids": np.ones(60, int)},
            DataError,
            r"taken by the query's own camera \(query camids 1\)",
        ),
    ],
)
@pytest.mark.parametrize("rerank", [False, True])
def test_bad_input_is_refused_in_one_line(change, error, says, rerank):
    with pytest.raises(error, match=says) as caught:
        evaluate_ranking(**case(0) | change, rerank=rerank)
    assert "\n" not in str(caught.value)
