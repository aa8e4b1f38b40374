"""The table by cameras says what was found, in numbers that can be read on light and on dark pages."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import regard.report
from regard.explain.figures.svg import PALETTE
from regard.metrics.by_camera import CameraPairs
from regard.report.camera_pairs import MOST, camera_pair_table

NAN = np.nan
FOUND = CameraPairs(
    np.array([1, 3]), np.array([1, 2, 3]),
    np.array([[NAN, 0.5, 0.65], [0.7, 0.8, NAN]]), np.array([[NAN, 0.412, 0.6], [0.7, 0.987, NAN]]),
    np.array([[0, 17, 5], [1234, 6, 0]]),
)  # fmt: skip


def texts(svg: str) -> list[str]:
    return [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text") if element.text]


def test_every_number_is_in_its_cell():
    chart = camera_pair_table({"apnet": FOUND})
    assert chart is not None
    rank1, mean = chart.figure.axes
    for axes, values in ((rank1, FOUND.rank1), (mean, FOUND.mAP)):
        cells = {text.get_position(): text.get_text() for text in axes.texts}
        for (row, column), value in np.ndenumerate(values):
            assert cells[column, row] == ("–" if np.isnan(value) else f"{100 * value:.1f}")
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "3"]
        assert axes.get_ylabel() == "query camera"
        assert "gallery camera" in cells.values()
    said = texts(chart.svg())
    assert {"rank-1 in %", "mAP in %", "41.2", "98.7", "–"} <= set(said)
    assert not any("apnet" in text for text in said)  # one run needs no name


def test_words_and_tooltips():
    chart = camera_pair_table({"apnet": FOUND}, name="where")
    assert chart.summary == (
        "Rank-1 is lowest from camera 1 into camera 2 (41.2 %) and highest from camera 3 into camera 2 (98.7 %)."
    )
    assert chart.tips["where-0-rank1"][3] == "camera 3 in camera 1: rank-1 70.0 % of 1,234 queries"
    assert chart.tips["where-0-rank1"][0] == "camera 1 in camera 1: no query"
    assert chart.svg().count('class="tip"') == 12


def test_the_higher_the_number_the_stronger_the_tint_on_one_scale():
    worse = FOUND._replace(rank1=FOUND.rank1 - 0.2, mAP=FOUND.mAP - 0.2)
    chart = camera_pair_table({"good": FOUND, "worse": worse})
    tints = []
    for axes, found in zip(chart.figure.axes[::2], (FOUND, worse)):
        tints += list(zip(found.rank1[~np.isnan(found.rank1)], [patch.get_alpha() for patch in axes.patches]))
    order = [alpha for _, alpha in sorted(tints)]
    assert order == sorted(order)
    assert (order[0], order[-1]) == (0, MOST)
    assert "good, rank-1 in %" in texts(chart.svg())
    assert chart.summary.startswith("good: rank-1")


def test_nearly_the_same_everywhere_looks_like_it():
    flat = FOUND._replace(rank1=np.where(FOUND.num_queries, 0.9, NAN) - 0.01 * np.arange(3))
    alphas = [patch.get_alpha() for patch in camera_pair_table({"a": flat}).figure.axes[0].patches]
    assert min(alphas) > 0.9 * MOST
    same = FOUND._replace(rank1=np.where(FOUND.num_queries, 0.9, NAN))
    assert camera_pair_table({"a": same}).summary == "Rank-1 is 90.0 % in all camera pairs."


def test_no_query_no_chart():
    assert camera_pair_table({"a": FOUND._replace(num_queries=np.zeros((2, 3), int))}) is None
    assert camera_pair_table({}) is None


def dark() -> dict[str, str]:
    css = Path(regard.report.__file__).with_name("templates").joinpath("report.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#\w{6})", css.partition("prefers-color-scheme: dark")[2].partition("}")[0]))


@pytest.mark.parametrize("colors", [PALETTE, dark()], ids=["light", "dark"])
def test_numbers_can_be_read(colors):
    ink, surface, tint = (np.array(to_rgb(colors[name])) for name in ("ink", "surface", "series-1"))
    for opacity in np.linspace(0, MOST, 20):
        assert contrast(ink, opacity * tint + (1 - opacity) * surface) > 4.5  # WCAG 2.2, criterion 1.4.3


def contrast(first: np.ndarray, second: np.ndarray) -> float:
    light = [
        np.dot(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4), [0.2126, 0.7152, 0.0722])
        for c in (first, second)
    ]
    return (max(light) + 0.05) / (min(light) + 0.05)
