"""One picture, one embedding: whatever shows it to the network, and wherever the model's folder has been copied."""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

import regard
from regard.cli.main import main
from regard.data.image import read_image
from regard.errors import CheckpointError, ConfigError, DataError, RegardError
from regard.evaluation.run import Run, open_run
from regard.export import open_engine
from regard.export.exporting import export_run, exports_folder, resized
from regard.gallery.embedder import Embedder
from regard.gallery.gallery import Gallery
from regard.gallery.ingest import embed_sources
from regard.gallery.inputs import list_sources
from regard.gallery.record import record_id
from regard.models.folder import saved_input
from regard.models.importers import transreid_vit
from regard.models.importers.released import IMPORTERS
from regard.recipes import read_recipe
from regard.registry import MODELS
from regard.service.feedback import Marks
from regard.service.state import Searcher, ServiceState
from regard.structures import Sample, Splits

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("cli", "parity", "models", "export")]

import named_weights
import public_twins
import test_import
import test_import_mindspore
import timm
from exportable import seasoned

TINY = "test_resnet.r160_in1k"
TURNED = 6
"""EXIF orientation of a camera held sideways."""


@pytest.fixture
def picture(tmp_path) -> Path:
    """A turned JPEG: whoever forgets its orientation sees another picture."""
    pixels = np.random.default_rng(3).integers(0, 256, (5, 11, 3), np.uint8).repeat(9, 0).repeat(9, 1)
    exif = Image.Exif()
    exif[0x0112] = TURNED
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "0001_c1s1_000001_01.jpg"
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    return path


def by_evaluation(folder: Path, path: Path) -> np.ndarray:
    """As training and ``regard eval`` embed a query."""
    config = open_run(folder).config
    config = config.model_copy(update={"data": config.data.model_copy(update={"workers": 0})})
    sample = Sample(path, 1, 1)
    splits = Splits("market1501", path.parent, [], [sample], [sample])
    return Run.of(regard.load(folder), splits, config, quiet=True).features("query").embeddings[0]


def by_gallery(folder: Path, path: Path, place: Path) -> tuple[np.ndarray, np.ndarray]:
    """As ``regard embed`` stores it, and as the service embeds the upload."""
    embedder = Embedder(folder, batch_size=2, device="cpu")
    embed_sources(list_sources([path]), embedder, place / "gallery")
    with Gallery.open(place / "gallery") as gallery:
        (item,) = gallery.get([record_id(path.as_posix())])
        state = ServiceState({"people": Searcher("people", gallery, embedder)}, Marks(place / "marks"))
        (asked,) = state.ask_photos([("photo", path.read_bytes())]).vectors["people"]
    return item.vector, asked


def by_export(folder: Path, path: Path, place: Path, to: str | None) -> np.ndarray:
    """As a runtime computes it from what the card beside the file says; without a format, as our engine does."""
    source = export_run(folder, to, place / "net.onnx").files[0] if to else folder
    engine = open_engine(source, "onnxruntime" if to else "torch")
    return engine.embed(resized([read_image(path)], engine.card), flip=engine.card.flip)[0]


def everywhere(folder: Path, path: Path, place: Path, to: str | None) -> dict[str, np.ndarray]:
    """The embedding of a picture by every way there is, of length 1."""
    model, image = regard.load(folder), Image.open(path)
    pixels = read_image(path)
    own = model.embed_pictures([path, image, pixels, str(path)], batch_size=3)
    bgr = model.embed_pictures([pixels[:, :, ::-1]], color="bgr")
    shown = open_run(folder).batch([path])
    explained = model.embed_views([shown], flip=model.input is not None and model.input.flip)[0].numpy()
    stored, asked = by_gallery(folder, path, place)
    found = {f"embed_pictures {number}": row for number, row in enumerate([*own, *bgr])}
    found |= {"evaluation": by_evaluation(folder, path), "gallery": stored, "service": asked}
    found |= {"explain": explained, "export": by_export(folder, path, place, to)}
    return {name: row / np.linalg.norm(row) for name, row in found.items()}


