"""A picture of how far a model holds: a heat table of corruptions, and curves over resolution and occlusion.

Plain numbers in, a :class:`~regard.explain.figures.svg.Chart` out, drawn like those of :mod:`regard.report.charts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from regard.explain.figures.svg import Chart
from regard.explain.figures.ticks import percent_ticks
from regard.report.charts import DASHES, FONT, HEIGHT, INK, MUTED, SERIES, SURFACE, WIDTH, _dress

__all__ = ["robustness_chart"]

Figures = Mapping[str, float]
"""By name, as fractions; :data:`DRAWN` are in the picture."""

DRAWN = ("mAP", "rank-1", "mINP")

HEAT = LinearSegmentedColormap.from_list("heat", [SURFACE, SERIES[0]])
CURVES = {"resolution": "height of the stored picture in pixels", "occlusion": "share of the picture covered"}
ROW, CELL, NAMES, CURVE = 0.21, 0.52, 1.45, 0.85 * WIDTH  # inches


def robustness_chart(found: Mapping[str, Any], clean: Figures) -> Chart | None:
    """What one side made worse does to accuracy.

    Args:
        found: ``kinds`` (kind -> severity -> figures) and their ``mean``, ``resolution`` (pixels -> figures),
            ``occlusion`` (share -> figures), each where it was measured; keys of levels are texts.
        clean: of the pictures as they are.

    Returns:
        The chart, None where nothing was measured that it could show.
    """
    kinds = found.get("kinds", {})
    curves = {name: found[name] for name in CURVES if name in found}
    if not kinds and not curves:
        return None
    table = NAMES + CELL * len(next(iter(kinds.values()))) + 0.3 if kinds else 0.0
    below = ROW * len(kinds) + 0.65 if kinds else 0.0
    stacked = len(curves) if curves and below > 1.4 * HEIGHT else 1
    tall = max(below, 0.75 * HEIGHT * stacked if stacked > 1 else HEIGHT * bool(curves))
    wide = table + CURVE * -(-len(curves) // stacked)
    drawing = Figure(figsize=(wide, tall))
    said = [] if kinds else [f"mAP is {100 * clean['mAP']:.1f} % on pictures as they are"]
    if kinds:
        left, bottom = NAMES / wide, 1 - (0.5 + ROW * len(kinds)) / tall
        room = (left, bottom, (table - NAMES - 0.3) / wide, ROW * len(kinds) / tall)
        _heat(drawing.add_axes(room), kinds, clean)
        mean = found["mean"]["mAP"]
        turn = "falls" if mean < clean["mAP"] else "goes"
        said.append(f"mAP {turn} from {100 * clean['mAP']:.1f} % to {100 * mean:.1f} % on average")
    each = min(HEIGHT, tall / stacked)
    for place, (name, points) in enumerate(curves.items()):
        column, line = divmod(place, stacked)
        start, top = table + CURVE * column + 0.6, tall - each * line - 0.5
        room = (start / wide, (top - each + 1) / tall, (CURVE - 0.8) / wide, (each - 1) / tall)
        _curve(drawing.add_axes(room), name, points, clean)
        level, last = list(points.items())[-1]
        unit = f"{level} pixels" if name == "resolution" else f"{100 * float(level):.12g} % covered"
        said.append(f"with {unit} it is {100 * last['mAP']:.1f} %")
    return Chart("robustness", "Accuracy on worse pictures", "; ".join(said) + ".", drawing)


def _heat(axes: Axes, kinds: Mapping[str, Mapping[str, Figures]], clean: Figures) -> None:
    """mAP of kinds by severities, in %, colored by the share of the clean one that is left."""
    values = np.array([[one["mAP"] for one in levels.values()] for levels in kinds.values()])
    axes.imshow(values, cmap=HEAT, vmin=0, vmax=max(clean["mAP"], 1e-9), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = value > 0.55 * clean["mAP"]
        axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center_baseline", fontsize=FONT - 1,
                  color=SURFACE if dark else INK)  # fmt: skip
    axes.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    axes.set_xticks(range(values.shape[1]), list(next(iter(kinds.values()))))
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=FONT)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.spines[:].set_visible(False)
    start = -(NAMES - 0.1) / (CELL * values.shape[1])
    title = f"mAP by severity, clean {100 * clean['mAP']:.1f} %"
    axes.set_title(title, loc="left", x=start, fontsize=FONT, color=MUTED)


def _curve(axes: Axes, name: str, points: Mapping[str, Figures], clean: Figures) -> None:
    """mAP, rank-1 and mINP over the levels of a sweep; dotted, the clean ones."""
    levels = [float(level) for level in points]
    for i, figure in enumerate(DRAWN):
        values = [100 * one[figure] for one in points.values()]
        axes.axhline(100 * clean[figure], color=SERIES[i], lw=1, ls=(0, (1, 2)))
        axes.plot(levels, values, color=SERIES[i], lw=2, ls=DASHES[i], marker="o", ms=3.5, label=figure, clip_on=False)
    _dress(axes, "dotted: clean", CURVES[name])
    axes.set_ylim(0, 100)
    percent_ticks(axes.yaxis)
    if name == "resolution":
        axes.set_xscale("log", base=2)
        axes.set_xticks(levels, list(points))
        axes.minorticks_off()
        axes.invert_xaxis()
    else:
        percent_ticks(axes.xaxis, whole=1)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=len(DRAWN), frameon=False, fontsize=FONT,
                labelcolor=INK, borderaxespad=0, columnspacing=1.2, handlelength=1.8)  # fmt: skip
