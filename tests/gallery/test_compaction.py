"""What a Milvus server says when it is asked to compact, from a stand-in: done, slow, refusing, mistaken."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from gallery_items import DIM, make_items
from pymilvus import MilvusException

from regard.cli import main as command_line
from regard.gallery import Gallery
from regard.gallery.compaction import compacted
from regard.gallery.query import Removed, deleted
from regard.gallery.record import Filter

LIMIT = MilvusException(8, "request is rejected by grpc RateLimiter middleware, please retry later")


class Server:
    """Answers like a MilvusClient of a collection of 500 rows, of which one is deleted; lists give answers in turn."""

    def __init__(self, states=("Completed",), held=(500, 499), flushes=(), counts=(499,), returned=(), levels=("L1",)):
        self.script = {"states": states, "held": held, "flushes": flushes, "counts": counts}
        self.returned, self.levels, self.asked = returned, levels, []
        self.taken = dict.fromkeys(self.script, 0)

    def next(self, name):
        answers, number = self.script[name], self.taken[name]
        self.taken[name] += 1
        return answers[min(number, len(answers) - 1)] if answers else None

    def query(self, name, **options):
        return [{"count(*)": self.next("counts")}]

    def get(self, name, ids, **options):
        return [{"id": id} for id in ids if id in self.returned]

    def flush(self, name, **options):
        if error := self.next("flushes"):
            raise error

    def compact(self, name, *, is_l0=False, **options):
        self.asked.append("L0" if is_l0 else "all")
        return 7

    def get_compaction_state(self, job):
        return self.next("states")

    def list_persistent_segments(self, name):
        held = self.next("held")
        return [SimpleNamespace(level=level, num_rows=held if level != "L0" else 1) for level in self.levels]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("regard.gallery.compaction.PAUSE", 0.001)
    monkeypatch.setattr("regard.gallery.compaction.LONGEST", 0.004)


@pytest.mark.parametrize(
    ("server", "asked"),
    [
        (Server(), ["all"]),
        (Server(states=["Executing", "Executing", "Completed"]), ["all"]),
        (Server(flushes=[LIMIT, LIMIT, None]), ["all"]),
        (Server(levels=("L0", "L1")), ["L0", "all"]),
        (Server(held=[500, 500, 500, 499]), ["all", "all"]),  # complete, it said, and had left the segment as it was
        (Server(counts=[498, 499, 499]), ["all", "all"]),  # another process wrote meanwhile
    ],
)
def test_what_is_slow_or_refused_is_asked_for_again(server, asked):
    waits = []
    assert compacted(server, "people", ["a"], waiting=lambda *at: waits.append(at)) is None
    assert server.asked == asked
    assert all(0 <= waited <= most == 120 for waited, most in waits)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (Server(states=["Executing"]), "its compaction is still 'Executing'"),
        (Server(flushes=[LIMIT]), "request is rejected by grpc RateLimiter middleware, please retry later"),
        (Server(held=[500]), "its segments hold 500 rows, wanted the 499 that are left"),
        (Server(counts=list(range(9999))), "others write to it meanwhile"),
        (Server(returned=["a"]), "it returns 1 of the rows, unless these were stored anew"),
        (SimpleNamespace(query=Server().query, flush=Server().flush), "it cannot compact"),
    ],
)
def test_what_is_not_confirmed_in_time_is_said(server, why):
    assert (compacted(server, "people", ["a"], patience=0.03) or "").startswith(why)


def test_what_was_not_confirmed_is_not_reported_as_done(tmp_path, monkeypatch, capsys):
    """One line, code 2, and the log says which it was; the next to ask hears how it is by then."""
    folder = tmp_path / "people"
    with Gallery.create(folder, DIM, {"name": "made up"}) as gallery:
        gallery.add(make_items(30))
        assert (gallery.delete(Filter(cameras=("1",))).bytes, gallery.purge(0).bytes) == ("erased", "erased")
        assert deleted(SimpleNamespace(delete=lambda ids: 3, get=gallery._engine.get), [], bool).bytes == "unknown"
        monkeypatch.setattr(
            "regard.gallery.gallery.deleted", lambda *_: Removed(2, "unconfirmed", "the server has not: busy")
        )
        with pytest.warns(match="2 removed from every answer, but the server has not: busy"):
            assert gallery.delete(Filter(cameras=("2",))).to_dict() == {
                "removed": 2, "bytes": "unconfirmed", "note": "the server has not: busy",
            }  # fmt: skip
        gallery._engine.confirm = lambda waiting: Removed(0, "unconfirmed", "the server has not: busy")
        with pytest.warns(match="blurred in every answer, but the server has not: busy"):
            gallery.blur_heads()
    assert command_line.main(["gallery", "delete", str(folder), "--camera", "3"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("2 pictures removed\n", 1)
    assert "in no answer any more, but the server has not: busy; ask again: regard gallery check URL" in err
    last = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()][-2]
    assert (last["kind"], last["answered"]["bytes"]) == ("removed", "unconfirmed")
