"""``regard export``: what it writes, what it says, and that a file that is not the network is not written."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from regard.cli.main import main
from regard.errors import CheckpointError, ConfigError
from regard.export import exporting as make
from regard.export import formats, open_engine
from regard.export.manifest import read_card
from regard.export.parity import Parity, check_parity, made_pictures, measure_parity


def exports(run) -> set[str]:
    folder = run / "exports"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize(
    ("to", "endings"), [("onnx", [".onnx"]), ("openvino", [".xml", ".bin"]), ("torch-export", [".pt2"])]
)
def test_a_run_is_written_and_compared(market_run, capsys, to, endings):
    assert main(["export", str(market_run), "--to", to]) == 0
    said = capsys.readouterr().out
    assert "baseline in fp32" in said
    assert "32 real, 32 made-up pictures, batches of 1, 2, 7, 32" in said or "real, 32 made-up" in said
    path = next((market_run / "exports").glob(f"*{endings[0]}"))
    assert all(path.with_suffix(ending).is_file() for ending in endings)
    card = read_card(path)
    assert (card.height, card.width, card.precision) == (64, 32, "fp32")
    assert card.parity
    for measured in card.parity.values():
        assert measured["relative"] < 1e-4
        assert measured["batches"] == [1, 2, 7, 32]
        assert measured["pictures"]["real"] == 32


def test_without_a_data_set_made_up_pictures_do(fresh_run, tmp_path, capsys):
    (fresh_run / "config.yaml").unlink()
    target = tmp_path / "there" / "net.onnx"
    assert main(["export", str(fresh_run), "--to", "onnx", "--size", "48x24", "-o", str(target)]) == 0
    assert "(32 made-up pictures" in capsys.readouterr().out
    assert open_engine(target).embed(np.zeros((3, 48, 24, 3), np.uint8)).shape == (3, 96)


def spoil(data: bytes) -> bytes:
    """An ONNX file with one weight of one convolution changed."""
    model = onnx.load_from_string(data)
    weight = next(each for each in model.graph.initializer if len(each.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model.SerializeToString()


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_one_wrong_weight_is_found_and_nothing_is_written(fresh_run, monkeypatch, capsys, to):
    right = make.to_onnx
    monkeypatch.setattr(make, "to_onnx", lambda program, card: spoil(right(program, card)))
    assert main(["export", str(fresh_run), "--to", to]) == 2
    error = capsys.readouterr().err
    assert "is not the network: largest relative difference" in error
    assert error.count("\n") == 1
    assert exports(fresh_run) == set()


def test_a_file_that_is_there_survives_a_failed_export(fresh_run, monkeypatch):
    path = make.export_run(fresh_run, "onnx").files[0]
    before = path.read_bytes()
    right = make.to_onnx
    monkeypatch.setattr(make, "to_onnx", lambda program, card: spoil(right(program, card)))
    with pytest.raises(CheckpointError):
        make.export_run(fresh_run, "onnx")
    assert path.read_bytes() == before


def test_an_export_that_is_right_for_one_picture_only_is_found():
    """What a graph does that fixed the batch it was traced with: every row is the first picture's."""
    pictures = {"made-up": made_pictures(16, 8)}
    wanted = {"made-up": pictures["made-up"].reshape(32, -1)[:, :12].astype(np.float32)}

    def fixed(images: np.ndarray) -> np.ndarray:
        right = images.reshape(len(images), -1)[:, :12].astype(np.float32)
        return np.repeat(right[:1], len(images), axis=0)

    parity = measure_parity(fixed, pictures, wanted)
    assert parity.batch > 1
    assert parity.confused > 1
    with pytest.raises(CheckpointError, match="is not the network"):
        check_parity(parity, "fp32", None, "it")
    assert measure_parity(fixed, pictures, wanted, batches=(1,)).relative == 0


def test_descriptors_that_hardly_differ_must_still_be_the_right_ones():
    wanted = {"a": np.array([[1, 0], [1, 1e-6], [1, 2e-6]])}
    parity = measure_parity(lambda images: wanted["a"][[1, 1, 2]], {"a": np.zeros((3, 1))}, wanted, batches=(3,))
    assert parity.relative < 2e-6
    assert parity.confused == 1
    with pytest.raises(CheckpointError, match="1 confused"):
        check_parity(parity, "fp32", None, "it")


def test_differences_are_as_counted_by_hand():
    wanted = {"a": np.array([[1, 2, 4.0], [0, 10, 0]])}
    found = np.array([[1, 2, 4.4], [0, 10, 0.5]])
    parity = measure_parity(lambda images: found[: len(images)], {"a": np.zeros((2, 1))}, wanted, batches=(2,))
    assert parity.relative == pytest.approx(0.1)
    cosines = [(1 + 4 + 17.6) / np.sqrt(21 * (1 + 4 + 4.4**2)), 10 / np.sqrt(100.25)]
    assert parity.cosine == pytest.approx(1 - min(cosines))
    assert (parity.batch, parity.pictures) == (2, {"a": 2})


