"""Networks of public toolkits, computed from their tensors alone, under the names their files have.

Written after the papers and the names and shapes of the files; none of the toolkits' code is here. Each has ``NAME``
(shapes by name) and a function that is the network in evaluation.

Shapes: B images, C channels, H x W positions, T tokens.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

CLASSES = 5

SMALLEST = 384
"""Channels of the smallest TransReID; below it is timm's transformer for tests."""


def drawn(shapes: Shapes, seed: int = 0) -> Tensors:
    """Tensors that keep the size of what goes through them, normalizations as after a training."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(7)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            tensors[name] = 1 + 0.2 * noise.clamp(-2, 2)
        elif len(shape) < 2:
            tensors[name] = 0.2 * noise
        else:
            fan = max(1, noise[0].numel())
            tensors[name] = noise * ((2 if len(shape) == 4 else 1) / fan) ** 0.5
    return tensors


def normed(name: str, channels: int, *, picture: bool = False) -> Shapes:
    """Shapes of a normalization over the batch or each picture."""
    kept = {} if picture else {"running_mean": (channels,), "running_var": (channels,), "num_batches_tracked": ()}
    return {f"{name}.{key}": shape for key, shape in ({"weight": (channels,), "bias": (channels,)} | kept).items()}


def norm(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """Normalize by the statistics of a training, or where there are none by those of the picture."""
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    if f"{name}.running_mean" not in tensors:
        return F.instance_norm(x, weight=weight, bias=bias)
    return F.batch_norm(x, tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"], weight, bias)


def conv(tensors: Tensors, name: str, x: Tensor, **how) -> Tensor:
    weight = tensors[f"{name}.weight"]
    return F.conv2d(x, weight, tensors.get(f"{name}.bias"), padding=how.pop("padding", weight.shape[-1] // 2), **how)


# OSNet ----------------------------------------------------------------------------------------------------------------


def osnet_shapes(widths: tuple[int, ...], kind: str = "x") -> Shapes:
    """What torchreid's files hold of OSNet (``x``), OSNet-IBN and OSNet-AIN."""
    ain = kind == "ain"
    shapes: Shapes = {"conv1.conv.weight": (widths[0], 3, 7, 7)}
    shapes |= normed("conv1.bn", widths[0], picture=kind != "x")
    inside = {"conv2.0", "conv2.1", "conv3.1", "conv4.0"} if ain else set()
    for stage, (inputs, outputs) in enumerate(pairwise(widths), 2):
        for number in (0, 1):
            place = f"conv{stage}.{number}"
            shapes |= _osblock(place, inputs if number == 0 else outputs, outputs, ain=ain, inside=place in inside)
            if kind == "ibn" and stage == 2:
                shapes |= normed(f"{place}.IN", outputs, picture=True)
        if stage < 4:
            between = f"pool{stage}.0" if ain else f"conv{stage}.2.0"
            shapes |= {f"{between}.conv.weight": (outputs, outputs, 1, 1), **normed(f"{between}.bn", outputs)}
    shapes |= {"conv5.conv.weight": (widths[-1], widths[-1], 1, 1), **normed("conv5.bn", widths[-1])}
    shapes |= {"fc.0.weight": (512, widths[-1]), "fc.0.bias": (512,), **normed("fc.1", 512)}
    return shapes | {"classifier.weight": (CLASSES, 512), "classifier.bias": (CLASSES,)}


def _osblock(place: str, inputs: int, outputs: int, *, ain: bool, inside: bool) -> Shapes:
    middle = outputs // 4
    shapes: Shapes = {f"{place}.conv1.conv.weight": (middle, inputs, 1, 1), **normed(f"{place}.conv1.bn", middle)}
    for name in _streams(place, ain=ain):
        for lite in name:
            shapes |= {f"{lite}.conv1.weight": (middle, middle, 1, 1), f"{lite}.conv2.weight": (middle, 1, 3, 3)}
            shapes |= normed(f"{lite}.bn", middle)
    hidden = middle // 16
    shapes |= {f"{place}.gate.fc1.weight": (hidden, middle, 1, 1), f"{place}.gate.fc1.bias": (hidden,)}
    shapes |= {f"{place}.gate.fc2.weight": (middle, hidden, 1, 1), f"{place}.gate.fc2.bias": (middle,)}
    shapes |= {f"{place}.conv3.conv.weight": (outputs, middle, 1, 1)}
    shapes |= normed(f"{place}.IN", outputs, picture=True) if inside else normed(f"{place}.conv3.bn", outputs)
    if inputs != outputs:
        shapes |= {f"{place}.downsample.conv.weight": (outputs, inputs, 1, 1)}
        shapes |= normed(f"{place}.downsample.bn", outputs)
    return shapes


