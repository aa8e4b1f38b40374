"""The gallery: what goes in comes out, what is deleted is gone, what breaks loses nothing."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gallery_items import DIM, FILTERS, make_items, slow_search

from regard.cli.main import main
from regard.errors import ConfigError, DataError, StorageError
from regard.gallery import Filter, Gallery, Item, Record
from regard.gallery.columns import Table
from regard.gallery.facts import heard
from regard.gallery.int8_scan import encode
from regard.gallery.record import record_id
from regard.gallery.repair import repair
from regard.gallery.segments import to_table
from regard.gallery.store import Store
from regard.gallery.use import Actor

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


def test_the_files_are_used_as_they_are(folder):
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(make_items(20))
    calls = []
    with Gallery.open(folder, progress=lambda *p: calls.append(p)) as gallery:
        assert len(gallery) == 20
    assert calls == []


def test_two_open_at_once_see_what_the_other_does(gallery, folder):
    items = make_items(60)
    with Gallery.open(folder) as other:
        gallery.add(items[:30])
        same(other, items[:30])
        other.add(items[30:])
        gone = other.delete(Filter(cameras=("2",)))
        left = [item for item in items if item.record.camera != "2"]
        assert gone == len(items) - len(left)
        same(gallery, left)
        assert gallery.values("camera") == other.values("camera")
        gallery.add([Item(Record(left[0].record.id, "moved.jpg", camera="2"), left[1].vector, b"new")])
        assert [record.path for record in other.records(Filter(cameras=("2",)))] == ["moved.jpg"]
        assert other.build_index(samples=5) > 0.9
        assert gallery.search(items[3].vector, k=3).matches == other.search(items[3].vector, k=3).matches


def test_changes_from_two_sides_are_both_kept(gallery, folder):
    """Two that change other facts of the same pictures keep both, and who stores them anew is not undone."""
    items = make_items(30)
    gallery.add(items)

    def change(name: str) -> None:
        with Gallery.open(folder) as other:
            for step in range(20):
                other.update(Filter(), {"attributes": {name: str(step)}})

    sides = [threading.Thread(target=change, args=(name,)) for name in ("left", "right")]
    for side in sides:
        side.start()
    again = {item.record.id: Item(item.record, items[0].vector, b"again") for item in items[5:8]}
    gallery.add(list(again.values()))
    for side in sides:
        side.join()
    others = [record.attributes for record in gallery.records() if record.id not in again]
    assert all(known["left"] == known["right"] == "19" for known in others)
    for item in gallery.get(list(again)):
        assert np.allclose(item.vector, items[0].vector)
        assert gallery.thumbnail(item.record.id) == b"again"


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


def test_attributes_without_end_are_refused(gallery):
    items = make_items(2)
    gallery.add(items[:1])
    many = replace(items[1].record, attributes={f"a{number}": "x" for number in range(600)})
    with pytest.raises(DataError, match="more than 500 kinds of attributes"):
        gallery.add([Item(many, items[1].vector)])
    same(gallery, items[:1])
    gallery.add(items)
    same(gallery, items)


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
    """Of the record, the descriptor, its codes, the thumbnail, a name that nobody else has; nor of what it replaced."""
    items = make_items(50)
    first, other = items[7], make_items(1, seed=9, start=99)[0]
    secret = Item(replace(first.record, person="Alice Secret"), other.vector, b"newer picture")
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items[:30])
        assert bytes_in(folder, first.vector.tobytes())
        gallery.add([secret])
        assert not any(bytes_in(folder, trace) for trace in (first.vector.tobytes(), first.thumbnail + b'"'))
        gallery.add(items[30:])
        gallery.build_index(samples=5)
        traces = [vector.tobytes() for vector in (secret.vector, encode(secret.vector[None])[0])]
        traces += [secret.record.path.encode(), b"newer picture", b"Alice Secret", secret.record.id.encode()]
        traces.append(bytes.fromhex(secret.record.id.replace("-", "")))
        assert all(bytes_in(folder, trace) for trace in traces)
        gallery.delete(Filter(ids=(secret.record.id,)))
        assert len(gallery) == 49
        assert not any(bytes_in(folder, trace) for trace in traces)
    assert not any(bytes_in(folder, trace) for trace in traces)


@pytest.mark.parametrize("who", ["own", "told", "hand"])
def test_a_name_that_went_is_in_no_byte(folder, who):
    """Taken back, changed or merged, whoever said it first; the source that says it again is not heard."""
    names = {"taken back": "Alice Secret", "changed": "Berta Secret", "merged": "Carla Secret"}
    with Gallery.create(folder, DIM, MODEL) as gallery:
        items = make_items(3)
        blank = [Record(item.record.id, item.record.path) for item in items]
        says = [
            replace(record, person=name, attributes={"coat": f"{name} coat"})
            for record, name in zip(blank, names.values())
        ]
        gallery.add([replace(item, record=heard(old, new, who)) for item, old, new in zip(items, blank, says)])
        assert all(bytes_in(folder, name.encode()) for name in names.values())
        which = [Filter(ids=(record.id,)) for record in blank]
        gallery.name_person(which[0], None)
        gallery.update(which[1], {"person": "Dora"})
        gallery.merge(["Carla Secret"], "Dora")
        for filter in which:
            gallery.update(filter, {"attributes": {"coat": "blue"}})
        assert bytes_in(folder, b"Secret") == []
        before = list(gallery.records())
        assert (
            gallery.revise(
                lambda record: (
                    record if who == "hand" else heard(record, next(s for s in says if s.id == record.id), who)
                )
            )
            == 0
        )
        assert [record.person for record in before] == [record.person for record in gallery.records()]
    assert bytes_in(folder, b"Secret") == []


def test_what_is_made_is_its_owners_alone(folder, tmp_path):
    """Also in an empty folder that was there, and what is exported; a folder with other files stays as it is."""
    folder.mkdir(mode=0o755)
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared" / "notes").touch()
    for place, mode in ((folder, 0o700), (tmp_path / "shared", 0o755)):
        place.chmod(0o755)
        with Gallery.create(place, DIM, MODEL) as gallery:
            gallery.add(make_items(3))
            assert gallery.export(tmp_path / "all.parquet") == 3
        assert place.stat().st_mode & 0o777 == mode
        assert (tmp_path / "all.parquet").stat().st_mode & 0o077 == 0
        assert not any(path.stat().st_mode & 0o077 for path in place.rglob("*") if path.name != "notes")


@pytest.mark.parametrize("name", ["gallery.sqlite", "gallery.sqlite-wal", "index-2"])
def test_links_in_a_gallery_are_not_followed(gallery, folder, tmp_path, name):
    gallery.add(make_items(3))
    gallery.close()
    victim = tmp_path / "victim"
    (victim.mkdir if name == "index-2" else victim.touch)()
    if (folder / name).exists():
        (folder / name).rename(tmp_path / "moved")
    (folder / name).symlink_to(victim)
    shutil.rmtree(folder / "index-1")
    with pytest.raises(StorageError, match="it is a link"), Gallery.open(folder) as again:
        again.add(make_items(3, start=3))
    assert not (list(victim.iterdir()) if victim.is_dir() else victim.read_bytes())


@pytest.mark.skipif(os.name == "nt", reason="rights are others there")
def test_a_second_name_of_a_file_is_refused_where_somebody_else_may_write_by_it(gallery, folder, tmp_path):
    """A backup of hard links of one's own is no harm; what can be made anew is."""
    gallery.add(make_items(3))
    with gallery.use(Actor("anna")) as use:
        gallery.search(make_items(3)[0].vector, use=use)
    gallery.close()
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        os.link(path, tmp_path / path.name)
    with Gallery.open(folder) as again:
        again.add(make_items(3, start=3))
        (tmp_path / "codes").chmod(0o660)
        before = (tmp_path / "codes").read_bytes()
    with Gallery.open(folder) as again:
        again.add(make_items(3, start=6))
        assert len(again) == 9
        (folder / "audit.jsonl").chmod(0o622)
        with (
            pytest.raises(StorageError, match=r"could not be logged in .*it has a second name"),
            again.use(Actor("anna")) as use,
        ):
            again.search(make_items(3)[0].vector, use=use)
    assert (tmp_path / "codes").read_bytes() == before
    (folder / "gallery.sqlite").chmod(0o620)
    with pytest.raises(StorageError, match=r"cannot open .*gallery.sqlite \(it has a second name, a hard link"):
        Gallery.open(folder)


