"""The page of a run beside what it is compared with, as the demo shows it, read and opened."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from regard.errors import DataError, StorageError
from regard.report.runs_page import render_runs, write_runs
from regard.structures import Sample

SECTIONS = ["result", "training", "curves", "lists", "setup", "next"]


@pytest.fixture(scope="session")
def page_file(report, tmp_path_factory):
    return write_runs(report, tmp_path_factory.mktemp("run") / "deeper" / "report.html")


def test_the_page_is_whole(report, page_file):
    page = page_file.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert [path.name for path in page_file.parent.iterdir()] == ["report.html"]
    assert page == render_runs(report)
    assert re.findall(r'<section id="(\w+)"', page) == SECTIONS


def test_names_from_outside_are_text_not_markup(page_file):
    page = page_file.read_text(encoding="utf-8")
    assert "<b>shows</b>" not in page
    assert "A made-up run &lt;b&gt;shows&lt;/b&gt; everything" in page
    assert "three cameras &amp; no network" in page


def test_a_run_is_compared_with_other_methods_where_there_are_any(report):
    mine, other = report.runs[0].report, report.baselines["color histogram"]
    page = render_runs(report)
    assert f"{100 * (mine.mAP - other.mAP):.1f} points above color histogram, on 24 queries" in page
    assert page.count("</span>color histogram</th>") + page.count("</svg>\ncolor histogram</th>") == 1
    assert "Dotted: mAP of color histogram." in page
    worse = replace(report, runs=[replace(report.runs[0], report=other)], baselines={"better": mine})
    assert "points below better" in render_runs(worse)
    alone = render_runs(replace(report, baselines={}, next_commands=()))
    assert "points above" not in alone
    assert "color histogram" not in alone
    assert 'id="next"' not in alone


def test_a_broken_picture_is_named_and_the_old_page_stays(report, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8")
    shown = [replace(report.queries[0], sample=Sample(broken, 1, 1)), *report.queries[1:]]
    with pytest.raises(DataError, match=r"broken\.jpg"):
        write_runs(replace(report, queries=shown), path)
    assert path.read_text() == "before"


def test_a_place_that_cannot_be_written(report, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="could not write"):
        write_runs(report, tmp_path / "file" / "report.html")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_everything_is_seen_and_readable(open_page, page_file, contrasts, width, scheme):
    opened = open_page(page_file, width, scheme)
    page = opened.page
    assert [section.get_attribute("id") for section in page.locator("main section").all()] == SECTIONS
    assert all(section.is_visible() for section in page.locator("main section").all())
    assert page.locator("h1, h2, h3, svg.chart, img, table, .line code").evaluate_all(
        "all => all.filter(e => { const b = e.getBoundingClientRect(); return b.width < 8 || b.height < 8 }).length"
    ) == 0  # fmt: skip
    assert page.locator("svg.chart").count() == 5
    assert page.locator("img:not([alt])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    ratios = contrasts(page)
    assert len(ratios) > 100
    assert min(ratios) >= 4.5
    assert opened.console == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [page_file.as_uri()]


@pytest.mark.browser
def test_in_reach_of_the_keyboard(open_page, page_file):
    page = open_page(page_file).page
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert reached[:8] == ["Skip to the result", "regard", "Result", "Training", "Curves", "Lists", "Setup", "Next"]
    page.locator("nav").get_by_text("Next").click()
    page.wait_for_function("location.hash === '#next'")
