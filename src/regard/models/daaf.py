"""DAAF: attention as an auxiliary task, gone when training is over.

H. Chen, Y. Wang, Y. Sun, X. Fan, Q. Tang, "Deep Attention Aware Feature Learning for Person Re-Identification", Pattern
Recognition 126 (2022), arXiv:2003.00517. While an ordinary network trains, two decoders look at its maps: the holistic
attention branch (HAB) has to find the person's mask, which pulls features off the background, and the partial attention
branch (PAB) cuts the channels of the last map into six groups, each of which has to find its own joints among the 17 of
COCO, so that groups of channels come to stand for parts of the body. Neither touches the descriptor: :meth:`DAAF.strip`
leaves the ordinary network. :class:`~regard.layers.map_decoder.MapDecoder` is the decoder.

Two ordinary networks are published with it: ``bot``, the bag-of-tricks baseline, and ``trinet`` (A. Hermans, L. Beyer,
B. Leibe, "In Defense of the Triplet Loss for Person Re-Identification", arXiv:1703.07737), whose 128-dimensional head
knows no identities.

**Departures**

- The released codes compute both branches in evaluation too; ``embed`` does not.
- Groups of channels: a sixth of them, 341 of 2048, as in the authors' table; their codes slice 340 (``group_width``),
  and the released ``trinet`` lets every group read all (``grouped``).
- Doublings of 3 x 3 as in the table; the released ``bot`` has 2 x 2 (``decoder``), and so has ``mindspore`` here.
- The released ``bot`` and ``mindspore`` decode linearly, the released ``trinet`` with normalizations and a sigmoid.
  Each is its preset's default, ``nonlinear`` changes it. The normalization that the latter has between its last
  convolution and the sigmoid is left out (``end_norm``).
- HAB branches off after the first residual stage into a private copy of the others, as in the released ``bot`` and
  ``mindspore``. The released ``trinet`` reads about half the channels of the last map; here it reads all (``hab_tap``).
- The released ``bot`` starts its PAB from weights so small that they decay faster than the branch's gradients move them
  (and, by a slip, not its HAB), the released ``trinet`` from TensorFlow's; here all start from PyTorch's initialization
  (``decoder_start``).
- Left and right joints change places when a picture is flipped, which no released code does, see
  :mod:`regard.data.labels`.
- Any staged timm backbone, not ResNet-50 alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from regard.errors import ConfigError, check_choice
from regard.input_spec import IMAGENET_MEAN, IMAGENET_STD, MINDSPORE_MEAN
from regard.layers.gates import Control, GateStart, check_gates, of_others
from regard.layers.heads import (
    Descriptor,
    GlobalPool,
    Pooling,
    bnneck,
    compared,
    described,
    identity_classifier,
    regions,
)
from regard.layers.map_decoder import DecoderKernel, MapDecoder
from regard.layers.row import passed
from regard.layers.style import IBN
from regard.models.backbone import Backbone
from regard.models.contract import Attention, HeadLayer, ReIDModel, watched
from regard.registry import MODELS
from regard.structures import Output

__all__ = ["DAAF", "JOINT_GROUPS", "DAAFPreset", "DecoderStart", "HabTap"]

DAAFPreset = Literal["bot", "trinet", "mindspore"]
HabTap = Literal["layer1_copy", "layer4", "layer4_half"]
DecoderStart = Literal["torch", "released"]

JOINT_GROUPS = {
    "head": (0, 1, 2, 3, 4),
    "shoulders": (5, 6),
    "elbows": (7, 8),
    "wrists_hips": (9, 10, 11, 12),
    "knees": (13, 14),
    "ankles": (15, 16),
}
"""Which joints of COCO each group of channels has to find; together all 17, in COCO's order."""

TRINET_HIDDEN = 1024
TRINET_DIM = 128
MINDSPORE_DIM = 512
MINDSPORE_EPS = 1e-4

FIRST_RESIDUAL_STAGE = 1


class Choices(NamedTuple):
    """What a preset decides where an option is left open; the options of :class:`DAAF` of the same names."""

    hab_tap: HabTap
    decoder: DecoderKernel
    nonlinear: bool
    last_stride: int
    stem_relu: bool
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float] = IMAGENET_STD


