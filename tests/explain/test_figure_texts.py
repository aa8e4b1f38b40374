"""Names in figures: whole, inside the figure, as they are spelled, and told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from regard.explain.figures.map_figures import figure_bytes, wrapped
from regard.explain.figures.map_grids import pair_figure, paper_sheet
from regard.explain.figures.svg import plain_text
from regard.explain.heads import PairHeat
from regard.metrics.by_camera import CameraPairs
from regard.report.camera_pairs import camera_pair_table
from regard.report.charts import ap_histogram, cmc_chart, shortened
from regard.report.learning import training_charts
from regard.report.ranked import Hit, RankedList, distance_text
from regard.report.ranked_figure import ranked_figure
from regard.structures import Sample

RUNS = ("market_apneX_seed_with_a_long_name_1", "market_apneY_seed_with_a_long_name_1", "_$b$e")
GRAY = np.full((64, 32, 3), 120, np.uint8)


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def cut(figure: Figure) -> list[str]:
    """Texts that leave the figure by more than a point."""
    canvas = FigureCanvasAgg(figure)
    with plain_text(figure):
        canvas.draw()
        width, height = figure.bbox.width, figure.bbox.height
        ticks = [
            label
            for axes in figure.axes
            for label in (*axes.get_xticklabels(which="both"), *axes.get_yticklabels(which="both"))
        ]
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure) if text not in ticks]
    slack = figure.dpi / 72
    return [text for text, box in boxes if box.x0 < -slack or box.y0 < -slack
            or box.x1 > width + slack or box.y1 > height + slack]  # fmt: skip


def history(value: float) -> list[dict]:
    steps = [{"event": "step", "epoch": e, "step": e + 1, "lr": 0.1, "loss": value, "loss/id": value} for e in range(4)]
    return [*steps, {"event": "eval", "epoch": 3, "step": 4, "mAP": value / 10}]


def pair() -> Figure:
    blob = np.eye(6, 3, dtype=np.float32)
    title = f"{RUNS[2]}: {'a' * 90}.jpg and 0001_c1s1_000151_01.jpg, cosine 0.93"
    return pair_figure(GRAY, GRAY, {"P1": PairHeat(0.9, blob, blob)}, title)


def ranked(folder: Path) -> Figure:
    path = folder / "0001_c1s1_000151_01.png"
    Image.fromarray(GRAY).save(path)
    sample = Sample(path, 1, 1)
    title = "query 12, buried and fooled, " * 4
    lists = [RankedList(title, sample, (Hit(sample, 1, 0.004, True),), 0.5)]
    return ranked_figure(dict.fromkeys(RUNS, lists), ["somebody else comes first at 0.12, the right one at 0.4; " * 3])


def sheet() -> Figure:
    maps = {"P1": np.eye(6, 3, dtype=np.float32)[None]}
    return paper_sheet([GRAY], {"a": maps}, width=3.4, note=f"Grad-CAM of the similarity to {'long_name_' * 9}.jpg")


def cameras() -> Figure:
    table = np.array([[np.nan, 0.4], [0.7, np.nan]])
    found = CameraPairs(np.array([1, 2]), np.array([1, 2]), np.where(np.isnan(table), 0, 9), table, table)
    chart = camera_pair_table(dict.fromkeys(RUNS, found))
    assert chart is not None
    return chart.figure


def curve(number: int) -> Figure:
    charts = training_charts({run: history(i + 1) for i, run in enumerate(RUNS)})
    charts = [chart for chart in charts if chart.name in ("run-loss", "run-accuracy")]
    charts += [cmc_chart({run: np.array([0.5, 1.0]) for run in RUNS}), ap_histogram({run: np.ones(3) for run in RUNS})]
    found = charts[number]
    assert found is not None
    return found.figure


@pytest.mark.parametrize("made", ["pair", "ranked", "sheet", "cameras", *range(4)])
def test_no_text_is_cut(made, tmp_path):
    makers = {"pair": pair, "ranked": lambda: ranked(tmp_path), "sheet": sheet, "cameras": cameras}
    figure = curve(made) if isinstance(made, int) else makers[made]()
    assert cut(figure) == []
    written = figure_bytes(figure, "svg").decode()
    assert "_$b$e" in written or made == "sheet"  # not a formula


def test_titles_are_wrapped_and_nothing_of_them_is_lost():
    title = f"run: {'a' * 90}.jpg and b.jpg, cosine 0.93"
    lines = wrapped(title, 2.0, 9)
    assert "".join(lines).replace(" ", "") == title.replace(" ", "")
    assert len(lines) > 3
    assert wrapped("short", 2.0, 9) == ["short"]
    assert wrapped("", 2.0, 9) == [""]


def test_short_names_are_told_apart_as_the_long_ones_are():
    assert shortened(["apnet", "market_apnet_seed_one"]) == {
        "apnet": "apnet", "market_apnet_seed_one": "market_apn…d_one"
    }  # fmt: skip
    numbered = [f"{'a' * 20}{n}{'b' * 20}" for n in range(12)]
    hidden = [f"{'x' * 40}{n}{'y' * 40}" for n in range(2)]
    for labels in (RUNS, numbered, hidden):
        short = shortened(labels)
        assert list(short) == list(labels)
        assert len(set(short.values())) == len(labels)
        assert max(map(len, short.values())) <= 16


def test_small_distances_are_not_none():
    texts = ["0.50", "0.12", "0.0042", "0.00", "12.00"]
    assert [distance_text(value) for value in (0.5, 0.12345, 0.0042, 0.0, 12.0)] == texts
    assert distance_text(0.00123, 3) == "0.0012"