def test_a_folder_that_is_gone_and_too_many_open_files_are_said(gallery, folder, monkeypatch):
    items = make_items(5)
    gallery.add(items)
    full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with monkeypatch.context() as patch, Gallery.open(folder) as fresh:
        patch.setattr(np, "memmap", lambda *what, **how: (_ for _ in ()).throw(full))
        for act in (
            lambda: fresh.search(items[0].vector),
            lambda: fresh.get([items[0].record.id]),
            lambda: fresh.add(items),
        ):
            with pytest.raises(StorageError):
                act()
    gallery.search(items[0].vector)
    shutil.rmtree(folder)
    for act in (lambda: gallery.add(items), lambda: gallery.delete(Filter())):
        with pytest.raises(StorageError, match="No such file or directory"):
            act()


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
        assert plain == {"digest": None} | replace(item.record, said={}).to_dict() | {"vector": 0}
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


def files_of(folder: Path) -> list[Path]:
    """The files that are made from the store."""
    (home,) = folder.glob("index-*")
    return sorted(path for path in home.iterdir() if path.stat().st_size)


def test_lost_files_are_made_again(folder):
    items = make_items(40)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
    shutil.rmtree(files_of(folder)[0].parent)
    calls = []
    with Gallery.open(folder, progress=lambda *p: calls.append(p)) as gallery:
        same(gallery, items)
    assert calls[-1] == (40, 40)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_noticed(folder, damage):
    items = make_items(40)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
    for number in range(len(files_of(folder))):
        path = files_of(folder)[number]
        data = path.read_bytes()
        half = len(data) // 2
        path.write_bytes({"cut": data[:half], "flip": data[:-1] + bytes([data[-1] ^ 255]), "empty": b""}[damage])
        calls = []
        with Gallery.open(folder, progress=lambda *p, seen=calls: seen.append(p)) as gallery:
            same(gallery, items)
        assert calls


