"""Charts of what runs find: how early, for how many queries, and how alike pairs are.

Every function takes plain arrays and returns a :class:`~regard.explain.figures.svg.Chart`; matplotlib's object
interface is used throughout, so no global figure is left behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from regard.explain.figures import draw
from regard.explain.figures.svg import PALETTE, SERIES, Chart

__all__ = [
    "PairHistogram", "ap_histogram", "cmc_chart", "histogram_chart", "pair_histogram", "shortened",
]  # fmt: skip


def cmc_chart(curves: Mapping[str, np.ndarray], depth: int = 20) -> Chart | None:
    """Cumulative match characteristic: how often a right answer is among the first r.

    Args:
        curves: label -> (R,) fractions, the first for rank 1; the first label has the first color.
        depth: ranks shown.

    Returns:
        The chart, None where there is no curve.
    """
    curves = {label: 100 * np.asarray(curve)[:depth] for label, curve in curves.items()}
    curves = {label: curve for label, curve in curves.items() if len(curve) and np.isfinite(curve).all()}
    if not curves:
        return None
    figure, axes = draw.plot()
    ends, tips, short = [], {}, shortened(curves)
    for i, (label, curve) in enumerate(curves.items()):
        ranks = np.arange(1, len(curve) + 1)
        draw.line(axes, ranks, curve, i, f"cmc-{i}")
        tips[f"cmc-{i}"] = [f"{label}, rank {r}: {v:.1f} %" for r, v in zip(ranks, curve)]
        ends.append((curve[-1], short[label], SERIES[i % len(SERIES)]))
    draw.dress(axes, "of queries have a right answer by then", "answers looked at")
    lowest = min(curve[0] for curve in curves.values())
    axes.set_ylim(20 * max(0, (lowest - 5) // 20), 100)
    longest = max(map(len, curves.values()))
    axes.set_xlim(1 if longest > 1 else 0.5, longest + 0.15)
    axes.set_xticks(sorted({1, *range(5, longest + 1, 5)}))
    draw.percent_ticks(axes.yaxis)
    draw.name_ends(axes, ends)
    shares = ", ".join(f"{curve[0]:.1f} % ({label})" for label, curve in curves.items())
    summary = f"A right answer comes first for {shares}."
    return Chart("cmc", "Cumulative match characteristic", summary, figure, tips)


def ap_histogram(precisions: Mapping[str, np.ndarray], bins: int = 10) -> Chart | None:
    """How the queries spread between hopeless and perfect.

    Args:
        precisions: label -> (Q,) average precision per query as fractions, NaN where unmatched; the first is drawn
            solid, the others as outlines.
        bins: bars between 0 and 100 %.

    Returns:
        The chart, None where there is no query.
    """
    values = {label: ap[~np.isnan(ap)] for label, ap in ((k, np.asarray(v)) for k, v in precisions.items())}
    values = {label: ap for label, ap in values.items() if len(ap)}
    if not values:
        return None
    edges = np.linspace(0, 100, bins + 1)
    figure, axes = draw.plot()
    tips, handles, short = {}, [], shortened(values)
    for i, (label, ap) in enumerate(values.items()):
        share = np.histogram(100 * ap, edges)[0] / len(ap) * 100
        color = SERIES[i % len(SERIES)]
        if i == 0:
            bars = axes.bar(edges[:-1] + 50 / bins, share, 92 / bins, color=color, alpha=0.85)
            handles.append((bars, short[label]))
        else:
            outline = axes.stairs(
                share, edges, baseline=None, color=color, lw=1.6, ls=draw.DASHES[i % len(draw.DASHES)]
            )
            handles.append((outline, short[label]))
        draw.tips_at(axes, edges[:-1] + 50 / bins, share, f"ap-{i}", color)
        tips[f"ap-{i}"] = [
            f"{label}: {part:.1f} % of queries at {low:g} to {low + 100 / bins:g} %" for part, low in zip(share, edges)
        ]
    draw.dress(axes, "of queries", "average precision of the query")
    draw.legend(axes, handles)
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for axis in (axes.xaxis, axes.yaxis):
        draw.percent_ticks(axis)
    figure.subplots_adjust(left=draw.LEFT, right=0.96, top=0.855 if len(values) <= 2 else 0.79, bottom=0.16)
    medians = ", ".join(f"{100 * np.median(ap):.1f} % ({label})" for label, ap in values.items())
    return Chart("ap", "Average precision per query", f"The median query reaches {medians}.", figure, tips)


class PairHistogram(NamedTuple):
    """How alike pairs of pictures are: those of one person, and those of two.

    Attributes:
        edges: (N + 1,) of the bins.
        same, different: (N,) share of the pairs of its kind in each bin; each sums to 1.
        overlap: what both have in common, Σ min(same, different): 0 where the kinds are apart, 1 where they are alike.
        separation: share of the pairs of a pair of each kind in which that of one person is nearer; a tie counts half.
        medians: of both kinds.
        quantity: what the bins are of; a distance is smaller for more alike, anything else is larger.
    """

    edges: np.ndarray
    same: np.ndarray
    different: np.ndarray
    overlap: float
    separation: float
    medians: tuple[float, float]
    quantity: str = "distance"


def pair_histogram(
    right: np.ndarray,
    wrong: np.ndarray,
    bins: int = 50,
    quantity: str = "distance",
    limits: tuple[float, float] | None = None,
) -> PairHistogram | None:
    """Count pairs of one person and of two.

    Args:
        right: distances, or similarities, of pairs of the same person; infinite and NaN ones are left out.
        wrong: of pairs of different people.
        bins: bars over the common range.
        quantity: ``"distance"``, or the name of a similarity.
        limits: ends of the first and the last bin; the range of the values unless told. What lies outside is counted
            in the outermost bins.

    Returns:
        The counts, None where one of the two kinds is missing.
    """
    right, wrong = (np.asarray(d, dtype=np.float64).ravel() for d in (right, wrong))
    right, wrong = right[np.isfinite(right)], wrong[np.isfinite(wrong)]
    if not len(right) or not len(wrong):
        return None
    both = np.concatenate([right, wrong])
    low, high = limits or (both.min(), max(both.max(), both.min() + 1e-6))
    edges = np.linspace(low, high, bins + 1)
    same, different = (np.histogram(values.clip(low, high), edges)[0] / len(values) for values in (right, wrong))
    ordered = np.sort(wrong)
    below, through = (np.searchsorted(ordered, right, side).mean() / len(wrong) for side in ("left", "right"))
    above = (below + through) / 2
    return PairHistogram(
        edges,
        same,
        different,
        overlap=float(np.minimum(same, different).sum()),
        separation=float(1 - above if quantity == "distance" else above),
        medians=(float(np.median(right)), float(np.median(wrong))),
        quantity=quantity,
    )


def histogram_chart(
    found: PairHistogram,
    name: str = "distance",
    title: str = "",
    top: float | None = None,
    size: tuple[float, float] = (draw.WIDTH, draw.HEIGHT),
) -> Chart:
    """Draw how alike pairs are.

    Args:
        found: the counts.
        name: unique on the page.
        title: what is shown.
        top: share at the upper end of the axis, to compare several; its own highest unless told.
        size: width and height in inches.
    """
    figure, axes = draw.plot(size)
    handles = []
    kinds = ((found.different, "two people", "wrong"), (found.same, "one person", "right"))
    for share, label, color in kinds:
        area = axes.stairs(100 * share, found.edges, fill=True, color=PALETTE[color], alpha=0.28, lw=0)
        axes.stairs(100 * share, found.edges, color=PALETTE[color], lw=1.6, ls="--" if color == "wrong" else "-")
        handles.append((area, label))
    draw.dress(axes, "of pairs", found.quantity)
    draw.legend(axes, handles[::-1])
    axes.set_xlim(found.edges[0], found.edges[-1])
    axes.set_ylim(bottom=0, top=None if top is None else 105 * top)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    draw.number_ticks(axes.xaxis)
    draw.percent_ticks(axes.yaxis)
    figure.subplots_adjust(
        left=draw.LEFT * draw.WIDTH / size[0], right=0.96, top=1 - 0.464 / size[1], bottom=0.512 / size[1]
    )
    what = "distances" if found.quantity == "distance" else "values"
    near = found.medians[0] != found.medians[1] and abs(found.medians[0] - found.medians[1]) < 0.01
    medians = [f"{round(value, 4 if near else 2) + 0.0:.{4 if near else 2}f}" for value in found.medians]  # not -0.00
    summary = (
        f"A pair showing one person is closer than {100 * found.separation:.1f} % of the pairs showing two; "
        f"the two areas overlap by {100 * found.overlap:.1f} %; "
        f"the median {what} are {medians[0]} and {medians[1]}."
    )
    return Chart(name, title or "Distances within and between people", summary, figure)


def shortened(labels: Iterable[str], most: int = 16) -> dict[str, str]:
    """Labels as there is room for at the end of a curve, told apart as the whole ones are.

    Where the ends of two are the same another part is left out, and where that does not help they are numbered.
    """
    labels = list(labels)
    for kept in (most - 6, *range(most - 1)):  # letters from the front
        short = {label: _cut(label, most, kept) for label in labels}
        if len(set(short.values())) == len(short):
            return short
    return {label: _cut(f"{number}: {label}", most, most - 6) for number, label in enumerate(labels, start=1)}


def _cut(label: str, most: int, kept: int) -> str:
    return label if len(label) <= most else f"{label[:kept]}…{label[len(label) - (most - 1 - kept) :]}"
