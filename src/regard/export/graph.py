"""A network as one graph: pictures as they are decoded in, descriptors out, nothing in between that could be folded.

Shapes: B pictures in a batch, H x W pixels, D descriptor length.

The graph is ``torch.export``'s, with any number of pictures in a batch. Normalization of the pixels is inside; what
only training needs is gone; and every batch normalization that directly follows a convolution or a linear layer has
become a part of it. With γ, β, mean μ and variance v of the normalization,

    γ (W x + b - μ) / √(v + ε) + β  =  (g W) x + g (b - μ) + β,    g = γ / √(v + ε)

which is the same number; the new weights are computed in float64 and rounded once. Where something else uses the
convolution's output too, both stay as they are.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional

from regard.data.transforms import affine
from regard.errors import ConfigError
from regard.export.manifest import Card
from regard.input_spec import InputSpec, Interpolation
from regard.models import ReIDModel
from regard.models.checked import weight_of
from regard.models.saved import model_config
from regard.wording import one_line

__all__ = ["Descriptor", "fold_norms", "optimize_for_inference", "program_module", "trace"]

aten = torch.ops.aten
PRODUCTS = (aten.conv1d.default, aten.conv2d.default, aten.linear.default)
LARGEST_BATCH = 65536


class Descriptor(nn.Module):
    """The descriptor of decoded pictures.

    Args:
        model: the network; it is not changed.
        form: what goes in and comes out (layout, color, scale, who normalizes, mirroring, length); None: pictures as
            they are decoded in, the network's own vector out.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: ReIDModel, form: Card | None = None):
        super().__init__()
        self.model = copy.deepcopy(model).strip().eval()
        self.form = form
        weight = weight_of(model)
        seen = model.input or InputSpec()
        for name, value in zip(("scale", "shift"), _affine(seen, form, weight.device)):
            self.register_buffer(name, value.clone().to(weight.dtype))
        if form is not None and form.shrink > 1:
            for name, side in (("down", form.height), ("across", form.width)):
                matrix = reducing(side, form.shrink, form.interpolation)
                self.register_buffer(name, matrix.to(weight.device, weight.dtype))

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 RGB, or what the form says -> (B, D)."""
        form = self.form
        nchw = form is not None and form.layout == "NCHW"
        pixels = (images if nchw else images.permute(0, 3, 1, 2)).to(self.scale.dtype)
        if form is None:
            return self.model._descriptor(pixels * self.scale + self.shift).to(self.scale.dtype)
        if form.color == "BGR":
            pixels = pixels[:, [2, 1, 0]]
        if form.shrink > 1:
            pixels = self.get_buffer("down") @ pixels @ self.get_buffer("across").T
        x = pixels * self.scale + self.shift
        if form.flip_averaged:
            back = torch.arange(x.shape[3] - 1, -1, -1, device=x.device)
            found = self.model._descriptor(torch.cat([x, x.index_select(3, back)]))
            found = found.reshape(2, -1, found.shape[1]).mean(0)
        else:
            found = self.model._descriptor(x)
        found = found.to(self.scale.dtype)
        return found / found.square().sum(1, keepdim=True).sqrt() if form.l2_normalized else found


def _affine(seen: InputSpec, form: Card | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift that make what goes in what the network sees."""
    if form is None or form.dtype == "uint8":
        return affine(seen.mean, seen.std, device)
    mean, std, ours = (
        torch.tensor(values, dtype=torch.float64, device=device).view(1, 3, 1, 1)
        for values in (seen.mean, seen.std, [form.scale / 255] * 3)
    )
    if form.caller_mean is None:
        return (ours / std).float(), (-mean / std).float()
    theirs = (torch.tensor(v, dtype=torch.float64, device=device) for v in (form.caller_mean, form.caller_std))
    center, spread = (each.view(1, 3, 1, 1) for each in theirs)
    return (spread / std).float(), ((center - mean) / std).float()


