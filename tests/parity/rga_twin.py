"""RGA once more, written from the paper: functions over tensors that are named as its authors named theirs.

Shapes: B images, C channels, n nodes, H x W positions.

Z. Zhang et al., CVPR 2020, sections 3.1 to 3.3: every node (a position, or a channel) is embedded twice, its relations
to all nodes and of all nodes to it are stacked in a fixed order and embedded, what it is itself is embedded and
averaged to one number, and two layers make a weight between 0 and 1 of all that. All relations are made.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCKS = (3, 4, 6, 3)
Weights = dict[str, Tensor]


def shapes(height: int, width: int, halves: tuple[str, ...], num_ids: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the authors' state dict for images of H x W pixels."""
    table: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            table[f"{name}.{leaf}"] = (channels,)
        table[f"{name}.num_batches_tracked"] = ()

    def layer(name: str, conv: str, bn: str, shape: tuple[int, ...]) -> None:
        table[f"{name}{conv}.weight"] = shape
        norm(f"{name}{bn}", shape[0])

    layer("backbone.", "conv1", "bn1", (64, 3, 7, 7))
    previous = 64
    for stage, blocks in enumerate(BLOCKS, start=1):
        narrow = 32 << stage
        for block in range(blocks):
            place = f"backbone.layer{stage}.{block}."
            layer(place, "conv1", "bn1", (narrow, previous, 1, 1))
            layer(place, "conv2", "bn2", (narrow, narrow, 3, 3))
            layer(place, "conv3", "bn3", (4 * narrow, narrow, 1, 1))
            if block == 0:
                layer(place, "downsample.0", "downsample.1", (4 * narrow, previous, 1, 1))
            previous = 4 * narrow
        stride = min(2 << stage, 16)
        positions = (height // stride) * (width // stride)
        for half in halves:
            features, nodes = (previous, positions) if half == "spatial" else (positions, previous)
            place = f"backbone.rga_att{stage}."
            for name in ("gx", "theta", "phi"):
                layer(f"{place}{name}_{half}.", "0", "1", (features // 8, features, 1, 1))
            layer(f"{place}gg_{half}.", "0", "1", (nodes // 8, 2 * nodes, 1, 1))
            hidden = (1 + nodes // 8) // 8
            layer(f"{place}W_{half}.", "0", "1", (hidden, 1 + nodes // 8, 1, 1))
            layer(f"{place}W_{half}.", "3", "4", (1, hidden, 1, 1))
    norm("feat_bn", 2048)
    table["cls.weight"] = (num_ids, 2048)
    return table


def draw(table: dict[str, tuple[int, ...]], seed: int) -> Weights:
    """Float32 weights for a table of shapes, such that numbers keep their size from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in table.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(5)
        elif len(shape) > 1:
            weights[name] = torch.randn(shape, generator=generator) / math.prod(shape[1:]) ** 0.5
        else:
            above = 0.5 if name.endswith(("weight", "running_var")) else -0.5
            weights[name] = torch.rand(shape, generator=generator) + above
    return weights


def normalized(x: Tensor, weights: Weights, name: str, training: bool) -> Tensor:
    """Batch normalization of (B, C, ...)."""
    others = [axis for axis in range(x.ndim) if axis != 1]
    mean = x.mean(others) if training else weights[f"{name}.running_mean"]
    variance = x.var(others, unbiased=False) if training else weights[f"{name}.running_var"]
    column = (-1, *(1 for _ in others[1:]))
    scale = weights[f"{name}.weight"] / (variance + 1e-5).sqrt()
    return (x - mean.view(column)) * scale.view(column) + weights[f"{name}.bias"].view(column)


def embedded(nodes: Tensor, weights: Weights, place: str, training: bool) -> Tensor:
    """ReLU(BN(W v)) of every node v: (B, features, n) -> (B, shorter, n)."""
    x = torch.einsum("of,bfn->bon", weights[f"{place}.0.weight"].flatten(1), nodes)
    return normalized(x, weights, f"{place}.1", training).relu()


def gate(nodes: Tensor, weights: Weights, module: str, half: str, training: bool) -> Tensor:
    """Equations 1 and 2: nodes (B, features, n) -> weights (B, n)."""
    theta, phi, own = (embedded(nodes, weights, f"{module}{name}_{half}", training) for name in ("theta", "phi", "gx"))
    relation = torch.einsum("bfi,bfj->bij", theta, phi)
    stacked = torch.cat([relation.transpose(1, 2), relation], dim=1)  # of node i: r_i1 .. r_in, r_1i .. r_ni
    relations = embedded(stacked, weights, f"{module}gg_{half}", training)
    both = torch.cat([own.mean(1, keepdim=True), relations], dim=1)
    hidden = embedded(both, weights, f"{module}W_{half}", training)
    score = torch.einsum("of,bfn->bon", weights[f"{module}W_{half}.3.weight"].flatten(1), hidden)
    return normalized(score, weights, f"{module}W_{half}.4", training)[:, 0].sigmoid()


def attended(x: Tensor, weights: Weights, module: str, halves: tuple[str, ...], training: bool) -> Tensor:
    """Positions, then channels, as far as there are weights of them: (B, C, H, W) -> (B, C, H, W)."""
    if "spatial" in halves:
        x = x * gate(x.flatten(2), weights, module, "spatial", training).view(-1, 1, *x.shape[2:])
    if "channel" in halves:
        x = x * gate(x.flatten(2).transpose(1, 2), weights, module, "channel", training)[:, :, None, None]
    return x


def forward(x: Tensor, weights: Weights, halves: tuple[str, ...], training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled vector, neck's vector and scores of images (B, 3, H, W)."""

    def convolution(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        kernel = weights[f"backbone.{conv}.weight"]
        return normalized(
            F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2), weights, f"backbone.{bn}", training
        )

    x = F.max_pool2d(convolution(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage, blocks in enumerate(BLOCKS, start=1):
        for block in range(blocks):
            place, stride = f"layer{stage}.{block}.", 2 if block == 0 and stage in (2, 3) else 1
            y = convolution(x, f"{place}conv1", f"{place}bn1").relu()
            y = convolution(y, f"{place}conv2", f"{place}bn2", stride).relu()
            y = convolution(y, f"{place}conv3", f"{place}bn3")
            past = convolution(x, f"{place}downsample.0", f"{place}downsample.1", stride) if block == 0 else x
            x = (y + past).relu()
        x = attended(x, weights, f"backbone.rga_att{stage}.", halves, training)
    pooled = x.mean((2, 3))
    neck = normalized(pooled, weights, "feat_bn", training)
    return pooled, neck, neck @ weights["cls.weight"].T
