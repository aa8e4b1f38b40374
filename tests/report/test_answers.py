"""Answers stand in the order in which the evaluation counts them, whatever was done to the distances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from regard.errors import ConfigError
from regard.metrics import FeatureSet, evaluate_ranking, rank
from regard.report.answers import answers

RANDOM = np.random.default_rng(0)
QUERY = FeatureSet(RANDOM.normal(size=(12, 6)), RANDOM.integers(1, 6, 12), RANDOM.integers(1, 4, 12))
GALLERY = FeatureSet(RANDOM.normal(size=(50, 6)), RANDOM.integers(-1, 6, 50), RANDOM.integers(1, 4, 50))
ARRAYS = (QUERY.embeddings, GALLERY.embeddings, QUERY.pids, GALLERY.pids, QUERY.camids, GALLERY.camids)


@pytest.mark.parametrize(
    ("metric", "rerank", "expansion", "junk"),
    list(itertools.product(("cosine", "euclidean"), (False, True), (False, True), ("before", "query"))),
)
def test_precision_read_off_the_answers_is_that_of_the_evaluation(metric, rerank, expansion, junk):
    options = {"metric": metric, "rerank": rerank, "expansion": expansion, "junk": junk}
    report = evaluate_ranking(*ARRAYS, **options)
    found = answers(QUERY, GALLERY, 50, **options)
    for matches, ap, first in zip(found.matches, report.ap, report.first_hit):
        right = np.flatnonzero(matches)
        assert (right[0] + 1 if len(right) else -1) == first
        precision = np.mean(np.arange(1, len(right) + 1) / (right + 1)) if len(right) else np.nan
        np.testing.assert_allclose(precision, ap)


def test_without_options_it_is_the_plain_order():
    plain = rank(QUERY, GALLERY, k=7, metric="euclidean")
    found = answers(QUERY, GALLERY, 7, metric="euclidean")
    np.testing.assert_array_equal(found.indices, plain.indices)
    np.testing.assert_array_equal(found.distances, plain.distances)


@pytest.mark.parametrize("options", [{}, {"rerank": True, "junk": "query"}])
def test_junk_stands_where_its_distance_puts_it(options):
    whole = answers(QUERY, GALLERY, 50, show_junk=True, **options)
    counted = answers(QUERY, GALLERY, 50, **options)
    assert whole.matches is None
    assert (np.sort(whole.indices) == np.arange(50)).all()  # nothing is left out
    assert (np.diff(whole.distances) >= 0).all()
    for q in range(12):
        own = (GALLERY.pids == QUERY.pids[q]) & (GALLERY.camids == QUERY.camids[q])
        left = [g for g in whole.indices[q] if GALLERY.pids[g] != -1 and not own[g]]
        assert left == [g for g in counted.indices[q] if g >= 0]


def test_mistakes():
    with pytest.raises(ConfigError, match="k is 0"):
        answers(QUERY, GALLERY, 0)
    with pytest.raises(ConfigError, match="junk='query'"):
        answers(QUERY, GALLERY, rerank=True, show_junk=True)