def _streams(place: str, *, ain: bool) -> list[list[str]]:
    """Names of the Lite convolutions of the four streams."""
    if ain:
        return [[f"{place}.conv2.{one}.layers.{number}" for number in range(one + 1)] for one in range(4)]
    return [[f"{place}.conv2a"], *([f"{place}.conv2{one}.{n}" for n in range(2 + "bcd".index(one))] for one in "bcd")]


def osnet(tensors: Tensors, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 512)."""
    ain = "pool2.0.conv.weight" in tensors
    x = F.relu(norm(tensors, "conv1.bn", conv(tensors, "conv1.conv", images, stride=2)))
    x = F.max_pool2d(x, 3, 2, padding=1)
    for stage in (2, 3, 4):
        for number in (0, 1):
            x = _osblock_of(tensors, f"conv{stage}.{number}", x, ain=ain)
        if stage < 4:
            between = f"pool{stage}.0" if ain else f"conv{stage}.2.0"
            x = F.avg_pool2d(F.relu(norm(tensors, f"{between}.bn", conv(tensors, f"{between}.conv", x))), 2)
    x = F.relu(norm(tensors, "conv5.bn", conv(tensors, "conv5.conv", x))).mean((2, 3))
    return F.relu(norm(tensors, "fc.1", F.linear(x, tensors["fc.0.weight"], tensors["fc.0.bias"])))


def _osblock_of(tensors: Tensors, place: str, x: Tensor, *, ain: bool) -> Tensor:
    reduced, mixed = F.relu(norm(tensors, f"{place}.conv1.bn", conv(tensors, f"{place}.conv1.conv", x))), 0
    for stream in _streams(place, ain=ain):
        y = reduced
        for lite in stream:
            y = conv(tensors, f"{lite}.conv2", conv(tensors, f"{lite}.conv1", y), groups=len(y[0]))
            y = F.relu(norm(tensors, f"{lite}.bn", y))
        gate = F.relu(conv(tensors, f"{place}.gate.fc1", y.mean((2, 3), keepdim=True)))
        mixed = mixed + y * torch.sigmoid(conv(tensors, f"{place}.gate.fc2", gate))
    inside = f"{place}.conv3.bn.weight" not in tensors
    residual = norm(tensors, f"{place}.{'IN' if inside else 'conv3.bn'}", conv(tensors, f"{place}.conv3.conv", mixed))
    if f"{place}.downsample.conv.weight" in tensors:
        x = norm(tensors, f"{place}.downsample.bn", conv(tensors, f"{place}.downsample.conv", x))
    after = f"{place}.IN.weight" in tensors and not inside
    return F.relu(norm(tensors, f"{place}.IN", x + residual) if after else x + residual)


# TransReID ------------------------------------------------------------------------------------------------------------


def transreid_shapes(width: int, blocks: int, positions: int, *, cameras: int = 0, jigsaw: bool = True) -> Shapes:
    """What TransReID's files hold of a ViT or DeiT."""
    shapes: Shapes = {"base.cls_token": (1, 1, width), "base.pos_embed": (1, positions + 1, width)}
    if cameras:
        shapes["base.sie_embed"] = (cameras, 1, width)
    shapes |= {"base.patch_embed.proj.weight": (width, 3, 16, 16), "base.patch_embed.proj.bias": (width,)}
    places = [f"base.blocks.{number}" for number in range(blocks)] + (["b1.0", "b2.0"] if jigsaw else [])
    for place in places:
        hidden = (3 if width < SMALLEST else 4) * width
        shapes |= _layer(f"{place}.norm1", width) | _layer(f"{place}.norm2", width)
        shapes |= _linear(f"{place}.attn.qkv", 3 * width, width)
        shapes |= _linear(f"{place}.attn.proj", width, width)
        shapes |= _linear(f"{place}.mlp.fc1", hidden, width) | _linear(f"{place}.mlp.fc2", width, hidden)
    for place in ["base.norm"] + (["b1.1", "b2.1"] if jigsaw else []):
        shapes |= _layer(place, width)
    shapes |= _linear("base.fc", 3, width)
    for suffix in ["", *(f"_{part}" for part in range(1, 5))] if jigsaw else [""]:
        shapes |= {f"classifier{suffix}.weight": (CLASSES, width), **normed(f"bottleneck{suffix}", width)}
    return shapes


