from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_cases import case, distances

from regard.errors import ConfigError
from regard.metrics import QueryExpansion, evaluate_ranking
from regard.metrics.expansion import expand_queries


def slow(data, metric, k, alpha):
    unit = lambda x: x / np.linalg.norm(x) if np.linalg.norm(x) else x  # noqa: E731
    table = []
    for query, row in zip(data["query"], distances(data, metric)):
        near = sorted(range(len(row)), key=lambda j: (row[j], j))[:k]
        weights = [max(0, unit(query) @ unit(data["gallery"][j])) ** alpha for j in near]
        kind = unit if metric == "cosine" else np.asarray
        total = kind(query) + sum(w * kind(data["gallery"][j]) for w, j in zip(weights, near))
        table.append(total / (1 + sum(weights)))
    return np.array(table)


@given(
    seed=st.integers(0, 10**6),
    integer=st.booleans(),
    metric=st.sampled_from(["cosine", "sqeuclidean"]),
    k=st.integers(1, 70),
    alpha=st.sampled_from([0, 1, 3]),
)
@settings(deadline=None, max_examples=30)
def test_equals_the_slow_loop(seed, integer, metric, k, alpha):
    data = case(seed, queries=6, integer=integer)
    got = expand_queries(data["query"], data["gallery"], QueryExpansion(k, alpha), metric=metric)
    np.testing.assert_allclose(got, slow(data, metric, k, alpha), atol=1e-5)


def test_an_evaluation_takes_expanded_queries_and_says_so():
    data = case(1)
    shown = data["gallery"][data["gallery_pids"] != -1]
    options = QueryExpansion(3, 2)
    expanded = expand_queries(data["query"], shown, options)
    report = evaluate_ranking(**data, expansion=options)
    np.testing.assert_array_equal(report.ap, evaluate_ranking(**data | {"query": expanded}).ap)
    assert report.options["expansion"] == "k=3 alpha=2"
    assert evaluate_ranking(**data, expansion=True).options["expansion"] == "k=5 alpha=0"
    assert evaluate_ranking(**data).options["expansion"] == "none"


def test_helps_where_the_neighbors_are_right():
    rng = np.random.default_rng(2)
    person = rng.integers(0, 30, 460)
    features = rng.normal(size=(30, 12))[person] + 0.8 * rng.normal(size=(460, 12))
    labels = (person[:60] + 1, person[60:] + 1)
    plain, expanded = (evaluate_ranking(features[:60], features[60:], *labels, expansion=on) for on in (False, True))
    assert expanded.mAP > plain.mAP + 0.02


@pytest.mark.parametrize(("options", "says"), [({"k": 0}, "k=0"), ({"alpha": -1}, "alpha=-1")])
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        QueryExpansion(**options)