PRESETS: dict[DAAFPreset, Choices] = {
    "bot": Choices("layer1_copy", "3x3", nonlinear=False, last_stride=1, stem_relu=False, pixel_mean=IMAGENET_MEAN),
    "trinet": Choices("layer4", "3x3", nonlinear=True, last_stride=2, stem_relu=True, pixel_mean=IMAGENET_MEAN),
    "mindspore": Choices(
        "layer1_copy", "2x2", nonlinear=False, last_stride=2, stem_relu=True, pixel_mean=MINDSPORE_MEAN
    ),
}

RELEASED_START: dict[DAAFPreset, dict[str, float | None]] = {
    "bot": {"pab": 0.001},
    "trinet": {"pab": None, "hab": None},
    "mindspore": {"pab": 0.01, "hab": 0.01},
}
"""Preset -> branch -> standard deviation of the normal distribution that all its decoder's weights are drawn from, with
biases of zero; None is TensorFlow's variance scaling. What is not named starts as PyTorch starts it: ``bot``
re-initializes PAB where it means HAB."""


@MODELS.register("daaf")
class DAAF(ReIDModel):
    """Deep attention aware feature learning.

    Options that are ``None`` take what the preset says.

    Args:
        num_ids: identities to classify in training; ``trinet`` classifies none.
        pretrained: backbone weights: ``False``, ``True`` (timm's download) or the path of a local file.
        preset: the network underneath: ``"bot"`` (BNNeck, as wide as the last map), ``"trinet"`` (128-dimensional) or
            ``"mindspore"`` (512-dimensional).
        hab: whether a branch predicts the person mask, ``maps["hab"]`` (B, 1, h, w).
        pab: whether a branch predicts joint heat maps, ``maps["pab"]`` (B, 17, h, w).
        hab_tap: what HAB reads: ``"layer1_copy"``, the map after the first residual stage through a private copy of
            the stages that follow, ``"layer4"``, the last map, or ``"layer4_half"``, of the last map what six groups of
            a twelfth leave: channels 1020 to 2047 of 2048, as in the released ``trinet``.
        group_width: channels of each of PAB's six groups; ``None`` is a sixth of the last map's (341 of 2048).
        grouped: whether each of PAB's groups reads its own channels; ``False`` lets all read all.
        decoder: taps of the decoders' transposed convolutions, ``"3x3"`` or ``"2x2"``.
        nonlinear: whether the decoders have normalizations, activations and a final sigmoid.
        end_norm: of nonlinear decoders, whether there is a normalization before the sigmoid too.
        decoder_start: weights the decoders start from: ``"torch"``, PyTorch's own, or ``"released"``, the released
            code's, :data:`RELEASED_START`; of ``trinet`` also those of its head's first layer (Glorot's).
        backbone: timm's name of a network that comes in stages.
        last_stride: 1 keeps the last stage at the resolution of the one before, 2 halves it.
        stem_relu: whether the stem keeps its activation.
        ibn: instance normalization in the early stages, ``"a"`` beside batch normalization, ``"b"`` alone; None: none.
        mixstyle: stages behind which training mixes the styles of pictures, 0 being the stem, as [1, 2]; None: none.
        mixstyle_p, mixstyle_alpha: probability of mixing a batch, and alpha of the Beta distribution of the shares.
        pixel_mean: mean color, in fractions of white, that the network's pixels are centered on. Images come centered
            on ImageNet's as for every model; the difference is added to them.
        pixel_std: deviation that they are divided by, in fractions of white; 1 / 255 leaves gray levels.
        descriptor: what is compared: ``"own"``, the preset's; or of the last map the ``"mean"``, six ``"stripes"``, or
            ``"both"``.
        gate_start: nothing is gated, so that the descriptor is that of the plain network in any case; other than
            ``"released"`` the decoders' last layer starts at zero, and no branch moves the network in the first step.
        attention_control: ``"off"`` leaves both branches out, ``"constant"`` lets them learn without moving the
            network, ``"shuffled"`` gives each picture what was predicted for another one, whose labels it has to be.
        pooling: how the last map becomes a vector: its ``"mean"`` or its generalized mean, ``"gem"``.

    Predicted maps are 16 times the last map: the size of the input at stride 16, half of it at stride 32.

    Raises:
        ConfigError: an option out of range, or a backbone without six groups of channels.
    """

    training_parts: ClassVar[tuple[str, ...]] = ("classifier", "hab", "pab")

    def __init__(
        self,
        num_ids: int,
        *,
        pretrained: bool | str | Path = False,
        preset: DAAFPreset = "bot",
        hab: bool = True,
        pab: bool = True,
        hab_tap: HabTap | None = None,
        group_width: int | None = None,
        grouped: bool = True,
        decoder: DecoderKernel | None = None,
        nonlinear: bool | None = None,
        end_norm: bool = False,
        decoder_start: DecoderStart = "torch",
        backbone: str = "resnet50",
        last_stride: int | None = None,
        stem_relu: bool | None = None,
        ibn: IBN | None = None,
        mixstyle: tuple[int, ...] | None = None,
        mixstyle_p: float = 0.5,
        mixstyle_alpha: float = 0.1,
        pixel_mean: tuple[float, float, float] | None = None,
        pixel_std: tuple[float, float, float] | None = None,
        descriptor: Descriptor = "own",
        gate_start: GateStart = "released",
        attention_control: Control = "none",
        pooling: Pooling = "mean",
    ):
        check_gates(gate_start, attention_control)
        check_choice("descriptor", descriptor, Descriptor)
        check_choice("preset", preset, DAAFPreset)
        check_choice("decoder_start", decoder_start, DecoderStart)
        given = {"hab_tap": hab_tap, "decoder": decoder, "nonlinear": nonlinear, "last_stride": last_stride}
        given |= {"stem_relu": stem_relu, "pixel_mean": pixel_mean, "pixel_std": pixel_std}
        chosen = PRESETS[preset]._replace(**{name: value for name, value in given.items() if value is not None})
        check_choice("decoder", chosen.decoder, DecoderKernel)
        check_choice("hab_tap", chosen.hab_tap, HabTap)
        if end_norm and not chosen.nonlinear:
            raise ConfigError("end_norm is true, but it is of nonlinear decoders; set nonlinear=true")
        port = {"same_padding": True, "norm_eps": MINDSPORE_EPS} if preset == "mindspore" else {}
        stages = Backbone(
            backbone, pretrained=pretrained, last_stride=chosen.last_stride, stem_relu=chosen.stem_relu, ibn=ibn,
            mixstyle=mixstyle, mixstyle_p=mixstyle_p, mixstyle_alpha=mixstyle_alpha, **port,
        )  # fmt: skip
        channels = stages.channels[-1]
        own = {"bot": channels, "trinet": TRINET_DIM, "mindspore": MINDSPORE_DIM}[preset]
        super().__init__(num_ids, own if descriptor == "own" else channels * regions(descriptor))
        self.compared: Descriptor = descriptor
        self.control: Control = attention_control
        self.preset: DAAFPreset = preset
        self.pixels = Recenter(chosen.pixel_mean, chosen.pixel_std)
        self.backbone = stages
        if not self.pixels.idle:
            stages.colors = None
        self.pool = GlobalPool(pooling)
        self.neck, self.classifier = head(preset, channels, num_ids)
        decoder_of = partial(MapDecoder, kernel=chosen.decoder, nonlinear=chosen.nonlinear, end_norm=end_norm)
        self.hab: HolisticBranch | None = None
        if attention_control == "off":
            hab = pab = False
        if hab:
            copied = stages.stages[FIRST_RESIDUAL_STAGE + 1 :] if chosen.hab_tap == "layer1_copy" else []
            first = channels // (2 * len(JOINT_GROUPS)) * len(JOINT_GROUPS) if chosen.hab_tap == "layer4_half" else 0
            self.hab = HolisticBranch(copied, decoder_of(channels - first, [1]), first)
        self.pab: MapDecoder | None = None
        if pab:
            self.pab = decoder_of(*_groups(grouped=grouped, wanted=group_width, channels=channels))
        if decoder_start == "released":
            self._start_as_released()
        if gate_start != "released":
            for branch in (layer for layer in self.modules() if isinstance(layer, MapDecoder)):
                branch.start_silent()

    def forward(self, images: Tensor) -> Output:
        """The descriptor, and under ``maps`` what the branches predict.

        ``features["global"]`` is what the metric loss sees: the pooled map of ``bot``, the descriptor of the others.
        """
        x, beside, maps = self.pixels(images), (), {}
        for number, stage in enumerate(self.backbone.stages):
            x, beside = passed(stage, x, beside)
            if self.hab and self.hab.copied and number == FIRST_RESIDUAL_STAGE:
                maps["hab"] = self.hab(self._shown(x), *map(self._shown, beside))
        if self.hab and not self.hab.copied:
            maps["hab"] = self.hab(self._shown(x))
        if self.pab:
            maps["pab"] = self.pab(self._shown(x))
        if self.control == "shuffled":
            maps = {name: of_others(predicted) for name, predicted in maps.items()}
        g = self.pool(x)
        f = self.neck(g)
        logits = {} if self.classifier is None else {"global": self.classifier(f)}
        metric = {"global": g if self.preset == "bot" else f}
        return Output(embedding=self._compared(x, f), features=metric, logits=logits, maps=maps)

    def _shown(self, x: Tensor) -> Tensor:
        """What a branch sees of a map: the map, or its values without a way back."""
        return x.detach() if self.control == "constant" else x

    def _compared(self, x: Tensor, own: Tensor) -> Tensor:
        """The embedding, of the last map and the preset's own."""
        return own if self.compared == "own" else compared(described(x, self.compared))

    def _start_as_released(self) -> None:
        """Draw weights anew as the preset's released code does."""
        for name, std in RELEASED_START[self.preset].items():
            branch = getattr(self, name)
            decoder = branch.decoder if isinstance(branch, HolisticBranch) else branch
            if decoder is None:
                continue
            if std is None:
                decoder.start_scaled()
            else:
                decoder.start_narrow(std)
        if self.preset == "trinet":
            nn.init.xavier_uniform_(self.neck.get_parameter("0.weight"))

    def _descriptor(self, images: Tensor) -> Tensor:
        x = self.backbone(self.pixels(images))
        return self._compared(x, self.neck(self.pool(x)))

    def attention_on(self, images: Tensor) -> dict[str, Attention]:
        """Means of the last map's channels, all and each group's; what the branches predict, where they are there.

        The paper's pictures do not say which map they show; means over channels are our reading.
        """
        with watched({"last": self.backbone.stages[-1]}) as seen:
            maps = self(images).maps
        last = seen["last"]
        found = {"holistic": Attention.of(last.mean(1), "positions", "mean over the channels of the last map")}
        width = self.options["group_width"] or last.shape[1] // len(JOINT_GROUPS)
        for group, channels in zip(JOINT_GROUPS if self.options["grouped"] else (), last.split(width, 1)):
            meaning = f"mean over the channels of {group}"
            found[f"partial.{group}"] = Attention.of(channels.mean(1), "positions", meaning)
        if "hab" in maps:
            found["mask"] = Attention.of(maps["hab"][:, 0], "positions", "predicted person mask")
        if "pab" in maps:
            for group, joints in JOINT_GROUPS.items():
                peak, meaning = maps["pab"][:, list(joints)].amax(1), f"predicted heat maps of {group}, the highest"
                found[f"joints.{group}"] = Attention.of(peak, "positions", meaning)
            found["keypoints"] = Attention.of(peaks(maps["pab"]), "points", "peaks of the predicted heat maps")
        return found

    def map_layers(self) -> Mapping[str, nn.Module | str]:
        """The stages."""
        return self.backbone.taps()

    def head_layers(self) -> dict[str, HeadLayer]:
        """The last map, in which the scores of ``bot`` are linear where its mean is pooled."""
        linear = self.preset == "bot" and self.classifier is not None and self.pool.p is None
        return {"global": super().head_layers()["global"]._replace(linear=linear)}


