"""The service under load: a real process, many clients at once, a gallery that changes under them.

Every answer is compared with the exact one: what was there all the while the search took must be found where its score
puts it, what came or went meanwhile may be.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changing_service import CAMERAS, made_up
from http_client import multipart

from regard.gallery import Embedder, Gallery
from regard.gallery.audit import AuditLog

STABLE, BATCH, BATCHES = 6000, 200, 6
CLIENTS, SEARCHES = 10, 15
PROGRAM = Path(__file__).with_name("changing_service.py")


@dataclass
class Items:
    """What may be in the gallery: their descriptors, and from when until when each was surely or perhaps there."""

    vectors: np.ndarray
    ids: list[str]
    begins: np.ndarray
    there: np.ndarray
    leaves: np.ndarray
    gone: np.ndarray
    numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = {id: number for number, id in enumerate(self.ids)}

    @classmethod
    def of(cls, count: int, stable: int, dim: int) -> Items:
        made = made_up(0, count, dim)
        never, always = np.full(count, np.inf), np.full(count, np.inf)
        begins, there = always.copy(), always.copy()
        begins[:stable] = there[:stable] = -np.inf
        vectors = np.stack([item.vector for item in made])
        return cls(vectors, [item.record.id for item in made], begins, there, never.copy(), never.copy())

    def faults(self, matches: list, asked: dict, start: float, end: float) -> str:
        """What is wrong with an answer; empty where nothing is."""
        numbers = np.arange(len(self.ids))
        seen = numbers != asked["own"]
        if "cameras" in asked:
            seen &= np.isin(numbers % 4, [CAMERAS.index(camera) for camera in asked["cameras"]])
        if "since" in asked:
            seen &= numbers >= asked["since"]
        if "attributes" in asked:
            seen &= np.isin(numbers % 3, [int(value) for value in asked["attributes"]["n"]])
        maybe = seen & (self.begins < end) & (self.gone > start)
        surely = seen & (self.there < start) & (self.leaves > end)
        scores = self.vectors.astype(np.float64) @ self.vectors[asked["own"]].astype(np.float64)
        found = [self.numbers[match["record"]["id"]] for match in matches]
        if len(set(found)) != len(found) or len(found) < min(asked["k"], surely.sum()):
            return f"{len(found)} matches, {len(set(found))} of them different"
        if not maybe[found].all():
            return f"{[n for n in found if not maybe[n]]} may not be seen"
        if np.abs(scores[found] - [match["score"] for match in matches]).max(initial=0) > 1e-5:
            return "scores are not the cosines"
        if (np.diff(scores[found]) > 1e-5).any():
            return "matches are out of order"
        lost = set(numbers[surely & (scores > scores[found[-1]] + 1e-5)]) - set(found)
        return f"{sorted(lost)} were lost" if lost else ""


def test_the_comparison_sees_what_is_wrong():
    """A right answer passes; one cut short, out of order, with a wrong score, or with a lost match does not."""
    items = Items.of(200, 100, 16)
    asked = {"own": 3, "k": 4, "cameras": ["1", "2"]}
    scores = items.vectors[:100] @ items.vectors[3]
    order = [int(n) for n in np.argsort(-scores) if n % 4 < 2 and n != 3]
    right = [{"record": {"id": items.ids[n]}, "score": float(scores[n])} for n in order[:5]]
    assert items.faults(right[:4], asked, 0, 1) == ""
    for wrong in (
        right[:3],
        [right[1], right[0], *right[2:4]],
        [*right[:3], right[4]],
        [right[0] | {"score": 0.5}, *right[1:4]],
    ):
        assert items.faults(wrong, asked, 0, 1)
    items.begins[100:] = items.there[100:] = 5.0
    assert items.faults([{"record": {"id": items.ids[101]}, "score": 1.0}], asked | {"k": 1}, 0, 1).endswith(
        "may not be seen"
    )


@dataclass
class Running:
    """The process, and how to talk to it."""

    process: subprocess.Popen
    host: str
    port: int
    items: Items

    def change(self, word: str, first: int, count: int) -> None:
        rows = slice(first, first + count)
        begin, end = (self.items.begins, self.items.there) if word == "add" else (self.items.leaves, self.items.gone)
        begin[rows] = time.monotonic()
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word} {first} {count}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"
        end[rows] = time.monotonic()

    def memory(self) -> int:
        """Bytes of the process that are in memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", text)[1])  # pyright: ignore[reportOptionalSubscript]


