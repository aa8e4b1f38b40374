"""DSP and its parent SA: attention after three stages, classifiers on six stripes and half-way up.

Shapes: B images, C channels, H x W positions, P stripes, D descriptor length, N identities.

SA: H. Wang, Y. Fan, Z. Wang, L. Jiao, B. Schiele, "Parameter-Free Spatial Attention Network for Person
Re-Identification", arXiv:1811.12150, 2018; code github.com/HRanWang/Spatial-Re-Scaling.
DSP: "Deeply Supervised Self-Attention Learning Model for Person Re-Identification", preprint, Research Square
rs-6697924/v1, of which abstract and figures could be read; code github.com/bmiftah/DSP_Person_ReID. The attention of
both is in :mod:`regard.layers.self_attention`.

Both stand on the part network of Y. Sun et al., "Beyond Part Models", ECCV 2018: the last map is cut into six stripes,
and the descriptor is their means, each of length 1. In training seven classifiers look at the stripes and at their
mean, and three more at the maps of the stages before.

**Departures**

- DSP's code makes its six attention vectors anew in every forward pass, so they never learn, and at their initial
  values the block is x -> 2x. ``mode="released"`` is that; ``"code"`` the same formula with the vectors as parameters.
- In that formula the gate over positions does not depend on the position. ``mode="proper"``, the default, divides by
  the mean over positions and not over channels, and keeps x ⊙ gate without adding x, so that the block starts as the
  identity and pretrained statistics hold. The drawn x + x ⊙ tanh ⊙ tanh has no gradient at its start.
- SA's paper takes a softmax, its code divides by the sum; both are there. The weights sum to 1 over some thousand
  positions, which leaves the heads behind them next to nothing: ``rescale`` gives the maps their size back.
- Pooling fits the map, where the code's kernels fit 384 x 128 alone. Stripes of zeros stay zero instead of NaN.
- ``part_conv="separate"`` gives each stripe a reduction of its own, as :class:`~regard.models.pcb.PCB` has it.
- ``part_classifiers=False`` is the ablation without classifiers of the stripes: their mean and the three maps are seen.
- Any staged timm backbone, not ResNet-50 alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from regard.errors import ConfigError, check_choice
from regard.layers.gates import Control, GateStart, check_gates, check_only_level
from regard.layers.heads import (
    STRIPES,
    Descriptor,
    PartHeads,
    Sharing,
    SupervisionHead,
    compared,
    described,
    part_names,
    regions,
    stripe_averages,
)  # fmt: skip
from regard.layers.self_attention import AttentionMode, DeepSelfAttention, SpatialAttention, SpatialMode
from regard.layers.style import IBN
from regard.models.backbone import Backbone
from regard.models.contract import HeadLayer, ReIDModel
from regard.models.pcb import check_part_options, stripe_heads
from regard.registry import MODELS
from regard.structures import Output

__all__ = ["DSP", "SA"]

SUPERVISED = 3
"""Stages with an attention block and a classifier of their own: those before the last."""


class DeeplySupervised(ReIDModel):
    """What the two systems share; a subclass fills ``attention`` and says in :meth:`attend` whose map it changes.

    Args:
        num_ids: N.
        backbone: the stages, at least four.
        head_dim: length of the vectors the classifiers see.
        dropout: on the stripes, in training.
        part_conv: ``"shared"`` or ``"separate"`` reductions of the six stripes.
        part_classifiers: whether each stripe has a classifier, besides their mean.
        descriptor: what is compared, ``"own"`` being the six stripes.
        control: ``"off"`` leaves attention out.
        only: the one of the three places that has attention, 1 to 3; None: all.

    Attributes:
        supervised: tap -> name of its classifier, ``{"tap2": "ds1", "tap3": "ds2", "tap4": "ds3"}``.
        attended: the taps that have attention.
        attention: tap -> attention block.

    Raises:
        ConfigError: an option out of range, or a backbone of too few stages.
    """

    training_parts = ("parts", "supervision")
    published_whole = True

    def __init__(
        self,
        num_ids: int,
        backbone: Backbone,
        head_dim: int,
        dropout: float,
        part_conv: Sharing,
        *,
        part_classifiers: bool,
        descriptor: Descriptor,
        control: Control,
        only: int | None,
    ):
        check_choice("descriptor", descriptor, Descriptor)
        check_only_level(only, SUPERVISED)
        self_described: Descriptor = "stripes" if descriptor == "own" else descriptor
        super().__init__(num_ids, embed_dim=regions(self_described) * backbone.channels[-1])
        self.compared: Descriptor = self_described
        last = len(backbone.stages) - 1
        if last < SUPERVISED:
            raise ConfigError(
                f"backbone {backbone.name!r} has {last + 1} stages, but attention and supervision need {SUPERVISED} "
                f"before the last; choose a deeper one such as resnet50"
            )
        check_part_options(head_dim, dropout, part_conv)
        self.backbone = backbone
        before = slice(last - SUPERVISED, last)
        self.supervised = {name: f"ds{order}" for order, name in enumerate(backbone.names[before], start=1)}
        self.attended = [name for place, name in enumerate(self.supervised, start=1) if only in (None, place)]
        if control == "off":
            self.attended = []
        self.attention: nn.ModuleDict | None = nn.ModuleDict()
        width = backbone.channels
        classified = [*(part_names(STRIPES) if part_classifiers else ()), "global"]
        self.parts: PartHeads | None = PartHeads(
            width[-1], STRIPES, head_dim, num_ids, dropout, sharing=part_conv, classified=classified
        )
        self.supervision: nn.ModuleDict | None = nn.ModuleDict(
            {head: SupervisionHead(c, head_dim, num_ids) for c, head in zip(width[before], self.supervised.values())}
        )

    def attend(self, name: str, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """At the tap ``name``: the map for the next stage, the map for the classifier of this one, and the gates."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Output:
        """The six stripes as embedding; ten scores, ``part0`` to ``part5``, ``global``, ``ds1`` to ``ds3``.

        ``features`` are the vectors those scores are taken from, the stripes' also where these have no classifiers,
        ``maps`` the gates as ``"tap2.spatial"`` and so on.

        Raises:
            ConfigError: the images are so small that the last map has fewer than six rows.
        """
        features, logits, maps = {}, {}, {}

        def supervise(name: str, x: Tensor) -> Tensor:
            if name in self.supervised:
                x, seen, gates = self.attend(name, x)
                maps.update({f"{name}.{kind}": gate for kind, gate in gates.items()})
                if self.supervision is not None:
                    head = self.supervised[name]
                    features[head], logits[head] = self.supervision[head](seen)
            return x

        x = self.backbone(images, supervise)
        stripes = stripe_averages(x, STRIPES)
        embedding = compared(stripes if self.compared == "stripes" else described(x, self.compared))
        if self.parts is not None:
            part_features, part_logits = self.parts(stripes)
            features, logits = part_features | features, part_logits | logits
        return Output(embedding, features, logits, maps)

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """Every tap, before and after its attention."""
        return self.backbone.taps(self.attention)

    def head_layers(self) -> dict[str, HeadLayer]:
        """Stripes look at their rows of the last map, the classifiers half-way, which are linear, at attended maps."""
        heads = stripe_heads(super().head_layers()["global"], STRIPES)
        if self.supervision is not None and self.attention is not None:
            seen = dict(zip(self.backbone.names, self.backbone.stages)) | dict(self.attention.items())
            heads |= {head: HeadLayer((seen[name],), linear=True) for name, head in self.supervised.items()}
        return heads


