"""The picture of robustness shows every number it was given, whatever was measured."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from regard.explain.figures.map_figures import figure_bytes
from regard.report.evidence import robustness_chart

CLEAN = {"mAP": 0.8, "rank-1": 0.9, "mINP": 0.5}


def figures(value: float) -> dict[str, float]:
    return {"mAP": value, "rank-1": value + 0.05, "mINP": value / 2}


KINDS = {kind: {"1": figures(0.61 + i / 100), "5": figures(0.123)} for i, kind in enumerate(("fog", "shot_noise"))}
CORRUPTIONS = {"kinds": KINDS, "mean": figures(0.4)}
MANY = {"kinds": {f"kind_{i}": KINDS["fog"] for i in range(21)}}
CURVES = {
    "resolution": {"64": figures(0.7), "16": figures(0.2)},
    "occlusion": {"0.1": figures(0.6), "0.5": figures(0.3)},
}


@pytest.mark.parametrize(
    ("found", "axes"),
    [
        (CORRUPTIONS, 1),
        (CURVES, 2),
        ({"resolution": CURVES["resolution"]}, 1),
        (CORRUPTIONS | CURVES, 3),
        (CORRUPTIONS | MANY, 1),
        (CORRUPTIONS | MANY | CURVES, 3),
    ],
)
def test_every_part_is_drawn_inside_the_picture(found, axes):
    chart = robustness_chart(found, CLEAN)
    assert chart is not None
    assert len(chart.figure.axes) == axes
    chart.figure.draw_without_rendering()
    edge = chart.figure.bbox
    boxes = [one.get_tightbbox() or edge for one in chart.figure.axes]
    for box in boxes:
        assert edge.x0 - 1 <= box.x0 <= box.x1 <= edge.x1 + 1
        assert edge.y0 - 1 <= box.y0 <= box.y1 <= edge.y1 + 1
    for one, other in itertools.combinations(boxes, 2):
        assert one.x1 <= other.x0 or one.y0 >= other.y1
    with Image.open(io.BytesIO(figure_bytes(chart.figure))) as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert "<svg" in chart.svg()


def test_numbers_and_words():
    chart = robustness_chart(CORRUPTIONS | CURVES, CLEAN)
    assert chart is not None
    shown = [text.get_text() for text in chart.figure.axes[0].texts]
    assert shown == ["61.0", "12.3", "62.0", "12.3"]
    assert chart.summary == (
        "mAP falls from 80.0 % to 40.0 % on average; with 16 pixels it is 20.0 %; with 50 % covered it is 30.0 %."
    )
    lines = chart.figure.axes[1].get_lines()
    assert np.allclose([np.asarray(line.get_ydata()) for line in lines[1::2]], [[70, 20], [75, 25], [35, 10]])


def test_nothing_measured_is_no_chart():
    assert robustness_chart({}, CLEAN) is None
    assert robustness_chart({"mixed": {"mean": figures(0.1)}}, CLEAN) is None
