"""Charts of a run: how it learned, how well it finds.

Every function takes plain records or reports and returns a :class:`~regard.explain.figures.svg.Chart`; matplotlib's
object interface is used throughout, so no global figure is left behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regard.explain.figures.svg import PALETTE, SERIES, Chart, text_width
from regard.explain.figures.ticks import number_ticks, percent_ticks, short_number
from regard.wording import count

__all__ = [
    "PairHistogram",
    "accuracy_chart",
    "ap_histogram",
    "cmc_chart",
    "histogram_chart",
    "loss_chart",
    "pair_histogram",
    "shortened",
]

Record = Mapping[str, Any]

INK, MUTED, LINE, SURFACE = (PALETTE[name] for name in ("ink", "muted", "line", "surface"))
WIDTH, HEIGHT = 5.0, 3.2  # inches; 360 x 230 units of the SVG, about the pixels of a phone
FONT, LEFT = 9.5, 0.105
DASHES = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (8, 2))]


def loss_chart(history: Sequence[Record]) -> Chart | None:
    """Loss and its terms, and the learning rate below them, over epochs.

    Args:
        history: records of a run; those with ``"event": "step"`` count. ``loss`` is the total, ``loss/...`` its terms.

    Returns:
        The chart, None where fewer than two steps have a loss that is a number.
    """
    steps = _events(history, "step")
    if np.isfinite(_column(steps, "loss")).sum() < 2:
        return None
    epochs = _epochs(steps, [record["step"] for record in steps])
    terms = sorted({key for record in steps for key in record if key.startswith("loss/")})
    curves = {name: _binned(epochs, _column(steps, name)) for name in ("loss", *(terms if len(terms) > 1 else ()))}
    curves = {name: curve for name, curve in curves.items() if len(curve[0])}
    rate_epochs, rate = _finite(epochs, _column(steps, "lr"))
    rows = 2 if len(rate) else 1
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=[4, 1][:rows])[:, 0]
    ends = []
    for i, (name, (x, y)) in enumerate(curves.items()):
        color = INK if name == "loss" else SERIES[(i - 1) % len(SERIES)]
        axes[0].plot(x, y, color=color, lw=2 if name == "loss" else 1.5, ls=DASHES[i % len(DASHES)])
        ends.append((y[-1], "total" if name == "loss" else name.removeprefix("loss/"), color))
    _dress(axes[0], "loss", bottom=rows == 1)
    axes[0].set_ylim(bottom=min(0, *(y.min() for _, y in curves.values())))
    axes[0].set_xlim(0, max(epochs[-1], 1e-9))
    if rows == 2:
        axes[1].plot(rate_epochs, rate, color=MUTED, lw=1.5)
        _dress(axes[1], "learning rate")
        axes[1].set_ylim(0, 1.15 * rate.max() or 1)
        axes[1].set_yticks([0, rate.max()], ["0", short_number(rate.max())])
    axes[-1].set_xlabel("epoch", color=MUTED, fontsize=FONT)
    axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.subplots_adjust(left=LEFT, right=_beside(figure, ends), top=0.9, bottom=0.16, hspace=0.42)
    _label_ends(axes[0], ends)
    total = curves["loss"][1]
    duration = f"{count(round(epochs[-1]), 'epoch')} ({count(steps[-1]['step'], 'step')})"
    summary = f"The loss goes from {total[0]:.2f} to {total[-1]:.2f} in {duration}."
    return Chart("loss", "Training loss and learning rate over epochs", summary, figure)


def accuracy_chart(history: Sequence[Record], references: Mapping[str, float] | None = None) -> Chart | None:
    """Retrieval accuracy on people never trained on, over epochs.

    Args:
        history: records of a run; those with ``"event": "eval"`` count, ``mAP``, ``rank1`` and ``mINP`` as fractions.
        references: label -> mAP as a fraction, drawn as horizontal lines (a method that does not learn).

    Returns:
        The chart, None where nothing was evaluated.
    """
    evals = [record for record in _events(history, "eval") if np.isfinite(_column([record], "mAP")).all()]
    if not evals:
        return None
    epochs = _epochs(_events(history, "step") or evals, [record["step"] for record in evals])
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.subplots()
    ends, tips = [], {}
    last = epochs[-1] or 1
    for i, (key, label) in enumerate((("mAP", "mAP"), ("rank1", "rank-1"), ("mINP", "mINP"))):
        known, values = _finite(epochs, 100 * _column(evals, key))
        if not len(values):
            continue
        _line(axes, known, values, i, f"accuracy-{key}", marker="o")
        tips[f"accuracy-{key}"] = [f"epoch {e:.0f}: {label} {v:.1f} %" for e, v in zip(known, values)]
        ends.append((values[-1], f"{label} {values[-1]:.1f} %", SERIES[i]))
    references = {label: value for label, value in (references or {}).items() if np.isfinite(value)}
    for label, value in references.items():
        axes.axhline(100 * value, color=MUTED, lw=1, ls=(0, (1, 2)))
        ends.append((100 * value, label, MUTED))
    _dress(axes, "on people never trained on", "epoch")
    axes.set_ylim(0, 100)
    axes.set_xlim(0, last * 1.01)
    percent_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.subplots_adjust(left=LEFT, right=_beside(figure, ends), top=0.9, bottom=0.16)
    _label_ends(axes, ends)
    end = f"{100 * evals[-1]['mAP']:.1f} % at epoch {epochs[-1]:.0f}."
    start = f"goes from {100 * evals[0]['mAP']:.1f} % at epoch {epochs[0]:.0f} to" if len(evals) > 1 else "is"
    dotted = "".join(f" Dotted: mAP of {label}." for label in references)
    summary = f"mAP {start} {end}{dotted}"
    return Chart("accuracy", "Retrieval accuracy over epochs", summary, figure, tips)


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
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.subplots()
    ends, tips, short = [], {}, shortened(curves)
    for i, (label, curve) in enumerate(curves.items()):
        ranks = np.arange(1, len(curve) + 1)
        _line(axes, ranks, curve, i, f"cmc-{i}")
        tips[f"cmc-{i}"] = [f"{label}, rank {r}: {v:.1f} %" for r, v in zip(ranks, curve)]
        ends.append((curve[-1], short[label], SERIES[i % len(SERIES)]))
    _dress(axes, "of queries have a right answer by then", "answers looked at")
    lowest = min(curve[0] for curve in curves.values())
    axes.set_ylim(20 * max(0, (lowest - 5) // 20), 100)
    longest = max(map(len, curves.values()))
    axes.set_xlim(1 if longest > 1 else 0.5, longest + 0.15)
    axes.set_xticks(sorted({1, *range(5, longest + 1, 5)}))
    percent_ticks(axes.yaxis)
    figure.subplots_adjust(left=LEFT, right=_beside(figure, ends), top=0.9, bottom=0.16)
    _label_ends(axes, ends)
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
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.subplots()
    tips, handles, short = {}, [], shortened(values)
    for i, (label, ap) in enumerate(values.items()):
        share = np.histogram(100 * ap, edges)[0] / len(ap) * 100
        color = SERIES[i % len(SERIES)]
        if i == 0:
            bars = axes.bar(edges[:-1] + 50 / bins, share, 92 / bins, color=color, alpha=0.85)
            handles.append((bars, short[label]))
        else:
            outline = axes.stairs(share, edges, baseline=None, color=color, lw=1.6, ls=DASHES[i % len(DASHES)])
            handles.append((outline, short[label]))
        _tips_at(axes, edges[:-1] + 50 / bins, share, f"ap-{i}", color)
        tips[f"ap-{i}"] = [
            f"{label}: {part:.1f} % of queries at {low:g} to {low + 100 / bins:g} %" for part, low in zip(share, edges)
        ]
    _dress(axes, "of queries", "average precision of the query")
    _legend(axes, handles[::-1])
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for axis in (axes.xaxis, axes.yaxis):
        percent_ticks(axis)
    figure.subplots_adjust(left=LEFT, right=0.96, top=0.855 if len(values) <= 2 else 0.79, bottom=0.16)
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
    size: tuple[float, float] = (WIDTH, HEIGHT),
) -> Chart:
    """Draw how alike pairs are.

    Args:
        found: the counts.
        name: unique on the page.
        title: what is shown.
        top: share at the upper end of the axis, to compare several; its own highest unless told.
        size: width and height in inches.
    """
    figure = Figure(figsize=size)
    axes = figure.subplots()
    handles = []
    kinds = ((found.different, "two people", "wrong"), (found.same, "one person", "right"))
    for share, label, color in kinds:
        area = axes.stairs(100 * share, found.edges, fill=True, color=PALETTE[color], alpha=0.28, lw=0)
        axes.stairs(100 * share, found.edges, color=PALETTE[color], lw=1.6, ls="--" if color == "wrong" else "-")
        handles.append((area, label))
    _dress(axes, "of pairs", found.quantity)
    _legend(axes, handles)
    axes.set_xlim(found.edges[0], found.edges[-1])
    axes.set_ylim(bottom=0, top=None if top is None else 105 * top)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    number_ticks(axes.xaxis)
    percent_ticks(axes.yaxis)
    figure.subplots_adjust(left=LEFT * WIDTH / size[0], right=0.96, top=1 - 0.464 / size[1], bottom=0.512 / size[1])
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


def _events(history: Sequence[Record], event: str) -> list[Record]:
    """Records of one kind in order of steps; where a resumed run wrote a step twice, the later one."""
    return [r for _, r in sorted({r["step"]: r for r in history if r.get("event") == event}.items())]


def _epochs(records: Sequence[Record], steps: Sequence[int]) -> np.ndarray:
    """Steps as a fraction of epochs; the length of an epoch is read from the steps at which recorded epochs begin."""
    begins: dict[int, int] = {}
    for record in records:
        begins.setdefault(record["epoch"], record["step"])
    (first, start), (last, end) = min(begins.items()), max(begins.items())
    length = (end - start) / (last - first) if last > first else max(records[-1]["step"], 1) / max(last, 1)
    return np.asarray(steps, dtype=np.float64) / max(length, 1)


def _column(records: Sequence[Record], key: str) -> np.ndarray:
    return np.array([np.nan if record.get(key) is None else record[key] for record in records], dtype=np.float64)


def _finite(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points whose value is a number: a run that diverged, or left a score out, still has a curve."""
    keep = np.isfinite(y)
    return x[keep], y[keep]


