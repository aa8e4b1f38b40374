"""MSEA Net: APNet's attention pyramid with efficient channel attention in it.

D. Chinthaka, Multi-Scale Efficient Attention Net, 8th International Conference on Information Technology Research,
2023; the paper was not at hand, its repository was: github.com/dulithchinthaka/person_reid_multi_scale. That is a fork
of APNet's code in which only the agents differ, so this file says no more than which agent sits at which level of the
pyramid (:mod:`regard.layers.pyramid`), after every stage, the stem included. ECA is ``EfficientChannelAttention``, SAMS
``SplitAttention``, ECA-SAMS ``EfficientSplitAttention``.

============ ================== ================== ================== ======== ==================================
preset       level 1            level 2            level 3            level 1  what it is
                                                                      gate
============ ================== ================== ================== ======== ==================================
``lite``     ECA                ECA on 2 strips    ECA on 4 strips    multiply the paper's figure, read to the letter
``lite-c``   ECA                ECA-SAMS, 2 groups ECA-SAMS, 4 groups multiply the same by channel groups
``2023``     ECA                SAMS, 2 groups     SAMS, 4 groups     square   the code before the paper
``head``     SAMS, 2 groups     ECA                ECA                square   the code as of May 2024
============ ================== ================== ================== ======== ==================================

**Departures**

- The figure draws 1, 2 and 4 horizontal strips with ECA at each; the released code splits channels with APNet's
  SAMS, which is 98 % of its attention's parameters: 4.2 M, next to APNet's 4.3 M, is not light. ``lite``, the default,
  is what the figure shows: 7,858 attention parameters at level 2. Nothing was published for it.
- The code's level 1 multiplies an already gated map by the map once more, x² ⊙ gate(x), most likely by mistake. The
  released networks need it (``2023`` and ``head`` do so by default), the others multiply; ``gate`` overrides either.
- Strips of a height that does not divide differ by one row (the paper cannot tell, its heights divide).
- Kernels: 3 in ``2023``, 5 in ``head`` and, as the author's later choice, in the two lite ones; ``"adaptive"`` is
  ECA-Net's rule.
- Level 3 of the released presets is inferred; the code stops there, as APNet's does. At level 1 alone, ``head`` has
  SAMS with one group, whose softmax is 1 everywhere, as in the code: it only squares.
- The stem has no ReLU, and any staged timm backbone will do, as in :mod:`regard.models.apnet`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from torch import nn

from regard.errors import ConfigError, check_choice
from regard.layers.gates import Control, GateStart, check_gates, check_only_level
from regard.layers.heads import Descriptor, Pooling
from regard.layers.pyramid import (
    AttentionPyramid,
    EfficientChannelAttention,
    EfficientSplitAttention,
    Gating,
    Order,
    SplitAttention,
    adaptive_kernel,
)
from regard.layers.style import IBN
from regard.models.backbone import Backbone
from regard.models.baseline import GlobalDescriptor
from regard.registry import MODELS

__all__ = ["MSEA"]

Agent = Literal["eca", "eca strips", "sams", "eca sams"]

LEVELS = range(4)


class Preset(NamedTuple):
    """A configuration of the pyramid: agents from level 1 upward, taps of the convolutions, level 1's gating."""

    agents: tuple[Agent, Agent, Agent]
    kernel: int
    gating: Gating


PRESETS = {
    "lite": Preset(("eca", "eca strips", "eca strips"), kernel=5, gating="multiply"),
    "lite-c": Preset(("eca", "eca sams", "eca sams"), kernel=5, gating="multiply"),
    "2023": Preset(("eca", "sams", "sams"), kernel=3, gating="square"),
    "head": Preset(("sams", "eca", "eca"), kernel=5, gating="square"),
}


