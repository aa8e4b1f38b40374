from __future__ import annotations

import json

import numpy as np
import pytest
import ranking_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import case, distances, labels, sets

from regard.errors import DataError
from regard.metrics import average, evaluate_camera_pairs, evaluate_ranking
from regard.metrics.by_camera import Averages


@given(seed=st.integers(0, 10**6), integer=st.booleans())
@settings(deadline=None, max_examples=15)
def test_a_cell_is_the_evaluation_of_its_cameras_alone(seed, integer):
    data = case(seed, queries=30, integer=integer, dim=3)
    table = evaluate_camera_pairs(*sets(**data), metric="sqeuclidean")
    matrix = distances(data)
    query_pids, gallery_pids, query_camids, gallery_camids = labels(data)
    for row, a in enumerate(table.query_cameras):
        for column, b in enumerate(table.gallery_cameras):
            q, g = query_camids == a, gallery_camids == b
            part = matrix[np.ix_(q, g)], query_pids[q], gallery_pids[g], query_camids[q], gallery_camids[g]
            valid = [pid > 0 and a != b and (gallery_pids[g] == pid).any() for pid in query_pids[q]]
            assert table.num_queries[row, column] == sum(valid)
            if any(valid):
                mean_ap, _, cmc = twin.evaluate(*part)
                assert table.mAP[row, column] == pytest.approx(mean_ap)
                assert table.rank1[row, column] == pytest.approx(cmc[0])
            else:
                assert np.isnan(table.mAP[row, column])


def test_the_table_reads_well_and_goes_through_json():
    table = evaluate_camera_pairs(*sets(**case(1)))
    rows = json.loads(json.dumps(table.to_dict(), allow_nan=False))["pairs"]
    assert sum(row["num_queries"] for row in rows) == table.num_queries.sum()
    assert str(table).splitlines()[0].split()[:4] == ["query", "camera", "in", "1"]


def test_without_cameras_there_is_no_table():
    with pytest.raises(DataError, match="needs query_camids and gallery_camids"):
        evaluate_camera_pairs(*sets(**case(1) | {"query_camids": None, "gallery_camids": None}))


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_averages_equal_the_slow_loop(seed):
    data = case(seed, queries=30)
    report = evaluate_ranking(**data)
    got = average(report, data["query_pids"], data["query_camids"])
    assert got.micro == pytest.approx({"mAP": report.mAP, "mINP": report.mINP, "rank1": report.rank(1)})
    for keys, figures in ((data["query_pids"], got.per_identity), (data["query_camids"], got.per_camera)):
        means = []
        for key in set(keys.tolist()):
            members = [i for i in range(30) if keys[i] == key and report.first_hit[i] > 0]
            if members:
                means.append([np.mean(report.ap[members]), np.mean(report.first_hit[members] == 1)])
        assert figures is not None
        assert [figures["mAP"], figures["rank1"]] == pytest.approx(np.mean(means, axis=0))


def test_averages_count_the_queries_that_the_report_counts():
    data = case(1)
    report = evaluate_ranking(**data, unmatched="zero")
    assert report.num_valid < report.num_queries
    got = average(report, data["query_pids"])
    assert (got.micro["mAP"], got.micro["mINP"]) == pytest.approx((report.mAP, report.mINP))
    assert got.micro["rank1"] == pytest.approx(report.rank(1))


def test_averages_without_cameras():
    data = case(2)
    got = average(evaluate_ranking(**data), data["query_pids"])
    assert got.per_camera is None
    assert set(got.to_dict()) == {"micro", "per_identity", "per_camera"}
    with pytest.raises(DataError, match="query_pids has shape"):
        average(evaluate_ranking(**data), data["query_pids"][:3])


def test_averages_print_as_a_table():
    lines = str(Averages({"mAP": 0.5}, {"mAP": 0.25}, None)).splitlines()
    wanted = [["mean", "over", "mAP"], ["queries", "50.00"], ["people", "25.00"], ["in", "%"]]
    assert [line.split() for line in lines] == wanted