@contextmanager
def client(running: Running) -> Iterator[Callable[..., tuple[int, Any]]]:
    """``call(method, path, body, headers) -> status, answer`` over one connection that is kept."""
    with closing(http.client.HTTPConnection(running.host, running.port, timeout=120)) as connection:

        def call(method: str, path: str, body: Any = None, headers: dict | None = None) -> tuple[int, Any]:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"content-type": "application/json"} | (headers or {}))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

        yield call


@pytest.fixture
def running(made, tmp_path):
    _, model, size = made["people"]
    embedder = Embedder(model, size=size, device="cpu")
    with Gallery.create(tmp_path / "people", embedder.dim, embedder.describe()) as gallery:
        gallery.add(made_up(0, STABLE, embedder.dim))
    items = Items.of(STABLE + BATCH * BATCHES, STABLE, embedder.dim)
    command = [
        sys.executable,
        str(PROGRAM),
        str(tmp_path / "people"),
        "--port",
        "0",
        "--marks",
        str(tmp_path / "marks"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout
            address = re.search(r"http://([\d.]+):(\d+)/", process.stdout.readline())
            assert address
            yield Running(process, address[1], int(address[2]), items)
        finally:
            process.kill()


def asked_for(random_: random.Random, own: int) -> dict[str, Any]:
    """A search with some filter."""
    filters: list[dict[str, Any]] = [
        {}, {"cameras": ["2"]}, {"cameras": ["1", "4"], "since": 3000.0}, {"attributes": {"n": ["1"]}},
        {"since": 5900.0},
    ]  # fmt: skip
    return {"own": own, "k": random_.choice((1, 10, 50)), **random_.choice(filters)}


def search_on_and_on(running: Running, seed: int) -> list[str]:
    """A client that looks for one person after the other; what went wrong."""
    random_, faults = random.Random(seed), []
    with client(running) as call:
        for _ in range(SEARCHES):
            own = random_.randrange(STABLE)
            status, made = call("POST", "/api/queries/pictures", {"ids": [running.items.ids[own]]})
            if status != 201:
                faults.append(f"query: {status} {made}")
                continue
            asked = asked_for(random_, own)
            body = {"query": made["query"]} | {key: value for key, value in asked.items() if key != "own"}
            start = time.monotonic()
            status, found = call("POST", "/api/search", body)
            end = time.monotonic()
            fault = running.items.faults(found["matches"], asked, start, end) if status == 200 else f"{status} {found}"
            faults += [f"{asked}: {fault}"] if fault else []
    return faults


def mark_on_and_on(running: Running, photo: bytes, stop: threading.Event) -> list[str]:
    """A client that sends a photograph, marks, counts, and sends rubbish; what went wrong."""
    faults: list[str] = []
    good, bad = multipart([("x.jpg", photo)]), multipart([("x.jpg", b"\xff\xd8 rubbish")])
    with client(running) as call:

        def want(wanted: int, method: str, path: str, body: Any = None, headers: dict | None = None) -> Any:
            status, found = call(method, path, body, headers)
            if status != wanted:
                faults.append(f"{method} {path}: {status} {found}")
            return found

        while not stop.is_set() and not faults:
            query = want(201, "POST", "/api/queries", *good).get("query")
            match = running.items.ids[random.randrange(STABLE)]
            want(200, "POST", "/api/marks", {"query": query, "match": match, "right": False})
            want(200, "GET", "/api/marks")
            want(400, "POST", "/api/queries", *bad)
    return faults


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc how much memory a process holds")
def test_many_clients_while_the_gallery_changes(running, photos, tmp_path):
    photo = sorted(photos.glob("*.jpg"))[0].read_bytes()
    stop = threading.Event()
    used = []
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        marking = pool.submit(mark_on_and_on, running, photo, stop)
        try:
            for lap in range(3):
                searching = [pool.submit(search_on_and_on, running, 100 * lap + n) for n in range(CLIENTS)]
                for batch in (2 * lap, 2 * lap + 1):
                    first = STABLE + BATCH * batch
                    running.change("add", first, BATCH)
                    running.change("delete", first, BATCH // 2)
                assert [fault for each in searching for fault in each.result()] == []
                used.append(running.memory())
        finally:
            stop.set()
        assert marking.result() == []
    assert used[-1] < 1.25 * used[0], f"memory grew: {used}"
    log = AuditLog(tmp_path / "people" / "audit.jsonl")
    kinds = [json.loads(line)["kind"] for line in log.path.read_text().splitlines()]
    assert kinds.count("search") == 3 * CLIENTS * SEARCHES
    assert log.verify() is None
