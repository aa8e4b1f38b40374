"""Labels of an axis say where they stand."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from regard.explain.figures.draw import number_ticks, percent_ticks, short_number
from regard.explain.figures.score_figure import score_figure
from regard.explain.perturbation import FILLS, FRACTIONS
from regard.explain.scores import ExplanationScores, ScoredMethod
from regard.report.charts import histogram_chart, pair_histogram
from regard.report.learning import training_charts


def written(dress, ticks: list[float], **options) -> list[str]:
    axes = Figure().subplots()
    axes.set_ylim(min(ticks), max(ticks))
    axes.set_yticks(ticks)
    dress(axes.yaxis, **options)
    return [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize(
    ("ticks", "whole", "wanted"),
    [
        ([0, 2.5, 5, 7.5, 10], 100, ["0.0 %", "2.5 %", "5.0 %", "7.5 %", "10.0 %"]),
        ([0, 20, 40], 100, ["0 %", "20 %", "40 %"]),
        ([0, 0.025, 0.05], 100, ["0.000 %", "0.025 %", "0.050 %"]),
        ([0, 0.1, 0.3], 1, ["0 %", "10 %", "30 %"]),
        ([0.125, 0.25], 1, ["12.5 %", "25.0 %"]),
        ([0, 0.1 + 0.2], 100, ["0.0 %", "0.3 %"]),
    ],
)
def test_percent_has_the_decimals_its_ticks_need(ticks, whole, wanted):
    assert written(percent_ticks, ticks, whole=whole) == wanted


@pytest.mark.parametrize(
    ("ticks", "wanted"),
    [
        ([5e-05, 1e-4, 2e-4], ["5e-5", "1e-4", "2e-4"]),
        ([0, 1e-4, 1.5e-3], ["0", "1e-4", "1.5e-3"]),
        ([0, 0.01, 0.02], ["0", "0.01", "0.02"]),
        ([1, 20, 500], ["1", "20", "500"]),
        ([0.999975, 0.99998, 0.9999825], ["0.999975", "0.99998", "0.9999825"]),
    ],
)
def test_numbers_of_an_axis_are_written_in_one_way(ticks, wanted):
    assert written(number_ticks, ticks) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"), [(3.25e-4, "3.25e-4"), (3.5e-4, "3.5e-4"), (1e-4, "1e-4"), (0.0123, "0.0123"), (0, "0")]
)
def test_a_short_number_is_not_rounded_away(value, wanted):
    assert short_number(value) == wanted


@pytest.mark.parametrize("gain", [0, 1e-5, 3e-3, 0.07, 0.33, 1])
def test_numbers_beside_curves_of_scores_are_whole(gain):
    """Those of the left axes were cut off with their minus, those of the others lay on the axes before."""
    sides = [f"{side} {fill}" for side in ("inserted", "deleted") for fill in FILLS]
    curve = gain * np.sin(np.linspace(0, 6, len(FRACTIONS)))
    curves = dict.fromkeys(sides, curve) | {f"random {side}": 0 * curve for side in sides}
    scored = {"gradcam": ScoredMethod({}, curves, None)}
    figure = score_figure([ExplanationScores("net", 2, 2, 0, {}, scored, np.eye(1), {})])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes, edge in zip(figure.axes, (0.0, figure.axes[0].get_window_extent().x1)):
        (low, high), labels = axes.get_ylim(), axes.get_yticklabels()
        seen = [label for label in labels if low <= label.get_position()[1] <= high]
        assert len(seen) > 2
        assert min(label.get_window_extent(canvas.get_renderer()).x0 for label in seen) > edge


def test_labels_of_charts_stand_where_they_say():
    """A histogram of 40 bins whose highest holds a tenth has ticks at 2.5 and 7.5 %."""
    found = pair_histogram([i / 40 for i in range(40)], [0.1 * (i % 11) for i in range(40)], 12)
    axes = histogram_chart(found, top=0.1).figure.axes[0]
    labels = dict(zip(axes.get_yticks(), [label.get_text() for label in axes.get_yticklabels()]))
    assert labels[2.5] == "2.5 %"
    for place, label in labels.items():
        assert float(label.removesuffix(" %")) == pytest.approx(place)


def test_learning_rates_of_very_different_runs_are_labelled_alike():
    runs = {
        name: [{"event": "step", "step": i, "epoch": i, "lr": lr, "loss": 1.0} for i in (1, 2, 3)]
        for name, lr in (("a", 5e-5), ("b", 1e-3))
    }
    axes = next(chart for chart in training_charts(runs) if chart.name == "run-rate").figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert all("e-" in label for label in labels), labels
    assert [float(label) for label in labels] == pytest.approx(list(axes.get_yticks()))