def _binned(x: np.ndarray, y: np.ndarray, bins: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Means over at most ``bins`` runs of neighbors: a noisy curve that can be read."""
    x, y = _finite(x, y)
    parts = np.array_split(np.arange(len(x)), min(bins, len(x))) if len(x) else []
    return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, i: int, gid: str, *, marker: str = "") -> None:
    """The i-th series of a chart, the first one strongest, with a tooltip target at every point."""
    color = SERIES[i % len(SERIES)]
    width = 2.2 if i == 0 else 1.5
    axes.plot(x, y, color=color, lw=width, ls=DASHES[i % len(DASHES)], marker=marker, ms=3.5,
              clip_on=False, zorder=5 - i)  # fmt: skip
    _tips_at(axes, x, y, gid, color)


def _tips_at(axes: Axes, x: np.ndarray, y: np.ndarray, gid: str, color: str) -> None:
    """Invisible disks that the page shows when they are pointed at."""
    axes.scatter(x, y, s=60, color=color, alpha=0, lw=0, gid=gid, clip_on=False, zorder=9)


def _dress(axes: Axes, unit: str, below: str = "", *, bottom: bool = True) -> None:
    """Horizontal grid, one base line, the unit above the axis instead of along it."""
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="y", color=LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=FONT, labelbottom=bottom)
    axes.set_title(unit, loc="left", fontsize=FONT, color=MUTED, pad=8)
    if below:
        axes.set_xlabel(below, color=MUTED, fontsize=FONT)


def _legend(axes: Axes, handles: list[tuple[Any, str]]) -> None:
    artists, labels = zip(*reversed(handles))
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.legend(artists, labels, loc="upper left", frameon=False, fontsize=FONT, labelcolor=INK,
                  ncols=min(2, len(labels)), bbox_to_anchor=(LEFT * WIDTH / figure.get_figwidth(), 0.99),
                  handlelength=1.7, columnspacing=1.6, borderaxespad=0, borderpad=0)  # fmt: skip


def _beside(figure: Figure, ends: Sequence[tuple[float, str, str]]) -> float:
    """Where curves have to end, as a share of the width, so that their names have room behind them."""
    wide = max((text_width(text, FONT) for _, text, _ in ends), default=0.0)
    return min(0.83, 1 - (wide + 0.13) / figure.get_figwidth())


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name each curve where it ends, moved apart where they would overlap."""
    height = axes.get_window_extent().height * 72 / axes.figure.dpi
    gap = 12 / height
    to_axes = axes.transData + axes.transAxes.inverted()
    places = []
    for value, text, color in sorted(ends):
        y = float(to_axes.transform((1, value))[1])
        places.append([max(y, places[-1][0] + gap) if places else y, text, color])
    excess = max(places[-1][0] - 1, 0)
    for i in range(len(places) - 1, -1, -1):
        ceiling = places[i + 1][0] - gap if i + 1 < len(places) else places[i][0] - excess
        places[i][0] = min(places[i][0], ceiling)
    for y, text, color in places:
        axes.annotate(text, (1, y), xycoords="axes fraction", xytext=(7, 0), textcoords="offset points",
                      va="center_baseline", fontsize=FONT, color=color, annotation_clip=False)  # fmt: skip
