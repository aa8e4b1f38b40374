"""Profiles: what other programs feed a network, and what they want beside its file. Data, one row a program.

Read off their loaders (BoxMOT 25.0.0, Ultralytics 8.4.190, LibreYOLO 1.6.0); what is said of programs that cannot be
run here (DeepStream's Gst-nvtracker, Triton Inference Server) or have no loader of their own (Intel's re-ID networks of
Open Model Zoo) is from memory of their manuals, and untried. In all of them mirroring and the scaling to length 1 are
inside the graph, as no program does the first, so that a row is what ``embed_pictures`` says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from regard.errors import ConfigError, UnknownNameError
from regard.export.manifest import Card
from regard.input_spec import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["PROFILES", "Form", "Profile", "profile_of"]

OPSETS = (17, 18, 19, 20)
"""That an ONNX file can be asked for in."""

Resize = Literal["regard", "bilinear"]
"""How crops are resized: as regard does, or bilinearly without antialiasing (OpenCV's INTER_LINEAR, torch's)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a program feeds a network.

    Attributes:
        name: of the profile.
        to: format of the file.
        program: that reads it, in words.
        package: module whose loader tries the file; empty where there is none.
        layout, dtype, color: of the input.
        scale: what gray levels are divided by.
        normalized: who takes off mean and deviation: the graph, or the caller, who takes ImageNet's.
        resize: of crops, before they go in.
        input, output: names in the graph.
        beside: what is written beside the file, in words; empty for nothing.
    """

    name: str
    to: str
    program: str
    package: str = ""
    layout: str = "NCHW"
    dtype: str = "float32"
    color: str = "RGB"
    scale: float = 255.0
    normalized: Literal["graph", "caller"] = "graph"
    resize: Resize = "bilinear"
    input: str = "images"
    output: str = "output0"
    beside: str = ""

    def card(self, card: Card, *, flip: bool = True, shrink: int = 1) -> Card:
        """The card of a network's file in this form; see :class:`Form`."""
        theirs = self.normalized == "caller"
        return replace(
            card, made_for=self.name, input=self.input, output=self.output, layout=self.layout, dtype=self.dtype,
            color=self.color, scale=self.scale, caller_mean=IMAGENET_MEAN if theirs else None,
            caller_std=IMAGENET_STD if theirs else None, l2_normalized=True, flip_averaged=flip and card.flip,
            flip=flip and card.flip, height=card.height * shrink, width=card.width * shrink, shrink=shrink,
        )  # fmt: skip

    def __str__(self) -> str:
        """What goes in, in words."""
        values = f"0 to {255 / self.scale:g}"
        who = "the graph normalizes" if self.normalized == "graph" else "the caller takes off ImageNet's mean"
        return f"{self.layout} {self.dtype} {self.color}, {values}, {who}"


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("boxmot", "onnx", "BoxMOT", "boxmot", normalized="caller", beside="FILE.metadata.json"),
        Profile("ultralytics", "onnx", "Ultralytics' trackers", "ultralytics", beside="tracker YAML"),
        Profile(
            "libreyolo", "onnx", "LibreYOLO, by regard.integrations.libreyolo", "libreyolo", layout="NHWC",
            dtype="uint8", scale=1.0, resize="regard", output="embedding",
        ),
        Profile("deepstream", "onnx", "DeepStream's Gst-nvtracker", scale=1.0, beside="tracker's ReID section"),
        Profile(
            "openvino-bgr", "openvino", "programs for Intel's re-ID networks", "openvino", color="BGR", scale=1.0,
            input="data", output="reid_embedding",
        ),
        Profile(
            "triton", "onnx", "Triton Inference Server", layout="NHWC", dtype="uint8", scale=1.0, resize="regard",
            output="embedding", beside="model repository with config.pbtxt",
        ),
        Profile(
            "reid", "reid", "the package reid, by regard.integrations.reid", "reid", normalized="caller",
            resize="regard", output="embedding", beside="folder with reid_config.json",
        ),
    )
}  # fmt: skip


def profile_of(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in PROFILES:
        raise UnknownNameError("profile", name, PROFILES)
    return PROFILES[name]


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is to be, besides its format.

    Attributes:
        profile: of the program it is for; None: regard's own engines.
        flip: the graph averages with the mirrored picture, where the network is scored so.
        shrink: pictures go in so many times as high and wide, and the graph reduces them, antialiased.
        batch: pictures that have to go in at a time; None: any number.
        opset: of an ONNX file; None: as the exporter chooses.
        half: weights and products in float16.
        symmetric: int8 as TensorRT takes it.
    """

    profile: Profile | None = None
    flip: bool = True
    shrink: int = 1
    batch: int | None = None
    opset: int | None = None
    half: bool = False
    symmetric: bool = False

    def check(self, to: str, *, int8: bool) -> None:
        """Refuse what does not go together.

        Raises:
            ConfigError: it does not.
        """
        mine = self.profile
        if mine is not None and to != mine.to:
            raise ConfigError(f"--for {mine.name} is a file in the format {mine.to}, not {to}; leave out --to")
        if mine is None and (self.shrink > 1 or not self.flip):
            raise ConfigError("--antialias and --no-flip are for a program that regard does not feed; add --for NAME")
        if self.shrink > 1 and mine is not None and mine.resize == "regard":
            raise ConfigError(f"--for {mine.name} is fed by regard's own resizing; leave out --antialias")
        if self.opset is not None and (to == "torch-export" or self.opset not in OPSETS):
            raise ConfigError(f"--opset {self.opset} of {to}; wanted {', '.join(map(str, OPSETS))}, of an ONNX file")
        if self.half and (int8 or to == "torch-export"):
            raise ConfigError("--fp16 is a float file for onnx or openvino; leave out --int8, or --to torch-export")
        if self.symmetric and not int8:
            raise ConfigError("--symmetric is a form of int8; add --int8")

    def card(self, card: Card) -> Card:
        """The card of a network's file in this form."""
        made = card if self.profile is None else self.profile.card(card, flip=self.flip, shrink=self.shrink)
        precision = "fp16" if self.half else card.precision
        return replace(made, batch=self.batch, opset=self.opset, precision=precision, symmetric=self.symmetric)
