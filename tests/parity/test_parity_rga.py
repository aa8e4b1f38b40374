"""RGA-S, RGA-C and RGA-SC, which are APNets of one level: against a map computed by the authors' code on weights that
are filled from their names (RGA-S), and, imported from files as that code writes them, against a twin that was written
from the paper (all of them). The authors' three embeddings are one convolution here, so their tensors are joined.
"""

from __future__ import annotations

import named_weights
import pytest
import rga_twin
import torch

import regard
from regard.errors import CheckpointError
from regard.models.apnet import RELATIONS
from regard.models.importers.released_pyramids import EMBEDDINGS, PLACES, rga

RELEASED = {"compress": "gg_{}.0", "normalize": "gg_{}.1", "attend": "W_{}", "embed": "gx_{}"}


def filled(name: str, shape: torch.Size) -> torch.Tensor:
    """What the authors' tensor called ``name`` holds."""
    return torch.from_numpy(named_weights.tensor(name, tuple(shape)))


HALVES = {"rga": ("spatial",), "rga_c": ("channel",), "rga_sc": ("spatial", "channel")}
HEIGHT, WIDTH = 128, 112
"""The fewest positions for which the published gate sees anything are 56: 8 x 7 after the last stage."""


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["rga_c", "rga_sc"])
def test_an_imported_network_is_its_twin(agent, tmp_path):
    """A file as the authors' code writes it: descriptors, vectors and scores to 1e-9 in float64."""
    tensors = rga_twin.draw(rga_twin.shapes(HEIGHT, WIDTH, HALVES[agent], 5), seed=3)
    torch.save({"state_dict": tensors, "epoch": 600, "best_top1": 0, "optimizer": {}}, tmp_path / "file.pth.tar")
    model = regard.import_released(tmp_path / "file.pth.tar", "rga", size=(HEIGHT, WIDTH))
    assert (type(model).__name__, model.options["agent"], model.options["level"]) == ("APNet", agent, 1)
    report = model.import_report
    assert (report.unused, report.missing, report.conflicting) == ([], [], [])
    assert len(report.used) == len(tensors)
    weights = {name: value.double() for name, value in tensors.items()}
    images = torch.randn(2, 3, HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = model.double()(images)
        pooled, neck, scores = rga_twin.forward(images, weights, HALVES[agent], training=False)
    for ours, theirs in ((out.features["global"], pooled), (out.embedding, neck), (out.logits["global"], scores)):
        assert (ours - theirs).abs().max() < 1e-9 * theirs.abs().max()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("agent", "kind"), RELATIONS.items())
def test_attention_is_its_twin(agent, kind, training):
    """Output and the gradient of every weight to 1e-9 in float64, the twin running on parts of our tensors."""
    torch.manual_seed(0)
    layer = kind(64, 9, 8).double()
    x = torch.randn(3, 64, 9, 8, dtype=torch.float64).relu().requires_grad_()
    layer(x)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    weights = {}
    for half in HALVES[agent]:
        _, places = PLACES[HALVES[agent]]
        place = places[half].removeprefix("agent").removeprefix(".")
        for name, value in (layer.get_submodule(place) if place else layer).state_dict(keep_vars=True).items():
            module, _, leaf = name.partition(".")
            if module == "embed" and value.ndim:
                weights |= {f"{part}_{half}.{leaf}": chunk for part, chunk in zip(EMBEDDINGS, value.chunk(3))}
            else:
                weights[f"{RELEASED[module].format(half)}.{leaf}"] = value
    layer.train(training)
    results = []
    for y in (x * layer(x), rga_twin.attended(x, weights, "", HALVES[agent], training)):
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    for ours, theirs in zip(*results):
        assert (ours - theirs).abs().max() <= 1e-9 * theirs.abs().max()


def test_sizes_that_a_file_tells_and_those_it_does_not():
    """256 x 128 and 384 x 192 are read off; of 384 x 128 it is only known how many pixels they are."""
    for height, width in ((256, 128), (384, 192)):
        for halves in HALVES.values():
            shapes = rga_twin.shapes(height, width, halves, 3)
            tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
            assert rga(tensors, "file").size == (height, width)
    with pytest.raises(CheckpointError, match=r"the size of its pictures: they have 49,152 pixels and .*--size"):
        regard.import_released(rga_twin.draw(rga_twin.shapes(384, 128, ("channel",), 3), 0), "rga")


def attention_tensor(name: str, ours: torch.Tensor) -> torch.Tensor:
    """The value of ``attention.tapT.levels.level1.agent.REST``."""
    tap, rest = name.removeprefix("attention.tap").split(".levels.level1.agent.")
    module, _, leaf = rest.partition(".")
    place = f"rga_att{int(tap) - 1}"
    if module == "embed" and ours.ndim:
        shape = torch.Size([len(ours) // 3, *ours.shape[1:]])
        return torch.cat([filled(f"{place}.{theirs}_spatial.{leaf}", shape) for theirs in EMBEDDINGS])
    shape = torch.Size([*ours.shape, 1, 1]) if module == "compress" else ours.shape
    return filled(f"{place}.{RELEASED[module].format('spatial')}.{leaf}", shape).reshape(ours.shape)


@pytest.mark.slow
def test_last_map():
    height, width = 384, 192
    model = regard.create_model("apnet", 2, agent="rga", level=1, height=height, width=width, stem_relu=True).eval()
    values = model.state_dict()
    for name, ours in values.items():
        if name.startswith("backbone."):
            values[name] = filled(name.split(".", 3)[3], ours.shape)
        elif name.startswith("attention."):
            values[name] = attention_tensor(name, ours)
    model.load_state_dict(values)
    x = torch.from_numpy(2 * named_weights.uniform("input", 3 * height * width) - 1).float().view(1, 3, height, width)
    with torch.no_grad():
        for tap, stage in enumerate(model.backbone.stages, start=1):
            x = stage(x)
            if tap > 1:
                x, _ = model.attention[f"tap{tap}"](x)
    assert x.mean().item() == pytest.approx(0.0914177, abs=1e-6)
    assert x.std().item() == pytest.approx(0.1050002, abs=1e-6)
    assert x[0, :4, 0, 0].tolist() == pytest.approx([0.1245653, 0.0474253, 0.1289210, 0], abs=2e-6)
