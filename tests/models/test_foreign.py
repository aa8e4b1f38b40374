"""Networks of other makers: the whole way from a file to scores, against the maker's own way of computing them."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

import regard
from regard.cli.main import main
from regard.data.image import read_image
from regard.data.resizing import TestTransform
from regard.errors import CheckpointError, ConfigError
from regard.input_spec import InputSpec
from regard.models import import_graph
from regard.models.folder import model_folder

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
ABOUT = {"color": "rgb", "scale": 255, "mean": MEAN, "std": STD}


class Theirs(nn.Module):
    """Somebody's network: any input, as its maker wants it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=2)
        self.second = nn.Conv2d(8, 12, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[3] == 3:
            x = x.permute(0, 3, 1, 2)
        return functional.relu(self.second(functional.relu(self.first(x.float())))).mean((2, 3))


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    torch.manual_seed(0)
    return Theirs().eval()


def write(theirs, folder, shape, *, name="net", dynamic=True, dtype=torch.float32, about):
    """An ONNX file of it and its description."""
    path = folder / f"{name}.onnx"
    sides = {"x": {0: torch.export.Dim("batch")}} if dynamic else None
    example = torch.zeros(2 if dynamic else 4, *shape, dtype=dtype)
    torch.onnx.export(theirs, (example,), path, dynamo=True, external_data=False, dynamic_shapes=sides, verbose=False)
    path.with_name(f"{path.name}.yaml").write_text(yaml.safe_dump(about))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(5):
        small = generator.integers(0, 256, (9, 5, 3), np.uint8)
        Image.fromarray(small).resize((50 + number, 120), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def by_hand(theirs, pictures, size, *, color="rgb", scale=255.0, mean=MEAN, std=STD, nhwc=False, flip=False):
    """Descriptors as the maker computes them."""
    resize = TestTransform.of(InputSpec(*size))
    x = np.stack([resize(read_image(path)) for path in sorted(pictures.glob("*.png"))])
    x = (x.transpose(0, 3, 1, 2) if x.shape[-1] == 3 else x).astype(np.float32)
    x = (x / scale - np.float32(mean).reshape(3, 1, 1)) / np.float32(std).reshape(3, 1, 1)
    views = []
    for view in (x, x[..., ::-1]) if flip else (x,):
        view = view[:, ::-1] if color == "bgr" else view
        view = torch.from_numpy(np.ascontiguousarray(view, np.float32))
        with torch.no_grad():
            views.append(theirs(view.permute(0, 2, 3, 1) if nhwc else view))
    return functional.normalize(sum(views)).numpy()


WAYS = {
    "NCHW, RGB": ((3, 64, 32), {"color": "rgb", "scale": 255, "mean": MEAN, "std": STD}, {}),
    "NCHW, BGR, gray levels, mirrored, four at a time": (
        (3, 64, 32),
        {"color": "bgr", "scale": 1, "mean": [123.0, 117, 104], "std": [57, 58, 59], "flip": True},
        {"color": "bgr", "scale": 1.0, "mean": [123.0, 117, 104], "std": [57, 58, 59], "flip": True},
    ),
    "NHWC": (
        (48, 24, 3),
        {"color": "rgb", "scale": 255, "mean": MEAN, "std": STD, "size": [48, 24], "layout": "NHWC"},
        {"nhwc": True},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_network_of_anybody_gives_its_own_descriptors(theirs, pictures, tmp_path, way):
    shape, about, how = WAYS[way]
    path = write(theirs, tmp_path, shape, dynamic="four" not in way, about=about)
    size = (shape[1], shape[2]) if shape[0] == 3 else shape[:2]
    wanted = by_hand(theirs, pictures, size, **how)
    model = regard.load(path)
    found = model.embed_pictures(sorted(pictures.glob("*.png")))
    assert (found * wanted).sum(1).min() > 0.999999
    assert model.origin == {"source": "net.onnx", "licence": "unknown"}
    import openvino

    openvino.save_model(openvino.convert_model(path), tmp_path / "net.xml", compress_to_fp16=False)
    (tmp_path / "net.xml.yaml").write_text(path.with_name("net.onnx.yaml").read_text())
    by_openvino = regard.load(tmp_path / "net.xml").embed_pictures(sorted(pictures.glob("*.png")))
    assert (by_openvino * wanted).sum(1).min() > 0.99999


@pytest.mark.slow
def test_a_gallery_by_command_from_a_file_alone(theirs, pictures, tmp_path, capsys):
    about = {"color": "bgr", "scale": 255, "mean": MEAN, "std": STD, "licence": "MIT"}
    path = write(theirs, tmp_path, (3, 64, 32), about=about)
    people, photo = str(tmp_path / "people"), str(pictures / "3.png")
    assert main(["embed", str(pictures), "--model", str(path), "-o", people, "-q"]) == 0
    capsys.readouterr()
    assert main(["search", photo, "--gallery", people, "--json", str(tmp_path / "found.json")]) == 0
    wanted = by_hand(theirs, pictures, (64, 32), color="bgr")
    found = json.loads((tmp_path / "found.json").read_text())
    (matches,) = (value for value in found.values() if isinstance(value, list))
    scores = {one["record"]["path"].rpartition("/")[2]: one["score"] for one in matches}
    assert scores == pytest.approx({f"{n}.png": float(wanted[3] @ wanted[n]) for n in range(5)}, abs=1e-4)
    path.with_name("net.onnx.yaml").write_text(yaml.safe_dump({**about, "color": "rgb"}))
    assert main(["search", photo, "--gallery", people, "--model", str(path)]) == 2
    assert "was embedded by another model" in capsys.readouterr().err


FAULTS = {
    "no description": (None, r"nothing says what .*net\.onnx sees; write net\.onnx\.yaml beside it: color: rgb, sc"),
    "no color": ({"scale": 255, "mean": MEAN, "std": STD}, r"says color: None, wanted rgb or bgr"),
    "no scale": ({"color": "rgb", "mean": MEAN, "std": STD}, r"does not say scale; it wants color: rgb"),
    "another size": (
        {"color": "rgb", "scale": 255, "mean": MEAN, "std": STD, "size": [99, 32]},
        r"takes pictures of 64 x 32, and its description says \[99, 32\]",
    ),
    "another layout": (
        {"color": "rgb", "scale": 255, "mean": MEAN, "std": STD, "layout": "NHWC"},
        r"its description says 'NHWC'; say layout: NCHW",
    ),
    "a word too many": ({"color": "rgb", "colour": "bgr"}, r"says 'colour', wanted color, scale"),
    "no number": ({"color": "rgb", "scale": True, "mean": MEAN, "std": STD}, r"scale: True, wanted 255, or 1"),
    "no three": ({"color": "rgb", "scale": 255, "mean": [1, 2], "std": STD}, r"mean is \[1, 2\], wanted three num"),
    "gray levels' mean on fractions": (
        {"color": "rgb", "scale": 255, "mean": [123.7, 116, 103], "std": [58, 57, 57]},
        r"mean: \[123\.7, 116, 103\] of levels divided by 255, wanted 0 to 1; say scale: 1 where mean and std are gray",
    ),
    "fractions' deviation on gray levels": (
        {"color": "rgb", "scale": 1, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        r"black and white are 1138 apart \(scale 1, std \[0\.229, .*say scale: 1 where mean and std are gray levels",
    ),
    "gray levels' deviation on fractions": (
        {"color": "rgb", "scale": 255, "mean": [0, 0, 0], "std": [58.4, 57, 57]},
        r"black and white are 0\.01712 apart",
    ),
    "a deviation of nothing": ({**ABOUT, "std": [0, 1, 1]}, r"std in .* is \[0, 1, 1\], wanted three numbers above 0"),
    "a size in words": ({**ABOUT, "size": "64x32"}, r"says size: '64x32', wanted size: \[HEIGHT, WIDTH\]"),
    "two licences": ({**ABOUT, "licence": ["MIT", "BSD"]}, r"licence: \['MIT', 'BSD'\], wanted its name in one line"),
    "an output": (
        {"color": "rgb", "scale": 255, "mean": MEAN, "std": STD, "output": "logits"},
        r"and its description names logits; say output: NAME",
    ),
}


@pytest.fixture(scope="module")
def written(theirs, tmp_path_factory):
    return write(theirs, tmp_path_factory.mktemp("written"), (3, 64, 32), about={})


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_description_that_does_not_fit_is_refused_in_one_line(written, fault):
    about, message = FAULTS[fault]
    place = written.with_name("net.onnx.yaml")
    place.unlink(missing_ok=True)
    if about is not None:
        place.write_text(yaml.safe_dump(about))
    with pytest.raises(ConfigError, match=message) as raised:
        regard.load(written)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_it_is_scored_and_asked_what_it_looks_at_like_others(theirs, tmp_path, market, capsys):
    path = write(theirs, tmp_path, (3, 64, 32), about={"color": "rgb", "scale": 255, "mean": MEAN, "std": STD})
    assert main(["eval", "--model", str(path), "--root", str(market), "-q", "--json", str(tmp_path / "a.json")]) == 0
    run = regard.open_run(path, root=market, quiet=True)
    scored = functional.normalize(torch.from_numpy(run.features("query").embeddings)).numpy()
    alone = regard.load(path).embed_pictures([sample.path for sample in run.splits.query])
    assert np.abs(scored - alone).max() < 1e-6
    assert json.loads((tmp_path / "a.json").read_text())["mAP"] == run.report().mAP
    capsys.readouterr()
    assert main(["eval", str(path), "--root", str(market), "-q"]) == 0
    assert f"next: regard report {path} --root {market}" in capsys.readouterr().out
    other = write(theirs, tmp_path, (3, 64, 32), name="other", about={**ABOUT, "color": "bgr"})
    both = ["compare", str(path), str(other), "--root", str(market), "--resamples", "100", "-q"]
    assert main([*both, "--json", str(tmp_path / "b.json"), "--csv", str(tmp_path / "b.csv")]) == 0
    line = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("net.onnx"))
    assert line[-3:-1] == ["unknown", "unknown"]
    first = json.loads((tmp_path / "b.json").read_text())["runs"][0]
    assert (first["parameters"], first["gflops"]) == (None, None)
    assert first["figures"]["mAP"]["value"] == pytest.approx(run.report().mAP)
    assert main([*both, "--no-speed"]) == 0  # from what was kept
    page = tmp_path / "page.html"
    assert main(["report", str(path), "--root", str(market), "--without", "map", "-q", "-o", str(page)]) == 0
    left = "attention, pairs, correlation, precision: nothing in a network that came as a file can be looked at"
    assert left in page.read_text()
    assert f"of net.onnx the page does not show {left}" in capsys.readouterr().err
    photo = str(next(market.rglob("*.jpg")))
    assert main(["explain", "attention", str(path), photo, "-o", str(tmp_path / "a.png")]) == 2
    assert "nothing in it can be looked at" in capsys.readouterr().err


@pytest.mark.slow
def test_weights_beside_the_file_are_taken_into_the_model_wherever_one_stands(theirs, pictures, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "net.onnx.yaml").write_text(yaml.safe_dump({**ABOUT, "size": [64, 32]}))
    path = tmp_path / "a" / "net.onnx"
    given = {"x": {0: torch.export.Dim("batch")}}
    torch.onnx.export(theirs, (torch.zeros(2, 3, 64, 32),), path, dynamic_shapes=given, verbose=False)
    content = onnx.load(path)
    onnx.save_model(content, path, save_as_external_data=True, location="net.data", size_threshold=100)
    monkeypatch.chdir(tmp_path)
    wanted = by_hand(theirs, pictures, (64, 32))
    folder = model_folder(path)
    (tmp_path / "net.data").write_bytes(bytes(np.full(5000, 7, np.uint8)))  # another network's, where one stands
    for place in (path, folder):
        assert (regard.load(place).embed_pictures(sorted(pictures.glob("*.png"))) * wanted).sum(1).min() > 0.999999
    held = np.frombuffer((tmp_path / "a" / "net.data").read_bytes(), np.float32)
    (tmp_path / "a" / "net.data").write_bytes(held[::-1].tobytes())
    changed = regard.load(path).embed_pictures(sorted(pictures.glob("*.png")))
    assert np.abs(changed - wanted).max() > 0.01  # the file changed, and so did the model
    (tmp_path / "a" / "net.data").unlink()
    with pytest.raises(CheckpointError, match=r"net\.onnx is no ONNX file that is whole"):
        regard.load(path)


class Odd(nn.Module):
    """Networks from pictures to something else than a row for each."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean((2, 3))
        return {"scalar": means.sum(), "one row": means.sum(0, keepdim=True), "map": x.mean(1)}[self.kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scalar", "one row", "map"])
def test_what_makes_no_row_for_each_picture_is_refused_at_once(tmp_path, kind):
    path = write(Odd(kind).eval(), tmp_path, (3, 64, 32), about=ABOUT)
    with pytest.raises(
        CheckpointError, match=r"tried on black pictures: the graph makes .* wanted a row of numbers"
    ) as raised:
        regard.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_folder_of_before_or_damaged_is_made_anew(theirs, pictures, tmp_path):
    path = write(theirs, tmp_path, (3, 64, 32), about=ABOUT)
    folder = model_folder(path)
    first, config = (
        regard.load(path).embed_pictures(list(pictures.glob("*.png"))),
        (folder / "config.json").read_bytes(),
    )
    path.with_name("net.onnx.yaml").write_text(yaml.safe_dump({**ABOUT, "color": "bgr"}))
    assert np.abs(regard.load(path).embed_pictures(list(pictures.glob("*.png"))) - first).max() > 1e-3
    (folder / "config.json").write_bytes(config)  # as a kill between two renames leaves it
    with pytest.raises(CheckpointError, match="not the one that its description is of"):
        regard.load(folder).embed_pictures(list(pictures.glob("*.png")))
    path.with_name("net.onnx.yaml").write_text(yaml.safe_dump(ABOUT))
    for damage in (lambda: None, lambda: (folder / "config.json").write_bytes(b"{")):
        damage()
        assert np.array_equal(regard.load(path).embed_pictures(list(pictures.glob("*.png"))), first)


@pytest.mark.slow
def test_what_is_no_graph_of_pictures_is_refused(tmp_path):
    (tmp_path / "a.onnx.yaml").write_text(yaml.safe_dump({"color": "rgb", "scale": 255, "mean": MEAN, "std": STD}))
    (tmp_path / "a.onnx").write_bytes(b"not a graph")
    with pytest.raises(CheckpointError, match=r"a\.onnx is no ONNX file that is whole"):
        import_graph(tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match=r"cannot read .*b\.xml"):
        import_graph(tmp_path / "b.xml", tmp_path / "a.onnx.yaml")
    linear = nn.Linear(4, 2).eval()
    torch.onnx.export(linear, (torch.zeros(1, 4),), tmp_path / "a.onnx", external_data=False, verbose=False)
    with pytest.raises(CheckpointError, match=r"takes x? ?.*wanted one input, \(B, 3, H, W\) or \(B, H, W, 3\)"):
        import_graph(tmp_path / "a.onnx")


def small(folder, *ending, shape=("n", 3, 16, 8)):
    """A graph of a convolution and a mean over the map, then these operations: (name, further inputs, attributes)."""
    weight = np.random.default_rng(0).normal(size=(6, 3, 4, 4)).astype(np.float32)
    steps = [("Conv", ["w"], {"strides": [4, 4]}), ("GlobalAveragePool", [], {}), ("Flatten", [], {}), *ending]
    nodes = [
        helper.make_node(name, ["x" if not at else f"y{at - 1}", *(each or f"y{at - 1}" for each in more)], [f"y{at}"],
                         **how)
        for at, (name, more, how) in enumerate(steps)
    ]  # fmt: skip
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
        helper.make_tensor_value_info(f"y{len(steps) - 1}", TensorProto.FLOAT, None),
    ]
    held = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.float32([1e30]), "far")]
    graph = helper.make_graph(nodes, "small", ports[:1], ports[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    (folder / "net.onnx.yaml").write_text(yaml.safe_dump(ABOUT))
    return folder / "net.onnx"


SAY_NOTHING = {
    "of a batch, as exported in training": (
        [("ReduceMean", [], {"axes": [0]}), ("Sub", ["y2"], {})],
        r"the descriptor of a picture changes with the pictures beside it; export it in evaluation mode",
    ),
    "one number": ([("ReduceMean", [], {"axes": [1]})], r"its descriptors are one number each, wanted some"),
    "always the same": ([("Sub", [""], {}), ("Exp", [], {})], r"it makes the same descriptor of any picture"),
    "always nothing": ([("Sub", [""], {})], r"it makes the same descriptor of any picture"),
    "beyond float32": ([("Mul", ["far"], {}), ("Mul", ["far"], {})], r"hold numbers that are not finite"),
}


@pytest.mark.parametrize("what", SAY_NOTHING)
@pytest.mark.parametrize("batch", ["n", 4])
def test_descriptors_that_say_nothing_of_a_picture_are_refused_at_once(tmp_path, what, batch):
    ending, message = SAY_NOTHING[what]
    path = small(tmp_path, *ending, shape=(batch, 3, 16, 8))
    with pytest.raises(CheckpointError, match=rf"net\.onnx, tried on .*{message}"):
        import_graph(path)


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_descriptors_of_a_picture_alone_are_taken(tmp_path, batch):
    assert import_graph(small(tmp_path, shape=(batch, 3, 16, 8))).embed_dim == 6


def test_a_file_that_is_none_is_named_with_the_next_step(tmp_path, capfd):
    path = small(tmp_path, shape=("n", 1, 16, 8))
    with pytest.raises(CheckpointError, match=r"takes \(None, 1, 16, 8\), wanted pictures of 3 colors"):
        import_graph(path)
    path = small(tmp_path, shape=("n", 3, "h", "w"))
    path.with_name("net.onnx.yaml").write_text(yaml.safe_dump({**ABOUT, "size": [2, 2]}))
    with pytest.raises(CheckpointError, match=r"tried on black pictures: the graph does not compute 2 pictures of"):
        import_graph(path)
    assert capfd.readouterr().err == ""  # the runtime says nothing beside it
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"onnxruntime does not take .*net\.onnx \("):
        import_graph(path)
    (tmp_path / "net.xml").write_text("<net/>")
    with pytest.raises(CheckpointError, match=r"cannot read .*net\.bin .*; copy the net\.bin that belongs to net\.xml"):
        import_graph(tmp_path / "net.xml", tmp_path / "net.onnx.yaml")
    for name, said in (("gone.onnx", r"gone\.onnx, which is not there; give a folder"), ("net.pt", "which is a file")):
        (tmp_path / "net.pt").write_bytes(b"")
        with pytest.raises(CheckpointError, match=said):
            regard.load(tmp_path / name)
