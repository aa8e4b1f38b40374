"""The embedded engine beyond the suite of all engines: short codes, files that are lost, searches beside additions."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from gallery_items import DIM, FILTERS, make_items, slow_search

from regard.errors import DataError, StorageError
from regard.gallery import Gallery, Item, Record
from regard.gallery.embedded import EmbeddedEngine
from regard.gallery.record import Filter, record_id
from regard.service.watch import Watch

PLANE = np.random.default_rng(5).normal(size=(3, DIM))


def flat_items(count: int, start: int = 0) -> list[Item]:
    """Items whose descriptors lie near a plane, so that short codes pay."""
    random, items = np.random.default_rng(start), make_items(count, seed=start, start=start)
    vectors = random.normal(size=(count, 3)) @ PLANE + 0.05 * random.normal(size=(count, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return [Item(item.record, vector, item.thumbnail) for item, vector in zip(items, vectors)]


@pytest.fixture
def small_steps(monkeypatch):
    """Two passes and short codes although there is little."""
    monkeypatch.setattr("regard.gallery.int8_scan.FEW", 16)
    monkeypatch.setattr("regard.gallery.int8_scan.BLOCK", 100)
    monkeypatch.setattr("regard.gallery.pca_codes.BLOCK", 100)
    monkeypatch.setattr("regard.gallery.pca_codes.LEAST", 10)
    monkeypatch.setattr("regard.gallery.pca_codes.NARROW", 0)
    monkeypatch.setattr("regard.gallery.pca_codes.CHOICES", (4, 8))


def check(gallery: Gallery, items: list[Item], filters=FILTERS, k: int = 10) -> None:
    for filter in filters.values():
        for item in items[:: max(1, len(items) // 3)]:
            found = gallery.search(item.vector, k, filter, exact=True).matches
            wanted = slow_search(items, item.vector, k, filter)
            assert [match.record.id for match in found] == [id for id, _ in wanted]
            assert [match.score for match in found] == pytest.approx([score for _, score in wanted], abs=1e-6)


def test_an_index_keeps_exact_searches_exact(tmp_path, small_steps, monkeypatch):
    items = flat_items(400)
    with Gallery.create(tmp_path / "g", DIM, {}) as gallery:
        gallery.add(items)
        check(gallery, items)
        assert gallery.build_index(k=5, samples=20) > 0.9
        assert gallery._engine._mirror.now().short.prunes
        check(gallery, items)
        later = flat_items(60, start=350)  # the first fifty replace
        gallery.add(later)
        items = items[:350] + later
        check(gallery, items)
        check(gallery, items, {"all": Filter()}, k=1000)
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery._engine._mirror.now().short is not None
        check(gallery, items)
        monkeypatch.setattr("regard.gallery.embedded.SAMPLE", 100)
        gallery.delete(Filter(cameras=("2",)))
        assert gallery._engine._mirror.now().short is not None
        check(gallery, items := [item for item in items if item.record.camera != "2"])
        monkeypatch.setattr("regard.gallery.embedded.SAMPLE", 1000)
        gallery.delete(Filter(cameras=("1",)))
        assert gallery._engine._mirror.now().short is None
        check(gallery, [item for item in items if item.record.camera != "1"])


def test_approximate_searches_obey_the_filter(tmp_path, small_steps):
    items = flat_items(400)
    with Gallery.create(tmp_path / "g", DIM, {}) as gallery:
        gallery.add(items)
        gallery.build_index(k=5, samples=20)
        gallery.add(flat_items(40, start=400))
        for filter in FILTERS.values():
            found = gallery.search(items[3].vector, 10, filter, exact=False).matches
            assert all(filter.accepts(match.record) for match in found)
            assert len(found) == min(10, gallery.count(filter))


FILES = ("short1_codes", "short1_rest", "short1_axes.npz", "codes", "vectors", "keys", "values", "camera")


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_made_again(tmp_path, name, small_steps):
    items = flat_items(200)
    with Gallery.create(tmp_path / "g", DIM, {}) as gallery:
        gallery.add(items)
        recall = gallery.build_index(k=5, samples=10)
    good = (tmp_path / "g" / "index-1" / name).read_bytes()
    for epoch, data in enumerate((good[: len(good) // 2], good[:-1] + bytes([good[-1] ^ 1]), None), 1):
        path = tmp_path / "g" / f"index-{epoch}" / name
        path.write_bytes(data) if data is not None else path.unlink()
        calls = []
        with Gallery.open(tmp_path / "g", progress=lambda *at, seen=calls: seen.append(at)) as gallery:
            assert gallery.meta["index"]["recall"] == recall
            assert gallery._engine._mirror.now().short is not None
            check(gallery, items, {"all": Filter()})
        assert calls
        assert (tmp_path / "g" / f"index-{epoch + 1}" / name).read_bytes() == good


def test_killed_after_an_addition_nothing_has_to_be_made_again(tmp_path, small_steps):
    items = flat_items(200)
    with Gallery.create(tmp_path / "g", DIM, {}) as gallery:
        gallery.add(items)
        gallery.build_index(k=5, samples=10)
    program = f"""
    import os, signal, sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    from test_embedded import *
    gallery = Gallery.open({str(tmp_path / "g")!r})
    gallery.add(flat_items(30, start=200))
    os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)])
    assert killed.returncode == -signal.SIGKILL
    with Gallery.open(tmp_path / "g") as gallery:
        assert len(gallery._engine._mirror.now().short.codes) == 200
        check(gallery, items + flat_items(30, start=200))


