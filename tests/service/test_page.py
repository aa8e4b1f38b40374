"""The page in a real browser: send a photograph, filter, look into it, mark, export, and every mistake said."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from regard.gallery.use import Actor

pytestmark = pytest.mark.browser

CONTRAST = """all => {
    const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = color => {
        const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
        return .2126 * r + .7152 * g + .0722 * b };
    const ground = e => { for (; e; e = e.parentElement) {
        const color = getComputedStyle(e).backgroundColor;
        if (!/rgba\\(.*, 0\\)|transparent/.test(color)) return color } return 'rgb(255, 255, 255)' };
    return all.filter(e => e.offsetWidth && e.textContent.trim()).map(e => {
        const ink = light(getComputedStyle(e).color), paper = light(ground(e));
        return [(Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05), e.outerHTML.slice(0, 80)] }) }"""


@pytest.fixture
def open_page(browser, start):
    """``open_page(service, width=1280, scheme="light") -> page``; it complains of nothing and asks nobody else."""
    contexts, complaints = [], []

    def open_(service, width=1280, scheme="light", quiet=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        if quiet:
            page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request", lambda r: None if r.url.startswith((service.url, "data:", "blob:")) else complaints.append(r.url)
        )
        page.goto(service.url)
        page.wait_for_selector("#cameras .chip", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def until(page, expression: str) -> None:
    """Wait for an expression to be true; the page's policy forbids playwright's own way of it."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {expression}")


def send(page, *photos):
    page.set_input_files("#photos", [str(photo) for photo in photos])
    page.wait_for_selector(".card")
    until(page, "[...document.querySelectorAll('.card img')].slice(0, 4).every(i => i.complete)")


