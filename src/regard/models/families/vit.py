"""Vision transformers as stages: a stem that makes tokens of patches, then their blocks in up to four equal parts.

Shapes: B images, C channels, h x w patches, P tokens before theirs (class, distillation, registers).

A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929; H. Touvron et al., "Training
data-efficient image transformers", ICML 2021, arXiv:2012.12877. All stages have the stride of a patch. Between them go
the map of the patches, (B, C, h, w), which is what attention of a system changes, and beside it the tokens before
theirs, (B, P, C), as they are; so nothing of the network is lost. Position embeddings are resized to the grid of the
picture, bicubic, whatever its sides; what is missing to a whole patch is padded below and on the right. A norm that the
network has before its pooling is part of the last stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.format import Format
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from regard.models.checked import TokenAttention

__all__ = ["Blocks", "Patches", "cut", "keep_resolution", "vit_small768_patch16_224", "whole"]

PARTS = 4
"""Stages after the stem, as other backbones have."""

default_cfgs = generate_default_cfgs(
    {
        "vit_small768_patch16_224": {
            "input_size": (3, 224, 224),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        }
    }
)


class Patches(nn.Module):
    """The stem: from pictures to patches with their positions.

    Args:
        network: without its blocks.
    """

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> (B, C, h, w), and (B, P, C) where there are tokens before the patches'."""
        x = self.network.patch_embed(images)
        grid = x.shape[1:3]
        return _apart(self.network.norm_pre(self.network._pos_embed(x)), *grid)


class Blocks(nn.Module):
    """Some blocks in a row.

    Args:
        blocks: of a transformer, (B, T, C) -> (B, T, C) each.
        norm: of the tokens, after the last of them.
    """

    def __init__(self, blocks: list[nn.Module], norm: nn.Module | None = None):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm or nn.Identity()

    def forward(self, x: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        """(B, C, h, w) and tokens before -> the same."""
        tokens = torch.cat([*before, x.flatten(2).transpose(1, 2)], 1)
        return _apart(self.norm(self.blocks(tokens)), *x.shape[2:])

    def in_blocks(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """A stage of each block alone, and what closes the last."""
        return [Blocks([block]) for block in self.blocks], [Blocks([], self.norm)]

    @contextmanager
    def recording(self, keep: Callable[[TokenAttention], None]) -> Iterator[None]:
        """Give ``keep`` what every block attends to, in each pass while inside.

        Attention is computed step by step then, not fused: the same numbers to rounding.
        """
        handles = []
        layers: list[Any] = [layer for layer in self.modules() if hasattr(layer, "fused_attn")]
        seen: dict[str, tuple[int, int]] = {}

        def enter(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen["grid"] = (inputs[0].shape[2], inputs[0].shape[3])

        def leave(_module: nn.Module, _inputs: Any, weights: Tensor) -> None:
            count, (height, width) = weights.shape[-1], seen["grid"]
            tokens = torch.arange(count, device=weights.device)[None]
            keep(TokenAttention(weights, tokens, (height, width), count - height * width))

        fused = [layer.fused_attn for layer in layers]
        try:
            handles.append(self.register_forward_pre_hook(enter))
            for layer in layers:
                layer.fused_attn = False
                handles.append(layer.get_submodule("attn_drop").register_forward_hook(leave))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for layer, before in zip(layers, fused):
                layer.fused_attn = before


def _apart(tokens: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    """(B, P + h * w, C) -> (B, C, h, w), and (B, P, C) where P is not 0."""
    before = tokens.shape[1] - height * width
    x = tokens[:, before:].transpose(1, 2).unflatten(2, (height, width))
    return (x, tokens[:, :before]) if before else (x,)


def whole(network: Any, images: Tensor) -> Tensor:
    """The last map as the network computes it, which takes pictures of any size from here on."""
    network.dynamic_img_size = True
    embed = network.patch_embed
    embed.strict_img_size, embed.flatten, embed.output_fmt, embed.dynamic_img_pad = False, False, Format.NHWC, True
    return network.forward_intermediates(images, norm=True, intermediates_only=True)[-1]


def cut(network: Any) -> list[nn.Module]:
    """The stem and the parts; the network keeps nothing that the stem does not need."""
    blocks, norm = list(network.blocks), network.norm
    for name in ("blocks", "norm", "fc_norm", "head", "head_drop", "head_dist"):
        if hasattr(network, name):
            setattr(network, name, nn.Identity())
    network.attn_pool = None
    parts = min(PARTS, len(blocks))
    ends = [len(blocks) * (part + 1) // parts for part in range(parts)]
    norms = [None] * (parts - 1) + [norm]
    return [Patches(network), *(Blocks(blocks[a:b], c) for a, b, c in zip([0, *ends], ends, norms))]


def keep_resolution(stage: nn.Module) -> None:
    """Nothing: no stage halves the map."""


@register_model
def vit_small768_patch16_224(pretrained: bool = False, **options: Any) -> VisionTransformer:  # noqa: FBT001, FBT002
    """Return timm's first small one, wide and short, which TransReID has and timm has no more."""
    shape = {"embed_dim": 768, "depth": 8, "num_heads": 8, "mlp_ratio": 3.0, "qkv_bias": False}
    return build_model_with_cfg(VisionTransformer, "vit_small768_patch16_224", pretrained, **(shape | options))
