"""Embedding at scale: resumed, listed, the same from one process or two."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet as pq
import pytest
from painted import SIZE, paint

from regard.config import load_config, read_recipe
from regard.errors import ConfigError, DataError
from regard.search import Embedder, Gallery
from regard.search.ingest import embed_sources
from regard.search.inputs import list_sources
from regard.search.picture import decode
from regard.search.ranks import Ranks


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


def test_two_processes_give_what_one_gives(embedder, model_folder, photos, tmp_path):
    sources = list_sources([photos])
    embed_sources(sources, embedder, tmp_path / "one.parquet", chunk=5)
    code = f"""
    import torch; torch.set_num_threads(1)
    from regard.search import Embedder
    from regard.search.ingest import embed_sources
    from regard.search.inputs import list_sources
    from regard.search.ranks import Ranks
    with Ranks() as ranks:
        embedder = Embedder({str(model_folder)!r}, {SIZE}, batch_size=16, device="cpu")
        sources = list_sources([{str(photos)!r}])
        embed_sources(sources, embedder, {str(tmp_path / "two.parquet")!r}, chunk=5, ranks=ranks)
    """
    port = str(29500 + os.getpid() % 2000)
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env={**environment, "RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_another_model_is_refused(embedder, model_folder, photos, tmp_path):
    sources = list_sources([photos])[:3]
    embed_sources(sources, embedder, tmp_path / "g")
    other = Embedder(model_folder, (32, 32), batch_size=16, device="cpu")
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
    recipe = load_config(read_recipe("baseline_crowd"), ["data.height=80", "data.width=40"])
    (tmp_path / "run" / "config.yaml").write_text(recipe.to_yaml())
    for path in (tmp_path / "run", tmp_path / "run" / "final"):
        embedder = Embedder(path, device="cpu")
        assert (embedder.height, embedder.width) == (80, 40)
    assert (Embedder(model_folder, device="cpu").height, Embedder(model_folder, device="cpu").width) == (256, 128)


def test_one_process_alone_needs_no_group():
    with Ranks() as ranks:
        assert ranks.is_main
        assert ranks.to_all(b"x") == [b"x"]
