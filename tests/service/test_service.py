"""The HTTP service, asked over a real socket."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from http_client import LIMITS
from PIL import Image

from regard.gallery.audit import AuditLog
from regard.gallery.record import Filter, record_id
from regard.gallery.use import Actor
from regard.service.app import create_app
from regard.service.state import GoneError, Limits
from regard.service.uses import Uses, actor_of


def search(service, query, **options):
    status, found = service.call("/api/search", {"query": query, **options})
    assert status == 200, found
    return found["matches"]


def test_a_photograph_finds_itself_and_its_person(service):
    photo = service.photo(7)
    matches = search(service, service.ask(7), k=5)
    assert matches[0]["score"] == pytest.approx(1, abs=1e-5)
    assert matches[0]["record"]["path"] == photo.as_posix()
    assert [match["rank"] for match in matches] == [1, 2, 3, 4, 5]


def test_what_is_there_is_described(service):
    (gallery,) = service.call("/api/galleries")[1]
    assert gallery["name"] == "people"
    assert gallery["pictures"] == 48
    assert gallery["cameras"] == {"1": 16, "2": 16, "3": 16}
    assert gallery["model"]["name"] == "apnet"
    assert "path" not in gallery["model"]


def test_filters_hold(service):
    query = service.ask()
    assert {m["record"]["camera"] for m in search(service, query, cameras=["1", "3"], k=48)} == {"1", "3"}
    assert {m["record"]["camera"] for m in search(service, query, not_cameras=["1"], k=48)} == {"2", "3"}
    times = [
        m["record"]["time"] for m in search(service, query, since="2026-05-01T10:00:00Z", until=1_777_640_000, k=48)
    ]
    assert times
    assert all(1_777_629_600 <= time < 1_777_640_000 for time in times)
    assert len(search(service, query, attributes={"frame": ["100", "201"]}, k=48)) == 6
    assert search(service, query, cameras=[]) == []
    grouped = search(service, query, group=True, k=48)
    assert len(grouped) == 24
    assert all(len(match["track"]) == 1 for match in grouped)
    assert len(search(service, query, rerank=True, k=7)) == 7


def test_a_picture_of_the_gallery_as_query(service):
    (first, *_) = search(service, service.ask(), k=1)
    status, made = service.call("/api/queries/pictures", {"ids": [first["record"]["id"]]})
    assert (status, made["cameras"]) == (201, ["1"])
    found = search(service, made["query"], other_cameras=True, k=48)
    assert {match["record"]["camera"] for match in found} == {"2", "3"}
    assert first["record"]["id"] not in {m["record"]["id"] for m in search(service, made["query"], k=48)}


def test_several_photographs_are_one_query(service):
    photos = [(f"{n}.jpg", service.photo(n).read_bytes()) for n in range(3)]
    status, made = service.send(*photos)
    assert (status, made["photos"]) == (201, 3)
    assert len(search(service, made["query"], k=3)) == 3


def test_pictures_and_thumbnails(service):
    status, first = service.call("/api/galleries/people/pictures?limit=30")
    second = service.call(f"/api/galleries/people/pictures?limit=30&after={first[-1]['id']}")[1]
    assert (len(first), len(second)) == (30, 18)
    for limit in (0, -1, 201):  # who asks for 1,000 and gets 200 would take these for all
        status, refused = service.call(f"/api/galleries/people/pictures?limit={limit}")
        assert (status, refused["error"][:30]) == (
            422,
            f"limit: Input should be {'greater' if limit < 1 else 'less th'}",
        )
    assert not {record["id"] for record in first} & {record["id"] for record in second}
    status, data = service.call(f"/api/galleries/people/pictures/{first[0]['id']}/thumbnail")
    assert status == 200
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (48, 96)


def test_why_shows_heat_and_parts(service):
    query = service.ask()
    match = search(service, query, k=3)[2]
    status, found = service.call("/api/why", {"query": query, "match": match["record"]["id"]})
    assert status == 200
    assert found["similarity"] == pytest.approx(match["score"], abs=0.02)
    assert [level["name"] for level in found["levels"]] == ["P2", "P1"]
    assert all(
        level[side].startswith("data:image/jpeg;base64,") for level in found["levels"] for side in ("query", "match")
    )
    assert [band["name"] for band in found["bands"]] == ["head", "shoulders", "waist", "thighs", "shins", "feet"]
    assert any(abs(band["loss"]) > 1e-3 for band in found["bands"])


def test_every_way_to_rank_is_logged_before_it_is_answered(service, tmp_path):
    query = service.ask()
    (match,) = search(service, query, cameras=["1"], k=1)
    body = {"query": query, "match": match["record"]["id"]}
    assert service.call("/api/why", body)[0] == 200
    assert service.call("/api/marks", body | {"right": True})[0] == 200
    assert service.call("/api/marks/export")[0] == 200
    gallery = service.state.searchers["people"].gallery
    gallery.search(gallery.get([match["record"]["id"]])[0].vector)  # nobody asked for a line
    lines = list(gallery.audit.entries())
    assert [line["kind"] for line in lines] == ["search", "why", "mark", "export marks"]
    assert {(line["who"], line["address"], line["role"]) for line in lines} == {("127.0.0.1", "127.0.0.1", "")}
    assert len({line["session"] for line in lines}) == 1
    assert {line["gallery"]["name"] for line in lines} == {"people"}
    assert (lines[0]["filter"], lines[0]["k"], lines[0]["answered"]["count"]) == ({"cameras": ["1"]}, 1, 1)
    assert lines[0]["query"] == lines[1]["query"] == lines[2]["query"]
    assert lines[0]["query"][0].startswith("sha256:")
    assert lines[1]["match"] == lines[2]["match"] == lines[0]["answered"]["matches"][0]
    assert (lines[2]["right"], lines[2]["state"], lines[3]["right"]) == (True, "confirmed", 1)
    assert match["record"]["id"] not in gallery.audit.path.read_text()
    service.state.close()
    last = list(gallery.audit.entries())[-1]
    assert (last["kind"], last["reason"], last["uses"], last["began"]) == ("end", "stopped", 4, lines[0]["began"])
    assert AuditLog(gallery.audit.path).verify() is None


def test_a_use_ends_after_a_while_and_the_next_is_another(service):
    gallery, uses = service.state.searchers["people"].gallery, Uses(idle=0.05)
    told = {"name": "anna", "role": "search", "address": "::1"}
    anna = actor_of({"client": ("10.0.0.1", 5), "state": {"actor": told}})
    assert (anna.who, anna.role, anna.address) == ("anna", "search", "::1")
    uses.of(gallery, anna).note("search")
    ended = []
    while not ended:
        ended = [line for line in gallery.audit.entries() if line["kind"] == "end"]
    uses._idle = 60  # so that the next does not end by itself
    uses.of(gallery, anna).note("search")
    uses.close()
    lines = list(gallery.audit.entries())
    assert [(line["kind"], line.get("reason")) for line in lines] == [
        ("search", None), ("end", "idle"), ("search", None), ("end", "stopped"),
    ]  # fmt: skip
    assert lines[0]["session"] == lines[1]["session"] != lines[2]["session"] == lines[3]["session"]


def test_marks_that_cannot_be_read_stop_no_search(service):
    query = service.ask()
    path = service.state.searchers["people"].gallery.marks.folder / "marks.jsonl"
    path.mkdir(parents=True)
    status, found = service.call("/api/search", {"query": query, "k": 1})
    assert (status, found["matches"][0]["marks"]) == (200, [None])
    assert "marks could not be read" in found["warning"]
    path.rmdir()
    path.write_bytes(b"\xff\n")
    assert service.call("/api/marks")[1] == {"right": 0, "wrong": 0, "damaged": 1}


def test_a_second_person_confirms(service, monkeypatch):
    service.state.feedback.two_people = True
    query = service.ask()
    (match,) = search(service, query, k=1)
    body = {"query": query, "match": match["record"]["id"], "right": True}
    assert "two people with names" in service.call("/api/marks", body)[1]["error"]
    for name, right, wanted in (
        ("anna", True, {"right": 0, "pending": 1, "state": "pending"}),
        ("anna", True, {"right": 0, "pending": 1, "state": "pending"}),
        ("ben", True, {"right": 1, "pending": 0, "state": "confirmed"}),
        ("ben", False, {"right": 0, "pending": 1, "state": "disputed"}),
    ):
        monkeypatch.setattr("regard.service.app.actor_of", lambda scope, name=name: Actor(name, "mark", "::1"))
        assert service.call("/api/marks", body | {"right": right}) == (200, {"wrong": 0} | wanted)
        assert search(service, query, k=1)[0]["mark_states"] == [wanted["state"]]
    lines = [line for line in service.state.searchers["people"].gallery.audit.entries() if line["kind"] == "mark"]
    told = [(line["who"], line["right"], line["state"]) for line in lines]
    assert told[1:] == [("anna", True, "pending"), ("ben", True, "confirmed"), ("ben", False, "disputed")]


def test_marks_go_with_the_pictures_they_are_about(service):
    query = service.ask()
    (match,) = search(service, query, k=1)
    service.call("/api/marks", {"query": query, "match": match["record"]["id"], "right": True})
    gallery = service.state.searchers["people"].gallery
    gallery.delete(Filter(ids=(match["record"]["id"],)))
    assert service.call("/api/marks")[1] == {"right": 0, "wrong": 0}
    assert gallery.marks.photo(service.state.query(query).names[0]) == b""


def test_what_cannot_be_logged_is_not_answered(service):
    """Nor is it done: a mark that no line tells of does not stand."""
    query = service.ask()
    match = search(service, query, k=1)[0]["record"]["id"]
    log = service.state.searchers["people"].gallery.audit
    log.path.unlink()
    log.path.mkdir()
    for path, asked in (("search", {}), ("marks", {"match": match, "right": True})):
        status, found = service.call(f"/api/{path}", {"query": query} | asked)
        assert status == 507
        assert "could not be logged" in found["error"]
    assert service.state.feedback.words() == {}
    assert service.state.feedback.photo(service.state.query(query).names[0]) == b""


def test_old_queries_make_room(service):
    first = service.ask()
    for _ in range(8):
        service.ask()
    status, found = service.call("/api/search", {"query": first})
    assert (status, found["error"]) == (404, "that query is not kept any more; choose the photograph again")


def test_marks_become_an_evaluation_set(service, tmp_path):
    for number in (0, 12):  # two people
        query = service.ask(number)
        pid = service.photo(number).name[:4]
        for match in search(service, query, k=10):
            right = pid in match["record"]["path"].rpartition("/")[2][:4]
            status, _ = service.call("/api/marks", {"query": query, "match": match["record"]["id"], "right": right})
            assert status == 200
    count = service.call("/api/marks")[1]
    assert count["right"] >= 2
    assert count["right"] + count["wrong"] == 20
    status, data = service.call("/api/marks/export")
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("table.csv").decode())))
        assert {row["path"] for row in rows} <= set(archive.namelist())
        for row in rows:
            with Image.open(io.BytesIO(archive.read(row["path"]))) as image:
                image.load()
    queries = [row for row in rows if row["split"] == "query"]
    assert {row["pid"] for row in queries} == {"1", "2"}
    names = {record.id: record.person for record in service.state.searchers["people"].gallery.records()}
    by_pid = {}
    for row in rows:
        if row["split"] == "gallery" and row["pid"] != "0":
            by_pid.setdefault(row["pid"], set()).add(names[row["path"][8:-4]])
    assert all(len(people) == 1 for people in by_pid.values())


def test_a_mark_is_shown_again_and_taken_back(service):
    query = service.ask()
    match = search(service, query, k=1)[0]["record"]["id"]
    assert service.call("/api/marks", {"query": query, "match": match, "right": False})[1] == {"right": 0, "wrong": 1}
    assert search(service, service.ask(), k=1)[0]["marks"] == [False]
    assert service.call("/api/marks", {"query": query, "match": match, "right": None})[1] == {"right": 0, "wrong": 0}
    assert search(service, query, k=1)[0]["marks"] == [None]
    assert service.call("/api/marks/export")[0] == 400


def test_forgetting_marks_forgets_their_photographs(service):
    query = service.ask()
    match = search(service, query, k=1)[0]["record"]["id"]
    service.call("/api/marks", {"query": query, "match": match, "right": True})
    name = service.state.query(query).names[0]
    assert service.state.feedback.photo(name).startswith(b"\xff\xd8")
    assert service.call("/api/marks", method="DELETE")[1] == {"right": 0, "wrong": 0}
    assert service.state.feedback.photo(name) == b""


def test_runs_and_their_curves(service):
    runs = service.call("/api/runs")[1]
    assert [run["name"] for run in runs] == ["first", "young"]
    assert runs[0]["mAP"] == pytest.approx(0.5)
    assert runs[0]["epochs"] == 6
    run = service.call("/api/runs/first")[1]
    assert len(run["loss"]) <= 240
    assert [x for x, _ in run["figures"]["mAP"]] == [2, 3, 4, 5, 6]
    assert service.call("/api/runs/young")[1]["loss"] == []
    for name in ("nobody", "..", "%2e%2e", "..%2fpeople"):
        assert service.call(f"/api/runs/{name}")[0] == 404


def test_two_models_answer_the_same_query(start):
    service = start(("people", "others"))
    query = service.ask(4)
    for name in ("people", "others"):
        matches = search(service, query, gallery=name, k=2)
        assert matches[0]["record"]["path"] == service.photo(4).as_posix()
    made = service.call("/api/queries/pictures", {"ids": [matches[0]["record"]["id"]], "gallery": "others"})[1]
    assert len(search(service, made["query"], gallery="people", k=2)) == 2


def test_it_describes_itself(service):
    described = service.call("/openapi.json")[1]
    paths = described["paths"]
    assert {"/api/search", "/api/queries", "/api/why", "/api/marks/export"} <= set(paths)
    assert all("summary" in verb for path in paths.values() for verb in path.values())
    assert "query" in described["components"]["schemas"]["Search"]["properties"]


def test_the_page_asks_nobody_else(service):
    page = service.call("/")[1].decode()
    text = page + "".join(service.call(f"/static/{name}")[1].decode() for name in ("app.js", "app.css"))
    assert page.startswith("<!doctype html>")
    assert {part for part in text.split('"') if part.startswith("http")} <= {"http://www.w3.org/2000/svg"}
    assert "style=" not in page
    for name in ("nothing.js", "../app.py", "..%2f..%2fapp.py", "index.html.bak"):
        assert service.call(f"/static/{name}")[0] == 404


# Many at once ------------------------------------------------------------------------------------------------------


def test_concurrent_searches_are_all_answered_and_right(start):
    """Twelve clients, each with its own person and filter, against the answers of one after the other."""
    service = start(limits=Limits(queries=64, bytes=300_000))
    queries = [service.ask(number) for number in range(0, 48, 4)]
    options = [{"k": 9, "cameras": [str(1 + n % 3)]} for n in range(12)]
    wanted = [[m["record"]["id"] for m in search(service, q, **o)] for q, o in zip(queries, options)]
    wrong: list[object] = []

    def client(number):
        for _ in range(6):
            status, found = service.call("/api/search", {"query": queries[number], **options[number]})
            if status != 200 or [m["record"]["id"] for m in found["matches"]] != wanted[number]:
                wrong.append(found)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    log = service.state.searchers["people"].gallery.audit
    assert len(log.path.read_text().splitlines()) == 12 + 12 * 6
    assert log.verify() is None


def test_deleting_while_others_search_gives_no_error(service):
    query = service.ask()
    gallery = service.state.searchers["people"].gallery
    statuses = []
    thread = threading.Thread(
        target=lambda: statuses.extend(service.call("/api/search", {"query": query})[0] for _ in range(20))
    )
    thread.start()
    gallery.delete(Filter(cameras=("1",)))
    thread.join()
    assert set(statuses) == {200}
    assert {m["record"]["camera"] for m in search(service, query, k=48)} == {"2", "3"}


def test_a_record_gone_meanwhile_is_said(service):
    query = service.ask()
    id = search(service, query, k=1)[0]["record"]["id"]
    service.state.searchers["people"].gallery.delete(Filter(ids=(id,)))
    assert service.call("/api/marks", {"query": query, "match": id, "right": True})[0] == 404
    assert service.call("/api/why", {"query": query, "match": id})[0] == 404
    assert service.call("/api/queries/pictures", {"ids": [id]})[0] == 404
    assert service.call(f"/api/galleries/people/pictures/{id}/thumbnail")[0] == 404
    assert service.call(f"/api/galleries/people/pictures/{record_id('x')}/thumbnail")[0] == 404


def test_the_score_is_the_cosine_of_the_descriptors(service):
    searcher = service.state.searchers["people"]
    query = service.ask(9)
    vector = service.state.query(query).vectors["people"][0]
    for match in search(service, query, k=48):
        stored = searcher.gallery.get([match["record"]["id"]])[0].vector
        assert match["score"] == pytest.approx(float(np.dot(vector, stored)), abs=1e-5)


# Probabilities ------------------------------------------------------------------------------------------------------


@pytest.fixture
def calibrated(service):
    """The service, its model with a calibration: evidence rises from -5 to 5 with the cosine."""
    from regard.calibration.similarity import Calibration

    knots = np.array([[-1.0, -5.0], [1.0, 5.0]])
    service.state.searchers["people"].embedder.calibration = Calibration("isotonic", knots)
    return service


def test_probabilities_come_with_the_prior_they_assume(calibrated):
    """Eight named people, so one in nine; the request may know better, and the command line more than the gallery."""
    query = calibrated.ask()
    assert calibrated.call("/api/galleries")[1][0]["prior"] == pytest.approx(1 / 9)
    for state, body, wanted in [(None, {}, 1 / 9), (0.2, {}, 0.2), (0.2, {"prior": 0.001}, 0.001)]:
        calibrated.state.prior = state
        found = calibrated.call("/api/search", {"query": query, **body})[1]
        assert found["prior"] == pytest.approx(wanted)
        odds = wanted / (1 - wanted) * np.exp(5 * found["matches"][0]["score"])
        assert found["matches"][0]["probability"] == pytest.approx(odds / (1 + odds), abs=1e-5)
    for prior in (0, 1, -1, "x"):
        assert calibrated.call("/api/search", {"query": query, "prior": prior})[0] == 422


def test_without_a_calibration_there_is_no_prior(service):
    assert service.call("/api/galleries")[1][0]["prior"] is None
    assert service.call("/api/search", {"query": service.ask()})[1]["prior"] is None


def test_whoever_asks_much_pushes_out_his_own_queries(service):
    """Of those that are kept, the client with most loses the one he asked with longest ago."""
    state, (record,) = service.state, service.state.searcher(None).gallery.page(None, 1)
    once = state.ask_pictures([record.id], None, "desk")
    many = [state.ask_pictures([record.id], None, "crowd").id for _ in range(3 * LIMITS.queries)]
    assert state.query(once.id) is once
    kept = LIMITS.queries - 1
    assert state.query(many[-kept]).id == many[-kept]
    with pytest.raises(GoneError):
        state.query(many[-kept - 1])


def test_a_request_that_is_cut_off_as_the_service_ends_is_told_so(service):
    """uvicorn cancels it: an answer, and no exception that would fill the journal."""
    sent: list[dict[str, Any]] = []
    scope = {"type": "http", "method": "POST", "path": "/api/queries", "query_string": b"", "client": ("127.0.0.1", 1)}
    scope |= {"headers": [(b"host", b"localhost"), (b"content-length", b"9")], "scheme": "http", "root_path": ""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def cut_off() -> None:
        guard, asked = create_app(service.state, None), asyncio.Event()

        async def receive() -> dict[str, Any]:
            asked.set()
            return await asyncio.Future()

        task = asyncio.create_task(guard(scope, receive, send))
        await asked.wait()
        task.cancel()
        await task

    with ThreadPoolExecutor(1) as aside:  # a browser that is open has a loop of its own here
        aside.submit(asyncio.run, cut_off()).result()
    assert (sent[0]["status"], b"the service is ending" in sent[1]["body"]) == (503, True)
