"""Small networks of every system, in a state in which training and evaluation differ."""

from __future__ import annotations

from typing import Any

import torch

import regard
from small_backbones import tiny

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("apnet", {}),
    ("apnet", {"level": 3}),
    ("apnet", {"agent": "rga_sc", "height": 96, "width": 32}),
    ("baseline", {}),
    ("baseline", {"ibn": "a", "mixstyle": [1], "pooling": "gem"}),
    ("baseline", {"backbone": "test_convnext.r160_in1k"}),
    ("daaf", {}),
    ("daaf", {"preset": "trinet"}),
    ("dsp", {}),
    ("dsp", {"mode": "code"}),
    ("msea", {}),
    ("msea", {"preset": "2023", "ibn": "b"}),
    ("msea", {"preset": "head"}),
    ("mudeep", {}),
    ("pcb", {}),
    ("pcb", {"descriptor": "reduced"}),
    ("regard", {"ibn": "a"}),
    ("sa", {}),
    ("sa", {"mode": "softmax"}),
    ("transreid", {}),
]


def seasoned(name: str, size: tuple[int, int], seed: int = 0, **options: Any) -> regard.ReIDModel:
    """A network whose normalizations have seen pictures, in evaluation mode."""
    torch.manual_seed(seed)
    model = regard.create_model(name, 5, **{"backbone": tiny(name), **options})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(3):
            model(1.5 * torch.randn(8, 3, *size, generator=generator) + 0.3)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and module.weight is not None:
                module.weight += 0.2 * torch.rand(module.weight.shape, generator=generator)
                module.bias += 0.2 * torch.rand(module.bias.shape, generator=generator) * module.bias.requires_grad
    return model.eval()
