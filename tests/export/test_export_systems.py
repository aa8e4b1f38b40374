"""Every system as a file: the same descriptors as the network, in batches of any size, on every runtime."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from exportable import VARIANTS, seasoned

from regard.data.transforms import IMAGENET_MEAN, IMAGENET_STD, affine
from regard.errors import ConfigError, DataError
from regard.export.exporting import describe
from regard.export.formats import load_program, to_onnx, to_openvino, to_torch_export
from regard.export.graph import fold_norms, optimize_for_inference, program_module, trace
from regard.export.parity import made_pictures
from regard.registry import MODELS

SIZE = (96, 32)


def test_every_registered_system_is_among_them():
    assert {name for name, _ in VARIANTS} == set(MODELS)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return made_pictures(*SIZE, seed=5)


def one_by_one(model, pictures: np.ndarray) -> np.ndarray:
    """Descriptors by the network itself, one picture at a time, normalized by hand."""
    pixels = (pictures / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    return np.concatenate([model.embed(image[None]).numpy() for image in images])


def check(run, pictures: np.ndarray, wanted: np.ndarray) -> None:
    for size in (1, 2, 7, 32):
        found = run(pictures[:size])
        assert found.shape == wanted[:size].shape
        assert np.abs(found - wanted[:size]).max() < 1e-4 * np.abs(wanted).max()
        nearest = [np.abs(wanted - row).max(1).argmin() for row in found.astype(np.float64)]
        assert nearest == list(range(size))


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value))
def test_files_give_the_networks_descriptors(name, options, pictures):
    model = seasoned(name, SIZE, **options)
    wanted = one_by_one(model, pictures)
    _, card = describe(model, SIZE)
    program = trace(model, *SIZE)
    data = to_onnx(program, card)

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    check(lambda images: session.run(None, {"images": images})[0], pictures, wanted)

    network = openvino.Core().compile_model(
        openvino.Core().read_model(*to_openvino(data, card)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    check(lambda images: np.array(network(images)[0]), pictures, wanted)
    with torch.inference_mode():
        check(lambda images: program_module(program)(torch.from_numpy(images)).numpy(), pictures, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["tiny_swin", "tiny_hrnet", "osnet_ain_x0_25"])
def test_files_of_every_family_give_the_networks_descriptors(backbone, pictures):
    """Windows, parallel maps and normalization by picture; ViTs are TransReID's above."""
    model = seasoned("baseline", SIZE, backbone=backbone)
    wanted, (_, card) = one_by_one(model, pictures[:3]), describe(model, SIZE)
    data = to_onnx(trace(model, *SIZE), card)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    network = openvino.Core().compile_model(
        openvino.Core().read_model(*to_openvino(data, card)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for run in (lambda images: session.run(None, {"images": images})[0], lambda images: np.array(network(images)[0])):
        for size in (1, 3):
            found = run(pictures[:size])
            assert np.abs(found - wanted[:size]).max() < 1e-4 * np.abs(wanted).max()
    assert min(np.linalg.norm(wanted[a] - wanted[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 0.01 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["baseline", "mudeep"])
def test_torch_export_files_give_the_networks_descriptors(name, pictures):
    model = seasoned(name, SIZE)
    _, card = describe(model, SIZE)
    program = load_program(to_torch_export(trace(model, *SIZE), card))
    with torch.inference_mode():
        check(lambda images: program.module()(torch.from_numpy(images)).numpy(), pictures, one_by_one(model, pictures))


def test_an_onnx_file_says_what_it_takes():
    model = seasoned("baseline", SIZE)
    _, card = describe(model, SIZE)
    made = onnx.load_from_string(to_onnx(trace(model, *SIZE), card))
    onnx.checker.check_model(made)
    image, descriptor = made.graph.input[0], made.graph.output[0]
    assert (image.name, descriptor.name) == ("images", "embedding")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["batch", 96, 32, 3]
    assert [d.dim_param or d.dim_value for d in descriptor.type.tensor_type.shape.dim] == ["batch", model.embed_dim]
    said = json.loads({entry.key: entry.value for entry in made.metadata_props}["regard"])
    assert said["mean"] == list(IMAGENET_MEAN)
    assert said["std"] == list(IMAGENET_STD)
    assert (said["height"], said["width"], said["color"], said["layout"]) == (96, 32, "RGB", "NHWC")
    assert (said["system"], said["embed_dim"], said["l2_normalized"]) == ("baseline", model.embed_dim, False)
    assert "BatchNormalization" not in {node.op_type for node in made.graph.node[:-1]}


def test_an_openvino_file_keeps_its_weights_whole():
    model = seasoned("baseline", SIZE)
    _, card = describe(model, SIZE)
    xml, weights = to_openvino(to_onnx(trace(model, *SIZE), card), card)
    made = openvino.Core().read_model(xml, weights)
    floats = {str(op.get_output_element_type(0)) for op in made.get_ops() if op.get_type_name() == "Constant"}
    assert "<Type: 'float16'>" not in floats
    assert json.loads(made.get_rt_info(["regard"]).astype(str))["system"] == "baseline"


@pytest.mark.parametrize(("name", "bound"), [("apnet", 1e-13), ("mudeep", 1e-13), ("dsp", 1e-6)])
def test_folding_is_exact(name, bound, pictures):
    """In float64 the folded graph and the network differ by float64's rounding; parts of dsp are float32 always."""
    model = seasoned(name, SIZE).double()
    images = torch.from_numpy(pictures[:4])
    folded = optimize_for_inference(model, *SIZE)
    with torch.inference_mode():
        found = folded(images)
    scale, shift = (value.double() for value in affine(IMAGENET_MEAN, IMAGENET_STD, torch.device("cpu")))
    wanted = model(images.permute(0, 3, 1, 2).double() * scale + shift).embedding.detach()
    assert found.dtype == torch.float64
    assert (found - wanted).abs().max() < bound * wanted.abs().max()
    assert sum(node.target is torch.ops.aten.batch_norm.default for node in folded.graph.nodes) < sum(
        isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()
    )


class TwoUsers(torch.nn.Module):
    """A convolution whose output is normalized and used as it is, and one that is only normalized."""

    def __init__(self):
        super().__init__()
        self.shared, self.own = (torch.nn.Conv2d(3, 3, 3, bias=bias) for bias in (False, True))
        self.first, self.second = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3, affine=False)
        for norm in (self.first, self.second):
            norm.running_mean, norm.running_var = torch.randn(3), torch.rand(3) + 0.1

    def forward(self, x):
        y = self.shared(x)
        return self.second(self.own(y + self.first(y)))


def test_only_what_nobody_else_uses_is_folded():
    torch.manual_seed(0)
    network = TwoUsers().double().eval()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    module = program_module(torch.export.export(network, (x,)))
    assert fold_norms(module) == 1
    assert [str(n.target) for n in module.graph.nodes].count("aten.batch_norm.default") == 1
    torch.testing.assert_close(module(x), network(x), rtol=1e-13, atol=1e-13)


def test_a_size_the_network_was_not_made_for():
    model = seasoned("apnet", (64, 32), agent="rga", height=64, width=32)
    with pytest.raises(DataError, match="got images of 96 x 32 pixels"):
        trace(model, 96, 32)
    with pytest.raises(ConfigError, match="baseline takes no pictures of 0 x 32"):
        trace(seasoned("baseline", SIZE), 0, 32)


def test_tracing_leaves_the_network_alone():
    model = seasoned("daaf", SIZE).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffer = io.BytesIO()
    torch.export.save(trace(model, *SIZE), buffer)
    assert model.training
    assert not model.stripped
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
