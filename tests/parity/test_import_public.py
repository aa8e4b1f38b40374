"""Checkpoints of torchreid and TransReID, from the file to the vectors of pictures, against the networks' formulas.

Files are as the toolkits write them, with random tensors under the published names and shapes (``public_twins``).
"""

from __future__ import annotations

import numpy as np
import public_twins as twins
import pytest
import torch
from PIL import Image

import regard
from regard.cli.main import main
from regard.errors import CheckpointError
from regard.input_spec import InputSpec
from regard.models.importers.fastreid import fastreid
from regard.models.importers.tensor_file import read_tensors
from regard.models.importers.transreid_vit import BACKBONES, transreid

WIDE, NARROW = (64, 256, 384, 512), (16, 64, 96, 128)


@pytest.fixture(scope="module")
def crops() -> list[Image.Image]:
    """Smooth pictures of two sizes, as photographs are."""
    generator = np.random.default_rng(0)
    sizes = [(41, 97), (150, 310)]
    colors = [Image.fromarray(generator.integers(0, 256, (9, 5, 3), dtype=np.uint8)) for _ in sizes]
    return [small.resize(size, Image.Resampling.BICUBIC) for small, size in zip(colors, sizes)]


def shown(crops: list[Image.Image], height: int, mean: list[float], std: list[float], *, how: str = "BILINEAR"):
    """What a toolkit's transform makes of pictures: resized by Pillow, in fractions of white, normalized."""
    resized = [np.asarray(crop.resize((128, height), Image.Resampling[how])) for crop in crops]
    pixels = (np.stack(resized) / 255 - mean) / np.array(std)
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))


IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}


def imported(path, folder, capsys) -> tuple[regard.ReIDModel, list[str]]:
    """The model that ``regard import`` makes of a file, and its lines."""
    assert main(["import", str(path), "-o", str(folder)]) == 0
    return regard.load(folder), capsys.readouterr().out.splitlines()


def check(model: regard.ReIDModel, crops: list[Image.Image], wanted: torch.Tensor) -> None:
    """The vectors of pictures have the directions of ``wanted``, which differ from one picture to another."""
    found = torch.from_numpy(model.embed_pictures(crops)).double()
    wanted = torch.nn.functional.normalize(wanted.double())
    assert found.shape == wanted.shape
    assert (found * wanted).sum(1).min() > 0.99999
    assert (found - wanted).norm(dim=1).max() < 0.1 * torch.pdist(wanted).min()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "widths"),
    [("x", "osnet_x0_25", NARROW), ("ibn", "osnet_ibn_x1_0", WIDE), ("ain", "osnet_ain_x0_25", NARROW)],
)
def test_an_osnet_of_torchreid(kind, name, widths, crops, tmp_path, capsys):
    tensors = twins.drawn(twins.osnet_shapes(widths, kind))
    prefix = "module." if kind == "ain" else ""
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    training = {"epoch": 60, "rank1": np.float64(0.94), "optimizer": optimizer.state_dict()}
    torch.save(
        {"state_dict": {prefix + key: value for key, value in tensors.items()}, **training}, tmp_path / "m.pth.tar"
    )
    model, lines = imported(tmp_path / "m.pth.tar", tmp_path / "model", capsys)
    assert lines[0].startswith(f"osnet of {twins.CLASSES} identities: backbone={name}, ")
    assert lines[2:4] == ["  unused: classifier.bias", lines[3]]
    assert lines[3].startswith(
        "from KaiyangZhou/deep-person-reid, licence: MIT for the code; the weights learned from re"
    )
    assert (model.embed_dim, str(model.input), model.imported) == (512, "256 x 128, bilinear", "osnet")
    assert model.origin["licence"] in lines[3]
    check(model, crops, twins.osnet(tensors, shown(crops, 256, **IMAGENET)))
    torch.testing.assert_close(model.classifier.weight, tensors["classifier.weight"])


@pytest.mark.slow
def test_a_stronger_baseline_of_fastreid(crops, tmp_path, capsys):
    """With instance normalizations, non-local blocks and an exponent; by the whole path, whose pixels are Pillow's."""
    tensors = twins.drawn(twins.fastreid_shapes(ibn=True, non_local=True, exponent=True))
    tensors["heads.pool_layer.p"] = torch.tensor([2.4])
    tensors |= {key: 1e-4 * value for key, value in tensors.items() if key.endswith(".W.1.weight")}
    torch.save({"model": tensors, "metric": np.float64(88)}, tmp_path / "m.pth")
    model, lines = imported(tmp_path / "m.pth", tmp_path / "model", capsys)
    assert lines[1].endswith("0 unused, 0 missing, 0 conflicting")
    assert str(model.input) == "384 x 128, bicubic"
    check(model, crops, twins.fastreid(tensors, shown(crops, 384, **IMAGENET, how="BICUBIC")))


@pytest.mark.parametrize(("alike", "options"), [(False, {}), (True, {"pooling": "gem"})])
def test_networks_of_fastreids_first_version(alike, options):
    """Bag of tricks, and AGW, whose exponent is in no file; the colors are in it, in gray levels."""
    shapes = twins.fastreid_shapes(early=True, non_local=alike) | {
        "pixel_mean": (1, 3, 1, 1),
        "pixel_std": (1, 3, 1, 1),
    }
    found = fastreid({key: torch.ones(()).expand(shape) for key, shape in shapes.items()}, "it")
    plain = {"backbone": f"fastreid_r50{'_nl' if alike else ''}", "ibn": None, "last_stride": 1, "stem_relu": True}
    assert found.options == plain | options
    assert {*found.names, *found.told} == {*shapes}
    assert found.seen == InputSpec(256, 128, "bicubic", (1 / 255,) * 3, (1 / 255,) * 3, flip=False)
    assert [value.tolist() for value, _ in found.made.values()] == ([[3.0]] if alike else [])


