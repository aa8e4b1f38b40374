"""Embedding at scale: resumed, listed, the same from one process or two."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
from PIL import Image
from sample_images import SIZE, paint

from regard.data.image import decode_image as decode
from regard.errors import ConfigError, DataError
from regard.gallery import Embedder, Filter, Gallery
from regard.gallery.ingest import Ranks, embed_sources
from regard.gallery.inputs import list_sources
from regard.gallery.origins import OFFSET, TAKEN, time_zone
from regard.gallery.record import record_id
from regard.gallery.thumbnails import thumbnail
from regard.models import load
from regard.recipes import read_recipe
from warm import python


def vectors(path) -> dict[str, np.ndarray]:
    return {row["path"]: np.array(row["vector"], np.float32) for row in pq.read_table(path).to_pylist()}


@pytest.fixture(scope="module")
def reference(embedder, photos, tmp_path_factory):
    """The plain way: one picture after the other."""
    sources = list_sources([photos])
    return {s.path: embedder.embed([decode(s.read(), s.path)])[0] for s in sources}


def test_a_descriptor_depends_on_its_picture_alone(embedder, photos, reference):
    sources = list_sources([photos])
    pictures = [decode(source.read(), source.path) for source in sources]
    for order in (np.arange(len(sources)), np.random.default_rng(0).permutation(len(sources))):
        together = embedder.embed([pictures[i] for i in order])
        for row, i in zip(together, order):
            assert np.array_equal(row, reference[sources[i].path])


def test_into_a_file_in_the_order_of_the_sources(embedder, photos, tmp_path, reference):
    sources = list_sources([photos])
    report = embed_sources(sources, embedder, tmp_path / "d.parquet", chunk=7)
    assert (report.added, report.known, report.unreadable) == (36, 0, {})
    table = pq.read_table(tmp_path / "d.parquet")
    assert table["path"].to_pylist() == [source.path for source in sources]
    assert set(table["camera"].to_pylist()) == {"1", "2"}
    assert all(np.array_equal(v, reference[path]) for path, v in vectors(tmp_path / "d.parquet").items())
    assert json.loads(table.schema.metadata[b"regard.model"])["fingerprint"] == embedder.describe()["fingerprint"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.parquet"]


def test_into_a_gallery_and_again(embedder, photos, tmp_path, reference):
    sources = list_sources([photos])
    seen = []
    assert embed_sources(sources[:20], embedder, tmp_path / "g").added == 20
    report = embed_sources(sources, embedder, tmp_path / "g", chunk=5, progress=lambda *p: seen.append(p))
    assert (report.added, report.known) == (16, 20)
    assert seen[0] == (25, 36)
    assert seen[-1] == (36, 36)
    with Gallery.open(tmp_path / "g") as gallery:
        assert {r.path for r in gallery.records()} == set(reference)
        for record in gallery.records():
            assert np.allclose(gallery.get([record.id])[0].vector, reference[record.path], atol=1e-7)
            assert decode(gallery.thumbnail(record.id), "x").shape == (48, 24, 3)


def test_unreadable_pictures_are_left_out_and_listed(embedder, tmp_path):
    paint(tmp_path / "p" / "good.jpg", 1, 1, 0)
    (tmp_path / "p" / "empty.jpg").write_bytes(b"")
    (tmp_path / "p" / "text.png").write_text("no picture")
    (tmp_path / "p" / "cut.jpg").write_bytes((tmp_path / "p" / "good.jpg").read_bytes()[:200])
    report = embed_sources(list_sources([tmp_path / "p"]), embedder, tmp_path / "d.parquet")
    assert report.added == 1
    assert sorted(path.rsplit("/")[-1] for path in report.unreadable) == ["cut.jpg", "empty.jpg", "text.png"]
    assert str(report) == "1 embedded, 3 unreadable"


def test_nothing_but_unreadable_pictures(embedder, tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    report = embed_sources(list_sources([tmp_path / "x.jpg"]), embedder, tmp_path / "d.parquet")
    assert report.added == 0
    assert len(pq.read_table(tmp_path / "d.parquet")) == 0


def test_a_stopped_job_goes_on(embedder, photos, tmp_path, reference, monkeypatch):
    sources = list_sources([photos])
    whole = tmp_path / "whole.parquet"
    embed_sources(sources, embedder, whole, chunk=36)

    def stop(done, total):
        if done >= 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_sources(sources, embedder, tmp_path / "d.parquet", chunk=7, progress=stop)
    assert not (tmp_path / "d.parquet").exists()
    report = embed_sources(sources, embedder, tmp_path / "d.parquet", chunk=5)
    assert (report.added, report.known) == (22, 14)
    assert (tmp_path / "d.parquet").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("output", ["gallery", "d.parquet"])
def test_a_picture_whose_content_changed_is_embedded_anew(embedder, tmp_path, monkeypatch, output):
    """Overwritten in place with size and time kept; copied over itself; stopped and gone on with."""
    folder, out = tmp_path / "p", tmp_path / output
    for number in range(6):
        paint(folder / f"{number}.png", number, 1, 0)
    sources = list_sources([folder])
    if output.endswith(".parquet"):  # only an unfinished file knows what is in it

        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            embed_sources(sources, embedder, out, progress=stop)
    else:
        assert str(embed_sources(sources, embedder, out)) == "6 embedded"
    first, second, third = (folder / f"{number}.png" for number in range(3))
    before = first.stat()
    content = paint(tmp_path / "other.png", 9, 2, 1).read_bytes().ljust(before.st_size, b"\0")
    first.write_bytes(content[: before.st_size] if len(content) > before.st_size else content)
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(second, ns=(1, 1))
    third.write_bytes(b"no picture any more")
    report = embed_sources(sources, embedder, out)
    assert (report.added, report.replaced, report.known) == (0, 1, 4)
    assert str(report) == "1 embedded (0 new, 1 replaced), 4 unchanged, 1 unreadable"
    right = {
        source.path: embedder.embed([decode(source.read(), "")])[0] for source in sources if "2.png" not in source.path
    }
    if output.endswith(".parquet"):
        found = vectors(out)
        assert list(found) == list(right)
    else:
        assert "the gallery keeps the picture that was there before" in report.unreadable[third.absolute().as_posix()]
        with Gallery.open(out) as gallery:
            assert len(gallery) == 6
            found = {r.path: gallery.get([r.id])[0].vector for r in gallery.records() if r.path in right}
            assert decode(gallery.thumbnail(record_id(sources[0].path)), "").shape == (48, 24, 3)
        assert str(embed_sources(sources, embedder, out)) == "0 embedded (0 new, 0 replaced), 5 unchanged, 1 unreadable"
    assert all(np.allclose(found[path], vector, atol=1e-7) for path, vector in right.items())


def test_facts_given_later_update_what_is_stored(embedder, tmp_path):
    """What is news counts, by hand or from the sources; silence and repetition change nothing; pictures stay."""
    folder, out = tmp_path / "p", tmp_path / "g"
    files = [paint(folder / f"{number:04d}_c1s1_000000_00.jpg", number, 1, 0) for number in range(1, 4)]
    ids = [record_id(file.as_posix()) for file in files]

    def embed(**meta):
        told = {files[0].name: meta} if meta else None
        report = embed_sources(list_sources([folder], told), embedder, out)
        with Gallery.open(out) as gallery:
            record = gallery.get(ids[:1])[0].record
        return report.added + report.replaced, report.updated, record.camera, record.attributes.get("coat")

    assert embed() == (3, 0, "1", None)
    assert embed(camera="gate", coat="red") == (0, 1, "gate", "red")
    assert embed(camera="gate") == embed() == (0, 0, "gate", "red")  # the name still says 1: no news
    with Gallery.open(out) as gallery:
        before = gallery.get(ids)[0].vector, gallery.thumbnail(ids[0])
        assert gallery.update(Filter(ids=tuple(ids[:1])), {"camera": "9", "attributes": {"coat": "blue"}}) == 1
        assert gallery.name_person(Filter(ids=tuple(ids[1:])), "Ada") == 2
    assert embed(camera="gate", coat="red") == embed() == (0, 0, "9", "blue")  # corrected by hand
    assert embed(camera="door") == (0, 1, "door", "blue")
    assert embed(camera="gate") == (0, 1, "gate", "blue")
    with Gallery.open(out) as gallery:
        assert np.array_equal(gallery.get(ids)[0].vector, before[0])
        assert gallery.thumbnail(ids[0]) == before[1]
        assert gallery.values("person") == {"1": 1, "Ada": 2}
    paint(files[2], 7, 2, 1)  # another picture of that name
    report = embed_sources(list_sources([folder]), embedder, out)
    assert (report.replaced, report.updated) == (1, 0)
    assert report.sayings("UTC") == [
        "1 picture replaced with facts kept that were set before, by hand or by --meta: look whether they still hold"
    ]
    with Gallery.open(out) as gallery:
        assert gallery.get(ids[2:])[0].record.person == "Ada"
    bad = embed_sources(list_sources([folder], {files[0].name: {"time": "noon"}}), embedder, out)
    assert "got the time 'noon'" in bad.unreadable[files[0].as_posix()]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_pictures_and_facts_of_a_shard_change(embedder, photos, tmp_path, kind):
    """A member or a row of the same name with other bytes is embedded anew, others with other facts are updated."""
    pictures = [path.read_bytes() for path in sorted((photos / "camera1").iterdir())[::3][:3]]
    file, out = tmp_path / f"s.{kind}", tmp_path / "g"

    def write(contents, cameras):
        if kind == "parquet":
            pq.write_table(pa.table({"image": contents, "camera": cameras}), file)
            return
        with tarfile.open(file, "w") as shard:
            for number, (content, camera) in enumerate(zip(contents, cameras)):
                for name, data in (
                    (f"{number}.jpg", content),
                    (f"{number}.json", json.dumps({"camera": camera}).encode()),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    shard.addfile(info, io.BytesIO(data))

    write(pictures, ["a", "a", "a"])
    assert embed_sources(list_sources([file]), embedder, out).added == 3
    write([pictures[0], pictures[1], pictures[0]], ["a", "b", "c"])
    report = embed_sources(list_sources([file]), embedder, out)
    assert (report.added, report.replaced, report.known, report.updated) == (0, 1, 2, 1)
    with Gallery.open(out) as gallery:
        assert gallery.values("camera") == {"a": 1, "b": 1, "c": 1}
        first, last = sorted(gallery.records(), key=lambda record: record.path)[::2]
        assert first.digest == last.digest
        assert np.allclose(*(item.vector for item in gallery.get([first.id, last.id])), atol=1e-6)


def test_facts_given_later_reach_an_unfinished_file(embedder, photos, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    sources = list_sources([photos])[:4]
    with pytest.raises(KeyboardInterrupt):
        embed_sources(sources, embedder, tmp_path / "d.parquet", progress=stop)
    told = list_sources([photos], {sources[0].path: {"camera": "gate"}})[:4]
    assert embed_sources(told, embedder, tmp_path / "d.parquet").updated == 1
    assert pq.read_table(tmp_path / "d.parquet")["camera"].to_pylist() == ["gate", "1", "1", "1"]


def test_times_from_exif(embedder, tmp_path):
    """With their zone, else in the one that is given; what EXIF says is weaker than anything else."""
    folder = tmp_path / "p"
    for name, tags in {
        "zone": {TAKEN: "2026:05:01 08:30:00", OFFSET: "+02:00"},
        "none": {TAKEN: "2026:05:01 08:30:00"},
        "unset": {TAKEN: "0000:00:00 00:00:00"},
        "broken": {TAKEN: "yesterday"},
        "named": {TAKEN: "2026:05:01 08:30:00"},
    }.items():
        exif = Image.Exif()
        exif.get_ifd(0x8769).update(tags)
        with Image.open(paint(folder / f"{name}.png", 1, 1, 0)) as image:
            image.save(folder / f"{name}.jpg", exif=exif)
        (folder / f"{name}.png").unlink()
    told = {"named.jpg": {"time": "2020-01-01T00:00:00"}}
    wanted = {"zone": 1777617000.0, "none": 1777617000.0, "named": 1577829600.0, "unset": None, "broken": None}
    report = embed_sources(list_sources([folder], told, zone=time_zone("+02:00")), embedder, tmp_path / "g")
    assert report.sayings("+02:00") == [
        "1 picture whose EXIF names no zone: times were taken as +02:00 (--time-zone)",
        "without a time: 1 unreadable EXIF time",
    ]
    with Gallery.open(tmp_path / "g") as gallery:
        assert {Path(record.path).stem: record.time for record in gallery.records()} == wanted
    assert embed_sources(list_sources([folder], told), embedder, tmp_path / "g").updated == 2
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.count(Filter(since=1777617000.0 + 7199, until=1777617000.0 + 7201)) == 1


def test_blurred_heads_are_blurred_before_and_after(embedder, photos, tmp_path):
    """Once asked for, in every thumbnail of the gallery, also where it was interrupted or another program adds."""
    sources, out = list_sources([photos]), tmp_path / "g"
    embed_sources(sources[:3], embedder, out)
    with Gallery.open(out) as gallery:
        plain = {record.id: gallery.thumbnail(record.id) for record in gallery.records()}
    report = embed_sources(sources[:3], embedder, out, blur_heads=True)
    assert (report.known, report.sayings("UTC")) == (3, ["heads were blurred in 3 thumbnails"])
    report = embed_sources(sources[:6], embedder, out)
    assert report.sayings("UTC") == ["heads are blurred in this gallery, so they are in these thumbnails too"]
    with Gallery.open(out) as gallery:
        (item,) = gallery.get([next(iter(plain))])
        gallery.add([replace(item, thumbnail=plain[item.record.id])])
        for source in sources[:6]:
            sharp, soft = decode(source.read(), "x").astype(int), decode(gallery.thumbnail(source.id), "x").astype(int)
            assert soft[:6].std((0, 1)).mean() < 0.5 * sharp[:6].std((0, 1)).mean()
            assert abs(soft[20:] - sharp[20:]).mean() < 8
    with Gallery.open(out) as gallery, Gallery.open(out) as other:
        other._note(blur_heads="begun")
        gallery.meta = gallery.meta | {"blur_heads": None}  # as a process has it that was open before
        gallery._engine.add([replace(item, thumbnail=plain[item.record.id])])
        assert gallery.thumbnail(item.record.id) != plain[item.record.id]
    embed_sources(sources[:1], embedder, out)
    with Gallery.open(out) as gallery:
        assert gallery.meta["blur_heads"] == "done"
        assert gallery._engine.thumbnail(item.record.id) != plain[item.record.id]


def test_heads_are_blurred_in_what_comes_while_they_are(embedder, photos, tmp_path, monkeypatch):
    """Another process blurs them between an addition's look and its end, or while a thumbnail is read."""
    sources, out = list_sources([photos])[:2], tmp_path / "g"
    embed_sources(sources, embedder, out)
    with Gallery.open(out) as gallery, Gallery.open(out) as other:
        (item,), id = gallery.get([sources[0].id]), sources[0].id
        sharp, engine = gallery.thumbnail(id), gallery._engine
        late, read = replace(item.record, id=record_id("late"), path="late"), engine.thumbnail

        def read_late(id):
            small = read(id)
            other.blur_heads()
            return small

        add = engine.add
        with monkeypatch.context() as patch:
            patch.setattr(engine, "thumbnail", read_late)
            assert gallery.thumbnail(id) not in (sharp, b"")
        other._note(blur_heads=None)
        monkeypatch.setattr(engine, "add", lambda items: (other.blur_heads(), add(items)))
        gallery.add([replace(item, record=late, thumbnail=sharp)])
        assert read(late.id) not in (sharp, b"")


