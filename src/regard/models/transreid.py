"""TransReID: a vision transformer that is told the camera, and that also describes shuffled groups of patches.

Shapes: B images, C channels, N patches, P tokens before theirs, K groups.

S. He, H. Luo, P. Wang, F. Wang, H. Li, W. Jiang, "TransReID: Transformer-based Object Re-Identification", ICCV 2021,
arXiv:2102.04378; of the authors' code, github.com/damo-cv/TransReID, only the settings were looked at. Section 3.1: the
class token is the descriptor, patches may overlap (``patch_stride``), positions are resized. Section 3.3, side
information: λ times an embedding of the camera is added to every token (``cameras``, ``camera_weight``). Section 3.2,
jigsaw: beside the last block, a second one sees the class token with one of K groups of patches at a time, which are
moved by m and shuffled before they are grouped, so that each group covers the whole person (``jigsaw``, ``shift``,
``shuffle``).

**Departures**

- Embeddings of cameras start at zero, where the paper draws them: a camera that training did not see, a number above
  ``cameras`` and a picture without one all add nothing, and none of them adds noise.
- Views are no side information: no data set here has them.
- Retrieval compares the vectors after BNNeck, as the baseline here does, where the authors' settings say before
  (``neck="before"``); those of groups are divided by K.
- Patches whose number is not divisible are dealt as evenly as can be, where the authors' code leaves the last ones out
  (``equal_groups=True``).
- Positions are those of the backbone, resized in every pass; ``height`` and ``width`` resize them once, as the authors'
  code does, bilinear there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from regard.errors import ConfigError, check_choice
from regard.input_spec import LARGEST
from regard.layers.heads import bnneck, compared, described, identity_classifier, part_names, regions
from regard.layers.row import passed
from regard.models.backbone import Backbone, tap
from regard.models.contract import HeadLayer, ReIDModel
from regard.models.families.vit import Blocks
from regard.registry import MODELS
from regard.structures import Output

__all__ = ["TransReID", "jigsaw_order"]

Compared = Literal["own", "global", "mean", "stripes", "both"]
Neck = Literal["after", "before"]


@MODELS.register("transreid")
class TransReID(ReIDModel):
    """Vision transformer with camera embeddings and a jigsaw of patches.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        backbone: timm's name of a plain vision transformer with a class token.
        patch_stride: pixels from a patch to the next, less than its side where patches overlap; None: its side.
        height, width: of the pictures that have a learned position for every patch; None: those of the backbone.
        cameras: the highest number of a camera that has an embedding, as the data set counts them from 0 or 1; 0:
            none has. What training, ``regard eval`` and ``embed(images, cameras)`` are told is used; everything else
            embeds pictures as of an unknown camera, which adds nothing.
        camera_weight: λ.
        jigsaw: K, groups of patches with a vector of their own; 0: none.
        shift: m, patches that are moved from the beginning to the end.
        shuffle: decks that patches are dealt from in turn; 1 leaves them in order.
        equal_groups: whether all groups have as many patches, and what is left of them is in none.
        neck: whether the vectors compared as ``"own"`` and ``"global"`` are those after BNNeck or before it.
        descriptor: what is compared: ``"own"``, the vectors of the class token and of all groups; ``"global"`` the
            first alone; or of the last map the ``"mean"``, six ``"stripes"``, or ``"both"``.

    Raises:
        ConfigError: an option out of range, or a backbone that is no plain vision transformer.
    """

    training_parts = ("classifier",)

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        backbone: str = "vit_base_patch16_224",
        patch_stride: int | None = None,
        height: int | None = None,
        width: int | None = None,
        cameras: int = 0,
        camera_weight: float = 3.0,
        jigsaw: int = 4,
        shift: int = 5,
        shuffle: int = 2,
        equal_groups: bool = False,
        neck: Neck = "after",
        descriptor: Compared = "own",
    ):
        check_choice("descriptor", descriptor, Compared)
        check_choice("neck", neck, Neck)
        least = {"cameras": (cameras, 0), "jigsaw": (jigsaw, 0), "shift": (shift, 0), "shuffle": (shuffle, 1)}
        for option, (value, lowest) in least.items():
            if type(value) is not int or value < lowest:
                raise ConfigError(f"{option} is {value!r}, wanted a number from {lowest} on")
        stages = Backbone(backbone, pretrained=pretrained)
        channels = stages.channels[-1]
        own = channels * (1 + (jigsaw if descriptor == "own" else 0))
        super().__init__(num_ids, own if descriptor in ("own", "global") else channels * regions(descriptor))
        self.backbone = stages
        self.compared: Compared = descriptor
        self.compared_at: Neck = neck
        self.equal_groups = equal_groups
        _prepare(stages, patch_stride)
        if height is not None or width is not None:
            _place(stages, height, width)
        self.camera_weight = camera_weight
        self.cameras = nn.Parameter(torch.zeros(cameras + 1, channels)) if cameras else None
        self.sees_cameras = cameras > 0
        self.groups, self.shift, self.shuffle = jigsaw, shift, shuffle
        names = ["global", *part_names(jigsaw)]
        self.neck = nn.ModuleDict({_key(name): bnneck(channels) for name in names})
        self.parts: nn.Module | None = copy.deepcopy(stages.stages[-1]) if jigsaw else None
        self.classifier: nn.ModuleDict | None = nn.ModuleDict(
            {_key(name): identity_classifier(channels, num_ids) for name in names}
        )

    def forward(self, images: Tensor, cameras: Tensor | None = None) -> Output:
        """The vectors of the class token, ``"global"``, and of the groups, ``"part0"`` and so on, from where m leads.

        Args:
            images: (B, 3, H, W).
            cameras: (B,) int64, their numbers; None: unknown.
        """
        *first, last = self.backbone.stages
        x, beside = passed(first[0], images, ())
        added = self._of_cameras(cameras)
        if added is not None:
            x, beside = x + added[:, :, None, None], (beside[0] + added[:, None],)
        for stage in first[1:]:
            x, beside = passed(stage, x, beside)
        y, (tokens,) = passed(last, x, beside)
        features = {"global": tokens[:, 0]}
        if self.parts is not None:
            features |= self._of_groups(self.parts, x, beside)
        vectors = {name: self.neck[_key(name)](g) for name, g in features.items()}
        scores = self.classifier
        logits = {} if scores is None else {name: scores[_key(name)](f) for name, f in vectors.items()}
        if self.compared not in ("own", "global"):
            return Output(compared(described(y, self.compared)), features, logits, {})
        at = vectors if self.compared_at == "after" else features
        whole, *parts = at.values() if self.compared == "own" else [at["global"]]
        return Output(torch.cat([whole, *(f / self.groups for f in parts)], 1), features, logits, {})

    def _of_cameras(self, cameras: Tensor | None) -> Tensor | None:
        """What is added to every token, (B, C); None where nothing is known."""
        if self.cameras is None or cameras is None:
            return None
        known = (cameras >= 0) & (cameras < len(self.cameras))
        return self.camera_weight * self.cameras[cameras.where(known, 0)] * known[:, None]

    def _of_groups(self, block: nn.Module, x: Tensor, beside: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The class token after a block that sees one group of patches, for each."""
        patches = x.flatten(2)
        order = torch.tensor(jigsaw_order(patches.shape[2], self.shift, self.shuffle), device=x.device)
        if len(order) < self.groups:
            raise ConfigError(
                f"jigsaw is {self.groups}, but the picture has {len(order)} patches; give a larger one, or fewer groups"
            )
        if self.equal_groups:
            order = order[: len(order) // self.groups * self.groups]
        groups = patches[:, :, order].tensor_split(self.groups, 2)
        seen = (passed(block, group[..., None], beside)[1][0] for group in groups)
        return {name: tokens[:, 0] for name, tokens in zip(part_names(self.groups), seen)}

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """The taps; the last one only where its map is compared, since the class token is taken beside it."""
        taps = self.backbone.taps()
        if self.compared in ("own", "global"):
            taps.popitem()
        return taps

    def head_layers(self) -> dict[str, HeadLayer]:
        """The map before the last block, from which class tokens take what they need; or the last one, if compared."""
        return {"global": HeadLayer((list(self.backbone.stages)[-2 if self.compared in ("own", "global") else -1],))}

    @classmethod
    def dispensable_parts(cls, options: Mapping[str, object]) -> tuple[str, ...]:
        """The classifiers, and the groups where they are not compared."""
        grouped = options.get("jigsaw", 4) and options.get("descriptor", "own") != "own"
        return (*cls.training_parts, "parts") if grouped else cls.training_parts


def _key(name: str) -> str:
    """A vector's name as that of a submodule, which must be no word of Python's."""
    return "whole" if name == "global" else name


def jigsaw_order(count: int, shift: int, shuffle: int) -> list[int]:
    """Patches in the order in which they are grouped: the first ``shift`` moved to the end, then dealt in turn.

    Args:
        count: of the patches.
        shift: m.
        shuffle: decks that the row is cut into, from each of which one is taken in turn.

    >>> jigsaw_order(8, shift=2, shuffle=2)
    [2, 6, 3, 7, 4, 0, 5, 1]
    """
    row = [(place + shift) % count for place in range(count)]
    ends = [count * deck // shuffle for deck in range(shuffle + 1)]
    decks = [row[a:b] for a, b in pairwise(ends)]
    return [deck[turn] for turn in range(max(map(len, decks))) for deck in decks if turn < len(deck)]


def _prepare(backbone: Backbone, patch_stride: int | None) -> None:
    """Let the last block be a stage of its own, and patches overlap.

    Raises:
        ConfigError: there is no class token or no second block, or patches that would not overlap.
    """
    network: Any = getattr(backbone.stages[0], "network", None)
    last: Any = backbone.stages[-1]
    if getattr(network, "cls_token", None) is None or not isinstance(last, Blocks):
        raise ConfigError(
            f"transreid wants a plain vision transformer with a class token, and {backbone.name!r} is none; choose one "
            "such as vit_base_patch16_224 or deit_small_patch16_224, or another system"
        )
    *before, final = last.blocks
    if before:
        backbone.stages[-1] = Blocks(before)
        backbone.stages.append(Blocks([final], last.norm))
        backbone.names.append(tap(len(backbone.names)))
        backbone.channels.append(backbone.channels[-1])
        backbone.strides.append(backbone.strides[-1])
    if patch_stride is None:
        return
    side, conv = backbone.strides[0], getattr(network.patch_embed, "proj", None)
    if type(patch_stride) is not int or not 1 <= patch_stride <= side or not isinstance(conv, nn.Conv2d):
        raise ConfigError(f"patch_stride is {patch_stride!r}, wanted 1 to {side} pixels, the side of a patch")
    conv.stride = (patch_stride, patch_stride)
    backbone.strides = [patch_stride] * len(backbone.strides)


def _place(backbone: Backbone, height: int | None, width: int | None) -> None:
    """Give every patch of a picture of that size a learned position, from those there are.

    Raises:
        ConfigError: they are no numbers of pixels that have a patch, or the backbone learns no position.
    """
    network: Any = backbone.stages[0].network
    side, stride = network.patch_embed.proj.kernel_size[0], backbone.strides[0]
    if any(type(pixels) is not int or not side <= pixels <= LARGEST for pixels in (height, width)):
        raise ConfigError(f"height and width are {height!r} and {width!r}, wanted {side} to {LARGEST:,} pixels, both")
    if network.pos_embed is None:
        raise ConfigError(f"{backbone.name!r} learns no positions, so height and width change nothing; leave them out")
    padded = [math.ceil(cast(int, pixels) / side) * side for pixels in (height, width)]
    grid = tuple((pixels - side) // stride + 1 for pixels in padded)
    before = 0 if network.no_embed_class else network.num_prefix_tokens
    old = network.patch_embed.grid_size
    network.pos_embed = nn.Parameter(resample_abs_pos_embed(network.pos_embed.detach(), list(grid), list(old), before))
    network.patch_embed.grid_size = grid
