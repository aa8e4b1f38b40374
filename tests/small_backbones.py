"""Small backbones of the families that timm has no tiny network of, registered with timm when this is imported."""

from __future__ import annotations

import copy

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.hrnet import HighResolutionNet, cfg_cls
from timm.models.swin_transformer import SwinTransformer

default_cfgs = generate_default_cfgs(
    {"tiny_swin": {"input_size": (3, 64, 64), "first_conv": "patch_embed.proj"}, "tiny_hrnet": {"first_conv": "conv1"}}
)


@register_model
def tiny_swin(pretrained: bool = False, **options) -> SwinTransformer:
    """Return one of windows of 4 x 4, whose stages are 24 to 192 wide."""
    shape = {"img_size": 64, "embed_dim": 24, "depths": (2, 1, 1, 2), "num_heads": (1, 2, 2, 4), "window_size": 4}
    return build_model_with_cfg(SwinTransformer, "tiny_swin", pretrained, **(shape | options))


@register_model
def tiny_hrnet(pretrained: bool = False, **options) -> HighResolutionNet:
    """Return one of a block a branch, 8 to 64 wide."""
    config = copy.deepcopy(cfg_cls["hrnet_w18_small"])
    for stage, branches in (("stage2", 2), ("stage3", 3), ("stage4", 4)):
        config[stage] |= {
            "num_modules": 1,
            "num_blocks": (1,) * branches,
            "num_channels": tuple(8 * 2**n for n in range(branches)),
        }
    config["stage1"] |= {"num_blocks": (1,), "num_channels": (16,)}
    return build_model_with_cfg(HighResolutionNet, "tiny_hrnet", pretrained, cfg=config, **options)


def tiny(system: str) -> str:
    """Return the name of a backbone that is small, and that the system takes."""
    return "test_vit.r160_in1k" if system == "transreid" else "test_resnet.r160_in1k"