def check(folder: Path, picture: Path, place: Path, to: str | None = None) -> None:
    copy = place / "elsewhere" / "copied"
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    (place / "elsewhere" / "config.yaml").write_text("data: {height: 48, width: 48}\n")  # of another run: not asked
    found = everywhere(copy, picture, place, to)
    wanted = found.pop("evaluation")
    assert found["embed_pictures 0"].dtype == np.float32
    for name, row in found.items():
        assert np.linalg.norm(row.astype(np.float64) - wanted) < 1e-6, name


@pytest.mark.parametrize("name", list(MODELS))
def test_every_system_embeds_a_picture_alike_wherever_it_is_shown(name, picture, tmp_path):
    size = (96, 32)
    model = seasoned(name, size)
    model.input = regard.InputSpec(*size, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), flip=name < "d")
    model.save(tmp_path / "model")
    assert saved_input(tmp_path / "model") == regard.load(tmp_path / "model").input == model.input
    check(tmp_path / "model", picture, tmp_path, "onnx" if name == "baseline" else None)


def reid_folder(folder: Path, architecture: str = "timm:resnet18", **shown: Any) -> Path:
    """A folder as the package reid saves it."""
    folder.mkdir()
    torch.manual_seed(0)
    tensors = timm.create_model("resnet18", num_classes=0).state_dict()
    save_file(tensors, folder / "weights.safetensors")
    (folder / "reid_config.json").write_text(json.dumps({"architecture": architecture, "preprocessing": shown}))
    return folder


def test_a_model_of_reid_answers_as_there(picture, tmp_path):
    """Its own steps, by Pillow and timm: stretched, normalized, the pooled map."""
    shown = {"input_size": [96, 48], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "interpolation": "bicubic"}
    folder = reid_folder(tmp_path / "reid", **shown, to_rgb=True, resize_mode="stretch", pad_value=114)
    model = regard.models.import_released(folder, network="reid")
    theirs = timm.create_model("resnet18", num_classes=0).eval()
    theirs.load_state_dict(load_file(folder / "weights.safetensors"))
    image = ImageOps.exif_transpose(Image.open(picture)).convert("RGB").resize((48, 96), Image.Resampling.BICUBIC)
    pixels = (np.asarray(image, np.float32) / 255 - np.float32(shown["mean"])) / np.float32(shown["std"])
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(pixels.transpose(2, 0, 1)[None]))[0].numpy()
    assert model.embed_pictures([picture])[0] @ wanted / np.linalg.norm(wanted) > 0.9999
    assert model.import_report.unused == []