def keep(page, name: str) -> None:
    """A screenshot, where ``REGARD_SCREENSHOTS`` names a folder for it."""
    folder = os.environ.get("REGARD_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (320, "dark")])
def test_everything_is_seen_and_read_at_every_width(open_page, service, width, scheme):
    page = open_page(service, width, scheme)
    texts = "h1, h2, h3, p, b, label, legend, button, summary, small, a, th, td, output, .bands span"
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for step in ("empty", "matches", "why", "runs"):
        if step == "matches":
            send(page, service.photo(5))
        elif step == "why":
            page.locator(".card").nth(2).locator("[data-act=why]").click()
            page.wait_for_selector("#why[open] .bands")
        elif step == "runs":
            page.keyboard.press("Escape")
            page.click("nav a[data-page=runs]")
            page.wait_for_selector("#run svg")
        keep(page, f"{step}-{width}-{scheme}")
        assert page.evaluate(overflow) == 0
        low = [found for found in page.locator(texts).evaluate_all(CONTRAST) if found[0] < 4.5]
        assert low == []
    assert page.locator("img:not([alt])").count() == 0


def test_a_photograph_is_searched_and_filters_act_at_once(open_page, service):
    page = open_page(service)
    send(page, service.photo(0))
    assert page.locator(".card").count() == 24
    assert page.locator("#query-pictures img").count() == 1
    assert page.locator(".card .score b").first.inner_text() == "1.000"
    assert page.locator(".card .cosine").first.inner_text() == "cosine"
    assert not page.locator("#prior").is_visible()
    assert [same.is_visible() for same in page.locator(".card .same").all()[:3]] == [True, False, False]
    assert "24 of 48 pictures, exact" in page.locator("#status").inner_text()
    page.locator("#cameras .chip", has_text="2").click()
    until(page, "document.querySelectorAll('.card').length == 16")
    assert {text.split(",")[0] for text in page.locator(".where").all_inner_texts()} == {"Camera 2"}
    page.fill("#since", "2026-05-02T00:00:00")
    until(page, "document.getElementById('status').textContent.startsWith('10 of 10')")
    assert page.locator("#filter-count").inner_text() == "2 on"
    page.fill("#since", "2030-01-01T00:00:00")
    until(page, "document.querySelectorAll('.card').length == 0")
    assert page.locator("#status").inner_text() == "Nothing passes these filters."
    page.click("text=Clear filters")
    until(page, "document.querySelectorAll('.card').length == 24")
    page.check("#group")
    page.select_option("#k", "48")
    until(page, "[...document.querySelectorAll('.where')].filter(e => e.textContent.endsWith('+1')).length == 24")


def test_several_photos_and_a_picture_of_the_gallery(open_page, service):
    page = open_page(service)
    send(page, service.photo(0), service.photo(1))
    assert page.locator("#query-pictures img").count() == 2
    page.locator(".card").nth(3).locator("[data-act=search]").click()
    until(page, "document.querySelectorAll('#query-pictures img').length == 1")
    page.check("#other-cameras")
    until(page, "document.getElementById('status').textContent.includes(' of 32 ')")
    page.click("#browse")
    page.wait_for_selector("#shelf[open] li:nth-child(48)")
    page.locator("#shelf-pictures button").nth(7).click()
    until(page, "!document.getElementById('shelf').open")
    until(page, "document.getElementById('status').textContent.includes(' of 32 ')")


def test_a_dropped_photo_is_searched(open_page, service):
    page = open_page(service)
    data = list(service.photo(3).read_bytes())
    page.evaluate(
        """data => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(data)], "p.jpg", { type: "image/jpeg" }));
            document.body.dispatchEvent(
                new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })) }""",
        data,
    )
    page.wait_for_selector(".card")


def test_marks_are_kept_shown_and_exported(open_page, service):
    page = open_page(service)
    send(page, service.photo(0))
    page.locator(".card").nth(0).locator("[data-act=right]").click()
    page.wait_for_selector(".card.right")
    page.locator(".card").nth(9).locator("[data-act=wrong]").click()
    page.wait_for_selector(".card.wrong")
    assert page.locator("#marks p").first.inner_text() == "1 right, 1 wrong"
    with page.expect_download() as waiting:
        page.click("#export")
    with zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes())) as archive:
        assert {"table.csv", "marks.csv"} <= set(archive.namelist())
    page.on("dialog", lambda dialog: dialog.accept())
    late = []
    page.route("**/api/search", lambda route: route.continue_() if late else late.append((route, route.fetch())))
    page.check("#rerank")
    while not late:
        page.wait_for_timeout(20)
    page.click("#forget")
    until(page, "document.getElementById('marks').hidden")
    (route, answer), *_ = late
    route.fulfill(response=answer)  # which still has the marks
    until(page, "document.getElementById('progress').hidden")
    assert page.locator(".card.right, .card.wrong").count() == 0


def test_a_mark_waits_for_a_second_person(open_page, service, monkeypatch):
    service.state.feedback.two_people = True
    monkeypatch.setattr("regard.service.app.actor_of", lambda scope: Actor("anna", "mark", "::1"))
    page = open_page(service)
    send(page, service.photo(0))
    page.locator(".card").nth(1).locator("[data-act=right]").click()
    page.wait_for_selector(".card.right.open")
    assert page.locator(".card.right .state").inner_text() == "waits for a second person"
    assert page.locator("#marks-more").inner_text() == "1 waiting for a second person"
    keep(page, "second-person")
    pair = next(iter(service.state.feedback.words()))
    service.state.feedback.set(pair, right=False, photo=b"", by="ben")
    page.check("#rerank")
    until(page, "document.querySelector('.card.wrong .state')?.textContent === 'two people disagree'")