@pytest.mark.parametrize("bad", [np.full((2, 3), np.nan), np.zeros((2, 4)), np.zeros((2, 3))])
def test_what_is_no_descriptor_is_far_away(bad):
    wanted = {"a": np.ones((2, 3))}
    parity = measure_parity(lambda images: bad, {"a": np.zeros((2, 1))}, wanted, batches=(2,))
    with pytest.raises(CheckpointError):
        check_parity(parity, "fp32", None, "it")


def test_tolerance_is_of_relative_in_fp32_and_of_cosine_in_int8():
    parity = Parity(relative=0.3, cosine=0.02, confused=0, batch=1, pictures={})
    check_parity(parity, "int8", None, "it")
    check_parity(parity, "fp32", 0.31, "it")
    with pytest.raises(CheckpointError, match=r"tolerance is 0\.29"):
        check_parity(parity, "fp32", 0.29, "it")
    with pytest.raises(CheckpointError):
        check_parity(parity, "int8", 0.01, "it")


@pytest.fixture(scope="module")
def int8_said(market_run) -> str:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["export", str(market_run), "--to", "onnx", "--int8", "-q"]) == 0
    return out.getvalue()


def test_int8_says_what_it_costs(market_run, int8_said):
    assert "market1501: mAP " in int8_said
    assert "points; rank-1 " in int8_said
    path = next((market_run / "exports").glob("*-int8.onnx"))
    card = read_card(path)
    scores = card.scores
    assert scores["data"] == "market1501"
    assert f"mAP {100 * scores['fp32']['mAP']:.2f} in fp32, {100 * scores['int8']['mAP']:.2f} in int8" in int8_said
    assert 0 < scores["int8"]["mAP"] <= 1
    assert scores["int8"]["mAP"] == pytest.approx(scores["fp32"]["mAP"], abs=0.1)


def test_int8_is_int8_and_known_as_such(market_run, int8_said):
    path = next((market_run / "exports").glob("*-int8.onnx"))
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    engines = [open_engine(market_run, name, "int8") for name in ("openvino", "onnxruntime")]
    exact = open_engine(market_run, "onnxruntime")
    assert len({engine.fingerprint for engine in (*engines, exact)}) == 3
    pictures = made_pictures(64, 32)
    apart = [np.abs(engine.embed(pictures) - exact.embed(pictures)).max() for engine in engines]
    assert all(each > 0 for each in apart)
    with pytest.raises(ConfigError, match="is int8, asked for was fp32"):
        open_engine(path)


def test_int8_to_openvino(market_run, tmp_path):
    target = tmp_path / "small.xml"
    pictures = list(made_pictures(50, 20))
    exported = make.export_run(market_run, "openvino", target, pictures=pictures, int8=True)
    assert exported.card.calibrated
    assert open_engine(target, precision="int8").embed(made_pictures(64, 32)).shape == (32, 96)


def test_int8_of_a_model_alone_wants_pictures(fresh_run, capsys):
    assert main(["export", str(fresh_run / "final"), "--to", "torch-export", "--int8"]) == 2
    assert "torch-export has no int8" in capsys.readouterr().err
    (fresh_run / "config.yaml").unlink()
    assert main(["export", str(fresh_run / "final"), "--to", "onnx", "--int8", "--size", "64x32"]) == 2
    assert "give a folder of them with --pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onix"], "unknown format 'onix', did you mean 'onnx'?"),
        (["--to", "onnx", "-o", "net.xml"], "does not end in .onnx"),
        (["--to", "onnx", "--size", "64"], "wants HEIGHTxWIDTH"),
        (["--to", "onnx", "--pictures", "nowhere"], "cannot list 'nowhere'"),
        (["--to", "onnx", "--root", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(market_run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(market_run), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_without_weights(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--to", "onnx"]) == 2
    assert "no model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "openvino"])
def test_a_missing_package_is_named_before_any_work(market_run, monkeypatch, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(make, "trace", lambda *_: pytest.fail("work was done"))
    assert main(["export", str(market_run), "--to", "openvino"]) == 2
    error = capsys.readouterr().err
    assert package in error
    assert "pip install 'regard[export]'" in error


def test_what_onnx_has_not_is_told(market_run, monkeypatch, capsys):
    def fails(*_, **__):
        raise formats.torch.onnx.OnnxExporterError("no such operation")

    monkeypatch.setattr(formats.torch.onnx, "export", fails)
    assert main(["export", str(market_run), "--to", "onnx"]) == 2
    assert "baseline cannot be written as ONNX (no such operation)" in capsys.readouterr().err


def test_the_json_beside_a_file_is_plain(market_run):
    path = make.export_run(market_run, "torch-export").files[0]
    content = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert content["fingerprint"] == read_card(path).fingerprint
    assert content["interpolation"] == "bilinear"
