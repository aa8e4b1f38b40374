"""TransReID (github.com/damo-cv/TransReID): vision transformers with or without cameras and the jigsaw branch.

What comes of one is our ``transreid`` with the authors' settings: vectors before BNNeck are compared, the first patches
are moved by one less than the authors' shift of 5, groups are equally large. Read off the tensors are the transformer
(ViT-B and DeiT-B; DeiT-S; the wide and short ViT-S of timm's first years, whose attention the authors scale by its
whole width, as its queries are here), the number of cameras, and from the number of positions the size of the pictures
and how far patches are apart. The file does not tell the colors: those of ViT are 0.5, those of DeiT ImageNet's, and
which of the two a wide one began as is said by whoever imports (``transreid``, ``transreid-deit``).

Cameras are counted from 1, as their data sets do. With the jigsaw branch the authors save a last block and norm of the
plain transformer that the network does not run; they are left out, as is the classifier of ImageNet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regard.errors import CheckpointError
from regard.input_spec import InputSpec
from regard.models.importers.translation import Translation, check_known, check_whole, rename

__all__ = ["transreid"]

BACKBONES: dict[tuple[int, int], str] = {
    (768, 12): "vit_base_patch16_224",
    (384, 12): "vit_small_patch16_224",
    (768, 8): "vit_small768_patch16_224",
}
"""Width and blocks -> timm's name."""

PARTS = 4
"""Stages that blocks are dealt to, in equal parts; and groups of the jigsaw branch."""

PATCH = 16

GRIDS: dict[int, tuple[int, int, int]] = {
    ((height - PATCH) // stride + 1) * ((128 - PATCH) // stride + 1): (height, 128, stride)
    for height in (256, 384)
    for stride in (16, 12)
}
"""Positions -> height and width of the pictures, and pixels from a patch to the next."""

SHIFT = 4
"""Patches that are moved: the authors' shift of 5 counts the class token."""

NEEDED = {
    "base.cls_token": "the class token",
    "base.pos_embed": "the positions",
    "base.patch_embed.proj.weight": "the patches",
    "base.norm.weight": "",
    "base.blocks.0.norm1.weight": "",
    "bottleneck.weight": "BNNeck",
    "classifier.weight": "which tells the number of identities",
}


def transreid(tensors: Mapping[str, Tensor], origin: str) -> Translation:
    """Find transformer, positions, cameras and branches."""
    check_whole(tensors, origin, NEEDED, "is no whole TransReID", "give the file that its training saved")
    blocks = sorted({int(place[1]) for key in tensors if (place := re.match(r"base\.blocks\.(\d+)\.", key))})
    width = tensors["base.cls_token"].shape[-1]
    backbone = BACKBONES.get((width, len(blocks)))
    if backbone is None:
        wanted = ", ".join(f"{count} blocks of {channels}" for channels, count in BACKBONES)
        raise CheckpointError(
            f"{origin} is no TransReID that is read: it has {len(blocks)} blocks of {width} channels, wanted {wanted}; "
            "any other comes as ONNX"
        )
    jigsaw = "b1.0.norm1.weight" in tensors
    names = rename(tensors, _rules(len(blocks), jigsaw=jigsaw))
    idle = [key for key in tensors if key.startswith(_idle(len(blocks), jigsaw=jigsaw))]
    check_known(tensors, {*names, *idle, "base.sie_embed"}, f"{origin} is no TransReID that is read")
    options: dict[str, Any] = {
        "backbone": backbone, "jigsaw": PARTS if jigsaw else 0, "shift": SHIFT, "equal_groups": True, "neck": "before",
    }  # fmt: skip
    made: dict[str, tuple[Tensor, tuple[str, ...]]] = {}
    if "base.sie_embed" in tensors:
        rows = tensors["base.sie_embed"].flatten(1)
        options["cameras"] = len(rows)
        made["cameras"] = (torch.cat([torch.zeros_like(rows[:1]), rows]), ("base.sie_embed",))
    if backbone == BACKBONES[768, 8]:
        made |= {name: (_scaled(tensors[key], width), (key,)) for key, name in names.items() if ".qkv." in name}
    positions = tensors["base.pos_embed"].shape[1] - 1
    *size, stride = GRIDS.get(positions, (0, 0, PATCH))
    options["patch_stride"] = stride
    wanted = f"it has {positions} positions, wanted {', '.join(map(str, GRIDS))}"
    return Translation(
        "transreid",
        len(tensors["classifier.weight"]),
        options,
        {key: name for key, name in names.items() if name not in made},
        size=(size[0], size[1]) if positions in GRIDS else f"{wanted}; say --size HxW and --set patch_stride=PIXELS",
        fresh=() if "classifier_1.weight" in tensors or not jigsaw else ("classifier.part",),
        made=made,
        seen=InputSpec(256, 128, flip=False) if width == 384 else None,
    )


def _rules(blocks: int, *, jigsaw: bool) -> dict[str, str]:
    """Pattern of the authors' names -> ours, for a transformer of so many blocks."""
    ends = [blocks * (part + 1) // PARTS for part in range(PARTS)]
    homes, last = {}, blocks - 1
    for number in range(last):
        part = next(part for part, end in enumerate(ends) if number < end)
        homes[number] = f"backbone.stages.{part + 1}.blocks.{number - [0, *ends][part]}."
    rules = {rf"base\.blocks\.{number}\.": home for number, home in homes.items()}
    own = f"backbone.stages.{PARTS + 1}."
    rules |= {
        r"base\.(cls_token|pos_embed|patch_embed\.)": r"backbone.stages.0.network.\1",
        (r"b1\.0\." if jigsaw else rf"base\.blocks\.{last}\."): f"{own}blocks.0.",
        (r"b1\.1\." if jigsaw else r"base\.norm\."): f"{own}norm.",
        r"bottleneck\.": "neck.whole.",
        r"classifier\.weight$": "classifier.whole.weight",
    }
    if jigsaw:
        rules |= {r"b2\.0\.": "parts.blocks.0.", r"b2\.1\.": "parts.norm."}
        for part in range(PARTS):
            rules[rf"bottleneck_{part + 1}\."] = f"neck.part{part}."
            rules[rf"classifier_{part + 1}\.weight$"] = f"classifier.part{part}.weight"
    return rules


def _idle(blocks: int, *, jigsaw: bool) -> tuple[str, ...]:
    """How names begin of what the authors' network has and does not run."""
    return ("base.fc.", f"base.blocks.{blocks - 1}.", "base.norm.") if jigsaw else ("base.fc.",)


def _scaled(qkv: Tensor, width: int) -> Tensor:
    """Queries, keys and values of attention that divides by the root of the whole width, for one that divides by that
    of a head's."""
    heads = 8
    factor = qkv.new_ones(len(qkv), *(1,) * (qkv.ndim - 1))
    factor[:width] = heads**-0.5
    return qkv * factor