def test_the_keyboard_is_enough(open_page, service):
    page = open_page(service)
    send(page, service.photo(0))
    page.keyboard.press("r")  # means nothing as long as no match has the focus
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement === document.querySelector('.card')")
    assert page.locator(".card.right").count() == 0
    page.keyboard.press("r")
    page.wait_for_selector(".card.right:nth-child(1)")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("w")
    page.wait_for_selector(".card.wrong:nth-child(2)")
    page.keyboard.press("u")
    page.wait_for_selector(".card:nth-child(2):not(.wrong)")
    page.keyboard.press("Enter")
    page.wait_for_selector("#why[open]")
    assert page.locator("#why .level").count() == 2
    page.keyboard.press("Escape")
    page.wait_for_selector("#why:not([open])", state="attached")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("s")
    until(page, "document.querySelector('#query-pictures img').src.includes('/thumbnail')")


def test_the_file_chooser_is_in_reach_of_the_keyboard(open_page, service):
    page = open_page(service)
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert "photos" in reached
    assert "browse" in reached


def test_mistakes_are_said_on_the_page(open_page, service, tmp_path):
    page = open_page(service, quiet=False)
    for name, data, wanted in (
        ("notes.txt", b"no picture at all", "notes.txt is no picture"),
        ("empty.jpg", b"", "empty.jpg is empty"),
        ("cut.jpg", service.photo(0).read_bytes()[:400], "cut.jpg is damaged"),
        ("huge.jpg", b"x" * 400_000, "photo"),
    ):
        (tmp_path / name).write_bytes(data)
        page.set_input_files("#photos", str(tmp_path / name))
        until(page, f"document.getElementById('message').textContent.includes({wanted!r})")
        assert page.locator("#message").is_visible()
    send(page, service.photo(0))
    assert not page.locator("#message").is_visible()
    for _ in range(8):
        service.ask(1)
    page.check("#group")
    until(page, "document.getElementById('message').textContent.includes('choose the photograph again')")


def test_two_models_side_by_side(open_page, start):
    service = start(("people", "others"))
    page = open_page(service)
    page.select_option("#gallery", "*")
    send(page, service.photo(2))
    assert page.locator("#results.many section").count() == 2
    assert page.locator("#results h2").all_inner_texts() == ["people", "others"]
    assert page.locator("#results section:nth-child(2) .card").count() == 24
    keep(page, "compare-1280-light")


def test_names_from_outside_are_text_not_markup(open_page, start):
    service = start()
    gallery = service.state.searchers["people"].gallery
    from regard.gallery import Filter

    gallery.update(Filter(cameras=("1",)), {"camera": "<img src=x onerror=alert(1)>", "track": "<b>t</b>"})
    page = open_page(service)
    send(page, service.photo(0))
    assert page.locator("#cameras img, .where b, .where img").count() == 0
    assert "<img src=x" in page.locator(".where").first.inner_text()


def test_a_token_in_the_address_lets_the_page_in(browser, start):
    service = start(token="0123456789abcdef0123")
    page = browser.new_context().new_page()
    assert page.goto(service.url).status == 401
    page.goto(f"{service.url}/?token=0123456789abcdef0123")
    page.wait_for_selector("#cameras .chip")
    assert page.url == f"{service.url}/"
    send(page, service.photo(0))
    page.context.close()


def test_probabilities_say_what_they_assume(open_page, service):
    from regard.calibration.similarity import Calibration

    knots = np.array([[-1.0, -8.0], [1.0, 8.0]])
    service.state.searchers["people"].embedder.calibration = Calibration("isotonic", knots)
    page = open_page(service)
    send(page, service.photo(0))
    assert page.locator("#people").get_attribute("placeholder") == "8"
    assert page.locator("#status").inner_text().endswith("; probabilities start from 1 in 9")
    assert page.locator(".card .score b").first.inner_text() == "99.7 %"
    assert page.locator(".card .cosine").first.inner_text() == "cosine 1.000"
    told = page.locator("#prior").inner_text()
    assert told.startswith("Before looking, a match was as probable as 1 in 9: 8 people it could be, or none of them.")
    keep(page, "probabilities")
    page.fill("#people", "9999")
    until(page, "document.getElementById('status').textContent.endsWith('1 in 10,000')")
    assert page.locator(".card .score b").first.inner_text() == "23.0 %"
