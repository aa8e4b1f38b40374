"""Figures on which published evaluators agree, on sets that gather everything they could disagree on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ranking_data import make

from regard.metrics import evaluate_ranking

ORACLE = json.loads(Path(__file__).with_name("ranking_oracle.json").read_text())

dataset = cache(make)


def evaluate(name, junk, **options):
    data = dict(dataset(name))
    if junk == "junk_kept":  # as a wrong match, which is what a distractor is
        data["gallery_pids"] = np.where(data["gallery_pids"] == -1, 0, data["gallery_pids"])
    return evaluate_ranking(**data, metric="sqeuclidean" if name.startswith("edge") else "cosine", **options)


def check(name, junk, tolerance):
    expected = ORACLE[name][junk]
    step, trapezoid = (evaluate(name, junk, ap=ap) for ap in ("step", "trapezoid"))
    assert step.num_valid == expected["valid"]
    got = [step.mAP, trapezoid.mAP, step.mINP, *(step.rank(k) for k in (1, 5, 10))]
    wanted = [expected[key] for key in ("mAP", "mAP_trapz", "mINP", "R1", "R5", "R10")]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "junk"), [(n, j) for n in ("edge_tiny", "edge", "small") for j in ORACLE[n] if j != "about"]
)
def test_small_sets_to_the_last_digit(name, junk):
    check(name, junk, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("junk", ["junk_kept", "junk_dropped"])
def test_market_up_to_rounding_of_the_distances(junk):
    """A few of its 66 million distances are closer to each other than float32 can tell, and every matrix library
    rounds them differently: the same figures from NumPy's product differ by 1e-7, from float64 by 2e-6."""
    check("market", junk, 2e-6)


@pytest.mark.slow
def test_market_reranked():
    report = evaluate("market", "junk_dropped", rerank=True)
    expected = ORACLE["market"]["reranked"]
    assert report.mAP == pytest.approx(expected["mAP"], abs=1e-6)
    assert report.rank(1) == pytest.approx(expected["R1"], abs=1e-6)
