"""regard's own system: the whole person and overlapping parts that may move, each with a neck of its own.

Shapes: B images, C channels, H x W positions of the last map, P parts, N identities.

Composed from what our ablations showed to pay (docs/explanation/systems/regard.md has the figures): the vectors that
are compared are the mean of the last map and P means over windows, each at length 1, before their BNNecks; identity
losses on each vector after its neck, one triplet loss on all of them together, as they are compared.

- **Windows that overlap** in place of stripes with edges. A row that lies y part-heights from the top belongs to part p
  by exp(-(y - p - 1/2)² / overlap), shares that are made to sum to 1 over the parts; a part's vector is the mean of
  the map with these weights.
- **That may move**: to the exponents a 1 x 1 convolution of the normalized map is added, one number for each part and
  position, so that a part can follow a person who stands elsewhere in the box. It starts at zero, and with it the
  network as the one whose windows stay.
- **IBN** in the early stages (:mod:`regard.layers.style`) where the recipe says so.

Where it stands: the parts are PCB's (Y. Sun et al., ECCV 2018, arXiv:1711.09349), whose refined pooling assigns
positions to parts too, by a classifier that is trained afterwards; the whole beside them is MGN's (G. Wang et al., ACM
Multimedia 2018, arXiv:1804.01438), the neck that of the bag of tricks (H. Luo et al., CVPR workshops 2019,
arXiv:1903.07071).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, check_choice
from regard.layers.gates import Control, GateStart, check_gates, of_others
from regard.layers.heads import (
    Descriptor,
    bnneck,
    compared,
    described,
    identity_classifier,
    part_names,
    regions,
    stripe_averages,
)
from regard.layers.style import IBN
from regard.models.backbone import Backbone
from regard.models.contract import Attention, HeadLayer, ReIDModel
from regard.models.pcb import stripe_heads
from regard.precision import at_least_float32
from regard.registry import MODELS
from regard.structures import Output

__all__ = ["MovingParts", "Regard"]


class MovingParts(nn.Module):
    """How far each position speaks for another part than its row would: exponents that are added to the windows'.

    Args:
        channels: C.
        parts: P.
        start: ``"released"`` draws the convolution as PyTorch does; otherwise it starts at zero.
    """

    def __init__(self, channels: int, parts: int, start: GateStart):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, parts, 1)
        if start != "released":
            for parameter in self.conv.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, P, H, W)."""
        return self.conv(self.norm(x))


class PartHead(nn.Module):
    """BNNeck and classifier of one vector, which only training needs.

    Args:
        channels: C.
        num_ids: N.
    """

    def __init__(self, channels: int, num_ids: int):
        super().__init__()
        self.neck = bnneck(channels)
        self.classifier = identity_classifier(channels, num_ids)

    def forward(self, vector: Tensor) -> Tensor:
        """(B, C) -> (B, N)."""
        return self.classifier(self.neck(vector))


