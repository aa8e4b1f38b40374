"""A picture of where an evaluation is good and where it is not: query camera by gallery camera.

Cells are tinted, not painted: the page's own surface shows through, so that the numbers in them can be read on light
and on dark pages.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from regard.explain.figures.draw import FONT
from regard.explain.figures.map_figures import canvas, place, wrapped
from regard.explain.figures.svg import INK, LINE, MUTED, SERIES, Chart, text_width
from regard.metrics.by_camera import CameraPairs
from regard.wording import count

__all__ = ["camera_pair_table"]

FIGURES = {"rank1": "rank-1", "mAP": "mAP"}
MOST, SPAN = 0.5, 0.3
"""Opacity of the best cell, on which ink still reads well in light and dark; and how much less the palest one has at
least, as a fraction: a table that is nearly the same everywhere shall look like it."""

CELL, ROW, LEFT, GAP, ABOVE, BELOW, LINE_HEIGHT = 0.6, 0.4, 0.75, 0.35, 0.62, 0.12, 0.17  # inches
ACROSS = "gallery camera"


def camera_pair_table(scores: Mapping[str, CameraPairs], name: str = "cameras") -> Chart | None:
    """Rank-1 and mAP of each query camera in the gallery of each camera alone.

    Args:
        scores: label of a run -> its figures, as :func:`regard.metrics.evaluate_camera_pairs` finds them; one below the
            other. The label of a single one is not written.
        name: unique on its page.

    Returns:
        The chart, None where no camera pair has a query with a match. The stronger the tint, the higher the number; all
        runs have one scale.
    """
    scores = {label: found for label, found in scores.items() if found.num_queries.any()}
    if not scores:
        return None
    across = max(len(found.gallery_cameras) for found in scores.values())
    side = across * CELL + LEFT
    titles = {
        label: [_titled(label if len(scores) > 1 else "", key, len(found.gallery_cameras) * CELL) for key in FIGURES]
        for label, found in scores.items()
    }
    above = {label: ABOVE + LINE_HEIGHT * max(lines for _, lines in said) for label, said in titles.items()}
    heights = {label: above[label] + len(found.query_cameras) * ROW + BELOW for label, found in scores.items()}
    figure = canvas(len(FIGURES) * side + GAP + 0.1, sum(heights.values()))
    tips, top = {}, 0.0
    limits = {key: _limits([getattr(found, key) for found in scores.values()]) for key in FIGURES}
    for number, (label, found) in enumerate(scores.items()):
        rows, columns = found.num_queries.shape
        for column, key in enumerate(FIGURES):
            gid = f"{name}-{number}-{key}"
            axes = place(figure, LEFT + column * (side + GAP), top + above[label], columns * CELL, rows * ROW)
            title, lifted = titles[label][column]
            axes.set_title(title, loc="left", fontsize=FONT, color=INK, pad=29 if lifted else 16)
            tips[gid] = _table(axes, found, key, limits[key], gid)
        top += heights[label]
    return Chart(name, "Accuracy by camera pair", _summary(scores), figure, tips)


def _limits(tables: list[np.ndarray]) -> tuple[float, float]:
    """Values of the palest and of the strongest tint."""
    values = np.concatenate([table[~np.isnan(table)] for table in tables])
    return min(values.min(), values.max() - SPAN), values.max()


def _titled(label: str, key: str, width: float) -> tuple[str, int]:
    """What a table shows, and how many lines of it stand above the words at its right end."""
    text = f"{label}, {FIGURES[key]} in %" if label else f"{FIGURES[key]} in %"
    if not label or text_width(text, FONT) + text_width(ACROSS, FONT - 2) + 0.1 <= width:
        return text, 0
    lines = wrapped(text, width, FONT)
    return "\n".join(lines), len(lines)


def _table(axes: Axes, found: CameraPairs, key: str, limits: tuple[float, float], gid: str) -> list[str]:
    """One figure of one run; what each cell says when it is pointed at."""
    values, (low, high), tips = getattr(found, key), limits, []
    for (row, column), value in np.ndenumerate(values):
        text, color, said = "–", MUTED, "no query"
        if found.num_queries[row, column] > 0:
            tint = MOST * (value - low) / (high - low)
            axes.add_patch(Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, color=SERIES[0], alpha=tint, lw=0))
            text, color = f"{100 * value:.1f}", INK
            said = f"{FIGURES[key]} {text} % of {count(int(found.num_queries[row, column]), 'query')}"
        axes.text(column, row, text, ha="center", va="center_baseline", fontsize=FONT - 0.5, color=color)
        tips.append(f"camera {found.query_cameras[row]} in camera {found.gallery_cameras[column]}: {said}")
    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]]
    axes.scatter(columns.ravel(), rows.ravel(), s=(ROW * 60) ** 2, marker="s", color=SERIES[0], alpha=0, lw=0,
                 gid=gid, zorder=9)  # fmt: skip
    axes.set_xlim(-0.5, values.shape[1] - 0.5)
    axes.set_ylim(values.shape[0] - 0.5, -0.5)
    axes.set_xticks(range(values.shape[1]), [str(camera) for camera in found.gallery_cameras])
    axes.set_yticks(range(values.shape[0]), [str(camera) for camera in found.query_cameras])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=FONT, pad=2)
    axes.spines[:].set(visible=True, color=LINE)
    axes.text(1, 1, ACROSS, transform=axes.transAxes, ha="right", va="bottom", fontsize=FONT - 2,
              color=MUTED).set_y(1 + 0.24 / (ROW * values.shape[0]))  # fmt: skip
    axes.set_ylabel("query camera", fontsize=FONT - 2, color=MUTED, labelpad=2)
    return tips


def _summary(scores: Mapping[str, CameraPairs]) -> str:
    """The best and the worst pair of each run, in words."""
    said = []
    for label, found in scores.items():
        whose = f"{label}: rank-1" if len(scores) > 1 else "Rank-1"
        (worst, low), (best, high) = _pair(found, np.nanargmin(found.rank1)), _pair(found, np.nanargmax(found.rank1))
        if low == high:
            said.append(f"{whose} is {low} % in all camera pairs.")
        else:
            said.append(f"{whose} is lowest from {worst} ({low} %) and highest from {best} ({high} %).")
    return " ".join(said)


def _pair(found: CameraPairs, place: np.intp) -> tuple[str, str]:
    """A camera pair by its place in the table, and its rank-1 in %."""
    row, column = np.unravel_index(place, found.rank1.shape)
    cameras = f"camera {found.query_cameras[row]} into camera {found.gallery_cameras[column]}"
    return cameras, f"{100 * found.rank1[row, column]:.1f}"
