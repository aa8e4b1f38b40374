"""The page, read and opened."""

from __future__ import annotations

import re

import pytest

from regard.errors import DataError, StorageError
from regard.report.demo_page import HeatMaps, Report, render_report, write_report

SECTIONS = ["result", "learning", "search", "attention", "setup", "next"]


@pytest.fixture(scope="session")
def page_file(report, tmp_path_factory):
    return write_report(report, tmp_path_factory.mktemp("run") / "deeper" / "report.html")


def test_the_page_is_whole_and_small(page_file):
    page = page_file.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert page_file.stat().st_size < 3_000_000
    assert [path.name for path in page_file.parent.iterdir()] == ["report.html"]


def test_nothing_in_it_points_elsewhere(page_file):
    page = page_file.read_text(encoding="utf-8")
    links = re.findall(r'(?:href|src)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in page


def test_names_from_outside_are_text_not_markup(page_file):
    page = page_file.read_text(encoding="utf-8")
    assert "<b>shows</b>" not in page
    assert "A made-up run &lt;b&gt;shows&lt;/b&gt; everything" in page
    assert "three cameras &amp; no network" in page


def test_the_same_report_gives_the_same_page(report):
    assert render_report(report) == render_report(report)


def test_a_title_alone_makes_a_page():
    page = render_report(Report("Nothing yet"))
    assert "<h1>Nothing yet</h1>" in page
    assert "<section" not in page


@pytest.mark.parametrize(
    ("part", "section"),
    [
        ("evaluations", "result"),
        ("history", "learning"),
        ("ranked", "search"),
        ("distances", "search"),
        ("heat", "attention"),
        ("facts", "setup"),
        ("command", "setup"),
        ("next_commands", "next"),
    ],
)
def test_every_part_stands_alone(report, part, section):
    page = render_report(Report("One part", **{part: getattr(report, part)}))
    assert re.findall(r'<section id="(\w+)"', page) == [section]
    assert re.findall(r'<li><a href="#(\w+)"', page) == [section]


def test_one_method_is_compared_with_nothing(report):
    page = render_report(Report("One", evaluations=report.evaluations[-1:]))
    assert "points above" not in page
    assert "points below" in render_report(Report("Worse", evaluations=report.evaluations[::-1]))


def test_a_broken_picture_is_named_and_the_old_page_stays(report, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        write_report(Report("Broken", heat=[HeatMaps(broken, {})]), path)
    assert path.read_text() == "before"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="could not write"):
        write_report(Report("Nowhere"), tmp_path / "file" / "report.html")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "scheme"),
    [(1280, "light"), (1280, "dark"), (768, "light"), (390, "light"), (390, "dark"), (320, "light")],
)
def test_everything_is_seen_at_every_width(open_page, page_file, width, scheme):
    opened = open_page(page_file, width, scheme)
    page = opened.page
    assert [section.get_attribute("id") for section in page.locator("main section").all()] == SECTIONS
    assert all(section.is_visible() for section in page.locator("main section").all())
    assert page.locator("h1, h2, h3, svg.chart, img, table, .line code").evaluate_all(
        "all => all.filter(e => { const b = e.getBoundingClientRect(); return b.width < 8 || b.height < 8 }).length"
    ) == 0  # fmt: skip
    assert page.locator("svg.chart").count() == 5
    assert page.locator(".ranked").count() == 3
    assert page.locator(".crop.right").count() > 5
    assert page.locator(".crop.wrong").count() > 5
    assert page.locator("img").evaluate_all("all => all.map(i => i.complete && i.naturalWidth)").count(0) == 0
    assert page.locator("img:not([alt])").count() == 0
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0
    assert opened.console == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [page_file.as_uri()]


@pytest.mark.browser
def test_light_and_dark_are_both_readable(open_page, page_file, contrasts):
    papers = set()
    for scheme in ("light", "dark"):
        page = open_page(page_file, 1280, scheme).page
        papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        ratios = contrasts(page)
        assert len(ratios) > 100
        assert min(ratios) >= 4.5
    assert len(papers) == 2


@pytest.mark.browser
def test_complete_without_script_and_in_reach_of_the_keyboard(open_page, page_file):
    still = open_page(page_file, script=False)
    assert still.page.locator("main section").count() == len(SECTIONS)
    page = open_page(page_file).page
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert reached[:8] == ["Skip to the result", "regard", "Result", "Learning", "Search", "Attention", "Setup", "Next"]
    assert reached.count("Copy") == 2
    page.locator("nav").get_by_text("Attention").click()
    page.wait_for_function("location.hash === '#attention'")