def test_a_gallery_made_without_thumbnails_never_has_any(embedder, photos, tmp_path):
    sources, out = list_sources([photos]), tmp_path / "g"
    assert embed_sources(sources[:2], embedder, out, thumbnails=False).sayings("UTC") == []
    report = embed_sources(sources[:3], embedder, out)
    assert report.sayings("UTC") == ["this gallery was made with --no-thumbnails, so it keeps none of these either"]
    with Gallery.open(out) as gallery:
        (item,) = gallery.get([sources[0].id])
        gallery.add([replace(item, thumbnail=thumbnail(decode(sources[0].read(), "x")))])
        assert [gallery.thumbnail(source.id) for source in sources[:3]] == [b"", b"", b""]


def test_what_an_earlier_version_embedded_is_embedded_once_more(embedder, photos, tmp_path):
    sources = list_sources([photos])[:3]
    embed_sources(sources, embedder, tmp_path / "g")
    with Gallery.open(tmp_path / "g") as gallery:
        items = [
            replace(item, record=replace(item.record, digest=None))
            for item in gallery.get([record_id(source.path) for source in sources])
        ]
        gallery.add(items)
    assert str(embed_sources(sources, embedder, tmp_path / "g")) == "3 embedded (0 new, 3 replaced), 0 unchanged"
    assert embed_sources(sources, embedder, tmp_path / "g").known == 3


