"""A browser, and a made-up run to show in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from regard.metrics import RankingReport
from regard.report.charts import pair_histogram
from regard.report.ranked import ranked_lists
from regard.report.runs_page import Command, RunFindings, RunsReport, ShownQuery
from regard.structures import Ranking, Sample


@dataclass
class OpenPage:
    """A page in the browser, and what it complained about or asked for."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser) -> Iterator[Any]:
    """``open_page(path, width=1280, scheme="light", script=True) -> OpenPage``."""
    contexts = []

    def open_file(path: Path, width: int = 1280, scheme: str = "light", script: bool = True) -> OpenPage:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        opened = OpenPage(context.new_page())
        opened.page.on("console", lambda message: opened.console.append(message.text))
        opened.page.on("pageerror", lambda error: opened.console.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path.as_uri(), wait_until="load")
        return opened

    yield open_file
    for context in contexts:
        context.close()


CONTRAST = """all => {
    const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = color => {
        const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
        return .2126 * r + .7152 * g + .0722 * b };
    const paper = light(getComputedStyle(document.body).backgroundColor);
    return all.map(e => {
        const style = getComputedStyle(e), ink = light(e.tagName == 'text' ? style.fill : style.color);
        return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05) }) }"""


@pytest.fixture
def contrasts() -> Any:
    """``contrasts(page) -> list``: WCAG contrast of everything that is text, inside charts too, against the page."""
    texts = "main :is(p, h1, h2, h3, h4, h5, dt, dd, td, th, li, figcaption, summary, code, text, span, small, abbr)"
    return lambda page: page.locator(texts).evaluate_all(CONTRAST)


def paint_person(path: Path, pid: int, camid: int, shift: int) -> Sample:
    """A small crop: the clothes tell the person, the wall and the light tell the camera."""
    colors = np.random.default_rng(pid).integers(30, 220, (3, 3))
    walls = np.random.default_rng(1000 + camid).integers(90, 190, 3)
    light = 0.7 + 0.12 * camid
    hat, shirt, trousers = (tuple(int(min(255, light * c)) for c in color) for color in colors)
    image = Image.new("RGB", (64, 128), tuple(int(w) for w in walls))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 100, 64, 128), fill=tuple(int(0.7 * w) for w in walls))
    draw.ellipse((25 + shift, 10, 39 + shift, 28), fill=(196, 150, 120))
    draw.pieslice((24 + shift, 7, 40 + shift, 25), 180, 360, fill=hat)
    draw.rounded_rectangle((18 + shift, 28, 46 + shift, 68), 6, fill=shirt)
    draw.rectangle((21 + shift, 66, 31 + shift, 116), fill=trousers)
    draw.rectangle((33 + shift, 66, 43 + shift, 116), fill=trousers)
    image.save(path, quality=90)
    return Sample(path, pid, camid)


def rank(query: list[Sample], gallery: list[Sample], noise: float) -> tuple[Ranking, np.ndarray]:
    """A ranking that knows who is who up to noise, growing with the number of the query, and its precisions."""
    random = np.random.default_rng(0)
    same = np.array([[q.pid == g.pid for g in gallery] for q in query])
    junk = np.array([[q.pid == g.pid and q.camid == g.camid for g in gallery] for q in query])
    spread = noise * np.linspace(0.1, 1, len(query))[:, None]
    distances = np.where(same, 0.4, 0.8) + spread * random.normal(size=same.shape)
    distances[junk] = np.inf
    order = np.argsort(distances, axis=1)
    distances = np.take_along_axis(distances, order, axis=1).astype(np.float32)
    matches = np.take_along_axis(same & ~junk, order, axis=1)
    places = np.arange(1, len(gallery) + 1)
    precisions = [np.mean(np.cumsum(m)[m] / places[m]) if m.any() else np.nan for m in matches]
    return Ranking(np.where(np.isinf(distances), -1, order), distances, matches), np.array(precisions)


def evaluation(ranking: Ranking, ap: np.ndarray) -> RankingReport:
    """The ranking, measured."""
    hit = np.where(np.isnan(ap), -1, ranking.matches.argmax(axis=1) + 1)
    cmc = np.array([np.mean((hit > 0) & (hit <= k)) for k in range(1, 31)])
    mean = float(np.nanmean(ap))
    return RankingReport(mean, mean / 2, cmc, ap, ap / 2, hit, {"ap": "step", "unmatched": "skip"})


def history(epochs: int = 10, steps: int = 12) -> list[dict[str, Any]]:
    """What a run leaves in metrics.jsonl."""
    random = np.random.default_rng(0)
    records: list[dict[str, Any]] = []
    for step in range(1, epochs * steps + 1):
        done, when = step / (epochs * steps), {"epoch": (step - 1) // steps + 1, "step": step}
        terms = {"loss/id": 4 * np.exp(-3 * done) + 0.1 * random.random(), "loss/triplet": 0.8 * np.exp(-4 * done)}
        rate = 3.5e-4 * min(1, 4 * done) * (1.02 - done)
        records.append({"event": "step"} | when | {"lr": rate, "loss": sum(terms.values())} | terms)
        if step % (2 * steps) == 0:
            accuracy = 0.8 * (1 - np.exp(-3 * done))
            ranks = {f"rank{r}": accuracy + 0.1 + 0.01 * (r - 1) for r in (1, 5, 10)}
            records.append({"event": "eval"} | when | {"mAP": accuracy, "mINP": accuracy / 2} | ranks)
    return records


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> RunsReport:
    """A run and what it is compared with, hostile names included."""
    folder = tmp_path_factory.mktemp("crops")
    samples = [
        paint_person(folder / f"{pid:04d}_c{camid}s1_{take:06d}_00.jpg", pid, camid, 4 * (take - 1))
        for pid in range(1, 9)
        for camid in range(1, 4)
        for take in range(3)
    ]
    query, gallery = samples[::3], [s for i, s in enumerate(samples) if i % 3]
    before, after = rank(query, gallery, 3.0), rank(query, gallery, 0.35)
    ranking, ap = after
    trained = RunFindings(
        "trained",
        evaluation(*after),
        history=history(),
        pairs=pair_histogram(ranking.distances[ranking.matches], ranking.distances[~ranking.matches]),
        lists=ranked_lists(ranking, query, gallery, ap),
        facts={"System": "apnet"},
    )
    return RunsReport(
        title="A made-up run <b>shows</b> everything",
        lead="Eight painted people, three cameras & no network.",
        runs=[trained],
        query_pids=np.array([sample.pid for sample in query]),
        baselines={"color histogram": evaluation(*before)},
        queries=[ShownQuery(found.query, "a random query") for found in trained.lists],
        facts={"Parameters": 11_234_567},
        command="regard demo --seed 0",
        next_commands=[Command("regard train apnet data.root=PATH", "Train on your own pictures.")],
    )