@MODELS.register("dsp")
class DSP(DeeplySupervised):
    """Deeply supervised self-attention: attended maps go on to the next stage and to that stage's classifier.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        mode: ``"proper"`` attends to channels and positions; ``"code"`` is the formula of the authors' code with
            parameters that learn, ``"released"`` what that code computes: every attended map doubled.
        part_conv: ``"shared"``: one reduction for the six stripes, as released; ``"separate"``: one for each.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        head_dim: length of the vectors the classifiers see.
        dropout: on the stripes, in training.
        part_classifiers: whether each stripe has a classifier, besides their mean; without, this is the ablation.
        descriptor: what of the last map is compared: ``"own"`` and ``"stripes"``, six of them, the ``"mean"``, or
            ``"both"``.
        gate_start: how gates start: ``"released"``, ``"zero_logits"``, or ``"identity"``, with which the network is at
            first what it is without attention; see :mod:`regard.layers.gates`.
        attention_control: ``"off"`` leaves attention out, ``"constant"`` holds its gates where their logits are zero,
            ``"shuffled"`` gives each picture another one's.
        only_level: the one of the three places that has attention, 1 to 3 from the shallowest; None: all.

    Raises:
        ConfigError: an option out of range.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        mode: AttentionMode = "proper",
        part_conv: Sharing = "shared",
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = True,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        head_dim: int = 256,
        dropout: float = 0.5,
        part_classifiers: bool = True,
        descriptor: Descriptor = "own",
        gate_start: GateStart = "released",
        attention_control: Control = "none",
        only_level: int | None = None,
    ):
        check_gates(gate_start, attention_control)
        check_choice("mode", mode, AttentionMode)
        stages = Backbone(
            backbone, pretrained=pretrained, last_stride=last_stride, stem_relu=stem_relu, ibn=ibn, mixstyle=mixstyle,
            mixstyle_p=mixstyle_p, mixstyle_alpha=mixstyle_alpha,
        )  # fmt: skip
        super().__init__(
            num_ids, stages, head_dim, dropout, part_conv, part_classifiers=part_classifiers, descriptor=descriptor,
            control=attention_control, only=only_level,
        )  # fmt: skip
        channels = dict(zip(stages.names, stages.channels))
        blocks = {
            name: DeepSelfAttention(channels[name], mode, start=gate_start, control=attention_control)
            for name in self.attended
        }
        self.attention = nn.ModuleDict(blocks)

    def attend(self, name: str, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The attended map, twice, and its gates."""
        if self.attention is None or name not in self.attention:
            return x, x, {}
        attended, gates = self.attention[name](x)
        return attended, attended, gates

    def heat_layers(self) -> dict[str, dict[str, nn.Module]]:
        """The three blocks of attention, and the last stage."""
        assert self.attention is not None
        return {"": {**dict(self.attention.items()), "last stage": self.backbone.stages[-1]}}