def peaks(heatmaps: Tensor) -> Tensor:
    """Where each heat map is highest, and how high: (B, J, h, w) -> (B, J, 3)."""
    height, width = heatmaps.shape[2:]
    peak, place = heatmaps.flatten(2).max(-1)
    return torch.stack([(place % width + 0.5) / width, (place // width + 0.5) / height, peak], -1)


class HolisticBranch(nn.Module):
    """From a map of the trunk to the person mask.

    Args:
        stages: of the trunk; the branch gets a copy of them, with weights that go their own way.
        decoder: reads the mask.
        first: channel of the map that it reads from, up to the last.
    """

    def __init__(self, stages: nn.ModuleList | list[nn.Module], decoder: MapDecoder, first: int = 0):
        super().__init__()
        self.copied = nn.ModuleList(copy.deepcopy(stage) for stage in stages)
        self.decoder = decoder
        self.first = first

    def forward(self, x: Tensor, *beside: Tensor) -> Tensor:
        """(B, C, H, W), and what goes beside it, -> (B, 1, h, w)."""
        for stage in self.copied:
            x, beside = passed(stage, x, beside)
        return self.decoder(x[:, self.first :])


class Recenter(nn.Module):
    """From pixels normalized with ImageNet's mean and deviations to pixels normalized with others.

    Args:
        mean: of red, green and blue, in fractions of white.
        std: of the same.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float] = IMAGENET_STD):
        super().__init__()
        if len(mean) != 3 or not all(0 <= value <= 1 for value in mean):
            raise ConfigError(f"pixel_mean is {list(mean)}, wanted three numbers from 0 to 1; 0.5 is a middle gray")
        if len(std) != 3 or not all(0 < value <= 1 for value in std):
            raise ConfigError(f"pixel_std is {list(std)}, wanted three numbers above 0 and up to 1; 0.25 is usual")
        scale = [old / new for old, new in zip(IMAGENET_STD, std)]
        shift = [(old - new) / spread for old, new, spread in zip(IMAGENET_MEAN, mean, std)]
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(3, 1, 1), persistent=False)
        self.idle = not any(shift) and set(scale) == {1.0}

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> the same size; the images themselves where mean and deviations are ImageNet's."""
        return images if self.idle else images * self.scale + self.shift


def head(preset: DAAFPreset, channels: int, num_ids: int) -> tuple[nn.Module, nn.Linear | None]:
    """What follows the pooled map (B, C): the module that gives the descriptor, and the classifier.

    TriNet has two layers there, to 128 numbers, and no classifier.
    """
    if preset == "bot":
        return bnneck(channels), identity_classifier(channels, num_ids)
    if preset == "trinet":
        last = nn.Linear(TRINET_HIDDEN, TRINET_DIM)
        nn.init.orthogonal_(last.weight)
        nn.init.zeros_(last.bias)
        hidden = nn.Linear(channels, TRINET_HIDDEN, bias=False)
        return nn.Sequential(hidden, nn.BatchNorm1d(TRINET_HIDDEN), nn.ReLU(inplace=True), last), None
    classifier = nn.Linear(MINDSPORE_DIM, num_ids)
    nn.init.kaiming_normal_(classifier.weight, nonlinearity="relu")
    nn.init.zeros_(classifier.bias)
    return Reduction(channels), classifier


class Reduction(nn.Module):
    """The MindSpore port's layer after pooling: 1 x 1 convolution, batch normalization, ReLU.

    As there, the normalization's scales start from N(0, 0.01²): of either sign, and small.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, MINDSPORE_DIM, 1, bias=False)
        self.norm = nn.BatchNorm2d(MINDSPORE_DIM)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.normal_(self.norm.weight, std=0.01)

    def forward(self, g: Tensor) -> Tensor:
        """(B, C) -> (B, 512)."""
        return self.norm(self.conv(g[:, :, None, None])).relu().flatten(1)


def _groups(*, grouped: bool, wanted: int | None, channels: int) -> tuple[int, list[int]]:
    """Channels of one group of PAB, and how many maps are read from each; ungrouped, all 17 from all channels."""
    joints = [len(group) for group in JOINT_GROUPS.values()]
    if not grouped:
        if wanted is not None:
            raise ConfigError(f"group_width is {wanted}, but grouped is false and all joints read all; leave one out")
        return channels, [sum(joints)]
    groups = len(joints)
    most = channels // groups
    if most < 1:
        raise ConfigError(f"pab cuts channels into {groups} groups, the last map has {channels}; set pab=false")
    width = most if wanted is None else wanted
    if not 1 <= width <= most:
        raise ConfigError(f"group_width is {width}, but {groups} groups of {channels} channels hold 1 to {most} each")
    return width, joints
