from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from regard.errors import ConfigError, DataError
from regard.metrics import METRICS, distance_blocks
from regard.metrics.distance import pair_distances


def joined(*args, **options):
    return torch.cat([block for _, block in distance_blocks(*args, **options)])


@pytest.fixture
def features():
    rng = np.random.default_rng(1)
    return rng.standard_normal((37, 40), np.float32), rng.standard_normal((101, 40), np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_values_are_those_of_a_float64_reference(features, metric):
    query, gallery = features
    got = joined(query, gallery, metric=metric)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(
        got, cdist(query.astype(np.float64), gallery.astype(np.float64), metric), rtol=2e-6, atol=2e-6
    )


def test_squared_distances_of_integers_are_exact():
    rng = np.random.default_rng(2)
    query, gallery = rng.integers(-9, 10, (30, 64)), rng.integers(-9, 10, (50, 64))
    exact = ((query[:, None] - gallery) ** 2).sum(-1)
    np.testing.assert_array_equal(joined(query, gallery, metric="sqeuclidean"), exact)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 7, 33), (17, 40, 64), (70, 333, 300)])
def test_neither_block_size_nor_column_changes_a_distance(shape, metric):
    q, g, d = shape
    generator = torch.Generator().manual_seed(3)
    query, gallery = torch.randn(q, d, generator=generator), torch.randn(g, d, generator=generator)
    whole = joined(query, gallery, metric=metric)
    assert torch.equal(joined(query, gallery, metric=metric, memory_mb=1e-6), whole)
    assert torch.equal(joined(query, gallery.flip(0), metric=metric).flip(1), whole)
    assert torch.equal(joined(query, gallery.repeat(2, 1), metric=metric), whole.repeat(1, 2))


def test_blocks_cover_the_queries_in_order_within_the_budget(features):
    query = np.tile(features[0], (5, 1))
    spans = [
        (rows.start, rows.stop, block.nbytes) for rows, block in distance_blocks(query, features[1], memory_mb=0.06)
    ]
    assert [start for start, _, _ in spans] == [0] + [stop for _, stop, _ in spans[:-1]]
    assert spans[-1][1] == len(query)
    assert max(size for *_, size in spans) <= 0.06 * 2**20 / 4


def test_cosine_ignores_length(features):
    query, gallery = features
    whole = joined(query, gallery)
    assert torch.equal(joined(query * 4, gallery * np.float32(0.125)), whole)
    np.testing.assert_allclose(joined(query * 3, gallery * 1e-3), whole, atol=1e-6)
    assert joined(query, query).min() >= 0


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: torch.from_numpy(x).double(),
    ],
)
def test_any_array_of_real_numbers_will_do(features, convert):
    got = joined(*(convert(x) for x in features))
    assert not got.requires_grad
    assert torch.equal(got, joined(*features))


def test_read_only_arrays_give_no_warning_and_stay_as_they_were(features):
    query, gallery = features
    before = gallery.copy()
    gallery.setflags(write=False)
    joined(query, gallery)
    np.testing.assert_array_equal(gallery, before)


@pytest.mark.parametrize("metric", METRICS)
def test_precision_allowed_elsewhere_does_not_reach_the_product(metric):
    query, gallery = torch.randn(2, 256, 512, generator=torch.Generator().manual_seed(5))
    whole = joined(query, gallery, metric=metric)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(joined(query, gallery, metric=metric), whole)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("metric", METRICS)
def test_chosen_pairs_have_the_distances_of_the_blocks(features, metric):
    gallery = torch.from_numpy(features[1])
    first, second = torch.randint(101, (2, 1000), generator=torch.Generator().manual_seed(4))
    first, second = first[first != second], second[first != second]
    expected = joined(gallery, gallery, metric=metric)[first, second]
    torch.testing.assert_close(pair_distances(gallery, first, second, metric), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("offset", "rtol"), [(1000, 1e-3), (-30, 1e-4)])