@MODELS.register("msea")
class MSEA(GlobalDescriptor):
    """Multi-Scale Efficient Attention Net.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        preset: which agents: ``"lite"`` and ``"lite-c"`` are ours after the paper's figure, ``"2023"`` (the number
            will do) and ``"head"`` are the released networks.
        level: height of the pyramid; 0 is the baseline, 2 the published network.
        kernel: taps of the convolutions along channels, odd; ``"adaptive"`` grows them with the width; None is the
            preset's.
        gate: how level 1 acts: ``"multiply"`` is x ⊙ gate(x), ``"square"`` x² ⊙ gate(x); None is the preset's.
        order: which level sees the map first.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        descriptor: what is compared: ``"own"``, the vector after BNNeck; or of the last map the ``"mean"``, six
            ``"stripes"``, or ``"both"``.
        gate_start: how gates start: ``"released"``, ``"zero_logits"``, or ``"identity"``, with which the network is at
            first what it is without attention; see :mod:`regard.layers.gates`.
        attention_control: ``"off"`` leaves attention out, ``"constant"`` holds its gates where their logits are zero,
            ``"shuffled"`` gives each picture another one's.
        only_level: the one level of the pyramid that there is; None: all.
        pooling: how the last map becomes a vector: its ``"mean"`` or its generalized mean, ``"gem"``.

    Raises:
        ConfigError: an option out of range, or a stage whose channels a level cannot split evenly.
    """

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        preset: Literal["lite", "lite-c", "2023", "head", 2023] = "lite",
        level: int = 2,
        kernel: int | Literal["adaptive"] | None = None,
        gate: Gating | None = None,
        order: Order = "fine_to_coarse",
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = False,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        descriptor: Descriptor = "own",
        gate_start: GateStart = "released",
        attention_control: Control = "none",
        only_level: int | None = None,
        pooling: Pooling = "mean",
    ):
        check_gates(gate_start, attention_control)
        check_choice("preset", str(preset), Literal["lite", "lite-c", "2023", "head"])
        check_choice("gate", gate, Literal["multiply", "square", None])
        check_choice("order", order, Order)
        if level not in LEVELS:
            raise ConfigError(f"level is {level}, wanted {LEVELS[0]} (no attention) to {LEVELS[-1]}")
        check_only_level(only_level, level)
        chosen = PRESETS[str(preset)]
        kernel = chosen.kernel if kernel is None else kernel
        if kernel != "adaptive" and (not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0):
            raise ConfigError(f"kernel is {kernel!r}, wanted an odd number of channels, as 3 or 5, or 'adaptive'")
        stages = Backbone(
            backbone, pretrained=pretrained, last_stride=last_stride, stem_relu=stem_relu, ibn=ibn, mixstyle=mixstyle,
            mixstyle_p=mixstyle_p, mixstyle_alpha=mixstyle_alpha,
        )  # fmt: skip
        attention = {}
        for name, channels in zip(stages.names, stages.channels) if level and attention_control != "off" else ():
            taps = adaptive_kernel(channels) if kernel == "adaptive" else kernel
            agents = _agents(chosen, channels, level, taps)
            attention[name] = AttentionPyramid(
                agents, channels, order, gate or chosen.gating, start=gate_start, control=attention_control,
                only=only_level,
            )  # fmt: skip
        super().__init__(num_ids, stages, attention, descriptor, pooling=pooling)


def _agents(preset: Preset, channels: int, level: int, kernel: int) -> list[nn.Module]:
    """Gate agents of one tap, coarsest first: level 1 sees the whole, level 2 halves, level 3 quarters.

    SAMS at level 1 has the two groups of level 2, where there is a level 2.
    """
    agents: list[nn.Module] = []
    for number, agent in enumerate(preset.agents[:level], start=1):
        parts = 2 ** (number - 1)
        if agent == "eca":
            agents.append(EfficientChannelAttention(kernel))
        elif agent == "eca strips":
            agents.append(EfficientChannelAttention(kernel, parts))
        elif agent == "eca sams":
            agents.append(EfficientSplitAttention(channels, parts, kernel))
        else:
            agents.append(SplitAttention(channels, parts if number > 1 else min(level, 2)))
    return agents
