"""The gallery: what goes in comes out, what is deleted is gone, what breaks loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from gallery_items import DIM, FILTERS, make_items, slow_search

from regard.errors import ConfigError, DataError, StorageError
from regard.gallery import Filter, Gallery, Item, Record
from regard.gallery.columns import Table
from regard.gallery.int8_scan import encode
from regard.gallery.record import record_id
from regard.gallery.segments import Parts

MODEL = {"name": "made up", "fingerprint": "f"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "people"


@pytest.fixture
def gallery(folder):
    with Gallery.create(folder, DIM, MODEL) as made:
        yield made


def same(gallery: Gallery, items: list[Item]) -> None:
    """The gallery holds these items and finds them."""
    wanted = sorted(items, key=lambda item: item.record.id)
    assert list(gallery.records()) == [item.record for item in wanted]
    for item in wanted[:: max(1, len(wanted) // 5)]:
        assert gallery.thumbnail(item.record.id) == item.thumbnail
        answer = gallery.search(item.vector, k=3)
        assert [m.record.id for m in answer.matches] == [id for id, _ in slow_search(items, item.vector, 3, Filter())]


def test_a_gallery_is_there_when_it_is_opened_again(folder):
    items = make_items(70)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items[:40])
        gallery.add(items[40:])
    with Gallery.open(folder) as gallery:
        same(gallery, items)
        assert gallery.meta["model"] == MODEL
        assert len(gallery) == 70


def test_the_sealed_index_is_used_as_it_is(folder):
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(make_items(20))
    calls = []
    with Gallery.open(folder, progress=lambda *p: calls.append(p)) as gallery:
        assert len(gallery) == 20
    assert calls == []


def test_one_process_at_a_time(gallery, folder):
    with pytest.raises(StorageError, match=f"in use by process {os.getpid()}"):
        Gallery.open(folder)


def test_there_is_one_or_there_is_none(gallery, folder, tmp_path):
    with pytest.raises(ConfigError, match="holds a gallery already"):
        Gallery.create(folder, DIM, MODEL)
    with pytest.raises(DataError, match="there is no gallery"):
        Gallery.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("vector", "wrong"),
    [(np.ones(DIM + 1), "shape"), (np.zeros(DIM), "zero or not finite"), (np.full(DIM, np.nan), "zero or not finite")],
)
def test_descriptors_that_do_not_fit_are_refused(gallery, vector, wrong):
    item = make_items(1)[0]
    with pytest.raises(DataError, match=wrong):
        gallery.add([Item(item.record, vector)])
    with pytest.raises(DataError, match=wrong):
        gallery.search(vector)
    assert len(gallery) == 0


def test_descriptors_are_stored_with_length_one(gallery):
    item = make_items(1)[0]
    gallery.add([Item(item.record, 5 * item.vector)])
    assert np.linalg.norm(gallery.get([item.record.id])[0].vector) == pytest.approx(1)
    assert gallery.search(item.vector).matches[0].score == pytest.approx(1, abs=1e-6)


def test_the_last_of_twins_counts(gallery):
    first, second = make_items(2)
    twin = Item(Record(first.record.id, "twin.jpg"), second.vector)
    gallery.add([first, twin])
    assert [record.path for record in gallery.records()] == ["twin.jpg"]


@pytest.mark.parametrize("filter", [Filter(persons=("3",)), Filter(cameras=("2",)), Filter(since=1200.0, until=1700.0)])
def test_delete_a_person_a_camera_a_time_range(gallery, filter):
    items = make_items(100)
    gallery.add(items)
    wanted = [item for item in items if not filter.accepts(item.record)]
    assert gallery.delete(filter) == len(items) - len(wanted) > 0
    same(gallery, wanted)
    assert gallery.delete(filter) == 0


def bytes_in(folder: Path, needle: bytes) -> list[str]:
    return [str(p) for p in folder.rglob("*") if p.is_file() and needle in p.read_bytes()]


def test_deleted_means_no_byte_of_it_is_left(folder):
    items = make_items(50)
    secret = items[7]
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items[:30])
        gallery.add([Item(secret.record, items[8].vector, b"newer picture")])
        gallery.add(items[30:])
        gallery.build_index(samples=5)
        (codes, _), key = encode(secret.vector[None]), bytes.fromhex(secret.record.id.replace("-", ""))
        traces = (secret.vector.tobytes(), secret.record.path.encode(), b"newer picture", secret.record.id.encode())
        traces += (codes.tobytes(), key)
        assert all(bytes_in(folder, trace) for trace in traces)
        gallery.delete(Filter(ids=(secret.record.id,)))
        assert len(gallery) == 49
    for trace in traces:
        assert bytes_in(folder, trace) == []


def test_purge_takes_what_is_old(gallery):
    items = make_items(60)
    gallery.add(items)
    old = [item for item in items if item.record.time is not None and item.record.time < 1300]
    assert gallery.purge(before=1300) == len(old) > 0
    undated = [item for item in items if item.record.time is None]
    assert gallery.purge(before=0, undated=True) == len(undated) > 0
    same(gallery, [item for item in items if item not in old and item not in undated])


def test_records_can_be_put_right(gallery):
    items = make_items(40)
    gallery.add(items)
    count = sum(item.record.camera == "1" for item in items)
    assert (
        gallery.update(Filter(cameras=("1",)), {"camera": "door", "attributes": {"floor": 2}, "time": "1970-01-02"})
        == count
    )
    moved = list(gallery.records(Filter(cameras=("door",))))
    assert len(moved) == count
    assert {record.time for record in moved} == {86400.0}
    assert all(record.attributes["floor"] == "2" and "color" in record.attributes for record in moved)
    assert gallery.thumbnail(moved[0].id).startswith(b"jpeg ")
    with pytest.raises(ConfigError, match="cannot change 'path'"):
        gallery.update(Filter(), {"path": "x"})


def test_export_holds_everything(gallery, tmp_path):
    items = make_items(30)
    gallery.add(items)
    assert gallery.export(tmp_path / "out" / "all.parquet") == 30
    rows = pq.read_table(tmp_path / "out" / "all.parquet").to_pylist()
    by_id = {item.record.id: item for item in items}
    assert [row["id"] for row in rows] == sorted(by_id)
    for row in rows:
        item = by_id[row["id"]]
        plain = row | {"attributes": json.loads(row["attributes"]), "vector": 0}
        assert plain == {"digest": None} | item.record.to_dict() | {"vector": 0}
        assert np.allclose(row["vector"], item.vector)
    gallery.export(tmp_path / "bare.parquet", vectors=False)
    assert "vector" not in pq.read_table(tmp_path / "bare.parquet").column_names


def test_exported_rows_survive_a_full_page(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr("regard.gallery.gallery.PAGE", 7)
    gallery.add(make_items(30))
    assert gallery.export(tmp_path / "all.parquet") == 30
    assert len(set(pq.read_table(tmp_path / "all.parquet")["id"].to_pylist())) == 30


@pytest.mark.parametrize("id", ["", "x", "../../gallery.json", "0" * 36, record_id("a").upper(), None])
def test_what_is_no_id_is_nobody(gallery, id):
    gallery.add(make_items(3))
    assert gallery.thumbnail(id) == b""
    assert gallery.get([id]) == []


def test_the_index_says_what_it_recalls(gallery):
    items = make_items(200)
    gallery.add(items)
    recall = gallery.build_index(k=5, samples=20)
    assert 0.9 <= recall <= 1
    assert gallery.meta["index"] == {"recall": recall, "k": 5, "samples": 20}
    assert gallery.search(items[0].vector).exact
    assert not gallery.search(items[0].vector, exact=False).exact
    gallery.delete(Filter(cameras=("1",)))
    assert gallery.meta["index"] is None


def test_a_large_gallery_with_an_index_is_searched_approximately(gallery, monkeypatch):
    gallery.add(make_items(50))
    monkeypatch.setattr("regard.gallery.gallery.LARGE", 10)
    assert gallery.search(make_items(1)[0].vector).exact
    gallery.build_index(samples=5)
    assert not gallery.search(make_items(1)[0].vector).exact


def test_every_filter_through_the_gallery(gallery):
    items = make_items(150)
    gallery.add(items)
    for filter in FILTERS.values():
        answer = gallery.search(items[3].vector, k=8, filter=filter)
        assert answer.searched == sum(filter.accepts(item.record) for item in items)
        wanted = slow_search(items, items[3].vector, 8, filter)
        assert [m.record.id for m in answer.matches] == [id for id, _ in wanted]


# What breaks ------------------------------------------------------------------------------------------------------


def test_a_lost_index_is_built_again(folder):
    items = make_items(40)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
    shutil.rmtree(folder / "index")
    calls = []
    with Gallery.open(folder, progress=lambda *p: calls.append(p)) as gallery:
        same(gallery, items)
    assert calls[-1] == (1, 1)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_index_file_is_noticed(folder, damage):
    items = make_items(40)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
    for place in (0.1, 0.5, 0.9):
        files = sorted(path for path in (folder / "index").rglob("*") if path.is_file() and path.stat().st_size)
        path = files[int(place * len(files))]
        data = path.read_bytes()
        half = len(data) // 2
        path.write_bytes({"cut": data[:half], "flip": data[:-1] + bytes([data[-1] ^ 255]), "empty": b""}[damage])
        calls = []
        with Gallery.open(folder, progress=lambda *p, seen=calls: seen.append(p)) as gallery:
            same(gallery, items)
        assert calls


def test_a_damaged_part_is_named_and_not_believed(folder):
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(make_items(20))
    (part,) = (folder / "parts").glob("*.arrow")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    (folder / "index.json").unlink()
    with pytest.raises(DataError, match=f"{part.name} is damaged"):
        Gallery.open(folder)


def test_a_disk_that_is_nearly_full_takes_nothing(gallery, monkeypatch):
    items = make_items(20)
    gallery.add(items[:10])
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(StorageError, match="nearly full; nothing was added"):
        gallery.add(items[10:])
    same(gallery, items[:10])


def test_an_index_that_fails_takes_nothing(gallery, monkeypatch):
    items = make_items(20)
    gallery.add(items[:10])
    append = Table.append

    def fail_for_new(self, part, table):
        append(self, part, table)
        if part == 2:
            raise OSError("no space")

    monkeypatch.setattr(Table, "append", fail_for_new)
    with pytest.raises(StorageError, match="nothing was added"):
        gallery.add(items[10:])
    same(gallery, items[:10])


def child(folder: Path, code: str) -> subprocess.Popen[str]:
    """A process that says ``ready``, then does something to the gallery."""
    head = f"""
    import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
    from gallery_items import *
    from regard.gallery import Gallery
    gallery = Gallery.open({str(folder)!r})
    """
    program = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("wait", [0.0, 0.11])
def test_killed_while_adding_keeps_what_was_acknowledged_and_no_half(folder, wait):
    """Additions of 10, each said aloud when it returned; then kill -9."""
    Gallery.create(folder, DIM, MODEL).close()
    code = """
    for step in range(1000):
        gallery.add(make_items(10, seed=step, start=10 * step))
        print(step, flush=True)
    """
    with child(folder, code) as adding:
        assert adding.stdout is not None
        acknowledged = [int(adding.stdout.readline()) for _ in range(3)]
        time.sleep(wait)
        os.kill(adding.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in adding.stdout.read().split()]
    with Gallery.open(folder) as gallery:
        count = len(gallery)
        assert count % 10 == 0
        assert count >= 10 * len(acknowledged)
        items = [item for step in range(count // 10) for item in make_items(10, seed=step, start=10 * step)]
        same(gallery, items)


def test_a_deletion_once_promised_is_finished(folder):
    items = make_items(40)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items[:20])
        gallery.add(items[20:])
    gone = [item.record.id for item in items[::3]]
    (folder / "parts" / "deleting.json").write_text(json.dumps(gone))  # what a kill right after the promise leaves
    with Gallery.open(folder) as gallery:
        same(gallery, [item for item in items if item.record.id not in gone])
    assert not (folder / "parts" / "deleting.json").exists()


def test_killed_while_deleting_deletes_all_or_nothing(folder):
    items = make_items(60)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        for start in range(0, 60, 10):
            gallery.add(items[start : start + 10])
    code = """
    import os, signal
    from regard.gallery.segments import Parts
    write = Parts._write
    def write_and_die(self, *what):
        write(self, *what)
        os.kill(os.getpid(), signal.SIGKILL)
    Parts._write = write_and_die
    gallery.delete(Filter(cameras=("1",)))
    """
    with child(folder, code) as deleting:
        assert deleting.wait() == -signal.SIGKILL
    with Gallery.open(folder) as gallery:
        same(gallery, [item for item in items if item.record.camera != "1"])


@pytest.mark.parametrize("seed", range(4))
def test_a_part_that_is_there_twice_loses_nobody(folder, monkeypatch, seed):
    """Whichever of its two files comes first by name, which their digests decide."""
    items = make_items(40, seed=seed)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items[:20])
        gallery.add(items[20:])
        write = Parts._write

        def write_and_stop(self, *what):
            write(self, *what)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Parts, "_write", write_and_stop)
            with pytest.raises(KeyboardInterrupt):
                gallery.delete(Filter(cameras=("1",)))
    with Gallery.open(folder) as gallery:
        same(gallery, [item for item in items if item.record.camera != "1"])


def test_a_file_system_that_refuses_loses_nothing(folder):
    """A real refusal of the system: no file may grow beyond a few kilobytes."""
    items = make_items(10)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
    code = """
    import resource
    from regard.errors import StorageError
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    try:
        gallery.add(make_items(200, start=100))
    except StorageError as error:
        print("refused:", error)
    """
    with child(folder, code) as full:
        out, _ = full.communicate()
    assert "refused: could not write" in out
    with Gallery.open(folder) as gallery:
        same(gallery, items)