def test_a_gallery_of_an_earlier_version_fits_while_its_weights_file_is_unchanged(embedder, model_folder, tmp_path):
    file = (model_folder / "model.safetensors").read_bytes()
    text = f"{hashlib.sha256(file).hexdigest()[:16]} {embedder._transform} {embedder.seen.flip}"
    old = embedder.describe() | {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16]}
    with Gallery.create(tmp_path / "g", embedder.dim, old) as gallery:
        embedder.check_fits(gallery)
        gallery.meta["model"]["fingerprint"] = "0" * 16
        with pytest.raises(ConfigError, match="another model"):
            embedder.check_fits(gallery)


def test_weights_saved_again_stay_the_galleries_model(embedder, model_folder, photos, tmp_path):
    embed_sources(list_sources([photos])[:2], embedder, tmp_path / "g")
    load(model_folder).strip().save(tmp_path / "again")
    tensors = safetensors.torch.load_file(tmp_path / "again" / "model.safetensors")
    safetensors.torch.save_file(tensors, tmp_path / "again" / "model.safetensors", {"saved": "again", "by": "somebody"})
    again = Embedder(tmp_path / "again", size=SIZE, batch_size=16, device="cpu")
    assert embed_sources(list_sources([photos])[:3], again, tmp_path / "g").known == 2


