"""Engines: the same ranking whatever computes, the cache in the run's folder, and what a gallery accepts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from exportable import seasoned

from regard.cli.main import main
from regard.data.image import read_image
from regard.errors import CheckpointError, ConfigError, StorageError, UnknownNameError
from regard.export import exporting as make
from regard.export import open_engine, opening
from regard.export.manifest import card_file, read_export
from regard.export.parity import made_pictures
from regard.fingerprint import values_digest
from regard.gallery import Embedder, Gallery

NAMES = ("torch", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def photos(market) -> Path:
    return market / "bounding_box_test"


@pytest.fixture(scope="module")
def crops(photos) -> list[np.ndarray]:
    return [read_image(path) for path in sorted(photos.iterdir())]


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_gives_the_networks_descriptors(market_run, name):
    pictures = made_pictures(64, 32, 9)
    engine = open_engine(market_run, name)
    assert (engine.name, engine.precision, engine.dim) == (name, "fp32", 96)
    model, _ = make.describe(market_run)
    wanted = make.reference(model, pictures)
    mirrored = make.reference(model, pictures[:, :, ::-1].copy())
    scale = np.abs(wanted).max()
    assert np.abs(engine.embed(pictures) - wanted).max() < 1e-4 * scale
    assert np.abs(engine.embed(pictures, flip=True) - (wanted + mirrored) / 2).max() < 1e-4 * scale
    assert engine.embed(pictures[:0]).shape == (0, 96)
    assert engine.embed(pictures).dtype == np.float32


def test_a_model_in_memory_has_engines_too():
    model = seasoned("baseline", (64, 32))
    found = [open_engine(model, name, size=(64, 32)) for name in NAMES]
    pictures = made_pictures(64, 32, 4)
    assert len({engine.fingerprint for engine in found}) == 1
    for engine in found[1:]:
        np.testing.assert_allclose(engine.embed(pictures), found[0].embed(pictures), rtol=0, atol=1e-3)
    other = open_engine(seasoned("baseline", (64, 32), seed=1), "torch", size=(64, 32))
    assert other.fingerprint != found[0].fingerprint


def test_reduced_precision_is_close_and_another_number(market_run):
    exact, rough = open_engine(market_run, "torch"), open_engine(market_run, "torch", "bf16")
    assert rough.fingerprint != exact.fingerprint
    a, b = (engine.embed(made_pictures(64, 32)) for engine in (exact, rough))
    assert not np.array_equal(a, b)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.min() > 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("openvin",), "unknown engine 'openvin', did you mean 'openvino'?"),
        (("torch", "fp8"), "unknown precision 'fp8'"),
        (("torch", "int8"), "the engine torch has no int8"),
        (("onnxruntime", "bf16"), "onnxruntime has no bf16"),
        (("onnxruntime", "int8"), "there is no int8 export"),
    ],
)
def test_what_cannot_be_had(fresh_run, arguments, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        open_engine(fresh_run, *arguments)
    assert issubclass(UnknownNameError, ConfigError)


@pytest.mark.parametrize("pictures", [np.zeros((2, 32, 64, 3), np.uint8), np.zeros((2, 64, 32, 3), np.float32)])
def test_pictures_of_another_size_or_type(market_run, pictures):
    with pytest.raises(ConfigError, match="the network takes \\(B, 64, 32, 3\\) uint8"):
        open_engine(market_run, "onnxruntime").embed(pictures)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_an_engine_that_is_not_installed(market_run, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'regard\[export\]'"):
        open_engine(market_run, name)


def test_auto_takes_the_fastest_that_is_installed(market_run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_engine(market_run).name == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert open_engine(market_run).name == "onnxruntime"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert open_engine(market_run).name == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert opening.fastest_engine() == "torch"


def test_an_export_is_made_once_and_again_for_other_weights(fresh_run):
    open_engine(fresh_run, "onnxruntime")
    (path,) = (fresh_run / "exports").glob("*.onnx")
    made = path.stat().st_mtime_ns
    open_engine(fresh_run, "openvino")
    open_engine(fresh_run / "final", "onnxruntime")
    assert path.stat().st_mtime_ns == made
    seasoned("baseline", (64, 32), seed=3).save(fresh_run / "final")
    open_engine(fresh_run, "onnxruntime")
    assert len(list((fresh_run / "exports").glob("*.onnx"))) == 2
    assert path.stat().st_mtime_ns == made


def test_an_export_whose_json_is_of_something_else_is_made_anew(fresh_run):
    path = make.export_run(fresh_run, "onnx").files[0]
    place = card_file(path)
    place.write_text(place.read_text().replace('"interpolation": "bilinear"', '"interpolation": "bicubic"'))
    assert make.find_export(fresh_run, None, "fp32") is None
    open_engine(fresh_run, "onnxruntime")
    assert make.find_export(fresh_run, None, "fp32") == path


@pytest.mark.parametrize(
    ("to", "endings"), [("onnx", [".onnx"]), ("openvino", [".xml", ".bin"]), ("torch-export", [".pt2"])]
)
def test_a_file_that_is_not_the_exported_one_is_refused(fresh_run, tmp_path, to, endings):
    path = make.export_run(fresh_run, to).files[0]
    for ending in endings:
        file = path.with_suffix(ending)
        whole = file.read_bytes()
        file.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
        with pytest.raises(CheckpointError, match=rf"{re.escape(str(file))} is not the file that .* export it again"):
            read_export(path)
        if to != "torch-export":
            with pytest.raises(CheckpointError, match="damaged or was swapped"):
                open_engine(path)
        if to == "onnx":
            assert make.find_export(fresh_run, None, "fp32") is None
            open_engine(fresh_run, "onnxruntime")
            assert make.find_export(fresh_run, None, "fp32") == path
        file.write_bytes(whole)
        assert read_export(path)[1] == tuple(path.with_suffix(each).read_bytes() for each in endings)
    place = card_file(path)
    content = json.loads(place.read_text())
    place.write_text(json.dumps(content | {"color": "BGR"}))
    with pytest.raises(CheckpointError, match="not as it was written"):
        read_export(path)
    del content["files"]
    place.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="an earlier version wrote it, without a digest"):
        read_export(path)


def test_a_folder_that_is_only_read_will_do(fresh_run, monkeypatch):
    def refuses(files):
        raise StorageError("read-only")

    monkeypatch.setattr(make, "write_together", refuses)
    assert open_engine(fresh_run, "onnxruntime").embed(made_pictures(64, 32, 2)).shape == (2, 96)
    assert not (fresh_run / "exports").exists()


def test_files_are_opened_as_what_they_are(market_run, tmp_path):
    onnx = make.export_run(market_run, "onnx", tmp_path / "net.onnx").files[0]
    xml = make.export_run(market_run, "openvino", tmp_path / "net.xml").files[0]
    pt2 = make.export_run(market_run, "torch-export", tmp_path / "net.pt2").files[0]
    assert [open_engine(onnx, name).name for name in ("auto", "onnxruntime")] == ["openvino", "onnxruntime"]
    assert open_engine(xml).name == "openvino"
    with pytest.raises(ConfigError, match="onnxruntime does not read"):
        open_engine(xml, "onnxruntime")
    with pytest.raises(ConfigError, match="can run code that is in the file"):
        open_engine(pt2)
    with pytest.raises(ConfigError, match="there is no"):
        open_engine(tmp_path / "other.onnx")
    onnx.write_bytes(onnx.read_bytes()[:1000])
    for name in ("openvino", "onnxruntime"):
        with pytest.raises(CheckpointError, match="damaged or was swapped; export it again"):
            open_engine(onnx, name)
    card_file(xml).unlink()
    with pytest.raises(CheckpointError, match="keep the two together"):
        open_engine(xml)


def test_a_compiler_that_does_not_work_is_done_without(market_run, monkeypatch):
    def broken(module, **_):
        def call(images):
            raise RuntimeError("no C++ compiler\nand much more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    engine = open_engine(market_run, "torch", compile=True)
    assert "torch.compile does not work here (no C++ compiler" in engine.note
    pictures = made_pictures(64, 32, 2)
    np.testing.assert_array_equal(engine.embed(pictures), open_engine(market_run, "torch").embed(pictures))


def test_nothing_heavy_is_imported_before_it_is_used():
    code = (
        "import sys, regard.export.opening, regard.gallery.embedder, regard.cli.export_verb\n"
        "print(*sorted({'onnx', 'onnxscript', 'onnxruntime', 'openvino', 'lightning_fabric'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_descriptor_depends_on_its_picture_alone(market_run, crops, name):
    embedder = Embedder(market_run, batch_size=8, device="cpu", engine=name)
    together = embedder.embed(crops)
    assert np.array_equal(together, embedder.embed(crops[::-1])[::-1])
    assert np.array_equal(together[:3], np.concatenate([embedder.embed([crop]) for crop in crops[:3]]))


def neighbors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of a Parquet file, and the order of all pictures seen from each."""
    vectors = np.stack(pq.read_table(path)["vector"].to_numpy(zero_copy_only=False))
    return vectors, np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")


