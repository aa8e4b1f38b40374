"""APNet: attention in a pyramid of split-attend-merge-stack levels.

G. Chen, T. Gu, J. Lu, J.-A. Bao, J. Zhou, "Person Re-identification via Attention Pyramid", IEEE Transactions on Image
Processing 2021, arXiv:2108.05340. The pyramid, its split-attend-merge-stack level and its coarsest level are in
:mod:`regard.layers.pyramid`.

``agent="se"`` is APNet-C, the network of the published numbers. After every stage, the stem included, a map x of C
channels passes level 3 (x ← BN(x ⊙ S₄(x))), level 2 (x ← BN(x ⊙ S₂(x))) and level 1 (x ← x ⊙ SE(x)), as far as
``level`` reaches. S_r splits the channels into r groups that compete by softmax.

``agent="rga"`` is APNet-S, the drawn network. After every stage but the stem, level ℓ cuts the map into 2^(ℓ-1)
horizontal strips and asks :class:`~regard.layers.rga.RelationAttention` which of a strip's positions to keep; the
strips of a level share their weights. Level 1 alone is the RGA-S network of Z. Zhang et al., CVPR 2020. ``"rga_c"``
asks :class:`~regard.layers.rga.ChannelRelationAttention` which channels to keep, ``"rga_sc"`` both, positions first;
with ``level=1`` and ``stem_relu=True`` these are that paper's RGA-C and RGA-SC, the last being what it publishes.

**Departures**

- The paper draws horizontal strips and coarse to fine; the authors' code, whose numbers are the published ones, splits
  channels and goes fine to coarse. This file follows the code; ``order="coarse_to_fine"`` gives the drawn order, with
  each batch normalization staying behind its level.
- Levels multiply, one after the other; the residual addition the abstract speaks of is not in the code.
- Level 3: the authors' code splits levels 2 and 3 both into three groups, which 64 channels cannot be, and stops.
  Here level 3 has four groups and level 2 always two (inferred from the drawing's 1, 2, 4), so that a level 2 network
  is the beginning of a level 3 network.
- APNet-S was never released; the paper says no more than to change the agent. Strips, sharing and the places follow
  the drawing and RGA-S; there is none after the stem, whose 64 channels over a quarter of the image's rows and columns
  would cost the most and say the least. Strips are equal: a height that does not divide is refused.
- MSMT17's published scores compare identity scores, not descriptors (``APNET.MSMT`` of the released code);
  ``descriptor="logits"`` does so, and keeps the classifier at inference.
- The squeeze-and-excitation bottleneck is 8 wide at every stage, as in the code (its reduction grows with the width).
- The stem has no ReLU, as in the code; ``stem_relu=True`` restores the textbook network.
- Any staged timm backbone, not ResNet-50 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from regard.errors import ConfigError, DataError, check_choice
from regard.input_spec import InputSpec
from regard.layers.gates import Control, GateStart, check_gates, check_only_level
from regard.layers.heads import Pooling
from regard.layers.pyramid import AttentionPyramid, Order, SplitAttention, SqueezeExcitation
from regard.layers.rga import ChannelRelationAttention, RelationAttention, RelationPair
from regard.layers.style import IBN
from regard.models.backbone import Backbone
from regard.models.baseline import GlobalDescriptor
from regard.registry import MODELS
from regard.structures import Output

__all__ = ["APNet"]

Agent = Literal["se", "rga", "rga_c", "rga_sc"]
Compared = Literal["bnneck", "logits", "own", "mean", "stripes", "both"]

LEVELS = range(4)

RELATIONS = {"rga": RelationAttention, "rga_c": ChannelRelationAttention, "rga_sc": RelationPair}
"""Agents whose weights depend on the number of positions, and so on the size of the images."""


@MODELS.register("apnet")
class APNet(GlobalDescriptor):
    """Attention Pyramid Network.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        level: height of the pyramid; 0 is the baseline, 2 the published network.
        agent: what attends: ``"se"`` weighs channels (squeeze-and-excitation at the coarsest level, competing groups
            above it), ``"rga"`` positions, by their relations to each other in horizontal strips, ``"rga_c"`` channels
            by theirs, ``"rga_sc"`` positions and then channels.
        order: which level sees the map first.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        se_hidden: width of the squeeze-and-excitation bottleneck.
        height, width: pixels of the only images that relation agents (``"rga"``, ``"rga_c"``, ``"rga_sc"``) take, as
            their weights depend on the number of positions; agent ``"se"`` takes any size and ignores them.
        descriptor: ``"bnneck"``, or ``"own"``, retrieves by the normalized vector, ``"logits"`` by the identity scores,
            as published for MSMT17; ``"mean"``, six ``"stripes"`` and ``"both"`` are means of the last map.
        gate_start: how gates start: ``"released"``, ``"zero_logits"``, or ``"identity"``, with which the network is at
            first what it is without attention; see :mod:`regard.layers.gates`.
        attention_control: ``"off"`` leaves attention out, ``"constant"`` holds its gates where their logits are zero,
            ``"shuffled"`` gives each picture another one's.
        only_level: the one level of the pyramid that there is; None: all.
        pooling: how the last map becomes a vector: its ``"mean"`` or its generalized mean, ``"gem"``.

    Raises:
        ConfigError: an option out of range, or a stage whose channels or rows a level cannot split evenly.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        level: int = 2,
        agent: Agent = "se",
        order: Order = "fine_to_coarse",
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = False,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        se_hidden: int = 8,
        height: int = 256,
        width: int = 128,
        descriptor: Compared = "bnneck",
        gate_start: GateStart = "released",
        attention_control: Control = "none",
        only_level: int | None = None,
        pooling: Pooling = "mean",
    ):
        if level not in LEVELS:
            raise ConfigError(f"level is {level}, wanted {LEVELS[0]} (no attention) to {LEVELS[-1]}")
        check_choice("agent", agent, Agent)
        check_choice("order", order, Order)
        check_choice("descriptor", descriptor, Compared)
        check_gates(gate_start, attention_control)
        check_only_level(only_level, level)
        if se_hidden < 1:
            raise ConfigError(f"se_hidden is {se_hidden}, but the bottleneck needs at least 1 channel")
        if min(height, width) < 1:
            raise ConfigError(
                f"height and width are {height} and {width}, wanted the pixels of an image, as 256 and 128"
            )
        stages = Backbone(
            backbone, pretrained=pretrained, last_stride=last_stride, stem_relu=stem_relu, ibn=ibn, mixstyle=mixstyle,
            mixstyle_p=mixstyle_p, mixstyle_alpha=mixstyle_alpha,
        )  # fmt: skip
        attended = level > 0 and attention_control != "off"
        pyramid = partial(AttentionPyramid, order=order, start=gate_start, control=attention_control, only=only_level)
        attention = {}
        if attended and agent == "se":
            attention = _channel_attention(stages, level, pyramid, se_hidden)
        elif attended:
            attention = _relation_attention(stages, agent, level, pyramid, height, width=width)
        means = descriptor if descriptor in ("mean", "stripes", "both") else "own"
        super().__init__(num_ids, stages, attention, means, pooling=pooling)
        self.image_size = (height, width) if attended and agent in RELATIONS else None
        if self.image_size:
            self.input = InputSpec(*self.image_size)
        self.descriptor = descriptor
        if descriptor == "logits":
            self.embed_dim = num_ids

    def forward(self, images: Tensor) -> Output:
        """As every :class:`GlobalDescriptor`; with ``descriptor="logits"`` the embedding is the identity scores.

        Raises:
            DataError: the images are not of the size that a relation agent was built for.
        """
        if self.image_size and images.shape[2:] != self.image_size:
            (height, width), (got_height, got_width) = self.image_size, images.shape[2:]
            raise DataError(
                f"got images of {got_height} x {got_width} pixels, but this network's relation attention was built for "
                f"{height} x {width}; resize them, or build the model with height={got_height}, width={got_width}"
            )
        out = super().forward(images)
        if self.descriptor != "logits":
            return out
        return out._replace(embedding=out.logits["global"], logits={} if self.stripped else out.logits)

    def in_full(self, images: Tensor) -> Output:
        """With all relations computed and stacked, as released."""
        relations = [module for module in self.modules() if isinstance(module, RelationAttention)]
        for attention in relations:
            attention.folded = False
        try:
            return self(images)
        finally:
            for attention in relations:
                attention.folded = True

    @classmethod
    def dispensable_parts(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The classifier, unless its scores are the descriptor."""
        return cls.training_parts if options.get("descriptor") != "logits" else ()


def _channel_attention(
    stages: Backbone, level: int, pyramid: Callable[..., AttentionPyramid], se_hidden: int
) -> dict[str, AttentionPyramid]:
    """A pyramid after every stage: level 1 sees all channels, level 2 halves, level 3 quarters."""
    pyramids = {}
    for name, channels in zip(stages.names, stages.channels):
        finer = [SplitAttention(channels, radix=2**number) for number in range(1, level)]
        pyramids[name] = pyramid([SqueezeExcitation(channels, se_hidden), *finer], channels)
    return pyramids


def _relation_attention(
    stages: Backbone, agent: Agent, level: int, pyramid: Callable[..., AttentionPyramid], height: int, *, width: int
) -> dict[str, AttentionPyramid]:
    """A pyramid after every stage but the stem: level 1 sees the whole map, level 2 halves, level 3 quarters."""
    pyramids = {}
    places = zip(stages.names, stages.channels, _map_sizes(stages, height, width))
    for name, channels, size in islice(places, 1, None):
        agents = [RELATIONS[agent](channels, *size, parts=2**number) for number in range(level)]
        pyramids[name] = pyramid(agents, channels)
    return pyramids


def _map_sizes(backbone: Backbone, height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of the map after each stage, found by passing on shapes without values."""
    sizes = []

    def measure(_name: str, x: torch.Tensor) -> torch.Tensor:
        sizes.append((x.shape[2], x.shape[3]))
        return x

    tensors = {name: value.to("meta") for name, value in [*backbone.named_parameters(), *backbone.named_buffers()]}
    functional_call(backbone, tensors, (torch.empty(2, 3, height, width, device="meta"), measure))
    return sizes
