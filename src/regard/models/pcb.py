"""PCB, the part-based convolutional baseline: six stripes, each with a classifier of its own.

Shapes: B images, C channels, H x W positions, P stripes, D reduced length, N identities.

Y. Sun, L. Zheng, Y. Yang, Q. Tian, S. Wang, "Beyond Part Models: Person Retrieval with Refined Part Pooling (and a
Strong Convolutional Baseline)", ECCV 2018, arXiv:1711.09349, section 3 and figure 2; code
github.com/syfafterzy/PCB_RPP_for_reID. The last map, not halved by its stage, is averaged over P horizontal stripes
(the vectors g, (B, C, P)); each is reduced (h, (B, D, P)) and classified, and the P cross-entropies are added. DSP and
SA (:mod:`regard.models.dsp`) stand on it.

**Departures**

- Reductions are the stripes' own, as most reimplementations have them and score higher with; the authors' code, and
  with it those of SA and DSP, shares one: ``part_conv="shared"``.
- The paper joins the vectors as they are and compares by Euclidean distance; as in the authors' code each stripe is
  brought to length 1 first, so that all have the same say.
- Half of the numbers of g are dropped in training, which the code does and the paper does not mention: ``dropout``.
- Refined part pooling (section 4), a second training after this one, is left out: this is the plain model.
- Any number of stripes, any image with as many rows in the last map, any staged timm backbone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, check_choice
from regard.layers.heads import (
    PartHeads,
    Sharing,
    compared,
    described,
    part_names,
    regions,
    stripe_averages,
    stripe_rows,
)  # fmt: skip
from regard.layers.style import IBN
from regard.models.backbone import Backbone
from regard.models.contract import HeadLayer, ReIDModel
from regard.registry import MODELS
from regard.structures import Output

__all__ = ["PCB", "check_part_options", "stripe_heads"]

Compared = Literal["stripes", "reduced", "own", "mean", "both"]


@MODELS.register("pcb")
class PCB(ReIDModel):
    """Part-based convolutional baseline.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        stripes: how many the last map is cut into, P.
        descriptor: ``"stripes"``, or ``"own"``, compares the stripes before their reduction (the paper's G, P x C
            numbers), ``"reduced"`` after it (H, P x D: an eighth of the size), ``"mean"`` the mean of the last map,
            ``"both"`` that and the stripes.
        part_conv: ``"separate"``: one reduction for each stripe; ``"shared"``: one for all, as in the authors' code.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        head_dim: length of the reduced vectors, D.
        dropout: on the stripes, in training.

    Raises:
        ConfigError: an option out of range.
    """

    training_parts = ("parts",)

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        stripes: int = 6,
        descriptor: Compared = "stripes",
        part_conv: Sharing = "separate",
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = True,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        head_dim: int = 256,
        dropout: float = 0.5,
    ):
        if stripes < 1:
            raise ConfigError(f"stripes is {stripes}, but a map is at least 1; the paper has 6")
        check_choice("descriptor", descriptor, Compared)
        check_part_options(head_dim, dropout, part_conv)
        stages = Backbone(
            backbone, pretrained=pretrained, last_stride=last_stride, stem_relu=stem_relu, ibn=ibn, mixstyle=mixstyle,
            mixstyle_p=mixstyle_p, mixstyle_alpha=mixstyle_alpha,
        )  # fmt: skip
        means: Compared = "stripes" if descriptor == "own" else descriptor
        width = stripes * head_dim if means == "reduced" else regions(means, stripes) * stages.channels[-1]
        super().__init__(num_ids, width)
        self.stripes = stripes
        self.descriptor: Compared = means
        self.backbone = stages
        self.parts: PartHeads | None = PartHeads(
            stages.channels[-1], stripes, head_dim, num_ids, dropout, sharing=part_conv, classified=part_names(stripes)
        )

    def forward(self, images: Tensor) -> Output:
        """Stripes of length 1 as embedding, channel by channel; scores ``part0`` and so on.

        ``features`` are the reduced vectors those scores are taken from, and their mean, ``"global"``.

        Raises:
            ConfigError: the images are so small that the last map has fewer rows than there are stripes.
        """
        x = self.backbone(images)
        g = stripe_averages(x, self.stripes)
        features, logits = ({}, {}) if self.parts is None else self.parts(g)
        if self.descriptor == "reduced":
            means = torch.stack(list(features.values())[: self.stripes], dim=2)
        else:
            means = g if self.descriptor == "stripes" else described(x, self.descriptor, self.stripes)
        return Output(compared(means), features, logits, maps={})

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """The stages."""
        return self.backbone.taps()

    def head_layers(self) -> dict[str, HeadLayer]:
        """The last map, a stripe's head its own rows."""
        return stripe_heads(super().head_layers()["global"], self.stripes)

    @classmethod
    def dispensable_parts(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The reductions and classifiers, unless what is reduced is the descriptor."""
        return ("parts.classifiers",) if options.get("descriptor") == "reduced" else cls.training_parts


def stripe_heads(whole: HeadLayer, stripes: int) -> dict[str, HeadLayer]:
    """What the heads of stripes look at, and ``"global"``, which pools them all.

    Args:
        whole: what the latter looks at.
        stripes: P.
    """
    rows = (partial(stripe_rows, number=number, count=stripes) for number in range(stripes))
    return {"global": whole} | {name: whole._replace(rows=each) for name, each in zip(part_names(stripes), rows)}


def check_part_options(head_dim: int, dropout: float, part_conv: str) -> None:
    """Refuse options that classifiers of parts cannot have.

    Raises:
        ConfigError: names the option, the value and what it should be.
    """
    if head_dim < 1:
        raise ConfigError(f"head_dim is {head_dim}, but the classifiers need at least 1 number to look at")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}, wanted a share of at least 0 and below 1")
    check_choice("part_conv", part_conv, Sharing)
