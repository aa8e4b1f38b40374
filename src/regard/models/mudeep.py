"""MuDeep: streams of several scales, a leader that tells each which channels to attend to, a head per region.

X. Qian, Y. Fu, T. Xiang, Y.-G. Jiang, X. Xue, "Leader-based Multi-Scale Attention Deep Architecture for Person Re-
identification", IEEE Transactions on Pattern Analysis and Machine Intelligence 42(2), 2020, IEEE 8762210; the second
version of the network. The multi-scale stream layer (table 1) and the leader-based attention learning layer are in
:mod:`regard.layers.multi_scale`.

Shapes: B images, C channels, N = h · w positions, V = 1 + stripes regions, D length of one region's vector.

The stages before the last feed copies of the last, cut to 1, 2 and 3 blocks: maps X₁, X₂, X₃. Their leader
L = ReLU(BN(W [X₁; X₂; X₃])) gives each an attention A_i over channels, and Y_i = γ_i A_i X_i + X_i. The mean of Y_i and
the means of its horizontal stripes each pass a head of their own; the twelve results, one after the other, are the
descriptor.

**Departures**

- Y_i is not computed: only its means are used, and A_i times the means of X_i are the means of A_i X_i, to rounding.
  ``whole_maps`` goes the paper's way.
- The authors' code squeezes a batch of one image out of existence; here it works.
- The authors' code announces other numbers of scales and stops with them; here 1 to 4 work, the fourth repeating the
  last block, as in a remark of theirs.
- A vector of zeros has no direction, and the authors' triplet loss gives NaN for it; ours leaves it at zero.
- The paper is said to draw 1, 2, 3 filters of 3 x 3 between one pair of 1 x 1 convolutions; the code, whose scores are
  the published ones, runs 1, 2, 3 bottlenecks of a ResNet. This file follows the code.
- Any staged timm backbone, not ResNet-50 alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard.errors import ConfigError, check_choice
from regard.layers.gates import Control, GateStart, check_gates, check_only_level, of_others
from regard.layers.heads import Descriptor, compared, described, identity_classifier, regions
from regard.layers.multi_scale import ChannelAttention, Guide, cut_streams
from regard.layers.style import IBN
from regard.models.backbone import Backbone
from regard.models.contract import Attention, HeadLayer, ReIDModel
from regard.models.families.hrnet import Fusion
from regard.precision import DIGITS, precision_of
from regard.registry import MODELS
from regard.structures import Output

__all__ = ["MuDeep"]

Leading = Literal["leader", "self", "none"]

SCALES = range(1, 5)


@MODELS.register("mudeep")
class MuDeep(ReIDModel):
    """Multi-scale streams with leader-based attention (MuDeep v2).

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        scales: streams, 1 to 4; 3 is the published network.
        stripes: horizontal parts of each stream's map, besides the whole of it.
        guidance: channels of the leader.
        attention: ``"leader"`` looks at all scales together, ``"self"`` gives each scale a leader of its own,
            ``"none"`` leaves the maps alone.
        feature_dim: length of each region's vector; the descriptor has scales x (1 + stripes) of them.
        dropout: share of a vector hidden from its classifier in training.
        whole_maps: attend to every position and not only to the means that are used, as :meth:`in_full` does: the
            authors' results to the bit, where the other way agrees with them to rounding, for more work. Imported
            checkpoints do.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        descriptor: what is compared: ``"own"``, the heads' vectors; or of the attended maps the ``"mean"``, six
            ``"stripes"``, or ``"both"``, the scales' side by side.
        gate_start: how gates start: ``"released"``, ``"zero_logits"``, or ``"identity"``, with which the network is at
            first what it is without attention; see :mod:`regard.layers.gates`.
        attention_control: ``"off"`` leaves attention out, ``"constant"`` lets every channel take the mean of all,
            ``"shuffled"`` gives each picture another one's leader.
        only_level: the one scale that is attended, counted from 1; None: all.

    Raises:
        ConfigError: an option out of range.
    """

    training_parts: ClassVar[tuple[str, ...]] = ("classifier",)
    published_whole: ClassVar[bool] = True

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        scales: int = 3,
        stripes: int = 3,
        guidance: int = 512,
        attention: Leading = "leader",
        feature_dim: int = 512,
        dropout: float = 0.5,
        whole_maps: bool = False,
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = True,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        descriptor: Descriptor = "own",
        gate_start: GateStart = "released",
        attention_control: Control = "none",
        only_level: int | None = None,
    ):
        check_gates(gate_start, attention_control)
        check_choice("descriptor", descriptor, Descriptor)
        check_only_level(only_level, scales)
        _check(scales, stripes, guidance, attention, feature_dim, dropout=dropout)
        super().__init__(num_ids, embed_dim=scales * (1 + stripes) * feature_dim)
        self.stripes = stripes
        self.compared: Descriptor = descriptor
        self.start: GateStart = gate_start
        self.control: Control = attention_control
        self.dropout = dropout
        self.whole_maps = whole_maps
        self.backbone = Backbone(
            backbone, pretrained=pretrained, last_stride=last_stride, stem_relu=stem_relu, ibn=ibn, mixstyle=mixstyle,
            mixstyle_p=mixstyle_p, mixstyle_alpha=mixstyle_alpha,
        )  # fmt: skip
        last_stage, channels = _take_last_stage(self.backbone)
        names = [f"scale{number}" for number in range(1, scales + 1)]
        areas = ["global", *(f"part{number}" for number in range(stripes))]
        self.vectors = [f"{scale}.{area}" for scale in names for area in areas]
        streams = cut_streams(last_stage, self.backbone.channels[-1], scales)
        self.streams = nn.ModuleDict(dict(zip(names, streams)))
        if descriptor != "own":
            self.embed_dim = scales * channels * regions(descriptor)
        attention = "none" if attention_control == "off" else attention
        attended = [name for number, name in enumerate(names, start=1) if only_level in (None, number)]
        attended = attended if attention != "none" else []
        guides = {"leader": scales * channels} if attention == "leader" else dict.fromkeys(attended, channels)
        self.guide = nn.ModuleDict({name: Guide(width, guidance) for name, width in guides.items()})
        self.attention = nn.ModuleDict({name: ChannelAttention(channels, guidance) for name in attended})
        self.gamma = nn.ParameterDict({name: nn.Parameter(torch.zeros(1)) for name in attended})
        for layer in (each for each in self.attention.values() if isinstance(each, ChannelAttention)):
            if gate_start != "released":
                layer.zero_logits()
            layer.requires_grad_(attention_control != "constant")
        self.guide.requires_grad_(attention_control != "constant")
        self.head = nn.ModuleDict({_key(name): _head(channels, feature_dim) for name in self.vectors})
        self.classifier: nn.ModuleDict | None = nn.ModuleDict(
            {_key(name): identity_classifier(feature_dim, num_ids, bias=True) for name in self.vectors}
        )

    def forward(self, images: Tensor) -> Output:
        """Vectors and scores under ``scale1.global``, ``scale1.part0`` (top) and so on; the guides as maps.

        ``features["global"]`` are the global vectors of all scales in a row. Vectors are not negative.
        """
        if self.whole_maps:
            return self.in_full(images)
        maps, guides = self._see(images)
        means = {name: self._attend(name, _means(x, self.stripes), guides) for name, x in maps.items()}
        out = self._describe(means, guides)
        if self.compared == "own":
            return out
        seen = [self._attend(name, described(x, self.compared), guides) for name, x in maps.items()]
        return out._replace(embedding=compared(torch.cat(seen, 1)))

    def in_full(self, images: Tensor) -> Output:
        """By the products with whole maps; the attended maps Y_i, (B, C, h, w), are ``maps["scale1"]`` and so on."""
        maps, guides = self._see(images)
        attended = {name: self._attend(name, x.flatten(2), guides).view(x.shape) for name, x in maps.items()}
        out = self._describe({name: _means(y, self.stripes) for name, y in attended.items()}, attended)
        if self.compared == "own":
            return out
        seen = [described(y, self.compared) for y in attended.values()]
        return out._replace(embedding=compared(torch.cat(seen, 1)))

    def _see(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The scales' maps, and what guides the attention to them."""
        x, beside = self.backbone.walk(images)
        maps = {name: stream(x, *beside) for name, stream in self.streams.items()}
        seen = maps | {"leader": torch.cat(list(maps.values()), 1)} if "leader" in self.guide else maps
        guides = {name: guide(seen[name]) for name, guide in self.guide.items()}
        return maps, {name: of_others(x) for name, x in guides.items()} if self.control == "shuffled" else guides

    def _attend(self, name: str, values: Tensor, guides: dict[str, Tensor]) -> Tensor:
        """γ A v + v for vectors v of one scale, (B, C, V): its positions, or means over any of them.

        With ``gate_start="identity"`` (A - A₀) v comes to it.
        """
        if name not in self.attention:
            return values
        mean = values.mean(1, keepdim=True)
        mixed = mean if self.control == "constant" else self.attention[name](_guide(guides, name), values)
        changed = self.gamma[name] * mixed + values
        return changed + (mixed - mean) if self.start == "identity" else changed

    def _describe(self, means: dict[str, Tensor], maps: dict[str, Tensor]) -> Output:
        """From every scale's attended means, (B, C, V), to the output."""
        columns = [v for scale in means.values() for v in scale[..., None, None].unbind(2)]
        features = {name: self.head[_key(name)](v) for name, v in zip(self.vectors, columns)}
        logits = {}
        if self.classifier is not None:
            for name, f in features.items():
                logits[name] = self.classifier[_key(name)](F.dropout(f, self.dropout, self.training))
        whole = torch.cat([f for name, f in features.items() if name.endswith(".global")], 1)
        embedding = torch.cat(list(features.values()), 1)
        return Output(embedding, {"global": whole, **features}, logits, maps)

    def attention_on(self, images: Tensor) -> dict[str, Attention]:
        """Of each scale the strength of its map before and after attention and of what this added, how much each
        channel is asked for, and the matrix that mixes them."""
        maps, guides = self._see(images)
        layers, found = dict(self.attention.items()), dict[str, Attention]()
        for name, before in maps.items():
            after = self._attend(name, before.flatten(2), guides).view(before.shape)
            found[f"{name}.before"] = _strength(before, "strength of the map before attention")
            found[f"{name}.after"] = _strength(after, "strength of the map after attention")
            if isinstance(layer := layers.get(name), ChannelAttention):
                added = after - before
                added = added * (added.abs() > DIGITS * precision_of(after) * after.abs())  # less is rounding
                mixing = layer.matrix(_guide(guides, name))
                asked = "how much all channels together take of each"
                found[f"{name}.added"] = _strength(added, "strength of what attention added")
                found[f"{name}.asked"] = Attention.of(mixing.sum(1), "channels", asked)
                found[f"{name}.mixing"] = Attention.of(mixing, "mixing", "what goes into each channel")
        return found

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """The taps before the streams, and each stream's map before and after attention."""
        layers: dict[str, nn.Module | str] = {**self.backbone.taps()}
        for name, stream in self.streams.items():
            layers |= {f"{name}.before": stream, f"{name}.after": name}
        return layers

    def heat_layers(self) -> dict[str, dict[str, nn.Module]]:
        """The streams."""
        return {"": dict(self.streams.items())}

    def head_layers(self) -> dict[str, HeadLayer]:
        """Each head its scale's map, those of stripes their rows; ``"global"`` those of all scales side by side."""
        heads = {"global": HeadLayer(tuple(self.streams.values()))}
        for name in self.vectors:
            scale, region = name.split(".")
            number = region.removeprefix("part")
            rows = partial(_rows, number=int(number), stripes=self.stripes) if number != region else None
            heads[name] = HeadLayer((self.streams[scale],), rows)
        return heads


