"""Correlation by hand, by numpy and on what cannot be correlated."""

from __future__ import annotations

import numpy as np
import pytest

from regard.errors import DataError
from regard.explain.correlation import correlate, correlation_figure
from regard.explain.figures.map_figures import figure_bytes

HAND = np.array([[[1, 3], [2, 0]], [[2, 2], [4, 0]], [[3, 1], [6, 3]]], np.float32)
"""3 channels at 2 x 2 positions: (1, 2, 3), (3, 2, 1), (2, 4, 6) and (0, 0, 3)."""


def test_positions_by_hand():
    """(1, 2, 3), (3, 2, 1) and (2, 4, 6) are one line up to sign; (0, 0, 3) has r = 3 / sqrt(2 * 6) with it."""
    found = correlate(HAND)
    r = np.sqrt(3) / 2
    expected = np.array([[1, -1, 1, r], [-1, 1, -1, -r], [1, -1, 1, r], [r, -r, r, 1]])
    np.testing.assert_allclose(found.matrix, expected, atol=1e-12)
    assert found.mean == pytest.approx((4 - 2 + 2 * r) / 16)
    assert found.mean_off_diagonal == pytest.approx((-2 + 2 * r) / 12)
    assert (found.lowest, found.highest) == pytest.approx((-1, 1))
    assert (found.n, found.dead, found.axis) == (4, 0, "positions")


def test_channels_by_hand():
    """(1, 3, 2, 0) with (2, 2, 4, 0): deviations (-.5, 1.5, .5, -1.5), (0, 0, 2, -2); r = 4 / sqrt(5 * 8)."""
    found = correlate(HAND[None], "channels")
    assert found.n == 3
    assert found.matrix[0, 1] == pytest.approx(4 / np.sqrt(40))
    np.testing.assert_allclose(found.matrix, np.corrcoef(HAND.reshape(3, 4)))


@pytest.mark.parametrize("axis", ["positions", "channels"])
def test_against_numpy(axis):
    features = np.random.default_rng(0).gamma(1.0, size=(20, 6, 4)).astype(np.float32)
    rows = features.reshape(20, 24)
    found = correlate(features, axis)
    expected = np.corrcoef(rows if axis == "channels" else rows.T)
    np.testing.assert_allclose(found.matrix, expected, atol=1e-12)
    assert found.mean == pytest.approx(expected.mean())
    off = expected[~np.eye(len(expected), dtype=bool)]
    assert (found.mean_off_diagonal, found.lowest, found.highest) == pytest.approx((off.mean(), off.min(), off.max()))


def test_dead_channels_are_counted_and_left_out():
    features = np.random.default_rng(1).gamma(1.0, size=(5, 4, 3)).astype(np.float32)
    alive = correlate(features, "channels")
    found = correlate(np.insert(features, [0, 3], [[[0.0]], [[0.1]]], axis=0), "channels")
    assert (found.n, found.dead) == (7, 2)
    assert np.isnan(found.matrix[0]).all()
    assert found.mean == pytest.approx(alive.mean)
    assert found.lowest == pytest.approx(alive.lowest)
    everything = correlate(np.ones((3, 2, 2)))
    assert everything.dead == 4
    assert everything.to_dict()["mean"] is None
    assert figure_bytes(correlation_figure({"alive": alive, "dead": found, "all dead": everything}), dpi=30)


@pytest.mark.parametrize(
    "bad", [np.ones((2, 3)), np.ones((2, 3, 4, 4)), np.full((2, 3, 3), np.nan), np.ones((0, 2, 2))]
)
def test_what_is_no_map(bad):
    with pytest.raises(DataError, match="wanted one map"):
        correlate(bad)


def test_too_many_positions():
    with pytest.raises(DataError, match="16,512 positions to compare, 16,384 at most"):
        correlate(np.broadcast_to(np.float32(1), (1, 129, 128)))


def test_axes_say_what_they_show():
    figure = correlation_figure({"base": correlate(HAND), "by channel": correlate(HAND, "channels")})
    said = [(axes.get_title(), axes.get_ylabel(), axes.get_xlabel()) for axes in figure.axes[:2]]
    assert said[0] == ("base", "position, row by row (4)", "mean 0.233, off the diagonal -0.022")
    assert said[1][:2] == ("by channel", "channel (3)")