def test_a_damaged_picture_is_set_aside_and_the_rest_is_searched(folder):
    items = make_items(20)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
    path, record, vector = folder / "gallery.sqlite", items[4].record, items[9].vector.tobytes()
    data = path.read_bytes()
    data = data.replace(record.path.encode(), record.path.encode().swapcase())
    path.write_bytes(data.replace(vector, vector[::-1]))
    with Gallery.open(folder) as gallery:  # from the files, so only what is read is noticed
        same(gallery, [item for item in items if item is not items[4]])
        assert gallery.damaged == 1
    shutil.rmtree(files_of(folder)[0].parent)
    with Gallery.open(folder) as gallery:
        same(gallery, [item for item in items if item not in (items[4], items[9])])
        assert gallery.damaged == 2
        gallery.add([items[4], items[9]])
        same(gallery, items)


def test_what_is_damaged_is_counted_saved_and_discarded(folder, capsys):
    items = make_items(600)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
        gallery.delete(Filter(ids=(items[0].record.id,)))
    assert main(["gallery", "check", str(folder)]) == 0
    assert capsys.readouterr().out == "599 pictures, all as they were written\n"
    path = folder / "gallery.sqlite"
    data = bytearray(path.read_bytes())
    data[data.index(items[9].vector.tobytes())] ^= 1
    path.write_bytes(data)
    assert main(["gallery", "check", str(folder)]) == 2
    assert re.search("598 pictures of .*, 1 damaged and set aside", capsys.readouterr().err)
    assert main(["gallery", "check", str(folder), "--discard"]) == 0
    assert capsys.readouterr().out == "1 damaged picture removed\n598 pictures, all as they were written\n"

    page = 8192
    data = bytearray(path.read_bytes())
    place = data.index(items[300].record.path.encode()) // page * page
    data[place : place + page] = os.urandom(page)
    path.write_bytes(data)
    shutil.rmtree(files_of(folder)[0].parent)
    with Gallery.open(folder) as gallery:
        saved = len(list(gallery.records()))
        assert 500 < saved < 598
        assert len(gallery) + gallery.damaged == 598
        assert [m.record.id for m in gallery.search(items[500].vector, k=1).matches] == [items[500].record.id]
    assert main(["gallery", "check", str(folder)]) == 2
    assert "regard gallery check --repair" in capsys.readouterr().err
    assert main(["gallery", "check", str(folder), "--repair"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{saved} pictures saved, {598 - saved} pictures could not be; the damaged database is")
    assert out.endswith(f"{saved} pictures, all as they were written\n")
    gone = {items[0].record.id, items[9].record.id}
    with Gallery.open(folder) as gallery:
        records = {record.id: record for record in gallery.records()}
        assert len(records) == saved
        assert all(records[i.record.id] == i.record for i in items if i.record.id in records)
        assert not gone & records.keys()
        assert gallery.meta["model"] == MODEL
    with pytest.raises(StorageError, match="move it away"):
        repair(folder)


def test_a_store_that_is_none_is_named(folder, tmp_path):
    Gallery.create(folder, DIM, MODEL).close()
    path = folder / "gallery.sqlite"
    good = path.read_bytes()
    for data in (
        b"",
        b"no database at all" * 50,
        good[:1000],
        good.replace(b"CREATE TABLE aside", b"CREATE TABLE asine"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"gallery.sqlite .*restore it from a backup"):
            Gallery.open(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StorageError, match="no regular file"):
        Gallery.open(folder)
    path.unlink()
    path.write_bytes(good[:60] + (99).to_bytes(4, "big") + good[64:])
    with pytest.raises(DataError, match="of a later regard"):
        Gallery.open(folder)


def test_a_folder_that_can_only_be_read_is_searched(folder, monkeypatch):
    items = make_items(20)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
    connect = sqlite3.connect

    def refuse(address, **options):
        if "immutable" not in address:
            raise refusal
        return connect(address, **options)

    refusal = sqlite3.OperationalError("attempt to write a readonly database")
    refusal.sqlite_errorcode = sqlite3.SQLITE_READONLY
    monkeypatch.setattr(sqlite3, "connect", refuse)
    with Gallery.open(folder) as gallery:
        same(gallery, items)
        with pytest.raises(StorageError, match="can only be read"):
            gallery.add(make_items(1, start=90))


def test_a_disk_that_is_nearly_full_takes_nothing(gallery, monkeypatch):
    items = make_items(20)
    gallery.add(items[:10])
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(StorageError, match="nearly full; nothing was added"):
        gallery.add(items[10:])
    same(gallery, items[:10])


def test_an_addition_that_fails_takes_nothing(gallery, monkeypatch):
    items = make_items(20)
    gallery.add(items[:10])

    def fail(*what):
        append(*what)
        raise OSError("no space")

    append = Table.append
    with monkeypatch.context() as patch:
        patch.setattr(Table, "append", fail)
        with pytest.raises(StorageError, match="nothing was changed"):
            gallery.add(items[5:])
    same(gallery, items[:10])
    gallery.add(items[10:])
    same(gallery, items)


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


@pytest.mark.parametrize("where", ["Table.clean", "Store.wipe", "Column.blank"])
def test_killed_while_deleting_deletes_all_or_nothing(folder, where):
    items = make_items(60)
    gone = [item for item in items if item.record.camera == "1"]
    with Gallery.create(folder, DIM, MODEL) as gallery:
        for start in range(0, 60, 10):
            gallery.add(items[start : start + 10])
    code = f"""
    import os, signal
    from regard.gallery.column import Column
    from regard.gallery.columns import Table
    from regard.gallery.store import Store
    {where} = lambda *what: os.kill(os.getpid(), signal.SIGKILL)
    gallery.delete(Filter(cameras=("1",)))
    """
    with child(folder, code) as deleting:
        assert deleting.wait() == -signal.SIGKILL
    with Gallery.open(folder) as gallery:
        same(gallery, [item for item in items if item not in gone])
        for item in gone:
            assert bytes_in(folder, item.vector.tobytes()) == bytes_in(folder, item.record.path.encode()) == []


def test_a_gallery_that_is_mostly_blank_gives_its_room_back(folder, monkeypatch):
    monkeypatch.setattr("regard.gallery.mirror.WASTE", 10)
    items = make_items(1000)
    with Gallery.create(folder, DIM, MODEL) as gallery, Gallery.open(folder) as other:
        gallery.add(items)
        same(other, items)
        gallery._engine._store.wipe()
        before = (folder / "gallery.sqlite").stat().st_size
        gallery.delete(Filter(persons=tuple(str(n) for n in range(9))))
        assert (folder / "gallery.sqlite").stat().st_size < before / 2
        left = [item for item in items if int(item.record.person) >= 9]
        same(gallery, left)
        same(other, left)
        other.add(items[:20])
        same(gallery, list({item.record.id: item for item in [*left, *items[:20]]}.values()))


@pytest.mark.parametrize("promised", [False, True])
def test_a_gallery_of_an_earlier_version_is_converted(folder, promised):
    """Arrow files, the later replacing rows of the earlier; one written twice; a deletion that was promised."""
    items = make_items(40)
    twin = Item(items[3].record, items[5].vector, b"newer")
    (folder / "parts").mkdir(parents=True)
    for number, some in ((1, items[:25]), (2, [*items[:2], *items[25:]]), (2, items[25:]), (3, [twin])):
        write_part(folder, number, some)
    gone = [items[3].record.id, items[20].record.id] if promised else []
    if promised:
        (folder / "parts" / "deleting.json").write_text(json.dumps(gone))
    about = {"format": "regard-gallery-1", "dim": DIM, "model": MODEL, "created": "2026-01-01", "index": None}
    (folder / "gallery.json").write_text(json.dumps(about))
    (folder / "audit.jsonl").write_text("")
    wanted = [twin if item is items[3] else item for item in items if item.record.id not in gone]
    for _ in range(2):
        with Gallery.open(folder) as gallery:
            same(gallery, wanted)
            assert gallery.meta == about
    assert {path.name for path in folder.iterdir()} == {"gallery.sqlite", "index-1", "audit.jsonl"}


def earlier(folder: Path, parts: list[list[Item]]) -> None:
    """A gallery as earlier versions left it."""
    (folder / "parts").mkdir(parents=True)
    for number, items in enumerate(parts, 1):
        write_part(folder, number, items)
    about = {"format": "regard-gallery-1", "dim": DIM, "model": MODEL, "created": "2026-01-01", "index": None}
    (folder / "gallery.json").write_text(json.dumps(about))


def test_a_conversion_that_is_killed_is_finished(folder, monkeypatch):
    items = make_items(30)
    earlier(folder, [items])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *what: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Gallery.open(folder)
    assert (folder / "parts").exists()
    with Gallery.open(folder) as gallery:
        same(gallery, items)
        assert sorted(path.name for path in folder.iterdir() if "sqlite-" not in path.name) == [
            "gallery.sqlite",
            "index-1",
        ]


def test_a_damaged_part_of_an_earlier_gallery_is_kept_aside(folder, capsys):
    items = make_items(30)
    earlier(folder, [items[:10], items[10:20], items[20:]])
    (part,) = (folder / "parts").glob("00000002-*")
    part.write_bytes(part.read_bytes()[:-50])
    with Gallery.open(folder) as gallery:
        same(gallery, items[:10] + items[20:])
    assert f"{part.name} is damaged" in capsys.readouterr().err
    assert (folder / "damaged" / part.name).exists()


def test_who_opens_while_another_converts_waits(folder):
    items = make_items(30)
    earlier(folder, [items[:10], items[10:]])
    code = """
    print(len(gallery), flush=True)
    """
    with child(folder, code) as first, child(folder, code) as second:
        assert [each.communicate()[0] for each in (first, second)] == ["30\n", "30\n"]


@pytest.mark.parametrize("said", ["", "1"])
def test_one_that_has_not_yet_said_that_it_converts_is_waited_for(folder, said, monkeypatch):
    """Taking the file and writing into it are two steps: between them it is empty, or has what another left."""
    monkeypatch.setattr("regard.gallery.segments.SILENCE", 60.0)  # on however busy a machine
    items = make_items(30)
    earlier(folder, [items])
    (folder / "lock").write_text(said)
    with (folder / "lock").open("r+") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opened = pool.submit(Gallery.open, folder)
        with pytest.raises(TimeoutError):
            opened.result(0.3)
        lock.write("2 converts")
        lock.flush()
        with pytest.raises(TimeoutError):
            opened.result(0.3)
        fcntl.flock(lock, fcntl.LOCK_UN)
        with opened.result() as gallery:
            same(gallery, items)


def test_a_gallery_that_an_earlier_version_has_open_is_left_alone(folder, monkeypatch):
    monkeypatch.setattr("regard.gallery.segments.SILENCE", 0.1)
    earlier(folder, [make_items(3)])
    (folder / "lock").write_text("4711\n")
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="in use by process 4711 of an earlier regard; end it first"):
            Gallery.open(folder)
    assert (folder / "parts").exists()
    assert not (folder / "gallery.sqlite").exists()


def test_what_was_never_counted_is_removed(folder, monkeypatch):
    """Rows of an addition that was refused, or whose process was killed, files of an index, a folder made anew."""
    items = make_items(60)
    secret = items[41]
    traces = [secret.vector.tobytes(), secret.record.track.encode(), bytes.fromhex(secret.record.id.replace("-", ""))]
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items[:5])
        with monkeypatch.context() as patch:
            patch.setattr(Store, "set_state", lambda *what: (_ for _ in ()).throw(OSError(28, "No space left")))
            with pytest.raises(StorageError, match="nothing was changed"):
                gallery.add(items[5:])
        assert not any(bytes_in(folder, trace) for trace in traces)
    code = """
    import os, signal
    from regard.gallery.store import Store
    Store.set_state = lambda *what: os.kill(os.getpid(), signal.SIGKILL)
    gallery.add(make_items(60)[5:])
    """
    with child(folder, code) as adding:
        assert adding.wait() == -signal.SIGKILL
    assert bytes_in(folder, traces[0])
    (files_of(folder)[0].parent / "short7_codes").write_bytes(traces[0])
    (folder / "index-9").mkdir()
    (folder / "index-9" / "vectors").write_bytes(traces[0])
    with Gallery.open(folder) as gallery:
        assert not any(bytes_in(folder, trace) for trace in traces)
        same(gallery, items[:5])


def test_a_file_that_is_cut_while_it_is_open_is_made_anew(folder):
    items = make_items(3000)
    with Gallery.create(folder, DIM, MODEL) as gallery:
        gallery.add(items)
        same(gallery, items)
        for name in ("vectors", "codes", "numbers"):
            path = next(path for path in files_of(folder) if path.name == name)
            os.truncate(path, 0)
            same(gallery, items)
        assert not gallery.check().remade
        path = next(path for path in files_of(folder) if path.name == "bounds")
        path.write_bytes(bytes(path.stat().st_size))
        assert gallery.check().remade
        same(gallery, items)


def test_what_is_stored_anew_meanwhile_is_not_removed(gallery, folder):
    items = make_items(20)
    gallery.add(items)
    old = next(item for item in items if item.record.time == 1010)
    newer = Item(replace(old.record, time=9e9, camera="new"), items[5].vector, b"newer")
    delete = gallery._engine.delete

    def later(ids, still):
        with Gallery.open(folder) as other:
            other.add([newer])
        return delete(ids, still)

    gallery._engine.delete = later
    gone = gallery.purge(before=1100)
    assert gone == sum(item.record.time is not None and item.record.time < 1100 for item in items) - 1
    assert gallery.get([old.record.id])[0].record == newer.record


def write_part(folder: Path, number: int, items: list[Item]) -> None:
    """A part as earlier versions wrote them."""
    table, sink = to_table(items, DIM), pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    (folder / "parts" / f"{number:08d}-{hashlib.sha256(data).hexdigest()[:16]}.arrow").write_bytes(data)


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
    assert "refused: " in out
    assert "nothing was changed" in out
    with Gallery.open(folder) as gallery:
        same(gallery, items)
