"""Charts are valid, readable SVG that takes its colors from the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from matplotlib import rcParams

from regard.explain.figures.svg import PALETTE, Chart
from regard.report.charts import ap_histogram, cmc_chart, histogram_chart, pair_histogram
from regard.report.learning import accuracy_chart, loss_chart

SVG = "{http://www.w3.org/2000/svg}"


def step(step: int, epoch: int, **values: float) -> dict:
    return {"event": "step", "epoch": epoch, "step": step, "lr": 1e-3, "loss": 1.0} | values


def texts(chart: Chart) -> list[str]:
    return [element.text or "" for element in ET.fromstring(chart.svg()).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def charts(report) -> dict[str, Chart]:
    run = report.runs[0]
    scores = {run.label: run.report} | report.baselines
    made = [
        loss_chart(run.history),
        accuracy_chart(run.history, {"color histogram": 0.12}),
        cmc_chart({label: found.cmc for label, found in scores.items()}),
        ap_histogram({label: found.ap for label, found in scores.items()}),
        histogram_chart(run.pairs),
    ]
    return {chart.name: chart for chart in made if chart}


@pytest.mark.parametrize("name", ["loss", "accuracy", "cmc", "ap", "distance"])
def test_every_chart_fits_into_a_page(charts, name):
    chart = charts[name]
    source = chart.svg()
    root = ET.fromstring(source)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == chart.title
    assert root.find(f"{SVG}desc").text == chart.summary
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert any(text.strip() for text in texts(chart)), "text was drawn as outlines"
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(identity.startswith(f"{name}-") for identity in ids)
    references = {*re.findall(r"url\(#([^)]+)\)", source), *re.findall(r'href="#([^"]+)"', source)}
    assert references <= set(ids)
    assert "<style" not in source
    assert "font-family" not in source
    assert "http" not in source.replace('xmlns="http://www.w3.org/2000/svg"', "")


@pytest.mark.parametrize("name", ["loss", "accuracy", "cmc", "ap", "distance"])
def test_every_color_is_a_variable_of_the_page(charts, name):
    source = charts[name].svg()
    variables = dict(re.findall(r"var\(--([\w-]+), (#\w+)\)", source))
    assert variables
    assert variables.items() <= PALETTE.items()
    assert not re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", source))


def test_colors_of_the_palette_are_told_apart():
    assert len(set(PALETTE.values())) == len(PALETTE)


def test_the_same_chart_gives_the_same_text(report):
    history = report.runs[0].history
    assert loss_chart(history).svg() == loss_chart(history).svg()


def test_nothing_global_changes(charts):
    import matplotlib._pylab_helpers

    before = dict(rcParams)
    charts["loss"].svg()
    assert dict(rcParams) == before
    assert not matplotlib._pylab_helpers.Gcf.figs


def test_loss_chart_names_terms_and_totals(charts):
    assert {"total", "id", "triplet", "loss", "learning rate", "epoch"} <= set(texts(charts["loss"]))
    assert "10 epochs (120 steps)" in charts["loss"].summary


def test_a_resumed_run_shows_each_step_once():
    records = [
        step(1, 0, loss=9.0),
        step(2, 0, loss=8.0),
        step(3, 1, loss=500.0),
        step(3, 1, loss=4.0),
        step(4, 1, loss=2.0),
    ]
    chart = loss_chart(records)
    assert chart.summary == "The loss goes from 9.00 to 2.00 in 2 epochs (4 steps)."


def test_missing_values_leave_gaps():
    records = [step(i, i // 10, **({"loss/id": 0.5} if i > 5 else {}), **{"loss/center": 0.1}) for i in range(1, 21)]
    assert {"id", "center"} <= set(texts(loss_chart(records)))


def test_steps_without_learning_rate():
    records = [{"event": "step", "epoch": 0, "step": i, "loss": 1 / i} for i in range(1, 6)]
    assert "learning rate" not in texts(loss_chart(records))


def test_accuracy_chart_says_where_it_starts_and_ends(charts):
    assert "mAP goes from 36.1 % at epoch 2 to 76.0 % at epoch 10." in charts["accuracy"].summary
    assert {"mAP 76.0 %", "rank-1 86.0 %", "mINP 38.0 %", "color histogram"} <= set(texts(charts["accuracy"]))


def test_a_single_evaluation_before_any_step():
    chart = accuracy_chart([{"event": "eval", "epoch": 0, "step": 0, "mAP": 0.25}])
    assert chart.summary == "mAP is 25.0 % at epoch 0."
    assert "rank-1" not in " ".join(texts(chart))


def test_points_tell_their_values(charts):
    tips = [element.text for element in ET.fromstring(charts["cmc"].svg()).iter(f"{SVG}title")]
    assert any(re.fullmatch(r"trained, rank 1: \d+\.\d %", tip) for tip in tips)
    assert len(tips) == 1 + 2 * 20


def test_names_of_overlapping_curves_do_not_overlap():
    chart = cmc_chart({f"run {i}": np.full(20, 0.999 - 0.0001 * i) for i in range(5)})
    root = ET.fromstring(chart.svg())
    heights = sorted(float(e.get("y")) for e in root.iter(f"{SVG}text") if (e.text or "").startswith("run"))
    assert len(heights) == 5
    assert all(b - a > 8 for a, b in pairwise(heights))


def test_hostile_labels_are_escaped():
    chart = cmc_chart({"a < b & <script>": np.array([0.5, 0.75])})
    assert "<script>" not in chart.svg()
    assert "a < b & <script>" in texts(chart)


def test_values_that_are_no_numbers_are_left_out():
    diverged = [step(i, 0, loss=2.0 if i < 5 else float("nan"), lr=None) for i in range(1, 9)]
    assert loss_chart(diverged).summary.startswith("The loss goes from 2.00 to 2.00")
    assert loss_chart([step(i, 0, loss=float("inf")) for i in range(1, 9)]) is None
    evals = [{"event": "eval", "epoch": e, "step": 10 * e + 10, "mAP": 0.1 * e} for e in range(4)]
    evals[1] |= {"rank1": 0.5, "mINP": float("nan")}
    evals[3] |= {"mAP": None}
    chart = accuracy_chart(evals, {"broken": float("nan")})
    assert len(chart.tips["accuracy-mAP"]) == 3
    assert chart.tips["accuracy-rank1"] == ["epoch 2: rank-1 50.0 %"]
    assert "broken" not in chart.svg()
    assert cmc_chart({"no query": np.full(5, np.nan)}) is None


def test_nothing_to_show_is_no_chart():
    assert loss_chart([]) is None
    assert loss_chart([step(1, 0)]) is None
    assert accuracy_chart([step(1, 0), step(2, 0)]) is None
    assert cmc_chart({}) is None
    assert ap_histogram({"trained": np.array([np.nan])}) is None
    assert pair_histogram(np.array([0.1]), np.array([np.inf, np.nan])) is None


def test_constant_values_do_not_warn():
    assert loss_chart([step(1, 0, loss=0.0, lr=0.0), step(2, 0, loss=0.0, lr=0.0)])
    assert histogram_chart(pair_histogram(np.array([0.5]), np.array([0.5]))).svg()
    assert ap_histogram({"trained": np.ones(3)}).svg()
    assert cmc_chart({"trained": np.ones(1)}).svg()


def test_distances_are_summed_up_rightly():
    chart = histogram_chart(pair_histogram(np.array([0.1, 0.2, 0.6]), np.array([0.3, 0.5, 0.7, 0.9])))
    # right pairs beat 4, 4 and 2 of the 4 wrong ones
    assert f"closer than {100 * 10 / 12:.1f} % of the pairs showing two" in chart.summary
