"""The engine torch, which runs a folded graph, and every engine by its name.

Shapes: B pictures in a batch, H x W pixels, D descriptor length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx, nn

from regard.errors import RegardError
from regard.export.engines import Engine, not_taken, open_runtime
from regard.export.formats import load_program
from regard.export.graph import program_module
from regard.export.manifest import Card, Precision
from regard.precision import Products
from regard.wording import one_line

__all__ = ["open_files", "torch_engine"]


def open_files(
    name: str, files: tuple[bytes, ...], card: Card, precision: Precision | None = None, threads: int | None = None
) -> Engine:
    """The engine of that name for the content of an exported file, or of OpenVINO's two.

    Whoever calls it with a ``.pt2`` trusts it: see :mod:`regard.export.opening`.

    Raises:
        CheckpointError: the engine does not take it.
    """
    if name != "torch":
        return open_runtime(name, files, card, precision, threads)
    try:
        return torch_engine(program_module(load_program(files[0])), card, precision or card.precision, threads=threads)
    except RegardError:
        raise
    except Exception as error:  # torch raises what it does
        raise not_taken(name, card, error) from error


def torch_engine(
    module: fx.GraphModule,
    card: Card,
    precision: Precision,
    *,
    threads: int | None = None,
    device: torch.device | None = None,
    compile: bool = False,
) -> Engine:
    """A graph run by PyTorch; ``threads`` is the whole process's number of them."""
    place = device or torch.device("cpu")
    if threads:
        torch.set_num_threads(threads)
    module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if precision == "bf16":
        _halve_products(module)

    def compute(network: Any, images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), Products("bf16" if precision == "bf16" else "fp32", place):
            return network(images).float()

    network, note = _compiled(module, card, place, compute) if compile else (module, "")

    def run(images: np.ndarray) -> np.ndarray:
        return compute(network, torch.from_numpy(images).to(place)).cpu().numpy()

    return Engine("torch", precision, card, run, note)


def _halve_products(module: fx.GraphModule) -> None:
    """Keep weights that only products use in bfloat16, in which autocast would turn them for every batch."""
    products = {torch.ops.aten.conv1d.default, torch.ops.aten.conv2d.default, torch.ops.aten.linear.default}
    for node in module.graph.nodes:
        if node.op == "get_attr" and all(user.target in products for user in node.users):
            owner, _, name = node.target.rpartition(".")
            place: Any = module.get_submodule(owner)
            value = getattr(place, name)
            if isinstance(value, nn.Parameter):
                value.data = value.data.bfloat16()
            else:
                setattr(place, name, value.bfloat16())


def _compiled(module: nn.Module, card: Card, device: torch.device, compute: Any) -> tuple[Any, str]:
    """The module compiled, tried on two batches; or the module itself, and why."""
    compiled: Any = torch.compile(module, dynamic=True)
    try:
        for count in (2, 3):
            compute(compiled, torch.zeros(count, card.height, card.width, 3, dtype=torch.uint8, device=device))
    except Exception as error:  # the compiler raises what its tools do
        return module, f"torch.compile does not work here ({one_line(error)}); computing without it"
    return compiled, ""
