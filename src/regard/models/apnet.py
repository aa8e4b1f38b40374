"""APNet: attention in a pyramid of split-attend-merge-stack levels.

G. Chen, T. Gu, J. Lu, J.-A. Bao, J. Zhou, "Person Re-identification via Attention Pyramid", IEEE Transactions on Image
Processing 2021, arXiv:2108.05340. :class:`~regard.layers.pyramid.AttentionPyramid` is the pyramid,
:class:`~regard.layers.split_attention.SplitAttention` its split-attend-merge-stack level,
:class:`~regard.layers.se.SqueezeExcitation` its coarsest level.

After every stage, the stem included, a map x of C channels passes level 3 (x ← BN(x ⊙ S₄(x))), level 2
(x ← BN(x ⊙ S₂(x))) and level 1 (x ← x ⊙ SE(x)), as far as ``level`` reaches. S_r splits the channels into r groups that
compete by softmax.

**Departures**

- The paper draws horizontal strips and coarse to fine; the authors' code, whose numbers are the published ones, splits
  channels and goes fine to coarse. This file follows the code; ``order="coarse_to_fine"`` gives the drawn order, with
  each batch normalization staying behind its level.
- Levels multiply, one after the other; the residual addition the abstract speaks of is not in the code.
- Level 3: the authors' code splits levels 2 and 3 both into three groups, which 64 channels cannot be, and stops.
  Here level 3 has four groups and level 2 always two (inferred from the drawing's 1, 2, 4), so that a level 2 network
  is the beginning of a level 3 network.
- The squeeze-and-excitation bottleneck is 8 wide at every stage, as in the code (its reduction grows with the width).
- The stem has no ReLU, as in the code; ``stem_relu=True`` restores the textbook network.
- Any staged timm backbone, not ResNet-50 alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from torch import nn

from regard.errors import ConfigError
from regard.layers.pyramid import AttentionPyramid, Order
from regard.layers.se import SqueezeExcitation
from regard.layers.split_attention import SplitAttention
from regard.models.backbone import Backbone
from regard.models.skeleton import GlobalDescriptor, tap
from regard.registry import MODELS

__all__ = ["APNet"]

Agent = Literal["se"]

LEVELS = range(4)


@MODELS.register("apnet")
class APNet(GlobalDescriptor):
    """Attention Pyramid Network.

    Args:
        num_ids: identities to classify in training.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        level: height of the pyramid; 0 is the baseline, 2 the published network.
        agent: what attends at the coarsest level; ``"se"`` is squeeze-and-excitation over channels.
        order: which level sees the map first.
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        se_hidden: width of the squeeze-and-excitation bottleneck.

    Raises:
        ConfigError: an option out of range, or a stage whose channels a level cannot split evenly.
    """

    def __init__(
        self,
        num_ids: int,
        pretrained: bool | str | Path = False,
        *,
        level: int = 2,
        agent: Agent = "se",
        order: Order = "fine_to_coarse",
        backbone: str = "resnet50",
        last_stride: int = 1,
        stem_relu: bool = False,
        se_hidden: int = 8,
    ):
        if level not in LEVELS:
            raise ConfigError(f"level is {level}, wanted {LEVELS[0]} (no attention) to {LEVELS[-1]}")
        for option, value, choices in (("agent", agent, get_args(Agent)), ("order", order, get_args(Order))):
            if value not in choices:
                raise ConfigError(f"{option} is {value!r}, wanted one of: {', '.join(choices)}")
        if se_hidden < 1:
            raise ConfigError(f"se_hidden is {se_hidden}, but the bottleneck needs at least 1 channel")
        stages = Backbone(backbone, pretrained, last_stride, stem_relu)
        taps = enumerate(stages.channels) if level else ()
        attention = {
            tap(stage): AttentionPyramid(_agents(channels, level, se_hidden), channels, order)
            for stage, channels in taps
        }
        super().__init__(num_ids, stages, attention)


def _agents(channels: int, level: int, se_hidden: int) -> list[nn.Module]:
    """Gate agents of one tap, coarsest first: level 1 sees all channels, level 2 halves, level 3 quarters."""
    finer = [SplitAttention(channels, radix=2 ** (number - 1)) for number in range(2, level + 1)]
    return [SqueezeExcitation(channels, se_hidden), *finer]
