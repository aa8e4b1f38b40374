"""The scan in two passes finds what a comparison with everything finds, however the descriptors conspire."""

from __future__ import annotations

import math
import uuid
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.gallery import int8_scan as scan
from regard.gallery import pca_codes as short
from regard.gallery.int8_scan import Coded, encode, multiply, nearest
from regard.gallery.pca_codes import load_short, make_short, narrow, pays, save_short


def coded_rows(vectors: np.ndarray, seed: int = 0) -> Coded:
    random = np.random.default_rng(seed)
    keys = np.array([uuid.UUID(bytes=random.bytes(16)).bytes for _ in vectors], "S16")
    return Coded(vectors, *encode(vectors), keys)


def slow(coded: Coded, query: np.ndarray, k: int, accepted: np.ndarray) -> list[tuple[int, float]]:
    """Every sum rounded once, every tie by key."""
    scores = [float(np.float32(math.fsum(row.astype(np.float64) * query))) for row in coded.vectors]
    rows = [row for row in range(len(scores)) if accepted[row]]
    return sorted(((row, scores[row]) for row in rows), key=lambda pair: (-pair[1], coded.keys[pair[0]]))[:k]


def pairs(found: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, float]]:
    return [(int(row), float(score)) for row, score in zip(*found)]


@st.composite
def conspiracies(draw):
    """Rows of few different values a hair apart: ties, near ties, doubles, zeros, rows of wildly different length.

    All sums fit into 53 bits, so there is one right answer to the last bit.
    """
    dim, count = draw(st.integers(1, 7)), draw(st.integers(1, 60))
    plain = st.lists(st.integers(-8, 8), min_size=dim, max_size=dim)
    hairs = st.lists(st.integers(-3, 3), min_size=dim, max_size=dim)
    few = np.array(draw(st.lists(plain, min_size=1, max_size=5)), np.float64)
    close = np.array(draw(st.lists(hairs, min_size=1, max_size=4)), np.float64) * 2.0**-18
    picks = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 5)), min_size=count + 1))
    spread = draw(st.sampled_from([0, 1, 8, 40]))
    rows = [(few[a % len(few)] + close[b % len(close)]) * 2.0 ** (spread * min(c, 1)) for a, b, c in picks]
    vectors = np.array(rows[: count + 1], np.float32)
    accepted = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    return vectors[:-1], vectors[-1], draw(st.integers(1, count + 3)), accepted


@settings(max_examples=150, deadline=None)
@given(conspiracies())
def test_both_passes_are_exact(made):
    vectors, query, k, accepted = made
    coded, everything = coded_rows(vectors), np.ones(len(vectors), bool)
    with patch.multiple(scan, FEW=2, BLOCK=7):
        assert pairs(nearest(coded, query[None], k)[0]) == slow(coded, query, k, everything)
        assert pairs(nearest(coded, query[None], k, accepted)[0]) == slow(coded, query, k, accepted)


@settings(max_examples=100, deadline=None)
@given(conspiracies(), st.integers(0, 20))
def test_short_codes_keep_the_search_exact(made, later):
    vectors, query, k, accepted = made
    coded = coded_rows(vectors)
    first = max(1, len(vectors) - later)  # what was there when the codes were made
    with patch.multiple(scan, FEW=2, BLOCK=7), patch.multiple(short, LEAST=1, NARROW=0, BLOCK=16, CHOICES=(1, 2)):
        made_of = Coded(*(column[:first] for column in coded))
        codes = make_short(made_of, np.ones(first, bool))._replace(prunes=True)
        (rows,) = narrow(codes, coded, query[None], k, accepted, exactly=True)
        assert not rows[~accepted].any()
        assert pairs(nearest(coded, query[None], k, rows)[0]) == slow(coded, query, k, accepted)


def people(count: int, dim: int, inner: int, seed: int = 0) -> np.ndarray:
    """Rows of length 1 near a plane of ``inner`` dimensions."""
    random = np.random.default_rng(seed)
    plane = np.random.default_rng(99).normal(size=(inner, dim))
    rows = random.normal(size=(count, inner)) @ plane + 0.3 * random.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("share", [1.0, 0.7, 0.3, 0.05])
def test_large_ones_too(share):
    coded, queries = coded_rows(people(3000, 96, 8)), people(19, 96, 8, seed=1)
    accepted = np.random.default_rng(2).random(3000) < share
    codes = make_short(coded, np.ones(3000, bool))
    assert codes.prunes
    assert codes.codes.shape == (3000, 32)
    truth = [slow(coded, query, 20, accepted) for query in queries]
    assert [pairs(found) for found in nearest(coded, queries, 20, accepted)] == truth
    masks = list(narrow(codes, coded, queries, 20, accepted, exactly=True))
    assert [pairs(nearest(coded, q[None], 20, mask)[0]) for q, mask in zip(queries, masks)] == truth
    if share > 0.1:
        assert max(mask.sum() for mask in masks) < 0.5 * accepted.sum()


