"""Two pictures and why they match, as a figure: the first above the second, heat on both."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from regard.explain.figures.map_figures import (
    FONT,
    INK,
    MUTED,
    SMALL,
    canvas,
    caption,
    place,
    proportions,
    say_if_empty,
    show,
    wrapped,
)
from regard.explain.figures.overlay import Picture, heat_over, open_picture
from regard.explain.heads import PairHeat

__all__ = ["pair_figure"]

CELL, GAP, ABOVE, LINE = 1.9, 0.1, 0.26, 0.16
COLUMNS = 8


def pair_figure(first: Picture, second: Picture, found: Mapping[str, PairHeat], title: str = "") -> Figure:
    """Draw what :func:`~regard.explain.heads.pair_heat` found.

    Args:
        first, second: the pictures.
        found: name of a layer or head -> heat on both.
        title: a line above; who is compared and how similar they are.
    """
    width = CELL * proportions([first, second])
    rows = -(-len(found) // (COLUMNS - 1))
    columns = 1 + -(-len(found) // rows)
    blocks = [list(found)[start : start + columns - 1] for start in range(0, len(found), columns - 1)]
    block = ABOVE + 2 * CELL + 2 * GAP + 0.14
    across = max(GAP + columns * (width + GAP), 3.2)
    lines = wrapped(title, across - 2 * GAP, FONT + 1)
    head = 0.18 + LINE * len(lines)
    figure = canvas(across, head + len(blocks) * block)
    left, top = GAP / across, 1 - 0.08 / figure.get_figheight()
    figure.text(left, top, "\n".join(lines), va="top", fontsize=FONT + 1, color=INK)
    own = {found[name].similarity for name in found}
    for row, names in enumerate(blocks):
        top = head + row * block + ABOVE
        for line, picture in enumerate((first, second)):
            y = top + line * (CELL + GAP)
            show(place(figure, GAP, y, width, CELL), open_picture(picture))
            for column, name in enumerate(names, start=1):
                axes = place(figure, GAP + column * (width + GAP), y, width, CELL)
                heat = found[name].second if line else found[name].first
                show(axes, heat_over(picture, heat))
                say_if_empty(axes, heat)
                if line == 0:
                    caption(axes, name)
                elif len(own) > 1:
                    caption(axes, below=f"cosine {found[name].similarity:.2f}")
    figure.text(
        1 - GAP / figure.get_figwidth(),
        0.03 / figure.get_figheight(),
        "heat: what makes each like the other, divided by its maximum",
        ha="right",
        fontsize=SMALL - 1,
        color=MUTED,
    )
    return figure