def test_embed_ranks_alike_with_every_engine(market_run, photos, tmp_path, capsys):
    found = {}
    for name in ("auto", *NAMES):
        out = tmp_path / f"{name}.parquet"
        assert main(["embed", str(photos), "--model", str(market_run), "-o", str(out), "--engine", name]) == 0
        assert "computing with" in capsys.readouterr().out
        found[name] = neighbors(out)
    for vectors, order in found.values():
        np.testing.assert_allclose(vectors, found["torch"][0], rtol=0, atol=1e-5)
        assert np.array_equal(order, found["torch"][1])
    assert "openvino in fp32" not in capsys.readouterr().out


def test_galleries_take_any_engine_in_fp32_and_remember_it(market_run, photos, tmp_path, capsys):
    where = str(tmp_path / "people")
    command = ["embed", str(photos), "--model", str(market_run), "-o", where, "-q"]
    assert main([*command, "--engine", "onnxruntime"]) == 0
    with Gallery.open(where) as gallery:
        assert gallery.meta["model"]["engine"] == "onnxruntime"
        assert gallery.meta["model"]["precision"] == "fp32"
        Embedder(market_run, device="cpu").check_fits(gallery)
        asking = Embedder.like(gallery.meta["model"])
        assert asking.engine is not None
        assert asking.engine.name == "onnxruntime"
        asking.check_fits(gallery)
    assert main([*command, "--engine", "torch"]) == 0
    assert main([*command, "--engine", "torch", "--precision", "bf16"]) == 2
    assert "embedded by another model" in capsys.readouterr().err
    photo = str(sorted(photos.iterdir())[0])
    assert main(["search", photo, "--gallery", where, "-k", "1"]) == 0
    assert "1.0000" in capsys.readouterr().out


