"""Detectors of other makers: graphs with known boxes, torchvision's as torchvision calls them, functions of anybody."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper

from regard.detection import open_detector
from regard.detection.graph_detector import fitted, suppressed
from regard.errors import CheckpointError, ConfigError, DataError, PluginError
from regard.plugins import load_plugins

SEEN = {"color": "rgb", "scale": 255, "mean": [0, 0, 0], "std": [1, 1, 1], "fit": "letterbox"}

XYXY = {"format": "xyxy", "units": "pixels", "score": 4}


def constant(folder, outputs, about, size=(48, 64), name="net.onnx"):
    """A graph that finds the same in every picture: output name -> array."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["none"]),
    ]
    held, made = [numpy_helper.from_array(np.float32(0), "zero")], []
    for key, value in outputs.items():
        value = np.asarray(value, np.float32)
        held.append(numpy_helper.from_array(value, f"{key}_held"))
        nodes.append(helper.make_node("Add", [f"{key}_held", "none"], [key]))
        made.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, value.shape))
    seen = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, *size))
    graph = helper.make_graph(nodes, "toy", [seen], made, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / name)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(SEEN | about))
    return str(folder / name)


def blob(folder, about, size=(48, 64)):
    """A graph that finds what is brighter than nine tenths: its first and last row and column, as corners."""
    sides = {"row": np.arange(size[0])[:, None], "column": np.arange(size[1])[None]}
    far, nodes, held, ends = 1e4, [], [numpy_helper.from_array(np.float32(0.9), "limit")], []
    nodes += [
        helper.make_node("ReduceMin", ["x"], ["dark"], axes=[0, 1], keepdims=0),
        helper.make_node("Greater", ["dark", "limit"], ["lit"]),
    ]
    for axis, places in (("column", sides["column"]), ("row", sides["row"])):
        for end, shift, hidden, reduce in (("first", 0, far, "ReduceMin"), ("last", 1, -far, "ReduceMax")):
            key = f"{end}_{axis}"
            held.append(numpy_helper.from_array(np.broadcast_to(places + shift, size).astype(np.float32), f"{key}_at"))
            held.append(numpy_helper.from_array(np.float32(hidden), f"{key}_not"))
            nodes.append(helper.make_node("Where", ["lit", f"{key}_at", f"{key}_not"], [f"{key}_all"]))
            nodes.append(helper.make_node(reduce, [f"{key}_all"], [key], keepdims=0))
            ends.append(key)
    held.append(numpy_helper.from_array(np.float32(0.8), "sure"))
    held.append(numpy_helper.from_array(np.int64([1, 1, 1]), "shape"))
    order = [ends[0], ends[2], ends[1], ends[3], "sure"]
    nodes += [helper.make_node("Reshape", [each, "shape"], [f"{each}_cell"]) for each in order]
    nodes.append(helper.make_node("Concat", [f"{each}_cell" for each in order], ["boxes"], axis=2))
    made = [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, (1, 1, 5))]
    graph = helper.make_graph(
        nodes, "blob", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, *size))], made, held
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    (folder / "net.onnx.yaml").write_text(yaml.safe_dump(SEEN | XYXY | about))
    return str(folder / "net.onnx")


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("place", ["center", "corner"])
@pytest.mark.parametrize("size", [(96, 128), (101, 77), (160, 45), (31, 90)], ids=str)
def test_what_a_graph_finds_in_its_input_is_put_back_where_it_is_in_the_picture(tmp_path, size, place, fit):
    detector = open_detector(blob(tmp_path, {"fit": fit, "place": place, "border": 0}))
    height, width = size
    wanted = np.array([width // 5, height // 4, width - width // 6, height - height // 3])
    picture = np.zeros((height, width, 3), np.uint8)
    picture[wanted[1] : wanted[3], wanted[0] : wanted[2]] = 255
    (found,) = detector(picture)
    _, _, ratio = fitted(picture, (48, 64), {"fit": fit, "place": place, "border": 0, "interpolation": "bilinear"})
    assert (
        np.abs((found[:4] - wanted) * np.tile(ratio, 2)).max() < 1.5
    )  # a pixel of the input: a gray edge is not bright
    assert found[4] == pytest.approx(0.8)


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_boxes_are_undone_to_the_last_digit(tmp_path, fit):
    rng = np.random.default_rng(0)
    wanted = rng.uniform(0, 90, (5, 4)).astype(np.float32)
    for height, width in ((97, 131), (201, 33), (48, 64)):
        told = {"fit": fit, "place": "center", "border": 114, "interpolation": "bilinear"}
        seen, shift, ratio = fitted(np.zeros((height, width, 3), np.uint8), (48, 64), told)
        assert seen.shape == (48, 64, 3)
        inner = np.round(np.array(ratio) * (width, height)).astype(int)
        inside = seen[shift[1] : shift[1] + inner[1], shift[0] : shift[0] + inner[0]]
        assert not inside.any()
        assert np.count_nonzero(seen == 114) + inside.size == seen.size
        assert fit == "letterbox" or inside.size == seen.size
        rows = np.concatenate([wanted * np.tile(ratio, 2) + np.tile(shift, 2), np.full((5, 1), 0.9)], 1)
        path = constant(tmp_path, {"boxes": rows[None]}, {"fit": fit, "format": "xyxy", "units": "pixels", "score": 4})
        found = open_detector(path)(np.zeros((height, width, 3), np.uint8))
        assert np.abs(found[:, :4] - wanted).max() < 1e-4


BOX = [8.0, 12.0, 24.0, 36.0]
"""In an input of 48 x 64, which the picture fills."""

FORMATS = {
    "yolov5": (
        [[16, 24, 16, 24, 0.9, 0.8, 0.1], [16, 24, 16, 24, 0.9, 0.1, 0.9], [17, 24, 16, 24, 0.9, 0.7, 0]], {}, 0.72,
    ),
    "yolov8": (np.array([[16, 24, 16, 24, 0.8, 0.1], [40, 24, 9, 9, 0.3, 0.9], [17, 24, 16, 24, 0.6, 0]]).T, {}, 0.8),
    "ssd": (
        [[[0, 1, 0.7, 8 / 64, 12 / 48, 24 / 64, 36 / 48], [0, 2, 0.9, 0, 0, 1, 1], [-1, 1, 0.9, 0, 0, 1, 1],
          [0, 1, 0.9, 0, 0, 1, 1]]], {}, 0.7,
    ),
    "xywh": (
        [[8, 12, 16, 24, 0.6, 3], [0, 0, 9, 9, 0.6, 2]], {"score": 4, "class": 5, "person": 3, "units": "pixels"}, 0.6,
    ),
    "cxcywh": (
        [[0.25, 0.5, 0.25, 0.5, 0.2, 0.6], [0.25, 0.5, 0.25, 0.5, 0.6, 0.2]],
        {"classes": 4, "person": 1, "units": "fractions"}, 0.6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_a_described_output_is_read_as_it_lies(tmp_path, kind):
    rows, about, score = FORMATS[kind]
    path = constant(tmp_path, {"boxes": np.asarray(rows)[None]}, {"format": kind} | about)
    found = open_detector(path)(np.zeros((48, 64, 3), np.uint8))
    assert found == pytest.approx(np.array([[*BOX, score]]), abs=1e-4)
    assert len(open_detector(path, min_score=0.99)(np.zeros((48, 64, 3), np.uint8))) == 0


def test_scores_and_labels_may_stand_in_outputs_of_their_own(tmp_path):
    outputs = {"labels": [1, 2, 1], "boxes": [BOX, BOX, [0, 0, 9, 9]], "scores": [0.9, 0.9, 0.4]}
    about = {
        "format": "xyxy",
        "units": "pixels",
        "output": "boxes",
        "scores": "scores",
        "labels": "labels",
        "person": 1,
    }
    detector = open_detector(constant(tmp_path, outputs, about), min_score=0.3)
    assert detector(np.zeros((48, 64, 3), np.uint8)) == pytest.approx(np.array([[*BOX, 0.9], [0, 0, 9, 9, 0.4]]))


FAULTS = {
    "format": ({"format": "yolo9000"}, r"says format: 'yolo9000', wanted yolov5 or yolov8 or ssd or xyxy"),
    "fit": (XYXY | {"fit": None}, r"says fit: None, wanted letterbox or stretch"),
    "units": ({"format": "xyxy"}, r"says units: None, wanted pixels or fractions"),
    "person": (XYXY | {"class": 5}, r"does not say which class people are; say person: NUMBER"),
    "column": (XYXY | {"score": 6}, r"says score: column 6, and it makes 6 columns"),
    "word": (XYXY | {"colour": 1}, r"says 'colour', wanted color, scale"),
    "overlap": (XYXY | {"overlap": True}, r"says overlap: True, wanted a number from 0 to 1"),
    "output": (XYXY | {"scores": "probabilities"}, r"has the outputs boxes, and its description names boxes|none for"),
    "shape": ({"format": "ssd"}, r"makes \(1, 3, 6\), wanted \(1, 1, N, 7\) for format: ssd"),
    "size": (XYXY | {"size": [4, 4]}, r"takes pictures of 48 x 64, and its description says \[4, 4\]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_description_that_does_not_fit_is_refused_in_one_line(tmp_path, fault):
    about, message = FAULTS[fault]
    path = constant(tmp_path, {"boxes": np.ones((1, 3, 6))}, about)
    with pytest.raises((ConfigError, CheckpointError), match=message) as raised:
        open_detector(path)
    assert "\n" not in str(raised.value)


def test_the_surer_of_two_that_cover_each_other_stays():
    people = np.array([[0, 0, 10, 10, 0.6], [1, 0, 11, 10, 0.9], [40, 0, 50, 10, 0.5], [0, 0, 10, 5, 0.4]])
    assert suppressed(people, 0.5)[:, 4].tolist() == [0.9, 0.5, 0.4]
    slow = [row for n, row in enumerate(sorted(people.tolist(), key=lambda row: -row[4])) if n != 1]
    assert suppressed(people, 0.5).tolist() == slow


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    from torchvision.models import get_model

    torch.manual_seed(0)
    name = "ssdlite320_mobilenet_v3_large"
    network = get_model(name, weights=None, weights_backbone=None).eval()
    for part in network.head.classification_head.module_list:  # people, some surer than others
        part[-1].bias.data.view(-1, 91)[:, 1] = torch.linspace(2, 6, len(part[-1].bias) // 91)
    path = tmp_path_factory.mktemp("weights") / "theirs.pth"
    torch.save(network.state_dict(), path)
    return name, network, path


@pytest.mark.slow
def test_a_detector_of_torchvision_finds_what_torchvision_does(theirs):
    name, network, path = theirs
    picture = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    with torch.inference_mode():
        (wanted,) = network([torch.from_numpy(picture).permute(2, 0, 1).float() / 255])
    detector = open_detector(f"{name}={path}", min_score=0, device="cpu")
    found = detector(picture)
    people = wanted["labels"] == 1
    assert people.any()
    assert np.array_equal(found[:, :4], wanted["boxes"][people].numpy())
    assert np.array_equal(found[:, 4], wanted["scores"][people].numpy())
    assert len(open_detector(f"{name}={path}", device="cpu")(picture)) == (wanted["scores"][people] >= 0.5).sum()
    with pytest.raises(CheckpointError, match=r"does not fit fcos_resnet50_fpn .*wanted its state dict"):
        open_detector(f"fcos_resnet50_fpn={path}")
    classes = "roi_heads.box_predictor.cls_score.weight"
    for value, message in {
        (3.0,): r"does not fit .*wanted its state dict",
        (np.nan, 1): rf"has NaN or infinity in {classes}, wanted finite",
        (0.0, 1): r"tells 1 class apart, wanted two or more, 0 being nothing and 1 people",
    }.items():  # fmt: skip
        wrong = torch.full((1,) * (len(value) - 1), value[0])
        torch.save(network.state_dict() | {classes: wrong}, path.parent / "wrong.pth")
        with pytest.raises(CheckpointError, match=message):
            open_detector(f"{name}={path.parent / 'wrong.pth'}")
    with pytest.raises(ConfigError, match=r"unknown detector of torchvision 'fasterrcnn'.*did you mean"):
        open_detector(f"fasterrcnn={path}")


FINDERS = """
import numpy as np
def four(picture): return [[1, 2, 3, 4]]
def five(picture):
    picture[:] = 7
    return np.array([[1, 2, 3, 4, .2], [5, 6, 7, 8, .9]])
def nobody(picture): return []
def hundreds(picture): return np.ones((1001, 4))
def broken(picture): raise KeyError("mine")
def words(picture): return "here"
def odd(picture): return np.ones((2, 3))
def nan(picture): return [[np.nan] * 4 + [1]]
def fractions(picture): return [[0.1, 0.2, 0.6, 0.9, 0.8], [0, 0, 1, 1, 0.9]]
def percents(picture): return [[1, 2, 3, 4, 95.0]]
def ended(picture): raise SystemExit(0)
def unsure(picture): return [[1, 2, 3, 4, np.nan]]
NUMBER = 3
"""


def test_a_function_of_anybody_is_a_detector(tmp_path, monkeypatch):
    (tmp_path / "finders.py").write_text(FINDERS)
    (tmp_path / "found_here.py").write_text(FINDERS)
    monkeypatch.syspath_prepend(tmp_path)
    picture = np.zeros((9, 9, 3), np.uint8)
    finders = f"{tmp_path}/finders.py"
    assert open_detector("found_here:four")(picture).tolist() == [[1, 2, 3, 4]]
    assert open_detector(f"{finders}:five")(picture).tolist() == [[5, 6, 7, 8, 0.9], [1, 2, 3, 4, 0.2]]
    assert not [one for one in load_plugins() if "found_here" in one or "finders" in one]  # no part of a run
    assert not picture.any()
    assert open_detector(f"{finders}:five", min_score=0.5)(picture).tolist() == [[5, 6, 7, 8, 0.9]]
    assert len(open_detector(f"{finders}:nobody")(picture)) == 0
    assert np.isnan(open_detector(f"{finders}:nan")(picture)[0, :4]).all()  # an empty box, which whoever cuts counts
    with pytest.raises(DataError, match=r"finds 1,001 people in one picture, wanted 1,000 or fewer"):
        open_detector(f"{finders}:hundreds")(picture)
    for name, message in {
        "broken": r"failed \(KeyError: 'mine'\); mend it", "ended": r"failed \(SystemExit: 0\); mend it",
        "words": r"makes no boxes: boxes are no numbers",
        "fractions": r"makes boxes in fractions \(0, 0, 1, 1\), wanted pixels; multiply x by the picture's width",
        "percents": r"says it is 95 sure of a box, wanted 0 to 1; divide percents by 100",
        "unsure": r"says it is nan sure of a box, wanted 0 to 1",
        "odd": r"makes no boxes: boxes are of shape \(2, 3\), wanted \(N, 4\) or \(N, 5\)",
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            open_detector(f"{finders}:{name}")(picture)
    for name in ("NUMBER", "missing"):
        with pytest.raises(PluginError, match=r"names no function"):
            open_detector(f"{finders}:{name}")
    with pytest.raises(PluginError, match=r"cannot be loaded: ModuleNotFoundError"):
        open_detector("no_such_module:find")


def test_a_graph_whose_boxes_are_fractions_is_not_taken_for_one_of_pixels(tmp_path):
    found = {"boxes": np.array([[0.1, 0.2, 0.6, 0.9, 0.8], [0, 0, 0, 0, 0]])}
    with pytest.raises(
        ConfigError, match=r"makes boxes from 0 to 1, and its description says units: pixels; say units"
    ):
        open_detector(constant(tmp_path, found, XYXY))
    boxes = open_detector(constant(tmp_path, found, XYXY | {"units": "fractions"}))(np.zeros((48, 64, 3), np.uint8))
    assert np.allclose(boxes[0], [6.4, 9.6, 38.4, 43.2, 0.8])
    with pytest.raises(ConfigError, match=r"std in the description of .* is \[1, 1, 0\], wanted three numbers above 0"):
        open_detector(constant(tmp_path, found, XYXY | {"units": "fractions", "std": [1, 1, 0]}))


def test_what_is_no_detector_is_told_the_forms():
    with pytest.raises(ConfigError, match=r"wanted NAME=WEIGHTS of torchvision, FILE.onnx .* or MODULE:FUNCTION; "):
        open_detector("yolov8n")
    with pytest.raises(ConfigError, match=r"--min-score is 50, wanted a number from 0 to 1"):
        open_detector("a:b", min_score=50)
    with pytest.raises(CheckpointError, match=r"cannot read missing\.onnx"):
        open_detector("missing.onnx")
