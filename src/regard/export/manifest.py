"""What an exported file is, and what to feed it: the JSON beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regard.errors import CheckpointError
from regard.fingerprint import bytes_digest, values_digest
from regard.input_spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec, Interpolation
from regard.parsing import parse_json
from regard.storage import read_regular
from regard.version import __version__

__all__ = ["Card", "Precision", "card_file", "is_export", "read_card", "read_export", "with_files"]

Precision = Literal["fp32", "bf16", "int8", "fp16"]


LATER: dict[str, Any] = {
    "flip": True, "origin": {}, "dispensable": None, "made_for": "", "scale": 1.0, "caller_mean": None,
    "caller_std": None, "shrink": 1, "batch": None, "opset": None, "symmetric": False, "drift": {},
}  # fmt: skip
"""What earlier versions did not write, and what it is then."""


@dataclass(frozen=True)
class Card:
    """An exported network.

    Attributes:
        system: registered name of the model.
        embed_dim: length of a descriptor.
        height, width: of the pictures that go in, in pixels.
        interpolation: how pictures are resized to that, antialiased, width first.
        weights: digest of the weights it was made of, see :func:`regard.models.saved.weights_digest`.
        precision: of its products.
        calibrated: of int8, digest of the pictures that its ranges are of, and its plan; empty otherwise.
        parity: engine -> what :func:`regard.export.parity.measure_parity` found.
        scores: of an int8 export and of the network it is of, where they were scored.
        files: how the name of each exported file ends -> digest of its content.
        input, output: names of the graph's input and output.
        layout, dtype, color: of the input.
        mean, std: per channel, in fractions of white; applied inside the graph, where no ``caller_mean`` is.
        l2_normalized, flip_averaged: whether the graph does that; regard does both after one that does not.
        flip: the network is scored with the descriptor averaged with that of the mirrored picture.
        dispensable: parts whose weights the digest leaves out; None where an earlier version did not say it.
        origin: where the weights came from, ``source`` and ``licence``; empty where nothing says it.
        made_for: name of the profile (:mod:`regard.export.profiles`); empty for regard's own engines.
        scale: what gray levels are divided by before they go in.
        caller_mean, caller_std: taken off, and divided by, before they go in, in fractions of white; None: the graph
            does that.
        shrink: the pictures that go in are so many times as high and wide as those the network sees; the graph reduces
            them, antialiased.
        batch: pictures that have to go in at a time; None: any number.
        opset: of an ONNX file; None: as the exporter chose.
        symmetric: an int8 file whose zero points are all 0 and whose biases stay in float32, as TensorRT takes them.
        drift: cosines of descriptors where crops are resized as the profile's program does to those of regard's.
        regard: version that made the file.
    """

    system: str
    embed_dim: int
    height: int
    width: int
    interpolation: Interpolation
    weights: str
    precision: Precision = "fp32"
    calibrated: str = ""
    parity: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    input: str = "images"
    output: str = "embedding"
    layout: str = "NHWC"
    dtype: str = "uint8"
    color: str = "RGB"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    l2_normalized: bool = False
    flip_averaged: bool = False
    flip: bool = True
    dispensable: tuple[str, ...] | None = None
    origin: dict[str, str] = field(default_factory=dict)
    made_for: str = ""
    scale: float = 1.0
    caller_mean: tuple[float, float, float] | None = None
    caller_std: tuple[float, float, float] | None = None
    shrink: int = 1
    batch: int | None = None
    opset: int | None = None
    symmetric: bool = False
    drift: dict[str, Any] = field(default_factory=dict)
    regard: str = __version__

    @classmethod
    def of(cls, system: str, embed_dim: int, seen: InputSpec, weights: str, precision: Precision = "fp32") -> Card:
        """Return the card of a network that sees ``seen``."""
        return cls(
            system, embed_dim, seen.height, seen.width, seen.interpolation, weights, precision,
            mean=seen.mean, std=seen.std, flip=seen.flip,
        )  # fmt: skip

    @property
    def seen(self) -> InputSpec:
        """What the network sees."""
        return InputSpec(self.height, self.width, self.interpolation, self.mean, self.std, self.flip)

    @property
    def stem(self) -> str:
        """File name without its ending."""
        parts = [self.system, f"{self.height}x{self.width}", self.weights[:8]]
        parts += [] if self.precision == "fp32" else [self.precision]
        parts += ["symmetric"] if self.symmetric else []
        parts += [f"opset{self.opset}"] if self.opset else []
        parts += [f"batch{self.batch}"] if self.batch else []
        return "-".join(parts + ([self.made_for] if self.made_for else []))

    @property
    def plain(self) -> bool:
        """Whether it is a file for regard's own engines, which stands for the network."""
        return not (self.made_for or self.batch or self.opset or self.symmetric)

    def prepared(self, images: np.ndarray) -> np.ndarray:
        """Pictures (B, H, W, 3) uint8 RGB as the graph takes them."""
        x = images
        if self.dtype != "uint8":
            x = x.astype(np.float32) / np.float32(self.scale)
        if self.caller_mean is not None and self.caller_std is not None:
            x = (x - np.array(self.caller_mean, np.float32)) / np.array(self.caller_std, np.float32)
        x = x[..., ::-1] if self.color == "BGR" else x
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if self.layout == "NCHW" else x, self.dtype)

    @property
    def fingerprint(self) -> str:
        """Changes where descriptors change by more than rounding."""
        what = (self.weights, self.height, self.width, self.interpolation, self.precision, self.calibrated)
        if (self.mean, self.std) != (IMAGENET_MEAN, IMAGENET_STD):
            what = (*what, self.mean, self.std)
        return hashlib.sha256(repr(what).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """As text; :func:`read_card` reads it."""
        content = asdict(self) | {"fingerprint": self.fingerprint}
        return json.dumps(content | {"digest": values_digest(content)}, indent=2) + "\n"


def card_file(path: Path) -> Path:
    """The JSON beside an exported file."""
    return path.with_name(f"{path.name}.json")


def is_export(path: Path) -> bool:
    """Whether the file at ``path`` is one of ``regard export``, and not another maker's: by the JSON beside it."""
    try:
        content = parse_json(read_regular(card_file(path)))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "fingerprint" in content


def with_files(card: Card, files: Mapping[str, bytes]) -> Card:
    """The card of exported files, by how their names end."""
    return replace(card, files={ending: bytes_digest(content) for ending, content in files.items()})


def read_export(path: Path) -> tuple[Card, tuple[bytes, ...]]:
    """What the exported file at ``path`` is, with its content and that of the file that goes with it.

    Raises:
        CheckpointError: there is nothing beside it that says so, or a file is missing or not the one that was exported.
    """
    card = read_card(path)
    contents = []
    for ending, digest in card.files.items():
        file = path.with_suffix(ending)
        try:
            content = read_regular(file)
        except OSError as error:
            raise CheckpointError(f"cannot read {file} ({error.strerror}); export it again") from error
        if bytes_digest(content) != digest:
            raise CheckpointError(
                f"{file} is not the file that {card_file(path).name} speaks of: it is damaged or was swapped; "
                "export it again"
            )
        contents.append(content)
    return card, tuple(contents)


def read_card(path: Path) -> Card:
    """What the exported file at ``path`` is.

    Raises:
        CheckpointError: there is nothing beside it that says so, or not as it was written.
    """
    place = card_file(path)
    try:
        content = parse_json(read_regular(place))
        if "files" not in content:
            raise ValueError("an earlier version wrote it, without a digest of the file; export it again")
        given: dict[str, Any] = {each.name: content[each.name] for each in fields(Card) if each.name not in LATER}
        given |= {name: content.get(name, default) for name, default in LATER.items()}
        lists = ("mean", "std", "dispensable", "caller_mean", "caller_std")
        given |= {name: tuple(given[name]) for name in lists if given[name] is not None}
        card = Card(**given)
        if content["digest"] != values_digest(content):
            raise ValueError("not as it was written")
        return card
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise CheckpointError(
            f"{place} {reason}; 'regard export' writes it beside {path.name}, keep the two together"
        ) from error
