"""The suite every engine passes: the embedded one, and a real Milvus server."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from gallery_items import DIM, FILTERS, make_items, slow_search

from regard.errors import ConfigError, StorageError
from regard.gallery import Gallery
from regard.gallery.embedded import EmbeddedEngine
from regard.gallery.record import Filter, Item, Record, record_id


@pytest.fixture(params=["embedded", "milvus"])
def engine(request, tmp_path, monkeypatch):
    if request.param == "embedded":
        made = EmbeddedEngine(tmp_path / "gallery", DIM)
        yield made
        made.close()
        return
    from regard.gallery.milvus import MilvusEngine

    monkeypatch.setattr("regard.gallery.milvus.compacted", lambda *_, **__: None)  # takes seconds
    made = MilvusEngine(f"{request.getfixturevalue('milvus')}/test_{uuid.uuid4().hex}", DIM)
    yield made
    made.drop()
    made.close()


def check_search(engine, items, filter, k=10):
    for vector in (items[0].vector, items[7].vector):
        wanted = slow_search(items, vector, k, filter)
        (found,) = engine.search(vector[None], k, filter)
        assert [hit.score for hit in found] == pytest.approx([score for _, score in wanted], abs=1e-5)
        assert {hit.record.id for hit in found} == {id for id, _ in wanted}
        assert all(filter.accepts(hit.record) for hit in found)


def test_every_filter_searches_like_its_slow_twin(engine):
    items = make_items(200)
    engine.add(items[:120])
    engine.add(items[120:])
    for filter in FILTERS.values():
        check_search(engine, items, filter)
        assert engine.count(filter) == sum(filter.accepts(item.record) for item in items)


def test_records_come_back_as_they_were(engine):
    items = make_items(40)
    odd = Record(record_id("odd"), 'ümlaut "quoted" \\ path.jpg', attributes={"note": 'it\'s "so"'})
    engine.add([*items, Item(odd, items[0].vector)])
    by_id = {item.record.id: item for item in engine.get([odd.id, items[5].record.id, record_id("unknown")])}
    assert by_id[odd.id].record == odd
    assert by_id[items[5].record.id].record == items[5].record
    assert np.allclose(by_id[items[5].record.id].vector, items[5].vector, atol=1e-6)
    assert engine.thumbnail(items[5].record.id) == b"jpeg 5"
    assert engine.thumbnail(odd.id) == b""
    assert engine.thumbnail(record_id("unknown")) == b""
    note = Filter(attributes={"note": ('it\'s "so"',)})
    assert [record.id for record in engine.scan(note)] == [odd.id]


def test_scanning_in_pages_sees_everything_once(engine):
    items = make_items(95)
    engine.add(items)
    filter, seen, after = Filter(not_cameras=("2",)), [], None
    while page := engine.scan(filter, after, 10):
        assert len(page) <= 10
        seen += [record.id for record in page]
        after = page[-1].id
    assert seen == sorted(item.record.id for item in items if filter.accepts(item.record))


def test_adding_again_replaces(engine):
    items = make_items(30)
    engine.add(items)
    changed = Item(Record(items[3].record.id, "moved.jpg", camera="9"), items[4].vector, b"new")
    engine.add([changed])
    assert engine.count(Filter()) == 30
    (item,) = engine.get([changed.record.id])
    assert item.record == changed.record
    assert engine.thumbnail(changed.record.id) == b"new"
    check_search(engine, [changed if i.record.id == changed.record.id else i for i in items], Filter())


def test_deleted_is_gone_from_every_answer(engine):
    items = make_items(60)
    engine.add(items)
    gone = [item.record.id for item in items[::4]]
    assert engine.delete([*gone, record_id("unknown")]) == len(gone)
    left = [item for item in items if item.record.id not in gone]
    assert engine.count(Filter()) == len(left)
    assert engine.get(gone) == []
    assert engine.thumbnail(gone[0]) == b""
    assert engine.delete(gone) == 0
    check_search(engine, left, Filter())


def test_values_are_counted(engine):
    items = make_items(80)
    engine.add(items)
    for name in ("camera", "track", "person"):
        values = [getattr(item.record, name) for item in items]
        assert engine.values(name) == {v: values.count(v) for v in sorted({v for v in values if v is not None})}


def test_many_queries_are_answered_in_order(engine):
    items = make_items(50)
    engine.add(items)
    answers = engine.search(np.stack([item.vector for item in items]), 1, Filter())
    assert [answer[0].record.id for answer in answers] == [item.record.id for item in items]


def test_the_index_answers_like_the_scan_where_there_is_little(engine):
    items = make_items(300)
    engine.add(items)
    engine.index()
    (found,) = engine.search(items[0].vector[None], 10, Filter(), exact=False)
    wanted = slow_search(items, items[0].vector, 10, Filter())
    assert len({hit.record.id for hit in found} & {id for id, _ in wanted}) >= 9
    engine.add(make_items(1, seed=5, start=900))
    assert engine.count(Filter()) == 301
    check_search(engine, items + make_items(1, seed=5, start=900), Filter())


def test_what_it_says_about_itself_is_kept(engine):
    assert engine.read_meta() == {}
    engine.write_meta({"format": "x", "dim": DIM, "model": {"name": "übung"}})
    assert engine.read_meta() == {"format": "x", "dim": DIM, "model": {"name": "übung"}}


def test_an_empty_gallery_answers_nothing(engine):
    vector = make_items(1)[0].vector
    assert engine.search(vector[None], 5, Filter()) == [[]]
    assert engine.scan(Filter()) == []
    assert engine.count(Filter()) == 0
    assert engine.values("camera") == {}


@pytest.mark.parametrize("kind", ["embedded", "milvus"])
def test_the_same_gallery_on_either(kind, request, tmp_path):
    """The whole class by folder and by URL: add, search, put right, delete, purge, export, open again."""
    where = tmp_path / "people"
    if kind == "milvus":
        where = f"{request.getfixturevalue('milvus')}/test_{uuid.uuid4().hex}"
    items = make_items(120)
    with Gallery.create(where, DIM, {"name": "made up"}) as gallery:
        gallery.add(items)
        assert gallery.update(Filter(cameras=("1",)), {"camera": "door"}) > 5
        gone = gallery.delete(Filter(persons=("3",)))
        assert (gone > 0, gone.bytes, gone.note) == (True, "compacted" if kind == "milvus" else "erased", "")
        assert gallery.purge(before=1100) > 0
        assert gallery.build_index(samples=10) > 0.8
    with Gallery.open(where) as gallery:
        kept = [i for i in items if i.record.person != "3" and not (i.record.time or 1100) < 1100]
        assert len(gallery) == len(kept)
        answer = gallery.search(kept[5].vector, k=10, rerank=True, group=True)
        assert answer.matches[0].score == pytest.approx(1, abs=1e-5)
        found = gallery.search(kept[5].vector, k=10).matches
        wanted = slow_search(kept, kept[5].vector, 10, Filter())
        assert [match.record.id for match in found] == [id for id, _ in wanted]
        assert gallery.export(tmp_path / "all.parquet") == len(kept)
        assert "door" in gallery.values("camera")
        if kind == "milvus":
            gallery._engine.drop()


def test_a_server_that_is_not_there_is_said():
    with pytest.raises(StorageError, match="Milvus server"):
        Gallery.open("http://127.0.0.1:1/people")
    with pytest.raises(ConfigError, match="names no gallery"):
        Gallery.open("http://127.0.0.1:1/")


def test_a_wrong_password_is_said(milvus):
    with pytest.raises(StorageError, match=r"Milvus server answered: .*check the server and the URL"):
        Gallery.open(f"{milvus.replace('root:', 'root:not')}/people")
