"""Feature correlation: how alike positions, or channels, of a feature map are.

Shapes: C channels, h x w positions, N = h · w of them, n rows that are compared.

Over positions: row (i, j) holds the C numbers of a position, positions in raster order, and entry (p, q) of the matrix
is Pearson's correlation of two positions across channels. Over channels it is the other way round. The published
figures of deeply supervised self-attention are the former, although their axes say "C", and their titles are the mean
of all entries, the diagonal included. The mean without it is given too, as 1 / n of the former is there by definition.

A row that varies by no more than the rounding of its numbers has no correlation. It is counted as dead, is NaN in the
matrix and left out of the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from regard.errors import DataError, check_choice
from regard.explain.figures.attention_figure import in_blocks
from regard.explain.figures.map_figures import FONT, SMALL, canvas, caption, place
from regard.explain.figures.svg import LINE, MUTED
from regard.explain.rounding import rounding

__all__ = ["Correlation", "CorrelationAxis", "correlate", "correlation_figure"]

CorrelationAxis = Literal["positions", "channels"]

MOST = 16384
"""Rows that are compared at most: their matrix takes 2 GB."""

COLORS = "YlGnBu"


class Correlation(NamedTuple):
    """A correlation matrix, and what is to be said of it.

    Attributes:
        matrix: (n, n) float64, NaN in the rows and columns of the dead.
        mean: of all entries, the diagonal included.
        mean_off_diagonal: of all others; NaN where there is only one row.
        lowest, highest: of all entries off the diagonal; NaN where there is only one row.
        n: rows compared.
        dead: rows among them that do not vary.
        axis: what they are.
    """

    matrix: np.ndarray
    mean: float
    mean_off_diagonal: float
    lowest: float
    highest: float
    n: int
    dead: int
    axis: CorrelationAxis

    def to_dict(self) -> dict[str, Any]:
        """The figures without the matrix, ready for JSON; None where there is no number."""
        named = self._asdict()
        del named["matrix"]
        return {key: None if value != value else value for key, value in named.items()}


def correlate(features: np.ndarray, axis: CorrelationAxis = "positions") -> Correlation:
    """Pearson correlation of all pairs of positions, or of channels, of one feature map, in float64.

    Args:
        features: (C, h, w), or (1, C, h, w) as such maps are stored.
        axis: what to compare: ``"positions"`` across channels or ``"channels"`` across positions.

    Raises:
        ConfigError: there is no such axis.
        DataError: not one feature map of finite numbers, or too large to compare.
    """
    check_choice("axis", axis, CorrelationAxis)
    features = np.asarray(features)
    shape = features.shape
    if features.ndim == 4 and len(features) == 1:
        features = features[0]
    if features.ndim != 3 or not features.size or not np.isfinite(features).all():
        raise DataError(f"got an array of shape {shape}, wanted one map (C, h, w) or (1, C, h, w) of finite numbers")
    rows = features.reshape(len(features), -1).astype(np.float64)
    rows = rows.T if axis == "positions" else rows
    if len(rows) > MOST:
        raise DataError(
            f"got {len(rows):,} {axis} to compare, {MOST:,} at most; choose a deeper layer, or smaller images"
        )
    length = np.linalg.norm(rows, axis=1)
    rows = rows - rows.mean(1, keepdims=True)
    spread = np.linalg.norm(rows, axis=1)
    alive = spread > rounding(features.dtype) * length
    rows /= np.where(alive, spread, np.nan)[:, None]
    matrix = rows @ rows.T
    return Correlation(matrix, *_figures(matrix[np.ix_(alive, alive)]), len(rows), int((~alive).sum()), axis)


def _figures(matrix: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, mean off the diagonal, lowest and highest off the diagonal."""
    n = len(matrix)
    if n < 2:
        return (1.0 if n else np.nan), np.nan, np.nan, np.nan
    total, trace = matrix.sum(), np.trace(matrix)
    off = matrix[~np.eye(n, dtype=bool)]
    return float(matrix.mean()), float((total - trace) / (n * n - n)), float(off.min()), float(off.max())


def correlation_figure(found: Mapping[str, Correlation], columns: int = 4) -> Figure:
    """Correlation matrices side by side, all on one scale that ends at 1.

    Args:
        found: label -> correlation.
        columns: in a row.
    """
    side, gap, above, below = 2.4, 0.5, 0.3, 0.5
    columns = min(columns, len(found))
    rows = -(-len(found) // columns)
    figure = canvas(gap + columns * (side + gap) + 0.35, rows * (above + side + below) + 0.05)
    lowest = min([0.0, *(c.lowest for c in found.values() if np.isfinite(c.lowest))])
    image = None
    for number, (label, correlation) in enumerate(found.items()):
        row, column = divmod(number, columns)
        axes = place(figure, gap + column * (side + gap), row * (above + side + below) + above, side, side)
        image = axes.imshow(_living(correlation.matrix), cmap=COLORS, vmin=lowest, vmax=1, interpolation="nearest")
        axes.spines[:].set(visible=True, color=LINE)
        caption(axes, label)
        what = f"{correlation.axis[:-1]}, row by row" if correlation.axis == "positions" else "channel"
        axes.set_ylabel(f"{what} ({correlation.n - correlation.dead:,})", fontsize=SMALL, color=MUTED, labelpad=3)
        dead = f"; {correlation.dead} dead left out" if correlation.dead else ""
        text = f"mean {correlation.mean:.3f}, off the diagonal {correlation.mean_off_diagonal:.3f}{dead}"
        axes.set_xlabel(text, fontsize=SMALL, color=MUTED, labelpad=4)
    assert image is not None
    bar = place(figure, gap + columns * (side + gap) - gap + 0.12, above, 0.12, side)
    scale = figure.colorbar(image, cax=bar)
    scale.outline.set_visible(False)
    bar.tick_params(length=0, labelsize=SMALL, labelcolor=MUTED)
    bar.set_title("r", fontsize=FONT, color=MUTED, pad=3)
    return figure


def _living(matrix: np.ndarray) -> np.ndarray:
    """The matrix without the dead, averaged in blocks where it is larger than a screen shows."""
    alive = ~np.isnan(matrix.diagonal())
    return in_blocks(matrix[np.ix_(alive, alive)], 512) if alive.any() else np.zeros((1, 1))
