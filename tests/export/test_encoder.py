"""``regard.Encoder``: descriptors of boxes in frames are those of the crops, whatever computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper

import regard
from regard.errors import CheckpointError, ConfigError, DataError, RegardWarning

BOXES = [[10, 5, 40, 90], [-20.4, 60.2, 30.6, 130], [100, 20, 100, 60], [70, 10, 160.2, 118]]
INSIDE = [(10, 5, 40, 90), (0, 60, 31, 120), None, (70, 10, 160, 118)]
"""What the boxes cover of a frame of 120 x 160 pixels."""


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8).repeat(10, 0).repeat(10, 1)


def cut(frame) -> list[np.ndarray]:
    return [frame[y0:y1, x0:x1] for x0, y0, x1, y1 in filter(None, INSIDE)]


@pytest.fixture(scope="module")
def wanted(market_run, frame) -> np.ndarray:
    """Rows of the boxes that are not empty."""
    return regard.load(market_run).embed_pictures(cut(frame))


def check(encoder, frame, wanted) -> None:
    found = encoder(frame[..., ::-1], BOXES)
    assert (found.shape, found.dtype) == ((4, wanted.shape[1]), np.float32)
    assert np.abs(found[[0, 1, 3]] - wanted).max() < 1e-5
    assert not found[2].any()
    assert np.allclose(np.linalg.norm(found[[0, 1, 3]], axis=1), 1, atol=1e-6)
    assert np.array_equal(encoder(frame, BOXES, color="rgb"), found)
    assert encoder(frame, np.empty((0, 4))).shape == (0, wanted.shape[1]) == encoder(frame, []).shape
    assert np.abs(encoder.embed(cut(frame)) - wanted).max() < 1e-5


@pytest.mark.slow
def test_boxes_are_their_crops(market_run, frame, wanted):
    """Of a run's folder, the run, its model's folder, the file that was exported, and the model."""
    for source in (market_run, regard.open_run(market_run), str(market_run / "final")):
        check(regard.Encoder(source, "onnxruntime", batch_size=2), frame, wanted)
    file = next((market_run / "exports").glob("*-64x32-*.onnx"))
    assert regard.Encoder(file).engine in ("openvino", "onnxruntime")
    check(regard.Encoder(file), frame, wanted)
    check(regard.Encoder(regard.load(market_run), "torch"), frame, wanted)


@pytest.mark.slow
def test_what_cannot_be_exported_computes_as_it_is(market_run, monkeypatch, frame, wanted):
    from regard.export import opening

    def refuse(*_args, **_how):
        raise ConfigError("no graph here")

    monkeypatch.setattr(opening, "open_engine", refuse)
    encoder = regard.Encoder(market_run)
    assert (encoder.engine, encoder.note) == ("network", "no graph here")
    check(encoder, frame, wanted)
    with pytest.raises(ConfigError, match="no graph here"):
        regard.Encoder(market_run, "openvino")


def test_another_makers_file_is_taken_with_its_description(tmp_path, frame):
    path, weights = tmp_path / "theirs.onnx", np.random.default_rng(0).normal(size=(12, 3, 5, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "w"], ["map"], strides=[3, 3]),
            helper.make_node("Relu", ["map"], ["on"]),
            helper.make_node("GlobalAveragePool", ["on"], ["found"]),
        ],
        "theirs",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 3, 64, 32])],
        [helper.make_tensor_value_info("found", onnx.TensorProto.FLOAT, ["batch", 12, 1, 1])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    with pytest.raises(ConfigError, match="nothing says what"):
        regard.Encoder(path)
    about = {"color": "rgb", "scale": 255, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    path.with_name("theirs.onnx.yaml").write_text(yaml.safe_dump(about))
    model = regard.models.import_graph(path)
    model.save(tmp_path / "kept")
    for source in (path, tmp_path / "kept", model):
        check(regard.Encoder(source), frame, model.embed_pictures(cut(frame)))
    with pytest.raises(ConfigError, match="is computed by onnxruntime, not by torch"):
        regard.Encoder(path, "torch")


@pytest.mark.slow
def test_boxes_in_fractions_are_warned_of(frame):
    model = regard.create_model("baseline", num_ids=3, backbone="test_resnet.r160_in1k")
    model.input = regard.InputSpec(32, 16)
    encoder = regard.Encoder(model, "torch")
    with pytest.warns(RegardWarning, match=r"within the frame's first pixel, as fractions do; wanted pixels"):
        encoder(frame, [[0.1, 0.2, 0.6, 0.9]])
    assert encoder(frame, [[0.1, 0.2, 0.6, 0.9], [2, 3, 20, 30]]).shape == (2, encoder.dim)


def test_what_is_wrong_is_said(market_run, frame):
    encoder = regard.Encoder(market_run, "onnxruntime")
    for call, kind, words in [
        (lambda: encoder(frame.astype(float), BOXES), DataError, "wanted (H, W, 3) uint8"),
        (lambda: encoder(frame, [[1, 2, 3]]), DataError, "wanted (N, 4)"),
        (lambda: encoder(frame, BOXES, color="gbr"), ConfigError, "color is 'gbr'"),
        (lambda: encoder.embed([frame[..., 0]]), DataError, "wanted (h, w, 3) uint8"),
        (lambda: regard.Encoder(encoder), ConfigError, "wanted a run, a model"),
        (lambda: regard.Encoder("nowhere"), CheckpointError, "no model.safetensors in nowhere"),
        (lambda: regard.Encoder("nowhere.onnx"), ConfigError, "there is no nowhere.onnx"),
        (lambda: regard.Encoder("a", "fast"), ConfigError, "engine is 'fast'"),
        (lambda: regard.Encoder("a", batch_size=0), ConfigError, "batch_size is 0"),
    ]:
        with pytest.raises(kind) as raised:
            call()
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)
