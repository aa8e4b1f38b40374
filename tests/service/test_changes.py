"""Changing a gallery over HTTP, and the jobs that it is done by."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from http_client import LIMITS, Service, multipart
from PIL import Image

from regard.data.image import decode_image
from regard.errors import DataError
from regard.fingerprint import bytes_digest
from regard.gallery import Filter, Gallery
from regard.gallery.record import record_id
from regard.gallery.thumbnails import thumbnail
from regard.service.changes import read_sources
from regard.service.jobs import WAITING, Job, Jobs
from regard.service.limits import BusyError

PICTURES = "/api/galleries/people/pictures"


def add(service: Service, *files: tuple[str, bytes], facts: Any = None, job: bool = False) -> tuple[int, Any]:
    """Send pictures with what is known of them."""
    body, kind = form(*files, facts=facts)
    return service.call(PICTURES + ("?job=true" if job else ""), body, headers={"content-type": kind})


def form(*files: tuple[str, bytes], facts: Any = None) -> tuple[bytes, str]:
    """Pictures and what is known of them as a form, and its content type."""
    body, headers = multipart(files)
    if facts is not None:
        other, _ = multipart([("", facts if isinstance(facts, bytes) else json.dumps(facts).encode())], "facts")
        mark = headers["content-type"].rpartition("=")[2].encode()
        middle = other.split(b"\r\n", 1)[1].rsplit(b"--", 2)[0]
        body = body.replace(b"--" + mark + b"--", b"--" + mark + b"\r\n" + middle + b"--" + mark + b"--")
    return body, headers["content-type"]


def ended(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    """A job when it has ended."""
    until = time.monotonic() + 60
    while job["ended"] is None and time.monotonic() < until:
        time.sleep(0.02)
        job = service.call(f"/api/jobs/{job['id']}")[1]
    return job


@pytest.mark.slow
def test_pictures_are_added_changed_found_and_removed(service, tmp_path):
    data, other = service.photo(0).read_bytes(), service.photo(20).read_bytes()
    known = {"*": {"camera": "door"}, "a.jpg": {"time": "2026-05-01T08:00", "person": "Ada", "hat": True}}
    status, told = add(service, ("a.jpg", data), ("b.jpg", other), ("c.jpg", b"none"), facts=known)
    assert status == 201
    assert (told["added"], told["unreadable"].keys()) == (2, {"upload/c.jpg"})
    id = told["pictures"][0]["id"]
    assert id == record_id("upload/a.jpg")
    status, found = service.call("/api/search", {"query": service.ask(0), "k": 2})
    record = next(match["record"] for match in found["matches"] if match["record"]["id"] == id)
    assert (record["camera"], record["person"], record["attributes"]) == ("door", "Ada", {"hat": "True"})

    with Gallery.open(tmp_path / "people") as elsewhere:  # another process sees it at once
        assert elsewhere.count(Filter(persons=("Ada",))) == 1
        assert add(service, ("a.jpg", data))[1]["unchanged"] == 1
        assert add(service, ("a.jpg", data), facts={"a.jpg": {"person": "Bea"}})[1]["updated"] == 1
        assert add(service, ("a.jpg", other))[1]["replaced"] == 1
        status, record = service.call(f"{PICTURES}/{id}", {"camera": None, "attributes": {"bag": "red"}}, "PATCH")
        assert (status, record["camera"], record["person"]) == (200, None, "Bea")
        assert record["attributes"] == {"hat": "True", "bag": "red"}
        changes = {"persons": ["Bea"], "set": {"time": "2026-05-02"}}
        assert service.call("/api/galleries/people/update", changes) == (200, {"changed": 1})
        assert [r.time for r in elsewhere.records(Filter(persons=("Bea",)))] == [1777680000.0]
        assert service.call(f"{PICTURES}/{id}", method="DELETE") == (200, {"removed": 1, "bytes": "erased"})
        assert service.call(f"{PICTURES}/{id}", method="DELETE")[0] == 404
        assert service.call(f"{PICTURES}/{id}", {"camera": "x"}, "PATCH")[0] == 404
        assert elsewhere.get([id]) == []
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "people" / "audit.jsonl").read_text().splitlines()]
    assert kinds.count("add") == 4
    assert {"update", "delete", "removed", "search"} < set(kinds)


@pytest.mark.slow
def test_a_whole_scene_is_said_and_left_out_unless_it_is_asked_for(service):
    buffer = io.BytesIO()
    Image.new("RGB", (200, 120), "gray").save(buffer, "PNG")
    status, told = add(service, ("street.png", buffer.getvalue()), ("a.jpg", service.photo(0).read_bytes()))
    assert (status, told["added"]) == (201, 1)
    said = "1 picture is a whole scene and no crop of one person ("
    assert told["unreadable"]["upload/street.png"].startswith(
        f"{said}upload/street.png, 200 x 120 pixels): left out; cut"
    )
    body, kind = form(("street.png", buffer.getvalue()))
    assert service.call(f"{PICTURES}?whole=true", body, headers={"content-type": kind})[1]["added"] == 1
    asked = service.call("/api/queries", body, headers={"content-type": kind})
    assert asked[1]["warning"].startswith(f"{said}street.png, 200 x 120 pixels): searched for as one person")


@pytest.mark.slow
def test_what_is_removed_leaves_its_marks_too(service):
    query = service.ask(0)
    match = service.call("/api/search", {"query": query})[1]["matches"][0]["record"]
    service.call("/api/marks", {"query": query, "match": match["id"], "right": True})
    many = len(service.state.searcher(None).gallery)
    assert service.call("/api/galleries/people/delete", {"cameras": ["1"], "dry_run": True})[1]["would_remove"] == 16
    assert service.call("/api/galleries/people/delete", {"ids": [match["id"]]}) == (
        200,
        {"removed": 1, "bytes": "erased"},
    )
    assert service.call("/api/marks")[1] == {"right": 0, "wrong": 0}
    assert service.state.feedback.photo(service.state.query(query).names[0]) == b""
    purge = "/api/galleries/people/purge"
    assert service.call(purge, {"older_than": "1s", "dry_run": True})[1]["would_remove"] == many - 1
    assert service.call(purge, {"before": 1_777_622_400 + 3600 * 10})[1]["removed"] in (9, 10)
    status, job = service.call("/api/galleries/people/index", method="POST")
    assert status == 202
    assert ended(service, job)["result"]["recall"] > 0.5
    status, job = service.call(purge, {"older_than": "1s", "undated": True, "job": True})
    done = ended(service, job)
    assert (status, done["state"], done["kind"], len(service.state.searcher(None).gallery)) == (202, "done", "purge", 0)
    assert [job["kind"] for job in service.call("/api/jobs")[1]] == ["purge", "index"]


@pytest.mark.slow
def test_a_job_says_how_far_it_is_and_why_it_failed(service):
    files = [(f"{n}.jpg", service.photo(n).read_bytes()) for n in range(12)]
    status, job = add(service, *files, facts={"*": {"camera": "9"}}, job=True)
    assert status == 202
    done = ended(service, job)
    assert (done["state"], done["done"], done["total"], done["result"]["added"]) == ("done", 12, 12, 12)
    status, job = add(service, ("x.jpg", b"nothing"), job=True)
    assert ended(service, job)["state"] == "failed"
    assert "none of the 1 photos could be read" in service.call(f"/api/jobs/{job['id']}")[1]["error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "facts", "wanted"),
    [
        ((), None, "send at least one"),
        ((("a.jpg", b"x"), ("a.jpg", b"y")), None, "the same name"),
        ((("", b"x"),), None, "no name"),
        ((("a.jpg", b"x"),), b"{", "no JSON"),
        ((("a.jpg", b"x"),), {"b.jpg": {}}, "speak of 'b.jpg'"),
        ((("a.jpg", b"x"),), {"a.jpg": {"bags": [1]}}, "one JSON object"),
        ((("a.jpg", b"x"),), {"a.jpg": {"time": "soon"}}, "the time 'soon'"),
    ],
)
def test_additions_that_are_none_are_one_line(lasting, files, facts, wanted):
    status, told = add(lasting, *files, facts=facts)
    assert status == 400
    assert wanted in told["error"]
    assert "\n" not in told["error"]


@pytest.mark.parametrize(
    ("name", "facts", "wanted"),
    [
        ("../a.jpg", {}, "goes up a folder"),
        ("a\\\\..\\\\b.jpg", {}, "goes up a folder"),
        ("a.jpg", {"id": "1"}, "'id', which no request sets"),
        ("a.jpg", {"path": "b.jpg"}, "'path', which"),
        ("a.jpg", {"digest": "0"}, "'digest', which"),
        ("a.jpg", {"person": "A" * 257}, "facts: person: String should have at most 256"),
        ("a.jpg", {"camera": 10**300}, "facts: camera: String"),
        ("a.jpg", {"hat": "A" * 257}, "facts: attributes.hat: String"),
        ("a.jpg", {f"n{number}": True for number in range(65)}, "at most 64"),
        ("a.jpg", {"a b": 1}, "an attribute called 'a b'"),
        ("a.jpg", {"time": 1e300}, "wanted one of the years 1 to 9999"),
        ("a.jpg", {"time": "0001-01-01T00:00+14:00"}, "wanted one of the years 1 to 9999"),
    ],
)
def test_what_cannot_be_known_of_a_picture_is_refused_as_it_comes(name, facts, wanted):
    with pytest.raises(DataError, match=re.escape(wanted)):
        read_sources(*form((name, b"x"), facts={"*": facts}))


def test_a_picture_is_called_by_its_name_below_the_folder_of_uploads():
    (source,) = read_sources(*form(("/etc/a.jpg", b"x"), facts={"*": {"hat": True, "time": "9999-12-31", "bag": None}}))
    assert source.path == "upload/etc/a.jpg"
    record = source.record()
    assert (record.time, record.attributes) == (253402214400.0, {"hat": "True"})


@pytest.mark.slow
def test_what_others_did_while_pictures_were_looked_at_holds(service, monkeypatch):
    """Between the look at what is there and the storing: what was deleted stays so, and what was set is kept."""
    data, other = service.photo(0).read_bytes(), service.photo(20).read_bytes()
    gallery, id = service.state.searcher(None).gallery, record_id("upload/a.jpg")
    mine, look = Filter(ids=(id,)), gallery.get
    for content, meanwhile, what, record in (
        (data, lambda: gallery.delete(mine), "unchanged", None),
        (data, lambda: gallery.update(mine, {"person": "Bea"}), "updated", ("Bea", "9")),
        (other, lambda: gallery.delete(mine), "added", (None, "9")),
        (other, lambda: gallery.update(mine, {"person": "Cid"}), "replaced", ("Cid", "9")),
    ):
        gallery.delete(mine)
        assert add(service, ("a.jpg", data), facts={"*": {"person": "Ada"}})[1]["added"] == 1
        waiting = [meanwhile]

        def looked(ids, waiting=waiting):
            found = look(ids)
            while waiting:
                waiting.pop()()
            return found

        monkeypatch.setattr(gallery, "get", looked)
        told = add(service, ("a.jpg", content), facts={"*": {"camera": "9"}})[1]
        monkeypatch.setattr(gallery, "get", look)
        found = look([id])
        assert [(item.record.person, item.record.camera) for item in found] == ([record] if record else [])
        assert told["pictures"][0]["what"] == what
        if record:
            assert found[0].record.digest == bytes_digest(content)
            picture = decode_image(content, "a.jpg")
            assert gallery.thumbnail(id) == thumbnail(picture)
            assert found[0].vector @ service.state.searcher(None).embedder.embed([picture])[0] > 0.9999


@pytest.mark.slow
def test_what_jobs_hold_counts_until_they_end(start):
    """A job that waits holds its pictures; when it is cancelled, or has ended, there is room again."""
    service, free = start(limits=replace(LIMITS, held=400_000)), threading.Event()
    service.state.jobs.begin(Job("add", "g", "me"), lambda progress: {"went": free.wait(60)})
    padded = service.photo(0).read_bytes() + bytes(250_000)
    status, first = add(service, ("a.jpg", padded), job=True)
    assert status == 202
    status, told = add(service, ("b.jpg", padded), job=True)
    assert (status, told["error"]) == (503, "other requests fill the memory; try again")
    assert service.call(f"/api/jobs/{first['id']}", method="DELETE")[1]["state"] == "cancelled"
    status, second = add(service, ("b.jpg", padded), job=True)
    assert status == 202
    assert add(service, ("c.jpg", padded))[0] == 503
    free.set()
    assert ended(service, second)["state"] == "done"
    assert add(service, ("c.jpg", padded))[0] == 201


@pytest.mark.slow
def test_mistakes_change_nothing(service):
    before = len(service.state.searcher(None).gallery)
    for path, body, status, wanted in (
        ("delete", {}, 400, "which pictures"),
        ("delete", {"ids": "all"}, 422, "list"),
        ("purge", {}, 400, "older_than"),
        ("purge", {"older_than": "30d", "before": 3}, 400, "older_than"),
        ("purge", {"older_than": "soon"}, 400, "30d"),
        ("update", {"cameras": ["1"], "set": {}}, 400, "no fact to change"),
        ("update", {"cameras": ["1"], "set": {"path": "x"}}, 422, "set.path"),
    ):
        found, told = service.call(f"/api/galleries/people/{path}", body)
        assert (found, wanted in told["error"]) == (status, True), told
    assert service.call("/api/galleries/nobody/delete", {"cameras": ["1"]})[0] == 404
    assert service.call("/api/jobs/none")[0] == service.call("/api/jobs/none", method="DELETE")[0] == 404
    assert len(service.state.searcher(None).gallery) == before


def test_jobs_run_in_order_and_end_where_they_are_asked_to():
    jobs, go, began = Jobs(), threading.Event(), threading.Event()

    def slow(progress):
        began.set()
        for step in range(100):
            progress(step, 100)
            go.wait(10)
        return {}

    first = jobs.begin(Job("add", "g", "me"), slow)
    waits = [jobs.begin(Job("add", "g", "me"), lambda progress: {}) for _ in range(WAITING)]
    began.wait(10)
    with pytest.raises(BusyError, match="50 jobs wait already"):
        jobs.begin(Job("add", "g", "me"), slow)
    jobs.cancel(waits[0])
    jobs.cancel(first)
    go.set()
    until = time.monotonic() + 20
    while waits[-1].ended is None and time.monotonic() < until:
        time.sleep(0.01)
    assert (first.state, first.done, waits[0].state, waits[0].began) == ("cancelled", 1, "cancelled", None)
    assert waits[-1].state == "done"
    jobs.close()
    with pytest.raises(BusyError):
        jobs.begin(Job("add", "g", "me"), slow)