def test_what_all_descriptors_have_in_common_costs_no_digits(features, metric, offset, rtol):
    query, gallery = (part + np.float32(offset) * np.linspace(1, 2, 40, dtype=np.float32) for part in features)
    wanted = cdist(query.astype(np.float64), gallery.astype(np.float64), metric)
    got = joined(query, gallery, metric=metric)
    np.testing.assert_allclose(got, wanted, rtol=rtol)
    assert torch.equal(joined(query, gallery[::-1].copy(), metric=metric, memory_mb=1e-6).flip(1), got)
    first, second = torch.randint(101, (2, 1000), generator=torch.Generator().manual_seed(4))
    pairs = pair_distances(torch.from_numpy(gallery), first, second, metric)
    exact = cdist(gallery.astype(np.float64), gallery.astype(np.float64), metric)[first, second]
    np.testing.assert_allclose(pairs, exact, rtol=rtol, atol=1e-12)


def test_a_query_far_from_all_others_keeps_whole_numbers_exact():
    gallery = np.random.default_rng(3).integers(1000, 1010, (20, 4))
    query = np.concatenate([np.zeros((1, 4), int), gallery[:3]])
    for asked in (query[:1], query):
        exact = ((asked[:, None] - gallery) ** 2).sum(-1)
        np.testing.assert_array_equal(joined(asked, gallery, metric="sqeuclidean"), exact)


def poisoned():
    bad = np.ones((5, 3), np.float32)
    bad[2, 1], bad[4, 0] = np.nan, np.inf
    return bad


GOOD = np.ones((4, 3), np.float32)
ZERO = np.ones((4, 3), np.float32) * [[1], [1], [0], [1]]


@pytest.mark.parametrize(
    ("query", "gallery", "options", "error", "says"),
    [
        (GOOD, GOOD, {"metric": "cosin"}, ConfigError, "did you mean 'cosine'"),
        (GOOD, GOOD, {"memory_mb": 0}, ConfigError, "memory_mb is 0"),
        (GOOD, GOOD[:, :2], {}, DataError, "query features have 3 columns and gallery features 2"),
        (GOOD[0], GOOD, {}, DataError, r"query features have shape \(3,\)"),
        (GOOD, GOOD[:0], {}, DataError, "gallery features are empty"),
        (GOOD, np.array([["a"]]), {}, DataError, "gallery features are of type <U1"),
        (GOOD, poisoned(), {}, DataError, "in 2 of 5 rows, first in row 2"),
        (GOOD * 1e30, GOOD, {}, DataError, "overflowing values in 4 of 4 rows, first in row 0"),
        (GOOD, GOOD * 4e18, {"metric": "euclidean"}, DataError, "gallery features hold NaN, infinite or overflowing"),
        (ZERO, GOOD, {}, DataError, "query features are zero in 1 of 4 rows, first in row 2: without a direction"),
        (GOOD, ZERO * 1e-20, {}, DataError, "gallery features are zero in 4 of 4 rows, first in row 0"),
        (GOOD * 1e-25, GOOD, {"metric": "euclidean"}, DataError, "query features are all shorter than 9e-16"),
        ([[1, 2], [3]], GOOD, {}, DataError, "query features are not an array"),
        (GOOD * 1j, GOOD, {}, DataError, "query features are of type complex64"),
        (torch.ones(4, 3) * 1j, GOOD, {}, DataError, "query features are of type torch.complex64"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_any_work(query, gallery, options, error, says):
    with pytest.raises(error, match=says) as caught:
        distance_blocks(query, gallery, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("metric", METRICS)
def test_a_device_gives_the_same_distances(features, metric):
    got = joined(*features, metric=metric, device="cuda")
    assert got.is_cuda
    torch.testing.assert_close(got.cpu(), joined(*features, metric=metric), rtol=1e-5, atol=1e-5)
