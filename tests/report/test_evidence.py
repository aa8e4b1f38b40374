"""Charts of how sure a figure is show the numbers they are given."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from regard.calibration.reliability import Threshold, reliability
from regard.calibration.similarity import Calibration
from regard.explain.figures.map_figures import figure_bytes
from regard.report.evidence import interval_chart, reliability_chart

SVG = "{http://www.w3.org/2000/svg}"
FIGURES = {
    "baseline": {"mAP": (0.40, 0.35, 0.45), "rank-1": (0.60, 0.5, 0.7)},
    "apnet": {"mAP": (0.50, 0.44, 0.55), "rank-1": (0.59, 0.5, 0.7)},
}
DIFFERENCES = {"apnet": {"mAP": (0.10, 0.06, 0.14), "rank-1": (-0.01, -0.05, 0.03)}}


def texts(chart) -> set[str]:
    return {element.text or "" for element in ET.fromstring(chart.svg()).iter(f"{SVG}text")}


def a_calibration() -> tuple:
    generator = np.random.default_rng(0)
    probability = generator.random(2000)
    found = reliability(probability, generator.random(2000) < probability, prior=0.5)
    thresholds = [Threshold(0.1, 0.2, 0.08, 0.12, 0.9), Threshold(0.001, 0.7, 0, 0.002, 0.4)]
    return found, Calibration("logistic", np.array([[-0.5, -6.0], [1.0, 8.0]]), thresholds=thresholds)


def test_intervals_are_drawn_where_they_lie():
    chart = interval_chart(FIGURES, DIFFERENCES, "baseline")
    assert {"mAP", "rank-1", "baseline", "apnet", "mAP minus baseline"} <= texts(chart)
    (first, _), (below, unsure) = np.array(chart.figure.axes).reshape(2, 2)
    bars = [line.get_xdata() for line in first.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(bars, [[35, 45], [44, 55]])
    points = [line.get_xdata()[0] for line in first.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(points, [40, 50])
    assert below.lines[0].get_color() != unsure.lines[0].get_color()  # an interval with zero in it is not drawn as sure
    assert chart.summary == "mAP is highest for apnet (50.0 %); rank-1 is highest for baseline (60.0 %)."


def test_solid_is_what_the_table_calls_sure_and_nothing_else():
    """The interval leaves zero out, but p is corrected for the number of runs; and the other way round."""
    chances = {"apnet": {"mAP": 0.08, "rank-1": 0.01}}
    drawn = interval_chart(FIGURES, DIFFERENCES, "baseline", chances)
    _, _, below, other = drawn.figure.axes
    filled = [axes.lines[1].get_markerfacecolor() == axes.lines[1].get_color() for axes in (below, other)]
    assert filled == [False, True]
    assert "solid: p < 0.05 in the table" in texts(drawn)
    assert "solid: the interval leaves zero out" in texts(interval_chart(FIGURES, DIFFERENCES, "baseline"))
    tied = {"a": {"mAP": (0.5, 0.4, 0.6)}, "b": {"mAP": (0.5, 0.3, 0.7)}}
    assert interval_chart(tied).summary == "mAP is highest for a and b (50.0 %)."


def test_names_are_drawn_as_they_are_and_long_titles_on_several_lines():
    """Dollar signs make no formula of a name, which would be a wrong one here."""
    name = "a $x^$ {} and more of it than fits above a plot"
    found = {name: FIGURES["baseline"], "apnet": FIGURES["apnet"]}
    drawn = interval_chart(found, DIFFERENCES, name)
    assert {name, "mAP minus a $x^$ {} and more of it", "than fits above a plot"} <= texts(drawn)
    assert figure_bytes(drawn.figure).startswith(b"\x89PNG")


def test_without_differences_there_is_one_row_of_panels():
    assert len(interval_chart(FIGURES).figure.axes) == 2
    assert interval_chart({}) is None


def test_reliability_is_drawn_where_it_lies():
    found, calibration = a_calibration()
    chart = reliability_chart(found, calibration)
    left, right = chart.figure.axes
    np.testing.assert_allclose(left.lines[-1].get_xydata(), 100 * np.column_stack([found.predicted, found.observed]))
    x, y = right.lines[0].get_data()
    np.testing.assert_allclose(y, 100 * calibration.probability(x))
    assert {"10 %", "0.1 %", "prior 0.5", "prior 0.01"} <= texts(chart)
    assert f"off by {100 * found.ece:.1f} points" in chart.summary


@pytest.mark.parametrize(
    "make", [lambda: interval_chart(FIGURES, DIFFERENCES, "baseline"), lambda: reliability_chart(*a_calibration())]
)
def test_a_png_is_light_and_large_enough_to_read(make):
    picture = Image.open(io.BytesIO(figure_bytes(make().figure))).convert("L")
    assert picture.width >= 900
    assert np.asarray(picture).mean() > 225
    assert np.asarray(picture).min() < 60