def test_searches_run_beside_additions_and_deletions(tmp_path):
    """What a search answers was the gallery at some moment: never half an addition, never a mixed record."""
    steps, wrong, done = [make_items(10, seed=n, start=10 * n) for n in range(30)], [], threading.Event()
    with Gallery.create(tmp_path / "g", DIM, {}) as gallery:
        gallery.add(steps[0])
        known = {item.record.id: item.record for step in steps for item in step}
        vectors = np.stack([item.vector for item in steps[0][:3]])

        def ask() -> None:
            while not done.is_set():
                for hits in gallery._engine.search(vectors, 400, Filter()):
                    ids = {hit.record.id for hit in hits}
                    if len(ids) != len(hits) or len(hits) % 10 or any(known[h.record.id] != h.record for h in hits):
                        wrong.append(hits)

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        for number, step in enumerate(steps[1:], 1):
            gallery.add(step)
            if number % 10 == 0:
                gallery.delete(Filter(ids=tuple(item.record.id for item in steps[number - 3])))
        done.set()
        for asker in askers:
            asker.join()
        assert wrong == []
        assert len(gallery) == 280


def test_the_most_frequent_values_come_first_where_there_are_too_many(tmp_path):
    engine = EmbeddedEngine(tmp_path / "g", DIM)
    vector = make_items(1)[0].vector
    cameras = ["a"] * 3 + ["b"] + ["c"] * 2
    engine.add([Item(Record(record_id(str(n)), str(n), camera=camera), vector) for n, camera in enumerate(cameras)])
    assert engine.values("camera", 2) == {"a": 3, "c": 2}
    assert engine.values("track") == {}
    engine.close()


def test_equal_pictures_are_ordered_by_id(tmp_path, small_steps):
    vector, other = (item.vector for item in make_items(2))
    items = [Item(Record(record_id(str(n)), str(n)), vector if n % 2 else other) for n in range(120)]
    with Gallery.create(tmp_path / "g", DIM, {}) as gallery:
        gallery.add(items)
        found = gallery._engine.search(vector[None], 40, Filter())[0]
    assert [hit.record.id for hit in found] == sorted(i.record.id for i in items if i.vector is vector)[:40]
    assert len({hit.score for hit in found}) == 1


def test_what_is_no_id_is_refused_before_anything_is_written(tmp_path):
    engine = EmbeddedEngine(tmp_path / "g", DIM)
    with pytest.raises(DataError, match="wanted a UUID in lower case"):
        engine.add([Item(Record("nobody", "a.jpg"), make_items(1)[0].vector)])
    assert engine.count(Filter(ids=("nobody",))) == 0
    engine.close()
    with pytest.raises(StorageError, match="is closed"):
        engine.count(Filter())


FLIPPED = ("vectors", "codes", "bounds", "keys", "numbers", "times", "camera", "person", "short1_codes", "short1_rest")


@pytest.mark.slow
@pytest.mark.parametrize("name", FLIPPED)
def test_a_bit_that_changes_while_a_file_is_open_answers_nothing_wrong(tmp_path, name, small_steps, monkeypatch):
    """It may cost a candidate; scores, pictures and filters stay right, and a check on demand makes the file anew."""
    monkeypatch.setattr("regard.gallery.embedded.SAMPLE", 100)
    asked = {name: FILTERS[name] for name in ("nothing asked", "a person", "all at once")}
    items, random = flat_items(200), np.random.default_rng(3)
    known = {item.record.id: item.record for item in items}
    with Gallery.create(tmp_path / "g", DIM, {}) as gallery:
        gallery.add(items)
        gallery.build_index(k=5, samples=10)
    for place, bit in ((0.0, 6), (0.99, 5)):
        with Gallery.open(tmp_path / "g") as gallery:
            engine, query = gallery._engine, items[int(random.integers(200))].vector
            row = int(engine._mirror.now().rows_of([gallery.search(query, 1).matches[0].record.id])[0])
            part = name.replace("short1", f"short{engine._mirror.now()._short_number}")
            path = engine._mirror.now().folder / part
            with path.open("r+b") as file:
                width = path.stat().st_size // 200
                file.seek(row * width + int(place * width))
                byte = file.read(1)[0]
                file.seek(-1, 1)
                file.write(bytes([byte ^ 1 << bit]))
            for filter in asked.values():
                right = dict(slow_search(items, query, 200, filter))
                found = gallery.search(query, 10, filter).matches
                assert all(match.record == known[match.record.id] for match in found)
                assert [match.score for match in found] == pytest.approx([right[m.record.id] for m in found], abs=1e-6)
                assert len({match.record.id for match in found} & set(list(right)[:10])) >= min(10, len(right)) - 1
            gone = next(item for item in items if item.record.camera == "2")
            if place:
                assert gallery.delete(Filter(ids=(gone.record.id,), cameras=("2",))) == 1
                gallery.add([gone])
            engine.refresh()
            assert engine.check().remade is False
            check(gallery, items, asked)


@pytest.mark.slow
def test_a_service_looks_at_its_files_now_and_then(tmp_path):
    said = queue.Queue[str]()
    with Gallery.create(tmp_path / "g", DIM, {}) as gallery:
        gallery.add(make_items(30))
        folder = gallery._engine._mirror.now().folder
        good = (folder / "codes").read_bytes()
        watch = Watch([gallery], 0.01, said.put)
        (folder / "codes").write_bytes(bytes([good[0] ^ 1]) + good[1:])
        assert said.get(timeout=30).endswith("were damaged, and are made anew")
        watch.close()
        assert (gallery._engine._mirror.now().folder / "codes").read_bytes() == good
        assert said.empty()