def test_the_first_pass_leaves_few():
    coded, query = coded_rows(people(20_000, 64, 64)), people(1, 64, 64, seed=1)
    ((rows, upper, _),) = scan.first_pass(coded, query, 10, None)
    assert 10 <= len(rows) < 400
    assert (scan.exact(coded.vectors[rows], query[0]) <= upper).all()


def test_bounds_hold_for_every_row():
    random = np.random.default_rng(0)
    vectors = (random.normal(size=(500, 33)) * 10.0 ** random.integers(-12, 12, (500, 1))).astype(np.float32)
    vectors[::7] = 0
    queries = vectors[random.permutation(500)[:20]]
    codes, bounds = encode(vectors)
    for query in queries:
        own, (bound,) = encode(query[None])
        length = np.float32(np.linalg.norm(query.astype(np.float64)))
        lower, upper = scan.limits(multiply(own, codes)[0], bounds, bound, np.nextafter(length, np.float32(np.inf)))
        truth = vectors.astype(np.float64) @ query.astype(np.float64)
        assert (lower <= truth).all()
        assert (truth <= upper).all()


@pytest.mark.parametrize("dim", [1, 2, 3, 31, 64, 100, 1500])
def test_products_of_codes_are_exact(dim):
    """Also where an axis of length 1 has a stride that no one expects."""
    random = np.random.default_rng(dim)
    for count in (1, 2, 17, 51, 200):
        for many in (1, 2, 16):
            queries = random.choice([-127, -126, 0, 3, 127], (many, dim)).astype(np.int8)
            rows = random.integers(-127, 128, (count, dim)).astype(np.int8)
            truth = queries.astype(np.int64) @ rows.astype(np.int64).T
            np.testing.assert_array_equal(multiply(queries, rows), truth.astype(np.float32))
            np.testing.assert_array_equal(scan.by_floats(queries, rows), truth)
            np.testing.assert_array_equal(multiply(queries[0][None], rows)[0], truth[0].astype(np.float32))


def test_without_good_integers_floats_do_it():
    coded, queries = coded_rows(people(3000, 48, 8)), people(3, 48, 8, seed=1)
    with patch.object(scan, "integers_are_right", lambda: False):
        found = [pairs(each) for each in nearest(coded, queries, 5)]
    assert found == [slow(coded, query, 5, np.ones(3000, bool)) for query in queries]


def test_descriptors_that_fill_their_space_are_not_shortened():
    coded = coded_rows(people(3000, 96, 96))
    codes = make_short(coded, np.ones(3000, bool))
    assert not codes.prunes
    assert not pays(codes, np.ones(3000, bool), 10, exactly=True)


@pytest.mark.parametrize(("share", "pay"), [(1.0, True), (0.5, True), (0.01, False)])
def test_short_codes_pay_where_many_rows_count(share, pay):
    codes = make_short(coded_rows(people(6000, 96, 8)), np.ones(6000, bool))
    accepted = np.arange(6000) < 6000 * share
    assert pays(codes, accepted, 10, exactly=True) is pay
    assert pays(codes, accepted, 10, exactly=False) is pay
    assert not pays(codes, accepted, 3000, exactly=True)


def test_an_approximate_search_looks_at_few_and_finds_most():
    coded = coded_rows(people(6000, 96, 8))
    codes, accepted = make_short(coded, np.ones(6000, bool)), np.random.default_rng(0).random(6000) < 0.6
    queries, shared = people(20, 96, 8, seed=1), 0
    for query, rows in zip(queries, narrow(codes, coded, queries, 50, accepted, exactly=False)):
        assert rows.sum() == max(codes.look, short.LEAST)
        truth = {row for row, _ in slow(coded, query, 50, accepted)}
        shared += len(truth & {row for row, _ in pairs(nearest(coded, query[None], 50, rows)[0])})
    assert shared >= 0.9 * 20 * 50


def test_short_codes_come_back_from_their_files(tmp_path):
    codes = make_short(coded_rows(people(300, 48, 4)), np.ones(300, bool))
    save_short(codes, tmp_path, 1)
    back = load_short(tmp_path, 1)
    for one, two in zip(codes, back):
        np.testing.assert_array_equal(one, two)