def _layer(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def transreid(tensors: Tensors, images: Tensor, stride: int, cameras: Tensor | None = None) -> Tensor:
    """(B, 3, H, W) -> the vector of the class token before its neck, and a quarter of those of four groups of patches.

    Args:
        tensors: of a file.
        images: B.
        stride: pixels from a patch to the next.
        cameras: (B,) from 0; None adds nothing.
    """
    x = conv(tensors, "base.patch_embed.proj", images, stride=stride, padding=0).flatten(2).transpose(1, 2)
    x = torch.cat([tensors["base.cls_token"].expand(len(x), -1, -1), x], 1) + tensors["base.pos_embed"]
    if cameras is not None:
        x = x + 3 * tensors["base.sie_embed"][cameras]
    jigsaw = "b1.0.norm1.weight" in tensors
    count = sum(name.startswith("base.blocks.") and name.endswith("norm1.weight") for name in tensors)
    for number in range(count - jigsaw):
        x = _block(tensors, f"base.blocks.{number}", x)
    if not jigsaw:
        return _layer_norm(tensors, "base.norm", x)[:, 0]
    vectors = [_layer_norm(tensors, "b1.1", _block(tensors, "b1.0", x))[:, 0]]
    moved = torch.cat([x[:, 5:], x[:, 1:5]], 1)
    dealt = moved.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
    length = dealt.shape[1] // 4
    for group in range(4):
        tokens = torch.cat([x[:, :1], dealt[:, group * length : (group + 1) * length]], 1)
        vectors.append(_layer_norm(tensors, "b2.1", _block(tensors, "b2.0", tokens))[:, 0] / 4)
    return torch.cat(vectors, 1)


def _layer_norm(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6)


def _affine(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def _block(tensors: Tensors, place: str, x: Tensor) -> Tensor:
    """(B, T, C) -> (B, T, C)."""
    width = x.shape[-1]
    heads = 2 if width < SMALLEST else width // 64
    qkv = _affine(tensors, f"{place}.attn.qkv", _layer_norm(tensors, f"{place}.norm1", x))
    query, key, value = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    scale = (width // heads) ** -0.5
    seen = (query @ key.transpose(-2, -1) * scale).softmax(-1) @ value
    x = x + _affine(tensors, f"{place}.attn.proj", seen.transpose(1, 2).flatten(2))
    hidden = F.gelu(_affine(tensors, f"{place}.mlp.fc1", _layer_norm(tensors, f"{place}.norm2", x)))
    return x + _affine(tensors, f"{place}.mlp.fc2", hidden)


# FastReID -------------------------------------------------------------------------------------------------------------

BLOCKS = (3, 4, 6, 3)
NON_LOCAL = {2: (2, 3), 3: (3, 4, 5)}
"""Stage -> its blocks that a non-local one follows."""


def fastreid_shapes(
    *, ibn: bool = False, non_local: bool = False, exponent: bool = False, early: bool = False
) -> Shapes:
    """What FastReID's files hold of a ResNet-50; ``early``: as its first version called the head."""
    shapes: Shapes = {"backbone.conv1.weight": (64, 3, 7, 7), **normed("backbone.bn1", 64)}
    inputs = 64
    for stage, count in enumerate(BLOCKS, 1):
        planes = 32 * 2**stage
        for number in range(count):
            place = f"backbone.layer{stage}.{number}"
            halves = ibn and stage < 4
            shapes |= {f"{place}.conv1.weight": (planes, inputs, 1, 1), f"{place}.conv2.weight": (planes, planes, 3, 3)}
            shapes |= {f"{place}.conv3.weight": (4 * planes, planes, 1, 1), **normed(f"{place}.bn3", 4 * planes)}
            shapes |= normed(f"{place}.bn1.BN" if halves else f"{place}.bn1", planes // (2 if halves else 1))
            shapes |= normed(f"{place}.bn2", planes)
            shapes |= normed(f"{place}.bn1.IN", planes // 2, picture=True) if halves else {}
            if number == 0:
                shapes |= {f"{place}.downsample.0.weight": (4 * planes, inputs, 1, 1)}
                shapes |= normed(f"{place}.downsample.1", 4 * planes)
            inputs = 4 * planes
        for number in range(len(NON_LOCAL.get(stage, ())) if non_local else 0):
            place = f"backbone.NL_{stage}.{number}"
            for name in ("g", "theta", "phi"):
                shapes |= {f"{place}.{name}.weight": (1, inputs, 1, 1), f"{place}.{name}.bias": (1,)}
            shapes |= {f"{place}.W.0.weight": (inputs, 1, 1, 1), f"{place}.W.0.bias": (inputs,)}
            shapes |= normed(f"{place}.W.1", inputs)
    shapes |= normed("heads.bnneck" if early else "heads.bottleneck.0", 2048)
    shapes |= {"heads.classifier.weight" if early else "heads.weight": (CLASSES, 2048)}
    return shapes | ({"heads.pool_layer.p": (1,)} if exponent else {})


def fastreid(tensors: Tensors, images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 2048), after the neck."""
    x = F.relu(norm(tensors, "backbone.bn1", conv(tensors, "backbone.conv1", images, stride=2)))
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    alike = "backbone.NL_2.0.g.weight" in tensors
    for stage, count in enumerate(BLOCKS, 1):
        for number in range(count):
            x = _bottleneck(tensors, f"backbone.layer{stage}.{number}", x, 2 if number == 0 and stage in (2, 3) else 1)
            if alike and number in NON_LOCAL.get(stage, ()):
                x = _non_local(tensors, f"backbone.NL_{stage}.{NON_LOCAL[stage].index(number)}", x)
    exponent = tensors.get("heads.pool_layer.p", torch.tensor([3.0]))
    learned = alike or "heads.pool_layer.p" in tensors
    pooled = x.clamp(min=1e-6).pow(exponent).mean((2, 3)).pow(1 / exponent) if learned else x.mean((2, 3))
    return norm(tensors, "heads.bnneck" if "heads.bnneck.weight" in tensors else "heads.bottleneck.0", pooled)


def _bottleneck(tensors: Tensors, place: str, x: Tensor, stride: int) -> Tensor:
    y = conv(tensors, f"{place}.conv1", x)
    if f"{place}.bn1.IN.weight" in tensors:
        first, others = y.chunk(2, 1)
        y = torch.cat([norm(tensors, f"{place}.bn1.IN", first), norm(tensors, f"{place}.bn1.BN", others)], 1)
    else:
        y = norm(tensors, f"{place}.bn1", y)
    y = F.relu(norm(tensors, f"{place}.bn2", conv(tensors, f"{place}.conv2", F.relu(y), stride=stride)))
    y = norm(tensors, f"{place}.bn3", conv(tensors, f"{place}.conv3", y))
    if f"{place}.downsample.0.weight" in tensors:
        x = norm(tensors, f"{place}.downsample.1", conv(tensors, f"{place}.downsample.0", x, stride=stride))
    return F.relu(x + y)


def _non_local(tensors: Tensors, place: str, x: Tensor) -> Tensor:
    """Likeness of all positions to all, over their number, without a softmax."""
    theta, phi, g = (conv(tensors, f"{place}.{name}", x).flatten(2) for name in ("theta", "phi", "g"))
    seen = (theta.transpose(1, 2) @ phi / theta.shape[2]) @ g.transpose(1, 2)
    return x + norm(
        tensors, f"{place}.W.1", conv(tensors, f"{place}.W.0", seen.transpose(1, 2).unflatten(2, x.shape[2:]))
    )