@MODELS.register("regard")
class Regard(ReIDModel):
    """The whole and overlapping parts that may move.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download), ``"package"`` or the path of a local file.
        parts: P.
        overlap: how wide the windows are, in squared part-heights; 0: stripes with edges, which cannot move.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        descriptor: what is compared: ``"own"``, the whole and the parts; or of the last map the ``"mean"``, six
            ``"stripes"``, or ``"both"``.
        gate_start: how the windows start: ``"identity"``, which is ``"zero_logits"`` here, as they stay without
            attention; ``"released"``: moved at random.
        attention_control: ``"off"`` leaves out what moves them, ``"constant"`` holds them still, ``"shuffled"`` moves
            each picture's as another's.

    Raises:
        ConfigError: an option out of range.
    """

    training_parts = ("heads",)

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        parts: int = 6,
        overlap: float = 0.5,
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = True,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        descriptor: Descriptor = "own",
        gate_start: GateStart = "identity",
        attention_control: Control = "none",
    ):
        check_gates(gate_start, attention_control)
        check_choice("descriptor", descriptor, Descriptor)
        if parts < 1:
            raise ConfigError(f"parts is {parts}, but there is at least 1; our recipes have 6")
        if not 0 <= overlap <= parts**2:
            raise ConfigError(f"overlap is {overlap}, wanted 0 (stripes with edges) to {parts**2}, as 0.5")
        if not overlap and attention_control != "off":
            raise ConfigError("overlap is 0, but parts with edges cannot move; give attention_control off, or overlap")
        stages = Backbone(
            backbone, pretrained=pretrained, last_stride=last_stride, stem_relu=stem_relu, ibn=ibn, mixstyle=mixstyle,
            mixstyle_p=mixstyle_p, mixstyle_alpha=mixstyle_alpha,
        )  # fmt: skip
        width = stages.channels[-1]
        super().__init__(num_ids, width * (1 + parts if descriptor == "own" else regions(descriptor)))
        self.parts, self.overlap, self.control = parts, overlap, attention_control
        self.compared: Descriptor = descriptor
        self.backbone = stages
        moving = {} if attention_control == "off" else {"parts": MovingParts(width, parts, gate_start)}
        self.attention = nn.ModuleDict(moving)
        if attention_control == "constant":
            self.attention.requires_grad_(False)
        names = ["global", *part_names(parts)]
        self.heads: nn.ModuleDict | None = nn.ModuleDict({name: PartHead(width, num_ids) for name in names})

    def forward(self, images: Tensor) -> Output:
        """The whole and the parts at length 1 as embedding, channel by channel; scores ``global``, ``part0`` and so on.

        ``features`` are the vectors before their necks, ``maps["parts"]`` (B, P, H, W) the shares of each position in
        the parts, where they may move.

        Raises:
            ConfigError: the windows have edges, and the last map fewer rows than there are parts.
        """
        x = self.backbone(images)
        parts, maps = self._parts(x)
        vectors = torch.cat([x.mean((2, 3))[:, :, None].to(parts.dtype), parts], 2)
        features = dict(zip(["global", *part_names(self.parts)], vectors.unbind(2)))
        heads = self.heads or {}
        logits = {name: head(features[name]) for name, head in heads.items()}
        seen = vectors if self.compared == "own" else described(x, self.compared)
        return Output(compared(seen), features, logits, maps)

    def _parts(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Vectors of the parts (B, C, P), and what each position gives to each."""
        if not self.overlap:
            return stripe_averages(x, self.parts), {}
        windows = self._windows(x)
        if self.control in ("off", "constant"):
            shares, rows = windows.softmax(0), at_least_float32(x.mean(3))
            return rows @ (shares / shares.sum(1, keepdim=True)).T.to(rows.dtype), {}
        moved = at_least_float32(self.attention["parts"](x))
        shares = (windows[:, :, None] + (of_others(moved) if self.control == "shuffled" else moved)).softmax(1)
        weights = (shares / shares.sum((2, 3), keepdim=True)).flatten(2)
        return at_least_float32(x.flatten(2)) @ weights.transpose(1, 2), {"parts": shares}

    def _windows(self, x: Tensor) -> Tensor:
        """Exponents of the windows over the rows of a map: (P, H), float32."""
        rows = (torch.arange(x.shape[2], device=x.device) + 0.5) * (self.parts / x.shape[2])
        middles = torch.arange(self.parts, device=x.device) + 0.5
        return -(rows - middles[:, None]).square() / self.overlap

    def attention_on(self, images: Tensor) -> dict[str, Attention]:
        """How much of each position each part takes; nothing where they stay."""
        shares = self(images).maps.get("parts")
        if shares is None:
            return {}
        meaning = "share of each position that goes into this part"
        return {name: Attention.of(shares[:, p], "positions", meaning) for p, name in enumerate(part_names(self.parts))}

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """The stages."""
        return self.backbone.taps()

    def head_layers(self) -> dict[str, HeadLayer]:
        """All heads look at the whole last map, since windows have no edges; where they have, at their rows."""
        whole = super().head_layers()["global"]
        if not self.overlap:
            return stripe_heads(whole, self.parts)
        return {"global": whole} | dict.fromkeys(part_names(self.parts), whole)