@pytest.mark.parametrize(
    ("architecture", "shown", "wrong"),
    [
        ("osnet_x1_0", {}, "names the architecture 'osnet_x1_0', wanted timm:resnet18"),
        ("timm:resnet18", {"resize_mode": "letterbox"}, "letterbox"),
        ("timm:resnet18", {"interpolation": "nearest"}, "nearest"),
        ("timm:resnet18", {"input_size": [0, 5]}, "what nobody can do"),
        ("timm:resnet18", {"mean": ["x"]}, "what nobody can do"),
        ("timm:resnet50", {}, None),
    ],
)
def test_folders_of_reid_that_are_not_read(architecture, shown, wrong, tmp_path):
    folder = reid_folder(tmp_path / "reid", architecture, **shown)
    if wrong is None:
        (folder / "reid_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=wrong or "no configuration of reid"):
        regard.models.import_released(folder, network="reid")


def released_file(network: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file as the authors of a network wrote it."""
    if network in test_import.DETECTED:
        return test_import.write(network, folder)[0]
    torch.manual_seed(0)
    if network == "pcb":  # SA attends beside the trunk alone
        tensors = test_import.released(named_weights.keys("sa"))
        beside = ("local_conv_layer", "instance_layer", "instance6.", "fusion_conv.")
        tensors = {key: value for key, value in tensors.items() if not key.startswith(beside)}
    elif network == "reid":
        return reid_folder(folder / "reid")
    elif network == "fastreid":
        tensors = public_twins.drawn(public_twins.fastreid_shapes())
    elif network == "osnet":
        tensors = public_twins.drawn(public_twins.osnet_shapes((16, 64, 96, 128)))
    elif network.startswith("transreid"):
        monkeypatch.setitem(transreid_vit.BACKBONES, (64, 6), "test_vit.r160_in1k")
        tensors = public_twins.drawn(public_twins.transreid_shapes(64, 6, 12))
    elif network == "resnet":
        tensors = timm.create_model("resnet18", num_classes=9).state_dict()
    else:
        tensors = test_import_mindspore.tensors_of("daaf")
    torch.save(dict(tensors), folder / "file.pth")
    return folder / "file.pth"


@pytest.mark.parametrize("network", list(IMPORTERS))
def test_every_released_network_is_shown_its_own_input(network, picture, tmp_path, capsys, monkeypatch):
    path = released_file(network, tmp_path, monkeypatch)
    size = [] if network == "rga" else ["--size", "96x32"]
    arguments = ["import", str(path), "--network", network, "-o", str(tmp_path / "model"), *size]
    assert main(arguments) == 0
    seen = saved_input(tmp_path / "model")
    assert seen is not None
    assert replace(seen, height=1, width=1) == replace(IMPORTERS[network][1], height=1, width=1)
    check(tmp_path / "model", picture, tmp_path)


def made_before(folder: Path, **kept: Any) -> None:
    """Take out of a model folder what earlier versions did not write."""
    described = json.loads((folder / "config.json").read_text())
    for key in ("input", "input_by_default", "digest"):
        described.pop(key, None)
    (folder / "config.json").write_text(json.dumps(described | kept))


@pytest.fixture
def run(tmp_path) -> Path:
    """A run of 64 x 48 pictures whose model does not say so."""
    torch.manual_seed(0)
    regard.create_model("baseline", 3, backbone=TINY).save(tmp_path / "run" / "final")
    (tmp_path / "run" / "config.yaml").write_text(
        "data: {height: 64, width: 48, interpolation: bicubic}\neval: {flip: false}\n"
    )
    (tmp_path / "run" / "metrics.jsonl").touch()
    return tmp_path / "run"


OF_THE_RUN = regard.InputSpec(64, 48, "bicubic", flip=False)


def test_a_folder_of_before_learns_from_its_run_once(run, tmp_path, picture):
    """Also one that says the size alone, and one that nobody told anything; then the run is not asked any more."""
    for kept in ({}, {"input": {"height": 32, "width": 16, "interpolation": "bilinear"}}):
        made_before(run / "final", **kept)
        wanted = replace(OF_THE_RUN, **kept.get("input", {}))
        assert regard.load(run).input == wanted
        written = json.loads((run / "final" / "config.json").read_text())["input"]
        assert regard.InputSpec.from_dict(written) == wanted
        shutil.copytree(run / "final", tmp_path / f"copy{len(kept)}")
        assert saved_input(tmp_path / f"copy{len(kept)}") == regard.load(tmp_path / f"copy{len(kept)}").input == wanted
    model = regard.load(run)
    model.input = regard.InputSpec(40, 20)
    model.save(run / "best")
    assert regard.load(run / "best").input == regard.InputSpec(40, 20)
    assert Embedder(run / "best", device="cpu").seen == regard.InputSpec(40, 20)
    assert regard.create_model("baseline", 7, pretrained=run / "best", backbone=TINY).input == model.input
    model.input = (40, 20)  # pyright: ignore[reportAttributeAccessIssue]
    for wrong in (lambda: model.save(run / "best"), lambda: model.embed_pictures([picture])):
        with pytest.raises(ConfigError, match=r"model.input is \(40, 20\), wanted regard.InputSpec"):
            wrong()


@pytest.mark.slow
def test_settings_of_another_tool_are_not_those_of_a_run(tmp_path):
    """And a run says nothing of a model that lies in it under a name that no training gives."""
    model = regard.create_model("baseline", 3, backbone=TINY)
    others = ["seed: 3", "data: {height: 10, width: 10, interpolation: bilinear}\n", "data: ["]
    for name in ("mine", "final", "epochs/0001"):
        model.save(tmp_path / name)
        before = (tmp_path / name / "config.json").read_bytes()
        for text in others:
            (tmp_path / "config.yaml").write_text(text)
            opened = open_run(tmp_path / name)
            assert (saved_input(tmp_path / name), opened.input, opened.own) == (model.input, model.input, None)
            assert exports_folder(tmp_path / name) == tmp_path / name / "exports"
        assert before == (tmp_path / name / "config.json").read_bytes()
    assert regard.load(tmp_path / "final").input == regard.InputSpec()
    settings = read_recipe("baseline_market1501").config(["data.height=64", "data.width=48"]).to_yaml()
    (tmp_path / "config.yaml").write_text(settings)  # whole settings are a run's, whatever else was left out of a copy
    assert regard.load(tmp_path / "final").input.size == (64, 48)
    assert regard.load(tmp_path / "mine").input == regard.InputSpec()
    assert open_run(tmp_path / "mine").own is None
    assert exports_folder(tmp_path / "final") == tmp_path / "exports"


def test_a_run_stands_for_its_folder(run, picture):
    config = read_recipe("baseline_market1501").config(
        ["data.height=64", "data.width=48", "data.interpolation=bicubic", "eval.flip=false", "data.root=/there"]
    )
    (run / "config.yaml").write_text(config.to_yaml())
    opened = open_run(run)
    assert repr(opened) == f"Run('run', folder={str(run)!r}, data='{config.data.name} in /there')"
    assert regard.load(opened).input == open_run(opened).input == OF_THE_RUN
    with pytest.raises(CheckpointError, match="not calibrated"):
        regard.verify(picture, picture, opened)
    for wrong in ([], None, picture, str(picture)):
        with pytest.raises(DataError, match="wanted a list of at least one picture"):
            opened.batch(wrong)  # pyright: ignore[reportArgumentType]
    assert opened.batch([picture]).shape == (1, 3, 64, 48)
    with pytest.raises(ConfigError, match=r"^changes: eval\.rerank: got 7"):
        open_run(run, changes={"rerank": 7})


def test_where_nothing_says_the_size_every_verb_asks_for_it(run, tmp_path, picture, capsys, market):
    made_before(run / "final")
    (run / "config.yaml").unlink()
    assert regard.load(run).input is None
    verbs: list[list[str]] = [
        ["embed", str(picture), "--model", str(run), "-o", str(tmp_path / "gallery")],
        ["export", str(run), "--to", "torch-export"],
        ["eval", str(run), "--root", str(market), "-q"],
        ["explain", "attention", str(run), str(picture), "-o", str(tmp_path / "figures")],
    ]
    for verb in verbs:
        assert main(verb) == 2
        error = capsys.readouterr().err
        assert "does not say of what size its pictures are" in error
        assert "--size HEIGHTxWIDTH" in error
        assert len(error.splitlines()) == 1
    assert main([*verbs[0], "--size", "48x24", "-q"]) == 0
    with pytest.raises(ConfigError, match=r"model\.input = regard\.InputSpec"):
        regard.load(run).embed_pictures([picture])
    (run / "config.yaml").write_text("data: [")
    with pytest.raises(CheckpointError, match=r"config\.yaml does not say what the network"):
        regard.load(run)


def test_a_description_that_was_changed_by_hand_is_not_sealed_again(run):
    described = json.loads((run / "final" / "config.json").read_text())
    described["num_ids"] = 3
    described["options"]["last_stride"] = 2
    (run / "final" / "config.json").write_text(json.dumps(described))
    for _ in range(2):
        with pytest.raises(CheckpointError, match="not as it was written"):
            regard.load(run)


@pytest.fixture(scope="module")
def model() -> regard.ReIDModel:
    model = seasoned("baseline", (48, 24))
    model.input = regard.InputSpec(48, 24)
    return model


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "HSV", "I", "F", "LAB"])
def test_an_image_of_any_mode_is_embedded_as_its_file(mode, model, picture, tmp_path):
    """Turned by its orientation; a kind of pixels without one color on a screen is refused."""
    image = Image.open(picture)
    image.load()
    changed = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    if mode in ("HSV", "I", "F", "LAB"):
        with pytest.raises(DataError, match="expected 8 or 16 bits a color"):
            model.embed_pictures([changed])
        return
    file = tmp_path / ("x.jpg" if mode in ("CMYK", "YCbCr") else "x.png")
    exif = Image.Exif()
    exif[0x0112] = TURNED
    options: dict[str, Any] = {"quality": 100} if file.suffix == ".jpg" else {}
    changed.save(file, exif=exif, **options)
    pair = [Image.open(file), file]
    np.testing.assert_array_equal(*model.embed_pictures(pair))
    upright = image.rotate(-90, expand=True)
    assert read_image(file).shape[:2] == (upright.height, upright.width)


def test_wrong_pictures_end_in_one_clear_line(model, picture, tmp_path):
    good = np.zeros((9, 5, 3), np.uint8)
    torn = Image.open(io.BytesIO(picture.read_bytes()[:700]))
    assert model.embed_pictures([]).shape == (0, 96)
    assert model.embed_pictures(np.stack([good, good])).shape == (2, 96)
    assert model.embed_pictures(each for each in (good, good[::-1, ::-1])).shape == (2, 96)
    several: list[tuple[Any, str]] = [
        (str(picture), "one picture, wanted a list"),
        (picture, "one picture, wanted a list"),
        (Image.new("RGB", (4, 4)), "one picture, wanted a list"),
        (good, "one picture, wanted a list"),
        (b"", "bytes, wanted a list"),
        (3, "int, wanted a list"),
        ([good.astype(np.float32)], r"float32 of shape \(9, 5, 3\), expected the path"),
        ([good[:, :, 0]], r"shape \(9, 5\)"),
        ([np.zeros((9, 5, 4), np.uint8)], r"shape \(9, 5, 4\)"),
        ([good[:0]], "0 x 5 pixels have no area"),
        ([Image.new("RGB", (0, 9))], "9 x 0 pixels have no area"),
        ([good.transpose(2, 0, 1)], r"shape \(3, 9, 5\)"),
        ([good, None], "NoneType"),
        ([torch.zeros(9, 5, 3, dtype=torch.uint8)], "torch.uint8 of shape"),
        ([tmp_path / "nothing.jpg"], "there is no image of that name"),
        ([torn], "damaged"),
    ]
    for given, message in several:
        with pytest.raises(DataError, match=message) as error:
            model.embed_pictures(given)
        assert len(str(error.value).splitlines()) == 1
    for options in ({"color": "grb"}, {"batch_size": 0}, {"batch_size": 2.0}):
        with pytest.raises(RegardError):
            model.embed_pictures([good], **options)


def test_an_input_is_checked():
    spec = regard.InputSpec(np.int64(8), 4, mean=[0.5, 0.5, 0.5])  # pyright: ignore[reportArgumentType]
    assert regard.InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    wrong: list[dict[str, Any]] = [
        {"height": 0}, {"width": True}, {"height": 8.5}, {"height": "8"}, {"width": 9999}, {"interpolation": "nearest"},
        {"mean": (0.5, 0.5)}, {"mean": (1, 2, 3)}, {"mean": "abc"}, {"std": (0.2, 0, 0.2)}, {"std": 0.2},
        {"std": (float("nan"),) * 3}, {"flip": 1},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ConfigError, match=f"the input's {next(iter(options))} is"):
            regard.InputSpec(**options)
    with pytest.raises(ConfigError, match="wanted height, width"):
        regard.InputSpec.from_dict({"height": 8})