def test_a_damaged_part_is_said_so(embedder, photos, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_sources(list_sources([photos])[:4], embedder, tmp_path / "d.parquet", progress=stop)
    (part,) = (tmp_path / "d.parquet.parts").glob("*.parquet")
    content = bytearray(part.read_bytes())
    content[content.index(b"digest")] ^= 1
    part.write_bytes(content)
    with pytest.raises(DataError, match=r"00000000\.parquet is damaged .*; remove it"):
        embed_sources(list_sources([photos])[:4], embedder, tmp_path / "d.parquet")
    part.unlink()
    assert embed_sources(list_sources([photos])[:4], embedder, tmp_path / "d.parquet").added == 4


def test_two_processes_give_what_one_gives(embedder, model_folder, photos, tmp_path):
    sources = list_sources([photos])
    embed_sources(sources, embedder, tmp_path / "one.parquet", chunk=5)
    code = f"""
    import torch; torch.set_num_threads(1)
    from regard.gallery import Embedder
    from regard.gallery.ingest import embed_sources
    from regard.gallery.inputs import list_sources
    from regard.gallery.ingest import Ranks
    with Ranks() as ranks:
        embedder = Embedder({str(model_folder)!r}, size={SIZE}, batch_size=16, device="cpu")
        sources = list_sources([{str(photos)!r}])
        embed_sources(sources, embedder, {str(tmp_path / "two.parquet")!r}, chunk=5, ranks=ranks)
    """
    port = str(29500 + os.getpid() % 2000)
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen([python(), "-c", textwrap.dedent(code)], env={**environment, "RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_another_model_is_refused(embedder, model_folder, photos, tmp_path):
    sources = list_sources([photos])[:3]
    embed_sources(sources, embedder, tmp_path / "g")
    other = Embedder(model_folder, size=(32, 32), batch_size=16, device="cpu")
    with pytest.raises(ConfigError, match=r"embedded by another model .baseline at 64 x 32"):
        embed_sources(sources, other, tmp_path / "g")
    Gallery.open(tmp_path / "g").close()  # and the lock is free again
    assert other.describe()["fingerprint"] != embedder.describe()["fingerprint"]


def test_outputs_that_make_no_sense(embedder, tmp_path):
    with pytest.raises(ConfigError, match="cannot tell what"):
        embed_sources([], embedder, tmp_path / "out.npz")
    with pytest.raises(DataError, match="there is no gallery"):
        Gallery.open(tmp_path / "out")


def test_a_run_says_the_size_of_its_input(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "run" / "final")
    recipe = read_recipe("baseline_crowd").config(["data.height=80", "data.width=40"])
    (tmp_path / "run" / "config.yaml").write_text(recipe.to_yaml())
    for path in (tmp_path / "run", tmp_path / "run" / "final"):
        embedder = Embedder(path, device="cpu")
        assert (embedder.height, embedder.width) == (80, 40)
    assert (Embedder(model_folder, device="cpu").height, Embedder(model_folder, device="cpu").width) == (256, 128)


def test_one_process_alone_needs_no_group():
    with Ranks() as ranks:
        assert ranks.is_main
        assert ranks.to_all(b"x") == [b"x"]