def test_galleries_in_bf16_are_asked_in_bf16_by_the_same_engine(market_run, photos, tmp_path, capsys):
    where = str(tmp_path / "people")
    command = ["embed", str(photos), "--model", str(market_run), "-o", where, "-q"]
    assert main([*command, "--engine", "torch", "--precision", "bf16"]) == 0
    with Gallery.open(where) as gallery:
        asking = Embedder.like(gallery.meta["model"])
        assert asking.engine is not None
        assert (asking.engine.name, asking.engine.precision) == ("torch", "bf16")
        asking.check_fits(gallery)
        with pytest.raises(ConfigError, match="in bf16 by torch"):
            Embedder(market_run, device="cpu").check_fits(gallery)
    photo = str(sorted(photos.iterdir())[0])
    assert main(["search", photo, "--gallery", where, "-k", "1"]) == 0
    assert "1.0000" in capsys.readouterr().out


LOADED = """
import sys
from regard.cli.main import main
assert not main(["search", sys.argv[1], "--gallery", sys.argv[2], "-k", "1"])
print(*sorted({"torch", "timm", "scipy", "pyarrow", "matplotlib", "pydantic"} & {*sys.modules}))
"""


@pytest.mark.slow
def test_a_photo_is_searched_for_without_torch_where_an_export_is_kept(fresh_run, photos, tmp_path, crops):
    where, photo = str(tmp_path / "people"), str(sorted(photos.iterdir())[0])
    assert main(["embed", str(photos), "--model", str(fresh_run), "-o", where, "-q", "--engine", "torch"]) == 0
    network = Embedder(fresh_run, device="cpu")
    asking = Embedder.like(network.describe())
    assert asking.engine is None
    assert "no export of it is kept (regard export" in asking.note
    open_engine(fresh_run, "onnxruntime")
    done = subprocess.run([sys.executable, "-c", LOADED, photo, where], check=True, capture_output=True, text=True)
    assert "1.0000" in done.stdout
    assert done.stdout.splitlines()[-1] == ""
    asking = Embedder.like(network.describe())
    assert asking.engine is not None
    assert asking.note == ""
    assert asking.describe()["fingerprint"] == network.describe()["fingerprint"]
    assert (asking.embed(crops) * network.embed(crops)).sum(1).min() > 0.99999
    assert np.array_equal(asking.embed(crops)[3:4], asking.embed(crops[3:4]))
    assert np.array_equal(asking.model.embed_pictures(crops[:1]), network.model.embed_pictures(crops[:1]))
    last = Embedder.like(network.describe())
    seasoned("baseline", (64, 32), seed=7).save(fresh_run / "final")
    other = Embedder.like(network.describe())
    assert other.engine is None, "its export is of other weights"
    with pytest.raises(ConfigError, match="was replaced meanwhile"):
        print(last.model)


