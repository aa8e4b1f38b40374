"""The page of trained runs: what it shows is what was found, and it opens, moves, prints and reads as promised."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regard.cli.main import main
from regard.data.datasets import load_dataset
from regard.engine.run import start_run
from regard.errors import ConfigError
from regard.explain.attention_precision import PrecisionRow
from regard.explain.figures.map_figures import canvas, place, show
from regard.explain.figures.svg import Chart
from regard.metrics import RankingReport
from regard.recipes import read_recipe
from regard.report import SECTIONS, gather
from regard.report.charts import cmc_chart, histogram_chart, pair_histogram
from regard.report.learning import training_charts
from regard.report.runs_page import RunFindings, RunsReport, render_runs
from regard.report.score_table import score_cells

ANCHORS = ["result", "training", "curves", "cameras", "map", "lists", "attention", "setup"]
PEOPLE, PICTURES = 4, 2


@pytest.fixture(scope="module")
def runs(market, tmp_path_factory) -> list[Path]:
    """Two systems, trained for a second each."""
    folder = tmp_path_factory.mktemp("runs")
    common = [
        f"data.root={market}", "data.name=market1501", "data.height=48", "data.width=32", "data.ids_per_batch=4",
        "data.images_per_id=2", "data.workers=0", "data.pad=2", "model.backbone=test_resnet.r160_in1k",
        "train.epochs=2", "train.eval_every=1", "train.log_every=2", "train.accelerator=cpu", "train.precision=fp32",
        "eval.batch_size=16", "schedule.warmup_epochs=0",
    ]  # fmt: skip
    for system in ("baseline", "msea"):
        config = read_recipe(f"{system}_crowd").config(common)
        start_run(config, folder / system, quiet=True)
    return [folder / "baseline", folder / "msea"]


@pytest.fixture(scope="module")
def found(runs) -> RunsReport:
    """What the page is made of; the market has no masks, so one figure of attention precision is planted."""
    report = gather(runs, queries=2, pictures=1, people=PEOPLE, command="regard report a b", quiet=True)
    planted = PrecisionRow("baseline", "last map", 0.3, 0.6, 0.5, 0.7, 0.3, 0.2, 0.4, 0.33, 24)
    return replace(report, runs=[replace(report.runs[0], precision=[planted]), report.runs[1]])


@pytest.fixture(scope="module")
def page_file(found, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_runs(found), encoding="utf-8")
    return path


def labels(samples) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s.pid for s in samples]), np.array([s.camid for s in samples])


def test_the_verb_writes_one_whole_page(runs, tmp_path, capsys):
    page = tmp_path / "deeper" / "page.html"
    arguments = ["report", *map(str, runs), "-o", str(page), "--queries", "1", "--people", "3", "--quiet"]
    assert main([*arguments, "--without", "attention", "pairs", "correlation", "precision"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"wrote {page} (")
    assert re.search(r"; highest mAP \d+\.\d; next: regard calibrate .+\n\Z", said)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert re.findall(r'<section id="(\w+)"', text) == [name for name in ANCHORS if name != "attention"]
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_nothing_in_the_page_points_elsewhere(page_file):
    text = page_file.read_text(encoding="utf-8")
    assert page_file.stat().st_size < 3_000_000
    links = re.findall(r'(?:href|src)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert len(links) > 50
    assert all(link.startswith(("#", "data:")) for link in links)
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {"http://www.w3.org/2000/svg"}
    identities = re.findall(r'\sid="([^"]+)"', text)
    assert len(identities) == len(set(identities))
    assert {link[1:] for link in links if link.startswith("#")} <= {*identities, ""}


def test_scores_are_those_of_the_runs(found, page_file):
    text = page_file.read_text(encoding="utf-8")
    for run in found.runs:
        assert run.history[-1]["event"] == "eval"
        assert run.report.mAP == pytest.approx(run.history[-1]["mAP"])
        assert f"{100 * run.report.mAP:.1f}" in text
        assert f"{run.parameters:,}" in text
        assert run.facts["System"] == run.label
        assert html.escape(run.settings.splitlines()[0]) in text
    best = max(found.runs, key=lambda run: run.report.mAP)
    assert f"{100 * best.report.mAP:.1f}<small>% mAP</small>" in text


def test_pairs_and_curve_are_counted_as_by_hand(found, runs, market):
    """Embed again, compare every pair by a loop, and find the same histogram and the same CMC."""
    from regard.evaluation.run import open_run

    splits, run = load_dataset("market1501", market), open_run(runs[0], quiet=True)
    query, gallery = (run.features(part).embeddings for part in ("query", "gallery"))
    same, different, ranks = [], [], []
    for q, asked in enumerate(splits.query):
        near = []
        for g, shown in enumerate(splits.gallery):
            cosine = query[q] @ gallery[g] / np.linalg.norm(query[q]) / np.linalg.norm(gallery[g])
            if asked.camid != shown.camid:
                (same if asked.pid == shown.pid else different).append(cosine)
            if asked.camid != shown.camid or asked.pid != shown.pid:
                near.append((-cosine, asked.pid != shown.pid))
        ranks.append(1 + next(i for i, (_, wrong) in enumerate(sorted(near)) if not wrong))
    pairs = found.runs[0].pairs
    assert pairs.quantity == "cosine similarity"
    assert pairs.medians == pytest.approx((np.median(same), np.median(different)), abs=1e-5)
    nearer = np.mean([[(s > d) + (s == d) / 2 for d in different] for s in same])
    assert pairs.separation == pytest.approx(nearer, abs=2e-3)
    for counted, values in ((pairs.same, same), (pairs.different, different)):
        shares = [np.mean([low <= v < high for v in values]) for low, high in zip(pairs.edges, pairs.edges[1:])]
        assert np.abs(counted - shares).sum() < 3 / len(values)  # rounding at an edge, and the last bin's own end
    cmc = [np.mean([rank <= k for rank in ranks]) for k in range(1, 6)]
    assert found.runs[0].report.cmc[:5] == pytest.approx(cmc)


def test_the_overlap_of_a_planted_histogram():
    pairs = pair_histogram(np.array([0.1, 0.1, 0.3, 0.6]), np.array([0.3, 0.7, 0.9, 0.9]), bins=4, limits=(0, 1))
    assert pairs.same.tolist() == [0.5, 0.25, 0.25, 0]
    assert pairs.different.tolist() == [0, 0.25, 0.25, 0.5]
    assert pairs.overlap == pytest.approx(0.5)
    assert pairs.separation == pytest.approx((4 + 4 + 3.5 + 3) / 16)
    assert "the two areas overlap by 50.0 %" in histogram_chart(pairs).summary
    alike = pair_histogram(np.array([0.9, 0.8]), np.array([0.1, 0.85]), quantity="cosine similarity")
    assert alike.separation == pytest.approx(0.75)
    outside = pair_histogram(np.array([-3.0, 9.0]), np.array([0.5]), bins=2, limits=(0, 1))
    assert outside.same.tolist() == [0.5, 0.5]


def test_a_planted_cmc_is_drawn_as_it_is():
    chart = cmc_chart({"one": np.array([0.5, 0.75, 1.0]), "two": np.array([0.25, 0.25, 0.5])}, 50)
    assert chart.tips["cmc-0"] == ["one, rank 1: 50.0 %", "one, rank 2: 75.0 %", "one, rank 3: 100.0 %"]
    assert "50.0 % (one), 25.0 % (two)" in chart.summary


def test_lists_follow_the_protocol(found, market):
    splits = load_dataset("market1501", market)
    for run in found.runs:
        assert len(run.lists) == len(found.queries)
        for shown, query in zip(run.lists, found.queries):
            assert shown.query == query.sample
            place = 0
            for hit in shown.hits:
                junk = hit.sample.pid == query.sample.pid and hit.sample.camid == query.sample.camid
                assert hit.kind == ("junk" if junk else "right" if hit.sample.pid == query.sample.pid else "wrong")
                place += not junk
                assert hit.rank == (None if junk else place)
            distances = [hit.distance for hit in shown.hits]
            assert distances == sorted(distances)
            assert shown.ap == run.report.ap[splits.query.index(query.sample)]


def test_failures_come_after_random_queries(found, runs):
    kinds = [query.why for query in found.queries]
    assert kinds[:2] == ["a random query"] * 2
    assert all(why.startswith(("hard for baseline", "hard for msea")) for why in kinds[2:])
    again = gather(runs[:1], queries=3, seed=1, without=[part for part in SECTIONS if part != "lists"], quiet=True)
    assert len({query.sample.path for query in again.queries}) == len(again.queries)


def test_maps_and_attention_speak_of_the_same_pictures(found):
    pids, _ = labels(found.mapped)
    assert len(set(pids.tolist())) == PEOPLE
    for run in found.runs:
        assert run.places.places.shape == (len(found.mapped), 2)
        assert all(len(attention.values) == len(found.pictures) for attention in run.attention.values())
        assert len(run.matches) == len(found.pictures)
        match = run.matches[0]
        assert match.partner.pid == found.pictures[0].pid
        assert match.partner.camid != found.pictures[0].camid
        assert all(name.endswith((".before", ".after")) for name in run.correlation) == (run.label == "msea")


def reported(ap: list[float]) -> RankingReport:
    """Scores with that average precision per query, and rank 1 where it is a half or more."""
    values = np.array(ap)
    hit = np.where(values >= 0.5, 1, 20)
    cmc = np.array([np.mean(hit <= k) for k in range(1, 31)])
    return RankingReport(values.mean(), values.mean() / 2, cmc, values, values / 2, hit, {"unmatched": "skip"})


def test_the_better_ones_are_marked():
    pids = np.repeat(np.arange(20), 2)
    good = np.tile([0.9, 0.8], 20)
    cells = score_cells(
        {
            "good": reported(good.tolist()),
            "nearly": reported((good + np.repeat(np.tile([0.1, -0.12], 10), 2)).tolist()),
            "bad": reported((good - 0.5).tolist()),
        },
        pids,
        resamples=500,
    )
    assert [cells[label]["mAP"].mark for label in cells] == ["best", "close", ""]
    assert cells["good"]["mAP"].value == pytest.approx(0.85)
    assert cells["good"]["mAP"].low <= 0.85 <= cells["good"]["mAP"].high
    assert [cells[label]["rank-1"].mark for label in cells] == ["best", "best", ""]
    alone = score_cells({"good": reported([0.9, 0.8])}, np.array([1, 1]))["good"]["mAP"]
    assert alone.mark == ""
    assert alone.low is None


def test_learning_of_several_runs_side_by_side():
    def history(loss: float, term: str) -> list[dict]:
        steps = [
            {"event": "step", "epoch": e, "step": e + 1, "lr": 0.1, "loss": loss / (e + 1), f"loss/{term}": loss}
            for e in range(4)
        ]
        return [*steps, {"event": "eval", "epoch": 3, "step": 4, "mAP": loss / 100}]

    charts = {chart.name: chart for chart in training_charts({"a": history(2, "id"), "b": history(40, "ds1")})}
    assert list(charts) == ["run-loss", "run-accuracy", "run-rate", "run-term-0", "run-term-1"]
    assert charts["run-loss"].summary == "At the end: 0.5 (a), 10 (b)."
    assert charts["run-accuracy"].summary == "At the end: 2.0 % (a), 40.0 % (b)."
    assert [charts[f"run-term-{i}"].title for i in (0, 1)] == ["Loss term: ds1", "Loss term: id"]
    assert "(b)" not in charts["run-term-1"].summary
    assert "logarithmic" in charts["run-loss"].svg()
    assert "logarithmic" not in charts["run-rate"].svg()
    assert training_charts({"a": [], "b": []}) == []


def test_photographs_in_charts_are_jpegs():
    figure = canvas(2, 2)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    show(place(figure, 0, 0, 1, 2), Image.fromarray(noise))
    svg = Chart("photo", "A photo", "Noise.", figure).svg()
    assert svg.count("data:image/jpeg;base64,") == 1
    assert "image/png" not in svg
    place(figure, 1, 0, 1, 2).imshow(np.ma.masked_less(np.arange(4).reshape(2, 2), 2), interpolation="nearest")
    assert "image/png" in Chart("photo", "A photo", "Noise, and holes.", figure).svg()


def test_scores_alone_make_a_page():
    run = RunFindings("<b>alone</b>", reported([0.9, 0.1, 0.4]))
    text = render_runs(RunsReport("Scores", [run], np.array([1, 2, 3])))
    assert re.findall(r'<section id="(\w+)"', text) == ["result", "curves", "setup"]
    assert "<b>alone</b>" not in text
    assert "&lt;b&gt;alone" in text
    assert "▲" not in text.split("<table")[1].split("</table>")[0]


def test_heat_that_fails_its_sanity_checks_is_marked(found):
    """Beside the pictures of the run and the method that fail, and nowhere else."""
    told = "its heat stays what it is when all weights are random"
    text = render_runs(replace(found, runs=[replace(found.runs[0], faults={"gradcam": [told], "attention": []})]))
    warnings = re.findall(r'<p class="warning"><b>⚠</b> (.*?)</p>', text)
    assert warnings == [
        f"Do not trust this picture: {told}.", f"baseline: Grad-CAM fails the sanity checks: {told}."
    ]  # fmt: skip
    assert text.index("Why it finds its nearest right answer") < text.index("Do not trust")
    assert "warning" not in re.sub(r"<style>.*?</style>", "", render_runs(found), flags=re.S)


def test_the_same_report_gives_the_same_page(found):
    assert render_runs(found) == render_runs(found)


def test_mistakes_are_named(runs, market, tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"no part 'maps' to leave out.*'map'.*curves"):
        gather(runs, without=["maps"], quiet=True)
    with pytest.raises(ConfigError, match="queries is 0"):
        gather(runs, queries=0, quiet=True)
    with pytest.raises(ConfigError, match="given twice"):
        gather([runs[0], runs[0]], quiet=True)
    assert main(["report", str(tmp_path), "--quiet", "-o", str(tmp_path / "r.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "r.html").exists()


def test_runs_on_different_pictures_are_not_compared(runs, market, tmp_path):
    import shutil

    other = shutil.copytree(market, tmp_path / "other")
    next((other / "query").iterdir()).unlink()
    moved = shutil.copytree(runs[1], tmp_path / "moved")
    settings = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(settings.replace(str(market), str(other)))
    with pytest.raises(ConfigError, match=r"different pictures.*--root"):
        gather([runs[0], moved], quiet=True)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (320, "dark")])
def test_everything_is_seen_at_every_width(open_page, page_file, width, scheme):
    opened = open_page(page_file, width, scheme)
    page = opened.page
    assert [section.get_attribute("id") for section in page.locator("main section").all()] == ANCHORS
    small = "all => all.filter(e => { const b = e.getBoundingClientRect(); return b.width < 8 || b.height < 8 }).length"
    assert page.locator("h1, h2, h3, h4, svg.chart, .plot svg, img, table, .line code").evaluate_all(small) == 0
    # 5 of learning and more terms, 2 of finding, 2 of pairs, 2 of cameras, own attention and pair of both, correlation
    assert page.locator("svg.chart").count() >= 5 + 2 + 2 + 2 + 4 + 2 + 1
    assert page.locator(".plane").count() == 2
    assert page.locator("img").evaluate_all("all => all.filter(i => !i.complete || !i.naturalWidth).length") == 0
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("svg.chart:not([aria-labelledby])").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert opened.console == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [page_file.as_uri()]


@pytest.mark.browser
def test_light_and_dark_are_both_readable(open_page, page_file, contrasts):
    for scheme in ("light", "dark"):
        ratios = contrasts(open_page(page_file, 1280, scheme).page)
        assert len(ratios) > 300
        assert min(ratios) >= 4.5


@pytest.mark.browser
def test_pointing_at_the_map_shows_who_it_is(open_page, page_file, found):
    page = open_page(page_file).page
    first, second = page.locator(".plane").all()
    dot = first.locator("use").nth(3)
    number, camera = int(dot.get_attribute("data-i")), dot.get_attribute("data-camera")
    person = str(found.mapped[number].pid)
    assert camera == str(found.mapped[number].camid)
    first.scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown = first.locator(".card b").inner_text(), first.locator(".card span").inner_text()
    assert first.locator(".card").is_visible()
    assert shown == (f"person {person}", f"camera {camera}")
    for plane in (first, second):
        lit = plane.locator(".person.on").evaluate_all("all => all.map(e => e.dataset.person)")
        assert lit == [person], "the same person is lit on all maps"
        assert plane.locator(".ring").is_visible()
    assert not second.locator(".card").is_visible()
    thumb = first.locator(".card i").evaluate("e => [getComputedStyle(e).backgroundImage.slice(0, 20), e.offsetHeight]")
    assert thumb == ['url("data:image/jpeg', 108]
    page.mouse.move(2, 2)
    assert not first.locator(".card").is_visible()
    assert page.locator(".person.on, .picked").count() == 0


@pytest.mark.browser
def test_the_map_is_in_reach_of_the_keyboard(open_page, page_file):
    page = open_page(page_file).page
    plane = page.locator(".plane").first
    page.locator("#map").evaluate("e => { e.tabIndex = -1; e.focus() }")
    page.keyboard.press("Tab")
    assert plane.locator(".plot").evaluate("e => e === document.activeElement")
    said = plane.locator(".said")
    start = said.inner_text()
    person = re.match(r"person (\d+), camera \d+, picture 1 of (\d+)", start)
    assert person
    page.keyboard.press("ArrowRight")
    assert re.match(rf"person {person[1]}, camera \d+, picture 2 of {person[2]}", said.inner_text())
    page.keyboard.press("ArrowDown")
    assert "picture 1 of" in said.inner_text()
    assert not said.inner_text().startswith(f"person {person[1]},")
    page.keyboard.press("ArrowUp")
    assert said.inner_text() == start
    page.keyboard.press("Escape")
    assert said.inner_text() == ""
    assert page.locator(".picked").count() == 0
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    assert plane.locator(".card").is_hidden(), "leaving a map clears it"
    assert page.locator(".plane .card:visible").count() == 1, "the next map has begun"
    page.keyboard.press("Tab")
    assert page.locator(".picked").count() == 0


@pytest.mark.browser
def test_arrow_keys_move_on_the_map_before_any_click(open_page, page_file):
    page = open_page(page_file).page
    page.keyboard.press("ArrowRight")
    assert page.locator(".picked").count() == 0, "no map is in view"
    page.locator(".plane .plot").first.scroll_into_view_if_needed()
    page.evaluate("scrollBy({top: 200, behavior: 'instant'})")
    page.keyboard.press("ArrowRight")
    said = page.locator(".plane .said").first
    assert "picture 1 of" in said.inner_text()
    page.keyboard.press("ArrowRight")
    assert "picture 2 of" in said.inner_text()
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    second = page.locator(".plane").nth(1)
    second.locator("use").first.hover(force=True)
    pointed = second.locator(".said").inner_text()
    page.keyboard.press("ArrowDown")
    assert pointed
    assert second.locator(".said").inner_text() not in ("", pointed)


@pytest.mark.browser
def test_without_script_the_map_still_says_who_is_who(open_page, page_file, found):
    page = open_page(page_file, script=False).page
    assert page.locator("main section").count() == len(ANCHORS)
    titles = page.locator(".plane").first.locator("use title").all_text_contents()
    assert sorted(titles) == sorted(f"person {s.pid}, camera {s.camid}" for s in found.mapped)
    assert page.locator(".ring").first.is_hidden()


@pytest.mark.browser
def test_it_prints_on_white_with_every_figure(open_page, page_file):
    page = open_page(page_file, scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    assert all(figure.is_visible() for figure in page.locator("svg.chart, .plot svg, main img").all())
    assert page.locator("#map").evaluate("e => getComputedStyle(e).breakBefore") == "page"
    printed = page.pdf(format="A4", print_background=False)
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= len(ANCHORS)