@pytest.mark.slow
@pytest.mark.parametrize(("positions", "stride", "more"), [(210, 12, {"cameras": 3}), (128, 16, {"jigsaw": False})])
def test_a_transreid(positions, stride, more, crops, tmp_path, capsys, monkeypatch):
    """The networks that are read have 22 million parameters and more; here is a small one of six blocks."""
    monkeypatch.setitem(BACKBONES, (64, 6), "test_vit.r160_in1k")
    tensors = twins.drawn(twins.transreid_shapes(64, 6, positions, **more))
    torch.save({f"module.{key}": value for key, value in tensors.items()}, tmp_path / "transformer_120.pth")
    model, lines = imported(tmp_path / "transformer_120.pth", tmp_path / "model", capsys)
    assert lines[0].startswith(f"transreid of {twins.CLASSES} identities: backbone=test_vit")
    unused = sorted(line.removeprefix("  unused: ") for line in lines if line.startswith("  unused"))
    idle = ("base.fc.", "base.norm.", "base.blocks.5.")[: 1 if "jigsaw" in more else 3]
    assert unused == sorted(key for key in tensors if key.startswith(idle))
    images = shown(crops, 256, **HALF)
    check(model, crops, twins.transreid(tensors, images, stride))
    if "cameras" in more:
        told, wanted = torch.tensor([1, 3]), twins.transreid(tensors, images, stride, torch.tensor([0, 2]))
        torch.testing.assert_close(model.embed(images, told), wanted, rtol=1e-4, atol=1e-4)


def test_queries_of_the_wide_vit_are_scaled():
    """Its authors divide by the root of all 768 channels, timm by that of the 96 of a head."""
    shapes = twins.transreid_shapes(768, 8, 128, jigsaw=False)
    found = transreid({key: torch.ones(()).expand(shape) for key, shape in shapes.items()}, "it")
    scaled = found.made["backbone.stages.1.blocks.0.attn.qkv.weight"][0][:, 0]
    torch.testing.assert_close(scaled[:768], torch.full((768,), 8**-0.5))
    assert (scaled[768:] == 1).all()
    assert found.options["backbone"] == "vit_small768_patch16_224"


def test_numbers_of_numpy_beside_the_weights_become_nothing(tmp_path):
    """A pickle may call what stands for NumPy's with anything; nothing of it is kept or run."""
    told = {"rank1": np.float32(1), "epoch": np.int64(3), "kind": np.dtype([("a", "O")])}
    torch.save({"state_dict": {"module.a": torch.ones(2)}, **told}, tmp_path / "m.pth")
    assert [*read_tensors(tmp_path / "m.pth")] == ["a"]
    torch.save({"state_dict": {"a": torch.ones(2)}, "ranks": np.zeros(3)}, tmp_path / "array.pth")
    with pytest.raises(CheckpointError, match="holds Python objects, which are not loaded"):
        read_tensors(tmp_path / "array.pth")


OSNET = {key: torch.zeros(shape) for key, shape in twins.osnet_shapes(NARROW).items()}
FAST = {key: torch.zeros(()).expand(shape) for key, shape in twins.fastreid_shapes().items()}
VIT = {key: torch.zeros(shape) for key, shape in twins.transreid_shapes(384, 12, 128).items()}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"features.0.weight": torch.zeros(1)},
            "shows none of the networks that are known: it has features.0.weight, …",
        ),
        (OSNET | {"conv2.0.se.fc.weight": torch.zeros(1)}, r"1 tensors that such a network has none of \(conv2\.0\.se"),
        ({k: v for k, v in OSNET.items() if "fc." not in k or "gate" in k}, r"no fc\.0\.weight \(the linear layer"),
        (OSNET | {"conv1.conv.weight": torch.zeros(80, 3, 7, 7)}, "its stem has 80 channels"),
        (OSNET | {"conv4.0.IN.weight": torch.zeros(128)}, "none, none, none, none, after, none; wanted 64, 48, 32, 16"),
        (
            {k: v for k, v in OSNET.items() if k != "conv5.bn.weight"},
            r"does not fit: .* 1 missing \(backbone\.stages\.4",
        ),
        (
            VIT | {"base.pos_embed": torch.zeros(1, 50, 384)},
            "it has 49 positions, wanted 128, 210, 192, 310; say --size",
        ),
        (
            VIT | {"base.cls_token": torch.zeros(1, 1, 512)},
            "12 blocks of 512 channels, wanted 12 blocks of 768, 12 blo",
        ),
        (
            {k.replace("layer1.0.conv3", "x"): v for k, v in FAST.items()},
            "3, 4, 6, 3 blocks of two convolutions; wanted R",
        ),
        (FAST | {"backbone.layer1.0.se.fc.0.weight": torch.zeros(1)}, r"none of \(backbone\.layer1\.0\.se"),
        ({"local_conv_layer1.weight": torch.zeros(1)}, "is of dsp or sa: .* say which it is: --network dsp, sa"),
    ],
)
def test_a_near_miss_is_one_line(tensors, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        regard.import_released(tensors, network=None)
    assert "\n" not in str(caught.value)