def reducing(side: int, shrink: int, interpolation: Interpolation) -> Tensor:
    """The matrix (side / shrink, side) by which a row of pixels is reduced, antialiased as pictures are resized."""
    rows = torch.eye(side).reshape(1, 1, side, side)
    size = (side // shrink, side)
    return functional.interpolate(rows, size, mode=interpolation, antialias=True)[0, 0]


def trace(model: ReIDModel, height: int, width: int, form: Card | None = None) -> ExportedProgram:
    """The network as a folded graph.

    Args:
        model: on the device to compute on; it is not changed.
        height, width: of its pictures.
        form: what goes in and comes out, where that is something else.

    Returns:
        A program that maps ``images`` (B, H, W, 3) uint8 to ``embedding`` (B, D), for any B; or as the form says.

    Raises:
        ConfigError: the network takes no pictures of that size, or cannot be made a graph.
    """
    model.warn_of_cameras("an export")
    network = Descriptor(model, form)
    device = network.get_buffer("scale").device
    card, batch = form or Card("", 0, height, width, "bilinear", ""), form and form.batch
    images = card.prepared(np.zeros((batch or 2, height, width, 3), np.uint8))
    images = torch.from_numpy(images).to(device)
    name = model_config(model)["model"]
    with torch.no_grad():
        try:
            network(images)
        except RuntimeError as error:
            raise ConfigError(
                f"{name} takes no pictures of {height} x {width} ({one_line(error)}); give the size it was trained with"
            ) from error
        try:
            module = program_module(_export(network, images, batch))
            fold_norms(module)
            return _export(module, images, batch)
        except RuntimeError as error:
            raise ConfigError(
                f"{name} cannot be made a graph ({one_line(error)}); use it with --engine torch"
            ) from error


def optimize_for_inference(model: ReIDModel, height: int, width: int) -> fx.GraphModule:
    """The folded, stripped network as a module, several operations faster than the network and equal to rounding.

    Args:
        model: on the device to compute on; it is not changed.
        height, width: of its pictures.

    Returns:
        A module that maps (B, H, W, 3) uint8 RGB to descriptors (B, D) float32; call it in ``torch.inference_mode()``.

    Raises:
        ConfigError: see :func:`trace`.
    """
    return program_module(trace(model, height, width)).to(memory_format=torch.channels_last)  # pyright: ignore


def program_module(program: ExportedProgram) -> fx.GraphModule:
    """A program as a module that computes in mixed precision too: without checks of types in between."""
    module: Any = program.module(check_guards=False)
    for node in list(module.graph.nodes):
        if node.target is aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)
    module.recompile()
    return module


def fold_norms(module: fx.GraphModule) -> int:
    """Make batch normalizations part of what is before them, in place.

    Returns:
        How many were folded.
    """
    graph, folded = module.graph, 0
    for norm in list(graph.nodes):
        if norm.target is not aten.batch_norm.default:
            continue
        product = norm.args[0]
        if product.target not in PRODUCTS or len(product.users) > 1:
            continue
        weight, bias = _folded(module, product, norm)
        names = (f"folded_{folded}_weight", f"folded_{folded}_bias")
        for name, value in zip(names, (weight, bias)):
            module.register_buffer(name, value)
        with graph.inserting_before(product):
            nodes = [graph.get_attr(name) for name in names]
        product.args = (product.args[0], *nodes, *product.args[3:])
        norm.replace_all_uses_with(product)
        graph.erase_node(norm)
        folded += 1
    graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return folded


def _folded(module: fx.GraphModule, product: fx.Node, norm: fx.Node) -> tuple[Tensor, Tensor]:
    """Weight and bias of a product with its normalization in it."""
    weight, bias = (_constant(module, arg) for arg in (*product.args, None)[1:3])
    gamma, beta, mean, variance = (_constant(module, arg) for arg in norm.args[1:5])
    assert weight is not None
    assert mean is not None
    assert variance is not None
    eps: Any = norm.args[7]
    scale = (variance.double() + eps).rsqrt()
    if gamma is not None:
        scale = scale * gamma.double()
    shift = ((bias.double() if bias is not None else 0) - mean.double()) * scale
    if beta is not None:
        shift = shift + beta.double()
    scaled = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
    return scaled.to(weight.dtype), shift.to(weight.dtype)


def _constant(module: fx.GraphModule, node: Any) -> Tensor | None:
    """The tensor that a node of the graph stands for; None for None."""
    if node is None:
        return None
    place: Any = module
    for name in node.target.split("."):
        place = getattr(place, name)
    return place.detach()


def _export(network: nn.Module, images: Tensor, batch: int | None) -> ExportedProgram:
    free = None if batch else [{0: Dim("batch", min=1, max=LARGEST_BATCH)}]
    return torch.export.export(network, (images,), dynamic_shapes=free)
