"""RGA-S against a map computed by its authors' code on weights that are filled from their names.

It is APNet with one level of relation attention. The authors' three embeddings are one convolution here, so their
tensors are joined; nothing of theirs is released to import.
"""

from __future__ import annotations

import fill
import pytest
import torch

import regard

PARTS = {"compress": "gg_spatial.0", "normalize": "gg_spatial.1", "attend": "W_spatial"}
EMBEDDINGS = ("gx_spatial", "theta_spatial", "phi_spatial")


def filled(name: str, shape: torch.Size) -> torch.Tensor:
    """What the authors' tensor called ``name`` holds."""
    return torch.from_numpy(fill.tensor(name, tuple(shape)))


def attention_tensor(name: str, ours: torch.Tensor) -> torch.Tensor:
    """The value of ``attention.tapT.levels.level1.agent.REST``."""
    tap, rest = name.removeprefix("attention.tap").split(".levels.level1.agent.")
    module, _, leaf = rest.partition(".")
    if module == "embed" and ours.ndim:
        shape = torch.Size([len(ours) // 3, *ours.shape[1:]])
        return torch.cat([filled(f"rga_att{int(tap) - 1}.{theirs}.{leaf}", shape) for theirs in EMBEDDINGS])
    shape = torch.Size([*ours.shape, 1, 1]) if module == "compress" else ours.shape
    return filled(f"rga_att{int(tap) - 1}.{PARTS.get(module, EMBEDDINGS[0])}.{leaf}", shape).reshape(ours.shape)


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
    x = torch.from_numpy(2 * fill.uniform("input", 3 * height * width) - 1).float().view(1, 3, height, width)
    with torch.no_grad():
        for tap, stage in enumerate(model.backbone.stages, start=1):
            x = stage(x)
            if tap > 1:
                x, _ = model.attention[f"tap{tap}"](x)
    assert x.mean().item() == pytest.approx(0.0914177, abs=1e-6)
    assert x.std().item() == pytest.approx(0.1050002, abs=1e-6)
    assert x[0, :4, 0, 0].tolist() == pytest.approx([0.1245653, 0.0474253, 0.1289210, 0], abs=2e-6)