def test_an_export_that_does_not_fit_is_not_asked(fresh_run, monkeypatch):
    made_by = Embedder(fresh_run, device="cpu").describe()
    open_engine(fresh_run, "onnxruntime")
    (path,) = (fresh_run / "exports").glob("*.onnx")
    assert Embedder.like({**made_by, "height": 32}).engine is None
    card = card_file(path).read_text()
    for change in ({"dispensable": None}, {"dispensable": ["neck"]}, {"interpolation": "bicubic"}):
        content = {**json.loads(card), **change}
        card_file(path).write_text(json.dumps(content | {"digest": values_digest(content)}))
        assert Embedder.like(made_by).engine is None
    card_file(path).write_text(card)
    assert Embedder.like(made_by).engine is not None
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "it is damaged or was swapped" in Embedder.like(made_by).note
    monkeypatch.setitem(sys.modules, "regard.models.build", None)  # as where torch is not installed
    with pytest.raises(ConfigError, match=r"not installed here: .*was swapped.*; install regard with all"):
        Embedder.like(made_by)


def test_galleries_of_before_engines_still_fit(market_run, tmp_path):
    embedder = Embedder(market_run, device="cpu")
    made_by = {k: v for k, v in embedder.describe().items() if k not in ("engine", "precision")}
    with Gallery.create(tmp_path / "old", embedder.dim, made_by) as gallery:
        Embedder.like(gallery.meta["model"]).check_fits(gallery)


def test_auto_does_without_an_export_where_none_can_be_made(fresh_run, monkeypatch, crops):
    def cannot(*_):
        raise ConfigError("this network cannot be made a graph")

    monkeypatch.setattr(make, "trace", cannot)
    embedder = Embedder(fresh_run, device="cpu", engine="auto")
    assert embedder.note == "computing with the network as it is: this network cannot be made a graph"
    plain = Embedder(fresh_run, device="cpu")
    assert np.array_equal(embedder.embed(crops), plain.embed(crops))
    with pytest.raises(ConfigError, match="cannot be made a graph"):
        Embedder(fresh_run, device="cpu", engine="openvino")


def test_a_benchmark_says_what_is_fast_and_what_it_costs(market_run, tmp_path, monkeypatch, capsys):
    from regard.export import benchmark

    open_engine(market_run, "onnxruntime")
    monkeypatch.setattr(benchmark, "ENGINES", ("onnxruntime",))
    told = tmp_path / "bench.json"
    command = ["benchmark", str(market_run), "--batch", "1", "3", "--seconds", "0", "--json", str(told), "--quiet"]
    assert main(command) == 0
    said = capsys.readouterr().out
    found = json.loads(told.read_text())
    rows = [row for row in found["rows"] if row["precision"] == "fp32"]
    assert [row["batch"] for row in rows] == [1, 3]
    for row in rows:
        assert row["per_s"] == pytest.approx(row["batch"] / row["median_ms"] * 1e3)
        assert row["median_ms"] <= row["p95_ms"]
        assert row["cosine"] > 0.9999999
        assert 0 < row["mAP"] <= 1
    assert "onnxruntime fp32" not in found["left_out"]
    assert "has no bf16" in found["left_out"]["onnxruntime bf16"]
    assert "not timed: onnxruntime bf16" in said
    with pytest.raises(ConfigError, match="seconds is inf"):
        benchmark.run_benchmark(market_run, seconds=float("inf"))