def _guide(guides: dict[str, Tensor], name: str) -> Tensor:
    """What guides the attention to a scale."""
    return guides["leader"] if "leader" in guides else guides[name]


def _strength(x: Tensor, meaning: str) -> Attention:
    """Length of the vector at each position."""
    return Attention.of(x.norm(dim=1), "positions", meaning)


def _rows(height: int, number: int, stripes: int) -> slice:
    """The rows of a map that one of its stripes averages."""
    return slice(number * height // stripes, -(-(number + 1) * height // stripes))


def _check(scales: int, stripes: int, guidance: int, attention: str, feature_dim: int, *, dropout: float) -> None:
    """Raise a ConfigError for an option out of range."""
    if scales not in SCALES:
        raise ConfigError(f"scales is {scales}, wanted {SCALES[0]} to {SCALES[-1]} streams")
    check_choice("attention", attention, Leading)
    for option, value, least in (("stripes", stripes, 0), ("guidance", guidance, 1), ("feature_dim", feature_dim, 1)):
        if value < least:
            raise ConfigError(f"{option} is {value}, wanted {least} or more")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}, wanted a share from 0 to below 1")


def _take_last_stage(backbone: Backbone) -> tuple[nn.Module, int]:
    """Shorten a backbone by its last stage; the stage and the channels after it."""
    if isinstance(backbone.stages[-1], Fusion):
        raise ConfigError(
            f"mudeep makes streams of the blocks of the last stage, and that of {backbone.name!r} has none in a row "
            "but parallel maps; choose another backbone, such as resnet50, or another system"
        )
    backbone.names.pop()
    backbone.strides.pop()
    return backbone.stages.pop(-1), backbone.channels.pop()


def _means(x: Tensor, stripes: int) -> Tensor:
    """Mean of the map and of its horizontal stripes, top to bottom: (B, C, h, w) -> (B, C, 1 + stripes)."""
    whole = F.adaptive_avg_pool2d(x, 1).flatten(2)
    if not stripes:
        return whole
    return torch.cat([whole, F.adaptive_avg_pool2d(x, (stripes, 1)).flatten(2)], 2)


def _key(name: str) -> str:
    """A vector's name as that of a submodule."""
    return name.replace(".", "_")


def _head(channels: int, dim: int) -> nn.Sequential:
    """(B, C, 1, 1) -> (B, D): ReLU(BN(W v)), W drawn from N(0, 2 / C)."""
    conv = nn.Conv2d(channels, dim, kernel_size=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(dim), relu=nn.ReLU(), flatten=nn.Flatten()))