@MODELS.register("sa")
class SA(DeeplySupervised):
    """Parameter-free spatial attention: attended maps go to the stage's classifier alone.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        mode: how activities become weights: ``"l1"`` divides by their sum (the authors' code), ``"softmax"`` is the
            paper's.
        rescale: whether the weights average 1 over the map instead of summing to 1; the released code does not.
        part_conv: ``"shared"``: one reduction for the six stripes, as released; ``"separate"``: one for each.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        head_dim: length of the vectors the classifiers see.
        dropout: on the stripes, in training.
        part_classifiers: whether each stripe has a classifier, besides their mean; without, this is the ablation.
        descriptor: what of the last map is compared: ``"own"`` and ``"stripes"``, six of them, the ``"mean"``, or
            ``"both"``.
        gate_start: how gates start: ``"released"``, ``"zero_logits"``, or ``"identity"``, with which the network is at
            first what it is without attention; see :mod:`regard.layers.gates`.
        attention_control: ``"off"`` leaves attention out, ``"constant"`` holds its gates where their logits are zero,
            ``"shuffled"`` gives each picture another one's.
        only_level: the one of the three places that has attention, 1 to 3 from the shallowest; None: all.

    Raises:
        ConfigError: an option out of range.
    """

    training_parts: ClassVar[tuple[str, ...]] = (*DeeplySupervised.training_parts, "attention")

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        mode: SpatialMode = "l1",
        rescale: bool = True,
        part_conv: Sharing = "shared",
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = True,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        head_dim: int = 256,
        dropout: float = 0.5,
        part_classifiers: bool = True,
        descriptor: Descriptor = "own",
        gate_start: GateStart = "released",
        attention_control: Control = "none",
        only_level: int | None = None,
    ):
        check_gates(gate_start, attention_control)
        check_choice("mode", mode, SpatialMode)
        stages = Backbone(
            backbone, pretrained=pretrained, last_stride=last_stride, stem_relu=stem_relu, ibn=ibn, mixstyle=mixstyle,
            mixstyle_p=mixstyle_p, mixstyle_alpha=mixstyle_alpha,
        )  # fmt: skip
        super().__init__(
            num_ids, stages, head_dim, dropout, part_conv, part_classifiers=part_classifiers, descriptor=descriptor,
            control=attention_control, only=only_level,
        )  # fmt: skip
        blocks = {
            name: SpatialAttention(mode, rescale=rescale, start=gate_start, control=attention_control)
            for name in self.attended
        }
        self.attention = nn.ModuleDict(blocks)

    def attend(self, name: str, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The map as it is, the attended map and its weights."""
        if self.attention is None or name not in self.attention:
            return x, x, {}
        attended, gates = self.attention[name](x)
        return x, attended, gates
